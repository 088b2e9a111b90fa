"""HTML as a tree, so that all text in it is escaped."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

from ecowas_lc.display.as_text import text_of

Node: TypeAlias = "Element | str | None"

SCOPE = "ecowas-lc"
"""The class of the element around each display, to which the stylesheet is limited."""

# Characters that XML does not allow, and those that change the direction of all the text that follows.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]"
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: object) -> str:
    """Return text without characters that HTML does not allow or that change the text around them."""
    return _UNPRINTABLE.sub(_REPLACEMENT, str(text))


def element(tag: str, *children: Node, classes: str = "", **attributes: str) -> Element:
    """Return an element with children: elements and text; ``None`` is skipped."""
    made = Element(tag, {name.rstrip("_"): clean(value) for name, value in attributes.items()})
    if classes:
        made.set("class", clean(classes))
    append(made, *children)
    return made


def append(parent: Element, *children: Node) -> None:
    """Append children to an element."""
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            parent.append(child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(child)
        else:
            parent.text = (parent.text or "") + clean(child)


def formats_of(*parts: Node) -> dict[str, str]:
    """Return a display as HTML, with the stylesheet and inside its scope element, and as plain text."""
    whole = element("div", *parts, classes=SCOPE)
    html = f"<style>{stylesheet()}</style>\n{tostring(whole, encoding='unicode', method='html')}"
    return {"text/plain": text_of(whole), "text/html": html}


@cache
def stylesheet() -> str:
    """Return the one stylesheet of all displays."""
    text = files(__package__).joinpath("display.css").read_text(encoding="utf-8")
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)).strip()
