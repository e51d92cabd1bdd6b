"""``vmrelay up``: what it starts, how it waits, what it refuses, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from up_lab import Command, folder, journal, processes, until, write_config

from worker.cli.up_lock import held, holder
from worker.cli.up_plan import embedded_port, others, role, shown, web, web_url
from worker.embedded import EmbeddedRedis, answers, free_port
from worker.errors import SettingsError, Unavailable
from worker.runtime import assemble
from worker.settings import Settings, WebSettings
from worker.supervise import Child, Supervisor

pytestmark = pytest.mark.timeout(240)

HOSTS = ("alpha", "beta")
PROCFILE = """
# covered by the inventory
agent-alpha: exec .venv/bin/vmrelay agent alpha
scheduler: vmrelay scheduler
simulator-beta: exec vmrelay simulator run beta
web: exec {python} -c "import pathlib, time; pathlib.Path('web.ran').touch(); time.sleep(600)"
"""


ONE_HOST = """
redis_url = "redis://127.0.0.1:{port}/0"
embedded_redis = true
simulator_file = "simulator.toml"
lease_seconds = 1
[hosts.beta]
uri = "vzsim://{{state_dir}}/simulator/beta.sock"
"""


@dataclass
class Running:
    """An ``up`` that is up."""

    up: Command
    vmrelay: Path
    """The command, warm."""
    port: int
    page: int
    """The port of the page."""

    @property
    def directory(self) -> Path:
        """Where it runs."""
        return self.up.directory

    def cards(self) -> dict[str, dict[str, object]]:
        """The leases of agents and scheduler."""
        return journal(self.port).agents([*HOSTS, "scheduler"])

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, beside it."""
        return ended(self.vmrelay, self.directory, *words)


def ended(vmrelay: Path, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([vmrelay, *words], cwd=directory, capture_output=True, text=True, check=False)


@contextmanager
def started(vmrelay: Path) -> Iterator[Running]:
    """Two simulated hosts, up, with the page, and a Procfile that names one thing more."""
    with folder() as directory:
        port, page = free_port(), free_port()
        write_config(directory, port, top=f"web.port = {page}\n")
        (directory / "Procfile").write_text(PROCFILE.format(python=sys.executable))
        with Command(directory, "up", "--exit-with-parent") as up:
            up.says(f"page and API at http://127.0.0.1:{page}/")
            yield Running(up, vmrelay, port, page)


def test_up_from_its_start_to_its_stop(warm_command: Path) -> None:
    """One relay, and all that its user sees of it: starting it takes longer than all looks at it."""
    with started(warm_command) as running:
        agents_own_their_hosts_and_a_scheduler_leads(running)
        nothing_is_started_twice_and_the_procfile_adds_the_rest(running)
        the_page_is_served_where_it_says(running)
        a_second_one_is_refused_and_names_the_first(running)
        the_simulators_command_finds_the_same_hosts(running)
        a_process_that_dies_is_started_again(running)
        a_stop_waits_for_the_migrations_in_flight(running)


def agents_own_their_hosts_and_a_scheduler_leads(running: Running) -> None:
    """When it says that it is up, every lease is held by a process of its own."""
    cards = running.cards()
    assert set(cards) == {*HOSTS, "scheduler"}
    pids = processes(running.directory)
    assert all(int(str(card["pid"])) in pids for card in cards.values())
    assert all(card["metrics_port"] for card in cards.values())


def nothing_is_started_twice_and_the_procfile_adds_the_rest(running: Running) -> None:
    """What the Procfile names and the inventory covers runs once; what only it names runs in its folder."""
    until((running.directory / "web.ran").exists, "the Procfile's own process")
    words = [line.split() for line in processes(running.directory).values()]
    for wanted in (["agent", "alpha"], ["agent", "beta"], ["scheduler"], ["simulator", "alpha"], ["simulator", "beta"]):
        assert sum(wanted == line[2 : 2 + len(wanted)] for line in words) == 1, words


def the_page_is_served_where_it_says(running: Running) -> None:
    """When everything is up, the web API answers, though the Procfile has an application of the same name."""
    with urlopen(f"http://127.0.0.1:{running.page}/readyz", timeout=60) as answer:
        assert json.load(answer) == {"status": "ok"}
    assert "vmrelay is up: 2 hosts (alpha, beta)" in running.up.output


def a_second_one_is_refused_and_names_the_first(running: Running) -> None:
    """Two of them on one state directory would fight over everything."""
    second = running.cli("up")
    assert second.returncode == 1
    assert f"pid {running.up.process.pid}" in second.stderr
    assert "[already-up]" in second.stderr
    found = holder(running.directory / ".vmrelay")
    assert found is not None
    assert (found.pid, found.ready) == (running.up.process.pid, True)


def the_simulators_command_finds_the_same_hosts(running: Running) -> None:
    """In the folder of a running relay, faults are armed without naming any file."""
    armed = running.cli("simulator", "fault", "beta", "--fail-next", "2", "--code", "0x80000404")
    assert armed.returncode == 0, armed.stderr
    assert json.loads(armed.stdout)[0]["count"] == 2
    assert json.loads(running.cli("simulator", "fault", "beta", "--clear").stdout) == []


def a_process_that_dies_is_started_again(running: Running) -> None:
    """An agent that is killed is back, with its lease, and moves a domain."""
    before = int(str(running.cards()["alpha"]["pid"]))
    os.kill(before, signal.SIGKILL)
    until(lambda: running.cards().get("alpha", {}).get("pid") not in (before, None), "a new agent")
    running.up.says("agent-alpha ended with SIGKILL")
    moved = running.cli("migrate", "quick", "beta", "--wait", "-o", "json")
    assert moved.returncode == 0, moved.stderr
    assert json.loads(moved.stdout)["outcome"] == "succeeded"


def a_stop_waits_for_the_migrations_in_flight(running: Running) -> None:
    """SIGTERM in mid-perform: the domain still arrives, whoever waits is told, then all ends, in order."""
    words = ("migrate", "long", "beta", "--wait", "-o", "json")
    with Command(running.directory, *words, program=running.vmrelay) as move:
        move.says("perform on alpha …")
        assert running.up.stop() == 0
        assert move.ends() == 0, move.output
        assert '"outcome": "succeeded"' in move.output
    assert processes(running.directory) == {}
    said = running.up.output
    page = re.search(r"^vmrelay-web .*\] stopped", said, re.MULTILINE)
    assert page is not None
    assert page.start() < said.index("simulator alpha: stopped"), "what asks the relay ends before it"
    assert said.index("domain=long") < said.index("simulator beta: stopped")


def test_a_host_that_somebody_else_owns_ends_the_start() -> None:
    """The message says who owns it; nothing that was started stays."""
    with folder() as other, EmbeddedRedis(other / "redis") as server, folder() as directory:
        lease = {"incarnation": "x", "pid": os.getpid(), "node": "elsewhere", "metrics_port": 1}
        journal(server.port).lease("beta", lease, 600)
        (directory / "vmrelay.toml").write_text(ONE_HOST.format(port=server.port))
        (directory / "simulator.toml").write_text("[hosts.beta]\n")
        with Command(directory, "up", "--no-web", "--exit-with-parent") as up:
            assert up.ends() == 1
        assert "host beta is owned by the agent with pid" in up.output
        assert f"a Redis answers on port {server.port} already" in up.output
        assert "vmrelay is up" not in up.output
        assert processes(directory) == {}
        assert answers(server.port)


def test_a_port_that_is_taken_by_something_else_is_named(warm_command: Path) -> None:
    """Whoever listens there and is no Redis is left alone."""
    with folder() as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        write_config(directory, listener.getsockname()[1])
        done = ended(warm_command, directory, "up", "--no-web")
    assert done.returncode == 1
    assert "[port-taken]" in done.stderr
    assert "VMRELAY_REDIS_URL" in done.stderr


def test_what_cannot_be_is_a_settings_error(warm_command: Path) -> None:
    """A host whose URI and simulator do not meet could never become ready."""
    with folder() as directory:
        write_config(directory, free_port(), hosts='[hosts.gamma]\nuri = "vzsim:///tmp/elsewhere.sock"\n')
        done = ended(warm_command, directory, "up", "--no-web")
    assert done.returncode == 2
    assert "no host gamma" in done.stderr


def test_a_taken_port_costs_the_page_alone(tmp_path: Path) -> None:
    """Everything else starts, and it is said why there is no page; a Procfile's line for it starts none either."""
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        parts = assemble(Settings(state_dir=tmp_path, web=WebSettings(port=port)))
        assert web(parts, told.append, ()) == []
        procfile = tmp_path / "Procfile"
        procfile.write_text("web: exec .venv/bin/vmrelay web\nmine: exec true\n")
        assert [child.name for child in others(procfile, {("web",)})] == ["mine"]
    assert f"127.0.0.1:{port} is taken" in told[0]
    assert [child.name for child in web(parts, told.append, {"web"})] == ["vmrelay-web"]
    assert web_url(parts, [web(parts, told.append, ())]) == f"http://127.0.0.1:{port}/"
    assert len(told) == 1


def test_the_lock_is_given_back(tmp_path: Path) -> None:
    """Whoever looks sees a holder only while there is one, and looking does not hold it."""
    assert holder(tmp_path / "state") is None
    with held(tmp_path / "state") as lock:
        assert (found := holder(tmp_path / "state")) is not None
        assert (found.pid, found.ready) == (os.getpid(), False)
        lock.ready()
        assert (found := holder(tmp_path / "state")) is not None
        assert found.ready
        with pytest.raises(Unavailable, match=f"pid {os.getpid()}"), held(tmp_path / "state"):
            pass
    assert holder(tmp_path / "state") is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("agent alpha", ("agent", "alpha")),
        ("simulator run alpha --state-dir x", ("simulator", "alpha")),
        ("simulator alpha --exit-with-parent", ("simulator", "alpha")),
        ("scheduler", ("scheduler",)),
        ("", ()),
    ],
)
def test_the_role_of_a_command_line(words: str, expected: tuple[str, ...]) -> None:
    """Two ways of writing one thing are the same thing."""
    assert role(words.split()) == expected


def test_a_procfile_adds_what_is_not_covered(tmp_path: Path) -> None:
    """Other programs, and vmrelay's own for what the inventory has not; a broken file is an error."""
    procfile = tmp_path / "Procfile"
    procfile.write_text("a: exec bin/vmrelay agent alpha\nb: vmrelay agent beta\nweb: serve agent alpha\n")
    assert [child.name for child in others(procfile, {("agent", "alpha")})] == ["b", "web"]
    procfile.write_text("web: serve 'unclosed\n")
    with pytest.raises(SettingsError, match="Procfile"):
        others(procfile, set())


@pytest.mark.parametrize("url", ["redis://10.0.0.1/0", "rediss://localhost/0", "redis://:secret@127.0.0.1/0"])
def test_an_embedded_redis_is_local_and_open(url: str) -> None:
    """Where redis_url cannot be the embedded one, that is said, without the password."""
    with pytest.raises(SettingsError) as error:
        embedded_port(url)
    assert "secret" not in str(error.value)
    assert "secret" not in shown(url)
    assert embedded_port("redis://localhost/0") == 6379


def test_a_process_that_refuses_to_start_ends_the_start_at_once(tmp_path: Path) -> None:
    """An exit code on purpose is not tried again, and the reason is what it said last."""
    lines: list[str] = []
    refusing = [sys.executable, "-c", "import sys; print('nothing works here'); sys.exit(2)"]
    children = [[Child("agent", refusing, ready=lambda: False, ready_within=600, hopeless=(1, 2))]]
    supervisor = Supervisor(children, lambda name, line: lines.append(line), on_ready=lambda: lines.append("up"))
    assert supervisor.run() == 1
    assert "agent ended with code 2: nothing works here" in str(supervisor.failure)
    assert "up" not in lines
    assert supervisor.restarts["agent"] == 0


def test_a_child_runs_in_its_folder_and_readiness_is_told_once(tmp_path: Path) -> None:
    """What the Procfile names runs beside it; whoever asked hears when everything is ready."""
    here = [sys.executable, "-c", "import os, time; print(os.getcwd(), flush=True); time.sleep(60)"]
    said: list[str] = []

    def ready() -> bool:
        return str(tmp_path) in said

    def on_ready() -> None:
        said.append("up")
        supervisor.stop()

    children = [[Child("web", here, ready=ready, cwd=tmp_path)]]
    supervisor = Supervisor(children, lambda name, line: said.append(line), on_ready=on_ready)
    assert supervisor.run() == 0
    assert said == [str(tmp_path), "up"]
