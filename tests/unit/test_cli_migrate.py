"""`vmrelay migrate`: from the command line to the request, held against virsh's own table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from worker.cli.main import cli
from worker.cli.migrate import migrate
from worker.cli.options import SECTIONS, SectionOption, request_of, wait_limit
from worker.contract import MigrateRequest
from worker.errors import Rejected
from worker.hypervisors.checks.virsh_options import COMMANDS, FLAG_OPTIONS, NUMBER_OPTIONS, TEXT_OPTIONS, Kind
from worker.hypervisors.flags import PROFILES, MigrateFlag, resolve

FILE = "FILE"
"""Stands for a file that holds ``<domain/>``."""

FLAGS = {
    "--live": "live",
    "--offline": "offline",
    "--p2p": "peer2peer",
    "--tunnelled": "tunnelled",
    "--tunneled": "tunnelled",
    "--persistent": "persist_dest",
    "--undefinesource": "undefine_source",
    "--suspend": "paused",
    "--copy-storage-all": "non_shared_disk",
    "--copy-storage-inc": "non_shared_inc",
    "--copy-storage-all --copy-storage-synchronous-writes": "non_shared_disk non_shared_synchronous_writes",
    "--change-protection": "change_protection",
    "--unsafe": "unsafe",
    "--compressed": "compressed",
    "--auto-converge": "auto_converge",
    "--rdma-pin-all": "rdma_pin_all",
    "--abort-on-error": "abort_on_error",
    "--postcopy": "postcopy",
    "--postcopy --postcopy-resume": "postcopy postcopy_resume",
    "--zerocopy": "zerocopy",
    "--tls": "tls",
    "--parallel": "parallel",
    "--direct": "direct",
}
"""Words, and the flags that they ask for."""

PARAMS: dict[str, tuple[str, object]] = {
    "--migrateuri tcp://10.0.0.2": ("migrate_uri", "tcp://10.0.0.2"),
    "--graphicsuri spice://10.0.0.2:5900": ("graphics_uri", "spice://10.0.0.2:5900"),
    "--listen-address 0.0.0.0": ("listen_address", "0.0.0.0"),  # noqa: S104 - a word like any other here
    "--dname other": ("destination_name", "other"),
    f"--xml {FILE}": ("destination_xml", "<domain/>"),
    f"--persistent-xml {FILE}": ("persistent_xml", "<domain/>"),
    "--migrate-disks vda,vdb": ("migrate_disks", ["vda", "vdb"]),
    "--disks-port 49153": ("disks_port", 49153),
    "--disks-uri unix:///run/nbd": ("disks_uri", "unix:///run/nbd"),
    "--comp-methods xbzrle,mt": ("compression", ["xbzrle", "mt"]),
    "--comp-mt-level 0": ("compression.mt.level", 0),
    "--comp-mt-threads 4": ("compression.mt.threads", 4),
    "--comp-mt-dthreads 2": ("compression.mt.dthreads", 2),
    "--comp-xbzrle-cache 67108864": ("compression.xbzrle.cache", 67108864),
    "--auto-converge-initial 20": ("auto_converge.initial", 20),
    "--auto-converge-increment 10": ("auto_converge.increment", 10),
    "--bandwidth 100": ("bandwidth", 100),
    "--postcopy-bandwidth 0": ("bandwidth.postcopy", 0),
    "--bandwidth-postcopy 50": ("bandwidth.postcopy", 50),
    "--parallel-connections 4": ("parallel.connections", 4),
}
"""Words, and the typed parameter that they become."""

REQUESTS: dict[str, dict[str, object]] = {
    "": {},
    "--disks-port 0": {},
    "--tls --tls-destination host": {"options": {"tls": True}, "params": {"tls.destination": "host"}},
    "--no-live": {"options": {"live": False}},
    "--timeout 5": {},
    "--timeout 5 --timeout-suspend": {"timeout_seconds": 5.0, "on_timeout": "suspend"},
    "--postcopy --timeout 5 --timeout-postcopy": {
        "options": {"postcopy": True},
        "timeout_seconds": 5.0,
        "on_timeout": "postcopy",
    },
    "--flags LIVE,POSTCOPY --timeout 5 --timeout-postcopy": {
        "flags": "LIVE,POSTCOPY",
        "timeout_seconds": 5.0,
        "on_timeout": "postcopy",
    },
    "--postcopy --postcopy-after-precopy": {"options": {"postcopy": True}, "postcopy_after_precopy": True},
    "--on-stall abort": {"on_stall": "abort"},
    "--on-stall downtime": {"on_stall": "downtime"},
    "--deadline 60": {"deadline_seconds": 60.0},
    "--attempts 2": {"attempts": 2},
    "--priority urgent": {"priority": "urgent"},
    "--source alpha": {"source": "alpha"},
    "--flags 0x21": {"flags": "0x21"},
    "--requested-by me --reason because": {"requested_by": "me", "reason": "because"},
    "--verbose": {},
    "--wait": {},
    "--no-wait": {},
    "-o json": {},
}
"""Words, and the fields that they become."""

REFUSALS = {
    "--live --offline": "Options --live and --offline are mutually exclusive",
    "--timeout 1 --timeout-suspend --timeout-postcopy --postcopy": (
        "Options --timeout-suspend and --timeout-postcopy are mutually exclusive"
    ),
    "--postcopy-after-precopy": "Option --postcopy is required by option --postcopy-after-precopy",
    "--postcopy-resume": "Option --postcopy is required by option --postcopy-resume",
    "--timeout 1 --timeout-postcopy": "Option --postcopy is required by option --timeout-postcopy",
    "--flags LIVE --timeout 1 --timeout-postcopy": "Option --postcopy is required by option --timeout-postcopy",
    f"--no-persistent --persistent-xml {FILE}": "Option --persistent is required by option --persistent-xml",
    "--tls-destination host": "Option --tls is required by option --tls-destination",
    "--timeout-suspend": "migrate: Unexpected --timeout-* option without --timeout",
    "--timeout 0 --timeout-suspend": "migrate: Unexpected --timeout-* option without --timeout",
    "--no-live --timeout 1 --timeout-suspend": "migrate: Unexpected timeout for offline migration",
    "--offline --timeout 1 --timeout-suspend": "migrate: Unexpected timeout for offline migration",
    "--copy-storage-synchronous-writes": "requires one of '--copy-storage-all'",
    "--migrate-disks vda,,vdb": "an item is empty",
    "--comp-methods ,": "an item is empty",
    "--bandwidth fast": "'fast' is not a valid integer",
    "--xml /no/such/file": "cannot read file '/no/such/file': No such file or directory",
    "--persistent-xml /": "cannot read file '/': Is a directory",
    "--desturi qemu+ssh://beta/system": "a host of the inventory, never a URI",
    "--on-stall wish": "'wish' is not one of",
    "--timeout -1": "'-1' is no number of seconds: give 0 or more",
    "--timeout nan": "'nan' is no number of seconds",
    "--deadline -1": "'-1' is no number of seconds: give 0 or more",
    "--deadline inf": "'inf' is no number of seconds",
}
"""Words, and what is said to them before anything is sent."""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The path of a definition."""
    path = tmp_path / "domain.xml"
    path.write_text("<domain/>", encoding="utf-8")
    return str(path)


def values(words: str, file: str = "") -> dict[str, Any]:
    """The options of ``vmrelay migrate web-1 beta WORDS`` by name."""
    return migrate.make_context("migrate", ["web-1", "beta", *shlex.split(words.replace(FILE, file))]).params


def request(words: str, file: str = "") -> dict[str, Any]:
    """The request of a command line, less domain and destination; one that the relay takes."""
    made = request_of(values(words, file))
    MigrateRequest.parse(made)
    assert (made.pop("domain"), made.pop("destination")) == ("web-1", "beta")
    return made


@pytest.mark.parametrize("words", FLAGS)
def test_flags(words: str) -> None:
    """A flag's option asks for it, --no- forbids it, and nothing else is said."""
    asked = dict.fromkeys(FLAGS[words].split(), True)
    assert request(words) == {"options": asked}
    if words not in ("--direct", *(several for several in FLAGS if " " in several)):
        assert request(words.replace("--", "--no-")) == {"options": dict.fromkeys(asked, False)}


@pytest.mark.parametrize("words", PARAMS)
def test_parameters(words: str, file: str) -> None:
    """A parameter's option becomes the typed parameter of that name and type."""
    name, value = PARAMS[words]
    assert request(words, file) == {"params": {name: value}}


@pytest.mark.parametrize("words", REQUESTS)
def test_what_the_relay_does(words: str) -> None:
    """Other options become the request's fields, or nothing where they concern the command only."""
    assert request(words) == REQUESTS[words]


def test_no_deadline_is_not_a_deadline_of_0() -> None:
    """What a request names, if only a 0, is judged by whoever takes it."""
    with pytest.raises(Rejected, match="deadline_seconds: Input should be greater than 0"):
        request("--deadline 0")


@pytest.mark.parametrize("words", REFUSALS)
def test_refusals(words: str, file: str) -> None:
    """Contradictions and unreadable files are a usage error, in virsh's words where it has some."""
    done = CliRunner().invoke(cli, ["migrate", "web-1", "beta", *shlex.split(words.replace(FILE, file))])
    assert done.exit_code == 2
    assert REFUSALS[words] in " ".join(done.output.split())


def test_every_option_is_in_a_table() -> None:
    """No option of the command is without a row above."""
    rows = " ".join([*FLAGS, *PARAMS, *REQUESTS, *REFUSALS]).split()
    for option in migrate.params:
        for word in option.opts if isinstance(option, click.Option) else ():
            assert word in rows or word == "--output"


def test_the_words_are_virshs() -> None:
    """Every option of `virsh migrate` exists here, and asks for the same flag or parameter."""
    known = {word for option in migrate.params for word in option.opts}
    given = {word for word, kind in COMMANDS["migrate"].items() if kind is not Kind.DATA}
    assert {f"--{word}" for word in given} <= known
    for word, flag in FLAG_OPTIONS.items():
        needed = next(words for words in FLAGS if words.split()[-1] == f"--{word}")
        assert MigrateFlag[FLAGS[needed].split()[-1].upper()] is flag
    parameters = {words.split()[0]: name for words, (name, _) in PARAMS.items()} | {
        "--tls-destination": "tls.destination"
    }
    virsh = TEXT_OPTIONS | {word: name for word, (name, _) in NUMBER_OPTIONS.items()}
    assert {f"--{word}": name for word, name in virsh.items()}.items() <= parameters.items()


def test_the_defaults_of_qemu() -> None:
    """Without options a guest moves live, is kept there and forgotten here: what virsh has to be told."""
    assert resolve("qemu", {}) == MigrateFlag.LIVE | MigrateFlag.PERSIST_DEST | MigrateFlag.UNDEFINE_SOURCE


@pytest.mark.parametrize("driver", PROFILES)
def test_direct_is_refused_with_the_drivers_reason(driver: str) -> None:
    """`--direct` travels, so that the driver's own reason is given."""
    with pytest.raises(Rejected, match="flag DIRECT") as refusal:
        resolve(driver, request("--direct")["options"])
    assert PROFILES[driver].direct in refusal.value.message


def test_timeout_bounds_waiting_only_alone() -> None:
    """--timeout is the command's own, unless another option gives it virsh's meaning."""
    assert wait_limit(values("")) is None
    assert wait_limit(values("--timeout 5")) == 5
    assert wait_limit(values("--timeout 5 --timeout-suspend")) is None
    assert wait_limit(values("--postcopy --timeout 5 --timeout-postcopy")) is None


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    """It is a usage error that says so, not a traceback."""
    path = tmp_path / "latin.xml"
    path.write_bytes("<name>é</name>".encode("latin-1"))
    done = CliRunner().invoke(cli, ["migrate", "web-1", "beta", "--xml", str(path)])
    assert done.exit_code == 2
    assert "it is not UTF-8" in done.output


def test_a_uri_is_no_destination() -> None:
    """The message does not repeat the URI, which may hold a password."""
    done = CliRunner().invoke(cli, ["migrate", "web-1", "qemu+ssh://root:secret@beta/system"])
    assert done.exit_code == 2
    assert "a host of the inventory" in done.output
    assert "secret" not in done.output


def test_the_help_says_what_each_option_does() -> None:
    """Every visible option stands below a heading of its own kind and has a sentence."""
    shown = CliRunner().invoke(cli, ["migrate", "--help"], terminal_width=100).output
    positions = [shown.index(f"\n{title}:\n") for title in SECTIONS]
    assert positions == sorted(positions)
    assert "VIR_MIGRATE" not in shown
    for option in migrate.params:
        if isinstance(option, SectionOption) and not option.hidden:
            assert option.help
            assert option.help.rstrip(").")[:1].isupper()
