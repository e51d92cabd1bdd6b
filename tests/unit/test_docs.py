"""The documents: nothing in them that the code, the Makefile or the disk contradicts."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from prometheus_client.metrics import MetricWrapperBase

from worker import metrics
from worker.cli.main import cli
from worker.contract import MigrateRequest
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
PROSE = [page for page in PAGES if page.parent.name != "reference"]
NOT_METRICS = {"vmrelay_client"}
"""The client's package."""
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """How a failing test names a page."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The code blocks of a page in these languages."""
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield text


def lines_of_shell(page: Path) -> Iterator[str]:
    """What a reader would type: lines of shell blocks, and commands in the text."""
    for block in blocks(page, "sh", "console"):
        here_document = ""
        for line in block.splitlines():
            if here_document:
                here_document = "" if line == here_document else here_document
                continue
            yield line.removeprefix("$ ") if line.startswith("$ ") else line
            if found := re.search(r"<<(\w+)", line):
                here_document = found[1]
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    yield from re.findall(r"`((?:\.venv/bin/)?(?:vmrelay|make|VMRELAY_\w+=\S+ vmrelay) [^`…]*)`", text)


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The arguments of each call of a program on a page."""
    for line in lines_of_shell(page):
        opened = re.sub(r"^\s*\w+=\$\((.*)\)$", r"\1", line)
        for part in re.split(r" && | \| |; ", opened):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words and Path(words[0]).name == program:
                yield words[1:]


def parse(arguments: list[str]) -> None:
    """Whether the command and its options exist; raises click's own errors."""
    command: click.Command = cli
    context = click.Context(command, info_name="vmrelay")
    _, rest, _ = command.make_parser(context).parse_args(list(arguments))
    while isinstance(command, click.Group) and rest:
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
        context = click.Context(command, info_name=command.name, parent=context)
        if isinstance(command, click.Group):
            _, rest, _ = command.make_parser(context).parse_args(rest)
        else:
            command.make_parser(context).parse_args(rest)


def test_the_reference_is_what_the_code_says() -> None:
    """`scripts/docs` would change nothing."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "reference", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links name files that exist, and headings that are in them."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+://", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
            assert heading in anchors, f"{target}: no such heading"


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_every_command_exists(page: Path) -> None:
    """Each `vmrelay …` on a page names a command and options that there are."""
    for arguments in commands(page, "vmrelay"):
        try:
            parse(arguments)
        except click.ClickException as wrong:
            pytest.fail(f"vmrelay {shlex.join(arguments)}: {wrong.format_message()}")


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_every_make_target_exists(page: Path) -> None:
    """Each `make …` on a page names targets and variables of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE))
    for arguments in commands(page, "make"):
        for word in arguments:
            known = word.split("=")[0] in variables if "=" in word else word in targets
            assert known, f"make {shlex.join(arguments)}"


def test_commands_are_found_and_judged() -> None:
    """The two tests above see what is on the pages, and what is wrong."""
    tutorial = ROOT / "docs" / "tutorial.md"
    assert ["migrate", "big-1", "gamma", "--no-wait"] in list(commands(tutorial, "vmrelay"))
    assert ["demo", "KEEP=1"] in list(commands(ROOT / "README.md", "make"))
    for wrong in (["migrate", "a", "b", "--no-such"], ["fly"], ["simulator", "fault", "alpha", "--fly"]):
        with pytest.raises(click.ClickException):
            parse(wrong)
    parse(["simulator", "alpha", "--state-dir", "x"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_metric_exists(page: Path) -> None:
    """A metric that a page names is one that is served."""
    served = {
        family.name + suffix
        for item in vars(metrics).values()
        if isinstance(item, MetricWrapperBase)
        for family in item.describe()
        for suffix in ("", "_total", "_bucket", "_sum", "_count")
    }
    served |= {item.name for item in vars(metrics).values() if isinstance(item, metrics.Shown)}
    named = set(re.findall(r"\bvmrelay_[a-z_]+\b", page.read_text(encoding="utf-8")))
    assert named <= served | NOT_METRICS


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_blocks_of_code_are_whole(page: Path) -> None:
    """Python compiles, TOML is settings that are accepted, JSON parses."""
    for source in blocks(page, "python"):
        compile(source, name_of(page), "exec")
    for source in blocks(page, "toml"):
        Settings(**tomllib.loads(source))
    for source in blocks(page, "json"):
        json.loads(source)


def test_the_schema_takes_what_the_pages_send() -> None:
    """The arguments in the how-to are a request that is accepted."""
    (text,) = (text for text in blocks(ROOT / "docs/howto/enqueue.md", "python") if "kwargs={\n" in text)
    found = re.search(r"kwargs=(\{.*?\n    \})", text, re.DOTALL)
    assert found is not None
    arguments = eval(found[1], {"__builtins__": {}})  # noqa: S307 - our own page
    assert MigrateRequest.parse(arguments).domain == "web-1"
