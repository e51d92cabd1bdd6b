"""XML as libvirt reads it: an element tree, or libxml2's text for what is wrong.

Cookies and definitions are secrets: a message names elements and lines, never the document's content.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from worker.errors import Rejected

_NAME = re.compile(rb"[A-Za-z_:][\w:.\-]*")
_ERRORS = expat.errors


class _Reader:
    """Builds the tree and remembers which elements are open, as libxml2's messages name them."""

    def __init__(self) -> None:
        self.tree = TreeBuilder()
        self.open: list[tuple[str, int]] = []
        # without a namespace separator prefixes are plain text; expat bounds entities by itself
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self.tree.data

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.open.append((tag, self.parser.CurrentLineNumber))
        self.tree.start(tag, attributes)

    def _end(self, tag: str) -> None:
        self.open.pop()
        self.tree.end(tag)


def xml_root(document: bytes, label: str) -> Element:
    """The root of an XML text up to its first NUL, as C reads it.

    Raises ``Rejected`` (``VIR_ERR_XML_DETAIL``) with libvirt's label and line and libxml2's text.
    """
    text = document.split(b"\0")[0]
    reader = _Reader()
    try:
        reader.parser.Parse(text, True)
    except expat.ExpatError as error:
        reason = _reason(error.code, text, reader)
        raise Rejected(f"{label}:{error.lineno}: {reason}", code="VIR_ERR_XML_DETAIL") from None
    return reader.tree.close()


def _reason(code: int, text: bytes, reader: _Reader) -> str:
    kind = _ERRORS.messages[code]
    rest = text[reader.parser.ErrorByteIndex :]
    tag, line = reader.open[-1] if reader.open else ("", 0)
    if not text:
        return "Document is empty"
    if kind == _ERRORS.XML_ERROR_NO_ELEMENTS:
        return f"Premature end of data in tag {tag} line {line}" if tag else _START
    if kind == _ERRORS.XML_ERROR_TAG_MISMATCH:
        # expat points behind the slash of the end tag
        return f"Opening and ending tag mismatch: {tag} line {line} and {_name(rest.lstrip(b'</'))}"
    if kind == _ERRORS.XML_ERROR_JUNK_AFTER_DOC_ELEMENT:
        return "Extra content at the end of the document"
    if kind == _ERRORS.XML_ERROR_UNCLOSED_CDATA_SECTION:
        return "CData section not finished"
    if kind == _ERRORS.XML_ERROR_UNDEFINED_ENTITY:
        return f"Entity '{_name(rest.lstrip(b'&'))}' not defined"
    if kind == _ERRORS.XML_ERROR_UNCLOSED_TOKEN:
        return _unclosed(rest, text[: reader.parser.ErrorByteIndex].count(b"\n") + 1)
    if kind in (_ERRORS.XML_ERROR_SYNTAX, _ERRORS.XML_ERROR_INVALID_TOKEN):
        return _malformed(text[: reader.parser.ErrorByteIndex], rest)
    return kind


_START = "Start tag expected, '<' not found"


def _name(text: bytes) -> str:
    found = _NAME.match(text)
    return found[0].decode("utf-8", "replace") if found else ""


def _unclosed(rest: bytes, line: int) -> str:
    if rest.startswith(b"<!--"):
        return "Comment not terminated"
    if rest.startswith(b"</"):
        return "expected '>'"
    return f"Couldn't find end of Start Tag {_name(rest[1:])} line {line}"


def _malformed(before: bytes, rest: bytes) -> str:
    """expat points at the offending character, libxml2 names what it was about to read."""
    if before.endswith(b"&") or rest.startswith(b"&"):
        return "xmlParseEntityRef: no name"
    if before.endswith(b"<"):
        return "StartTag: invalid element name"
    return "not well-formed (invalid token)" if b"<" in before else _START
