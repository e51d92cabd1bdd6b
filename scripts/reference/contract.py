"""What other programs rely on: tasks, queues, documents, states, events, codes."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from command import exit_codes
from page import ROOT, code, described, page, prose, table
from pydantic import BaseModel

from worker import errors
from worker.contract import (
    BATCH,
    CANCEL,
    CONTROL,
    DRAIN,
    HOST,
    LIMITS,
    MIGRATE,
    PHASE,
    PROGRESS,
    REBALANCE,
    RECOVER,
    RESOLVE,
    RETRY,
    RETURN,
    ROLL,
    ROLL_CONTROL,
    SCHEDULER_QUEUE,
    TUNE,
    TUNING_RANGES,
    LimitsRequest,
    MigrateRequest,
    ResolveRequest,
    RetryRequest,
    TuneRequest,
)
from worker.errors import RelayError
from worker.hypervisors.base import Phase
from worker.journal.record import PhaseRun, Record

RESULT = {
    "id": "the migration, which is the id of the task that asked for it",
    "state": "the journal's: `pending`, `active`, `backoff`, `in-doubt` or `ended`",
    "outcome": "`succeeded`, `failed`, `cancelled`, `rejected`, or null while it is not over",
    "domain": "its name on the source",
    "uuid": "of the domain; empty where it was rejected",
    "source": "host",
    "destination": "host",
    "destination_name": "the domain's name there",
    "driver": "the flag profile: `vz`, `vz-libvirt` or `qemu`",
    "flags": "those in force, lower case, sorted",
    "params": "the parameters as the request said; a definition is `(hidden)`, and a long text is cut",
    "deadline_seconds": "the one in force: the request's or the settings'; null where there is none",
    "convergence": "what is done so that perform comes to an end, where that is more than to report a stall: on_stall, "
    "timeout_seconds, on_timeout, postcopy_after_precopy",
    "attempts": "how many there were",
    "retries": "calls repeated inside phases",
    "phases": "every phase that ended: name, host, seconds, queued_seconds, attempt, and error where it failed",
    "phase": "the one under way, or null; `recover` while an interrupted attempt is brought to its end",
    "progress": "what the hypervisor last told of a perform under way, or null",
    "waiting": "null, or what it waits for while an attempt cannot go on: host, why, since (milliseconds of Unix time)",
    "seconds": "from the first phase's admission to the end",
    "downtime_seconds": "how long the guest stood still, as its hypervisor measured it; null where it did not",
    "transferred_bytes": "as the hypervisor counted them; null where it did not",
    "total_seconds": "the hypervisor's own total of the successful move; null where it does not tell",
    "iterations": "rounds of copying memory; null where the hypervisor does not count them",
    "stalled": "null, or the last verdict that perform would not come to an end: the data of the event `stalled`",
    "warning": "null, or what went wrong although the domain moved, or which host was assumed dead",
    "error": "null, or code and message of what decided the outcome",
    "requested_by": "as the request said",
    "reason": "as the request said",
    "priority": "`low`, `normal`, `high` or `urgent`",
    "batch": "the batch that asked for it, or null",
    "traceparent": "the trace that it belongs to (W3C Trace Context), or null",
    "created": "Unix time",
    "ended": "Unix time, or null",
}
EVENTS = {
    "accepted": "the request is journaled: domain, source, destination",
    "backoff": "the attempt failed and another follows: attempt, delay_seconds, code, class, message",
    "cancel": "somebody asked for it to stop: by",
    "conflict": "another request came under its id, and changed nothing: by",
    "ended": "it is over: outcome, reason",
    "hastened": "somebody asked for the next attempt to start at once: by",
    "in-doubt": "it needs an operator: source_state, destination_state, why",
    "phase": "a phase was taken by its agent: attempt, phase, host",
    "phase-ended": "a phase is over: phase, host, attempt, seconds, queued_seconds, error and message where it failed. "
    "Of `recover`, one look at one host: stage, source and destination (what they show), assumed (the sides that an "
    "operator answers for), decided (a list of action, side, why; see [recovery.md](recovery.md))",
    "progress": "how far perform is: percent and what the hypervisor tells",
    "republished": "a phase message nobody took was sent again: phase",
    "recovering": "an attempt was interrupted, or an operator asked for another look, and both hosts are looked at: "
    "phase and step that were found, host, stage, why, by, dead (the hosts that are assumed dead)",
    "restored": "Redis had forgotten the migration, its agent wrote it anew, and both hosts are looked at: phase, "
    "host, stage",
    "retry": "a call is about to be repeated: phase, host, number, delay_seconds, class, code, message",
    "stalled": "perform does not come to an end by itself: kind (`not-converging`, `no-data`, `timeout`), reason, "
    "iteration, dirty_bytes_per_second, bandwidth_bytes_per_second, expected_downtime_seconds, action (what is done "
    "about it), detail",
    "started": "an attempt has its slots: attempt, cost (how many of each), and for `outgoing` (of the source), "
    "`incoming` (of the destination), `network NAME` and `migrations` (all) how many are taken now and the limit in "
    "force; a version before wrote attempt alone",
    "tuned": "what became of a tuning: tuning (its id), kind, value, error (null, or code and message), requested_by",
    "waiting": "nothing can be done until a host is back: host, why, since (milliseconds of Unix time)",
}
EXAMPLE = Record(
    id="3f2a91c0-8a54-4d0e-9d86-2f6c2f6f0a11",
    state="ended",
    outcome="succeeded",
    domain="web-1",
    uuid="407e6e84-b2cd-5505-acd6-6cc15b293447",
    source="alpha",
    destination="beta",
    driver="vz",
    flags_label="compressed,live,persist_dest",
    attempt=1,
    phases=tuple(
        PhaseRun(1, phase, "alpha" if phase.on_source else "beta", 3.451 if phase is Phase.PERFORM else 0.003, 0.005)
        for phase in Phase
    ),
    downtime_seconds=0.505,
    transferred_bytes=6591979435,
    created=1795394265536,
    started=1795394265540,
    ended=1795394269055,
)


def contract() -> str:
    """``docs/reference/contract.md``."""
    example = EXAMPLE.document()
    if set(example) != set(RESULT):
        raise SystemExit(f"scripts/reference/contract.py does not describe {set(example) ^ set(RESULT)}")
    if (found := set(_events())) != set(EVENTS):
        raise SystemExit(f"scripts/reference/contract.py does not describe the events {found ^ set(EVENTS)}")
    return page(
        "Task contract",
        "worker/contract/, worker/journal/ and worker/errors.py",
        "What an application relies on that enqueues migrations by name. Messages, arguments and results are JSON. "
        "A change that breaks one of these gets a new version in the task's name. How to write a message by hand, and "
        "all JSON Schemas, are in [docs/contract](../contract/README.md).",
        _tasks(),
        _arguments(MIGRATE, MigrateRequest)
        + " The JSON Schema is [migrate-request.schema.json](../contract/migrate-request.schema.json); flags are in "
        "[flags.md](flags.md), parameters in [params.md](params.md).",
        _arguments(TUNE, TuneRequest)
        + " The JSON Schema is [tune-request.schema.json](../contract/tune-request.schema.json). A value is checked: "
        + "; ".join(f"`{kind}` takes {low} to {high}" for kind, (low, high) in TUNING_RANGES.items())
        + ". `answer` is `asked`: the agent does it at its next look, and the event `tuned` that names the same "
        "`tuning` tells what became of it, with the error code `too-late` where perform ended first.",
        _arguments(RESOLVE, ResolveRequest)
        + " The JSON Schema is [resolve-request.schema.json](../contract/resolve-request.schema.json). `answer` is "
        "`looking`: both hosts are looked at anew, and the events tell what was seen and done. What goes on by itself "
        "is refused. With `assume_dead` the record gets a `warning`.",
        _arguments(RETRY, RetryRequest)
        + " The JSON Schema is [retry-request.schema.json](../contract/retry-request.schema.json). `answer` is "
        "`asked`, and `migration` the id of the new migration, whose `reason` names the old one; or `hastened`, where "
        "the migration waited for its next attempt, which may start at once.",
        _arguments(LIMITS, LimitsRequest)
        + " `cluster` takes `migrations`. `limits` of the answer holds `hosts` (`outgoing` and `incoming` of each, and "
        "`at_most`, what its agent has threads for), `networks` and `migrations`; each with `used`, the `limit` "
        "in force and what was `asked` for.",
        _states(),
        "## Result document\n\nWhat the task returns, `AsyncResult(id).result` holds, and `-o json` prints.\n\n"
        + table(["field", "meaning"], [[code(name), text] for name, text in RESULT.items()])
        + f"\n\n```json\n{json.dumps(example, indent=2)}\n```",
        "## Events\n\nOf the stream `m:<id>:events`, as `vmrelay status ID --events -o json` shows them.\n\n"
        + table(["type", "meaning and data"], [[code(name), text] for name, text in EVENTS.items()]),
        _codes(),
        exit_codes(),
    )


def _tasks() -> str:
    phases = ", ".join(code(PHASE + phase) for phase in (*Phase, RECOVER))
    rows = [
        [code(MIGRATE), code(SCHEDULER_QUEUE), "the fields below, by name", "the result document"],
        [
            code(CANCEL),
            code(SCHEDULER_QUEUE),
            "`migration` (its id), `requested_by`",
            "`migration`, `answer`, `detail`",
        ],
        [code(TUNE), code(SCHEDULER_QUEUE), "the fields below, by name", "`migration`, `tuning`, `answer`"],
        [code(RESOLVE), code(SCHEDULER_QUEUE), "the fields below, by name", "`migration`, `answer`"],
        [code(RETRY), code(SCHEDULER_QUEUE), "the fields below, by name", "`migration`, `answer`"],
        [code(LIMITS), code(SCHEDULER_QUEUE), "the fields below, by name", "`changed`, `limits`"],
    ]
    rows += [
        [code(task), code(SCHEDULER_QUEUE), "of [a batch](batches.md)", "its receipt"]
        for task in (BATCH, REBALANCE, DRAIN, RETURN)
    ]
    rows.append(
        [code(CONTROL), code(SCHEDULER_QUEUE), "of [control](batches.md)", "`batch`, `answer`, `state`"],
    )
    rows += [
        [code(HOST), code(SCHEDULER_QUEUE), "of [hosts](hosts.md)", "`action`, `hosts`"],
        [code(ROLL), code(SCHEDULER_QUEUE), "of [a roll](hosts.md)", "`roll`, `answer`"],
        [code(ROLL_CONTROL), code(SCHEDULER_QUEUE), "of [a roll](hosts.md)", "`roll`, `answer`, `host`"],
    ]
    return (
        "## Tasks and queues\n\n"
        + table(["task", "queue", "arguments", "result"], rows)
        + "\n\n`answer` of a cancel is `ended` (it waited, and is cancelled now), `asked` (its phases will see it), "
        "`too-late` (perform went well, so the guest has left its source and cannot be called back; nothing is noted, "
        "`detail` is the phase) or "
        f"`over` (`detail` is the outcome). The phases are {phases}, on the queues `host.<name>`; only vmrelay itself "
        "sends them."
    )


def _arguments(task: str, model: type[BaseModel]) -> str:
    own = [kind for kind in model.__mro__ if issubclass(kind, BaseModel) and kind is not BaseModel]
    meanings = {name: text for kind in reversed(own) for name, text in described(kind).items()}
    schema = model.model_json_schema()
    properties, named = schema["properties"], schema.get("$defs", {})
    rows = [
        [code(name), _type(properties[name], named), "yes" if field.is_required() else "", meanings[name]]
        for name, field in model.model_fields.items()
    ]
    headings = ["field", "type", "required", "meaning"]
    return f"## Arguments of `{task}`\n\n{table(headings, rows)}\n\nAn unknown field is refused."


def _type(schema: dict[str, Any], named: dict[str, Any]) -> str:
    options = [named[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in _options(schema)]
    return " or ".join(str(each.get("type", "")) for each in options if each.get("type") != "null")


def _options(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return schema.get("anyOf") or schema.get("allOf") or [schema]


def _states() -> str:
    rows = [
        ["`PENDING`", "not taken by a scheduler yet, or waiting for slots (or no such task)"],
        [
            code(PROGRESS),
            "under way; `info` holds `current`, `total`, `percent`, `description`, `phase`, `host`; during "
            "perform also `remaining_bytes`, `bandwidth_bytes_per_second`, `dirty_bytes_per_second`, `iteration`, "
            "`expected_downtime_seconds`",
        ],
        ["`SUCCESS`", "the domain moved; `result` is the result document"],
        ["`FAILURE`", "rejected, failed, cancelled or in doubt; `result` is the first error"],
    ]
    kinds = [
        [code(kind.__name__), prose(kind.__doc__)]
        for kind in (errors.Rejected, errors.Failed, errors.Cancelled, errors.InDoubt)
    ]
    return (
        "## States of `AsyncResult(id)`\n\n"
        + table(["state", "meaning"], rows)
        + "\n\nThe error's type is one of\n\n"
        + table(["type", "meaning"], kinds)
    )


def _events() -> Iterator[str]:
    for file in (ROOT / "worker" / "journal" / "scripts").rglob("*.lua"):
        if file.name.startswith(("batch-", "roll-")):  # they have streams of their own
            continue
        yield from re.findall(r"(?:event\('|'type', ')([a-z-]+)'", file.read_text(encoding="utf-8"))


def _codes() -> str:
    found: dict[str, set[tuple[str, str]]] = {}
    for package in ("worker", "tasks"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for name, raised, text in _raised(ast.parse(file.read_text(encoding="utf-8"))):
                found.setdefault(name, set()).add((raised, text))
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, RelayError) and kind is not RelayError:
            found.setdefault(kind.code, set()).add((kind.__name__, prose(kind.__doc__).split(". ")[0].rstrip(".")))
    rows = [
        [code(name), ", ".join(sorted({code(raised) for raised, _ in places})), _joined({text for _, text in places})]
        for name, places in sorted(found.items())
    ]
    return (
        "## Error codes\n\nvmrelay's own; besides them `error.code` is libvirt's symbol (`VIR_ERR_…`, see "
        "[libvirt-errors.md](libvirt-errors.md)) or the SDK's (`PRL_ERR_…`, see [sdk-errors.md](sdk-errors.md)). "
        "Whatever is `Rejected` touched no host.\n\n" + table(["code", "raised as", "message"], rows)
    )


def _joined(texts: set[str]) -> str:
    return " / ".join(sorted(text for text in texts if text))


def _raised(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Code, class and message of everything that is raised with a code of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kind = getattr(errors, node.func.id, None)
            text = _message(node.args[0]) if node.args else ""
            if isinstance(kind, type) and issubclass(kind, RelayError):
                given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                yield from ((name, node.func.id, text) for value in given for name in _ours(value))
            elif node.func.id == "_error":  # the Virtuozzo driver's short way to a HypervisorError
                yield from ((name, "HypervisorError", text) for value in node.args[1:2] for name in _ours(value))


def _ours(node: ast.expr) -> Iterator[str]:
    """The codes that an expression may be, but no symbols of libvirt or the SDK."""
    match node:
        case ast.Constant(value=str(name)) if name.islower() and not name.startswith("0x"):
            yield name
        case ast.IfExp(body=one, orelse=other):
            yield from _ours(one)
            yield from _ours(other)


def _message(node: ast.expr) -> str:
    """A message as its source writes it, with what is filled in left out."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in values)
    return ""
