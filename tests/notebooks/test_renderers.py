"""What viewers that restrict notebooks leave of the committed outputs: GitHub, and VS Code without trust."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.display.pages import Restricted, words
from tests.notebooks.execution import NOTEBOOKS

EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
RICHEST = ("text/html", "image/svg+xml", "image/png", "text/plain")
BLOCK_OF_CODE = re.compile(r"\{[^}]*:[^}]*;")


def shown(path: Path) -> list[dict[str, Any]]:
    """The formats of each output that is not printed text."""
    cells = nbformat.read(path, as_version=4).cells
    return [dict(output.data) for cell in cells for output in cell.get("outputs", ()) if "data" in output]


@EACH
def test_github_shows_what_is_meant(path: Path) -> None:
    """GitHub shows HTML without styles, or a picture: something is left of each, and no code."""
    for formats in shown(path):
        kind = next(kind for kind in RICHEST if kind in formats)
        if kind == "image/svg+xml":
            assert "image/png" in formats, "a viewer that refuses SVG shows only text"
        if kind != "text/html":
            continue
        left = Restricted(formats[kind]).text
        assert left.strip()
        assert not BLOCK_OF_CODE.search(left)


@EACH
def test_vs_code_shows_text_without_trust(path: Path) -> None:
    """If no HTML can be shown, each output has equivalent text, in lines that fit."""
    for formats in shown(path):
        text = formats["text/plain"]
        assert not re.search(r"<IPython\.|<ecowas_lc| at 0x", text), text[:200]
        if "ecowas-lc" in formats.get("text/html", ""):
            assert words(text) == Restricted(formats["text/html"]).words
            assert max(map(len, text.splitlines())) <= 100
