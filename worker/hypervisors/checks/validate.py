"""One question in, one verdict out: the entry that ``vmrelay check`` serves."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from worker.errors import Rejected
from worker.hypervisors.base import Phase
from worker.hypervisors.checks import frontend, jobs, qemu, virsh, vz
from worker.hypervisors.checks.refusals import invalid_operation
from worker.hypervisors.checks.request import CheckRequest, bad_request, parse_request
from worker.hypervisors.flags import MigrateFlag


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether libvirt would take the call, and if not, its symbol and text.

    ``error_code`` is ``None`` for what virsh says, since virsh prints no code, and ``bad-request``
    where the question makes no sense.
    """

    ok: bool
    error_code: str | None = None
    message: str | None = None


def check(request: CheckRequest) -> Verdict:
    """The verdict on one call; never raises."""
    try:
        _dispatch(request)
    except Rejected as refusal:
        code = None if request.api == "virsh" and refusal.code != "bad-request" else refusal.code
        return Verdict(False, code, refusal.message)
    return Verdict(True)


def check_line(line: str) -> Verdict:
    """The verdict on one line of JSON; never raises."""
    try:
        request = parse_request(line)
    except Rejected as refusal:
        return Verdict(False, refusal.code, refusal.message)
    return check(request)


_ENTRY_POINTS: dict[str, Callable[[CheckRequest], None]] = {
    "migrate3": frontend.check_migrate3,
    "migrate": lambda request: frontend.check_migrate(request, "virDomainMigrate"),
    "migrate2": lambda request: frontend.check_migrate(request, "virDomainMigrate2"),
    "touri": lambda request: frontend.check_to_uri(request, "virDomainMigrateToURI", "duri"),
    "touri2": lambda request: frontend.check_to_uri(request, "virDomainMigrateToURI2", "dconnuri"),
    "touri3": lambda request: frontend.check_to_uri(request, "virDomainMigrateToURI3", "dconnuri"),
    "virsh": virsh.check_virsh,
    "abort": jobs.check_abort,
    "abort on destination": jobs.check_abort_incoming,
    "abort on destination while the vm waits in prepare": jobs.check_abort_incoming,
    "startpostcopy": jobs.check_start_postcopy,
    **{f"{phase}3": partial(frontend.check_call, phase=phase) for phase in Phase},
}
_CALL = re.compile(r"(begin|prepare|perform|finish|confirm)3(?:params)?(?:\([^)]*\))?")
_ALIASES = {
    "abortjob": "abort",
    "migratestartpostcopy": "startpostcopy",
    **{f"migrate{name}": name for name in ("touri", "touri2", "touri3")},
    **{f"migrate{phase}3": f"{phase}3" for phase in Phase},
}
_REMARK = re.compile(r"\s*\(virdomain[^)]*\)$|\s+then close$")
_TWICE = re.compile(r"(begin|prepare|perform|finish|confirm)3 twice")


def _dispatch(request: CheckRequest) -> None:
    """``api`` names an entry point, or a chain of phase calls over one connection."""
    api = request.api.strip().lower()
    name = _REMARK.sub("", api).removeprefix("virdomain").removesuffix("params")
    name = _ALIASES.get(name, name)
    if twice := _TWICE.fullmatch(api):
        _check_chain(request, _until(Phase(twice[1])))
        raise _repeated(request, Phase(twice[1]))
    if name in _ENTRY_POINTS:
        _ENTRY_POINTS[name](request)
        return
    calls = [_CALL.fullmatch(part.strip()) for part in api.split(",")]
    phases = [Phase(call[1]) for call in calls if call]
    if len(phases) < len(calls):
        raise bad_request(f"api must be one of {', '.join(_ENTRY_POINTS)}, not '{request.api}'")
    _check_chain(request, phases)


def _until(last: Phase) -> list[Phase]:
    phases = list(Phase)
    return phases[: phases.index(last) + 1]


def _check_chain(request: CheckRequest, phases: list[Phase]) -> None:
    """The calls of a managed migration; the caller hands on what a phase returned."""
    if Phase.PERFORM in phases or Phase.PREPARE in phases:
        _check_managed(request)
    else:
        frontend.check_call(request, Phase.BEGIN)


def _check_managed(request: CheckRequest) -> None:
    if request.hypervisor == "qemu":
        qemu.check_all_phases(request)
    else:
        vz.check_all_phases(request)


def _repeated(request: CheckRequest, phase: Phase) -> Rejected:
    """What the QEMU driver answers when a phase that succeeded is called again."""
    gone = request.flags & MigrateFlag.UNDEFINE_SOURCE or "transient" in request.cfg
    if phase is Phase.CONFIRM and gone:
        return Rejected(f"no domain with matching uuid '{request.uuid}' ({request.domain})", code="VIR_ERR_NO_DOMAIN")
    if request.hypervisor != "qemu":
        raise bad_request("only the QEMU driver is known to refuse a repeated phase")
    name = request.domain
    if phase is Phase.PERFORM:
        text = "migration protocol going backwards perform3_done => perform3"
        return Rejected(text, code="VIR_ERR_INTERNAL_ERROR")
    return invalid_operation(
        {
            Phase.BEGIN: f"another migration job is already running for domain '{name}'",
            Phase.PREPARE: f"domain '{name}' is already active",
            Phase.FINISH: f"domain '{name}' is not processing incoming migration",
            Phase.CONFIRM: f"domain '{name}' is not being migrated",
        }[phase]
    )
