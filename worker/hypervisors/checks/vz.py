"""The checks of the vz drivers, phase by phase: the patch of 2015 (``vz-seed``) and libvirt 9.0.0.

Sources: the 2015 patch's ``vzCheckFlags``; ``src/vz/vz_driver.c``.
"""

from __future__ import annotations

from dataclasses import replace

from worker.errors import Rejected
from worker.hypervisors.base import Phase
from worker.hypervisors.checks.cookies import check_vz_cookie
from worker.hypervisors.checks.refusals import check_mask, internal, invalid_arg, unsupported_operation
from worker.hypervisors.checks.request import CheckRequest, State
from worker.hypervisors.checks.uris import check_connectable, check_vz_uri
from worker.hypervisors.flags import PROFILES, MigrateFlag
from worker.hypervisors.params import TypedParam, check_count, validate_params

_REQUIRED = (MigrateFlag.LIVE, MigrateFlag.COMPRESSED, MigrateFlag.PERSIST_DEST)


def check_seed_flags(flags: int) -> None:
    """``vzCheckFlags``: the required flags one by one, then the mask."""
    for flag in _REQUIRED:
        if not flags & flag:
            raise invalid_arg(f"flags {flag.macro} must be set for vz migration")
    check_mask(flags, PROFILES["vz"].accepted, "vzCheckFlags")


def check_phase(request: CheckRequest, phase: Phase) -> None:
    """What the driver checks in one phase, in order; raises ``Rejected``."""
    check_count(request.params)
    seed = request.hypervisor == "vz-seed"
    if not seed:
        check_mask(request.flags, PROFILES["vz-libvirt"].accepted, _function(phase))
    elif phase is Phase.BEGIN:
        check_seed_flags(request.flags)
    validate_params("vz", phase, request.params)
    match phase:
        case Phase.BEGIN:
            _begin(request)
        case Phase.PREPARE:
            _prepare(request)
        case Phase.PERFORM:
            _perform(request)
        case Phase.FINISH | Phase.CONFIRM:
            pass


def _function(phase: Phase) -> str:
    return f"vzDomainMigrate{phase.capitalize()}3Params"


def _lookup(request: CheckRequest) -> None:
    if request.state is State.ABSENT:
        raise Rejected(f"no domain with matching uuid '{request.uuid}' ({request.domain})", code="VIR_ERR_NO_DOMAIN")


def _begin(request: CheckRequest) -> None:
    if request.number("bandwidth"):
        raise unsupported_operation("Bandwidth rate limiting is not supported")
    _lookup(request)
    _begin_step(request)


def _begin_step(request: CheckRequest) -> None:
    if request.param("destination_xml") is not None:
        raise unsupported_operation("Changing destination XML is not supported")


def _prepare(request: CheckRequest) -> None:
    if request.param("migrate_uri") is None and request.dst_hostname.startswith("localhost"):
        raise internal("hostname on destination resolved to localhost, but migration requires an FQDN")


def _perform(request: CheckRequest) -> None:
    _lookup(request)
    if request.flags & MigrateFlag.PEER2PEER:
        check_connectable(request.dconnuri)
        _begin_step(request)
        _prepare(request)
        if (uri := request.text("migrate_uri")) is not None:
            check_vz_uri(uri)
        return
    uri = request.text("migrate_uri")
    if uri is None and request.hypervisor != "vz-seed":
        raise internal("migrate uri is not set")
    check_vz_cookie(request.cookie)
    if uri is not None:  # the patch takes prepare's URI from another argument
        check_vz_uri(uri)


def check_all_phases(request: CheckRequest) -> None:
    """``virDomainMigrateVersion3Full``: what each phase hands to the next is valid."""
    check_phase(request, Phase.BEGIN)
    if request.state is State.PAUSED:
        request = replace(request, flags=request.flags | int(MigrateFlag.PAUSED))
    entries = tuple(entry for entry in request.params if entry.name != "destination_xml")
    check_phase(replace(request, params=(*entries, TypedParam.string("destination_xml", "<xml>"))), Phase.PREPARE)
    if request.text("migrate_uri") is None:
        entries = (*entries, TypedParam.string("migrate_uri", "vzmigr://destination"))
    check_phase(replace(request, params=entries), Phase.PERFORM)
