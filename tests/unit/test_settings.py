"""Settings and inventory: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import Rejected, SettingsError
from worker.hypervisors.convergence import StallAction, StallPolicy
from worker.inventory import Inventory
from worker.settings import CONFIG_VARIABLE, config_file, load


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file that is in force."""
    path = tmp_path / "vmrelay.toml"
    path.write_text('state_dir = "state"\n[hosts.alpha]\nuri = "vzsim://{state_dir}/a.sock"\n')
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    for name in ("VMRELAY_STATE_DIR", "VMRELAY_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return path


def test_paths_are_relative_to_the_file(file: Path) -> None:
    """The state directory lies beside the file, and host URIs may name it."""
    settings = load()
    assert settings.state_dir == file.parent / "state"
    assert settings.hosts["alpha"].uri == f"vzsim://{file.parent}/state/a.sock"
    assert settings.key_file == file.parent / "state" / "seal.key"


def test_environment_over_file_over_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested names with two underscores, too."""
    file.write_text("lease_seconds = 7\n[retry]\ntries = 2\nfactor = 3.0\n")
    monkeypatch.setenv("VMRELAY_RETRY__TRIES", "9")
    settings = load()
    assert (settings.lease_seconds, settings.retry.tries, settings.retry.factor) == (7, 9, 3.0)
    assert settings.poll_seconds == 0.5


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("nonsense = 1", "nonsense"),
        ("lease_seconds = 0", "lease_seconds"),
        ("lease_seconds = ", "cannot be read"),
        ('redis_url = "rediss://r:6379/0"', "does not verify certificates"),
        ('redis_url = "http://r"', "redis://HOST:PORT/DB"),
        ('[hosts."a b"]\nuri = "x"', "no host name"),
        ('[hosts."a:b"]\nuri = "x"', "no host name"),
        ("[hosts.a]\n", "hosts.a.uri"),
        ('[hosts.a]\nuri = "vzsim://x"\nmax_outgoing = -1', "max_outgoing"),
        ('[hosts.a]\nuri = "vzsim://x"\nmore = 1', "more"),
        ('[stall]\naction = "pray"', "stall.action"),
        ("[stall]\nrounds = 0", "stall.rounds"),
    ],
)
def test_wrong_settings_are_named(file: Path, text: str, part: str) -> None:
    """One error that says which file and which setting."""
    file.write_text(text + "\n")
    with pytest.raises(SettingsError, match=r"vmrelay\.toml") as wrong:
        load()
    assert part in wrong.value.message


def test_a_file_that_is_not_there(file: Path) -> None:
    """Named and missing is an error; not named and missing is not."""
    file.unlink()
    with pytest.raises(SettingsError, match="no configuration file"):
        config_file()


def test_verified_tls_is_taken(file: Path) -> None:
    """rediss:// with its verification spelled out."""
    file.write_text('redis_url = "rediss://r:6379/0?ssl_cert_reqs=required"\n')
    assert load().redis_url.startswith("rediss://")


def test_the_inventory_knows_its_hosts_only(file: Path) -> None:
    """A host has a queue, a profile and a driver's configuration; any other name is refused with a list."""
    inventory = Inventory(load())
    assert list(inventory) == ["alpha"]
    assert inventory.host("alpha").queue == "host.alpha"
    assert inventory.host("alpha").profile == "vz"
    assert inventory.config("alpha").address == "alpha"
    with pytest.raises(Rejected, match="the inventory has alpha") as refused:
        inventory.host("x" * 500)
    assert refused.value.code == "unknown-host"
    assert len(refused.value.message) < 200


def test_what_is_done_about_a_stall(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but a report unless the file, or over it the environment, says otherwise; drivers get the limits."""
    assert load().stall.action is StallAction.REPORT
    file.write_text('[stall]\naction = "abort"\nrounds = 5\n[hosts.a]\nuri = "qemu:///system"\n')
    assert load().stall.action is StallAction.ABORT
    monkeypatch.setenv("VMRELAY_STALL__ACTION", "downtime")
    settings = load()
    assert settings.stall.action is StallAction.DOWNTIME
    assert Inventory(settings).config("a").stall == StallPolicy(rounds=5)


def test_where_other_daemons_reach_a_host(file: Path) -> None:
    """A remote URI is good for that, a local one is not, and peer_uri has the last word, also to say nowhere."""
    hosts = {
        "local": ("qemu:///system", None, ""),
        "socket": ("qemu+unix:///session?socket=/x", None, ""),
        "remote": ("qemu+tls://r.example/system", None, "qemu+tls://r.example/system"),
        "named": ("qemu:///system", "qemu+tls://n.example/system", "qemu+tls://n.example/system"),
        "closed": ("qemu+ssh://c.example/system", "", ""),
    }
    lines = [
        f'[hosts.{name}]\nuri = "{uri}"\n' + (f'peer_uri = "{peer}"\n' if peer is not None else "")
        for name, (uri, peer, _) in hosts.items()
    ]
    file.write_text("".join(lines))
    inventory = Inventory(load())
    assert {name: inventory[name].peer_uri for name in hosts} == {name: seen for name, (_, _, seen) in hosts.items()}
