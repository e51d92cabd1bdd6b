"""The supervisor, with real small processes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import supervise
from worker.errors import SettingsError, Unavailable
from worker.prefix import Prefixer, wants_colour
from worker.procfile import parse_procfile
from worker.supervise import Backoff, Child, Supervisor, background, foreground

QUICK = Backoff(initial=0.01, factor=2, limit=0.05)
NAP = ["sleep", "60"]
# Notes in a file when it starts ("name +"), and when SIGTERM ends it ("name -").
NOTED = """
import signal, sys, time
def note(sign):
    with open(sys.argv[2], "a") as book: book.write(sys.argv[1] + sign + "\\n")
def end(*_):
    time.sleep(0.05)
    note(" -")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note(" +")
print("ready", flush=True)
while True: signal.pause()
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Lines(list[tuple[str, str]]):
    """What the children printed."""

    def __call__(self, name: str, line: str) -> None:
        self.append((name, line))

    def said(self, name: str, line: str = "ready") -> Callable[[], bool]:
        """A ready check: the child has printed this line."""
        return lambda: (name, line) in self


def python(name: str, code: str, *arguments: str, lines: Lines | None = None, **options: float | None) -> Child:
    """A child that runs Python code, ready once it prints ``ready`` (if ``lines`` are given)."""
    ready = lines.said(name) if lines is not None else None
    return Child(name, [sys.executable, "-c", code, *arguments], ready=ready, **options)  # type: ignore[arg-type]


def test_groups_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    """A group starts when the one before is ready, and is told to stop when the one after has ended."""
    lines, book = Lines(), tmp_path / "book"
    names = [["redis"], ["alpha", "beta"], ["agent"]]
    groups = [[python(n, NOTED, n, str(book), lines=lines) for n in group] for group in names]
    with background(Supervisor(groups, lines)) as supervisor:
        assert set(supervisor.pids) == {"redis", "alpha", "beta", "agent"}
    notes = book.read_text().splitlines()
    assert notes[0] == "redis +"
    assert set(notes[1:3]) == {"alpha +", "beta +"}
    assert notes[3:5] == ["agent +", "agent -"]
    assert set(notes[5:7]) == {"alpha -", "beta -"}
    assert notes[7:] == ["redis -"]
    assert supervisor.pids == {}
    assert supervisor.restarts == {}


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    """SIGKILL to a child: it comes back with a new process id, and the message names the signal."""
    lines = Lines()
    with background(Supervisor([[Child("agent", NAP)]], lines, backoff=QUICK)) as supervisor:
        until(lambda: "agent" in supervisor.pids)
        pid = supervisor.pids["agent"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: supervisor.pids.get("agent", pid) != pid)
        assert supervisor.restarts == {"agent": 1}
    assert any(name == "up" and "agent ended with SIGKILL" in line for name, line in lines)


def test_a_child_that_keeps_dying_is_slowed_down_and_does_not_disturb_the_others() -> None:
    """Each death in a row waits longer, up to the limit; the other children keep running."""
    lines = Lines()
    dying = Child("dying", ["sh", "-c", "echo out of luck; exit 3"])
    with background(Supervisor([[dying, Child("steady", NAP)]], lines, backoff=QUICK)) as supervisor:
        steady = supervisor.pids["steady"]
        until(lambda: supervisor.restarts["dying"] >= 4)
        assert supervisor.pids["steady"] == steady
    told = [line for name, line in lines if name == "up" and "dying ended with code 3" in line]
    assert [line.split()[-2] for line in told[:4]] == ["0.01", "0.02", "0.04", "0.05"]
    assert ("dying", "out of luck") in lines


def test_what_is_not_yet_stopping_is_still_supervised(tmp_path: Path) -> None:
    """While the agent drains, a Redis that dies is started again: the drain needs it."""
    lines, flag = Lines(), tmp_path / "flag"
    drain = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    print('draining', flush=True)\n"
        "    while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    agent = python("agent", drain, str(flag), lines=lines, grace=None)
    supervisor = Supervisor([[Child("redis", NAP)], [agent]], lines, backoff=QUICK)
    with background(supervisor):
        redis = supervisor.pids["redis"]
        supervisor.stop()
        until(lambda: ("agent", "draining") in lines)
        os.kill(redis, signal.SIGKILL)
        until(lambda: supervisor.restarts["redis"] == 1 and "redis" in supervisor.pids)
        assert "agent" in supervisor.pids
        flag.touch()
        until(lambda: not supervisor.pids)
    assert supervisor.restarts["agent"] == 0


def test_a_child_that_does_not_end_within_its_grace_is_killed_with_all_it_started() -> None:
    """SIGKILL goes to the child's own children as well."""
    lines = Lines()
    code = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)\n" + STUBBORN
    with background(Supervisor([[python("agent", code, lines=lines, grace=0.1)]], lines)):
        grandchild = int(lines[0][1])
        assert alive(grandchild)
    until(lambda: not alive(grandchild))
    assert ("up", "agent did not end in time and is killed") in lines


def test_a_second_request_to_stop_hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child with unlimited grace is killed soon after the second request, not after the first."""
    monkeypatch.setattr(supervise, "HURRY_SECONDS", 0.1)
    lines = Lines()
    supervisor = Supervisor([[python("agent", STUBBORN, lines=lines, grace=None)]], lines)
    with background(supervisor):
        supervisor.stop()
        until(lambda: supervisor._members[0].wanted is False)
        assert "agent" in supervisor.pids
        supervisor.stop()
        until(lambda: not supervisor.pids)


def test_a_child_that_never_becomes_ready_ends_the_start() -> None:
    """The error names the child and how it ended, later groups never start, and nothing is left."""
    lines = Lines()
    groups = [
        [Child("steady", NAP)],
        [Child("agent", ["sh", "-c", "exit 2"], ready=lambda: False, ready_within=0.3)],
        [Child("never", NAP)],
    ]
    supervisor = Supervisor(groups, lines, backoff=QUICK)
    expected = pytest.raises(Unavailable, match=r"agent was not ready within 0.3 s \(it ended with code 2\)")
    with expected, background(supervisor):
        pytest.fail("the block must not be entered")
    assert supervisor.pids == {}
    assert not any(name == "never" for name, _ in lines)


def test_a_stop_during_the_start_ends_it() -> None:
    """Whoever stops while a child is still awaited does not wait for its deadline."""
    supervisor = Supervisor([[Child("slow", NAP, ready=lambda: False)], [Child("never", NAP)]], Lines())
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    until(lambda: "slow" in supervisor.pids)
    supervisor.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert supervisor.failure is None


def test_a_command_that_does_not_exist_is_reported() -> None:
    """The message of the failed exec reaches the output under the child's name."""
    lines = Lines()
    supervisor = Supervisor([[Child("agent", ["./no-such-program"])]], lines, backoff=QUICK)
    with background(supervisor):
        until(lambda: ("agent", "./no-such-program: No such file or directory") in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_drain_the_foreground(number: signal.Signals) -> None:
    """A signal to the supervising process stops the children in order; its handlers are restored."""
    before = signal.getsignal(number)
    lines = Lines()
    supervisor = Supervisor([[Child("one", NAP)], [Child("two", NAP)]], lines)

    def send_when_ready() -> None:
        supervisor.wait_ready()
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send_when_ready)
    thread.start()
    assert foreground(supervisor) == 0
    thread.join()
    assert signal.getsignal(number) == before
    assert supervisor.pids == {}


def test_a_killed_supervisor_leaves_nothing() -> None:
    """SIGKILL to the supervising process ends every child, whichever thread supervises."""
    code = (
        "import sys\n"
        "from worker.prefix import Prefixer\n"
        "from worker.supervise import Child, Supervisor, background, foreground\n"
        "import threading\n"
        "s = Supervisor([[Child('a', ['sleep', '60'])], [Child('b', ['sleep', '60'])]], Prefixer(sys.stderr, 'ab'))\n"
        "def tell(): s.wait_ready(); print(*s.pids.values(), flush=True)\n"
        "threading.Thread(target=tell).start()\n"
        "foreground(s)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(alive, pids))
        parent.kill()
    until(lambda: not any(map(alive, pids)))


def test_output_arrives_whole(tmp_path: Path) -> None:
    """Lines without an end, very long ones and bytes that are no text all arrive; the last words too."""
    lines = Lines()
    code = (
        "import sys; out = sys.stdout.buffer; out.write(b'x' * 200000 + b'\\nbad \\xff\\r\\n'); "
        "out.write(b'no end'); out.flush(); sys.exit(1)"
    )
    supervisor = Supervisor([[python("talker", code)]], lines, backoff=Backoff(initial=60, limit=60))
    with background(supervisor):
        until(lambda: ("talker", "no end") in lines)
    texts = [line for name, line in lines if name == "talker"]
    assert "".join(texts[:-2]) == "x" * 200000
    assert texts[-2:] == ["bad \N{REPLACEMENT CHARACTER}", "no end"]


def test_a_child_that_closes_its_output_runs_on() -> None:
    """The end of the output is not the end of the process, and costs no processor time."""
    silent = Child("silent", ["sh", "-c", "echo going silent; exec >&- 2>&-; exec sleep 60"])
    lines = Lines()
    supervisor = Supervisor([[silent]], lines, backoff=QUICK)
    with background(supervisor):
        until(lambda: ("silent", "going silent") in lines and not supervisor._selector.get_map())
        assert "silent" in supervisor.pids
    assert supervisor.restarts == {}


def test_the_environment_of_a_child_is_added_to_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child sees the supervisor's environment with its own on top."""
    monkeypatch.setenv("INHERITED", "yes")
    lines = Lines()
    child = Child("env", ["sh", "-c", "echo $INHERITED $OWN; sleep 60"], env={"OWN": "too"})
    with background(Supervisor([[child]], lines)):
        until(lambda: ("env", "yes too") in lines)


def test_names_are_unique() -> None:
    """Two children of one name could not be told apart."""
    with pytest.raises(SettingsError, match="two processes are called a"):
        Supervisor([[Child("a", NAP)], [Child("a", NAP)]], Lines())


@given(st.integers(1, 10_000), st.floats(0.001, 10), st.floats(1, 10), st.floats(0.001, 100))
def test_the_backoff_grows_and_is_bounded(failures: int, initial: float, factor: float, limit: float) -> None:
    """Whatever the numbers, a later failure never waits less than an earlier one, nor more than the limit."""
    backoff = Backoff(initial=initial, factor=factor, limit=limit)
    assert 0 < backoff.delay(failures) <= backoff.delay(failures + 1) <= limit


def test_prefixes_are_aligned_and_coloured_on_request() -> None:
    """Names share one width; with colour, each has its own."""
    plain, colour = io.StringIO(), io.StringIO()
    for stream, coloured in ((plain, False), (colour, True)):
        prefixer = Prefixer(stream, ["agent-alpha", "up"], colour=coloured)
        prefixer("up", "hello")
        prefixer("agent-alpha", "ready")
    assert plain.getvalue() == "up          | hello\nagent-alpha | ready\n"
    first, second = colour.getvalue().splitlines()
    assert first.startswith("\x1b[33mup ")
    assert second.startswith("\x1b[36magent-alpha |\x1b[0m ")


def test_a_reader_that_went_away_does_not_end_anything() -> None:
    """Writing to a closed pipe is forgotten."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, open(os.devnull, "w") as void:
        prefixer = Prefixer(stream, ["a"])
        prefixer("a", "lost")
        prefixer("a", "lost as well")
        os.dup2(void.fileno(), writer)  # so that closing can flush what is left


@pytest.mark.parametrize(
    ("terminal", "environment", "wanted"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    terminal: bool, environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal, no NO_COLOR (an empty one does not count), no dumb terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    assert wants_colour(stream, environment) is wanted


def test_our_procfile_names_the_scheduler_and_the_agents() -> None:
    """The Procfile parses, and each command is our own."""
    commands = parse_procfile((Path(__file__).parents[2] / "Procfile").read_text())
    assert {"scheduler", "agent-alpha"} <= set(commands)
    assert all(words[0] == ".venv/bin/vmrelay" for words in commands.values())


def test_a_line_that_is_no_procfile_line_is_named() -> None:
    """The error gives the line's number."""
    assert parse_procfile("# comment\n\nweb: exec a 'b c'\n") == {"web": ["a", "b c"]}
    with pytest.raises(SettingsError, match="line 2"):
        parse_procfile("a: b\nnonsense\n")
