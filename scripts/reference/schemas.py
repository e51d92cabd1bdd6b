"""JSON Schemas of everything that travels: ``docs/contract/*.schema.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from page import described
from pydantic import BaseModel

from worker import contract
from worker.contract import answers, bulk, plans, requests, shown

ASKED, SHOWN = (requests, bulk, plans), (shown, answers)
REQUESTS: dict[str, type[BaseModel]] = {
    "migrate": contract.MigrateRequest,
    "cancel": contract.CancelRequest,
    "tune": contract.TuneRequest,
    "resolve": contract.ResolveRequest,
    "retry": contract.RetryRequest,
    "batch": contract.BatchRequest,
    "rebalance": contract.RebalanceRequest,
    "drain": contract.DrainRequest,
    "return": contract.ReturnRequest,
    "control": contract.ControlRequest,
    "host": contract.HostRequest,
    "limits": contract.LimitsRequest,
    "roll": contract.RollRequest,
    "roll.control": contract.RollControlRequest,
}
"""By what follows ``vmrelay.v1.`` in the task's name."""
RESULTS: dict[str, type[BaseModel]] = {
    "migrate": shown.Migration,
    "cancel": answers.CancelAnswer,
    "tune": answers.TuneAnswer,
    "resolve": answers.ResolveAnswer,
    "retry": answers.RetryAnswer,
    "batch": shown.Receipt,
    "control": answers.ControlAnswer,
    "host": answers.HostAnswer,
    "limits": answers.LimitsAnswer,
    "roll": answers.RollAnswer,
    "roll.control": answers.RollControlAnswer,
}
"""Likewise; ``rebalance``, ``drain`` and ``return`` come to what ``batch`` does."""
OTHERS: dict[str, type[BaseModel]] = {
    "migration-state": answers.MigrationState,
    "batch-state": answers.BatchProgress,
    "batch-answer": answers.BatchAnswer,
    "failure": answers.Failure,
    "event": shown.Event,
    "batch": shown.Batch,
    "move": shown.BatchItem,
    "host": shown.Host,
}


def schemas() -> dict[str, str]:
    """Every file's text by its name."""
    found = {f"{name}-request": _schema(f"{name}-request", model, ASKED) for name, model in REQUESTS.items()}
    shown_ = {f"{name}-result": model for name, model in RESULTS.items()} | OTHERS
    found |= {name: _schema(name, model, SHOWN) for name, model in shown_.items()}
    return {f"{name}.schema.json": text for name, text in found.items()}


def _schema(name: str, model: type[BaseModel], modules: Sequence[ModuleType]) -> str:
    document = model.model_json_schema()
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    document["$id"] = f"urn:vmrelay:v1:{name}"
    _describe(document, model)
    for part, schema in document.get("$defs", {}).items():
        for module in modules:
            if hasattr(module, part):
                _describe(schema, getattr(module, part))
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _describe(schema: dict[str, Any], owner: type) -> None:
    """The texts below the fields of a class and of those that it has them from."""
    for kind in reversed(owner.__mro__):
        if kind.__module__.startswith("worker."):
            for field, text in described(kind).items():
                if text and field in schema.get("properties", {}):
                    schema["properties"][field]["description"] = text
