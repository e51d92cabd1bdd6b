"""One question to the validator, read strictly from one JSON document."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from worker.errors import Rejected
from worker.hypervisors.flags import MASK_BITS, parse_flags
from worker.hypervisors.params import ParamType, TypedParam, typed_param, typed_params

HYPERVISORS = ("vz-seed", "vz", "qemu")
VALID = "<valid>"
"""Placeholder for a cookie that the phase before really returned."""
DESTINATION = "<dst>"
"""Placeholder for the connection URI of a destination that answers."""
UNSAID = "<unsaid>"
"""The request does not mention it: each check takes what a well-behaved caller would pass."""
DOMAIN_UUID = "11111111-2222-4333-8444-555555555555"
"""The uuid of the domain ``t1`` that requests speak of."""
SOURCE_HOST_UUID = "aaaaaaaa-0000-4000-8000-00000000000a"
DESTINATION_HOST_UUID = "bbbbbbbb-0000-4000-8000-00000000000b"


class State(StrEnum):
    """What the source shows of the domain before the call."""

    ABSENT = "absent"
    SHUTOFF = "shutoff"
    RUNNING = "running"
    PAUSED = "paused"
    CRASHED = "crashed"
    PMSUSPENDED = "pmsuspended"

    @property
    def active(self) -> bool:
        """Whether there is a process behind the domain."""
        return self not in (State.ABSENT, State.SHUTOFF)


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """A call that libvirt would get, and what the hosts look like.

    ``None`` is C's ``NULL``.
    """

    hypervisor: str
    api: str
    flags: int = 0
    params: tuple[TypedParam, ...] = ()
    state: State = State.RUNNING
    dconnuri: str | None = UNSAID
    cookie: bytes | None = UNSAID.encode()
    cancelled: bool = False
    ro: str = ""
    """``source`` or ``dest``: that connection is read-only."""
    cfg: frozenset[str] = frozenset()
    """What is special about the domain or a host (``disk``, ``snapshot``, ``hostdev-scsi``, …)."""
    dst_setup: str = ""
    """What the destination already has (``same-shutoff``, ``same-running``, …)."""
    dst_hostname: str = ""
    src_hostuuid: str = SOURCE_HOST_UUID
    dst_hostuuid: str = DESTINATION_HOST_UUID
    domain: str = "t1"
    uuid: str = DOMAIN_UUID
    argv: tuple[str, ...] = ()

    def param(self, name: str) -> str | int | float | bool | None:
        """The value of the first parameter of that name."""
        return next((entry.value for entry in self.params if entry.name == name), None)

    def text(self, name: str) -> str | None:
        """A string parameter."""
        value = self.param(name)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> int | None:
        """A number parameter."""
        value = self.param(name)
        return int(value) if isinstance(value, int | float) else None

    def texts(self, name: str) -> list[str]:
        """All values of a repeatable string parameter."""
        return [str(entry.value) for entry in self.params if entry.name == name]


def bad_request(message: str) -> Rejected:
    """The question itself makes no sense."""
    return Rejected(message, code="bad-request")


def parse_request(line: str) -> CheckRequest:
    """The request in one line of JSON; raises ``Rejected`` (``bad-request``) for anything else."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"not JSON: {error}") from None
    return read_request(document)


def read_request(document: object) -> CheckRequest:
    """The request in a JSON document; keys that mean nothing here are ignored.

    Raises ``Rejected`` (``bad-request``) for a missing key or a value of the wrong type.
    """
    if not isinstance(document, dict):
        raise bad_request("a request is a JSON object")
    hypervisor = _text(document, "hypervisor")
    if hypervisor not in HYPERVISORS:
        raise bad_request(f"hypervisor must be one of {', '.join(HYPERVISORS)}, not {hypervisor!r}")
    state = _text(document, "state", State.RUNNING)
    if state not in set(State):
        raise bad_request(f"state must be one of {', '.join(State)}, not {state!r}")
    return CheckRequest(
        hypervisor=hypervisor,
        api=_text(document, "api"),
        flags=_flags(document),
        params=_params(document),
        state=State(state),
        dconnuri=_nullable(document, "dconnuri", UNSAID),
        cookie=_cookie(document),
        cancelled=_cancelled(document),
        ro=_text(document, "ro", ""),
        cfg=_cfg(document),
        dst_setup=_text(document, "dst_setup", ""),
        dst_hostname=_text(document, "dst_hostname", ""),
        src_hostuuid=_text(document, "src_hostuuid", SOURCE_HOST_UUID),
        dst_hostuuid=_text(document, "dst_hostuuid", DESTINATION_HOST_UUID),
        domain=_text(document, "domain", "t1"),
        uuid=_text(document, "uuid", DOMAIN_UUID),
        argv=tuple(_strings(document, "argv")),
    )


def _text(document: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = document.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise bad_request(f"'{key}' must be a string")
    return value


def _nullable(document: Mapping[str, object], key: str, default: str) -> str | None:
    value = document.get(key, default)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"'{key}' must be a string or null")
    return value


def _strings(document: Mapping[str, object], key: str) -> list[str]:
    value = document.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad_request(f"'{key}' must be a list of strings")
    return value


def _flags(document: Mapping[str, object]) -> int:
    """``flags_value`` decides where it is given: it can hold bits that have no name."""
    named = document.get("flags")
    if isinstance(named, int | str) and not isinstance(named, bool):
        mask = _mask(named)
    else:
        mask = _mask(",".join(_strings(document, "flags")))
    value = document.get("flags_value")
    return mask if value is None else _mask(value)


def _mask(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise bad_request(f"flags must be names, a mask, or text such as 0x809, and fit {MASK_BITS} bits")
    try:
        return parse_flags(value)
    except Rejected as error:
        raise bad_request(error.message) from None


def _params(document: Mapping[str, object]) -> tuple[TypedParam, ...]:
    """``typed_params`` decides where it is given: it can hold wrong types and duplicates."""
    typed = document.get("typed_params")
    if typed is not None:
        if not isinstance(typed, list):
            raise bad_request("'typed_params' must be a list of [name, type, value]")
        return tuple(_triple(item) for item in typed)
    params = document.get("params")
    if params is None:
        return ()
    if not isinstance(params, dict):
        raise bad_request("'params' must be an object")
    return tuple(typed_params(params))


def _triple(item: object) -> TypedParam:
    if not isinstance(item, list) or len(item) != 3 or not all(isinstance(part, str) for part in item[:2]):
        raise bad_request("'typed_params' must be a list of [name, type, value]")
    name, kind, value = item
    if kind not in set(ParamType):
        raise bad_request(f"parameter '{name}': type must be one of {', '.join(ParamType)}, not {kind!r}")
    return typed_param(name, ParamType(kind), value)


def _cookie(document: Mapping[str, object]) -> bytes | None:
    cookie = _nullable(document, "cookie", UNSAID)
    # JSON can spell surrogates, which plain UTF-8 cannot; an empty cookie is none
    return cookie.encode("utf-8", "surrogatepass") if cookie else None


def _cfg(document: Mapping[str, object]) -> frozenset[str]:
    """Words from a list or from one string, as ``disk`` or ``disk,dirty``; unknown words change nothing."""
    value = document.get("cfg") or []
    words = re.split(r"[,\s+]+", value) if isinstance(value, str) else _strings(document, "cfg")
    return frozenset(word.strip().lower().replace("_", "-") for word in words)


def _cancelled(document: Mapping[str, object]) -> bool:
    value = document.get("cancelled") or 0
    if value not in (0, 1):
        raise bad_request("'cancelled' must be 0 or 1")
    return bool(value)
