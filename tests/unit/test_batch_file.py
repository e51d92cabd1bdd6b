"""What `vmrelay batch run` reads: plans, and lists of moves in several forms."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_lab import a_plan

from worker.cli.batch_file import read
from worker.contract.bulk import MOST_MOVES, BatchRequest
from worker.errors import Rejected

MOVE = {"domain": "web-1", "destination": "beta"}
FROM = MOVE | {"source": "alpha"}


@pytest.mark.parametrize(
    ("text", "moves"),
    [
        ("web-1 beta\n", [MOVE]),
        ("web-1 beta alpha", [FROM]),
        ("web-1,beta,alpha\r\n", [FROM]),
        ("web-1, beta", [MOVE]),
        ("web-1,beta,\n", [MOVE]),
        ("# moves\n\n  web-1   beta  # today\n", [MOVE]),
        ("domain,destination,source\nweb-1,beta,alpha\n", [FROM]),
        ("source,domain,destination\nalpha,web-1,beta\n,web-1,beta\n", [FROM, MOVE]),
        ("domain destination\nweb-1 beta", [MOVE]),
        ("\ufeffdomain,destination\nweb-1,beta", [MOVE]),
        ('"a b" beta', [{"domain": "a b", "destination": "beta"}]),
        ('"a, b",beta', [{"domain": "a, b", "destination": "beta"}]),
        (json.dumps([FROM]), [FROM]),
        (json.dumps({"moves": [MOVE, MOVE | {"after": [1]}]}), [MOVE, MOVE | {"after": [1]}]),
    ],
)
def test_a_list_of_moves(text: str, moves: list[dict[str, object]]) -> None:
    """Over forms: words, CSV with and without a header, JSON; and the contract takes what comes of it."""
    request = read(text, "moves")
    assert request == {"moves": moves}
    BatchRequest.parse(request)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it names no move"),
        ("# nothing\n", "it names no move"),
        ("[]", "it names no move"),
        ("web-1\n", "line 1 has 1 words"),
        ("web-1 beta\na b c d\n", "line 2 has 4 words; write: domain destination source"),
        ("domain,destination\nweb-1,beta,alpha", "line 2 has 3 words; write: domain destination"),
        ("web-1 beta\n'open quote\n", "line 2: No closing quotation"),
        (",beta\n", "line 1 names no domain"),
        ("{", "line 1, column 2: no JSON"),
        ('{"a": 1}', "neither a plan"),
        ("[" * 100_000, "nested too deeply"),
        ("a b\n" * (MOST_MOVES + 1), f"{MOST_MOVES + 1} moves"),
    ],
)
def test_what_is_no_list_is_refused_by_line(text: str, said: str) -> None:
    """The message names the file, the line, and what to write."""
    with pytest.raises(Rejected, match=r"moves\.csv cannot be run as a batch") as refusal:
        read(text, "moves.csv")
    assert said in refusal.value.message
    assert refusal.value.code == "bad-file"


def test_a_plan_is_passed_on_as_it_is() -> None:
    """What `rebalance --dry-run -o json` prints is read as the same plan."""
    plan = a_plan(3)
    request = read(plan.model_dump_json(), "-")
    assert BatchRequest.parse(request).plan == plan


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text ends in anything but moves or a refusal."""
    with suppress(Rejected):
        assert read(text, "x")["moves"]


WORD = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="#,'\"\\"), min_size=1, max_size=20)


@given(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=5))
def test_words_come_back(moves: list[tuple[str, str]]) -> None:
    """Names without blanks, quotes or commas are those of the request, whatever else they hold."""
    first = moves[0][0]
    if first.startswith(("{", "[")) or set(moves[0]) == {"domain", "destination"}:
        return
    text = "\n".join(f"{domain} {destination}" for domain, destination in moves)
    assert [(move["domain"], move["destination"]) for move in read(text, "x")["moves"]] == moves
