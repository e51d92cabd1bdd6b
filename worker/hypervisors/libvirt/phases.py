"""The five phase functions of libvirt's version 3 migration protocol, by ctypes.

They are private symbols of ``libvirt.so.0``, which its own daemon links against; their signatures
(``src/libvirt_internal.h``) have not changed since libvirt 1.1.0. Connections and domains come from
libvirt-python, whose wrapper objects hold the C pointers in capsules. Every function blocks, releases
the GIL, frees all that libvirt allocates for it, and raises ``libvirt.libvirtError`` with libvirt's
last error of the calling thread. Nothing here checks its arguments: an empty cookie for ``prepare`` or
no ``migrate_uri`` for ``perform`` crashes the libvirtd of libvirt 9.0.0.
"""

from __future__ import annotations

import ctypes as c
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import libvirt

from worker.hypervisors.params import ParamType, TypedParam

_LIBRARY = c.CDLL("libvirt.so.0")
_POINTER, _OUT, _OUT_LENGTH = c.c_void_p, c.POINTER(c.c_void_p), c.POINTER(c.c_int)


def _function(name: str, result: type | None, *arguments: type) -> Callable[..., Any]:
    function = getattr(_LIBRARY, name)
    function.restype, function.argtypes = result, arguments
    symbol: Callable[..., Any] = function
    return symbol


_PARAMS = (_POINTER, c.c_int)  # virTypedParameterPtr params, int nparams
_COOKIE_IN = (_POINTER, c.c_int)  # const char *cookiein, int cookieinlen
_COOKIE_OUT = (_OUT, _OUT_LENGTH)  # char **cookieout, int *cookieoutlen
_begin = _function("virDomainMigrateBegin3Params", _POINTER, _POINTER, *_PARAMS, *_COOKIE_OUT, c.c_uint)
_prepare = _function(
    "virDomainMigratePrepare3Params", c.c_int, _POINTER, *_PARAMS, *_COOKIE_IN, *_COOKIE_OUT, _OUT, c.c_uint
)
_perform = _function(
    "virDomainMigratePerform3Params", c.c_int, _POINTER, c.c_char_p, *_PARAMS, *_COOKIE_IN, *_COOKIE_OUT, c.c_uint
)
_finish = _function(
    "virDomainMigrateFinish3Params", _POINTER, _POINTER, *_PARAMS, *_COOKIE_IN, *_COOKIE_OUT, c.c_uint, c.c_int
)
_confirm = _function("virDomainMigrateConfirm3Params", c.c_int, _POINTER, *_PARAMS, *_COOKIE_IN, c.c_uint, c.c_int)

_ADD = (c.POINTER(_POINTER), _OUT_LENGTH, _OUT_LENGTH, c.c_char_p)
_ADDERS = {
    ParamType.STRING: _function("virTypedParamsAddString", c.c_int, *_ADD, c.c_char_p),
    ParamType.INT: _function("virTypedParamsAddInt", c.c_int, *_ADD, c.c_int),
    ParamType.UINT: _function("virTypedParamsAddUInt", c.c_int, *_ADD, c.c_uint),
    ParamType.LLONG: _function("virTypedParamsAddLLong", c.c_int, *_ADD, c.c_longlong),
    ParamType.ULLONG: _function("virTypedParamsAddULLong", c.c_int, *_ADD, c.c_ulonglong),
    ParamType.DOUBLE: _function("virTypedParamsAddDouble", c.c_int, *_ADD, c.c_double),
    ParamType.BOOLEAN: _function("virTypedParamsAddBoolean", c.c_int, *_ADD, c.c_int),
}
_free_params = _function("virTypedParamsFree", None, _POINTER, c.c_int)
_free_domain = _function("virDomainFree", c.c_int, _POINTER)
_reset_error = _function("virResetLastError", None)
_free = c.CDLL(None).free
_free.restype, _free.argtypes = None, (_POINTER,)

_capsule_name = c.pythonapi.PyCapsule_GetName
_capsule_name.restype, _capsule_name.argtypes = c.c_char_p, [c.py_object]
_capsule_pointer = c.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = _POINTER, [c.py_object, c.c_char_p]


def begin(domain: libvirt.virDomain, params: Sequence[TypedParam], flags: int) -> tuple[str, bytes]:
    """``virDomainMigrateBegin3Params``: the domain's definition, and the cookie for ``prepare``."""
    _reset_error()
    with _Params(params) as (array, count), _Out() as cookie, _Out() as xml:
        xml.data.value = _begin(_pointer(domain), array, count, *cookie.arguments, flags)
        _check(xml.data.value is not None, "begin")
        return xml.text(), cookie.bytes()


def prepare(
    connection: libvirt.virConnect, params: Sequence[TypedParam], cookie: bytes, flags: int
) -> tuple[str, bytes]:
    """``virDomainMigratePrepare3Params``: the migration URI (empty where none), the cookie for ``perform``."""
    _reset_error()
    with _Params(params) as (array, count), _Out() as out, _Out() as uri:
        result = _prepare(
            _pointer(connection), array, count, *_cookie(cookie), *out.arguments, c.byref(uri.data), flags
        )
        _check(result == 0, "prepare")
        return uri.text(), out.bytes()


def perform(domain: libvirt.virDomain, params: Sequence[TypedParam], cookie: bytes, flags: int) -> bytes:
    """``virDomainMigratePerform3Params``, driven by the client: returns the cookie for ``finish``."""
    _reset_error()
    with _Params(params) as (array, count), _Out() as out:
        result = _perform(_pointer(domain), None, array, count, *_cookie(cookie), *out.arguments, flags)
        _check(result == 0, "perform")
        return out.bytes()


def finish(
    connection: libvirt.virConnect, params: Sequence[TypedParam], cookie: bytes, flags: int, cancelled: bool
) -> bytes:
    """``virDomainMigrateFinish3Params``: returns the cookie for ``confirm``.

    A cancelled finish that went well ends in an error as well: ``VIR_ERR_MIGRATE_FINISH_OK``.
    """
    _reset_error()
    with _Params(params) as (array, count), _Out() as out:
        domain = _finish(_pointer(connection), array, count, *_cookie(cookie), *out.arguments, flags, int(cancelled))
        _check(domain is not None, "finish")
        _free_domain(domain)
        return out.bytes()


def confirm(
    domain: libvirt.virDomain, params: Sequence[TypedParam], cookie: bytes, flags: int, cancelled: bool
) -> None:
    """``virDomainMigrateConfirm3Params``."""
    _reset_error()
    with _Params(params) as (array, count):
        result = _confirm(_pointer(domain), array, count, *_cookie(cookie), flags, int(cancelled))
        _check(result == 0, "confirm")


class _Params:
    """A ``virTypedParameter`` array that lives as long as the ``with`` block."""

    def __init__(self, entries: Sequence[TypedParam]) -> None:
        self._entries = entries
        self._array, self._count, self._room = _POINTER(), c.c_int(0), c.c_int(0)

    def __enter__(self) -> tuple[c.c_void_p, c.c_int]:
        try:
            for entry in self._entries:
                self._add(entry)
        except BaseException:
            self._release()
            raise
        return self._array, self._count

    def _add(self, entry: TypedParam) -> None:
        value = entry.value.encode() if isinstance(entry.value, str) else entry.value
        result = _ADDERS[entry.type](
            c.byref(self._array), c.byref(self._count), c.byref(self._room), entry.name.encode(), value
        )
        _check(result == 0, f"parameter {entry.name}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        _free_params(self._array, self._count)


class _Out:
    """A buffer that libvirt allocates and the caller frees, at the end of the ``with`` block."""

    def __init__(self) -> None:
        self.data, self.length = _POINTER(), c.c_int(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _free(self.data)

    @property
    def arguments(self) -> tuple[Any, Any]:
        return c.byref(self.data), c.byref(self.length)

    def bytes(self) -> bytes:
        return c.string_at(self.data.value, self.length.value) if self.data.value else b""

    def text(self) -> str:
        return c.string_at(self.data.value).decode() if self.data.value else ""


def _pointer(wrapper: libvirt.virConnect | libvirt.virDomain) -> int:
    """The C pointer inside a libvirt-python object, which the caller keeps alive."""
    capsule = wrapper._o
    pointer: int = _capsule_pointer(capsule, _capsule_name(capsule))
    return pointer


def _cookie(cookie: bytes) -> tuple[bytes | None, int]:
    return (cookie, len(cookie)) if cookie else (None, 0)


def _check(good: bool, phase: str) -> None:
    if not good:
        raise libvirt.libvirtError(f"{phase} failed")
