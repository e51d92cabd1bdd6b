"""Every SDK code has its class, and a failed job's error says all that the SDK said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Retry
from worker.hypervisors.vz.codes import CODES, code_for
from worker.hypervisors.vz.failure import from_code
from worker.hypervisors.vz.sdk import Event, signed

LETTERS = {
    "D": Retry.DONE,
    "T": Retry.TRANSIENT,
    "+": Retry.REPREPARE,
    "V": Retry.VERIFY,
    "O": Retry.OPERATOR,
    "P": Retry.PERMANENT,
}
FACTS = {
    "D": "00000000 80000102 80031047 80031048",
    "T": """80000249 80000300 80000384 80000404 80000412 80000414 80000415 80000450 80000476 80000510 80000511
        80000521 80030000 80031018 80031024 80031031 80031054 80046900 80038100 80038103 80038104 80038105
        80038106 80038107 80038108 80038110 80038111 80038112 80038113 80038114 80038115 80038116 80038117
        80038118 80038122 80038123 80038124""",
    "+": "80000059 80000251 80030001",
    "V": """80000001 80000002 80000007 80000009 80000013 80000014 80000015 80000016 80000062 80000063 80000092
        80000105 80000114 80000246 80000275 80000349 80000401 80000406 80000447 80000516 80027027 80031026
        80031029 80031034 80031035 80031038 80031044 80031049 80031051 80037000 80038101 80038102 80038109""",
    "O": """80000005 80000037 80000049 80000110 80000115 80000234 80000239 80000283 80000285 80000297 80000327
        80000330 80000374 80000375 80000472 80000588 80000589 80004026 80011000 80011001 80011059 80031015
        80031019 80031020 80031021 80031022 80031023 80031027 80031046 80031052 80031055 80041103 80041104
        80044010 80046401""",
    "P": """80000003 80000004 80000006 80000008 80000018 80000036 80000070 80000091 80000252 80000277 80000287
        80000413 80000422 80027035 80031000 80031004 80031005 80031017 80031037 80031040 80031043 80031045
        80031053 80041203 80044006""",
}
CLASSES = [(int(number, 16), LETTERS[letter]) for letter, line in FACTS.items() for number in line.split()]


@pytest.mark.parametrize(
    ("number", "expected"), CLASSES, ids=lambda value: f"{value:08x}" if type(value) is int else value
)
def test_every_code_has_the_class_of_the_facts(number: int, expected: Retry) -> None:
    """The table in code says what the facts say, for signed codes too."""
    assert code_for(signed(number)).retry is expected
    assert number in CODES


def test_the_table_holds_nothing_else() -> None:
    """Codes that the facts do not name are unknown ones."""
    assert set(CODES) == {number for number, _ in CLASSES} | {31028}


def test_every_entry_has_a_symbol_of_its_own_and_a_reason() -> None:
    """Symbols are stable codes of errors: two of them never share one."""
    symbols = [entry.symbol for entry in CODES.values()]
    assert len(set(symbols)) == len(symbols)
    assert all(entry.symbol.startswith("PRL_") and entry.reason for entry in CODES.values())


@given(st.integers(0x80000000, 0xFFFFFFFF).filter(lambda number: number not in CODES))
def test_an_unknown_failure_is_looked_at_and_then_given_to_an_operator(number: int) -> None:
    """Nobody repeats what nobody understands."""
    entry = code_for(signed(number))
    assert (entry.retry, entry.after, entry.untouched) == (Retry.VERIFY, Retry.OPERATOR, False)
    assert entry.symbol == f"0x{number:08x}"


@given(st.integers(0, 0x7FFFFFFF))
def test_a_positive_code_is_no_failure(number: int) -> None:
    """Information such as 31028 (storage is shared) never stops a migration."""
    assert code_for(number).retry is Retry.DONE


def test_locks_and_shutdowns_wait_longer() -> None:
    """Backups and shutdowns last: their backoff is the slow one."""
    assert code_for(0x80038113).slow
    assert code_for(0x80000404).slow
    assert not code_for(0x80000510).slow


def test_an_error_names_symbol_text_and_causes() -> None:
    """The text is the symbol with the SDK's words, then each nested event likewise."""
    nested = [Event(0, err_code=signed(0x80031015), err_string="No room."), Event(0, err_code=signed(0x8DEAD000))]
    error = from_code(signed(0x80031000), Event(0, err_string="Not possible."), nested)
    assert error.code == "PRL_ERR_VM_MIGRATE_CHECKING_PRECONDITIONS_FAILED"
    assert str(error) == (
        "PRL_ERR_VM_MIGRATE_CHECKING_PRECONDITIONS_FAILED: Not possible. "
        "[PRL_ERR_VM_MIGRATE_NOT_ENOUGH_DISK_SPACE_ON_TARGET: No room.; 0x8dead000: a code nobody knows]"
    )
    assert str(from_code(0x80000015)).startswith("PRL_ERR_TIMEOUT: ")


@pytest.mark.parametrize(
    ("nested", "expected"),
    [
        ([], Retry.PERMANENT),
        ([0x80031015], Retry.OPERATOR),
        ([0x80031015, 0x80031004], Retry.PERMANENT),
        ([0x80000521], Retry.TRANSIENT),
        ([0x80000521, 0x80000001], Retry.VERIFY),
        ([31028, 0x80000521], Retry.TRANSIENT),
        ([31028], Retry.PERMANENT),
    ],
)
def test_the_envelope_takes_the_worst_class_of_its_causes(nested: list[int], expected: Retry) -> None:
    """0x80031000 is what its nested events are; without any it is permanent; it is always untouched."""
    error = from_code(0x80031000, nested=[Event(0, err_code=signed(code)) for code in nested])
    assert (error.retry, error.untouched) == (expected, True)


def test_session_uuids_are_cut_out_of_texts() -> None:
    """Whatever a dispatcher writes, a session uuid never reaches an error's text."""
    secret = "2f1c4a52-8a64-4b6e-9d0f-1f2e3d4c5b6a"
    other = "11111111-2222-4333-8444-555555555555"
    text = f"no {{{secret.upper()}}} here, session uuid={{{other}}} neither"
    error = from_code(0x80030001, Event(0, err_string=text), hide=(f"{{{secret}}}",))
    assert secret not in str(error).lower()
    assert other not in str(error)
