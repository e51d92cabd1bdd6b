"""Credentials for a connection: libvirt's own ``auth.conf`` has them, or nobody is asked.

libvirt looks into ``$LIBVIRT_AUTH_FILE``, the user's and the system's ``auth.conf`` by itself and turns to
its caller only for what is missing there. An agent has nobody to ask: what is missing is told, and the
connection fails.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import libvirt

from worker.errors import HypervisorError, Retry
from worker.hypervisors.libvirt.errors import classed

_KEYS = {
    libvirt.VIR_CRED_USERNAME: "username",
    libvirt.VIR_CRED_AUTHNAME: "authname",
    libvirt.VIR_CRED_PASSPHRASE: "password",
    libvirt.VIR_CRED_NOECHOPROMPT: "password",
    libvirt.VIR_CRED_ECHOPROMPT: "response",
    libvirt.VIR_CRED_REALM: "realm",
    libvirt.VIR_CRED_CNONCE: "cnonce",
    libvirt.VIR_CRED_LANGUAGE: "language",
}
"""What is asked for, by its key in ``auth.conf``."""
_CREDENTIAL = 0
"""The place of ``virConnectCredential.type`` in what libvirt-python hands to the callback."""


class Credentials:
    """Answers libvirt's questions with no, and remembers what they were about."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._asked: set[str] = set()

    @property
    def request(self) -> list[Any]:
        """The third of ``virConnectOpenAuth``'s arguments, as libvirt-python wants it."""
        return [list(_KEYS), self._ask, None]

    def _ask(self, questions: list[list[Any]], _data: object) -> int:
        self._asked |= {_KEYS[question[_CREDENTIAL]] for question in questions}
        return -1

    def explained(self, error: BaseException) -> BaseException:
        """What to raise where the connection could not be opened."""
        if not isinstance(error, libvirt.libvirtError):
            return error
        failure = classed(error, effect=False)
        if not self._asked:
            return failure
        return HypervisorError(
            f"host {self._host} asks for {' and '.join(sorted(self._asked))}, and the auth.conf of the user who runs "
            f"this agent does not say it ({failure}); add it there (libvirt.org/auth.html)",
            code=failure.code,
            retry=Retry.OPERATOR,
            untouched=True,
        )


def without_questions(uri: str) -> str:
    """The URI with ``no_tty``, where it starts ssh: that one would ask on the agent's terminal."""
    parts = urlsplit(uri)
    if not parts.scheme.endswith("+ssh") or "no_tty=" in parts.query:
        return uri
    return parts._replace(query="&".join(filter(None, (parts.query, "no_tty=1")))).geturl()
