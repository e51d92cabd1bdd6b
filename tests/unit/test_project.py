"""The project's outside: packaging, locks, import rules, scripts."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
EXAMPLES = sorted((ROOT / "deploy" / "examples").glob("*/requirements.lock"))

# In pieces, so that this file names no registry itself.
REGISTRY_HOSTS = [
    r"\.".join(words)
    for words in (
        ("py" + "pi", "org"),
        ("py" + "thonhosted", "org"),
        ("np" + "mjs", "(org|com)"),
        ("(deb|security|ftp)", "deb" + "ian", "org"),
    )
]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command and return what it printed; fail with its output when it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def declared() -> dict[str, list[str]]:
    """The distributions that pyproject.toml asks for, by the lock that must hold them."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = document["project"]["optional-dependencies"], document["dependency-groups"]
    base = document["project"]["dependencies"] + extras["demo"] + groups["build"]
    wanted = {"base.lock": base, "dev.lock": base + groups["dev"], "libvirt.lock": extras["libvirt"]}
    wanted["planner.lock"] = extras["planner"]
    return {lock: [re.split(r"[\[<>=~! ]", item)[0].lower() for item in items] for lock, items in wanted.items()}


def test_arrows_point_one_way() -> None:
    """The import contracts of pyproject.toml hold."""
    assert "0 broken" in run(BIN / "lint-imports", "--no-cache")


def test_only_the_process_that_plans_loads_numpy() -> None:
    """Agents, schedulers and commands do not pay for it."""
    loaded = "import sys, tasks.registry, worker.agent, worker.cli.main; print('numpy' in sys.modules)"
    assert run(sys.executable, "-c", loaded).strip() == "False"


def test_no_file_names_a_registry() -> None:
    """No tracked file holds the host name of a package registry."""
    pattern = re.compile("|".join(REGISTRY_HOSTS).encode(), re.IGNORECASE)
    files = [ROOT / name for name in run("git", "ls-files", "-z").split("\0") if name]
    assert files
    named = [str(file) for file in files if file.is_file() and pattern.search(file.read_bytes())]
    assert named == []


@pytest.mark.parametrize("lock", [*LOCKS, *EXAMPLES], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_locks_hold_names_versions_and_hashes_only(lock: Path) -> None:
    """Each requirement is pinned and hashed, and no line is an option or an address."""
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    requirement = re.compile(r"[a-z0-9-]+(\[[a-z,]+\])?==[^ ]+( ; .+)? \\")
    digest = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?")
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if requirement.fullmatch(line):
            assert digest.fullmatch(following), line
        else:
            assert digest.fullmatch(line), line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_hold_everything_that_is_declared(lock: Path) -> None:
    """A dependency that was added to pyproject.toml without `make lock` is noticed."""
    locked = re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", lock.read_text(), re.MULTILINE)
    assert set(declared()[lock.name]) <= set(locked)


@pytest.mark.parametrize("lock", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_lock_what_they_ask_for_and_never_the_relay(lock: Path) -> None:
    """A requirement of an example that is not in its lock is noticed; the relay's own wheel is none of them."""
    locked = re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", lock.read_text(), re.MULTILINE)
    wanted = re.findall(r"^([a-z0-9-]+)", lock.with_suffix(".in").read_text(), re.MULTILINE)
    assert wanted
    assert set(wanted) <= set(locked)
    assert "vmrelay" not in locked


def test_two_examples_share_a_file() -> None:
    """Each example stands alone, so what Flask's and FastAPI's have in common is there twice, and the same."""
    first, second = (ROOT / "deploy" / "examples" / name / "moves.py" for name in ("flask", "fastapi"))
    assert first.read_text() == second.read_text()


def test_an_example_that_does_not_exist_is_refused() -> None:
    """A misspelt name is an error that says which there are."""
    script = ROOT / "scripts" / "bootstrap-examples"
    done = subprocess.run([script, "djang"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no example application 'djang' (deploy/examples has django, fastapi, flask)" in done.stderr


def test_the_smaller_lock_is_part_of_the_larger() -> None:
    """What runs in production is, version by version and hash by hash, what was tested."""

    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / name).read_text()
        return set(re.findall(r"^[a-z0-9-]+(?:\[[a-z,]+\])?==\S+|sha256:[0-9a-f]{64}", text, re.MULTILINE))

    assert pins("base.lock") | pins("planner.lock") <= pins("dev.lock")


def test_the_wheel_holds_the_two_packages_and_nothing_else(tmp_path: Path) -> None:
    """Top-level names are worker and tasks; scripts for Redis and type markers are inside."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    (wheel,) = tmp_path.glob("vmrelay-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"worker", "tasks"}
    data = {
        file.relative_to(ROOT).as_posix()
        for package in ("worker", "tasks")
        for suffix in ("*.lua", "*.py", "py.typed")
        for file in (ROOT / package).rglob(suffix)
    }
    assert {"worker/py.typed", "tasks/py.typed"} <= data
    assert data <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "License-Expression: Apache-2.0" in metadata


def test_make_help_lists_every_target() -> None:
    """`make` alone prints one line for each target that can be asked for."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    listed = [line.split()[1] for line in run("make", "--no-print-directory").splitlines()]
    assert sorted(listed) == sorted(phony[1].split())


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """.ci/run ends in `make test`, which the README names."""
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec make test"
    assert re.search(r"^make test\b", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "script",
    ["scripts/bootstrap", "scripts/bootstrap-examples", "scripts/debian-packages", "scripts/lock", ".ci/run"],
)
def test_scripts_are_executable_and_parse(script: str) -> None:
    """Each script can be started as the documents say."""
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    run("bash", "-n", path)


def test_bootstrap_refuses_an_unknown_option() -> None:
    """A misspelt option is an error with the usage, and changes nothing."""
    done = subprocess.run([ROOT / "scripts" / "bootstrap", "--develop"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Usage: scripts/bootstrap [--dev] [--libvirt]" in done.stderr
