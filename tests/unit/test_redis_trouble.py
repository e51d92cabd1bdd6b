"""Which errors of Redis pass: as redis-py makes them of what a server says, and from real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from redis._parsers.base import BaseParser
from terms import terms_text

from tasks.watch import patiently
from worker.embedded import EmbeddedRedis
from worker.journal import Journal
from worker.journal.scripting import BEGINNINGS, connect
from worker.journal.trouble import Trouble, passes, trouble

Private = Callable[..., EmbeddedRedis]

SAID = [
    ("OOM command not allowed when used memory > 'maxmemory'.", Trouble.FULL),
    ("ERR Error running script (call to f_1): @user_script:5: -OOM command not allowed when …", Trouble.FULL),
    ("READONLY You can't write against a read only replica.", Trouble.READ_ONLY),
    ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", Trouble.READ_ONLY),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Trouble.READ_ONLY),
    ("LOADING Redis is loading the dataset in memory", Trouble.LOADING),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Trouble.LOADING),
    ("MISCONF Errors writing to the AOF file: No space left on device", Trouble.UNSAFE),
    ("NOREPLICAS Not enough good replicas to write.", Trouble.UNSAFE),
    ("ERR max number of clients reached", Trouble.AWAY),
    ("NOAUTH Authentication required.", Trouble.AWAY),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", None),
    ("NOPERM this user has no permissions to run the 'evalsha' command", None),
    ("NOSCRIPT No matching script. Please use EVAL.", None),
    ("BUSYGROUP Consumer Group name already exists", None),
    ("ERR unknown command 'OOM'", None),
]


@pytest.mark.parametrize(("said", "expected"), SAID, ids=[said.split()[0] + str(n) for n, (said, _) in enumerate(SAID)])
def test_what_a_server_says(said: str, expected: Trouble | None) -> None:
    """The error that redis-py makes of an answer is told apart by its class, or by the word it begins with."""
    error = BaseParser.parse_error(said)
    assert trouble(error) is expected
    assert passes(error) is (expected is not None)


@pytest.mark.parametrize("error", [redis.ConnectionError("refused"), redis.TimeoutError("late")])
def test_a_redis_that_is_away(error: Exception) -> None:
    """No connection and no answer pass."""
    assert trouble(error) is Trouble.AWAY


def test_our_own_errors_do_not_pass() -> None:
    """A bug is not waited out, whatever its text."""
    assert not passes(ValueError("OOM command not allowed"))


@pytest.mark.parametrize("said", [said for said, meaning in SAID if meaning], ids=lambda said: said.split()[0])
def test_the_end_of_a_phase_waits_for_every_trouble(said: str) -> None:
    """What fails with a trouble of Redis is called again; what fails otherwise is not."""
    errors = [BaseParser.parse_error(said)]

    def call() -> str:
        if errors:
            raise errors.pop()
        return "journaled"

    assert patiently(call) == "journaled"
    errors.append(BaseParser.parse_error("WRONGTYPE no"))
    with pytest.raises(redis.ResponseError):
        patiently(call)


@pytest.fixture
def book(private_redis: Private) -> Iterator[Journal]:
    """A journal in a Redis of its own."""
    with connect(private_redis().url) as client:
        yield Journal(client)


def test_a_full_redis_begins_nothing_and_ends_everything(book: Journal) -> None:
    """A new request is refused whole; one that runs is claimed, handed on, told of and concluded."""
    told, shown = {"phase": "begin", "host": "alpha", "seconds": 0.1}, ("", "", 0)
    fields = {"uuid": "u", "source": "alpha", "destination": "beta", "domain": "web", "driver": "vz", "flags_label": ""}
    card = {"incarnation": "1", "pid": 1}
    for host in ("alpha", "beta"):
        book.lease(host, card, 60)
    created, admitted = book.submit("one", fields, {}, "{}", terms_text(1, 1))
    assert (created[0], admitted[0]) == ("OK", "OK")
    book.client.config_set("maxmemory", 1)
    with pytest.raises(redis.ResponseError) as refused:
        book.submit("two", fields | {"uuid": "v"}, {}, "{}", terms_text(1, 1))
    assert trouble(refused.value) is Trouble.FULL
    assert not book.client.keys("vmrelay:m:two*")
    assert book.holder("v") is None
    assert book.lease("alpha", card, 60) is None
    assert book.claim("one", 1, 1, "begin", "{}", "token", "alpha", shown).won
    book.advance("one", "token", "confirm", "{}", told, {}, 500)
    assert book.claim("one", 1, 1, "confirm", "{}", "last", "alpha", shown).won
    won, record = book.conclude("one", "last", told, {"outcome": "failed"}, 60, None)
    assert (won, record.outcome) == (True, "failed")
    assert book.holder("u") is None


def test_what_begins_something_is_named(book: Journal) -> None:
    """Every name in the list is a script."""
    assert set(book._scripts) >= BEGINNINGS


def test_a_connection_to_a_replica_is_given_up(private_redis: Private) -> None:
    """After a failover behind one address the client's next try goes over a new connection."""
    with connect(private_redis().url) as client:
        number = client.client_id()
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(redis.exceptions.ReadOnlyError):
            client.set("a", "b")
        assert client.client_id() != number
