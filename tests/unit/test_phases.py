"""The one phase that does something of its own: perform of an offline move."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks import work
from tasks.watch import JournalWatch
from worker.agent import Agent
from worker.contract import Baton
from worker.errors import Failed
from worker.hypervisors.base import Domain, DomainState, Performed
from worker.hypervisors.flags import MigrateFlag
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
