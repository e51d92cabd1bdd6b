"""What agents tell of their hosts, read for all hosts at once; and how loaded these are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from worker.journal.scripting import Scripts
from worker.loads import HostLoad, from_document

HOSTS_AT_ONCE, KEYS_AT_ONCE = 200, 5000
"""In one round trip: an answer has some megabytes at most, and Redis serves others in between."""
HELD = ("state", "source", "destination", "domain")
Item = TypeVar("Item")


class Looks(Scripts):
    """Domains and loads of hosts, as last published."""

    def publish_load(self, host: str, load: HostLoad, seconds: float) -> None:
        """Replace what is known of a host's load; forgotten after ``seconds``."""
        self.client.set(self._key("load", host), json.dumps(load.document()), px=int(seconds * 1000))

    def loads(self, hosts: Iterable[str]) -> dict[str, HostLoad]:
        """The loads of those of these hosts that have told any."""
        found: dict[str, HostLoad] = {}
        for names in _parts(hosts, HOSTS_AT_ONCE):
            texts = self.client.mget([self._key("load", name) for name in names])
            found |= {name: _load(text) for name, text in zip(names, texts, strict=True) if text}
        return found

    def seen(self, hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
        """All that is published of these hosts: ``agent``, ``domains``, ``at`` and ``load``."""
        found: dict[str, dict[str, Any]] = {}
        for names in _parts(hosts, HOSTS_AT_ONCE):
            pipe = self.client.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(self._key("domains", name))
                pipe.mget(self._key("lease", name), self._key("domains", name, "at"), self._key("load", name))
            answers = pipe.execute()
            for name, raw, (lease, at, load) in zip(names, answers[::2], answers[1::2], strict=True):
                found[name] = {
                    "agent": json.loads(lease) if lease else None,
                    "domains": [json.loads(text) for key, text in sorted(raw.items()) if not key.startswith("/")],
                    "at": int(at) if at else None,
                    "load": _load(load) if load else None,
                }
        return found

    def running_at(self, hosts: Iterable[str]) -> dict[str, tuple[int, int]]:
        """How many migrations leave and enter each of these hosts now."""
        found: dict[str, tuple[int, int]] = {}
        for names in _parts(hosts, KEYS_AT_ONCE):
            pipe = self.client.pipeline(transaction=False)
            for name in names:
                pipe.scard(self._key("slots", name, "out"))
                pipe.scard(self._key("slots", name, "in"))
            numbers = [int(number) for number in pipe.execute()]
            found |= dict(zip(names, zip(numbers[::2], numbers[1::2], strict=True), strict=True))
        return found

    def holders(self, uuids: Iterable[str]) -> dict[str, dict[str, str]]:
        """Those of these guests that a migration holds: its id as ``migration``, and where it moves them."""
        held: dict[str, str] = {}
        for some in _parts(uuids, KEYS_AT_ONCE):
            idents = self.client.mget([self._key("vm", uuid) for uuid in some])
            held |= {uuid: ident for uuid, ident in zip(some, idents, strict=True) if ident}
        found: dict[str, dict[str, str]] = {}
        for some in _parts(held, KEYS_AT_ONCE):
            pipe = self.client.pipeline(transaction=False)
            for uuid in some:
                pipe.hmget(self._key("m", held[uuid]), HELD)
            for uuid, values in zip(some, pipe.execute(), strict=True):
                told = {name: value or "" for name, value in zip(HELD, values, strict=True)}
                if told["state"] not in ("", "ended"):  # it has ended since
                    found[uuid] = {"migration": held[uuid]} | told
        return found


def _load(text: str) -> HostLoad:
    return from_document(json.loads(text))


def _parts(items: Iterable[Item], most: int) -> Iterator[Sequence[Item]]:
    whole = list(items)
    for first in range(0, len(whole), most):
        yield whole[first : first + most]
