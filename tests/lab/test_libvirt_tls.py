"""Guests that move under TLS, and what is refused: a certificate of another host, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import LIVE, Lab

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import ParamValue
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from libvirt_lab import Stage

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("flags", "params"),
    [
        (Flag.TLS, {}),
        (Flag.TLS, {"tls.destination": "beta"}),
        (Flag.TLS | Flag.PARALLEL, {"parallel.connections": 3}),
        (Flag.TLS | Flag.COMPRESSED, {"tls.destination": "beta"}),
    ],
    ids=["tls", "tls-destination", "parallel", "compressed"],
)
def test_moves_under_tls(stage: Stage, flags: Flag, params: Mapping[str, ParamValue]) -> None:
    """The guest's memory goes through TLS, by the destination's address or by the name in its certificate."""
    guest = stage.guest(f"secret-{int(flags)}-{len(params)}")
    stage.migrate(guest.move(LIVE | int(flags), params=params))
    guest.beats_on()


def test_another_name_in_the_certificate(stage: Stage) -> None:
    """A destination that cannot prove the name is not trusted: refused in perform, and the guest runs on and moves."""
    guest = stage.guest("wary")
    move = guest.move(LIVE | int(Flag.TLS), params={"tls.destination": "elsewhere"})
    begun, prepared = stage.up_to_prepare(move)
    with pytest.raises(HypervisorError) as caught:
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert "Certificate does not match the hostname elsewhere" in caught.value.message
    assert caught.value.after is Retry.OPERATOR
    stage.drop(move)
    guest.beats_on()
    stage.migrate(guest.move(LIVE | int(Flag.TLS)))
    guest.beats_on()


@contextmanager
def away(lab: Lab, host: str, name: str) -> Iterator[None]:
    """One of a host's files is missing meanwhile."""
    file = lab.folder / host / "tls" / name
    kept = file.rename(file.with_name(f"{name}.away"))
    try:
        yield
    finally:
        kept.rename(file)


def test_without_a_certificate(stage: Stage) -> None:
    """A destination without a server certificate says so in prepare; the guest runs on, and moves without TLS."""
    guest = stage.guest("bare")
    move = guest.move(LIVE | int(Flag.TLS))
    with away(stage.lab, "beta", "server-cert.pem"):
        begun = stage.source.begin(move, stage.watch)
        with pytest.raises(HypervisorError) as caught:
            stage.destination.prepare(move, begun.xml, begun.cookie, stage.watch)
    assert "server-cert.pem" in caught.value.message
    assert caught.value.after is Retry.OPERATOR
    stage.drop(move)
    guest.beats_on()
    stage.migrate(guest.move())
    guest.beats_on()


def test_another_authority(stage: Stage) -> None:
    """A source that does not know the authority behind the destination's certificate does not send the guest there."""
    guest = stage.guest("stranger")
    move = guest.move(LIVE | int(Flag.TLS))
    authority = stage.lab.folder / "alpha" / "tls" / "ca-cert.pem"
    good = authority.read_bytes()
    authority.write_bytes((stage.lab.folder / "alpha" / "tls" / "client-cert.pem").read_bytes())
    try:
        begun, prepared = stage.up_to_prepare(move)
        with pytest.raises(HypervisorError, match=r"(?i)certificate|authority|issuer"):
            stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    finally:
        authority.write_bytes(good)
    stage.drop(move)
    guest.beats_on()
