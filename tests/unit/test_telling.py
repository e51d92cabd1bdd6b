"""Webhooks are told by the leading scheduler's threads: a real receiver that misbehaves, a real Redis."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from receiver_lab import SECRET, Receiver, cut, dribble, hang, receiver, secret_file, status
from tls_lab import certificate

from tasks import telling
from tasks.telling import Teller
from worker import metrics
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.journal.webhooks import Standing
from worker.runtime import Runtime
from worker.settings import Settings, WebhookSettings
from worker.webhooks import policy
from worker.webhooks.sender import post

SOON = {"timeout_seconds": 5.0, "initial_seconds": 0.01, "maximum_seconds": 0.05}
KEEP = 1000


class Stage:
    """A leading scheduler's rounds, as far as webhooks go, and what ends meanwhile."""

    def __init__(self, journal: Journal, folder: Path) -> None:
        self.journal = journal
        self.folder = folder
        self.teller = Teller()
        self.parts: Runtime | None = None
        secret_file(folder / "secret")

    def hooks(self, **given: dict[str, object]) -> None:
        """Set the webhooks up, each by what is not as everywhere here."""
        standard = {"secret_file": self.folder / "secret", "tells": ["rejected"]} | SOON
        webhooks = {name: WebhookSettings.model_validate(standard | one) for name, one in given.items()}
        settings = Settings(webhooks=webhooks)
        self.parts = Runtime(settings, Inventory(settings), self.journal)
        self.round()

    def round(self) -> None:
        """One round; the journal is told of the webhooks in every one."""
        assert self.parts is not None
        self.teller._looked = -100.0
        self.teller.round(self.parts, time.monotonic())

    def rejected(self, *idents: str, keep: int = KEEP) -> None:
        """Requests that end at once."""
        for ident in idents:
            self.journal.refuse(ident, {"reason": "x", "error": "no", "domain": "web"}, keep, {})

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Do rounds until a condition is true."""
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, what
            self.round()
            time.sleep(0.005)

    def standing(self, name: str = "hook") -> Standing:
        """How it goes with a webhook."""
        return self.journal.webhooks([name])[name]

    def counts(self, name: str = "hook") -> dict[str, int]:
        """What came of deliveries."""
        return {result: number for result, number in self.standing(name).counts if number}

    def over(self, name: str = "hook") -> None:
        """Do rounds until nothing waits."""
        self.until(lambda: not self.standing(name).waiting, "nothing waits")


@pytest.fixture
def stage(redis_url: str, tmp_path: Path) -> Iterator[Stage]:
    """An empty journal, nobody to be told."""
    with connect(redis_url) as client:
        stage = Stage(Journal(client), tmp_path)
        yield stage
        for threads in stage.teller._threads.values():
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()


@pytest.fixture
def listening() -> Iterator[Callable[..., Receiver]]:
    """Start receivers that end with the test."""
    with ExitStack() as receivers:
        yield lambda *given: receivers.enter_context(receiver(*given))


def test_a_message_is_signed_and_says_what_the_page_says(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """Path and query as they are, headers, a body that is the record's document, and a signature over the raw bytes."""
    got = listening()
    stage.hooks(hook={"url": got.url})
    stage.rejected("m1")
    stage.over()
    (one,) = got.got
    record = stage.journal.record("m1")
    assert record is not None
    assert one.path == "/hook?a=b"
    assert one.message == {
        "type": "migration.rejected",
        "id": one.id,
        "at": one.message["at"],
        "migration": record.document(),
    }
    assert one.message["at"] == record.ended / 1000
    at, _, digest = one.headers["Vmrelay-Signature"].removeprefix("t=").partition(",v1=")
    assert digest == hmac.new(SECRET, at.encode() + b"." + one.body, hashlib.sha256).hexdigest()
    assert abs(int(at) - time.time()) < 60
    assert one.headers["Content-Type"] == "application/json"
    assert one.headers["User-Agent"].startswith("vmrelay/")
    assert stage.counts() == {"delivered": 1}


def test_a_message_belongs_to_the_trace_of_its_request(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """The header traceparent is the request's; without one there is none."""
    got = listening()
    stage.hooks(hook={"url": got.url, "at_once": 1})
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    stage.journal.refuse("m1", {"reason": "x", "error": "no", "traceparent": trace}, KEEP, {})
    stage.rejected("m2")
    stage.over()
    assert [one.headers.get("traceparent") for one in got.got] == [trace, None]


def test_what_fails_is_tried_again_under_the_same_id(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """500 twice, a cut, a redirect (not followed), an answer a byte at a time, silence: and taken in the end."""
    got, elsewhere = listening(), listening()
    redirect = status(307, Location=elsewhere.url)
    got.script.extend([status(500), status(500), cut, redirect, dribble, hang])
    stage.hooks(hook={"url": got.url, "timeout_seconds": 0.3})
    stage.rejected("m1")
    stage.over()
    assert len(got.got) == 7
    assert len({one.id for one in got.got}) == 1
    assert len({one.body for one in got.got}) == 1
    assert elsewhere.got == []
    assert stage.counts() == {"retried": 6, "delivered": 1}
    assert stage.standing().failures == 0


def test_why_a_try_failed_is_said_without_the_receivers_words(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """The status, a redirect, silence, an answer without an end, a cut, nobody there, no such name."""
    got = listening()
    hook = WebhookSettings(url=got.url, secret_file=stage.folder / "secret", timeout_seconds=0.2)
    got.script.extend([status(503), status(301, Location="http://127.0.0.1:1/"), hang, dribble, cut])
    told = [policy.told(post(hook, "d1", {})) for _ in range(5)]
    late = "no answer in 0.2 s"
    assert told[:4] == ["answered 503", "answered 301: redirects are not followed", late, late]
    assert told[4] in ("BadStatusLine", "RemoteDisconnected", "ConnectionResetError: Connection reset by peer")
    for url in ("http://127.0.0.1:1/", "http://.invalid/", f"http://{'x' * 70}.invalid/"):
        answer = post(hook.model_copy(update={"url": url}), "d1", {})
        assert (answer.status, bool(answer.error)) == (0, True)


def test_gone_stops_that_delivery_and_no_other(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """410: it is not sent again, and the next one is."""
    got = listening()
    got.script.append(status(410))
    stage.hooks(hook={"url": got.url, "at_once": 1})
    stage.rejected("m1", "m2")
    stage.over()
    assert [one.of for one in got.got] == ["m1", "m2"]
    assert stage.counts() == {"refused": 1, "delivered": 1}


def test_a_pause_that_the_receiver_asks_for_is_kept(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """Retry-After: of the whole webhook, and never longer than an hour."""
    got = listening()
    got.script.append(status(429, Retry_After="1000000"))
    stage.hooks(hook={"url": got.url})
    stage.rejected("m1")
    stage.until(lambda: stage.standing().failures, "it failed")
    assert 3500 < stage.standing().pause_seconds <= 3600
    stage.rejected("m2")
    for _ in range(20):
        stage.round()
    assert len(got.got) == 1


def test_a_webhook_that_is_dead_holds_no_other_up(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """One hangs with all its threads, one listens to nobody: the third is told everything meanwhile, in order."""
    dead, alive = listening(), listening()
    dead.always = hang
    stage.hooks(
        hanging={"url": dead.url, "timeout_seconds": 20.0, "at_once": 2},
        closed={"url": "http://127.0.0.1:1/"},
        alive={"url": alive.url, "at_once": 1},
    )
    stage.rejected(*(f"m{n}" for n in range(20)))
    stage.over("alive")
    assert [one.of for one in alive.got] == [f"m{n}" for n in range(20)]
    stage.until(lambda: len(dead.got) == 2, "the other one hangs")
    assert stage.standing("hanging").waiting == stage.standing("closed").waiting == 20
    assert "refused" in stage.standing("closed").error
    dead.let_go.set()


def test_a_poisonous_delivery_holds_no_other_up(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """What the receiver cannot digest is tried again ever more rarely; everything else goes past it."""
    got = listening()

    def answer(handler: object) -> None:
        status(500 if got.got[-1].of == "m0" else 204)(handler)  # type: ignore[arg-type]

    got.always = answer
    stage.hooks(hook={"url": got.url, "at_once": 1, "maximum_seconds": 0.5})
    stage.rejected(*(f"m{n}" for n in range(10)))
    stage.until(lambda: stage.counts().get("delivered") == 9, "the others are told")
    assert stage.standing().waiting == 1
    got.always = None
    stage.over()


def test_a_record_that_has_expired_is_dropped(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """Nothing is left to be told: said, and counted."""
    got = listening()
    stage.hooks(hook={"url": got.url})
    stage.rejected("m1", "m2")
    stage.journal.client.delete("vmrelay:m:m1")
    stage.over()
    assert [one.of for one in got.got] == ["m2"]
    assert stage.counts() == {"dropped": 1, "delivered": 1}


def test_a_secret_is_read_anew_and_a_bad_one_sends_nothing(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """While its file is open to everybody nothing goes out, and it is said why; a new one is used at once."""
    got = listening()
    stage.hooks(hook={"url": got.url})
    (stage.folder / "secret").chmod(0o644)
    stage.rejected("m1")
    stage.until(lambda: stage.standing().failures > 1, "it is not sent")
    assert "open to everybody" in stage.standing().error
    assert got.got == []
    secret_file(stage.folder / "secret", b"another one of 16")
    stage.over()
    at, _, digest = got.got[0].headers["Vmrelay-Signature"].removeprefix("t=").partition(",v1=")
    assert digest == hmac.new(b"another one of 16", at.encode() + b"." + got.got[0].body, hashlib.sha256).hexdigest()


def test_a_lost_note_is_a_second_delivery_with_the_same_id(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """Whoever delivered died before noting it: nothing is lost, and the receiver can tell."""
    got = listening()
    stage.hooks(hook={"url": got.url})
    stage.rejected("m1")
    assert stage.parts is not None
    webhook = stage.parts.settings.webhooks["hook"]
    held = telling.take(stage.parts, "hook", webhook)
    assert held is not None
    found = telling.message(stage.parts, held)
    assert found is not None
    assert post(webhook, held.id, *found).status == 204
    assert telling.take(stage.parts, "hook", webhook) is None  # in our hands, as far as anybody knows
    stage.journal.client.zadd("vmrelay:webhook:hook:due", {held.entry: 1})
    stage.over()
    assert [one.id for one in got.got] == [held.id, held.id]
    assert stage.counts() == {"delivered": 1}


def test_whoever_leads_no_more_takes_nothing_more(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """A thread ends its delivery, and leaves the rest to the new leader."""
    got = listening()
    stage.hooks(hook={"url": got.url, "at_once": 1})
    stage.rejected("m1", "m2")

    def lead_no_more(handler: object) -> None:
        stage.teller._led = -100.0
        status(204)(handler)  # type: ignore[arg-type]

    got.script.append(lead_no_more)
    stage.round()
    (thread,) = stage.teller._threads["hook"]
    thread.join(10)
    assert [one.of for one in got.got] == ["m1"]
    assert stage.standing().waiting == 1
    stage.over()
    assert [one.of for one in got.got] == ["m1", "m2"]


def test_the_leader_shows_how_it_goes(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """Counts, what waits and for how long, and how long tries took; nothing of it where another one leads."""
    got = listening()
    stage.hooks(hook={"url": got.url})
    stage.rejected("m1")
    stage.over()

    def shown(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"webhook": "hook"} | labels)

    try:
        stage.round()
        assert shown("vmrelay_webhook_deliveries_total", result="delivered") == 1
        assert shown("vmrelay_webhook_deliveries_total", result="gave-up") == 0
        assert shown("vmrelay_webhook_waiting_deliveries") == 0
        assert shown("vmrelay_webhook_oldest_seconds") == 0
        assert (shown("vmrelay_webhook_duration_seconds_count") or 0) >= 1
    finally:
        metrics.lead_no_more()
    assert shown("vmrelay_webhook_deliveries_total", result="delivered") is None
    assert shown("vmrelay_webhook_waiting_deliveries") is None


def test_tls_is_verified(stage: Stage, listening: Callable[..., Receiver], tmp_path: Path) -> None:
    """A certificate of one's own is taken where ca_file says so; else, and for another name, nothing is sent."""
    certificate(tmp_path / "good", "127.0.0.1")
    certificate(tmp_path / "other", "127.0.0.2")
    answers = {}
    for name, file, authority in (("good", "good", "good"), ("unknown", "good", None), ("name", "other", "other")):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / f"{file}.pem", tmp_path / f"{file}.key")
        got = listening(context)
        ca_file = tmp_path / f"{authority}.pem" if authority else None
        hook = WebhookSettings(url=got.url, secret_file=stage.folder / "secret", ca_file=ca_file)
        answers[name] = post(hook, "d1", {"type": "webhook.test"})
        assert len(got.got) == (1 if name == "good" else 0)
    assert answers["good"].status == 204
    assert "not trusted" in answers["unknown"].error
    assert "not trusted" in answers["name"].error
    silent = listening()
    hook = WebhookSettings(url=silent.url.replace("http:", "https:"), secret_file=stage.folder / "secret")
    assert post(hook, "d1", {}).error  # it speaks no TLS, and nothing is sent without


def test_a_handshake_that_never_ends_is_cut_off(stage: Stage, listening: Callable[..., Receiver]) -> None:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        hook = WebhookSettings(url=url, secret_file=stage.folder / "secret", timeout_seconds=0.2)
        assert post(hook, "d1", {}).error == "no answer in 0.2 s"
