"""The validator: libvirt's migration checks in libvirt's order, without a host.

``check_migration`` is what the relay asks before it touches any host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from worker.errors import Rejected
from worker.hypervisors.base import DomainState, ParamValue, Phase
from worker.hypervisors.checks import frontend, vz
from worker.hypervisors.checks.request import CheckRequest, State
from worker.hypervisors.flags import flag_names, profile
from worker.hypervisors.params import typed_params

__all__ = ["check_migration"]

_HYPERVISORS = {"vz": "vz-seed", "vz-libvirt": "vz", "qemu": "qemu"}
_STATES = {
    DomainState.ABSENT: State.ABSENT,
    DomainState.SHUTOFF: State.SHUTOFF,
    DomainState.CRASHED: State.CRASHED,
    DomainState.PAUSED: State.PAUSED,
    DomainState.PAUSED_OUT: State.PAUSED,
    DomainState.PAUSED_IN: State.PAUSED,
}


def check_migration(profile_name: str, flags: int, params: Mapping[str, ParamValue], state: DomainState) -> None:
    """Whether a managed five-phase migration would be refused for its flags, parameters or state.

    Raises ``Rejected``: the code is libvirt's symbol, the message is libvirt's, followed in
    parentheses by the driver's reason where a flag is to blame.
    """
    request = CheckRequest(
        hypervisor=_HYPERVISORS[profile(profile_name).name],
        api="migrate3",
        flags=flags,
        params=tuple(typed_params(params)),
        state=_STATES.get(state, State.RUNNING),
    )
    try:
        if profile_name == "vz":
            vz.check_seed_flags(flags)
        frontend.check_migrate3(request)
        for phase in (Phase.BEGIN, Phase.PREPARE):
            if profile_name != "qemu":
                vz.check_phase(request, phase)
    except Rejected as error:
        reasons = _reasons(profile_name, error.message)
        raise Rejected(error.message + reasons, code=error.code) from None


_OFFENDING = re.compile(r"unsupported flags \(0x([0-9a-f]+)\)")


def _reasons(profile_name: str, message: str) -> str:
    """The driver's reasons for each flag in the number of an unsupported-flags message."""
    found = _OFFENDING.search(message)
    if found is None:
        return ""
    rules = profile(profile_name).rules
    names = [name.removeprefix("VIR_MIGRATE_") for name in flag_names(int(found[1], 16))]
    reasons = [f"{name}: {rules[name].reason if name in rules else 'no such flag'}" for name in names]
    return f" ({'; '.join(reasons)})"
