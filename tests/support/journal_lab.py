"""What tests of the journal's scripts have in common."""

from __future__ import annotations

from worker.journal import Journal

HOSTS = ("alpha", "beta", "gamma")
KEEP = 1000
"""Seconds that an ended migration is kept."""
NOTHING = ("", "", 0)
"""Nothing to be shown by the result back end."""


def fields(domain: str, source: str, destination: str) -> dict[str, str | int | float | None]:
    """What create.lua stores."""
    return {"domain": domain, "uuid": f"uuid-{domain}", "source": source, "destination": destination, "driver": "vz"}


def agents(journal: Journal) -> None:
    """Every host has its agent."""
    for host in HOSTS:
        assert journal.lease(host, {"incarnation": host}, 3600) is None
