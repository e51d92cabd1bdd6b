"""What the scheduler makes of a request for libvirt hosts: a record or a refusal, and no host is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import admission, dispatch, turns
from worker.contract import Baton, MigrateRequest
from worker.errors import Rejected
from worker.hypervisors.base import Domain, DomainState
from worker.hypervisors.convergence import Convergence, StallAction
from worker.hypervisors.flags import MigrateFlag, flag_label
from worker.inventory import Inventory
from worker.journal import Journal, Record, connect
from worker.runtime import Runtime
from worker.seal import ensure_key, load_key, open_documents
from worker.settings import Settings

Ask = Callable[..., Record]
HOSTS: dict[str, Any] = {
    "alpha": {"uri": "qemu+unix:///session?socket=/nowhere/alpha"},
    "beta": {"uri": "qemu+tls://beta.example/system"},
    "gamma": {"uri": "qemu:///system"},
    "delta": {"uri": "qemu:///system", "peer_uri": "qemu+tcp://delta.example/system"},
}
OFF = (DomainState.SHUTOFF,)


@pytest.fixture
def runtime(redis_url: str) -> Runtime:
    """Four libvirt hosts that do not exist; alpha has a domain in every state, called by it."""
    settings = Settings(redis_url=redis_url, hosts=HOSTS, stall={"action": "downtime"})
    parts = Runtime(settings, Inventory(settings), Journal(connect(redis_url)))
    domains = [Domain(str(state), f"uuid-{state}", state) for state in DomainState]
    parts.journal.publish("alpha", "0", domains)
    return parts


@pytest.fixture
def ask(runtime: Runtime) -> Ask:
    """Resolve a request for a domain of alpha."""

    def resolved(domain: str = "running", destination: str = "beta", **more: Any) -> Record:
        request = MigrateRequest.parse({"domain": domain, "destination": destination} | more)
        return admission.resolved(runtime, "m", request)

    return resolved


def code_of(ask: Ask, *args: str, **more: Any) -> str:
    """The code with which a request is refused."""
    with pytest.raises(Rejected) as refusal:
        ask(*args, **more)
    assert refusal.value.driver == "qemu"
    return refusal.value.code


@pytest.mark.parametrize("state", list(DomainState))
def test_offline_is_for_stopped_domains_and_only_for_them(ask: Ask, state: DomainState) -> None:
    """Over every state: a definition moves only where no guest is, a guest only without OFFLINE."""
    if state is DomainState.SHUTOFF:
        record = ask(state, options={"offline": True})
        assert flag_label(record.flags) == "offline,persist_dest,undefine_source"
    elif state is not DomainState.ABSENT:
        assert code_of(ask, state, options={"offline": True}) == "not-offline"
    if state in (DomainState.SHUTOFF, DomainState.CRASHED):
        with pytest.raises(Rejected, match="--offline") as refusal:
            ask(state)
        assert refusal.value.code == "not-running"
    elif state is not DomainState.ABSENT:
        assert not ask(state).flags & MigrateFlag.OFFLINE


def test_a_bad_flag_set_of_a_stopped_domain_is_told_first(ask: Ask) -> None:
    """What libvirt refuses anyway comes before the domain's state."""
    assert code_of(ask, "shutoff", flags="OFFLINE") == "VIR_ERR_OPERATION_INVALID"
    assert code_of(ask, "shutoff", flags="LIVE,NON_SHARED_DISK,NON_SHARED_INC") == "VIR_ERR_INVALID_ARG"


def test_a_stopped_copy_of_it_is_not_in_the_way(runtime: Runtime, ask: Ask) -> None:
    """A definition with the same name and uuid may be there already; another one of that name may not."""
    runtime.journal.publish("delta", "0", [Domain("shutoff", "uuid-shutoff", DomainState.SHUTOFF)])
    assert ask("shutoff", "delta", source="alpha", options={"offline": True}).destination == "delta"
    runtime.journal.publish("beta", "0", [Domain("shutoff", "uuid-other", DomainState.SHUTOFF)])
    assert code_of(ask, "shutoff", "beta", source="alpha", options={"offline": True}) == "name-taken"


@pytest.mark.parametrize("flags", [{"peer2peer": True}, {"peer2peer": True, "tunnelled": True}])
def test_peer_to_peer_needs_an_address_of_the_destination(ask: Ask, flags: dict[str, bool]) -> None:
    """A remote URI is one, a local one is not unless peer_uri says more; the refusal names the setting."""
    assert ask(destination="beta", options=flags).flags & MigrateFlag.PEER2PEER
    assert ask(destination="delta", options=flags).flags & MigrateFlag.PEER2PEER
    with pytest.raises(Rejected, match=r"set peer_uri of \[hosts\.gamma\]") as refusal:
        ask(destination="gamma", options=flags)
    assert refusal.value.code == "no-peer-uri"


def test_tunnelled_alone_is_refused_with_the_way_out(ask: Ask) -> None:
    """libvirt's message, and what is missing."""
    with pytest.raises(Rejected, match=r"without using peer2peer flag .*--p2p"):
        ask(options={"tunnelled": True})


def test_what_steers_perform_travels_to_the_agent(runtime: Runtime, ask: Ask) -> None:
    """Request, record, journal and baton say the same, and the settings fill in what was not said."""
    record = ask(options={"postcopy": True}, timeout_seconds=90, on_timeout="postcopy", postcopy_after_precopy=True)
    wanted = Convergence(StallAction.DOWNTIME, 90.0, StallAction.POSTCOPY, postcopy_after_precopy=True)
    assert record.convergence == wanted
    admission.submit(runtime, record)
    stored = runtime.journal.record("m")
    assert stored is not None
    assert stored.convergence == wanted
    baton = dispatch.first_baton(stored)
    assert baton.convergence == baton.move.convergence == wanted
    assert Baton.model_validate(baton.document()) == baton
    assert ask("paused", on_stall="report").convergence == Convergence()


def test_what_cannot_be_steered_is_refused_by_its_code(ask: Ask) -> None:
    """Driver and flag set of the refusal are known."""
    assert code_of(ask, on_stall="postcopy") == "needs-postcopy"
    assert code_of(ask, timeout_seconds=5, options={"live": False}) == "timeout-needs-live"
    assert code_of(ask, "shutoff", options={"offline": True}, timeout_seconds=5) == "timeout-needs-live"
    assert code_of(ask, on_timeout="suspend") == "needs-timeout"


SECRET = (
    "<domain type='qemu'><name>running</name><memory>1024</memory>"
    "<os><type>hvm</type></os><devices><graphics type='vnc' passwd='hunter2'/></devices></domain>"
)


def test_a_definition_is_sealed_before_it_is_kept(ask: Ask, runtime: Runtime, tmp_path: Path) -> None:
    """The record and the first baton hold it sealed; whoever has the key gets it back."""
    runtime.settings.seal_key_file = tmp_path / "seal.key"
    ensure_key(runtime.settings.key_file)
    record = ask(params={"persistent_xml": SECRET, "bandwidth": 7})
    kept = json.dumps(record.asked_fields) + dispatch.text(dispatch.first_baton(record))
    assert "hunter2" not in kept
    opened = open_documents(load_key(runtime.settings.key_file), record.params, "m")
    assert opened == {"persistent_xml": SECRET, "bandwidth": 7}


def test_a_definition_without_a_key_is_refused(ask: Ask, runtime: Runtime, tmp_path: Path) -> None:
    """The scheduler that cannot seal says what it lacks."""
    runtime.settings.seal_key_file = tmp_path / "none.key"
    with pytest.raises(Rejected, match="seal_key_file") as refusal:
        ask(params={"persistent_xml": SECRET})
    assert refusal.value.code == "no-seal-key"


def test_a_round_starts_nothing_on_a_silent_host(ask: Ask, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a hypervisor does not answer its agent the migration waits; it starts when that answers again."""
    sent: list[str] = []
    monkeypatch.setattr(dispatch, "send", lambda _, baton: sent.append(baton["migration"]))

    def agent_of(host: str, *, answers: bool) -> None:
        runtime.journal.lease(host, {"incarnation": host, "answers": answers}, 3600)

    agent_of("alpha", answers=True)
    agent_of("beta", answers=False)
    admission.submit(runtime, ask())
    turns.admit_ready(runtime)
    assert sent == []
    agent_of("beta", answers=True)
    turns.admit_ready(runtime)
    assert sent == ["m"]
