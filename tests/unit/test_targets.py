"""``vmrelay targets``: where Prometheus finds each process."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from worker.cli import targets as command
from worker.cli.main import cli
from worker.discovery import ANYWHERE, Found, Group, discover
from worker.errors import Unavailable
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.runtime import Runtime
from worker.settings import Settings

ANY = ANYWHERE[1]
HERE, THERE = "here.example", "there.example"
PORTS = st.integers(0, 65535)
ADDRESSES = st.sampled_from(["127.0.0.1", ANY, "::", "::1", "localhost", "192.0.2.7", "2001:db8::7"])
CARDS = st.fixed_dictionaries(
    {"node": st.sampled_from([HERE, THERE]), "metrics_address": ADDRESSES, "metrics_port": PORTS}
)


def settings(**more: Any) -> Settings:
    """Three hosts: alpha with a fixed port, beta with a free one, gamma with labels."""
    hosts = {
        "alpha": {"uri": "vzsim:///a", "metrics_port": 9621, "address": "alpha.example:4321"},
        "beta": {"uri": "qemu:///system"},
        "gamma": {"uri": "vzsim:///c", "metrics_port": 9623, "labels": {"rack": "r1", "power-feed": "b"}},
    }
    return Settings.model_validate({"hosts": hosts, "metrics_address": ANY} | more)


USUAL = settings()


def found(
    agents: dict[str, Any] | None = None,
    schedulers: list[Any] | None = None,
    before: list[Group] | None = None,
    *,
    listed: bool = False,
    **more: Any,
) -> Found:
    """What is found from HERE."""
    told = settings(**more) if more else USUAL
    return discover(told, Inventory(told), agents or {}, schedulers or [], before or [], HERE, web=listed)


def card(port: int, node: str = THERE, address: str = ANY) -> dict[str, Any]:
    """What a process says of itself."""
    return {"node": node, "metrics_port": port, "metrics_address": address}


def places(shown: Found) -> dict[str, str]:
    """The address of each instance."""
    return {group["labels"]["instance"]: group["targets"][0] for group in shown.groups}


def test_who_lives_is_where_it_says() -> None:
    """Agents by host, schedulers by node and port; an address that means any is that of the node."""
    shown = found(
        {"alpha": card(9621), "beta": card(40001, address="192.0.2.7"), "gamma": card(9623, address="2001:db8::7")},
        [card(9620), card(9620, node="a.example")],
    )
    assert places(shown) == {
        "agent-alpha": f"{THERE}:9621",
        "agent-beta": "192.0.2.7:40001",
        "agent-gamma": "[2001:db8::7]:9623",
        "scheduler-a.example:9620": "a.example:9620",
        f"scheduler-{THERE}:9620": f"{THERE}:9620",
    }
    assert shown.remarks == []
    labels = {group["labels"]["instance"]: group["labels"] for group in shown.groups}
    assert labels["agent-gamma"] == {
        "process": "agent",
        "instance": "agent-gamma",
        "host": "gamma",
        "__meta_vmrelay_driver": "vz",
        "__meta_vmrelay_label_rack": "r1",
        "__meta_vmrelay_label_power_feed": "b",
    }
    assert labels["scheduler-a.example:9620"] == {"process": "scheduler", "instance": "scheduler-a.example:9620"}


def test_who_is_away_stays_listed_where_its_port_is_known() -> None:
    """Where it was before; else where the inventory says; with port 0 nobody knows, which is said."""
    live = found({"alpha": card(9621), "beta": card(40001), "gamma": card(9999)})
    away = found({}, before=live.groups)
    assert places(away) == {"agent-alpha": f"{THERE}:9621", "agent-gamma": "gamma:9623"}, "gamma's port is another now"
    assert places(found({}))["agent-alpha"] == "alpha.example:9621"
    assert places(found({}, metrics_address="127.0.0.1"))["agent-alpha"] == "127.0.0.1:9621"
    (remark,) = away.remarks
    assert "agent-beta is not listed" in remark
    assert "set [hosts.beta] metrics_port" in remark


def test_what_serves_its_own_machine_only_is_listed_there_alone() -> None:
    """127.0.0.1 of another machine would be somebody else here."""
    own = {"alpha": card(9621, HERE, "127.0.0.1"), "beta": card(1, THERE, "localhost"), "gamma": card(2, THERE, "::1")}
    shown = found(own)
    assert places(shown) == {"agent-alpha": "127.0.0.1:9621"}
    assert [remark.partition(" ")[0] for remark in shown.remarks] == ["agent-beta", "agent-gamma"]


def test_the_web_api_is_listed_where_it_is_asked_for() -> None:
    """At the settings' address and port; a free port is nowhere."""
    assert "web" not in str(places(found()))
    assert places(found(listed=True))["web-127.0.0.1:8080"] == "127.0.0.1:8080"
    assert any("[web] port is 0" in remark for remark in found(listed=True, web={"port": 0}).remarks)


@given(agents=st.dictionaries(st.sampled_from(["alpha", "beta", "gamma"]), CARDS), schedulers=st.lists(CARDS))
def test_every_host_is_listed_or_accounted_for(agents: dict[str, Any], schedulers: list[Any]) -> None:
    """Nobody is forgotten without a word, but who is about to start; targets can be dialled; twice is once."""
    shown = found(agents, schedulers)
    for host in ("alpha", "beta", "gamma"):
        starts = host in agents and not agents[host]["metrics_port"]
        told = f"agent-{host}" in places(shown) or any(f"agent-{host} " in remark for remark in shown.remarks)
        assert told or starts
    for group in shown.groups:
        address, _, port = group["targets"][0].rpartition(":")
        assert address not in ("", ANY, "[::]")
        assert 0 < int(port) <= 65535
    assert found(agents, schedulers, before=shown.groups) == shown


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def parts(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """The command's parts, over an empty Redis."""
    told = settings(redis_url=redis_url)
    with connect(redis_url) as client:
        made = Runtime(told, Inventory(told), Journal(client))
        monkeypatch.setattr(command, "runtime", lambda: made)
        yield made


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``vmrelay targets``."""
    done = CliRunner().invoke(cli, ["targets", *words])
    return done.exit_code, done.stdout, done.stderr


def test_the_file_is_replaced_and_everybody_may_read_it(parts: Runtime, tmp_path: Path) -> None:
    """The same groups on standard output and in the file, which is left alone while nothing changes."""
    parts.journal.lease("beta", card(40001) | {"incarnation": "x"}, 60)
    code, printed, said = run()
    assert code == 0
    assert "agent-beta" in printed
    assert said == "", "nothing has to be said"
    file = tmp_path / "targets.json"
    assert run("--output", str(file)) == (0, "", "")
    assert json.loads(file.read_text()) == json.loads(printed)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    before = file.stat().st_ino
    run("--output", str(file))
    assert file.stat().st_ino == before
    parts.journal.unlease("beta", "x")
    code, _, said = run("--output", str(file))
    assert (code, file.stat().st_ino != before) == (0, True)
    assert "agent-beta is not listed" in said
    assert [item.name for item in tmp_path.iterdir()] == ["targets.json"]


def test_what_stands_in_the_way_leaves_the_last_file(parts: Runtime, tmp_path: Path) -> None:
    """Nonsense in the file is overwritten; where nothing can be written, or Redis is away, it says so."""
    file = tmp_path / "targets.json"
    for nonsense in (b"{}", b"[1]", b'[{"labels": 1}]', b"no json", b"\xff"):
        file.write_bytes(nonsense)
        assert run("--output", str(file))[0] == 0
    code, _, said = run("--output", str(tmp_path / "no" / "where.json"))
    assert code == 1
    assert "cannot write the targets" in said
    assert "[file]" in said
    last = file.read_bytes()
    with connect("redis://127.0.0.1:1/0") as nobody:
        away = Runtime(parts.settings, parts.inventory, Journal(nobody))
        with pytest.raises(Unavailable, match="the targets stay as they were") as lost:
            command.look(away, [])
    assert lost.value.code == "redis-unavailable"
    assert file.read_bytes() == last


def test_a_watch_outlives_a_trouble_and_says_it_once(
    parts: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis goes away for two looks, and comes back."""
    file, looks = tmp_path / "targets.json", iter(["ok", "away", "away", "ok"])
    real = command.look

    def look(*arguments: Any, **more: Any) -> Found:
        if next(looks) == "away":
            raise Unavailable("Redis does not answer", code="redis-unavailable")
        return real(*arguments, **more)

    def pause(_: float) -> None:
        if next(pauses) == "stop":
            raise KeyboardInterrupt

    pauses = iter(["", "", "", "stop"])
    monkeypatch.setattr(command, "look", look)
    monkeypatch.setattr(command.time, "sleep", pause)
    parts.journal.lease("beta", card(40001) | {"incarnation": "x"}, 60)
    code, _, said = run("--output", str(file), "--watch")
    assert code == 1  # click's own answer to Ctrl-C here; the program's is 130
    assert said.count("Redis does not answer") == 1
    assert "agent-beta" in file.read_text()


def test_a_watch_needs_a_file(parts: Runtime) -> None:
    """Standard output cannot be replaced."""
    code, _, said = run("--watch")
    assert code == 2
    assert "--output" in said
