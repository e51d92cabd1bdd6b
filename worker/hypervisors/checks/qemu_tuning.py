"""Tuning values of a QEMU migration: libvirt's own checks, then QEMU's.

Sources: ``src/qemu/qemu_migration_params.c`` of libvirt 9.0.0; the texts of QEMU 7.2, which libvirt
passes on as internal errors (asked of QEMU itself over QMP).
"""

from __future__ import annotations

from worker.errors import Rejected
from worker.hypervisors.checks.refusals import internal, invalid_arg
from worker.hypervisors.checks.request import CheckRequest
from worker.hypervisors.flags import MigrateFlag

_METHODS = ("xbzrle", "mt")
_MIB = 1 << 20
_POSTCOPY_BANDWIDTH_LIMIT = (2**64 - 1) // _MIB + 1
_PAGE = 4096
_THROTTLES = ("auto_converge.initial", "auto_converge.increment")
_ZERO_COPY = "Zero copy only available for non-compressed non-TLS multifd migration"
_MT = ("compression.mt.level", "compression.mt.threads", "compression.mt.dthreads")

# QEMU's names, in the order in which QEMU reads and then checks them, with the texts of its ranges
_RANGES = (
    ("compression.mt.level", "compress-level", 0, 9, "a value between 0 and 9"),
    ("compression.mt.threads", "compress-threads", 1, 255, "a value between 1 and 255"),
    ("compression.mt.dthreads", "decompress-threads", 1, 255, "a value between 1 and 255"),
    ("auto_converge.initial", "cpu-throttle-initial", 1, 99, "an integer in the range of 1 to 99"),
    ("auto_converge.increment", "cpu-throttle-increment", 1, 99, "an integer in the range of 1 to 99"),
    ("parallel.connections", "multifd-channels", 1, 255, "a value between 1 and 255"),
)


def check_values(request: CheckRequest, *, source: bool) -> None:
    """``qemuMigrationParamsFromFlags``: what one side checks when it reads flags and parameters.

    Auto-converge is tuned on the source only, so a destination does not look at its values.
    """
    postcopy_bandwidth = request.number("bandwidth.postcopy")
    if postcopy_bandwidth is not None and postcopy_bandwidth >= _POSTCOPY_BANDWIDTH_LIMIT:
        raise Rejected(
            f"migration parameter 'bandwidth.postcopy' must be less than {_POSTCOPY_BANDWIDTH_LIMIT}",
            code="VIR_ERR_OVERFLOW",
        )
    if source and _given(request, _THROTTLES) and not request.flags & MigrateFlag.AUTO_CONVERGE:
        raise invalid_arg("Turn auto convergence on to tune it")
    if _given(request, ("parallel.connections",)) and not request.flags & MigrateFlag.PARALLEL:
        raise invalid_arg("Turn parallel migration on to tune it")
    _check_compression(request)


def _given(request: CheckRequest, names: tuple[str, ...]) -> bool:
    return any(request.param(name) is not None for name in names)


def _check_compression(request: CheckRequest) -> None:
    methods: list[str] = []
    for method in request.texts("compression"):
        if method not in _METHODS:
            raise invalid_arg(f"Unsupported compression method '{method}'")
        if method in methods:
            raise invalid_arg(f"Compression method '{method}' is specified twice")
        methods.append(method)
    if _given(request, _MT) and "mt" not in methods:
        raise invalid_arg("Turn multithread compression on to tune it")
    if _given(request, ("compression.xbzrle.cache",)) and "xbzrle" not in methods:
        raise invalid_arg("Turn xbzrle compression on to tune it")


def first_capability(request: CheckRequest) -> str:
    """The first capability that perform asks of QEMU: a domain without QEMU has none."""
    methods = _methods(request)
    asked = {
        "xbzrle": "xbzrle" in methods,
        "auto-converge": request.flags & MigrateFlag.AUTO_CONVERGE,
        "rdma-pin-all": request.flags & MigrateFlag.RDMA_PIN_ALL,
        "postcopy-ram": request.flags & MigrateFlag.POSTCOPY,
        "compress": "mt" in methods,
        "multifd": request.flags & MigrateFlag.PARALLEL,
    }
    return next((name for name, wanted in asked.items() if wanted), "return-path")


def _methods(request: CheckRequest) -> set[str]:
    """The compression methods in use: xbzrle where none is named."""
    named = set(request.texts("compression"))
    return named or ({"xbzrle"} if request.flags & MigrateFlag.COMPRESSED else set())


def check_qemu(request: CheckRequest, *, source: bool) -> None:
    """What QEMU says when libvirt applies capabilities and then parameters on one side."""
    _check_capabilities(request, source=source)
    values = [
        (name, value, low, high, text)
        for param, name, low, high, text in _RANGES
        if (value := request.number(param)) is not None and (source or param not in _THROTTLES)
    ]
    for name, value, *_ in values:
        if not 0 <= value <= 255:
            raise _qemu("migrate-set-parameters", f"Parameter '{name}' expects uint8_t")
    for name, value, low, high, text in values:
        if not low <= value <= high:
            spelled = name.replace("-", "_")
            raise _qemu("migrate-set-parameters", f"Parameter '{spelled}' expects {text}")
    cache = request.number("compression.xbzrle.cache")
    if cache is not None and (cache < _PAGE or cache & (cache - 1)):
        raise _qemu(
            "migrate-set-parameters",
            "Parameter 'xbzrle_cache_size' expects a power of two no less than the target page size",
        )
    if source and request.flags & MigrateFlag.ZEROCOPY and request.flags & MigrateFlag.TLS:
        raise _qemu("migrate-set-parameters", _ZERO_COPY)


def _check_capabilities(request: CheckRequest, *, source: bool) -> None:
    methods = _methods(request)
    if source and request.flags & MigrateFlag.ZEROCOPY and methods:
        raise _qemu(
            "migrate-set-capabilities",
            _ZERO_COPY,
        )
    if "mt" in methods and request.flags & MigrateFlag.PARALLEL:
        raise _qemu("migrate-set-capabilities", "Multifd is not compatible with compress")


def _qemu(command: str, text: str) -> Rejected:
    return internal(f"unable to execute QEMU command '{command}': {text}")
