"""libvirt's typed migration parameters: names, types, and the check that every driver phase makes first.

Source: ``VIR_MIGRATE_PARAM_*`` in ``libvirt-domain.h``, ``virTypedParamsValidate`` in libvirt 9.0.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from worker.errors import Rejected
from worker.hypervisors.base import Phase


class ParamType(StrEnum):
    """``virTypedParameterType``, by the names that libvirt's messages use."""

    INT = "int"
    UINT = "uint"
    LLONG = "llong"
    ULLONG = "ullong"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    STRING = "string"


RANGES: Mapping[ParamType, tuple[int, int]] = {
    ParamType.INT: (-(2**31), 2**31 - 1),
    ParamType.UINT: (0, 2**32 - 1),
    ParamType.LLONG: (-(2**63), 2**63 - 1),
    ParamType.ULLONG: (0, 2**64 - 1),
}

NAME_BYTES = 79
"""``VIR_TYPED_PARAM_FIELD_LENGTH`` less the NUL."""
COUNT_LIMIT = 64
"""``REMOTE_DOMAIN_MIGRATE_PARAM_LIST_MAX``: more entries never reach a daemon."""

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TypedParam:
    """One entry of a ``virTypedParameter`` array."""

    name: str
    type: ParamType
    value: Scalar

    @classmethod
    def string(cls, name: str, value: str) -> TypedParam:
        """A string entry."""
        return cls(name, ParamType.STRING, value)


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """What libvirt says of one migration parameter."""

    name: str
    type: ParamType
    meaning: str
    option: str
    """virsh's option."""
    repeatable: bool = False
    vz: bool = False
    """Whether the vz driver takes it; qemu takes all of them."""
    least: int = 0
    most: int | None = None
    """What is taken of what the type can hold, ends included (``None``: all of it)."""


_STRING, _INT, _ULLONG = ParamType.STRING, ParamType.INT, ParamType.ULLONG

PARAMS: Mapping[str, ParamSpec] = {
    spec.name: spec
    for spec in (
        ParamSpec(
            "migrate_uri",
            _STRING,
            "URI to which the source's hypervisor sends the data; must name the destination's address",
            "--migrateuri",
            vz=True,
        ),
        ParamSpec("destination_name", _STRING, "name of the domain on the destination", "--dname", vz=True),
        ParamSpec("destination_xml", _STRING, "definition with which it runs on the destination", "--xml", vz=True),
        ParamSpec(
            "persistent_xml", _STRING, "definition that the destination keeps for the next start", "--persistent-xml"
        ),
        ParamSpec(
            "bandwidth",
            _ULLONG,
            "limit in MiB/s; 0 is the hypervisor's default",
            "--bandwidth",
            vz=True,
            most=(2**63 - 1) >> 20,
        ),
        ParamSpec(
            "bandwidth.postcopy",
            _ULLONG,
            "limit after the switch to post-copy in MiB/s; 0 is no limit",
            "--postcopy-bandwidth",
            most=(2**64 - 1) >> 20,
        ),
        ParamSpec("graphics_uri", _STRING, "URI at which graphical clients reconnect", "--graphicsuri"),
        ParamSpec("listen_address", _STRING, "address on which the destination listens", "--listen-address"),
        ParamSpec(
            "migrate_disks",
            _STRING,
            "targets of the disks to copy (vda,vdb); all writable ones where not given",
            "--migrate-disks",
            repeatable=True,
        ),
        ParamSpec("disks_port", _INT, "port of the destination's disk server; 0 is any", "--disks-port", most=65535),
        ParamSpec(
            "disks_uri",
            _STRING,
            "URI for the disks' data, tcp:// or unix://; must name the destination's address",
            "--disks-uri",
        ),
        ParamSpec("compression", _STRING, "methods of compression: xbzrle, mt", "--comp-methods", repeatable=True),
        ParamSpec(
            "compression.mt.level", _INT, "level of mt: 0 is none, 1 the fastest, 9 the smallest", "--comp-mt-level"
        ),
        ParamSpec("compression.mt.threads", _INT, "threads of mt that compress", "--comp-mt-threads"),
        ParamSpec("compression.mt.dthreads", _INT, "threads of mt that decompress", "--comp-mt-dthreads"),
        ParamSpec("compression.xbzrle.cache", _ULLONG, "page cache of xbzrle in bytes", "--comp-xbzrle-cache"),
        ParamSpec(
            "auto_converge.initial",
            _INT,
            "by how much the CPUs are slowed down first, 1 to 99 percent",
            "--auto-converge-initial",
        ),
        ParamSpec(
            "auto_converge.increment", _INT, "and by how much more each time, in percent", "--auto-converge-increment"
        ),
        ParamSpec("parallel.connections", _INT, "how many connections, 1 to 255", "--parallel-connections"),
        ParamSpec(
            "tls.destination", _STRING, "host name to expect in the destination's certificate", "--tls-destination"
        ),
    )
}


def param_specs(driver: str) -> Mapping[str, ParamSpec]:
    """The parameters that a driver takes, the same in every phase (``VZ_``/``QEMU_MIGRATION_PARAMETERS``)."""
    return {n: s for n, s in PARAMS.items() if s.vz} if driver.startswith("vz") else PARAMS


def typed_params(params: Mapping[str, object]) -> list[TypedParam]:
    """Typed entries from a JSON mapping; a list value means repeated entries.

    A value takes the type that libvirt gives its name where it fits, and else the type it has by
    itself, so that ``validate_params`` can name the mismatch. Raises ``Rejected`` (``bad-request``)
    for values that no typed parameter can hold.
    """
    return [
        typed_param(name, None, item)
        for name, value in params.items()
        for item in (value if isinstance(value, list) else [value])
    ]


def typed_param(name: str, kind: ParamType | None, value: object) -> TypedParam:
    """One checked entry; ``kind`` ``None`` chooses the type as libvirt's Python binding does.

    Raises ``Rejected`` (``bad-request``) when the value does not fit the type.
    """
    if not isinstance(value, str | int | float):
        raise Rejected(f"parameter '{name}': {value!r} is no string or number", code="bad-request")
    if len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES:
        raise Rejected(f"Field name '{name}' too long", code="VIR_ERR_INTERNAL_ERROR")
    if kind is None:
        kind = _natural_type(name, value)
    if not _fits(kind, value):
        low, high = RANGES.get(kind, (None, None))
        held = f" ({low} to {high})" if low is not None else ""
        raise Rejected(f"parameter '{name}': {value!r} is no value of type {kind}{held}", code="bad-request")
    return TypedParam(name, kind, value)


def _natural_type(name: str, value: Scalar) -> ParamType:
    if isinstance(value, str):
        return ParamType.STRING
    if isinstance(value, bool):
        return ParamType.BOOLEAN
    if isinstance(value, float):
        return ParamType.DOUBLE
    spec = PARAMS.get(name)
    if spec is not None and spec.type is not ParamType.STRING:
        return spec.type
    return ParamType.LLONG if value <= RANGES[ParamType.LLONG][1] else ParamType.ULLONG


def _fits(kind: ParamType, value: Scalar) -> bool:
    match kind:
        case ParamType.STRING:
            # C strings: a NUL byte would cut the value short
            return isinstance(value, str) and "\0" not in value
        case ParamType.BOOLEAN:
            return isinstance(value, bool) or value in (0, 1)
        case ParamType.DOUBLE:
            return isinstance(value, int | float) and not isinstance(value, bool)
    low, high = RANGES[kind]
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def out_of_range(name: str, value: object) -> str:
    """What is wrong with a number that fits its type and that no hypervisor makes sense of; empty where nothing is.

    libvirt 9.0.0 multiplies bandwidths into bytes (``VIR_ERR_OVERFLOW``), and takes any ``int`` for a port.
    """
    spec = PARAMS.get(name)
    if spec is None or spec.most is None or isinstance(value, bool) or not isinstance(value, int):
        return ""
    return "" if spec.least <= value <= spec.most else f"{name} takes {spec.least} to {spec.most}, not {value}"


def check_count(entries: Sequence[TypedParam]) -> None:
    """What libvirt's remote driver refuses to send; raises ``Rejected`` (``VIR_ERR_RPC``)."""
    if len(entries) > COUNT_LIMIT:
        raise Rejected(f"too many parameters '{len(entries)}' for limit '{COUNT_LIMIT}'", code="VIR_ERR_RPC")


def validate_params(driver: str, phase: Phase | None, entries: Iterable[TypedParam]) -> None:
    """libvirt's ``virTypedParamsValidate`` with the driver's list, which is the same in every phase.

    Entries are looked at in the order of their names; a duplicate is found before a wrong type.
    Raises ``Rejected`` with libvirt's symbol and message. ``phase`` is not looked at by any driver of
    libvirt 9.0.0.
    """
    specs = param_specs(driver)
    last = None
    for entry in sorted(entries, key=lambda entry: entry.name.encode("utf-8", "surrogatepass")):
        spec = specs.get(entry.name)
        if spec is None:
            raise Rejected(f"parameter '{entry.name}' not supported", code="VIR_ERR_ARGUMENT_UNSUPPORTED")
        if last == entry.name and not spec.repeatable:
            raise Rejected(f"parameter '{entry.name}' occurs multiple times", code="VIR_ERR_INVALID_ARG")
        if entry.type is not spec.type:
            raise Rejected(
                f"invalid type '{entry.type}' for parameter '{entry.name}', expected '{spec.type}'",
                code="VIR_ERR_INVALID_ARG",
            )
        last = entry.name


def value_of(entries: Sequence[TypedParam], name: str) -> Scalar | None:
    """The value of the first entry of that name, or ``None`` (``virTypedParamsGet``)."""
    return next((entry.value for entry in entries if entry.name == name), None)
