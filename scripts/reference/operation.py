"""Pages for whoever runs vmrelay: settings and metrics."""

from __future__ import annotations

import re
from typing import Any

from page import code, described, page, prose, table, type_name
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from worker import metrics as defined
from worker import settings as module


def settings() -> str:
    """``docs/reference/settings.md``."""
    sections: list[tuple[str, type[BaseModel], str]] = [
        ("Top level", module.Settings, "VMRELAY_"),
        ("`[retry]`: retries inside a phase", module.RetrySettings, "VMRELAY_RETRY__"),
        ("`[attempts]`: new attempts of a whole migration", module.AttemptSettings, "VMRELAY_ATTEMPTS__"),
        ("`[stall]`: performs that do not come to an end", module.StallSettings, "VMRELAY_STALL__"),
        ("`[admission]`: who starts next, and how many run at once", module.AdmissionSettings, "VMRELAY_ADMISSION__"),
        ("`[networks.NAME]`: one migration network", module.NetworkSettings, ""),
        ("`[planning]`: rebalancing and draining", module.PlanningSettings, "VMRELAY_PLANNING__"),
        ("`[rules.NAME]`: what planning has to keep", module.RuleSettings, ""),
        ("`[webhooks.NAME]`: where outcomes are told", module.WebhookSettings, ""),
        ("`[hosts.NAME]`: one host of the inventory", module.HostSettings, ""),
    ]
    intro = (
        prose(module.__doc__)
        + f" A name in the environment wins over the file. A setting that does not exist, or a value that does not "
        f"fit, ends every command with exit code 2 and a message that names it. Host names match "
        f"`{module.HOST_NAME}`. In `uri`, `{{state_dir}}` stands for that setting."
    )
    parts = [f"## {title}\n\n{_fields(model, prefix)}" for title, model, prefix in sections]
    return page("Settings", "worker/settings/", intro, *parts)


def _fields(model: type[BaseModel], prefix: str) -> str:
    meanings = described(model)
    rows = [
        [code(name), code(_type(field)), _default(field), code(prefix and prefix + name.upper()), meanings[name]]
        for name, field in model.model_fields.items()
    ]
    headings = ["setting", "type", "default", "environment", "meaning"]
    if not prefix:
        headings, rows = headings[:3] + headings[4:], [row[:3] + row[4:] for row in rows]
    return table(headings, rows)


def _type(field: FieldInfo) -> str:
    limits = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}
    bounds = [
        f"{sign} {getattr(item, kind.lower())}"
        for item in field.metadata
        if (sign := limits.get(kind := type(item).__name__))
    ]
    return type_name(field.annotation) + (", " + ", ".join(bounds) if bounds else "")


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "below"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(str(value) if value != {} else "{}") if value != "" else '`""`'


def metrics() -> str:
    """``docs/reference/metrics.md``."""
    found = [item for item in vars(defined).values() if isinstance(item, MetricWrapperBase)]
    rows = [
        [code(_exposed(item)), item._type, ", ".join(map(code, item._labelnames)), item._documentation]
        for item in found
    ]
    rows[:0] = [
        [code(each.name), each.kind, ", ".join(map(code, each.labels)), each.documentation]
        for each in vars(defined).values()
        if isinstance(each, defined.Shown)
    ]
    buckets = [
        [code(item._name), ", ".join(f"{float(bound):g}" for bound in item._kwargs["buckets"])]
        for item in found
        if isinstance(item, Histogram)
    ]
    intro = (
        prose(defined.__doc__)
        + f"\n\nEach agent and each scheduler serves `/metrics` (`metrics_port` of the host, `scheduler_metrics_port`; "
        f"0 takes a free one, which the log line `agent ready` and the lease name). "
        f"`{defined.migrations.name}` and `{defined.batch_items.name}` are the journal's own counts and outlive every "
        "process: when another scheduler takes the lead their series go on there, so add them up without `instance` "
        "([how](../howto/monitoring.md#ask)). "
        f"The first one's label `flags` takes 64 values, "
        "and it has 1000 series; later ones count as `other`. `outcome` of a "
        "migration is `succeeded`, `failed`, `cancelled` or `rejected`; `reason` is a code of "
        "[the contract](contract.md#error-codes), of [the SDK](sdk-errors.md) or of [libvirt](libvirt-errors.md)."
    )
    return page(
        "Metrics",
        "worker/metrics.py",
        intro,
        table(["metric", "type", "labels", "meaning"], rows),
        "## Buckets of the histograms",
        table(["metric", "upper bounds, seconds"], buckets),
    )


def _exposed(item: MetricWrapperBase) -> str:
    return re.sub("(_total)?$", "_total", item._name, count=1) if isinstance(item, Counter) else item._name
