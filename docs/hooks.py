"""Docstrings name things with Sphinx's roles, which Markdown does not know."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:class|meth|func|data|mod|attr|exc):<code>~?([^<]*)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Show ``:class:`X``` as the name alone."""
    return _ROLE.sub(r"<code>\1</code>", html)
