"""What other programs rely on of batches: tasks, documents, states, events."""

from __future__ import annotations

from contract import _arguments
from page import code, described, page, prose, table
from pydantic import BaseModel

from tasks import receipt
from worker.contract import (
    BATCH,
    CONTROL,
    DRAIN,
    REBALANCE,
    RETURN,
    BatchMove,
    BatchRequest,
    ControlRequest,
    DrainRequest,
    Goal,
    RebalanceRequest,
    ReturnRequest,
)
from worker.journal.batch import Batch, Item
from worker.journal.batches import Batches

STATES = {
    "planning": "it is planned, or its moves are written down",
    "planned": "it waits for `resume` (`hold`): nothing has moved yet",
    "running": "its moves are asked for, as there is room",
    "paused": "nothing new is asked for; what runs ends as it does",
    "cancelling": "what waits is skipped; what runs ends as it does, or is cancelled, too (`abort`)",
    "finished": "nothing of it waits or runs: there is a receipt",
}
RECEIPT = {
    "id": "the batch",
    "kind": "`list`, `plan`, `rebalance`, `drain` or `return`",
    "state": "see above",
    "hosts": "those that are drained or returned to",
    "priority": "as the request said",
    "requested_by": "as the request said",
    "reason": "as the request said",
    "total": "its moves; those that a later plan replaced are not counted",
    "moved": "how many were made",
    "failed": "how many failed, or were refused when their turn came",
    "skipped": "how many were not tried, each with its reason",
    "asked": "how many have a migration now",
    "waiting": "how many have none yet",
    "in_doubt": "migrations of it that an operator has to look at; it does not finish before",
    "replans": "how often it has planned anew because of what happened",
    "planned_seconds": "how long the last plan expected to take; null for a list",
    "notes": "what is to be said of it in words",
    "left": "who stays where the batch did not want it: guest (uuid), domain, host, code, why, unblock (what would let "
    "it move). Of a drain: all that are still on its hosts when it ends",
    "traceparent": "the trace that it belongs to (W3C Trace Context), or null",
    "created": "Unix time",
    "started": "when it began to ask for its moves; null before",
    "ended": "null before its end",
    "summary": "the counts in words",
    "reasons": "for each state and code, how many moves: state, code, number",
    "failures": f"the moves that failed, at most {receipt.MOST_NAMED}",
    "skips": f"those that were skipped, at most {receipt.MOST_NAMED}",
}
MOVE = {
    "n": "its number, from 1",
    "domain": "its name, or what the request called it",
    "uuid": "of the domain; null where the request said a name",
    "source": "host; null where the request did not say",
    "destination": "host; null where a plan leaves the guest where it is",
    "after": "it starts when these have been made",
    "planned": "why the plan has it",
    "state": "`waiting`, `asked`, `moved`, `failed`, `skipped` or `replaced`",
    "migration": "its id: `<batch>.<n>`, with `.<try>` behind it from the second try on; null before its turn",
    "code": "why it failed or was skipped: an error code, or one of those below",
    "why": "the same in words",
}
CODES = {
    "cancelled": "the batch was cancelled before its turn, or somebody cancelled its migration",
    "depends": "it fits only after another move, which was not made",
    "same-host": "its guest is there already",
    "pinned, no-room, no-host, rule, stuck, limit, excluded, not-worth, host-away, state": "the plan leaves it where "
    "it is",
    "moved-since": "a drain sent it away, and somebody has moved it since",
    "id-taken": "another migration has the id that this one would have",
}
LEFT_CODES = {
    "failed": "its migration failed",
    "stopped": "its guest does not run; a drain starts and stops none",
    "arrived": "it came after the last plan",
    "no-plan": "planning failed",
}


def batches() -> str:
    """``docs/reference/batches.md``."""
    told = receipt.receipt(Batch("b", "list", "finished"), [])
    for what, found, known in (("receipt", told, RECEIPT), ("move", Item(1, "web").document(), MOVE)):
        if set(found) != set(known):
            raise SystemExit(f"scripts/reference/batches.py does not describe of a {what}: {set(found) ^ set(known)}")
    return page(
        "Batches",
        "worker/contract/, worker/journal/ and tasks/",
        "Many migrations asked for together: what an application relies on. How they are used is told in "
        "[the guide](../howto/batches.md).",
        "## Tasks\n\nOn the queue `scheduler`. The batch's id is the request's `batch`, or the task's own. "
        "`AsyncResult` of the batch's id shows how far it is (state `PROGRESS`: `current`, `total`, `percent`, "
        "`description`, `batch`), and in the end the receipt, whatever became of its moves: state `FAILURE` means that "
        "the request was refused. A task of another id gets `batch`, `answer` (`accepted` or `same`) and `state`.\n\n"
        + table(["task", "arguments"], _rows()),
        _arguments(BATCH, BatchRequest)
        + " The JSON Schema is [batch-request.schema.json](../contract/batch-request.schema.json).",
        "### One of `moves`\n\n" + table(["field", "meaning"], _meanings(BatchMove)),
        _arguments(REBALANCE, RebalanceRequest),
        "### `goal`\n\nWhat it does not say, the settings say (`[planning]`).\n\n"
        + table(["field", "meaning"], _meanings(Goal)),
        _arguments(DRAIN, DrainRequest),
        _arguments(RETURN, ReturnRequest),
        _arguments(CONTROL, ControlRequest)
        + " `answer` is `ok`, `same` (it is so already), `over` (too late for it; or, of a retry, too early: what was "
        "planned is planned anew once the batch has finished) or `none` (there is nothing to retry).",
        "## States\n\n" + table(["state", "meaning"], [[code(name), text] for name, text in STATES.items()]),
        "## Receipt\n\n" + table(["field", "meaning"], [[code(name), text] for name, text in RECEIPT.items()]),
        "### A move\n\n" + table(["field", "meaning"], [[code(name), text] for name, text in MOVE.items()]),
        "### Codes of moves and of who is left\n\nBesides the [error codes](contract.md#error-codes).\n\n"
        + table(["code", "meaning"], _coded()),
        "## Events\n\nOf the stream `b:<id>:events`. " + prose(Batches.batch_events.__doc__).split("asked to. ")[1],
    )


def _rows() -> list[list[str]]:
    models: dict[str, type[BaseModel]] = {
        BATCH: BatchRequest,
        REBALANCE: RebalanceRequest,
        DRAIN: DrainRequest,
        RETURN: ReturnRequest,
        CONTROL: ControlRequest,
    }
    return [[code(name), ", ".join(map(code, model.model_fields))] for name, model in models.items()]


def _meanings(model: type) -> list[list[str]]:
    return [[code(name), text] for name, text in described(model).items() if text]


def _coded() -> list[list[str]]:
    return [
        [", ".join(map(code, name.split(", "))), text] for known in (CODES, LEFT_CODES) for name, text in known.items()
    ]
