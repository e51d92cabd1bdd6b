"""``vmrelay webhook``: the test message, and the list; and what doctor says of a secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from receiver_lab import SECRET, Receiver, receiver, secret_file, status
from vmrelay_client.webhooks import verify

from worker.cli import doctor as diagnosis
from worker.cli.main import cli
from worker.runtime import runtime
from worker.settings import current

Call = Callable[..., Result]


@pytest.fixture
def got() -> Iterator[Receiver]:
    """Somebody who is told."""
    with receiver() as found:
        yield found


@pytest.fixture
def call(got: Receiver, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Run the command with two webhooks in the settings, one of which has no secret."""
    secret_file(tmp_path / "hook.secret")
    file = tmp_path / "vmrelay.toml"
    file.write_text(
        f'redis_url = "{redis_url}"\n'
        f'[webhooks.hook]\nurl = "{got.url}"\nsecret_file = "hook.secret"\n'
        '[webhooks.other]\nurl = "https://other.example/token"\nsecret_file = "none.secret"\n'
    )
    monkeypatch.setenv("VMRELAY_CONFIG", str(file))
    for cached in (current, runtime):
        cached.cache_clear()
    yield lambda *words: CliRunner().invoke(cli, words, standalone_mode=False)
    runtime().journal.client.close()
    for cached in (current, runtime):
        cached.cache_clear()


def test_a_test_message_is_signed_and_its_answer_shown(call: Call, got: Receiver) -> None:
    """Exit code 0 for 2xx, 1 for anything else, as text and as JSON."""
    done = call("webhook", "test", "hook")
    assert (done.return_value, done.output.startswith("hook: answered 204 (")) == (0, True), done.output
    (one,) = got.got
    message = verify(one.body, one.headers["Vmrelay-Signature"], SECRET)
    assert (message.type, message.document["webhook"], message.id) == ("webhook.test", "hook", one.id)
    got.script.append(status(401))
    refused = call("webhook", "test", "hook", "-o", "json")
    told = json.loads(refused.output)
    assert refused.return_value == 1
    assert (told["webhook"], told["status"], told["error"]) == ("hook", 401, "answered 401")


def test_a_webhook_that_cannot_be_tried(call: Call) -> None:
    """One that is not in the settings, and one whose secret is not there: exit code 2, and what to do."""
    unknown = call("webhook", "test", "hok")
    assert unknown.return_value == 2
    assert "the settings have hook, other" in unknown.stderr
    missing = call("webhook", "test", "other")
    assert missing.return_value == 2
    assert "none.secret" in missing.stderr
    assert "openssl rand -hex 32" in missing.stderr


def test_the_list_tells_what_waits_and_no_url(call: Call, got: Receiver) -> None:
    """A URL may be as good as a password."""
    journal = runtime().journal
    journal.name_webhooks({"hook": (["rejected"], (), 10)})
    for ident in ("m1", "m2"):
        journal.refuse(ident, {"reason": "x", "error": "no"}, 1000, {})
    for result in ("delivered", "retried"):
        delivery = journal.take_delivery("hook", 10, 1000)
        assert delivery is not None
        journal.note_delivery("hook", delivery, result, "answered [500]", 5, 5)
    rows = {row["webhook"]: row for row in json.loads(call("webhook", "list", "-o", "json").output)}
    assert (rows["hook"]["waiting"], rows["hook"]["failures"]) == (1, 1)
    assert rows["hook"]["counts"] == {"delivered": 1, "retried": 1, "gave-up": 0, "dropped": 0, "refused": 0}
    assert (rows["other"]["waiting"], rows["other"]["last_delivered"]) == (0, None)
    table = call("webhook", "list").output
    assert "answered [500]" in table
    assert "never" in table
    assert "token" not in table
    assert got.url not in table


def test_doctor_looks_at_secrets(call: Call) -> None:
    """A webhook that could not be signed for is a failure before anything has to be told."""
    found = {each.name: each for each in diagnosis.findings()}
    assert found["webhook hook"].result == "ok"
    assert found["webhook other"].result == "failed"
    assert "openssl rand" in found["webhook other"].detail
