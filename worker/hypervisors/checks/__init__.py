"""The validator: libvirt's migration checks in libvirt's order, without a host.

``check_migration`` is what the relay asks before it touches any host. ``validate.check`` answers
questions about any call that libvirt offers for migration (``vmrelay check``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from worker.errors import Rejected
from worker.hypervisors.base import DomainState, ParamValue
from worker.hypervisors.checks import frontend, vz
from worker.hypervisors.checks.qemu_domain import DISKS_UNKNOWN
from worker.hypervisors.checks.request import CheckRequest, State
from worker.hypervisors.checks.validate import Verdict, check, check_line
from worker.hypervisors.flags import MASK_BITS, FlagProfile, MigrateFlag, flag_names, profile
from worker.hypervisors.params import typed_params

__all__ = ["CheckRequest", "Verdict", "check", "check_line", "check_migration"]

_HYPERVISORS = {"vz": "vz-seed", "vz-libvirt": "vz", "qemu": "qemu"}
_STATES = {
    DomainState.ABSENT: State.ABSENT,
    DomainState.SHUTOFF: State.SHUTOFF,
    DomainState.CRASHED: State.CRASHED,
    DomainState.PAUSED: State.PAUSED,
    DomainState.PAUSED_OUT: State.PAUSED,
    DomainState.PAUSED_IN: State.PAUSED,
}


def check_migration(
    profile_name: str,
    flags: int,
    params: Mapping[str, ParamValue],
    state: DomainState,
    *,
    domain: str = "unnamed",
    uuid: str = "",
) -> None:
    """Whether a migration would be refused for its flags, parameters or state: managed, or peer-to-peer.

    Raises ``Rejected``: the code is libvirt's symbol, the message is libvirt's, followed in
    parentheses by the driver's reason where a flag is to blame. ``bad-request`` is the code for flags
    and parameter values that no libvirt call can hold. ``domain`` and ``uuid`` show in messages, and
    ``destination_xml`` must be of that domain.
    """
    rules = profile(profile_name)
    if not 0 <= flags < 1 << MASK_BITS:
        raise Rejected(f"flags {flags:#x} do not fit into {MASK_BITS} bits", code="bad-request")
    request = CheckRequest(
        hypervisor=_HYPERVISORS[rules.name],
        api="touri3" if flags & MigrateFlag.PEER2PEER else "migrate3",
        flags=int(flags),
        params=tuple(typed_params(params)),
        state=_STATES.get(state, State.RUNNING),
        cfg=frozenset({DISKS_UNKNOWN}),
        domain=domain,
        uuid=uuid,
    )
    try:
        if request.hypervisor == "vz-seed":
            vz.check_seed_flags(flags)
        if flags & MigrateFlag.PEER2PEER:
            frontend.check_to_uri(request, "virDomainMigrateToURI3", "dconnuri")
        else:
            frontend.check_migrate3(request)
    except Rejected as error:
        raise Rejected(error.message + _reasons(rules, error.message), code=error.code) from None


_OFFENDING = re.compile(r"unsupported flags \(0x([0-9a-f]+)\)")
_BLAMED = {
    "offline migration is not supported by the source host": "OFFLINE",
    "cannot enforce change protection": "CHANGE_PROTECTION",
}
_WAYS_OUT = {
    "cannot perform tunnelled migration without using peer2peer flag": "TUNNELLED: ask for PEER2PEER (--p2p) as well",
}


def _reasons(rules: FlagProfile, message: str) -> str:
    """The driver's reason for each flag that a message is about, in parentheses."""
    if message in _WAYS_OUT:
        return f" ({_WAYS_OUT[message]})"
    found = _OFFENDING.search(message)
    names = flag_names(int(found[1], 16)) if found else []
    names = [name.removeprefix("VIR_MIGRATE_") for name in names] or [_BLAMED.get(message, "")]
    reasons = [
        f"{name}: {rules.rules[name].reason if name in rules.rules else 'no such flag'}" for name in names if name
    ]
    return f" ({'; '.join(reasons)})" if reasons else ""
