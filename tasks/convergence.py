"""What a request may ask of perform so that it comes to an end: pure decisions."""

from __future__ import annotations

from worker.contract import MigrateRequest
from worker.errors import Rejected
from worker.hypervisors.convergence import Convergence, StallAction
from worker.hypervisors.flags import MigrateFlag


def convergence(request: MigrateRequest, profile: str, flags: int, default: StallAction) -> Convergence:
    """What perform of this request does about stalls and time-outs.

    ``default`` is the settings' action; where driver or flags do not allow it a stall is only reported.
    Raises ``Rejected`` where the request itself asks for what cannot be done.
    """
    if request.on_timeout is not None and request.timeout_seconds is None:
        raise Rejected(
            f"on_timeout={request.on_timeout} says what to do after timeout_seconds; give that too, or leave it out",
            code="needs-timeout",
        )
    asked = _asked(request)
    if asked and profile != "qemu":
        raise Rejected(
            f"{asked[0]} on driver {profile}: the Virtuozzo SDK cannot steer a running migration; leave it out, "
            "deadline_seconds and cancel work",
            code="not-supported",
        )
    if request.timeout_seconds is not None and (not flags & MigrateFlag.LIVE or flags & MigrateFlag.OFFLINE):
        raise Rejected(
            "timeout_seconds is for a guest that runs while it moves; ask for LIVE and not OFFLINE, or leave it out",
            code="timeout-needs-live",
        )
    if asked and flags & MigrateFlag.OFFLINE:
        raise Rejected(
            f"{asked[0]} with OFFLINE: a definition is moved in one step, there is no perform to steer; leave it out",
            code="not-supported",
        )
    if not flags & MigrateFlag.POSTCOPY and (needing := _needs_postcopy(request)):
        raise Rejected(f"{needing} needs the flag POSTCOPY; ask for that too (--postcopy)", code="needs-postcopy")
    return Convergence(
        on_stall=request.on_stall or _allowed(default, profile, flags),
        timeout_seconds=request.timeout_seconds,
        on_timeout=request.on_timeout or StallAction.SUSPEND,
        postcopy_after_precopy=request.postcopy_after_precopy,
    )


def _asked(request: MigrateRequest) -> list[str]:
    """What of the request steers perform beyond telling of a stall."""
    wishes = {
        f"on_stall={request.on_stall}": request.on_stall not in (None, StallAction.REPORT),
        "timeout_seconds": request.timeout_seconds is not None,
        "postcopy_after_precopy": request.postcopy_after_precopy,
    }
    return [name for name, wished in wishes.items() if wished]


def _needs_postcopy(request: MigrateRequest) -> str:
    if request.on_stall is StallAction.POSTCOPY:
        return "on_stall=postcopy"
    if request.on_timeout is StallAction.POSTCOPY:
        return "on_timeout=postcopy"
    return "postcopy_after_precopy" if request.postcopy_after_precopy else ""


def _allowed(default: StallAction, profile: str, flags: int) -> StallAction:
    steers = profile == "qemu" and not flags & MigrateFlag.OFFLINE
    switches = default is not StallAction.POSTCOPY or bool(flags & MigrateFlag.POSTCOPY)
    return default if steers and switches else StallAction.REPORT
