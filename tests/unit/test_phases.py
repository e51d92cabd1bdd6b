"""Phases that do something of their own: perform of an offline move, and what follows for a host that is dead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.exceptions import Ignore
from terms import terms_text

from tasks import dispatch, phases, work
from tasks.watch import JournalWatch
from worker.agent import Agent
from worker.contract import Baton
from worker.errors import Failed
from worker.hypervisors.base import Domain, DomainState, Performed, Phase
from worker.hypervisors.flags import MigrateFlag
from worker.journal import Journal, connect
from worker.seal import Seal

BATON = Baton(
    migration="m",
    attempt=1,
    epoch=1,
    domain="web",
    uuid="u",
    source="alpha",
    destination="beta",
    flags=int(MigrateFlag.OFFLINE),
)


@pytest.mark.parametrize("state", list(DomainState))
def test_a_definition_moves_only_while_nothing_runs(state: DomainState) -> None:
    """Somebody started the domain after it was asked for: perform fails before anything is kept elsewhere."""
    performed: list[str] = []

    def perform(move: Any, xml: str, uri: str, cookie: bytes, watch: Any) -> Performed:
        performed.append(uri)
        return Performed()

    seal = Seal(bytes(32))
    hypervisor = SimpleNamespace(inspect=lambda uuid: Domain("web", uuid, state), perform=perform)
    agent = cast(Agent, SimpleNamespace(hypervisor=hypervisor, seal=seal))
    sealed = {kind: seal.seal(b"", BATON.context(kind)) for kind in ("xml", "cookie")}
    baton, watch = BATON.model_copy(update=sealed), cast(JournalWatch, None)
    if state is DomainState.SHUTOFF:
        assert work._perform(agent, baton, watch).xml == ""
        assert performed == [""]
    else:
        with pytest.raises(Failed, match="OFFLINE moves a stopped domain") as refusal:
            work._perform(agent, baton, watch)
        assert refusal.value.code == "not-offline"
        assert performed == []


def test_nobody_waits_for_a_host_that_is_assumed_dead(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a finish on the destination, confirm on a dead source gives way to another look at the destination."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(dispatch, "send_recover", lambda inventory, baton: sent.append(baton))
    journal = Journal(connect(redis_url))
    for host in ("alpha", "beta"):
        journal.lease(host, {"incarnation": host}, 60)
    fields = {"domain": "web", "uuid": "u", "source": "alpha", "destination": "beta"}
    journal.submit("m", fields, {}, "{}", terms_text(1, 1))
    told = {"attempt": 1, "phase": "begin", "host": "alpha", "seconds": 0.0}
    assert journal.claim("m", 1, 1, "begin", "{}", "t-1", "alpha", ("", "", 0)).won
    journal.advance("m", "t-1", "finish", "{}", told, {}, 1000, "beta")
    assert journal.claim("m", 1, 1, "finish", "{}", "t-2", "beta", ("", "", 0)).won

    agent = cast(Agent, SimpleNamespace(journal=journal, inventory={}, host=SimpleNamespace(name="beta")))
    baton = BATON.model_copy(update={"dead": ["alpha"], "performed": True})
    with pytest.raises(Ignore):
        phases._advance(cast(Any, None), agent, baton, "t-2", told | {"phase": "finish"}, Phase.FINISH, False)
    record = journal.record("m")
    assert record is not None
    assert (record.phase, record.step, record.host) == ("recover", "queued", "beta")
    (looking,) = sent
    assert looking["recovery"]["stage"] == "finished"
    assert (looking["recovery"]["at"], looking["recovery"]["dead"]) == ("beta", ["alpha"])
    assert looking["recovery"]["why"] == "alpha is assumed dead"
