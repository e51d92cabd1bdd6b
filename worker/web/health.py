"""Whether it lives, whether it can serve, and its metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from worker.errors import Unavailable
from worker.web.access import View
from worker.web.desk import TheDesk, problems, shown

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """All is well."""

    status: str = "ok"


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=Health, responses=problems())
async def healthz(request: Request) -> Response:
    """Whether the process lives."""
    return shown(request, Health().model_dump())


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=Health, responses=problems())
def readyz(desk: TheDesk, request: Request) -> Response:
    """Whether Redis answers and a scheduler leads."""
    if "scheduler" not in desk.book.agents(["scheduler"]):
        raise Unavailable("no scheduler leads: requests wait; start 'vmrelay scheduler'", code="no-scheduler")
    return shown(request, Health().model_dump())


@router.get("/metrics", responses=problems() | {200: {"content": {"text/plain": {}}}}, response_class=Response)
def metrics(_: View, request: Request) -> Response:
    """What this process counts, for Prometheus."""
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), media_type=kind)
