"""One exploration from beginning to end: a server, the tasks, a model, a search."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from chaos.explorer.actors import Actors
from chaos.explorer.broken import BROKEN
from chaos.explorer.ledger import Ledger
from chaos.explorer.model import Pair
from chaos.explorer.qemu import Qemu
from chaos.explorer.search import Report, Search
from chaos.explorer.state import Rules
from chaos.explorer.vz import Vz
from chaos.explorer.world import World
from worker.embedded import EmbeddedRedis
from worker.journal import connect

MODELS = ("qemu", "vz")


def pair_of(model: str, *, paused: bool = False, guarded: bool = True) -> Pair:
    """Both hosts before the migration. Raises ``ValueError`` for an unknown model."""
    state = "paused" if paused else "running"
    match model:
        case "qemu":
            return Qemu(source=state, was_paused=paused, guarded=guarded)
        case "vz":
            return Vz(source=state, was_paused=paused)
    raise ValueError(f"no model '{model}'")


def explore(
    model: str,
    rules: Rules,
    *,
    paused: bool = False,
    broken: str = "",
    seconds: float = 0.0,
    most: int = 0,
    first: bool = False,
) -> Report:
    """Visit all states of one model under the given rules.

    ``paused``: the guest was paused by its user. ``broken``: a rule that is wrong on purpose (``BROKEN``).
    Ends early after so many ``seconds``, more than ``most`` states, or (``first``) the first violation.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(EmbeddedRedis(Path(folder), appendfsync="no"))
        client = stack.enter_context(connect(server.url))
        wrong = BROKEN[broken] if broken else None
        if wrong:
            stack.enter_context(wrong.installed())
            rules = rules._replace(unguarded=wrong.unguarded)
        ledger, actors = Ledger(client, wrong.scripts if wrong else ()), Actors(model)
        stack.enter_context(actors.installed())
        pair = pair_of(model, paused=paused, guarded=not (wrong and wrong.unguarded))
        return Search(World(ledger, actors, pair, model, rules), most, seconds, first).run()
