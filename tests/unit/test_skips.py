"""What a run skips it counts and explains in its last line; in CI a skip is a failure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NETNS = "tests/lab/test_netns.py"
# Nobody, but able to read the interpreter wherever it is.
UNPRIVILEGED = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
UNPRIVILEGED += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def run(*words: str, path: str | None = None, ci: str = "") -> subprocess.CompletedProcess[str]:
    """A pytest of its own, as nobody; its programs are looked for in ``path``."""
    become = UNPRIVILEGED if os.geteuid() == 0 else []
    command = [*become, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-q", *words]
    environment = {**os.environ, "CI": ci, "PYTHONDONTWRITEBYTECODE": "1"}
    if path is not None:
        # setpriv is found before the PATH is changed
        command = [*become, "env", f"PATH={path}", *command[len(become) :]]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_missing_programs_are_named_and_counted(tmp_path: Path) -> None:
    """Where the lab's programs are missing its tests are skipped, the others run, and the last line says all that."""
    done = run(NETNS, "tests/lab/test_heartbeat.py", path=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    found = re.fullmatch(
        r"skipped (\d+): (\d+) lab: (.*)qemu-system-x86_64(.*) are missing and this is not root \(deploy/lab/install\)",
        last,
    )
    assert found, last
    assert found[1] == found[2]
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.lab
def test_namespaces_need_root() -> None:
    """Who is not root, and has the lab's programs, skips what needs namespaces, and nothing else."""
    done = run(NETNS, "tests/lab/test_heartbeat.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"skipped (\d+): \1 netns: needs root", done.stdout.splitlines()[-1]), done.stdout


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_every_kind_of_skip_counts(tmp_path: Path, ci: str, code: int) -> None:
    """Marks, calls and whole modules: all are counted by reason, and all fail in CI; xfail is no skip."""
    (tmp_path / "conftest.py").write_text("pytest_plugins = ['skips']\n")
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.skip(reason='marked')\n"
        "def test_mark(): pass\n"
        "@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_call(n): pytest.skip('called')\n"
        "@pytest.mark.xfail\n"
        "def test_fails(): assert False\n"
    )
    (tmp_path / "test_module.py").write_text("import pytest\npytest.skip('whole', allow_module_level=True)\n")
    tmp_path.chmod(0o755)
    options = ["-c", "/dev/null", f"--rootdir={tmp_path}", "-o", f"pythonpath={ROOT / 'tests/support'}"]
    done = run(*options, *(["--continue-on-collection-errors"] if ci else []), str(tmp_path), ci=ci)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.count("in CI nothing may be skipped: ") >= (4 if ci else 0)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("skipped 4: 2 called"), last
    assert {*last.removeprefix("skipped 4: ").split("; ")} == {"2 called", "1 marked", "1 whole"}
