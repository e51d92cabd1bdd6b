"""What other programs rely on of hosts: cordons, homes, rolls."""

from __future__ import annotations

from contract import _arguments
from page import code, page, table

from worker.cli.rolls import LINES
from worker.contract import HOST, ROLL, ROLL_CONTROL, HostRequest, RollControlRequest, RollRequest
from worker.journal.cordons import Cordon, Home
from worker.journal.rolls import STATES, Roll

STATES_MEAN = {
    "running": "it drains, waits for or returns to one of its hosts",
    "stopped": "a drain left guests behind, or was refused; it goes on when somebody says `continue`",
    "cancelled": "somebody ended it",
    "finished": "all hosts are done",
}
ROLL_MEANS = {
    "id": "the roll: the request's `batch`, or the id of the task that asked for it",
    "state": "see above",
    "hosts": "in this order",
    "done": "those that it is done with",
    "host": "the one that it is at; null when it is over",
    "step": "`drain`, `wait` or `return`; null when it is over",
    "batch": "the [batch](batches.md) of this step, `<roll>.drain.<host>` or `<roll>.return.<host>`, with `.2`… "
    "behind it when it is tried again; null when it is over",
    "why": "why it stopped, or who cancelled it; null otherwise",
    "notes": "whose guests did not come home",
    "wait": "`operator` or `agent`",
    "back": "whether guests are brought home",
    "requested_by": "as the request said",
    "reason": "as the request said",
    "created": "Unix time",
    "ended": "Unix time, or null",
}
EVENTS = {
    "begun": "hosts",
    "drained": "a host is empty: host, moved, batch",
    "ready": "the drained host is ready, its guests come home: host, why",
    "returned": "the host has its guests back, the next one is drained: host, back, note (who did not come home)",
    "finished": "the same of the last host",
    "stopped": "host, why",
    "resumed": "somebody said continue: host, by, step",
    "cancelled": "host, by",
}
CORDON = {
    "by": "as the request said",
    "reason": "as the request said",
    "at": "since when, milliseconds of Unix time",
    "batch": "the drain that cordoned it; empty where none did",
    "settings": "whether the settings cordon it, which `uncordon` cannot undo",
}
HOME = {
    "uuid": "of the guest",
    "domain": "its name",
    "host": "where it belongs",
    "to": "where the drain sent it",
    "batch": "that drain",
    "at": "when it left, milliseconds of Unix time",
}


def hosts() -> str:
    """``docs/reference/hosts.md``."""
    described = (
        ("roll", Roll("r", ("h",)).document(), ROLL_MEANS),
        ("cordon", Cordon().document(), CORDON),
        ("home", Home("", "", "", "", "", 0).document(), HOME),
        ("roll's state", STATES, STATES_MEAN),
        ("roll's event", LINES, EVENTS),
    )
    for what, found, known in described:
        if set(found) != set(known):
            raise SystemExit(f"scripts/reference/hosts.py does not describe of a {what}: {set(found) ^ set(known)}")
    return page(
        "Hosts",
        "worker/contract/bulk.py, worker/journal/cordons.py and worker/journal/rolls.py",
        "Cordons, homes and rolls: what an application relies on. How they are used is told in "
        "[the guide](../howto/drain.md); draining and returning are [batches](batches.md).",
        "The tasks are sent to the queue `scheduler`.",
        _arguments(HOST, HostRequest)
        + " The answer is `action` and `hosts`: for each one `changed` (false where it was "
        "so already), `turned_away` (how many migrations that waited towards it were ended) and `cordon` (null, or as "
        "below).\n\n### A cordon\n\n" + _rows(CORDON),
        "## A home\n\nOf the hash `homes`, by uuid.\n\n" + _rows(HOME),
        _arguments(ROLL, RollRequest)
        + " The answer is `roll` (its id) and `answer`: `begun`, or `same` where there is a "
        "roll with this id already.",
        _arguments(ROLL_CONTROL, RollControlRequest) + " The answer is `roll`, `answer` (`asked`) and `host`.",
        "## States of a roll\n\n" + _rows(STATES_MEAN),
        "## A roll\n\nAs `vmrelay rolling status -o json` shows it.\n\n" + _rows(ROLL_MEANS),
        "## Events of a roll\n\nOf the stream `roll:<id>:events`.\n\n" + _rows(EVENTS),
    )


def _rows(meanings: dict[str, str]) -> str:
    return table(["name", "meaning"], [[code(name), text] for name, text in meanings.items()])
