"""QEMU through libvirt, with a migration that the relay drives: what was seen live (docs/architecture.md, section 5).

The job of begin and the incoming domain live as long as their agent's connection. A copy that runs goes on without
its agent, and leaves the guest paused on both sides. Repeated calls do what they do to libvirt 9.0.0, the two that
make a second running copy among them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from chaos.explorer.model import DESTINATION, SOURCE, Answer, Fault, Step, failed

VERIFY, OPERATOR, TRANSIENT, PERMANENT, REPREPARE = "verify", "operator", "transient", "permanent", "re-prepare"
BROKEN = failed("VIR_ERR_OPERATION_FAILED", VERIFY, TRANSIENT)
LIVE = ("running", "paused", "out")


class Qemu(NamedTuple):
    """Both hosts. A connection is known by its agent's incarnation and the daemon's generation."""

    source: str = "running"
    """running, paused (by its user), out (by the migration), off, absent."""
    destination: str = "absent"
    """absent, in (incoming), running, paused, off; remains: stored by a finish whose daemon died before it ran."""
    job: str = ""
    """The connection that holds the source's job."""
    performed: bool = False
    """That job has copied everything."""
    copy: str = ""
    """The stream: copying, sent, broken; empty before it."""
    incoming: str = ""
    """The connection that prepared the incoming domain; empty: libvirt is about to destroy it."""
    whole: bool = False
    """The incoming domain has received everything."""
    began: tuple[str, bool] = ("", False)
    """The agent's own memory: over which connection it began, and whether it performed (``Attempts``)."""
    call: str = ""
    ended: str = ""
    """How the pending perform ended: ok, failed, cancelled."""
    generations: tuple[int, int] = (0, 0)
    old: str = ""
    """The side whose copy is older than the guest."""
    given_up: bool = False
    """Perform has failed: what the destination has is dropped, as libvirt itself does, even if the source dies then."""
    was_paused: bool = False
    guarded: bool = True
    """The driver makes perform once at most, by its own memory."""
    is_lost: bool = False
    wrong: str = ""

    # -- looks -------------------------------------------------------------------------------------------------

    def inspect(self, side: int) -> Answer:
        """``states.domain_state``."""
        if side == SOURCE:
            if self.copy == "copying" and self.source in LIVE:
                return "migrating"
            return {"out": "paused-out", "off": "shutoff"}.get(self.source, self.source)
        return {"in": "paused-in", "off": "shutoff", "remains": "shutoff"}.get(self.destination, self.destination)

    def told(self) -> str:
        """Both sides in words."""
        words = f"source {self.inspect(SOURCE)}, destination {self.inspect(DESTINATION)}"
        more = [f"job of {self.job}" if self.job else "", f"copy {self.copy}" if self.copy else ""]
        more += ["all copied" if self.whole else "", f"the {self.old}'s copy is old" if self.old else ""]
        return ", ".join([words, *filter(None, more)])

    def copies(self) -> str:
        """Where the guest is, where that is one place."""
        nothing = self.destination in ("absent", "off", "remains") or (self.destination == "in" and not self.whole)
        if self.source in ("running", "paused") and nothing:
            return "source"
        if self.destination in ("running", "paused") and self.source in ("absent", "off"):
            return "destination"
        if self.source in ("absent", "off") and nothing:
            return "nowhere"
        return f"left over: {self.told()}"

    def remains(self) -> str:
        """What is in the way of the next migration, until the agent that holds it ends."""
        found = ["the destination still waits for it"] if self.destination == "in" else []
        found += ["the destination has a definition of it"] if self.destination == "remains" else []
        found += ["its job is still held"] if self.job and self.source in LIVE else []
        return " and ".join(found)

    # -- executing: the one thing that must not happen twice -----------------------------------------------------

    def _source_runs(self) -> Qemu:
        after = self._replace(source="paused" if self.was_paused else "running")
        if self.destination == "running":
            return after._wrong("two running copies: the source was let run while the destination runs")
        if self.old == "source":
            return after._wrong("an old copy runs: the destination has run since the source stopped")
        return after._replace(old="destination" if self.whole and self.destination == "in" else self.old)

    def _destination_runs(self) -> Qemu:
        after = self._replace(destination="paused" if self.was_paused else "running", incoming="", old="source")
        if self.source == "running":
            return after._wrong("two running copies: the destination was let run while the source runs")
        if self.old == "destination":
            return after._wrong("an old copy runs: the source has run since it was copied")
        return after

    def _wrong(self, what: str) -> Qemu:
        return self._replace(wrong=self.wrong or what)

    def _newest(self) -> int:
        """How many copies have all of the guest as it is now."""
        there = self.destination in ("running", "paused") or (self.destination == "in" and self.whole)
        return (self.source in LIVE and self.old != "source") + (there and self.old != "destination")

    def _ends(self, side: int) -> Qemu:
        """A copy ends because somebody asked for it."""
        after = self._replace(source="absent") if side == SOURCE else self._gone()
        return after._wrong("the last copy was removed") if self._newest() and not after._newest() else after

    def _dies(self, after: Qemu) -> Qemu:
        """A copy ends with what it ran on."""
        return after._replace(is_lost=self.is_lost or bool(self._newest() and not after._newest()))

    def _gone(self) -> Qemu:
        return self._replace(destination="absent", incoming="", whole=False)

    # -- calls ---------------------------------------------------------------------------------------------------

    def do(self, side: int, request: tuple[Any, ...], token: str, agent: str) -> list[tuple[Qemu, Answer]]:
        """What a call comes to: ``worker/hypervisors/libvirt/managed.py`` over what libvirt does."""
        connection = f"{agent}/{self.generations[side]}"
        match request:
            case ("begin",):
                return [self._begin(connection)]
            case ("prepare",):
                return [self._prepare(connection)]
            case ("perform",):
                return self._perform(connection, token)
            case ("finish", cancelled):
                return self._drop() if cancelled else self._finish()
            case ("confirm", cancelled):
                return [self._confirm(connection, cancelled)]
            case ("follow",):
                return [] if self.inspect(SOURCE) == "migrating" else [(self, self.inspect(SOURCE))]
            case ("release",):
                return [self._release(connection)]
            case ("abort",):
                return [(self.abort(), "")]
            case ("resume",):
                after = self._source_runs() if self.source in ("out", "paused") else self
                return [(after, after.inspect(SOURCE))]
            case ("remove",):
                return [(self._ends(DESTINATION), "")]
            case _:
                return [(self, self.inspect(side))]

    def _begin(self, connection: str) -> tuple[Qemu, Answer]:
        if self.source not in ("running", "paused"):
            return self, failed("VIR_ERR_OPERATION_INVALID", PERMANENT, PERMANENT)
        if self.job or self.copy == "copying":
            return self, failed("VIR_ERR_OPERATION_INVALID", TRANSIENT, TRANSIENT)
        began = self._replace(job=connection, performed=False, copy="", given_up=False, began=(connection, False))
        return began, self.source == "paused"

    def _prepare(self, connection: str) -> tuple[Qemu, Answer]:
        if self.destination in ("in", "running", "paused"):
            return self, failed("VIR_ERR_OPERATION_INVALID", VERIFY, PERMANENT)
        return self._replace(destination="in", incoming=connection, whole=False, old=""), ""

    def _perform(self, connection: str, token: str) -> list[tuple[Qemu, Answer]]:
        if self.call == token:
            answers = {"ok": "", "failed": BROKEN, "cancelled": ("cancelled",)}
            if not self.ended:
                return []
            after = self._replace(call="", ended="")
            freed = after if self.ended == "ok" else after._replace(job="", performed=False, given_up=True)
            return [(freed, answers[self.ended])]
        over, performed = self.began
        if performed and not self.guarded and self.source == "out":
            # "migration protocol going backwards": the error lets the source run
            return [(self._source_runs(), failed("VIR_ERR_INTERNAL_ERROR", VERIFY, OPERATOR))]
        if performed:
            return [(self, failed("VIR_ERR_OPERATION_INVALID", VERIFY, OPERATOR))]
        if over != connection:
            return [(self, failed("VIR_ERR_OPERATION_INVALID", REPREPARE, REPREPARE))]
        begun = self._replace(began=(over, True))
        if self.source not in ("running", "paused") or self.job != connection or self.destination != "in":
            return [(begun._replace(job="", performed=False), BROKEN)]
        return [(begun._replace(copy="copying", call=token, ended=""), None)]

    def _finish(self) -> list[tuple[Qemu, Answer]]:
        if self.destination == "in":
            # QEMU does not leave its incoming state before it has everything: libvirt waits.
            after = self._destination_runs() if self.whole else self
            return [(after, after.destination)] if self.whole else []
        if self.destination in ("running", "paused"):
            return [(self, self.destination)]
        return [(self, failed("VIR_ERR_NO_DOMAIN", VERIFY, PERMANENT))]

    def _drop(self) -> list[tuple[Qemu, Answer]]:
        after = self
        if self.destination in ("in", "remains"):
            dead = self.given_up and self.source not in LIVE
            after = self._dies(self._gone()) if dead else self._ends(DESTINATION)
        return [(after, after.inspect(DESTINATION))]

    def _confirm(self, connection: str, cancelled: bool) -> tuple[Qemu, Answer]:
        after = self
        if self.source != "absent" and self.began[0] == connection and self.job == connection:
            if self.copy == "copying" or (not cancelled and not self.performed):
                return self, failed("VIR_ERR_OPERATION_TIMEOUT", TRANSIENT, TRANSIENT)
            after = after._replace(job="", performed=False)
            if not cancelled:
                after = after._ends(SOURCE)
            elif self.source == "out":
                after = after._source_runs()
        after = after._replace(began=("", False))
        if cancelled and after.source == "out":
            after = after._source_runs()
        if not cancelled and after.source != "absent":
            return after, failed("VIR_ERR_OPERATION_INVALID", VERIFY, OPERATOR)
        return after, after.inspect(SOURCE)

    def _release(self, connection: str) -> tuple[Qemu, Answer]:
        if self.inspect(SOURCE) in ("running", "migrating"):
            return self, failed("VIR_ERR_OPERATION_INVALID", VERIFY, OPERATOR)
        after = self._ends(SOURCE)._replace(job="", performed=False, began=("", False))
        return after, after.inspect(SOURCE)

    def abort(self) -> Qemu:
        """``virDomainAbortJob``."""
        if self.copy != "copying":
            return self
        job = "" if not self.call else self.job
        return self._replace(copy="broken", job=job, ended="cancelled" if self.call else "")

    # -- what happens by itself, and what breaks -------------------------------------------------------------------

    def goes_on(self) -> list[Step]:
        """The stream comes to its end, or to its other end's; what libvirt was about to destroy goes."""
        steps = []
        if self.copy == "copying":
            if self.destination == "in":
                source = "paused" if self.was_paused else "out"
                ended = "ok" if self.call else ""
                after = self._replace(source=source, copy="sent", whole=True, ended=ended, performed=bool(self.job))
                steps.append(Step("QEMU has copied everything", after))
            else:
                steps.append(Step("the copy fails: nothing listens", self._stream_broken()))
        if self.destination == "in" and not self.whole and self.copy == "broken":
            steps.append(Step("the destination's QEMU ends: its stream broke", self._gone()))
        if self.destination == "in" and not self.incoming:
            after = self._dies(self._gone())
            steps.append(Step("libvirt destroys the incoming domain of a lost connection", after))
        return steps

    def _stream_broken(self) -> Qemu:
        if self.copy != "copying":
            return self
        return self._replace(copy="broken", ended="failed" if self.call else "", job=self.job if self.call else "")

    def agent_died(self, side: int) -> Qemu:
        """Its connection closes: the job goes, the incoming domain will; a copy that runs goes on."""
        if side == SOURCE:
            return self._replace(job="", performed=False, began=("", False), call="", ended="")
        return self._replace(incoming="")

    def connection_lost(self, side: int) -> Qemu:
        """The agent lives, and connects anew: what hung on the connection goes as if it had died."""
        before, after = self.generations
        if side == SOURCE:
            ended = "failed" if self.call else ""
            return self._replace(job="", performed=False, ended=ended, generations=(before + 1, after))
        return self._replace(incoming="", generations=(before, after + 1))

    def faults(self) -> list[Fault]:
        """A broken stream, a daemon that restarts, a host that loses power and comes back."""
        found = [Fault("libvirtd of the source restarts", self._source_daemon())]
        found.append(Fault("libvirtd of the destination restarts", self._destination_daemon()))
        found.append(Fault("the source's host loses power", self._source_host(), SOURCE))
        found.append(Fault("the destination's host loses power", self._destination_host(), DESTINATION))
        if self.destination == "in" and self.whole:
            after = self._destination_daemon()._replace(destination="remains")
            found.append(Fault("libvirtd of the destination is killed in a finish before the guest runs", after))
        if self.copy == "copying":
            found.append(Fault("the link between the hosts breaks", self._stream_broken()))
        return found

    def _source_daemon(self) -> Qemu:
        ended = "failed" if self.call else ""
        after = self._stream_broken()._replace(job="", performed=False, ended=ended)
        return after._replace(generations=(self.generations[0] + 1, self.generations[1]))

    def _destination_daemon(self) -> Qemu:
        after = self._dies(self._gone()) if self.destination == "in" else self
        return after._replace(incoming="", generations=(self.generations[0], self.generations[1] + 1))

    def _source_host(self) -> Qemu:
        if self.source not in LIVE:
            return self
        return self._dies(self._stream_broken()._replace(source="off"))

    def _destination_host(self) -> Qemu:
        if self.destination in ("running", "paused"):
            return self._dies(self._replace(destination="off"))
        return self._dies(self._gone()) if self.destination == "in" else self
