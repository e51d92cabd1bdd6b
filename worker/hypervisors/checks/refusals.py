"""How libvirt words a refusal: its error symbols and the macros that most checks are made of.

Every function raises ``Rejected`` whose code is libvirt's symbol and whose message is libvirt's text
without the class prefix (``invalid argument: ``). Source: ``src/internal.h`` of libvirt 9.0.0.
"""

from __future__ import annotations

from worker.errors import Rejected
from worker.hypervisors.flags import MigrateFlag, flag_names


def invalid_arg(message: str) -> Rejected:
    """``VIR_ERR_INVALID_ARG``."""
    return Rejected(message, code="VIR_ERR_INVALID_ARG")


def unsupported_arg(message: str) -> Rejected:
    """``VIR_ERR_ARGUMENT_UNSUPPORTED``."""
    return Rejected(message, code="VIR_ERR_ARGUMENT_UNSUPPORTED")


def invalid_operation(message: str) -> Rejected:
    """``VIR_ERR_OPERATION_INVALID``."""
    return Rejected(message, code="VIR_ERR_OPERATION_INVALID")


def unsupported_operation(message: str) -> Rejected:
    """``VIR_ERR_OPERATION_UNSUPPORTED``."""
    return Rejected(message, code="VIR_ERR_OPERATION_UNSUPPORTED")


def internal(message: str) -> Rejected:
    """``VIR_ERR_INTERNAL_ERROR``."""
    return Rejected(message, code="VIR_ERR_INTERNAL_ERROR")


def check_mask(flags: int, supported: int, function: str) -> None:
    """``virCheckFlags``: the number in the message holds only the offending bits."""
    if offending := flags & ~supported:
        raise invalid_arg(f"unsupported flags (0x{offending:x}) in function {function}")


def check_exclusive(flags: int, one: MigrateFlag, other: MigrateFlag) -> None:
    """``VIR_EXCLUSIVE_FLAGS_GOTO``."""
    if flags & one and flags & other:
        raise invalid_arg(f"Flags '{one.macro}' and '{other.macro}' are mutually exclusive")


def check_required(flags: int, flag: MigrateFlag, needs: MigrateFlag) -> None:
    """``VIR_REQUIRE_FLAG_GOTO``; ``needs`` may be a set of which any one will do."""
    if flags & flag and not flags & needs:
        raise invalid_arg(f"Flag '{' | '.join(flag_names(int(needs)))}' is required by flag '{flag.macro}'")
