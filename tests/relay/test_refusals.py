"""Bad input: a clear error with a stable code, outcome rejected, and no host touched."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from relay_lab import HOSTS, LARGE, Relay, until


@pytest.fixture
def untouched(relay: Relay) -> Iterator[Relay]:
    """No phase is claimed and no migrate job runs while the test goes on."""

    def touched() -> tuple[float, int]:
        return sum(relay.metrics(host, "vmrelay_claims_total") for host in HOSTS), relay.jobs_ended()

    before = touched()
    yield relay
    assert touched() == before


def rejected(relay: Relay, **arguments: object) -> tuple[str, str]:
    """Send a request that must be rejected; its code and text, the same in record, event and AsyncResult."""
    return was_rejected(relay, relay.send(**arguments))


def was_rejected(relay: Relay, ident: str) -> tuple[str, str]:
    """The same of a request that was sent."""
    record = relay.wait(ident)
    assert (record.state, record.outcome) == ("ended", "rejected"), record
    until(lambda: relay.result(ident)["status"] == "FAILURE", "AsyncResult")
    assert relay.result(ident)["result"]["exc_type"] == "Rejected"
    assert relay.result(ident)["result"]["exc_message"] == [f"{record.error} [{record.reason}]"]
    (event,) = relay.events(ident)
    assert (event["type"], event["outcome"], event["reason"]) == ("ended", "rejected", record.reason)
    assert record.phases == ()
    return record.reason, record.error


LONG = "x" * 300
MALFORMED: list[dict[str, Any]] = [
    {},
    {"domain": "web"},
    {"domain": "", "destination": "beta"},
    {"domain": 7, "destination": "beta"},
    {"domain": None, "destination": "beta"},
    {"domain": ["web"], "destination": "beta"},
    {"domain": "web", "destination": {"uri": "qemu://elsewhere"}},
    {"domain": LONG, "destination": "beta"},
    {"domain": "a/b", "destination": "beta"},
    {"domain": "a\nb", "destination": "beta"},
    {"domain": "a\x00b", "destination": "beta"},
    {"domain": "\ud800", "destination": "beta"},
    {"domain": "web", "destination": "beta", "uri": "qemu+ssh://elsewhere/system"},
    {"domain": "web", "destination": "beta", "\ud800": 1},
    {"domain": "web", "destination": "beta", LONG * 10: 1},
    {"domain": "web", "destination": "beta", "flags": 1.5},
    {"domain": "web", "destination": "beta", "flags": True},
    {"domain": "web", "destination": "beta", "flags": "LIVE," * 60_000},
    {"domain": "web", "destination": "beta", "flags": 1, "options": {"live": True}},
    {"domain": "web", "destination": "beta", "options": {"live": "yes"}},
    {"domain": "web", "destination": "beta", "options": {f"o{n}": True for n in range(100)}},
    {"domain": "web", "destination": "beta", "params": {"bandwidth": 1.5}},
    {"domain": "web", "destination": "beta", "params": {"bandwidth": {}}},
    {"domain": "web", "destination": "beta", "params": {"destination_xml": "x" * 300_000}},
    {"domain": "web", "destination": "beta", "deadline_seconds": -1},
    {"domain": "web", "destination": "beta", "deadline_seconds": 0},
    {"domain": "web", "destination": "beta", "deadline_seconds": "5"},
    {"domain": "web", "destination": "beta", "deadline_seconds": float("nan")},
    {"domain": "web", "destination": "beta", "deadline_seconds": 1e300},
    {"domain": "web", "destination": "beta", "on_stall": "pray"},
    {"domain": "web", "destination": "beta", "timeout_seconds": 0},
    {"domain": "web", "destination": "beta", "timeout_seconds": 5, "on_timeout": "abort"},
    {"domain": "web", "destination": "beta", "postcopy_after_precopy": 1},
    {"domain": "web", "destination": "beta", "attempts": 0},
    {"domain": "web", "destination": "beta", "attempts": True},
    {"domain": "web", "destination": "beta", "reason": "x" * 501},
]


def test_malformed_requests(untouched: Relay) -> None:
    """A wrong, unknown or huge field is named, briefly; dozens of such requests at once are all answered."""
    sent = [(untouched.send(**arguments), arguments) for arguments in MALFORMED]
    for ident, arguments in sent:
        code, text = was_rejected(untouched, ident)
        assert (code, len(text) < 2500) == ("malformed", True), str(arguments)[:200]


def test_positional_arguments(untouched: Relay) -> None:
    """Arguments are given by name: positional ones are malformed."""
    sent = untouched.celery.send_task("vmrelay.v1.migrate", args=["web", "beta"], queue="scheduler")
    record = untouched.wait(sent.id)
    assert (record.outcome, record.reason) == ("rejected", "malformed")


def test_a_wild_task_id_writes_no_key_of_its_making(untouched: Relay) -> None:
    """A task id that is no id names no record: it could name another migration's keys."""
    wild = ["", "a b", "a:events", "x" * 300, "../etc", "\u00e9"]
    for ident in wild:
        message = {"task": "vmrelay.v1.migrate", "id": ident}
        _push(untouched, [[], {"domain": "web", "destination": "beta"}, {}], message)
    _still_works(untouched)
    assert [ident for ident in wild if untouched.journal.client.exists(f"vmrelay:m:{ident}")] == []


def test_hosts_and_domains(untouched: Relay) -> None:
    """Unknown host, unknown source, unknown domain, domain elsewhere, same host: each has its code."""
    name = untouched.vm()
    asked = {
        "unknown-host": {"domain": name, "destination": "omega"},
        "unknown-domain": {"domain": "nobody", "destination": "beta"},
        "domain-elsewhere": {"domain": name, "destination": "beta", "source": "gamma"},
        "same-host": {"domain": name, "destination": "alpha"},
    }
    assert {expected: rejected(untouched, **arguments)[0] for expected, arguments in asked.items()} == {
        expected: expected for expected in asked
    }
    assert rejected(untouched, domain=name, destination="beta", source="omega")[0] == "unknown-host"
    assert rejected(untouched, domain=name, destination="qemu+ssh://elsewhere/system")[0] == "malformed"


def test_an_index_entry_is_no_domain(untouched: Relay) -> None:
    """No spelling of a uuid reaches into what the journal keeps beside the names."""
    uuid_ = untouched.look("alpha", untouched.vm())["uuid"].strip("{}").lower()
    assert rejected(untouched, domain=f"uuid:{uuid_}", destination="beta")[0] == "unknown-domain"


def test_a_name_that_is_taken(untouched: Relay) -> None:
    """The destination has another domain of that name; renaming is the way out that the text tells."""
    name, other = untouched.vm(), untouched.vm("beta")
    code, text = rejected(untouched, domain=name, destination="beta", params={"destination_name": other})
    assert code == "name-taken"
    assert "destination_name" in text


def test_an_address_outside_the_inventory(untouched: Relay) -> None:
    """migrate_uri may name the destination only: nobody who can enqueue sends a guest elsewhere."""
    name = untouched.vm()
    for uri in ("vzmigr://192.0.2.1", "vzmigr://betaa", "vzmigr://192.0.2.1:64000"):
        assert rejected(untouched, domain=name, destination="beta", params={"migrate_uri": uri})[0] == "uri-elsewhere"


def test_flags(untouched: Relay) -> None:
    """Refused flags carry libvirt's message, unknown ones are named, and all of it has a code."""
    name = untouched.vm()
    _, text = rejected(untouched, domain=name, destination="beta", flags="LIVE,COMPRESSED")
    assert text.startswith("flags VIR_MIGRATE_PERSIST_DEST must be set for vz migration")
    four = ["LIVE", "COMPRESSED", "PERSIST_DEST", "UNSAFE"]
    _, text = rejected(untouched, domain=name, destination="beta", flags=four)
    assert text.startswith("unsupported flags (0x200) in function ")
    assert rejected(untouched, domain=name, destination="beta", flags="LIVE,NONSENSE")[0] == "unknown-flag"
    assert rejected(untouched, domain=name, destination="beta", flags=-1)[0]
    assert rejected(untouched, domain=name, destination="beta", flags=2**200)[0]
    code, text = rejected(untouched, domain=name, destination="beta", options={"compressed": False})
    assert code
    assert "compress" in text
    assert rejected(untouched, domain=name, destination="beta", options={"nonsense": True})[0]


def test_parameters(untouched: Relay) -> None:
    """Unknown parameters, and those the driver does not take, are refused."""
    name = untouched.vm()
    for params in ({"nonsense": 1}, {"bandwidth": "fast"}, {"bandwidth": 2**70}, {"destination_name": ["a", "b"]}):
        code, text = rejected(untouched, domain=name, destination="beta", params=params)
        assert code
        assert text


def test_what_cannot_be_steered(untouched: Relay) -> None:
    """The SDK cannot steer a running migration: what would, is refused with that reason, and a report is not."""
    name = untouched.vm()
    for steering in ({"on_stall": "abort"}, {"timeout_seconds": 5}, {"postcopy_after_precopy": True}):
        code, text = rejected(untouched, domain=name, destination="beta", **steering)
        assert code == "not-supported"
        assert "the Virtuozzo SDK cannot steer a running migration" in text
    asked = {"on_stall": "report", "on_timeout": "suspend"}
    assert rejected(untouched, domain=name, destination="beta", **asked)[0] == "needs-timeout"


def test_a_busy_domain_names_its_migration(relay: Relay) -> None:
    """Of two migrations of one domain the second is rejected, and told who holds it."""
    name = relay.vm(memory_mib=LARGE)
    first = relay.migrate(name)
    relay.copying(first)
    for destination in ("beta", "gamma"):
        for source in ({}, {"source": "alpha"}):
            code, text = rejected(relay, domain=name, destination=destination, **source)
            assert code == "busy-domain"
            assert first in text
    relay.send("vmrelay.v1.cancel", migration=first)
    relay.wait(first)


def test_rejections_are_counted_by_code(relay: Relay) -> None:
    """The scheduler counts each rejected request once."""
    labels = {"outcome": "rejected", "reason": "unknown-domain"}
    before = relay.outcomes(**labels)
    rejected(relay, domain="nobody", destination="beta")
    relay.counted(before + 1, **labels)


def test_a_refused_flag_set_is_counted_as_such(relay: Relay) -> None:
    """Once driver and flags are known they are in the counter and in the record."""
    labels = {"driver": "vz", "flags": "compressed,live", "outcome": "rejected", "reason": "VIR_ERR_INVALID_ARG"}
    before = relay.outcomes(**labels)
    ident = relay.migrate(relay.vm(), flags="LIVE,COMPRESSED")
    record = relay.wait(ident)
    assert (record.driver, record.flags_label) == ("vz", "compressed,live")
    relay.counted(before + 1, **labels)


def test_the_command_exits_with_2(untouched: Relay) -> None:
    """One line with the code on standard error, the record on standard output where JSON is asked for."""
    name = untouched.vm()
    done = untouched.cli("migrate", name, "beta", "--no-compressed")
    assert done.returncode == 2
    assert "compress" in done.stderr
    done = untouched.cli("migrate", name, "beta", "-o", "json", "--flags", "LIVE,COMPRESSED")
    assert done.returncode == 2
    assert "flags VIR_MIGRATE_PERSIST_DEST must be set for vz migration" in done.stderr
    assert json.loads(done.stdout)["outcome"] == "rejected"


def _push(relay: Relay, body: object, headers: dict[str, object] | None = None, raw: bytes | None = None) -> None:
    """Put a message into the scheduler's queue as a hostile or broken client would."""
    text = raw if raw is not None else json.dumps(body).encode()
    message = {
        "body": base64.b64encode(text).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "vmrelay.v1.migrate", "id": str(uuid.uuid4()), **(headers or {})},
        "properties": {
            "body_encoding": "base64",
            "correlation_id": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "scheduler"},
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
            "priority": 0,
        },
    }
    relay.journal.client.lpush("scheduler", json.dumps(message))


def _still_works(relay: Relay) -> None:
    assert rejected(relay, domain="nobody", destination="beta")[0] == "unknown-domain"
    assert relay.processes["scheduler"].poll() is None


RAW: list[tuple[object, dict[str, object], bytes | None]] = [
    (None, {}, b"not json"),
    (None, {}, b"\xff\xfe"),
    (None, {}, b"[" * 100_000),
    (None, {}, b'[[], {"flags": ' + b"9" * 5000 + b"}, {}]"),
    ({}, {}, None),
    ([], {}, None),
    ("text", {}, None),
    ([[], [], {}], {}, None),
    ([{}, {}, {}], {}, None),
    ([[], {}, {"chain": "x", "callbacks": 5}], {}, None),
    ([[], {}, {}], {"task": "vmrelay.v9.nonsense"}, None),
    ([[], {}, {}], {"task": "vmrelay.v1.phase.begin"}, None),
    ([[{}], {}, {}], {"task": "vmrelay.v1.phase.begin"}, None),
    ([[], {}, {}], {"task": 5}, None),
    ([[], {}, {}], {"id": 5}, None),
    ([[], {"self": 1, "args": 2, "kwargs": 3}, {}], {}, None),
]


def test_raw_messages_do_no_harm(untouched: Relay) -> None:
    """Whatever lies in the queue, the scheduler goes on with the next message: each is followed by one that works."""
    for body, headers, raw in RAW:
        _push(untouched, body, headers, raw)
        _still_works(untouched)


def test_a_queue_entry_that_is_no_message(untouched: Relay) -> None:
    """Even what no client of Celery writes leaves a scheduler that works."""
    for raw in (b"nonsense", b"{}", b'{"body": 5}', b"[]", b'{"body": "", "properties": {}}'):
        untouched.journal.client.lpush("scheduler", raw)
        _still_works(untouched)
