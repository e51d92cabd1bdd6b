"""A journal on a real Redis whose scripts read their clock from a key: hours pass in no time, and tests say when."""

from __future__ import annotations

from typing import Any

import redis

from worker.journal import Journal
from worker.terms import Terms

NOTHING = ("", "", 0)
ENDED = {"outcome": "succeeded", "reason": ""}
RUN = {"phase": "begin", "host": "alpha", "seconds": 1}
TIME = "local time = redis.call('TIME')"
START = 1_000_000_000_000


class Clocked(Journal):
    """The real scripts with a clock of the test's own."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        for name, script in self._scripts.items():
            text = str(script.script)
            assert text.count(TIME) == 2
            ours = "local clock = redis.call('GET', prefix .. 'clock')\n  local time = {math.floor(clock / 1000), "
            text = text.replace(TIME, ours + "(clock % 1000) * 1000}")
            self._scripts[name] = client.register_script(text)
        self.load()
        self.at = START
        self.pass_time(0)

    def pass_time(self, seconds: float) -> None:
        """Later."""
        self.at += int(seconds * 1000)
        self.client.set(self._key("clock"), self.at)

    def open(self, *hosts: str, **card: Any) -> None:
        """Agents of these hosts live, for ever."""
        for host in hosts:
            self.client.set(self._key("lease", host), '{"incarnation":"x"}')
            if card:
                assert self.lease(host, {"incarnation": "x"} | card, 10**6) is None

    def shut(self, *hosts: str) -> None:
        """These hosts have no agent."""
        for host in hosts:
            self.client.delete(self._key("lease", host))

    def ask(self, ident: str, source: str, destination: str, **more: str | int) -> None:
        """A request is journaled, and waits."""
        fields: dict[str, str | int | float | None] = {
            "domain": ident,
            "uuid": f"uuid-{ident}",
            "source": source,
            "destination": destination,
            "driver": "vz",
        }
        created, _ = self.submit(ident, fields | more, {}, "b", self.nobody.text())
        assert created == ["OK"]

    nobody = Terms({})
    """Under which nothing starts."""

    def start(self, ident: str, terms: Terms) -> list[Any]:
        """Admit the next attempt of a migration."""
        record = self.record(ident)
        assert record is not None
        return self.admit(ident, record.attempt + 1, "b", terms.text(record.source, record.destination))

    def round(self, terms: Terms, most: int = 100) -> list[str]:
        """Start all that may; each that is chosen must be admitted."""
        chosen = self.choose(terms, most)
        for ident in chosen:
            assert self.start(ident, terms)[0] == "OK", ident
        return chosen

    def _claimed(self, ident: str) -> None:
        record = self.record(ident)
        assert record is not None
        assert self.claim(ident, record.attempt, record.epoch, "begin", "b", "t", "alpha", NOTHING).won

    def end(self, ident: str) -> None:
        """A migration that runs has ended."""
        self._claimed(ident)
        self.conclude(ident, "t", RUN, ENDED, 100, None)

    def back_off(self, ident: str, pause: float) -> None:
        """Its attempt has failed, and another one follows."""
        self._claimed(ident)
        self.backoff(ident, "t", RUN, {}, pause, {}, NOTHING)
