"""What the pages are made of: tables, headings, and docstrings of fields."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTE = "<!-- Generated from {sources} by scripts/docs. Do not edit. -->"


def page(title: str, sources: str, *parts: str) -> str:
    """A whole page."""
    return "\n\n".join([f"# {title}", NOTE.format(sources=sources), *(part.strip("\n") for part in parts)]) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [_row(headings), _row(["---"] * len(headings)), *(_row(row) for row in rows)]
    return "\n".join(lines)


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def code(text: object) -> str:
    """As code, or nothing."""
    return f"`{text}`" if text not in (None, "") else ""


def prose(docstring: str | None) -> str:
    """A docstring as Markdown, in one line."""
    return re.sub(r"\s+", " ", (docstring or "").replace("``", "`")).strip()


def described(owner: type) -> dict[str, str]:
    """The string below each field or member of a class, by its name; empty where there is none."""
    (body,) = (node for node in ast.parse(textwrap.dedent(inspect.getsource(owner))).body)
    return fields_of(body.body) if isinstance(body, ast.ClassDef) else {}


def fields_of(body: Sequence[ast.stmt]) -> dict[str, str]:
    """The same for any block of statements."""
    found: dict[str, str] = {}
    for statement, after in zip(body, [*body[1:], None], strict=True):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                text = ""
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    text = str(after.value.value)
                found[name] = prose(text)
    return found


def type_name(annotation: object) -> str:
    """A type as people write it."""
    text = inspect.formatannotation(annotation)
    text = re.sub(r"Annotated\[([^,\[\]]+), [^\]]*\]+\)?\]?", r"\1", text)
    return re.sub(r"\b(worker\.settings|pathlib|typing)\.", "", text)


def described_module(module: object) -> dict[str, str]:
    """The string below each constant in capitals of a module."""
    found = fields_of(ast.parse(inspect.getsource(module)).body)  # type: ignore[arg-type]
    return {name: text for name, text in found.items() if name.isupper()}
