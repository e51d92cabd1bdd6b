"""Pages about hypervisors: flags, parameters, errors, verdicts."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from page import code, page, prose, table

from worker.errors import Retry
from worker.hypervisors import verdict
from worker.hypervisors.base import DomainState
from worker.hypervisors.flags import PROFILES, MigrateFlag
from worker.hypervisors.params import PARAMS, ParamSpec
from worker.hypervisors.vz import codes

CLASSES = {
    Retry.TRANSIENT: "nothing happened; the same call is made again after a pause",
    Retry.REPREPARE: "nothing happened, but what prepare handed out is void: a new attempt",
    Retry.VERIFY: "the result is unknown: both sides are looked at before anything else",
    Retry.OPERATOR: "something must be changed by a human first",
    Retry.PERMANENT: "this request can never succeed as it is",
    Retry.DONE: "it was done already",
}
VERDICTS = (
    "What the two hosts show of a domain after a perform that did not simply succeed, and what that means. An attempt "
    "is concluded from it: `moved` succeeds; `safe-on-source` fails, or is tried again where the error is transient; "
    "`leftovers` fails and is not tried again; everything else is in doubt. A stub that is merely left shut off on the "
    "source counts as moved."
)


def flags() -> str:
    """``docs/reference/flags.md``."""
    parts = []
    for profile in PROFILES.values():
        rows = [
            [code(name), code(f"0x{int(MigrateFlag[name]):x}"), rule.status, "yes" if rule.default else "", rule.reason]
            for name, rule in profile.rules.items()
        ]
        parts.append(
            f"## Profile `{profile.name}`\n\nAccepted mask `0x{profile.accepted:x}`, default mask "
            f"`0x{profile.defaults:x}`. Without a destination daemon (direct): refused, {profile.direct}.\n\n"
            + table(["flag", "bit", "status", "by default", "reason"], rows)
        )
    intro = (
        "What each driver requires, accepts, does by default or refuses, and why. `vz` is used for `vzsim://` and "
        "`vzsdk://` hosts, `vz-libvirt` for `vz:///system`, `qemu` for every other libvirt URI. The names are "
        "libvirt's `VIR_MIGRATE_*` without the prefix. `vmrelay flags --driver vz` prints the same.\n\n"
        "A flag is asked for with yes, no, or not at all. Not asked for, the driver's default holds. A no to what the "
        "driver does anyway is refused, not ignored. A raw flag set (`--flags`, or `flags` of the request) takes no "
        "defaults and is checked as libvirt would."
    )
    return page("Migration flags", "worker/hypervisors/profiles.py", intro, *parts)


def _meaning(spec: ParamSpec) -> str:
    return spec.meaning + (f" ({spec.least} to {spec.most})" if spec.most is not None else "")


def params() -> str:
    """``docs/reference/params.md``."""
    rows = [
        [code(p.name), code(p.type), code(p.option), "yes" if p.repeatable else "", "yes" if p.vz else "", _meaning(p)]
        for p in PARAMS.values()
    ]
    intro = (
        "libvirt's typed migration parameters by their names on the wire (`VIR_MIGRATE_PARAM_*`), as the field "
        "`params` of a request takes them. `qemu` takes all of them; the two vz profiles take those marked. A "
        "repeatable one takes a list. `migrate_uri` and `disks_uri` must name the destination's own address."
    )
    headings = ["parameter", "type", "option", "repeatable", "vz", "meaning"]
    return page("Migration parameters", "worker/hypervisors/params.py", intro, table(headings, rows))


def _class_list() -> str:
    return "## Classes\n\n" + table(["class", "what may be done"], [[code(k), v] for k, v in CLASSES.items()])


def sdk_errors() -> str:
    """``docs/reference/sdk-errors.md``."""
    rows = [
        [
            code(f"0x{number:08x}"),
            code(entry.symbol),
            entry.retry,
            entry.after if entry.after is not entry.retry else "",
            "yes" if entry.untouched else "",
            "" if entry.tries is None else entry.tries,
            "yes" if entry.slow else "",
            entry.reason,
        ]
        for number, entry in sorted(codes.CODES.items())
    ]
    intro = (
        "What each return code of the SDK means for a migration, and what may be done after it. "
        "A negative code that is not in the table may mean anything: both sides are looked at, then an operator "
        "decides; it is never retried blindly. The envelope "
        f"`0x{codes.ENVELOPE:08x}` takes the worst class of the errors inside it.\n\n"
        "*then* is the class that holds next; *untouched*: the code proves that the domain was not touched; *tries* "
        "limits retries below the setting `retry.tries`; *slow* takes the long pauses (`retry.slow_initial`)."
    )
    headings = ["code", "symbol", "class", "then", "untouched", "tries", "slow", "reason"]
    return page(
        "Virtuozzo SDK errors",
        "worker/hypervisors/vz/codes.py",
        intro,
        _class_list(),
        "## Codes",
        table(headings, rows),
    )


def libvirt_errors() -> str:
    """``docs/reference/libvirt-errors.md``; the table needs no libvirt, so an empty stand-in will do."""
    stand_in = None
    try:
        importlib.import_module("libvirt")
    except ImportError:
        stand_in = sys.modules["libvirt"] = ModuleType("libvirt")
    errors = importlib.import_module("worker.hypervisors.libvirt.errors")
    if stand_in is not None:
        del sys.modules["libvirt"], sys.modules[errors.__name__]
    rows = [
        [
            code(rule.code),
            code(rule.text) or "any",
            rule.retry,
            "yes" if rule.untouched else "",
            "" if rule.tries is None else rule.tries,
            "yes" if rule.slow else "",
            rule.reason,
        ]
        for rule in errors.RULES
    ]
    headings = ["code", "message contains", "class", "untouched", "tries", "slow", "reason"]
    return page(
        "libvirt errors",
        "worker/hypervisors/libvirt/errors.py",
        prose(errors.__doc__) + " The first row that fits holds.",
        _class_list(),
        "## Rules",
        table(headings, rows),
    )


def verdicts() -> str:
    """``docs/reference/verdicts.md``."""
    kinds = "\n".join(f"- `{kind}`: {text}" for kind, text in _kinds().items())
    parts = []
    for was in (DomainState.RUNNING, DomainState.PAUSED):
        rows = [
            [code(source), *(verdict.verdict(source, destination, was).kind for destination in DomainState)]
            for source in DomainState
        ]
        parts.append(
            f"## The domain was {was} before\n\nRows: what the source shows. Columns: what the destination shows.\n\n"
            + table(["source", *map(code, DomainState)], rows)
        )
    return page("Verdicts", "worker/hypervisors/verdict.py", VERDICTS, kinds, *parts)


def _kinds() -> dict[str, str]:
    from page import described

    meanings = described(verdict.VerdictKind)
    return {kind.value: meanings[kind.name] for kind in verdict.VerdictKind}
