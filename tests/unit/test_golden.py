"""What has travelled under a version of the contract is understood for as long as that version is served."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from golden import GOLDEN, ROOT, SCHEMAS, holds, validator
from kombu.transport.virtual import Base64
from kombu.utils.json import loads

from worker.contract import MigrateRequest

sys.path.append(str(ROOT / "scripts" / "reference"))
from schemas import OTHERS, REQUESTS, RESULTS

PUBLISHED = sorted(file.name.removesuffix(".schema.json") for file in SCHEMAS.glob("*.schema.json"))
VERSIONS = sorted(folder for folder in GOLDEN.iterdir() if folder.is_dir())
SENT = [
    pytest.param(version, task, case, id=f"{version.name}-{task}-{number}")
    for version in VERSIONS
    for task, cases in json.loads((version / "requests.json").read_text()).items()
    for number, case in enumerate(cases)
]
SHOWN = [
    pytest.param(schema, document, id=f"{version.name}-{schema}-{number}")
    for version in VERSIONS
    for schema, documents in json.loads((version / "results.json").read_text()).items()
    for number, document in enumerate(documents)
]


@pytest.mark.parametrize(("version", "task", "case"), SENT)
def test_a_golden_request_still_means_the_same(version: Path, task: str, case: dict[str, Any]) -> None:
    """It is taken, holds against the published schema, and whatever was added since has its default."""
    assert version.name == "v1"
    request = REQUESTS[task].parse(case["arguments"])  # type: ignore[attr-defined]
    assert request.model_dump(mode="json", exclude_defaults=True) == case["means"]
    holds(f"{task}-request", case["arguments"])


@pytest.mark.parametrize(("schema", "document"), SHOWN)
def test_a_golden_result_still_holds_against_the_published_schema(schema: str, document: Any) -> None:
    """What clients were told to expect has not become stricter, nor different."""
    holds(schema, document)


def test_every_task_and_every_document_has_golden_messages() -> None:
    """A task or a document that is added brings its own."""
    for version in VERSIONS:
        assert set(json.loads((version / "requests.json").read_text())) == set(REQUESTS)
        shown = set(json.loads((version / "results.json").read_text()))
        assert shown == {f"{task}-result" for task in RESULTS} | set(OTHERS)


def test_the_golden_message_is_what_celery_reads() -> None:
    """The raw body in it decodes to the one beside it, and to a request."""
    for version in VERSIONS:
        known = json.loads((version / "message.json").read_text())
        assert known["message"]["properties"]["body_encoding"] == "base64"
        assert loads(Base64().decode(known["message"]["body"])) == known["body"]
        assert json.loads(base64.b64decode(known["message"]["body"])) == known["body"]
        assert MigrateRequest.parse(known["body"][1]).domain == "golden"


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_schema_is_one(name: str) -> None:
    """A draft 2020-12 schema with an id of its own, of an object that describes itself."""
    schema = validator(name).schema
    assert schema["$id"] == f"urn:vmrelay:v1:{name}"
    assert schema["type"] == "object"
    assert schema["description"]
    unknown = validator(name).is_valid({"of_tomorrow": 1} | _example(name))
    assert unknown == (not name.endswith("-request")), "requests are strict, what is shown may grow"


def _example(name: str) -> dict[str, Any]:
    version = VERSIONS[0]
    if name.endswith("-request"):
        case = json.loads((version / "requests.json").read_text())[name.removesuffix("-request")][0]
        return dict(case["arguments"])
    return dict(json.loads((version / "results.json").read_text())[name][0])


def test_what_is_published_is_listed() -> None:
    """The page names every schema."""
    page = (SCHEMAS / "README.md").read_text()
    models = {f"{task}-request" for task in REQUESTS} | {f"{task}-result" for task in RESULTS} | set(OTHERS)
    assert models == set(PUBLISHED)
    for name in PUBLISHED:
        assert f"({name}.schema.json)" in page, name
