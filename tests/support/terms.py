"""Terms of admission for tests that have no settings."""

from __future__ import annotations

from worker.terms import Room, Terms

HOSTS = ("alpha", "beta", "gamma", "delta")


def terms(outgoing: int, incoming: int, *hosts: str) -> Terms:
    """The same limits for every host."""
    return Terms({host: Room(outgoing, incoming) for host in hosts or HOSTS})


def terms_text(outgoing: int, incoming: int) -> str:
    """The same as the scripts read it."""
    return terms(outgoing, incoming).text()
