"""Virtuozzo: the dispatchers do all of it in perform, and go on without the agent (the facts on the SDK, 3.4)."""

from __future__ import annotations

from typing import Any, NamedTuple

from chaos.explorer.model import DESTINATION, SOURCE, Answer, Fault, Step, failed

VERIFY, OPERATOR, TRANSIENT, PERMANENT = "verify", "operator", "transient", "permanent"
DOUBT = failed("PRL_ERR_OPERATION_WAS_CANCELED", VERIFY, TRANSIENT)
LIVE = ("running", "paused", "held")


class Vz(NamedTuple):
    """Both dispatchers and their guest."""

    source: str = "running"
    """running, paused (by its user), held (for the switch-over), stopped, absent."""
    destination: str = "absent"
    """absent, arriving, running, paused, stopped."""
    move: str = ""
    """The source dispatcher's task: copying, held, switched; empty where there is none."""
    call: str = ""
    ended: str = ""
    was_paused: bool = False
    old: str = ""
    is_lost: bool = False
    wrong: str = ""

    def inspect(self, side: int) -> Answer:
        """``vz.states.domain_state``."""
        if side == SOURCE:
            return "migrating" if self.move == "copying" else _SHOWN.get(self.source, self.source)
        return _SHOWN.get(self.destination, self.destination)

    def told(self) -> str:
        """Both sides in words."""
        more = f", dispatchers: {self.move}" if self.move else ""
        old = f", the {self.old}'s copy is old" if self.old else ""
        return f"source {self.inspect(SOURCE)}, destination {self.inspect(DESTINATION)}{more}{old}"

    def copies(self) -> str:
        """Where the guest is, where that is one place."""
        if self.source in ("running", "paused") and self.destination in ("absent", "stopped") and not self.move:
            return "source"
        if self.destination in ("running", "paused") and self.source in ("absent", "stopped") and not self.move:
            return "destination"
        gone = ("absent", "stopped")
        return "nowhere" if self.source in gone and self.destination in gone else f"left over: {self.told()}"

    def remains(self) -> str:
        """What is in the way of the next migration."""
        return "remains are on the destination" if self.source in LIVE and self.destination == "stopped" else ""

    def _wrong(self, what: str) -> Vz:
        return self._replace(wrong=self.wrong or what)

    def _source_runs(self) -> Vz:
        after = self._replace(source="paused" if self.was_paused else "running")
        if self.destination == "running":
            return after._wrong("two running copies: the source was let run while the destination runs")
        if self.old == "source":
            return after._wrong("an old copy runs: the destination has run since the source stopped")
        return after

    def do(self, side: int, request: tuple[Any, ...], token: str, agent: str) -> list[tuple[Vz, Answer]]:
        """What a call comes to: ``worker/hypervisors/vz/driver.py`` over what the dispatchers do."""
        match request:
            case ("begin",):
                steady = self.source in ("running", "paused") and not self.move
                refused = failed("VIR_ERR_OPERATION_INVALID", PERMANENT, PERMANENT)
                return [(self, self.source == "paused" if steady else refused)]
            case ("prepare",):
                taken = failed("PRL_ERR_VM_ALREADY_REGISTERED_VM_UUID", PERMANENT, PERMANENT)
                return [(self, "" if self.destination == "absent" else taken)]
            case ("perform",):
                return self._perform(token)
            case ("finish", cancelled):
                return self._finish(cancelled)
            case ("confirm", cancelled):
                return self._confirm(cancelled)
            case ("follow",):
                return [] if self.move == "copying" else [(self, self.inspect(SOURCE))]
            case ("release",):
                return [self._release()]
            case ("abort",):
                return [(self.abort(), "")]
            case ("resume",):
                if self.move or self.source not in ("held", "paused", "running"):
                    return [(self, failed("VIR_ERR_OPERATION_INVALID", OPERATOR, OPERATOR))]
                after = self if self.source == "running" else self._source_runs()
                return [(after, after.inspect(SOURCE))]
            case ("remove",):
                return [self._remove()]
            case _:
                return [(self, self.inspect(side))]

    def _perform(self, token: str) -> list[tuple[Vz, Answer]]:
        if self.call == token:
            answers = {"ok": "", "failed": DOUBT, "cancelled": ("cancelled",)}
            return [(self._replace(call="", ended=""), answers[self.ended])] if self.ended else []
        if self.move or self.source not in ("running", "paused"):
            return [(self, failed("VIR_ERR_OPERATION_INVALID", VERIFY, OPERATOR))]
        if self.destination != "absent":
            return [(self, failed("PRL_ERR_VM_ALREADY_REGISTERED_VM_UUID", VERIFY, OPERATOR))]
        return [(self._replace(move="copying", destination="arriving", call=token, ended="", old=""), None)]

    def _finish(self, cancelled: bool) -> list[tuple[Vz, Answer]]:
        if self.destination == "arriving":
            return []
        if cancelled or self.destination in ("running", "paused"):
            return [(self, self.inspect(DESTINATION))]
        return [(self, failed("PRL_ERR_VM_UUID_NOT_FOUND", VERIFY, OPERATOR))]

    def _confirm(self, cancelled: bool) -> list[tuple[Vz, Answer]]:
        if cancelled or self.source == "absent":
            return [(self, self.inspect(SOURCE))]
        return [] if self.move else [(self, failed("source-kept", VERIFY, OPERATOR))]

    def _release(self) -> tuple[Vz, Answer]:
        if self.move or self.source == "running":
            return self, failed("VIR_ERR_OPERATION_INVALID", VERIFY, OPERATOR)
        last = self.source in ("paused", "held") and self.old != "source" and self.destination not in LIVE
        after = self._replace(source="absent")
        return (after._wrong("the last copy was removed") if last and not self.is_lost else after), after.inspect(
            SOURCE
        )

    def _remove(self) -> tuple[Vz, Answer]:
        if self.destination == "arriving":
            return self, failed("PRL_ERR_VM_LOCKED_FOR_MIGRATE", VERIFY, OPERATOR)
        last = self.destination in ("running", "paused") and (self.source not in LIVE or self.old == "source")
        after = self._replace(destination="absent")
        return (after._wrong("the last copy was removed") if last else after), ""

    def abort(self) -> Vz:
        """``PrlJob_Cancel``: too late from the switch-over on."""
        return self._rolled_back("cancelled", "absent") if self.move == "copying" else self

    def _rolled_back(self, ended: str, destination: str) -> Vz:
        source = "paused" if self.was_paused else "running"
        ended = ended if self.call else ""
        return self._replace(source=source, destination=destination, move="", ended=ended)

    def goes_on(self) -> list[Step]:
        """The dispatchers' steps."""
        if self.move == "copying":
            source = "paused" if self.was_paused else "held"
            return [Step("the guest is stopped for the switch-over", self._replace(source=source, move="held"))]
        if self.move == "held":
            state = "paused" if self.was_paused else "running"
            after = self._replace(source="stopped", destination=state, move="switched", old="source")
            return [Step("the guest runs on the destination", after)]
        if self.move == "switched":
            after = self._replace(source="absent", move="", ended="ok" if self.call else "")
            return [Step("the source's dispatcher lets go", after)]
        return []

    def agent_died(self, side: int) -> Vz:
        """The dispatchers go on; nobody waits for the answer."""
        return self._replace(call="", ended="") if side == SOURCE else self

    def connection_lost(self, side: int) -> Vz:
        """The dispatchers go on, and the agent finds out (``Perform._follow_unattended``)."""
        return self

    def faults(self) -> list[Fault]:
        """A dispatcher that crashes, the link between them, a host that loses power."""
        found = [Fault("the source's host loses power", self._source_host(), SOURCE)]
        found.append(Fault("the destination's host loses power", self._destination_host(), DESTINATION))
        if self.move:
            found.append(Fault("the source's dispatcher crashes", self._source_daemon()))
            found.append(Fault("the destination's dispatcher crashes", self._destination_daemon()))
            found.append(Fault("the link between the dispatchers breaks", self._link()))
        return found

    def _ended(self) -> str:
        return "failed" if self.call else ""

    def _link(self) -> Vz:
        if self.move == "switched":  # the target takes back what it had not finished, and the source has stopped
            return self._replace(destination="absent", move="", ended=self._ended(), is_lost=True)
        return self._rolled_back("failed", "absent")

    def _source_daemon(self) -> Vz:
        if self.move == "copying":
            return self._rolled_back("failed", "absent")
        if self.move == "held":
            return self._replace(destination="absent", move="", ended=self._ended())
        return self._link()

    def _destination_daemon(self) -> Vz:
        if self.move == "switched":
            return self._replace(move="", ended=self._ended())
        return self._rolled_back("failed", "stopped")

    def _source_host(self) -> Vz:
        after = self._link() if self.move else self
        if after.source not in LIVE:
            return after
        return after._replace(source="stopped", is_lost=self.is_lost or after.old != "source")

    def _destination_host(self) -> Vz:
        after = self._destination_daemon() if self.move else self
        if after.destination in ("running", "paused"):
            return after._replace(destination="stopped", is_lost=True)
        return after


_SHOWN = {"held": "paused", "stopped": "shutoff", "arriving": "migrating"}
