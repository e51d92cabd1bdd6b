"""The documents that travel."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.contract import IDENT, TUNING_RANGES, Baton, ErrorInfo, MigrateRequest, TuneRequest, canonical
from worker.errors import Failed, HypervisorError, Rejected, Retry
from worker.hypervisors.base import DomainState
from worker.hypervisors.convergence import Convergence, StallAction, TuningKind
from worker.hypervisors.params import PARAMS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*MigrateRequest.model_fields, "more"])
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


@given(document=st.dictionaries(FIELDS | st.text(), JSON, max_size=8))
@example(document={"domain": "a", "destination": "b", "flags": 2**80})
@example(document={"domain": "a", "destination": "b", "deadline_seconds": float("nan")})
def test_parsing_any_json_gives_a_request_or_a_refusal(document: dict[str, Any]) -> None:
    """Nothing but ``Rejected`` comes out, its code is stable and its text bounded."""
    refusal = None
    try:
        request = MigrateRequest.parse(document)
    except Rejected as refused:
        refusal = refused
    if refusal is None:
        assert set(document) <= set(MigrateRequest.model_fields)
        assert request.domain == document["domain"]
    else:
        assert refusal.code == "malformed"
        assert len(refusal.message) < 2500


TUNE_FIELDS = st.sampled_from([*TuneRequest.model_fields, "more"])


@given(document=st.dictionaries(TUNE_FIELDS, JSON | st.sampled_from([*TuningKind, "m-1"]), max_size=5))
@example(document={"migration": "m", "kind": "postcopy", "value": 2**80})
@example(document={"migration": "m", "kind": "set-speed", "value": True})
def test_parsing_any_tuning_gives_a_request_or_a_refusal(document: dict[str, Any]) -> None:
    """A tuning that is taken is in its range and names a migration; anything else is ``malformed``."""
    refusal = None
    try:
        request = TuneRequest.parse(document)
    except Rejected as refused:
        refusal = refused
    if refusal is None:
        assert IDENT.fullmatch(request.migration)
        limits = TUNING_RANGES.get(request.kind)
        assert request.value is None if limits is None else limits[0] <= (request.value or 0) <= limits[1]
    else:
        assert refusal.code == "malformed"
        assert len(refusal.message) < 2500


@pytest.mark.parametrize("kind", list(TuningKind))
def test_the_range_of_each_tuning(kind: TuningKind) -> None:
    """Both ends are in, what is beyond is out, and only post-copy has no value."""
    low, high = TUNING_RANGES.get(kind, (None, None))
    good = {low, high}
    bad = {0, 1} if low is None or high is None else {None, low - 1, high + 1}
    for value in good:
        assert TuneRequest.parse({"migration": "m", "kind": str(kind), "value": value}).value == value
    for value in bad:
        with pytest.raises(Rejected, match=f"{kind} takes"):
            TuneRequest.parse({"migration": "m", "kind": str(kind), "value": value})


def test_everything_that_may_be_asked_for() -> None:
    """A full request is taken as it is; whole seconds are seconds."""
    document: dict[str, Any] = {
        "domain": "web-1",
        "destination": "beta",
        "source": "alpha",
        "options": {"paused": True, "live": None},
        "params": {"bandwidth": 10, "migrate_disks": ["vda"], "destination_name": "x"},
        "deadline_seconds": 5,
        "attempts": 2,
        "on_stall": "downtime",
        "timeout_seconds": 60,
        "on_timeout": "suspend",
        "postcopy_after_precopy": False,
        "requested_by": "me",
        "reason": "why",
    }
    request = MigrateRequest.parse(document)
    assert (request.deadline_seconds, request.timeout_seconds) == (5.0, 60.0)
    assert (request.on_stall, request.on_timeout) == (StallAction.DOWNTIME, StallAction.SUSPEND)
    assert request.params["migrate_disks"] == ["vda"]


@pytest.mark.parametrize("action", [action for action in StallAction if action not in ("suspend", "postcopy")])
def test_a_timeout_suspends_or_switches(action: StallAction) -> None:
    """Nothing else is done after ``timeout_seconds``, as with virsh."""
    with pytest.raises(Rejected, match="on_timeout"):
        MigrateRequest.parse({"domain": "a", "destination": "b", "timeout_seconds": 1, "on_timeout": str(action)})


BATONS = st.builds(
    Baton,
    migration=TEXT,
    attempt=st.integers(1, 20),
    epoch=st.integers(1, 99),
    domain=TEXT,
    uuid=TEXT,
    source=TEXT,
    destination=TEXT,
    flags=st.integers(0, 2**32 - 1),
    params=st.dictionaries(TEXT, TEXT | st.integers() | st.booleans() | st.lists(TEXT, max_size=3), max_size=4),
    deadline_seconds=st.none() | st.floats(0.1, 1e6),
    convergence=st.builds(Convergence, timeout_seconds=st.none() | st.floats(0.1, 1e6)),
    xml=TEXT,
    performed=st.booleans(),
    error=st.none() | st.builds(ErrorInfo, code=TEXT, message=TEXT, phase=TEXT),
    source_state=st.none() | st.sampled_from(DomainState),
    downtime_seconds=st.none() | st.floats(0, 1e6),
    transferred_bytes=st.none() | st.integers(0, 2**63),
    total_seconds=st.none() | st.floats(0, 1e6),
    iterations=st.none() | st.integers(0, 2**31),
)


@given(baton=BATONS)
def test_a_baton_survives_every_way_it_travels(baton: Baton) -> None:
    """Through JSON and back it is the same, and its canonical text is, which the claim compares."""
    document = baton.document()
    text = canonical(document)
    assert canonical(json.loads(text)) == text
    assert canonical(json.loads(json.dumps(document))) == text
    assert Baton.model_validate(json.loads(text)) == baton


def test_canonical_text_does_not_depend_on_order() -> None:
    """Two copies of one document are the same text."""
    assert canonical({"b": 1, "a": {"d": "\u00e9", "c": [1, 2]}}) == '{"a":{"c":[1,2],"d":"\u00e9"},"b":1}'


def test_a_baton_of_another_version() -> None:
    """A field it does not know is passed over; one that is missing is an error."""
    known = {"migration": "m", "attempt": 1, "epoch": 1, "domain": "d", "uuid": "u", "source": "a", "destination": "b"}
    assert Baton.model_validate(known | {"flags": 1, "of_tomorrow": 5}).flags == 1
    with pytest.raises(ValidationError):
        Baton.model_validate(known)


def test_the_first_error_keeps_its_class() -> None:
    """What a hypervisor said about retrying travels with it; other errors are final."""
    error = HypervisorError("text", code="X", retry=Retry.VERIFY, after=Retry.TRANSIENT)
    info = ErrorInfo.of(error, "perform")
    assert (info.code, info.message, info.retry, info.after) == ("X", "text", Retry.VERIFY, Retry.TRANSIENT)
    assert ErrorInfo.of(Failed("late", code="deadline"), "perform").after is Retry.PERMANENT


@pytest.mark.parametrize("ident", ["a", "3f2a91d0-0000-4000-8000-000000000000", "batch_7.1"])
def test_ids(ident: str) -> None:
    """Uuids and plain names are ids."""
    assert IDENT.fullmatch(ident)


@pytest.mark.parametrize("ident", ["", "a:events", "a b", "-a", ".", "\u00e9", "a\n", "x" * 129, "\u0663"])
def test_no_ids(ident: str) -> None:
    """What could name another key is none."""
    assert not IDENT.fullmatch(ident)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\n", "a\x00", "x" * 256])
def test_a_name_that_would_be_a_path_is_refused(name: str) -> None:
    """libvirt makes paths of destination_name: the rule is that of every other name."""
    with pytest.raises(Rejected, match="params") as refusal:
        MigrateRequest.parse({"domain": "a", "destination": "b", "params": {"destination_name": name}})
    assert refusal.value.code == "malformed"


@pytest.mark.parametrize("name", ["a", "...", ".a", "x" * 255, "grün 1", "a;b"])
def test_a_name_that_is_none_of_these_is_taken(name: str) -> None:
    """Whatever else is in a name is the hypervisor's business."""
    params = {"destination_name": name}
    assert MigrateRequest.parse({"domain": "a", "destination": "b", "params": params}).params == params


@pytest.mark.parametrize(
    ("name", "most"),
    [("bandwidth", 8_796_093_022_207), ("bandwidth.postcopy", 17_592_186_044_415), ("disks_port", 65_535)],
)
def test_the_range_of_each_bounded_parameter(name: str, most: int) -> None:
    """Both ends are in, what is beyond is out, and the message says what is taken."""
    for value in (0, most):
        MigrateRequest.parse({"domain": "a", "destination": "b", "params": {name: value}})
    for value in (-1, most + 1):
        with pytest.raises(Rejected, match=f"{name} takes 0 to {most}, not {value}"):
            MigrateRequest.parse({"domain": "a", "destination": "b", "params": {name: value}})


def test_a_speed_may_be_asked_for_beforehand_as_it_may_be_set() -> None:
    """The most that set-speed takes is the most that the parameter takes."""
    assert TUNING_RANGES[TuningKind.SPEED][1] == PARAMS["bandwidth"].most
    assert TUNING_RANGES[TuningKind.POSTCOPY_SPEED][1] == PARAMS["bandwidth.postcopy"].most
