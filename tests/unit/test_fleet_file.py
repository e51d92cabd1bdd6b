"""A problem from a file: whole or in short, and mistakes by line and by name."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.contract.plans import Goal, GuestSpec, HostSpec, Problem
from worker.errors import Rejected
from worker.fleet import problem_from_file

WHOLE = Problem(
    hosts=(HostSpec(name="alpha", memory_mib=4096), HostSpec(name="beta", memory_mib=4096)),
    guests=(GuestSpec(id="u1", name="web", host="alpha", memory_mib=1024),),
    goal=Goal(kind="drain", hosts=("alpha",)),
)


def read(tmp_path: Path, told: Any, goal: Goal | None = None) -> Problem:
    """The problem of a file with this JSON, or with this text."""
    path = tmp_path / "problem.json"
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    return problem_from_file(path, goal) if goal else problem_from_file(path)


def refusal(tmp_path: Path, told: Any) -> str:
    """Why a file is refused."""
    with pytest.raises(Rejected) as refused:
        read(tmp_path, told)
    assert refused.value.code == "bad-file"
    return str(refused.value)


def test_what_a_problem_was_written_as_is_read_again(tmp_path: Path) -> None:
    """A whole document keeps its own goal."""
    assert read(tmp_path, WHOLE.model_dump_json(), Goal(kind="balance")) == WHOLE


def test_the_short_form_is_by_name(tmp_path: Path) -> None:
    """Hosts and guests as objects, memory in GiB, no ids, no goal: what somebody writes by hand."""
    short = {
        "hosts": {"alpha": {"memory_gib": 4}, "beta": {"memory_mib": 4096}},
        "guests": {"web": {"host": "alpha", "memory_gib": 1.5, "cpu_cores": 2}},
    }
    found = read(tmp_path, short, Goal(kind="consolidate"))
    assert [(host.name, host.memory_mib) for host in found.hosts] == [("alpha", 4096), ("beta", 4096)]
    (web,) = found.guests
    assert (web.id, web.name, web.memory_mib, web.cpu_cores) == ("web", "web", 1536, 2)
    assert found.goal.kind == "consolidate"
    assert read(tmp_path, short).goal.kind == "balance"


def test_a_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    """JSON that is none says where it ends to be it."""
    assert "line 2, column 11" in refusal(tmp_path, '{\n"hosts": [,]}')


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"hosts": {"alpha": {"memory_gib": -4}}, "guests": {}}, "hosts.alpha.memory_mib"),
        ({"hosts": {}, "guests": {"web": {"host": "alpha"}}}, "guests.web.memory_mib"),
        ({"hosts": {}, "guests": {"web": 3}}, "guests.web"),
        ({"hosts": [{"name": "alpha", "memory_mib": 1, "colour": "red"}], "guests": []}, "hosts.0.colour"),
        ({"hosts": {}, "guests": {}, "goal": {"kind": "win"}}, "goal.kind"),
        ({"hosts": {}}, "guests"),
        ({"hosts": {"al pha": {"memory_mib": 1}}, "guests": {}}, "hosts.al pha.name"),
        ({"hosts": {"alpha": {"memory_mib": 1, "cpu_cores": 1e400}}, "guests": {}}, "hosts.alpha.cpu_cores"),
        ([], "no JSON object"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_mistake_is_told_with_its_field(tmp_path: Path, told: Any, named: str) -> None:
    """The host or guest is named as the file names it, and then the field."""
    assert named in refusal(tmp_path, told)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """No file, a folder, and bytes that are no text."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe{")
    for name, why in (("none", "No such file"), (".", "directory"), ("bytes", "UTF-8")):
        with pytest.raises(Rejected, match=why):
            problem_from_file(tmp_path / name)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(
    st.dictionaries(st.sampled_from(["hosts", "guests", "goal", "rules", "version", "x"]), json_values),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_is_more_than_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    """Whatever JSON a file holds, it is a problem or it is refused with a reason."""
    path = tmp_path / "any.json"
    path.write_text(json.dumps(told))
    with contextlib.suppress(Rejected):
        found = problem_from_file(path)
        assert Problem.model_validate_json(found.model_dump_json()) == found
