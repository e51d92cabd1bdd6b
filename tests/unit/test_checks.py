"""The validator against the cases that were taken from libvirt 9.0.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from worker.cli.check import check as check_command
from worker.hypervisors.checks import check_line

CASES = {
    case["id"]: case
    for case in map(json.loads, (Path(__file__).parent / "data" / "cases-sample.jsonl").read_text().splitlines())
}

NEEDS_A_HOST = {
    "vz-prepare-fail-no-confirm": "the fault is injected on the destination",
    "vz-perform-fail-calls": "the fault is injected on the source",
    "job-abort-paused-source": "aborted while data flows",
    "job-destroy-dst": "the destination's domain is destroyed while data flows",
    "job-postcopy-pause-resume": "needs a post-copy migration that broke before",
    "job-chain-separate-connections": "needs connections that close between the phases",
}


@pytest.mark.parametrize("name", [name for name in CASES if name not in NEEDS_A_HOST])
def test_the_verdict_is_libvirts(name: str) -> None:
    """Verdict, code and text are those that were seen."""
    case: dict[str, Any] = CASES[name]
    verdict = check_line(json.dumps(case))
    assert (verdict.ok, verdict.error_code) == (case["expect"] == "ok", case["error_code"]), verdict
    if case["error_contains"]:
        assert case["error_contains"] in (verdict.message or "")
    if case.get("observed") and "hazard" not in case:
        # all of the text that was seen, but for libvirt's class prefix
        assert case["observed"].endswith(verdict.message)


def test_no_case_is_forgotten() -> None:
    """Each case that needs a host exists; all others are answered."""
    assert len(CASES) == 174
    assert CASES.keys() >= NEEDS_A_HOST.keys()


def answers(text: str | bytes) -> list[dict[str, Any]]:
    """What ``vmrelay check`` prints for this standard input."""
    result = CliRunner().invoke(check_command, input=text)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_the_command_answers_line_by_line() -> None:
    """Each line of input gives one line of output; what makes no sense does not stop the stream."""
    good = json.dumps({"hypervisor": "vz-seed", "api": "begin3", "flags_value": "0x809"})
    bad = json.dumps({"hypervisor": "vz-seed", "api": "begin3", "flags_value": "0x808"})
    got = answers("\n".join([good, "{", bad, "[]", "", good]) + "\n")
    assert [(a["ok"], a["error_code"]) for a in got] == [
        (True, None),
        (False, "bad-request"),
        (False, "VIR_ERR_INVALID_ARG"),
        (False, "bad-request"),
        (True, None),
    ]
    assert got[0] == {"ok": True, "error_code": None, "message": None}
    assert got[2]["message"] == "flags VIR_MIGRATE_LIVE must be set for vz migration"


@pytest.mark.parametrize(
    "change",
    [
        {"hypervisor": "xen"},
        {"hypervisor": 1},
        {"hypervisor": ["qemu"]},
        {"api": "nope"},
        {"api": None},
        {"flags": ["NOPE"]},
        {"flags": [1]},
        {"flags": True},
        {"flags": {"LIVE": True}},
        {"flags_value": "0x1ffffffff"},
        {"flags_value": 1.5},
        {"params": []},
        {"params": {"bandwidth": None}},
        {"params": {"bandwidth": -1}},
        {"params": {"migrate_uri": {"a": 1}}},
        {"params": {"migrate_uri": "a\0b"}},
        {"typed_params": {}},
        {"typed_params": [["bandwidth", "ullong"]]},
        {"typed_params": [["bandwidth", "number", 1]]},
        {"typed_params": [["bandwidth", "ullong", "1"]]},
        {"state": "asleep"},
        {"state": ["running"]},
        {"cookie": 5},
        {"dconnuri": 5},
        {"cancelled": "yes"},
        {"cancelled": [1]},
        {"ro": 1},
        {"cfg": 1},
        {"dst_setup": 1},
        {"api": "virsh", "argv": "migrate"},
        {"api": "virsh", "argv": [1]},
    ],
)
def test_a_request_that_makes_no_sense_is_a_bad_request(change: dict[str, Any]) -> None:
    """Wrong names and wrong types have one code, whatever the call."""
    request = {"hypervisor": "qemu", "api": "migrate3", "flags": ["LIVE"], "params": {}, **change}
    (answer,) = answers(json.dumps(request) + "\n")
    assert (answer["ok"], answer["error_code"]) == (False, "bad-request")
    assert answer["message"]


def test_bytes_that_are_no_text_are_a_bad_request() -> None:
    """Input that is no UTF-8, or nested without end, is answered like any other line."""
    got = answers(b"\xff\xfe{}\n" + b"[" * 100_000 + b"\n")
    assert [answer["error_code"] for answer in got] == ["bad-request", "bad-request"]
