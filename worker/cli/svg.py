"""Pieces of an SVG: elements with everything escaped, and one style for light and dark pages. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from worker.cli.words import clean

STYLE = """
svg{font:13px system-ui,"DejaVu Sans",sans-serif}
.page{fill:#fff}.ink,.strong{fill:#1f2328}.strong{font-weight:600}.dim{fill:#59636e}.small{font-size:11px}.halo{paint-order:stroke;stroke:#fff;stroke-width:3}
.track{fill:#e8ebef}.load{fill:#3b74b9}.hot{fill:#c0342b}.warn{fill:#c0342b;font-weight:600}.peak{fill:#b9cce4}
.mark{stroke:#1f2328;stroke-width:1.5}.flow{fill:none;stroke:#8a94a0}.head{fill:#8a94a0}
.was{fill:none;stroke:#8a94a0;stroke-width:1.5}.will{fill:none;stroke:#3b74b9;stroke-width:2}
.limit{stroke:#c0342b;stroke-width:1;stroke-dasharray:4 3}
.c0{fill:#eef2f7}.c1{fill:#dbe6f2}.c2{fill:#c3d5ea}.c3{fill:#a7c2e0}.c4{fill:#87abd4}
.c5{fill:#6793c6}.c6{fill:#4a7bb5}.c7{fill:#34649f}.c8{fill:#224d84}.c9{fill:#133766}
@media(prefers-color-scheme:dark){
.page{fill:#0d1117}.halo{stroke:#0d1117}.ink,.strong{fill:#e6edf3}.dim{fill:#9198a1}
.track{fill:#262c36}.load{fill:#5b9bea}.hot{fill:#f0635a}.warn{fill:#ff8078}.peak{fill:#2f4a70}
.mark{stroke:#e6edf3}.flow{stroke:#7d8590}.head{fill:#7d8590}
.was{stroke:#7d8590}.will{stroke:#5b9bea}.limit{stroke:#ff8078}
.c0{fill:#1a212c}.c1{fill:#1d2a3c}.c2{fill:#20344f}.c3{fill:#244063}.c4{fill:#294f7c}
.c5{fill:#305f97}.c6{fill:#3a73b3}.c7{fill:#4a89cf}.c8{fill:#6aa5e6}.c9{fill:#9cc8fa}}
""".replace("\n", "")


def number(value: float | str) -> str:
    """A coordinate, short and always written alike."""
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


def tag(name: str, *inside: str, **attributes: float | str) -> str:
    """An element. ``inside`` is markup; attributes are escaped, ``class_`` is ``class``, ``_`` becomes ``-``."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(clean(number(value)))}" for key, value in attributes.items()
    )
    return f"<{name}{given}>{''.join(inside)}</{name}>" if inside else f"<{name}{given}/>"


def text(x: float, y: float, words: str, kind: str = "ink", anchor: str = "") -> str:
    """A line of text, escaped; ``anchor`` is ``end`` or ``middle``."""
    more = {"text_anchor": anchor} if anchor else {}
    return tag("text", escape(clean(words)), x=x, y=y, class_=kind, **more)


def title(words: str) -> str:
    """What shows when the pointer rests on the element that it is in."""
    return tag("title", escape(clean(words)))


def rect(x: float, y: float, width: float, height: float, kind: str, *inside: str) -> str:
    """A rectangle."""
    return tag("rect", *inside, x=x, y=y, width=max(width, 0.0), height=height, class_=kind)


def short(words: str, most: int) -> str:
    """Text cut to so many letters."""
    return words if len(words) <= most else words[: most - 1] + "…"


def page(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    """The whole picture; no script, nothing from elsewhere."""
    size: dict[str, float | str] = {
        "width": width,
        "height": height,
        "viewBox": f"0 0 {number(width)} {number(height)}",
    }
    style = tag("style", escape(STYLE))
    body = "\n".join([style, rect(0, 0, width, height, "page"), *parts])
    size |= {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria_label": label}
    return tag("svg", "\n", body, "\n", **size)
