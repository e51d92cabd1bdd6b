"""``virsh migrate`` and its helper commands: virsh's own tests, then the call that it makes.

Source: ``tools/virsh-domain.c`` and ``tools/vsh.c`` of libvirt 9.0.0. virsh prints texts, no codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from worker.errors import Rejected
from worker.hypervisors.checks import frontend, jobs
from worker.hypervisors.checks.request import CheckRequest, State
from worker.hypervisors.checks.uris import check_connectable
from worker.hypervisors.checks.virsh_options import (
    COMMANDS,
    FILE_OPTIONS,
    FLAG_OPTIONS,
    INT_MAX,
    LIST_OPTIONS,
    NUMBER_OPTIONS,
    TEXT_OPTIONS,
    UINT_MAX,
    ULLONG_MAX,
    Command,
    Kind,
)
from worker.hypervisors.params import ParamType, TypedParam

_FILE_LIMIT = 10 << 20


def refused(text: str) -> Rejected:
    """virsh says no."""
    return Rejected(text, code="virsh")


@dataclass(slots=True)
class Parsed:
    """A command line that virsh's parser accepts."""

    command: str
    values: dict[str, str] = field(default_factory=dict)
    """Data and numbers by option name; switches have an empty text."""

    def number(self, name: str, low: int, high: int, *, wrap: bool = False) -> int | None:
        """A number option; with ``wrap`` negative numbers count from the top as in C."""
        text = self.values.get(name)
        if text is None:
            return None
        try:
            number = int(text.strip() if text.isascii() and text[-1:].isdigit() else "")
        except ValueError:
            number = high + 1
        if wrap and -(high + 1) < number < 0:
            number += high + 1
        if not low <= number <= high or "_" in text:
            raise refused(f"Numeric value '{text}' for <{name}> option is malformed or out of range")
        return number

    def text(self, name: str) -> str | None:
        """A text option, which must not be empty."""
        text = self.values.get(name)
        if text == "":
            raise refused(f"Failed to get option '{name}': Option argument is empty")
        return text


def check_virsh(request: CheckRequest) -> None:
    """Whether virsh would carry out ``request.argv``; raises ``Rejected`` with what it prints."""
    parsed = parse(list(request.argv))
    if parsed.command == "migrate":
        _check_migrate(request, parsed)
    else:
        _check_helper(request, parsed)


def parse(argv: list[str]) -> Parsed:
    """``vshCommandParse`` for one command."""
    if not argv or argv[0] not in COMMANDS:
        raise refused(f"unknown command: '{argv[0] if argv else ''}'")
    command = COMMANDS[argv[0]]
    parsed = Parsed(argv[0])
    words = argv[1:]
    data_only = False
    while words:
        word = words.pop(0)
        if not data_only and word == "--":
            data_only = True
        elif not data_only and word.startswith("--") and word[2:3].isalnum():
            _take_option(argv[0], command, word[2:], words, parsed.values)
        else:
            _take_data(command, word, parsed.values)
    for name, kind in command.items():
        if kind is Kind.DATA and name not in parsed.values:
            raise refused(f"command '{argv[0]}' requires <{name}> option")
    for name in ("downtime", "bandwidth"):
        if argv[0] != "migrate" and command.get(name) is Kind.NUMBER and name not in parsed.values:
            raise refused(f"command '{argv[0]}' requires --{name} option")
    return parsed


def _take_option(name: str, command: Command, word: str, words: list[str], values: dict[str, str]) -> None:
    option, equals, value = word.partition("=")
    option = "tunnelled" if option == "tunneled" and name == "migrate" else option
    kind = command.get(option)
    if kind is None:
        raise refused(f"command '{name}' doesn't support option --{option}")
    if option in values:
        raise refused(f"option --{option} already seen")
    if kind is Kind.SWITCH:
        if equals:
            raise refused(f"invalid '=' after option --{option}")
        values[option] = ""
        return
    if not equals:
        if not words:
            what = "number" if kind is Kind.NUMBER else "string"
            raise refused(f"expected syntax: --{option} <{what}>")
        value = words.pop(0)
    values[option] = value


def _take_data(command: Command, word: str, values: dict[str, str]) -> None:
    """A bare word goes to the first option with data that has none yet."""
    for name, kind in command.items():
        if kind is not Kind.SWITCH and name not in values and name != "size":
            values[name] = word
            return
    raise refused(f"unexpected data '{word}'")


def _check_domain(request: CheckRequest, parsed: Parsed) -> None:
    name = parsed.text("domain")
    if name != request.domain or request.state is State.ABSENT:
        raise refused(f"failed to get domain '{name}'")


_EXCLUSIVE = (("live", "offline"), ("timeout-suspend", "timeout-postcopy"))
_REQUIRED = (
    ("postcopy-after-precopy", "postcopy"),
    ("postcopy-resume", "postcopy"),
    ("timeout-postcopy", "postcopy"),
    ("persistent-xml", "persistent"),
    ("tls-destination", "tls"),
)


def _check_migrate(request: CheckRequest, parsed: Parsed) -> None:
    given = parsed.values
    for one, other in _EXCLUSIVE:
        if one in given and other in given:
            raise refused(f"Options --{one} and --{other} are mutually exclusive")
    for option, needs in _REQUIRED:
        if option in given and needs not in given:
            raise refused(f"Option --{needs} is required by option --{option}")
    _check_domain(request, parsed)
    timeout = parsed.number("timeout", 0, UINT_MAX)
    if timeout and "live" not in given:
        raise refused("migrate: Unexpected timeout for offline migration")
    if not timeout and given.keys() & {"timeout-suspend", "timeout-postcopy"}:
        raise refused("migrate: Unexpected --timeout-* option without --timeout")
    _call(request, parsed)


def _call(request: CheckRequest, parsed: Parsed) -> None:
    """``doMigrate``: connect, build parameters and flags, call."""
    unmanaged = parsed.values.keys() & {"p2p", "direct"}
    uri = parsed.text("desturi")
    if not unmanaged:
        check_connectable(uri)
    params = tuple(_params(parsed))
    call = replace(request, params=params, flags=_flags(parsed.values), dconnuri=uri)
    if unmanaged:
        frontend.check_to_uri(call, "virDomainMigrateToURI3", "dconnuri")
    else:
        frontend.check_migrate3(call)


def _params(parsed: Parsed) -> list[TypedParam]:
    entries: list[TypedParam] = []
    for option, name in TEXT_OPTIONS.items():
        text = parsed.text(option)
        if text is not None:
            if option in FILE_OPTIONS:
                text = _file(text)
            values = text.split(",") if option in LIST_OPTIONS else [text]
            entries += [TypedParam.string(name, value) for value in values]
    for option, (name, kind) in NUMBER_OPTIONS.items():
        number = (
            parsed.number(option, -INT_MAX - 1, INT_MAX)
            if kind is ParamType.INT
            else parsed.number(option, 0, ULLONG_MAX)
        )
        if number is not None and (number or option != "disks-port"):
            entries.append(TypedParam(name, kind, number))
    return entries


def _file(path: str) -> str:
    """The text of a file as virsh would read it here; ``<xml>`` stands for one that exists."""
    if path.startswith("<"):
        return "<xml>"
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            return file.read(_FILE_LIMIT)
    except (OSError, ValueError):
        raise refused(f"cannot read file '{path}'") from None


def _flags(given: Mapping[str, str]) -> int:
    storage = given.keys() & {"copy-storage-all", "copy-storage-inc"}
    if "copy-storage-synchronous-writes" in given and not storage:
        raise refused("'--copy-storage-synchronous-writes' requires one of '--copy-storage-all', 'copy-storage-inc'")
    return sum(int(flag) for option, flag in FLAG_OPTIONS.items() if option in given)


def _check_helper(request: CheckRequest, parsed: Parsed) -> None:
    given = parsed.values
    if parsed.command == "domjobinfo" and "keep-completed" in given and "completed" not in given:
        raise refused("Option --completed is required by option --keep-completed")
    _check_domain(request, parsed)
    _HELPERS[parsed.command](request, parsed)


def _set_downtime(request: CheckRequest, parsed: Parsed) -> None:
    downtime = parsed.number("downtime", 0, ULLONG_MAX) or 0
    if downtime < 1:
        raise refused("migrate: Invalid downtime")
    jobs.check_set_downtime(request, downtime)


def _set_speed(request: CheckRequest, parsed: Parsed) -> None:
    speed = parsed.number("bandwidth", 0, ULLONG_MAX, wrap=True) or 0
    jobs.check_set_speed(request, speed, postcopy="postcopy" in parsed.values)


def _cache(request: CheckRequest, parsed: Parsed) -> None:
    size = parsed.number("size", 0, ULLONG_MAX)
    if size is None:
        jobs.check_active(request)
    else:
        jobs.check_set_cache(request, size)


def _job_info(request: CheckRequest, parsed: Parsed) -> None:
    if "completed" in parsed.values:
        jobs.check_exists(request)
    else:
        jobs.check_active(request)


_HELPERS: Mapping[str, Callable[[CheckRequest, Parsed], None]] = {
    "migrate-setmaxdowntime": _set_downtime,
    "migrate-getmaxdowntime": lambda request, _: jobs.check_active(request),
    "migrate-setspeed": _set_speed,
    "migrate-getspeed": lambda request, parsed: jobs.check_get_speed(request, postcopy="postcopy" in parsed.values),
    "migrate-compcache": _cache,
    "migrate-postcopy": lambda request, _: jobs.check_start_postcopy(request),
    "domjobabort": lambda request, parsed: jobs.check_abort(request, postcopy="postcopy" in parsed.values),
    "domjobinfo": _job_info,
}
