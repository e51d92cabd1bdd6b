"""The pages: the list with its form, one move, and its progress as JSON."""

from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from . import relay
from .forms import MoveForm
from .models import Move


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def moves(request: HttpRequest) -> HttpResponse:
    """The last moves, and the form that asks for another one."""
    form = MoveForm(request.POST or None, user=request.user)
    if form.is_valid():
        return redirect(ask(request.user, **form.cleaned_data))
    context = {"form": form, "moves": Move.objects.select_related("who").order_by("-pk")[:50]}
    return render(request, "moves/moves.html", context, status=422 if form.is_bound else 200)


def ask(user: AbstractUser, key: UUID, **fields: str) -> Move:
    """Keep a move, once for each key, and send it as soon as it is kept."""
    with transaction.atomic():
        row, new = Move.objects.get_or_create(key=key, defaults={"who": user, **fields})
        if new:
            # Not before the commit: a rollback would leave a migration that no row tells of.
            transaction.on_commit(partial(relay.send, row))
    if row.who != user:
        raise PermissionDenied("that form is somebody else's")
    return row


@login_required
@require_safe
def move(request: HttpRequest, pk: int) -> HttpResponse:
    """One move; its page asks for the progress while it is open."""
    return render(request, "moves/move.html", {"move": get_object_or_404(Move, pk=pk)})


@login_required
@require_safe
@never_cache
def progress(request: HttpRequest, pk: int) -> HttpResponse:
    """How far a move is, in the shape of celery-progress, whose JavaScript can be given this address, too."""
    row = get_object_or_404(Move, pk=pk)
    seen = relay.look(row)
    answer: dict[str, Any] = {
        "complete": not row.open,
        "success": None if row.open else row.state == Move.State.SUCCEEDED,
        "progress": {
            "pending": row.state in {Move.State.UNSENT, Move.State.WAITING},
            "current": seen["percent"],
            "total": 100,
            "percent": seen["percent"],
            "description": seen["text"],
        },
    }
    if not row.open:
        answer["result"] = seen["text"]
    return JsonResponse(answer)
