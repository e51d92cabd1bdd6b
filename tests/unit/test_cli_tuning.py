"""The commands for a running perform: values, and waiting for what becomes of a wish."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner
from terms import terms_text

from worker.cli.main import cli
from worker.cli.tuning import await_tuned, check_value
from worker.contract import TUNING_RANGES, TuneRequest
from worker.errors import Rejected
from worker.hypervisors.convergence import TuningKind
from worker.journal import Journal, connect

IDENT = "3f2a91c0-8a54-4d0e-9d86-2f6c2f6f0a11"
FIELDS = {"domain": "web-1", "uuid": "u-1", "source": "alpha", "destination": "beta"}
RUN = {"attempt": 1, "phase": "begin", "host": "alpha", "seconds": 0.1}
REFUSAL = {"code": "VIR_ERR_OPERATION_INVALID", "message": "not allowed"}


@pytest.fixture
def journal(redis_url: str) -> Journal:
    """A journal with one migration that performs."""
    book = Journal(connect(redis_url))
    for host in ("alpha", "beta"):
        book.lease(host, {"incarnation": host}, 60)
    assert book.submit(IDENT, FIELDS, {}, "{}", terms_text(1, 1))[1][0] == "OK"
    assert book.claim(IDENT, 1, 1, "begin", "{}", "t-1", "alpha", ("", "", 0)).won
    book.advance(IDENT, "t-1", "perform", "{}", RUN, {}, 1000)
    assert book.claim(IDENT, 1, 1, "perform", "{}", "t-2", "alpha", ("", "", 0)).won
    return book


def wish(journal: Journal, tuning: str) -> str:
    """Ask for something; the wish as the agent gets it."""
    text = json.dumps({"tuning": tuning, "kind": "set-speed", "value": 5, "requested_by": ""})
    assert journal.tune(IDENT, text) == ["OK"]
    return text


@pytest.mark.parametrize("error", [None, REFUSAL])
def test_what_became_of_a_wish(journal: Journal, error: dict[str, str] | None) -> None:
    """Of several wishes the answer is that to ours, done or refused."""
    for tuning, answer in (("other", None), ("ours", error)):
        told = {"tuning": tuning, "kind": "set-speed", "value": 5, "error": answer}
        journal.note(IDENT, "t-2", "tuned", told, wish(journal, tuning))
    became = await_tuned(journal, IDENT, "ours", 30)
    assert became is not None
    assert (became["tuning"], became["error"]) == ("ours", error)


def test_no_answer_in_time(journal: Journal) -> None:
    """A wish that nobody has looked at yet is not a refused one."""
    wish(journal, "ours")
    assert await_tuned(journal, IDENT, "ours", 0.05) is None


def test_perform_ends_first(journal: Journal) -> None:
    """The end of perform answers a wish that came too late."""
    wish(journal, "ours")
    journal.advance(IDENT, "t-2", "finish", "{}", RUN, {}, 1000)
    became = await_tuned(journal, IDENT, "ours", 30)
    assert became is not None
    assert became["error"]["code"] == "too-late"


def test_the_migration_ends_first(journal: Journal) -> None:
    """A record that is over, or gone, says nothing more: that is an answer, too."""
    journal.conclude(IDENT, "t-2", RUN, {"outcome": "failed"}, 60, None)
    for ident in (IDENT, "gone"):
        became = await_tuned(journal, ident, "ours", 30)
        assert became is not None
        assert became["error"]["code"] == "over"


@pytest.mark.parametrize("kind", TUNING_RANGES)
def test_values(kind: TuningKind) -> None:
    """The command refuses the values that the relay would refuse, and takes the others."""
    low, high = TUNING_RANGES[kind]
    for value in (low, high):
        check_value(kind, value)
        TuneRequest.parse({"migration": IDENT, "kind": str(kind), "value": value})
    for value in (low - 1, high + 1):
        with pytest.raises(click.UsageError, match=f"{kind} takes a value of {low} to {high}"):
            check_value(kind, value)
        with pytest.raises(Rejected):
            TuneRequest.parse({"migration": IDENT, "kind": str(kind), "value": value})


def test_postcopy_has_no_value() -> None:
    """There is nothing to check."""
    check_value(TuningKind.POSTCOPY, None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set-downtime", "3f2a91", "0"), "set-downtime takes a value of 1 to 2000000 ms"),
        (("set-speed", "3f2a91", "0"), "set-speed takes a value of 1 to"),
        (("set-speed", "3f2a91", "fast"), "'fast' is not a valid integer"),
        (("set-speed", "3f2a91"), "Missing argument 'MIB_PER_SECOND'"),
        (("postcopy",), "Missing argument 'MIGRATION'"),
    ],
)
def test_usage_errors(words: tuple[str, ...], said: str) -> None:
    """What makes no sense is refused before anything is looked up or sent."""
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert said in done.output
