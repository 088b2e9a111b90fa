"""What pages need and Markdown does not know: Sphinx's roles in docstrings, and a section of the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_ROLE = re.compile(r":(?:class|meth|func|data|mod|attr|exc):<code>~?([^<]*)</code>")

_README = Path(__file__).parents[1] / "README.md"
_SECTION = re.compile("<!-- comparison -->\n(.*?)<!-- /comparison -->", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the README's comparison where a page asks for it, its links as they are from here."""
    if "<!-- comparison -->" not in markdown:
        return markdown
    [section] = _SECTION.findall(_README.read_text(encoding="utf-8"))
    return markdown.replace("<!-- comparison -->", section.replace("](docs/", "]("))


def on_page_content(html: str, **_: Any) -> str:
    """Show ``:class:`X``` as the name alone."""
    return _ROLE.sub(r"<code>\1</code>", html)
