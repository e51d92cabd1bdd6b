"""Typed migration parameters and the check that every phase makes first."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.errors import Rejected
from worker.hypervisors.base import Phase
from worker.hypervisors.params import (
    PARAMS,
    RANGES,
    ParamType,
    TypedParam,
    param_specs,
    typed_param,
    typed_params,
    validate_params,
)

SAMPLES: dict[ParamType, str | int | float] = {
    ParamType.STRING: "x",
    ParamType.INT: 1,
    ParamType.UINT: 1,
    ParamType.LLONG: 1,
    ParamType.ULLONG: 1,
    ParamType.DOUBLE: 1.5,
    ParamType.BOOLEAN: True,
}
names = st.sampled_from([*PARAMS, "speed", "a", "zzz"])
json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4)


def refusal(driver: str, *entries: TypedParam) -> tuple[str, str] | None:
    """What the check says of these entries."""
    try:
        for phase in Phase:
            validate_params(driver, phase, entries)
    except Rejected as error:
        return error.code, error.message
    return None


def test_there_are_libvirts_parameters() -> None:
    """Twenty parameters; two may repeat; vz takes four."""
    assert len(PARAMS) == 20
    assert {spec.name for spec in PARAMS.values() if spec.repeatable} == {"migrate_disks", "compression"}
    assert set(param_specs("vz")) == {"migrate_uri", "destination_name", "destination_xml", "bandwidth"}
    assert set(param_specs("qemu")) == set(PARAMS)


@pytest.mark.parametrize("driver", ["vz", "vz-libvirt", "qemu"])
def test_every_parameter_of_every_type(driver: str) -> None:
    """A driver takes its own parameters with their one type and names every other."""
    specs = param_specs(driver)
    for name, kind in itertools.product(PARAMS, ParamType):
        got = refusal(driver, TypedParam(name, kind, SAMPLES[kind]))
        if name not in specs:
            assert got == ("VIR_ERR_ARGUMENT_UNSUPPORTED", f"parameter '{name}' not supported")
        elif kind is specs[name].type:
            assert got is None
        else:
            text = f"invalid type '{kind}' for parameter '{name}', expected '{specs[name].type}'"
            assert got == ("VIR_ERR_INVALID_ARG", text)


def test_a_duplicate_is_found_before_its_wrong_type() -> None:
    """The second entry of a name is a duplicate whatever its type is."""
    first, second = TypedParam("bandwidth", ParamType.ULLONG, 1), TypedParam("bandwidth", ParamType.INT, 1)
    assert refusal("qemu", first, second) == (
        "VIR_ERR_INVALID_ARG",
        "parameter 'bandwidth' occurs multiple times",
    )


def test_errors_come_in_the_order_of_names() -> None:
    """The first bad name in the alphabet is reported, an unknown one too."""
    wrong = TypedParam("bandwidth", ParamType.INT, 1)
    assert refusal("qemu", TypedParam.string("zzz", "x"), wrong) == (
        "VIR_ERR_INVALID_ARG",
        "invalid type 'int' for parameter 'bandwidth', expected 'ullong'",
    )
    assert refusal("qemu", wrong, TypedParam.string("aaa", "x")) == (
        "VIR_ERR_ARGUMENT_UNSUPPORTED",
        "parameter 'aaa' not supported",
    )


def test_a_list_means_repeated_entries() -> None:
    """Each value of a list becomes an entry of its own, with the type that the name asks for."""
    entries = typed_params({"migrate_disks": ["vda", "vdb"], "bandwidth": 5, "disks_port": 0, "speed": 5})
    assert [(e.name, str(e.type), e.value) for e in entries] == [
        ("migrate_disks", "string", "vda"),
        ("migrate_disks", "string", "vdb"),
        ("bandwidth", "ullong", 5),
        ("disks_port", "int", 0),
        ("speed", "llong", 5),
    ]
    assert refusal("qemu", *entries[:4]) is None


def test_a_value_of_another_kind_keeps_its_own_type() -> None:
    """A text where a number belongs is named as libvirt would name it."""
    entries = typed_params({"bandwidth": "5", "disks_port": True})
    assert refusal("qemu", *entries) == (
        "VIR_ERR_INVALID_ARG",
        "invalid type 'string' for parameter 'bandwidth', expected 'ullong'",
    )


@pytest.mark.parametrize("kind", list(RANGES))
def test_numbers_beyond_their_type_are_no_request(kind: ParamType) -> None:
    """The ends of a range fit, one step further does not."""
    low, high = RANGES[kind]
    assert [typed_param("n", kind, value).value for value in (low, high)] == [low, high]
    for value in (low - 1, high + 1, True, 1.5, "1"):
        with pytest.raises(Rejected, match=rf"\({low} to {high}\)$") as error:
            typed_param("n", kind, value)
        assert error.value.code == "bad-request"


@settings(max_examples=50)
@given(st.dictionaries(names, json_values, max_size=4), st.sampled_from(["vz", "qemu"]))
def test_conversion_and_check_are_total(params: dict[str, object], driver: str) -> None:
    """Any JSON gives entries and a verdict, or a refusal."""
    try:
        entries = typed_params(params)
    except Rejected as error:
        code = error.code
    else:
        code = (refusal(driver, *entries) or ("bad-request", ""))[0]
    assert code in ("bad-request", "VIR_ERR_INVALID_ARG", "VIR_ERR_ARGUMENT_UNSUPPORTED")
