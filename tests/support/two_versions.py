"""Agents and schedulers of two versions in one relay: what ``scripts/two-versions`` runs.

One agent, then the scheduler, runs the code of another version, from the folder given as the argument.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from relay_lab import HOSTS, Relay, running_relay

LASTS = 300_000
"""MiB: about three seconds of copying."""


def start_other(relay: Relay, name: str, other: Path, *words: str) -> None:
    """Stop one process and start it again from the other version's code."""
    code = relay.terminate(name)
    assert code == 0, f"{name} ended with {code}"
    before = relay.environment
    relay.environment = before | {"PYTHONPATH": str(other)}
    relay.spawn(name, *words)
    relay.environment = before
    relay.ready(name)


def turn(relay: Relay, names: list[str], number: int) -> Counter[str]:
    """Move each guest to the next host; how they ended."""
    idents = [
        relay.migrate(name, HOSTS[(at + number) % len(HOSTS)], attempts=1) for at, name in enumerate(names, start=1)
    ]
    return Counter(relay.wait(ident).outcome for ident in idents)


def main(other: Path) -> int:
    """Every guest must arrive, whichever of the two versions serves it."""
    with TemporaryDirectory(prefix="vmrelay-") as directory, running_relay(Path(directory)) as relay:
        names = [relay.vm(host) for host in HOSTS]
        ended: Counter[str] = Counter()
        for host in HOSTS:
            start_other(relay, f"agent-{host}", other, "agent", host)
            underway = relay.migrate(relay.vm(host, memory_mib=LASTS), next(h for h in HOSTS if h != host))
            ended += turn(relay, names, HOSTS.index(host))
            relay.copying(underway, host)
            assert relay.terminate(f"agent-{host}") == 0  # drains
            relay.restart_agent(host)
            ended[relay.wait(underway).outcome] += 1
        start_other(relay, "scheduler", other, "scheduler")
        ended += turn(relay, names, 0)
        print(dict(ended))
        return 0 if set(ended) == {"succeeded"} else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
