"""The routes of hosts and of the queue."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from worker.contract import DRAIN, HOST, RETURN, BulkRequest, DrainRequest, Goal, ReturnRequest
from worker.contract.names import HostName as OtherHost
from worker.contract.names import Priority, Text
from worker.contract.shown import Batch, Cordon, Host
from worker.overview import described
from worker.web.access import Operate, View
from worker.web.batches import begun
from worker.web.desk import HostName, IdempotencyKey, Queued, TheDesk, Traceparent, problems, shown

router = APIRouter(prefix="/v1", tags=["hosts"])


class Hosts(BaseModel):
    """All hosts of the inventory."""

    items: tuple[Host, ...]


class Why(BaseModel):
    """Why a host is cordoned."""

    model_config = ConfigDict(extra="forbid")

    reason: Text = ""
    """For everybody whose migration is refused."""


class Drain(BulkRequest):
    """How a host is emptied: the fields of ``vmrelay.v1.drain``."""

    hosts: tuple[OtherHost, ...] = Field(default=(), max_length=1000)
    """More of them, to be emptied together with it: nothing is moved from one to another."""
    goal: Goal | None = None
    """Ceilings, price and limits of the plan."""


class Return(BulkRequest):
    """How a host's guests come home: the fields of ``vmrelay.v1.return`` but the hosts."""


class Changed(BaseModel):
    """What came of a cordon, or its end."""

    changed: bool
    turned_away: int
    """So many migrations that waited towards it were ended."""
    cordon: Cordon | None


class Waiting(BaseModel):
    """What waits for slots at one priority."""

    number: int
    oldest_seconds: float


class Queue(BaseModel):
    """What waits for slots, and how many there are."""

    pending: dict[Priority, Waiting]
    slots: dict[str, Any]
    """As ``vmrelay limits -o json`` has it."""


@router.get("/hosts", response_model=Hosts, responses=problems())
def every(desk: TheDesk, _: View, request: Request) -> Response:
    """All hosts: agents, loads, slots, cordons, domains."""
    return shown(request, {"items": described(desk.book, desk.inventory)})


@router.get("/hosts/{host}", response_model=Host, responses=problems(404))
def one(desk: TheDesk, _: View, request: Request, name: HostName) -> Response:
    """One host."""
    desk.host(name)
    return shown(request, next(host for host in described(desk.book, desk.inventory) if host["name"] == name))


@router.post("/hosts/{host}/cordon", response_model=Changed, responses=problems(404, 409, 413, 415))
async def cordon(desk: TheDesk, who: Operate, request: Request, name: HostName, why: Why | None = None) -> Response:
    """Let nothing new be sent to it."""
    wish = {"hosts": [desk.host(name)], "action": "cordon", "requested_by": who.requester("")}
    answer = await desk.ask(HOST, wish | {"reason": why.reason if why else ""})
    return shown(request, answer["hosts"][name])


@router.post("/hosts/{host}/uncordon", response_model=Changed, responses=problems(404, 409))
async def uncordon(desk: TheDesk, who: Operate, request: Request, name: HostName) -> Response:
    """Let it take domains again."""
    wish = {"hosts": [desk.host(name)], "action": "uncordon", "requested_by": who.requester("")}
    return shown(request, (await desk.ask(HOST, wish))["hosts"][name])


@router.post(
    "/hosts/{host}/drain", status_code=202, response_model=Batch | Queued, responses=problems(404, 409, 413, 415)
)
async def drain(
    desk: TheDesk,
    who: Operate,
    request: Request,
    name: HostName,
    wish: Drain | None = None,
    idempotency_key: IdempotencyKey = None,
    traceparent: Traceparent = None,
) -> Response:
    """Cordon it and move everything away that can be moved. It is a batch."""
    together = dict.fromkeys((name, *(wish.hosts if wish else ())))
    asked = DrainRequest.parse(_given(wish) | {"hosts": tuple(map(desk.host, together))})
    return await begun(desk, who, request, DRAIN, asked, idempotency_key, traceparent)


@router.post(
    "/hosts/{host}/return", status_code=202, response_model=Batch | Queued, responses=problems(404, 409, 413, 415)
)
async def return_(
    desk: TheDesk,
    who: Operate,
    request: Request,
    name: HostName,
    wish: Return | None = None,
    idempotency_key: IdempotencyKey = None,
    traceparent: Traceparent = None,
) -> Response:
    """Uncordon it and bring home what a drain took away. It is a batch."""
    asked = ReturnRequest.parse({"hosts": (desk.host(name),)} | _given(wish))
    return await begun(desk, who, request, RETURN, asked, idempotency_key, traceparent)


def _given(wish: BulkRequest | None) -> dict[str, Any]:
    return wish.model_dump(exclude_unset=True) if wish else {}


@router.get("/queue", response_model=Queue, responses=problems())
def queue(desk: TheDesk, _: View, request: Request) -> Response:
    """What waits for slots by priority, and the slots themselves."""
    now = desk.book.now()
    pending = {
        priority: {"number": number, "oldest_seconds": round(max(now - since, 0.0), 3)}
        for priority, (number, since) in desk.book.census().items()
    }
    return shown(request, {"pending": pending, "slots": desk.book.limits(desk.inventory.terms)})
