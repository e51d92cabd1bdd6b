"""The client: what an application may ask, and how it waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vmrelay_client._connector import Connector
from vmrelay_client._ids import SCOPE, checked_key, checked_traceparent
from vmrelay_client._waiting import looks
from vmrelay_client.errors import RelayError
from vmrelay_client.types import (
    Action,
    Batch,
    CancelAnswer,
    ControlAnswer,
    Event,
    Migration,
    Priority,
    StallAction,
)

if TYPE_CHECKING:
    import ssl

    from celery import Celery
    from typing_extensions import Self

ANSWER_SECONDS = 5.0
"""How long a cancel waits for a scheduler to answer."""


class Client:
    """Ask vmrelay to migrate, and see what becomes of it. One may be shared by all threads of a process.

    Made by ``from_celery`` or ``from_url``.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    @classmethod
    def from_celery(cls, app: Celery, *, scope: str = SCOPE) -> Self:
        """Ask over the application's own Celery app. Its broker and result back end must be the relay's Redis.

        ``scope`` names the application: idempotency keys mean the same only within one scope. Raises ``ValueError``
        where the app's results are kept elsewhere, and ``ModuleNotFoundError`` without Celery.
        """
        return cls(_over_celery()(app, scope, owned=False))

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        token: str | None = None,
        scope: str = SCOPE,
        timeout: float = 10.0,
        tls: ssl.SSLContext | None = None,
        token_in_clear: bool = False,
    ) -> Self:
        """Ask over the relay's Redis (``redis://``, ``rediss://``, ``redis+socket://``) or its HTTP API (``https://``,
        ``http://``).

        ``token``, ``timeout`` (seconds without a byte), ``tls`` and ``token_in_clear`` are for HTTP: a token is refused
        over plain ``http://`` to another machine unless that is allowed. ``scope`` is for Redis; over HTTP the scope is
        the token. Raises ``ValueError`` for another URL, and ``ModuleNotFoundError`` without Celery.
        """
        scheme = url.partition("://")[0]
        if scheme in ("http", "https"):
            from vmrelay_client._http import OverHttp

            return cls(OverHttp(url, token, timeout, tls, token_in_clear=token_in_clear))
        if scheme not in ("redis", "rediss", "redis+socket"):
            raise ValueError(
                "write redis://HOST:PORT/DB, rediss://…, redis+socket:///PATH, https://HOST or http://HOST"
            )
        if token is not None:
            raise ValueError("a token is for the HTTP API; Redis takes a user and a password in the URL")
        from_app = _over_celery()
        from vmrelay_client._celery import own_app

        return cls(from_app(own_app(url), scope, owned=True))

    # -- one migration ----------------------------------------------------------------------------

    def migrate(
        self,
        domain: str,
        destination: str,
        *,
        idempotency_key: str | None = None,
        requested_by: str = "",
        reason: str = "",
        source: str | None = None,
        flags: int | str | Iterable[str] | None = None,
        options: Mapping[str, bool | None] | None = None,
        params: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        deadline_seconds: float | None = None,
        attempts: int | None = None,
        on_stall: StallAction | None = None,
        timeout_seconds: float | None = None,
        on_timeout: StallAction | None = None,
        postcopy_after_precopy: bool | None = None,
        traceparent: str | None = None,
    ) -> Migration:
        """Ask for a migration; returns once the request is taken, not when it is over. ``.id`` names it from then on.

        The same ``idempotency_key`` again is the same migration, so a request that was sent twice, or whose answer got
        lost, does nothing twice. ``traceparent`` is OpenTelemetry's current one where that is installed. What the
        others mean is the relay's contract.

        Raises ``Unavailable`` where the request could not be handed over (send it again with the same key), over HTTP
        ``Rejected`` where it was refused at once and ``IdempotencyConflict``, and ``ValueError`` or ``TypeError`` for
        what cannot be sent. Over Celery a refusal shows in ``status`` and ``wait``.
        """
        arguments = _given(
            domain=domain,
            destination=destination,
            source=source,
            flags=flags if flags is None or isinstance(flags, (int, str)) else list(flags),
            options=dict(options) if options else None,
            params=dict(params) if params else None,
            priority=priority,
            deadline_seconds=deadline_seconds,
            attempts=attempts,
            on_stall=on_stall,
            timeout_seconds=timeout_seconds,
            on_timeout=on_timeout,
            postcopy_after_precopy=postcopy_after_precopy,
            requested_by=requested_by or None,
            reason=reason or None,
            traceparent=checked_traceparent(traceparent),
        )
        return self._connector.submit(arguments, _key(idempotency_key))

    def status(self, migration: str) -> Migration:
        """How a migration stands now. Never an error of the migration's own: see ``Migration.raise_for_state``.

        Raises ``Unavailable``.
        """
        return self._connector.look(migration)

    def wait(
        self, migration: str, timeout: float | None, on_progress: Callable[[Migration], None] | None = None
    ) -> Migration:
        """Wait until a migration has moved its domain; ``on_progress`` gets each look that differs from the one before.

        ``timeout`` is in seconds, ``None`` waits for ever. Raises ``Rejected``, ``Failed``, ``Cancelled`` or
        ``InDoubt`` as it came out, ``TimedOut`` where it is not over (it goes on), and ``Unavailable`` where the
        relay could not be asked for a minute and there is no timeout.
        """
        before: Migration | None = None
        for now in looks(self._connector, lambda: self.status(migration), self._at(timeout), f"migration {migration}"):
            if on_progress is not None and now != before:
                on_progress(now)
            now.raise_for_state()
            if now.over:
                return now
            before = now
        raise RelayError(f"migration {migration} was not followed to its end")  # pragma: no cover

    def events(self, migration: str, timeout: float | None = None) -> Iterator[Event]:
        """What happens to a migration, as it happens, to its end. The last event has the type ``ended``.

        Over HTTP these are all events from the first one on; a cut connection goes on where it was. Over Celery they
        are derived from the states that are seen: ``phase``, ``recovering``, ``progress``, ``in-doubt`` and ``ended``,
        and what was too short to be seen is missing. Raises ``TimedOut`` and ``Unavailable`` as ``wait``.
        """
        return self._connector.follow(migration, self._at(timeout))

    def cancel(self, migration: str, *, requested_by: str = "", timeout: float = ANSWER_SECONDS) -> CancelAnswer:
        """Ask a migration to stop. What becomes of it is its outcome: see ``wait``.

        ``requested_by`` is for Celery; over HTTP it is the token's name.
        Raises ``Rejected`` (``unknown-migration``), and ``Unavailable`` where no scheduler answered within ``timeout``
        seconds; over Celery the request waits for one then.
        """
        return self._connector.cancel(migration, requested_by, timeout)

    # -- many -------------------------------------------------------------------------------------

    def drain(
        self,
        hosts: str | Iterable[str],
        *,
        idempotency_key: str | None = None,
        requested_by: str = "",
        reason: str = "",
        priority: Priority | None = None,
        hold: bool = False,
        goal: Mapping[str, Any] | None = None,
        migration: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> Batch:
        """Cordon hosts and move away all that can be moved; returns once the request is taken.

        ``goal`` limits the plan, ``migration`` holds fields for every migration of it, ``hold`` plans and waits for
        ``control(batch, "resume")``. Raises as ``migrate``.
        """
        names = [hosts] if isinstance(hosts, str) else list(hosts)
        if not names:
            raise ValueError("name at least one host")
        limits = {"kind": "drain", **goal} if goal else None
        arguments = _given(hosts=names, **_bulk(requested_by, reason, priority, hold, limits, migration, traceparent))
        return self._connector.submit_batch("drain", arguments, _key(idempotency_key))

    def rebalance(
        self,
        goal: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        requested_by: str = "",
        reason: str = "",
        priority: Priority | None = None,
        hold: bool = False,
        migration: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> Batch:
        """Plan on live loads and move; the ``kind`` of ``goal`` is ``balance`` where it names none, or ``consolidate``.

        The rest is as of ``drain``.
        """
        wanted = {"kind": "balance", **goal} if goal else None
        arguments = _given(**_bulk(requested_by, reason, priority, hold, wanted, migration, traceparent))
        return self._connector.submit_batch("rebalance", arguments, _key(idempotency_key))

    def batch(self, batch: str) -> Batch:
        """How a batch stands now. Raises ``Unavailable``."""
        return self._connector.look_batch(batch)

    def wait_batch(
        self, batch: str, timeout: float | None, on_progress: Callable[[Batch], None] | None = None
    ) -> Batch:
        """Wait until nothing of a batch waits or runs; its counts say what became of it.

        Raises ``Rejected`` where it was refused, ``TimedOut`` and ``Unavailable`` as ``wait``.
        """
        before: Batch | None = None
        for now in looks(self._connector, lambda: self.batch(batch), self._at(timeout), f"batch {batch}"):
            if on_progress is not None and now != before:
                on_progress(now)
            now.raise_for_state()
            if now.over:
                return now
            before = now
        raise RelayError(f"batch {batch} was not followed to its end")  # pragma: no cover

    def control(
        self,
        batch: str,
        action: Action,
        *,
        abort: bool = False,
        requested_by: str = "",
        timeout: float = ANSWER_SECONDS,
    ) -> ControlAnswer:
        """Pause, resume, cancel or retry a batch; ``abort`` cancels what runs of it, too. Raises as ``cancel``."""
        arguments = _given(batch=batch, action=action, abort=abort or None, requested_by=requested_by or None)
        return self._connector.control(arguments, timeout)

    # -- its life ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back the connections that are the client's own."""
        self._connector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _at(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._connector.now() + timeout


def _given(**arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """What was given: the relay's defaults stay the relay's."""
    return {name: value for name, value in arguments.items() if value is not None}


def _bulk(
    requested_by: str,
    reason: str,
    priority: Priority | None,
    hold: bool,
    goal: Mapping[str, Any] | None,
    migration: Mapping[str, Any] | None,
    traceparent: str | None,
) -> dict[str, Any]:
    """What every batch may say."""
    return {
        "requested_by": requested_by or None,
        "reason": reason or None,
        "priority": priority,
        "hold": hold or None,
        "goal": dict(goal) if goal else None,
        "migration": dict(migration) if migration else None,
        "traceparent": checked_traceparent(traceparent),
    }


def _key(key: str | None) -> str | None:
    return None if key is None else checked_key(key)


def _over_celery() -> type[Any]:
    """The connector over Celery. Raises ``ModuleNotFoundError`` that names the extra."""
    try:
        from vmrelay_client._celery import OverCelery
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"asking over Celery needs the extra 'celery' ({missing.name} is not installed): "
            "pip install 'vmrelay-client[celery]'",
            name=missing.name,
        ) from None
    return OverCelery
