"""``vmrelay web`` as applications use it: a real process before a real relay, asked by curl and by sockets."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from relay_lab import LARGE, VMRELAY, Relay, until
from test_tutorial import commands, shows
from up_lab import ROOT

from worker.contract.idempotency import ident_of
from worker.embedded import EmbeddedRedis, free_port
from worker.leash import leashed

pytestmark = pytest.mark.timeout(240)

SECONDS = 60.0


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        """Its JSON."""
        return json.loads(self.body)


class Web:
    """One ``vmrelay web``, and asking it."""

    def __init__(self, relay: Relay, tokens: Path | None, redis_url: str = "", **settings: object) -> None:
        self.relay, self.port = relay, free_port()
        wanted = {"port": self.port, "tokens_file": tokens, "accept_seconds": 20, "requests_per_minute": 60_000}
        self._environment = relay.environment | {
            f"VMRELAY_WEB__{name.upper()}": str(value)
            for name, value in (wanted | settings).items()
            if value is not None
        }
        if redis_url:
            self._environment["VMRELAY_REDIS_URL"] = redis_url
        self.log = relay.directory / f"web-{self.port}.log"
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                leashed([str(VMRELAY), "web"]), env=self._environment, cwd=self.relay.directory, stdout=log, stderr=log
            )

        def answers() -> bool:
            assert process.poll() is None, self.log.read_text()[-2000:]
            try:
                return self.ask("GET", "/healthz").status == 200
            except OSError:
                return False

        until(answers, "vmrelay web answers")
        return process

    def again(self) -> None:
        """Kill it, and start it again."""
        self.process.kill()
        self.process.wait()
        self.process = self._started()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(SECONDS)

    def ask(self, method: str, path: str, body: object = None, token: str = "", **headers: str) -> Answer:
        """One request; ``body`` becomes JSON where it is no bytes."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            told["Authorization"] = f"Bearer {token}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            told.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, told)
            answer = connection.getresponse()
            return Answer(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def refused(self, status: int, code: str, *asked: Any, **more: Any) -> dict[str, Any]:
        """A request that is answered with this problem."""
        answer = self.ask(*asked, **more)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer
        assert (answer.told["status"], answer.told["code"]) == (status, code)
        return dict(answer.told)


ROLES = ("view", "operate", "admin")


@dataclass
class Api:
    """The web API with a token for each role."""

    web: Web
    tokens: dict[str, str]
    file: Path

    @property
    def operate(self) -> str:
        """The token of an application."""
        return self.tokens["operate"]


@pytest.fixture(scope="module")
def served(whole_relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """``vmrelay web`` before the relay, with a tokens file."""
    file = tmp_path_factory.mktemp("web") / "tokens.toml"
    tokens = {}
    for role in ROLES:
        words = [str(whole_relay.command), "web-token", f"the-{role}", "--role", role, "--file", str(file)]
        done = subprocess.run(words, env=whole_relay.environment, capture_output=True, text=True, check=True)
        tokens[role] = done.stdout.strip()
    web = Web(whole_relay, file)
    yield Api(web, tokens, file)
    assert web.stop() == 0, web.log.read_text()[-2000:]
    log = web.log.read_text()
    for token in tokens.values():
        assert token not in log


@pytest.fixture
def api(relay: Relay, served: Api) -> Api:
    """The same, before a whole relay."""
    return served


def events(web: Web, path: str, token: str, after: str = "") -> tuple[int, list[tuple[str, str, dict[str, Any]]]]:
    """A stream of events to its end: the status, and each event's id, type and data."""
    answer = web.ask("GET", path, token=token, **({"Last_Event_ID": after} if after else {}))
    found = re.findall(r"^id: (.*)\nevent: (.*)\ndata: (.*)\n\n", answer.body.decode(), re.MULTILINE)
    return answer.status, [(at, kind, json.loads(data)) for at, kind, data in found]


class Stream:
    """A stream of events, read one by one."""

    def __init__(self, web: Web, path: str, token: str = "", after: str = "") -> None:
        self._connection = HTTPConnection("127.0.0.1", web.port, timeout=SECONDS)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connection.request("GET", path, headers=headers | ({"Last-Event-ID": after} if after else {}))
        self._answer = self._connection.getresponse()
        self.status = self._answer.status

    @classmethod
    def opened(cls, web: Web, path: str) -> Stream | None:
        """One, where there is a place for it."""
        stream = cls(web, path)
        if stream.status == 200:
            return stream
        stream.__exit__()
        return None

    def next(self) -> tuple[str, str, dict[str, Any]]:
        """The next event."""
        told: dict[str, str] = {}
        while "data" not in told:
            line = self._answer.readline().decode().rstrip("\n")
            assert line or not self._answer.isclosed(), "the stream has ended"
            name, _, value = line.partition(": ")
            told[name] = value
        return told["id"], told["event"], json.loads(told["data"])

    def ended(self) -> bool:
        """Read to the end, which a killed process does not tell."""
        with suppress(IncompleteRead, ConnectionError):
            while self._answer.read1():
                pass
        return True

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *about: object) -> None:
        self._answer.close()
        self._connection.close()


# -- what applications do -------------------------------------------------------------------------------


def test_curl_moves_a_machine_and_reads_what_happens(api: Api, relay: Relay) -> None:
    """202 with its place; its events to the end, and from any of them on; then nothing more."""
    name = relay.vm()
    words = ["curl", "-sS", "-i", "-X", "POST", f"http://127.0.0.1:{api.web.port}/v1/migrations"]
    words += [
        "-H",
        "Content-Type: application/json",
        "-H",
        "@-",
        "-d",
        f'{{"domain": "{name}", "destination": "beta"}}',
    ]
    said = subprocess.run(
        words, input=f"Authorization: Bearer {api.operate}\n", capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("HTTP/1.1 202 Accepted")
    found = re.search(r"(?i)^location: (/v1/migrations/(\S+))", said, re.MULTILINE)
    assert found is not None
    place, ident = found[1], found[2]
    status, happened = events(api.web, f"{place}/events", api.operate)
    kinds = [kind for _, kind, _ in happened]
    assert (status, kinds[0], kinds[-1]) == (200, "accepted", "ended")
    assert happened[-1][2]["outcome"] == "succeeded"
    middle = len(happened) // 2
    assert events(api.web, f"{place}/events", api.operate, happened[middle][0])[1] == happened[middle + 1 :]
    assert events(api.web, f"{place}/events", api.operate, happened[-1][0]) == (204, [])
    shown = api.web.ask("GET", place, token=api.operate)
    assert shown.told | {"phases": ()} == relay.record(ident).document() | {"phases": ()}  # type: ignore[union-attr]
    assert shown.told["requested_by"] == "the-operate"
    assert relay.where(name) == {"beta": "running"}
    tag = shown.headers["etag"]
    assert api.web.ask("GET", place, token=api.operate, If_None_Match=tag).status == 304
    listed = api.web.ask("GET", f"/v1/migrations?domain={name}&limit=1", token=api.operate).told
    assert [each["id"] for each in listed["items"]] == [ident]


def test_a_double_click_makes_one_migration(api: Api, relay: Relay) -> None:
    """Twenty requests at once under one key are one migration; another request under it is a conflict."""
    wish = {"domain": relay.vm(), "destination": "beta"}
    answers: list[Answer] = []

    def click() -> None:
        answers.append(api.web.ask("POST", "/v1/migrations", wish, api.operate, Idempotency_Key="order-17"))

    threads = [threading.Thread(target=click) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ident = ident_of("the-operate", "order-17")
    assert {(answer.status, answer.told["id"]) for answer in answers} == {(202, ident)}
    relay.wait(ident)
    other = wish | {"destination": "gamma"}
    api.web.refused(
        422, "idempotency-conflict", "POST", "/v1/migrations", other, token=api.operate, Idempotency_Key="order-17"
    )
    mine = api.web.ask("GET", f"/v1/migrations?domain={wish['domain']}", token=api.operate).told["items"]
    assert len(mine) == 1


def test_refusals_are_problems_with_the_commands_codes(api: Api, relay: Relay) -> None:
    """What cannot be is told by its code; nothing of it leaves a trace of what was inside."""
    name, post = relay.vm(), ("POST", "/v1/migrations")
    for body, status, code in (
        ({"domain": "nobody", "destination": "beta"}, 422, "unknown-domain"),
        ({"domain": name, "destination": "alpha"}, 422, "same-host"),
        ({"domain": name, "destination": "nowhere"}, 422, "unknown-host"),
        ({"domain": name, "destination": "beta", "options": {"compressed": False}}, 422, "flag-refused"),
        ({"domain": name, "destination": "beta", "flags": 1, "options": {"live": True}}, 422, "malformed"),
        ({"domain": name}, 422, "malformed"),
        (b'{"domain": ', 422, "malformed"),
        (b"[" * 100_000, 400, "bad-request"),
    ):
        told = api.web.refused(status, code, *post, body, api.operate)
        assert "Traceback" not in told["detail"]
    api.web.refused(404, "unknown-migration", "GET", "/v1/migrations/nobody", token=api.operate)
    api.web.refused(404, "unknown-migration", "POST", "/v1/migrations/m:events/cancel", token=api.operate)
    api.web.refused(404, "unknown-batch", "GET", "/v1/batches/nobody/items", token=api.operate)
    api.web.refused(404, "unknown-host", "GET", "/v1/hosts/nowhere", token=api.operate)
    api.web.refused(404, "not-found", "GET", "/v2", token=api.operate)
    api.web.refused(405, "method-not-allowed", "DELETE", "/v1/hosts", token=api.operate)
    api.web.refused(422, "bad-cursor", "GET", "/v1/migrations?cursor=x", token=api.operate)
    api.web.refused(422, "malformed", "GET", "/v1/migrations?limit=201", token=api.operate)
    wrong = {"domain": name, "destination": "beta"}
    api.web.refused(415, "unsupported-media-type", *post, wrong, token=api.operate, Content_Type="text/plain")


def test_a_machine_that_moves_is_cancelled_and_stays(api: Api, relay: Relay) -> None:
    """Its domain is busy meanwhile; a second cancel comes too late; and it can be asked for again."""
    name = relay.vm(memory_mib=LARGE)
    ident = api.web.ask("POST", "/v1/migrations", {"domain": name, "destination": "beta"}, api.operate).told["id"]
    relay.wait(ident, "active")
    again = {"domain": name, "destination": "beta"}
    api.web.refused(409, "busy-domain", "POST", "/v1/migrations", again, token=api.operate)
    path = f"/v1/migrations/{ident}"
    api.web.refused(422, "not-supported", "POST", f"{path}/tune", {"kind": "set-speed", "value": 9}, token=api.operate)
    assert api.web.ask("POST", f"{path}/cancel", token=api.operate).told["answer"] == "asked"
    assert relay.wait(ident).outcome == "cancelled"
    assert relay.where(name) == {"alpha": "running"}
    api.web.refused(409, "over", "POST", f"{path}/cancel", token=api.operate)
    retried = api.web.ask("POST", f"{path}/retry", token=api.operate)
    assert retried.status == 202
    ident = retried.told["migration"]
    assert retried.headers["location"] == f"/v1/migrations/{ident}"
    assert api.web.ask("POST", f"/v1/migrations/{ident}/cancel", token=api.operate).status == 200
    relay.wait(ident)


def test_batches_and_hosts(api: Api, relay: Relay) -> None:
    """A list is moved and followed to its end; a host is cordoned, which refuses, drained, and gets its guests back."""
    relay.empty()
    names = [relay.vm("gamma") for _ in range(3)]
    wish = {"moves": [{"domain": name, "destination": "beta"} for name in names], "reason": "moving day"}
    begun = api.web.ask("POST", "/v1/batches", wish, api.operate, Idempotency_Key="day-1")
    assert begun.status == 202
    place = begun.headers["location"]
    assert api.web.ask("POST", "/v1/batches", wish, api.operate, Idempotency_Key="day-1").headers["location"] == place
    _, happened = events(api.web, f"{place}/events", api.operate)
    assert happened[-1][1] == "finished"
    items = api.web.ask("GET", f"{place}/items?state=moved", token=api.operate).told["items"]
    assert [item["domain"] for item in items] == names
    api.web.refused(409, "over", "POST", f"{place}/control", {"action": "pause"}, token=api.operate)
    done = api.web.ask("POST", "/v1/hosts/beta/cordon", {"reason": "DIMMs"}, api.operate).told
    assert (done["changed"], done["cordon"]["by"]) == (True, "the-operate")
    stray = relay.vm()
    wish = {"domain": stray, "destination": "beta"}
    api.web.refused(409, "cordoned", "POST", "/v1/migrations", wish, token=api.operate)
    drained = api.web.ask("POST", "/v1/hosts/beta/drain", {"reason": "DIMMs"}, api.operate)
    assert drained.status == 202
    assert events(api.web, drained.headers["location"] + "/events", api.operate)[1][-1][1] == "finished"
    assert not {name for name in names if "beta" in relay.where(name)}
    assert api.web.ask("GET", "/v1/hosts/beta", token=api.operate).told["homes_away"] >= len(names)
    back = api.web.ask("POST", "/v1/hosts/beta/return", token=api.operate)
    assert events(api.web, back.headers["location"] + "/events", api.operate)[1][-1][1] == "finished"
    assert {str(relay.where(name)) for name in names} == {"{'beta': 'running'}"}
    assert not api.web.ask("GET", "/v1/hosts/beta", token=api.operate).told["cordoned"]
    assert api.web.ask("GET", "/v1/queue", token=api.operate).told["slots"]["hosts"]["beta"]["outgoing"]["limit"] == 2


def test_the_guide_says_what_happens(relay: Relay) -> None:
    """Each command of docs/howto/web-api.md prints what the page shows."""
    page = (ROOT / "docs" / "howto" / "web-api.md").read_text(encoding="utf-8")
    web, place = Web(relay, None), relay.directory / "guide"
    place.mkdir()
    relay.vm("alpha", "web-1")
    shell = relay.environment | {"API": f"http://127.0.0.1:{web.port}", "PATH": f"{relay.command.parent}:/usr/bin:/bin"}
    steps = [f"{{ {command}\n}} >said-{n} 2>&1" for n, (command, _) in enumerate(commands(page))]
    try:
        subprocess.run(["bash", "-c", "\n".join(steps)], cwd=place, env=shell, check=True, timeout=SECONDS)
        for n, (command, expected) in enumerate(commands(page)):
            said = (place / f"said-{n}").read_text(encoding="utf-8")
            assert shows(said, expected), f"$ {command}\n{said}\nwas to show\n" + "\n".join(expected)
        ident = re.search(r"/v1/batches/(\S+)", "".join(file.read_text() for file in place.glob("said-*")))[1]  # type: ignore[index]
        until(lambda: relay.journal.batch(ident).state == "finished", "the batch of the guide is over")  # type: ignore[union-attr]
        (move,) = relay.journal.items(ident)
        assert move.state == "moved", move
        assert relay.where("web-1") == {"alpha": "running"}
        assert len(steps) > 10
    finally:
        assert web.stop() == 0


# -- who may, and how much ------------------------------------------------------------------------------


def test_roles_and_tokens(api: Api, relay: Relay) -> None:
    """Seeing, operating and saying that a host is dead are told apart; a token that is taken back is void at once."""
    wish = {"domain": relay.vm(), "destination": "beta"}
    api.web.refused(401, "token-missing", "GET", "/v1/hosts")
    api.web.refused(401, "wrong-token", "GET", "/v1/hosts", token="vmr_guess")
    api.web.refused(403, "role-missing", "POST", "/v1/migrations", wish, token=api.tokens["view"])
    api.web.refused(403, "role-missing", "POST", "/v1/migrations/x/resolve", {}, token=api.operate)
    api.web.refused(404, "unknown-migration", "POST", "/v1/migrations/x/resolve", {}, token=api.tokens["admin"])
    for path in ("/v1/hosts", "/v1/queue", "/v1/batches", "/metrics"):
        assert api.web.ask("GET", path, token=api.tokens["view"]).status == 200
    for path in ("/healthz", "/readyz", "/v1/openapi.json"):
        assert api.web.ask("GET", path).status == 200
    words = [str(relay.command), "web-token", "short", "--role", "view", "--file", str(api.file)]
    token = subprocess.run(words, env=relay.environment, capture_output=True, text=True, check=True).stdout.strip()
    assert api.web.ask("GET", "/v1/queue", token=token).status == 200
    api.file.write_text(re.sub(r'(?s)\n\[tokens\."short"\].*', "\n", api.file.read_text()))
    api.web.refused(401, "wrong-token", "GET", "/v1/queue", token=token)
    counted = api.web.ask("GET", "/metrics", token=api.tokens["view"]).body.decode()
    assert 'vmrelay_http_requests_total{method="POST",route="/v1/migrations",status="4xx"}' in counted


def test_bounds_and_a_stop(relay: Relay) -> None:
    """Of bodies while they are read, of streams, and of requests; another site gets nothing; a stop ends streams."""
    web = Web(relay, None, body_bytes=2000, requests_per_minute=240, streams=1)
    web.refused(413, "too-long", "POST", "/v1/migrations", b'{"domain": "' + b"x" * 3000 + b'"}')
    with socket.create_connection(("127.0.0.1", web.port), SECONDS) as line:
        head = f"POST /v1/migrations HTTP/1.1\r\nHost: localhost:{web.port}\r\nContent-Type: application/json\r\n"
        line.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(3):
            line.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        said = b""
        while b"too-long" not in said and (more := line.recv(4000)):
            said += more
    assert said.startswith(b"HTTP/1.1 413")
    assert b'"code": "too-long"' in said
    web.refused(403, "wrong-host", "GET", "/v1/queue", Host="evil.example")
    web.refused(403, "foreign-origin", "POST", "/v1/hosts/beta/cordon", Origin="https://evil.example")

    ident = web.ask("POST", "/v1/migrations", {"domain": relay.vm(memory_mib=LARGE), "destination": "beta"}).told["id"]
    path = f"/v1/migrations/{ident}/events"
    with Stream(web, path) as stream:
        assert stream.next()[1] == "accepted"
        web.refused(503, "too-many-streams", "GET", path)
    with until(lambda: Stream.opened(web, path), "the client that went gave its place back") as stream:
        assert stream.next()[1] == "accepted"
        flood = (web.ask("GET", "/v1/hosts/nowhere") for _ in range(200))
        flooded = next(answer for answer in flood if answer.status == 429)
        assert flooded.told["code"] == "too-many-requests"
        assert int(flooded.headers["retry-after"]) >= 1
        assert web.ask("GET", "/healthz").status == 200
        web.process.terminate()
        assert stream.ended()
    assert web.stop() == 0
    assert relay.record(ident).state == "active"  # type: ignore[union-attr]
    relay.journal.cancel(ident, "", 60)
    relay.wait(ident)


# -- what breaks ----------------------------------------------------------------------------------------


def test_a_kill_in_the_middle_changes_nothing(api: Api, relay: Relay) -> None:
    """The migration goes on, and whoever read its events reads on where they were, from the next process."""
    name = relay.vm(memory_mib=LARGE)
    ident = api.web.ask("POST", "/v1/migrations", {"domain": name, "destination": "beta"}, api.operate).told["id"]
    path = f"/v1/migrations/{ident}/events"
    with Stream(api.web, path, api.operate) as stream:
        seen = stream.next()
        assert seen[1] == "accepted"
        api.web.again()
        assert stream.ended()
    with Stream(api.web, path, api.operate, seen[0]) as stream:
        assert stream.next()[1] == "started"
        assert relay.record(ident).state == "active"  # type: ignore[union-attr]
        assert api.web.ask("POST", f"/v1/migrations/{ident}/cancel", token=api.operate).status == 200
        while (seen := stream.next())[1] != "ended":
            pass
        assert seen[2]["outcome"] == "cancelled"
        assert stream.ended()


def test_redis_and_the_scheduler_may_be_away(relay: Relay, private_redis: Callable[..., EmbeddedRedis]) -> None:
    """503 with a time to ask again, and all is well when they are back; what nobody has taken is shown as queued."""
    server = private_redis()
    web = Web(relay, None, server.url, accept_seconds=0.3)
    try:
        queued = web.ask("POST", "/v1/migrations", {"domain": "web-1", "destination": "beta"})
        assert (queued.status, queued.told["state"]) == (202, "queued")
        assert web.ask("GET", queued.headers["location"]).told == queued.told
        web.refused(503, "no-scheduler", "POST", "/v1/hosts/beta/cordon")
        web.refused(503, "no-scheduler", "GET", "/readyz")
        server.kill()
        for path in ("/readyz", "/v1/hosts", "/v1/migrations"):
            assert web.refused(503, "redis-unavailable", "GET", path)["detail"]
        answer = web.ask("POST", "/v1/migrations", {"domain": "web-1", "destination": "beta"})
        assert (answer.status, answer.told["code"]) == (503, "redis-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert web.ask("GET", "/healthz").status == 200
        server.start()
        until(lambda: web.ask("GET", "/v1/hosts").status == 200, "it is back")
        assert web.ask("GET", queued.headers["location"]).told == queued.told
    finally:
        assert web.stop() == 0
