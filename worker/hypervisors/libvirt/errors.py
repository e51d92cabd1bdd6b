"""libvirt's errors, classed for retry: a table, read from top to bottom.

A class says what may be done once it is known that the failed call had no effect. Where a call may have
had one (perform, finish and so on) and the error does not prove otherwise, the class becomes
``Retry.VERIFY`` and the table's class is what holds after both sides have been looked at. An error that
is not in the table is never retried blindly: verify, then an operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import libvirt

from worker.errors import HypervisorError, Retry

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: which errors, what may be done, and why."""

    code: str
    """``virErrorNumber`` by name."""
    text: str
    """Part of the message, where the code alone says too little; empty for any message."""
    retry: Retry
    reason: str
    untouched: bool = False
    """The error proves that the domain was not touched, whichever call it comes from."""
    slow: bool = False
    tries: int | None = None


_TRANSIENT, _PERMANENT, _OPERATOR, _DONE = Retry.TRANSIENT, Retry.PERMANENT, Retry.OPERATOR, Retry.DONE
_INVALID, _FAILED, _INTERNAL = "VIR_ERR_OPERATION_INVALID", "VIR_ERR_OPERATION_FAILED", "VIR_ERR_INTERNAL_ERROR"

RULES: tuple[Rule, ...] = (
    # the connection
    Rule("VIR_ERR_SYSTEM_ERROR", "Cannot access storage file", _OPERATOR, "the disk cannot be reached there"),
    Rule("VIR_ERR_SYSTEM_ERROR", "No space left on device", _OPERATOR, "the host's disk is full"),
    Rule("VIR_ERR_SYSTEM_ERROR", "cannot limit locked memory", _OPERATOR, "the daemon may not lock memory (zero-copy)"),
    Rule("VIR_ERR_SYSTEM_ERROR", "", _TRANSIENT, "a socket broke, or nobody listens: the daemon restarts"),
    Rule("VIR_ERR_RPC", "", _TRANSIENT, "the stream of messages broke off"),
    Rule("VIR_ERR_NO_CONNECT", "", _TRANSIENT, "the daemon does not answer yet"),
    Rule("VIR_ERR_INVALID_CONN", "", _TRANSIENT, "the connection was closed meanwhile"),
    Rule(_INTERNAL, "client socket is closed", _TRANSIENT, "the connection was lost before the call went out"),
    Rule(_INTERNAL, "keepalive", _TRANSIENT, "the daemon did not answer in time and was given up"),
    Rule("VIR_ERR_AUTH_FAILED", "", _OPERATOR, "the credentials are not accepted", untouched=True),
    Rule("VIR_ERR_AUTH_CANCELLED", "", _OPERATOR, "the daemon wants credentials", untouched=True),
    Rule("VIR_ERR_AUTH_UNAVAILABLE", "", _OPERATOR, "no way to authenticate is configured", untouched=True),
    Rule("VIR_ERR_ACCESS_DENIED", "", _OPERATOR, "the access rules of the host refuse this user", untouched=True),
    Rule("VIR_ERR_OPERATION_DENIED", "", _OPERATOR, "the connection is read-only", untouched=True),
    # locks and jobs
    Rule("VIR_ERR_OPERATION_TIMEOUT", "", _TRANSIENT, "another job holds the domain", untouched=True, slow=True),
    Rule("VIR_ERR_RESOURCE_BUSY", "", _TRANSIENT, "somebody else uses the domain", untouched=True, slow=True),
    Rule(_INVALID, "another migration job is already running", _TRANSIENT, "one at a time", untouched=True, slow=True),
    Rule("VIR_ERR_OPERATION_ABORTED", "", _OPERATOR, "somebody aborted the job on purpose"),
    # done already
    Rule("VIR_ERR_MIGRATE_FINISH_OK", "", _DONE, "a cancelled finish went well"),
    Rule(_INVALID, "is not processing incoming migration", _DONE, "finish was called before"),
    Rule(_INVALID, "is not being migrated", _DONE, "confirm was called before, or the job was cleaned up"),
    # the domain
    Rule("VIR_ERR_NO_DOMAIN", "", _PERMANENT, "the domain is not on this host"),
    Rule("VIR_ERR_DOM_EXIST", "", _PERMANENT, "the name is taken on the destination", untouched=True),
    Rule(_FAILED, "already exists with uuid", _PERMANENT, "the name is taken on the destination", untouched=True),
    Rule(_INVALID, "domain is not running", _PERMANENT, "only an active domain moves live"),
    Rule(_FAILED, "domain is not running", _PERMANENT, "the guest's process died on the source"),
    Rule(_INVALID, "cannot migrate domain", _OPERATOR, "snapshots or devices must go first", untouched=True),
    Rule(_INVALID, "is already active", _PERMANENT, "it runs on the destination, or prepare was called before"),
    Rule(_INVALID, "in post-copy mode", _OPERATOR, "past the switch there is no way back"),
    # post-copy, storage, TLS, peer-to-peer
    Rule(_FAILED, "in post-copy phase", _OPERATOR, "each side holds a part of the guest: resume it, remove neither"),
    Rule(_FAILED, "migration of disk", _TRANSIENT, "the copy of a disk broke off", tries=3),
    Rule("VIR_ERR_NO_STORAGE_POOL", "", _OPERATOR, "the destination has no pool where the disk is to be"),
    Rule("VIR_ERR_NO_STORAGE_VOL", "", _OPERATOR, "the destination lacks the disk"),
    Rule("VIR_ERR_NO_NETWORK", "", _OPERATOR, "the destination lacks the guest's network"),
    Rule("VIR_ERR_NO_SECRET", "", _OPERATOR, "the destination lacks the secret of a disk"),
    Rule(_FAILED, "ertificate", _OPERATOR, "one side's certificate does not convince the other"),
    Rule(_FAILED, "TLS", _OPERATOR, "the two QEMUs do not agree on TLS"),
    Rule(_INTERNAL, "Unable to access credentials", _OPERATOR, "a certificate or key for QEMU is missing"),
    Rule(_FAILED, "Failed to connect to remote libvirt URI", _TRANSIENT, "the other daemon is away", untouched=True),
    # the data connection, and the other QEMU
    Rule(_INTERNAL, "Unable to find an unused port", _TRANSIENT, "every migration port is in use", slow=True),
    Rule(_FAILED, "migration out", _TRANSIENT, "the stream to the other QEMU broke", tries=3),
    Rule(_FAILED, "migration in", _TRANSIENT, "the stream from the other QEMU broke", tries=3),
    Rule(_FAILED, "migration failed", _TRANSIENT, "the destination did not take the guest", tries=3),
    Rule(_INTERNAL, "Unknown savevm section", _PERMANENT, "the definitions of the guest differ in a device"),
    Rule(_INTERNAL, "error while loading state", _PERMANENT, "the destination's QEMU does not take a device's state"),
    Rule(_INTERNAL, "unexpectedly closed the monitor", _TRANSIENT, "the other QEMU died", tries=3),
    # the request
    Rule(_INTERNAL, "QEMU command 'migrate-set-", _PERMANENT, "QEMU refuses a value, or the options together"),
    Rule(_INTERNAL, "Attempt to migrate guest to the same host", _PERMANENT, "one host", untouched=True),
    Rule(_INTERNAL, "migration cookie", _PERMANENT, "the two libvirts do not understand each other"),
    Rule(_INTERNAL, "migration protocol going backwards", _OPERATOR, "perform was called twice: look at both sides"),
    Rule("VIR_ERR_INVALID_ARG", "", _PERMANENT, "flags or parameters are wrong", untouched=True),
    Rule("VIR_ERR_ARGUMENT_UNSUPPORTED", "", _PERMANENT, "this host does not know the parameter", untouched=True),
    Rule("VIR_ERR_NO_SUPPORT", "", _PERMANENT, "this kind of hypervisor cannot do it", untouched=True),
    Rule("VIR_ERR_OPERATION_UNSUPPORTED", "", _PERMANENT, "this hypervisor or QEMU cannot do it"),
    Rule("VIR_ERR_CONFIG_UNSUPPORTED", "", _PERMANENT, "the domain's definition does not fit the host"),
    Rule("VIR_ERR_XML_ERROR", "", _PERMANENT, "the definition cannot be read", untouched=True),
    Rule("VIR_ERR_XML_DETAIL", "", _PERMANENT, "the definition cannot be read", untouched=True),
    Rule("VIR_ERR_OVERFLOW", "", _PERMANENT, "a parameter is too big", untouched=True),
    Rule("VIR_ERR_CPU_INCOMPATIBLE", "", _PERMANENT, "the destination's CPU lacks features", untouched=True),
    Rule("VIR_ERR_MIGRATE_UNSAFE", "", _PERMANENT, "disk caching makes it unsafe; UNSAFE overrides", untouched=True),
    # libvirt itself
    Rule("VIR_ERR_MIGRATE_PERSIST_FAILED", "", _OPERATOR, "the guest moved but its definition was not stored"),
    Rule("VIR_ERR_HOOK_SCRIPT_FAILED", "", _OPERATOR, "the host's own hook refuses, or fails"),
    Rule("VIR_ERR_NO_MEMORY", "", _OPERATOR, "the host has no memory left"),
)
UNKNOWN = Rule("", "", Retry.OPERATOR, "not known to this table")

_LEVELS = ("VIR_ERR_NONE", "VIR_ERR_WARNING", "VIR_ERR_ERROR")
_SYMBOLS: dict[int, str] = {
    getattr(libvirt, name): name for name in dir(libvirt) if name.startswith("VIR_ERR_") and name not in _LEVELS
}


def symbol(error: libvirt.libvirtError) -> str:
    """The name of an error's code, such as ``VIR_ERR_NO_DOMAIN``."""
    number = error.get_error_code()
    return _SYMBOLS.get(number, f"VIR_ERR_{number}") if number is not None else _INTERNAL


def rule_for(code: str, message: str) -> Rule:
    """The first rule that an error meets, or ``UNKNOWN``."""
    return next((rule for rule in RULES if rule.code == code and rule.text in message), UNKNOWN)


def classed(error: libvirt.libvirtError, *, effect: bool) -> HypervisorError:
    """A libvirt error as vmrelay's, with its class for retry.

    ``effect`` says that the call may have changed something although it failed. Only the first line
    of the message is kept: XML errors quote the document, which may hold passwords.
    """
    message = next(iter(str(error).splitlines()), "libvirt gave no reason")
    code = symbol(error)
    rule = rule_for(code, message)
    untouched = rule.untouched or not effect
    return HypervisorError(
        message,
        code=code,
        retry=rule.retry if untouched or rule.retry is Retry.DONE else Retry.VERIFY,
        after=rule.retry,
        untouched=untouched and rule.retry is not Retry.DONE,
        tries=rule.tries,
        slow=rule.slow,
    )


def tells_why(error: libvirt.libvirtError) -> bool:
    """Whether a cancelled finish's error says why the move failed (``virDomainMigrateVersion3Full``).

    The destination's QEMU driver saw its QEMU fail, unless it says that nothing was wrong. Other than for
    libvirt's own client, an incoming domain that is merely gone is no reason.
    """
    if error.get_error_domain() != libvirt.VIR_FROM_QEMU or error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
        return False
    return rule_for(symbol(error), str(error)).retry is not Retry.DONE


def calling(call: Callable[[], Result], *, effect: bool) -> Result:
    """Make a libvirt call; its error comes out classed (see ``classed``)."""
    try:
        return call()
    except libvirt.libvirtError as error:
        failure = classed(error, effect=effect)
    raise failure


def refused(message: str, *, code: str, retry: Retry = Retry.PERMANENT) -> HypervisorError:
    """A call that the driver does not even make."""
    return HypervisorError(message, code=code, retry=retry, untouched=True)
