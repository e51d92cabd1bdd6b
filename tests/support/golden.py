"""The published schemas, and the golden messages that were sent under them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "unit" / "data" / "golden"
"""A folder for each version of the contract."""
SCHEMAS = ROOT / "docs" / "contract"


@cache
def validator(name: str) -> Draft202012Validator:
    """What ``docs/contract/<name>.schema.json`` demands."""
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def holds(name: str, document: object) -> None:
    """See that a document, as it travels, is what that schema demands."""
    wrong = [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(document)]
    assert not wrong, (name, wrong, document)
