"""``make screenshot``: a simulated relay under load, and pictures of its live page for the README, light and dark.

Starts eight simulated hosts with a hundred guests in a directory of its own, asks for a drain and for single
migrations, lets one fail and one get in doubt, and removes everything at the end. ``--keep`` waits for Ctrl-C before.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from worker.cli.demo_relay import Relay, signals_unwind, stopping, use
from worker.embedded import free_port
from worker.errors import Unavailable
from worker.settings import current

Value = TypeVar("Value")
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
HOSTS = tuple(f"ams-{number:02}" for number in range(1, 9))
KINDS = {
    "web": (2048, 45),
    "api": (4096, 50),
    "db": (12288, 40),
    "cache": (8192, 25),
    "queue": (4096, 30),
    "build": (6144, 80),
}
"""Guests by what they do: MiB of memory, and percent of their CPUs."""
GUESTS = 96
WISHES = (
    ("ams-01", "ams-05", "urgent"),
    ("ams-02", "ams-06", "high"),
    ("ams-04", "ams-08", "normal"),
    ("ams-05", "ams-08", "low"),
)
"""Whose guests go where besides, and how urgent that is."""
WIDTH, HEIGHT = 1440, 1180
BROKEN = "0x80031004"
CHROMIUM = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb",
)  # fmt: skip


def until(condition: Callable[[], Value], what: str, seconds: float = 150) -> Value:
    """Wait until a condition is true; its value. Raises ``Unavailable``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Unavailable(f"{what}: did not come true in {seconds:g} s")
        time.sleep(0.05)
    return value


def guests() -> list[tuple[str, str, int, int]]:
    """All guests: name, host, memory and CPU share; the same ones each time, more of them on the first hosts."""
    chance = random.Random(7)  # noqa: S311 - pictures are to look alike
    found, count = [], dict.fromkeys(KINDS, 0)
    for number in range(GUESTS):
        kind = chance.choice(list(KINDS))
        count[kind] += 1
        memory, cpu = KINDS[kind]
        host = HOSTS[min(int(abs(chance.gauss(0, 1)) * 3.2), 7)] if number % 3 else HOSTS[number // 3 % 8]
        found.append((f"{kind}-{count[kind]}", host, memory, max(5, cpu + chance.randint(-20, 20))))
    return found


def settings(folder: Path) -> Path:
    """Write the settings and the simulator's file; where the settings are."""
    lines = ["clock_scale = 4", "bandwidth_mib = 80", f'state_dir = "{folder}/simulator"']
    lines += [f"[hosts.{host}]\ncpus = 40\nmemory_mib = 163840" for host in HOSTS]
    lines += [
        f'[[vms]]\nname = "{name}"\nhost = "{host}"\nmemory_mib = {memory}\ncpus = 4\ncpu_percent = {cpu}'
        for name, host, memory, cpu in guests()
    ]
    (folder / "simulator.toml").write_text("\n".join(lines))
    own = [f'redis_url = "redis://127.0.0.1:{free_port()}/0"', "embedded_redis = true", f'state_dir = "{folder}"']
    own += ['simulator_file = "simulator.toml"', "inventory_seconds = 0.5", "poll_seconds = 0.2"]
    own += ["[planning]", "load_seconds = 0.5", "[web]", f"port = {free_port()}"]
    own += [
        f'[hosts.{host}]\nuri = "vzsim://{{state_dir}}/simulator/{host}.sock"\nmax_outgoing = 3\nmax_incoming = 3'
        for host in HOSTS
    ]
    path = folder / "vmrelay.toml"
    path.write_text("\n".join(own))
    return path


class Scene:
    """What happens on the pictures."""

    def __init__(self) -> None:
        from worker.runtime import runtime

        self._parts = runtime()
        self._where = {name: host for name, host, _, _ in guests()}
        self._chance = random.Random(3)  # noqa: S311

    def _ask(self, host: str, action: str, **arguments: object) -> None:
        from worker.hypervisors.simulator.config import load
        from worker.hypervisors.simulator.control import ask

        file = self._parts.settings.simulator_file
        ask(load(file, Path(self._parts.settings.state_dir) / "simulator").socket_path(host), action, **arguments)  # type: ignore[arg-type]

    def _migrate(self, domain: str, to: str, **more: object) -> str:
        from worker.asking import enqueue
        from worker.contract import MIGRATE

        return enqueue(MIGRATE, {"domain": domain, "destination": to, **more})

    def _on(self, host: str, kind: str = "") -> list[str]:
        return [name for name, where in self._where.items() if where == host and name.startswith(kind)]

    def begin(self) -> None:
        """Wait for loads; then everything that the pictures show."""
        from worker.asking import ask, enqueue
        from worker.contract import DRAIN, HOST

        book, inventory = self._parts.journal, self._parts.inventory
        until(lambda: len(book.loads(inventory)) == len(HOSTS), "loads")
        self._doubt(self._on("ams-04", "db")[0], "ams-04", "ams-06")
        failing = self._on("ams-05")[0]
        self._ask("ams-05", "fault", fault={"kind": "fail", "code": BROKEN, "vm": failing})
        quick = [self._migrate(name, "ams-08", requested_by="anna") for name in self._on("ams-05")[1:3]]
        quick.append(self._migrate(failing, "ams-07"))
        quick.append(self._migrate(self._on("ams-06")[0], "ams-06"))
        until(lambda: all((each := book.record(i)) and each.state == "ended" for i in quick), "the first ones")
        ask(HOST, {"hosts": ["ams-07"], "action": "cordon", "reason": "BIOS update", "requested_by": "bert"})
        enqueue(DRAIN, {"hosts": ["ams-03"], "reason": "new DIMMs", "requested_by": "anna"})
        until(lambda: book.count("active") >= 2, "the drain")
        for source, to, priority in WISHES:
            for kind in ("db", "web", "cache"):
                for name in self._on(source, kind)[:1]:
                    self._migrate(name, to, priority=priority, requested_by="shop")
            time.sleep(3)  # not all of them as far as each other
        until(lambda: any(each.progress.get("percent", 0) > 55 for each in book.records("active")), "a picture")

    def _doubt(self, domain: str, source: str, to: str) -> None:
        """Somebody has started a guest on its destination by hand, while the source's dispatcher was gone."""
        book = self._parts.journal
        self._ask(source, "fault", fault={"kind": "crash", "vm": domain})
        ident = self._migrate(domain, to, attempts=1)
        until(lambda: not self._answers(source), f"the dispatcher of {source} crashes")
        record = until(lambda: book.record(ident), "a record")
        self._ask(to, "vm-create", vm={"name": domain, "uuid": record.uuid, "memory_mib": 1024})
        until(lambda: (each := book.record(ident)) and each.state == "in-doubt", f"{domain} is in doubt")

    def _answers(self, host: str) -> bool:
        try:
            self._ask(host, "show")
        except Unavailable:
            return False
        return True


def take(url: str, folder: Path) -> None:
    """The pictures, light and dark."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(CHROMIUM))
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(url)
            page.wait_for_selector("html[data-live]")
            page.wait_for_selector(".link[data-state=live]")
            picture = folder / f"page-{scheme}.png"
            page.screenshot(path=picture)
            subprocess.run(["pngquant", "--force", "--ext", ".png", "--strip", picture], check=True)
            print(f"{picture}: {picture.stat().st_size / 1024:.0f} KiB")
        browser.close()


def main() -> int:
    """Make the pictures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keep", action="store_true", help="leave it up until Ctrl-C")
    arguments.add_argument("--to", type=Path, default=PICTURES, help="where the pictures go")
    given = arguments.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    with signals_unwind(), tempfile.TemporaryDirectory(prefix="vmrelay-") as folder:
        use(settings(Path(folder)))
        with stopping(Relay(Path(folder), "--no-procfile", "--exit-with-parent")):
            url = f"http://127.0.0.1:{current().web.port}/"
            Scene().begin()
            take(url, given.to)
            if given.keep:
                print(f"up at {url}, settings {os.environ['VMRELAY_CONFIG']}; Ctrl-C ends it", flush=True)
                try:
                    while True:
                        time.sleep(1)
                except KeyboardInterrupt:
                    pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
