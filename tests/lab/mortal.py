"""An agent's part at one host in a process of its own, so that it can be killed in the middle of a call."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from libvirt_lab import DEADLINE_SECONDS, Lab, Recorder, driver

from worker.errors import RelayError


class Mortal:
    """A process that holds a driver of one host and makes one call after the other."""

    def __init__(self, lab: Lab, host: str) -> None:
        context = multiprocessing.get_context("spawn")  # libvirt's threads do not outlive a fork
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(lab, host, theirs), daemon=True)
        self._process.start()
        theirs.close()
        assert self.answer() == "ready"

    def start(self, method: str, *arguments: object) -> None:
        """Have it make a call (the watch is its own); do not wait for the end."""
        self._pipe.send((method, arguments))

    def answer(self) -> Any:
        """What the call returned, or the ``RelayError`` that it raised."""
        assert self._pipe.poll(DEADLINE_SECONDS), "the call did not end"
        kind, value, about = self._pipe.recv()
        if kind is None:
            return value
        error = kind.__new__(kind, value)
        vars(error).update(about)
        return error

    def call(self, method: str, *arguments: object) -> Any:
        """Make a call; what it returns, or raises."""
        self.start(method, *arguments)
        answer = self.answer()
        if isinstance(answer, RelayError):
            raise answer
        return answer

    def kill(self) -> None:
        """As with kill -9; harmless when repeated."""
        self._process.kill()
        self._process.join()


@contextmanager
def mortal(lab: Lab, host: str) -> Iterator[Mortal]:
    """One that is gone at the end of the block."""
    made = Mortal(lab, host)
    try:
        yield made
    finally:
        made.kill()


def _serve(lab: Lab, host: str, pipe: Connection) -> None:
    hypervisor = driver(lab, host)
    pipe.send((None, "ready", {}))
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        watch = () if method in ("inspect", "resume", "remove", "abort", "release") else (Recorder(),)
        try:
            pipe.send((None, getattr(hypervisor, method)(*arguments, *watch), {}))
        except RelayError as error:
            pipe.send((type(error), error.message, vars(error)))  # it cannot be made from its arguments alone
