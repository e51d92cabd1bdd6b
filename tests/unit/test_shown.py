"""The models of what users are shown, against what the journal's records really write."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tasks.receipt import receipt
from worker.cli.migrations import OUTCOMES
from worker.contract import Priority, shown
from worker.fleet.used import used
from worker.hypervisors.base import Domain, DomainState, Progress
from worker.hypervisors.convergence import Convergence, Stall, StallAction, StallKind
from worker.journal.batch import KINDS, STATES, Batch, Item
from worker.journal.cordons import Cordon
from worker.journal.hosts import domain_document
from worker.journal.record import ORDER, PhaseRun, Record
from worker.loads import HostLoad

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
SECONDS = st.floats(0, 1e9)
COUNTS = st.integers(0, 2**53)
TIMES = st.integers(0, 2**42)
RUNS = st.builds(
    PhaseRun, st.integers(1, 20), st.sampled_from(ORDER), TEXT, SECONDS, SECONDS, st.none() | st.just("deadline")
)
PROGRESS = st.builds(
    Progress,
    percent=st.integers(0, 100),
    remaining_bytes=COUNTS,
    expected_downtime_seconds=st.none() | SECONDS,
    postcopy=st.booleans(),
).map(asdict)
STALLS = st.builds(Stall, st.sampled_from(StallKind), TEXT, expected_downtime_seconds=st.none() | SECONDS)
RECORDS = st.builds(
    Record,
    id=TEXT,
    state=st.sampled_from(get_args(shown.State)),
    outcome=st.sampled_from(["", *get_args(shown.Outcome)]),
    domain=TEXT,
    flags_label=st.sampled_from(["", "live", "compressed,live"]),
    params=st.dictionaries(TEXT, TEXT | st.integers() | st.booleans() | st.lists(TEXT, max_size=3), max_size=3),
    deadline_seconds=st.none() | SECONDS,
    convergence=st.builds(
        Convergence,
        st.sampled_from(StallAction),
        st.none() | SECONDS,
        st.sampled_from([StallAction.SUSPEND, StallAction.POSTCOPY]),
        st.booleans(),
    ),
    priority=st.sampled_from(list(Priority)).map(str),
    phase=st.sampled_from(["", *ORDER]),
    progress=st.just({}) | PROGRESS,
    waiting=st.none() | st.fixed_dictionaries({"host": TEXT, "why": TEXT, "since": TIMES}),
    downtime_seconds=st.none() | SECONDS,
    transferred_bytes=st.none() | COUNTS,
    stalled=st.none()
    | st.builds(lambda s, a: asdict(s) | {"action": a, "detail": ""}, STALLS, st.sampled_from(StallAction)),
    error=TEXT,
    reason=st.sampled_from(["", "deadline"]),
    phases=st.lists(RUNS, max_size=3).map(tuple),
    created=TIMES,
    started=TIMES,
    ended=TIMES,
)
ITEMS = st.builds(
    Item,
    n=st.integers(1, 20_000),
    domain=TEXT,
    after=st.lists(st.integers(1, 9), max_size=2).map(tuple),
    state=st.sampled_from(get_args(shown.MoveState)),
    code=TEXT,
)
LEFT = st.fixed_dictionaries({"guest": TEXT, "domain": TEXT, "host": TEXT, "code": TEXT, "why": TEXT})
BATCHES = st.builds(
    Batch,
    id=TEXT,
    kind=st.sampled_from(KINDS),
    state=st.sampled_from(STATES),
    hosts=st.lists(TEXT, max_size=2).map(tuple),
    priority=st.sampled_from(list(Priority)).map(str),
    total=COUNTS,
    in_doubt=st.lists(TEXT, max_size=2).map(tuple),
    seconds=SECONDS,
    left=st.lists(LEFT, max_size=2).map(tuple),
    created=TIMES,
)


def held(model: type[BaseModel], document: dict[str, Any], absent: tuple[str, ...] = ()) -> None:
    """A document, as it travels, is what its model says, field by field, and comes back from it unchanged."""
    travelled = json.loads(json.dumps(document))
    assert set(model.model_fields) - set(travelled) <= set(absent), set(model.model_fields) ^ set(travelled)
    assert set(travelled) <= set(model.model_fields)
    assert model.model_validate(travelled).model_dump(mode="json", exclude_unset=True) == travelled


@given(record=RECORDS)
def test_a_migration_is_shown_as_its_model_says(record: Record) -> None:
    """Whatever state it is in, with the parts that only some states have."""
    document = record.document()
    held(shown.Migration, document)
    for run in document["phases"]:
        held(shown.PhaseRun, run, absent=("error",))
    for part, model in (("progress", shown.Progress), ("waiting", shown.Waiting), ("stalled", shown.Stalled)):
        if document[part]:
            held(model, document[part])


@given(batch=BATCHES, items=st.lists(ITEMS, max_size=4))
def test_a_batch_and_its_receipt_are_shown_as_their_models_say(batch: Batch, items: list[Item]) -> None:
    """Of every kind and in every state, with every move."""
    held(shown.Batch, batch.document())
    held(shown.Receipt, receipt(batch, items))
    for item in items:
        held(shown.BatchItem, item.document())


def test_a_host_is_shown_as_its_model_says() -> None:
    """Its cordon, what is used of it, and its guests; the host itself is looked at where there is a relay."""
    held(shown.Cordon, Cordon("ann", "new DIMMs", 1, "b").document())
    settings = SimpleNamespace(cpu_cores=None, memory_mib=None, reserve_cpu_cores=0, reserve_memory_mib=0)
    host: Any = SimpleNamespace(settings=settings)
    for load in (HostLoad(at=1, seconds=0, cpu_cores=0, memory_mib=0), HostLoad(1, 60, 8, 4096)):
        seen = used(host, load)
        assert seen is not None
        held(shown.HostUse, seen.document())
    for state in DomainState:
        held(shown.HostDomain, domain_document(Domain("a", "b", state)))


@pytest.mark.parametrize(
    ("model", "words"),
    [(shown.BatchKind, KINDS), (shown.BatchState, STATES), (shown.PhaseName, ORDER), (shown.Outcome, OUTCOMES)],
)
def test_the_words_are_those_of_the_journal(model: Any, words: tuple[str, ...]) -> None:
    """A kind, a state or a phase that the journal has and the models do not would be refused by clients."""
    assert get_args(model) == tuple(words)


def test_what_a_later_version_adds_is_kept_and_what_it_may_not_change_is_refused() -> None:
    """A new field passes through; another state, a missing field or another type is no document of this version."""
    document = Record("m", "pending").document()
    assert shown.Migration.model_validate(document | {"of_tomorrow": [1]}).model_dump()["of_tomorrow"] == [1]
    wrongs: list[dict[str, Any]] = [{"state": "queued"}, {"outcome": "lost"}, {"attempts": -1}, {"phases": None}]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            shown.Migration.model_validate(document | wrong)
    with pytest.raises(ValidationError):
        shown.Migration.model_validate({name: value for name, value in document.items() if name != "error"})
