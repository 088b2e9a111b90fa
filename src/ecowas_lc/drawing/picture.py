"""The base class of pictures, their colours, and SVG that adapts to its page: its width, and a dark theme."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ecowas_lc._output_file import output_file
from ecowas_lc.errors import InvalidInputError, MissingExtraError

TAKEN, UNTAKEN = "#0072b2", "#8a8a8a"  # distinguishable with colour blindness; line width shows the same
WAITING, WAITING_FILL = "#9a3b00", "#ffe3b0"
FAILED, FAILED_FILL = "#a4161a", "#fde2e2"
INK, QUIET, LINE, PAPER = "#000000", "#505050", "#606060", "#ffffff"
SOFT, FAINT, TAKEN_FILL, GRID = "#f2f6f9", "#555555", "#d6ebf7", "#dddddd"
# Colours of lanes and groups (Okabe and Ito), dark enough on white.
HUES = ("#0072b2", "#b34700", "#00795a", "#8a4b7c", "#5a5a5a", "#6b5f00")

_DARK = {
    TAKEN: "#6cc0f5",
    UNTAKEN: "#7d8590",
    WAITING: "#ffb066",
    WAITING_FILL: "#4a2c08",
    FAILED: "#ff8f8f",
    FAILED_FILL: "#4d1414",
    INK: "#e6edf3",
    QUIET: "#aab4be",
    LINE: "#9aa4ae",
    "#404040": "#9aa4ae",
    "#b0b0b0": "#4d5560",
    PAPER: "#161b22",
    SOFT: "#1d2630",
    FAINT: "#98a2ad",
    TAKEN_FILL: "#0f3a5a",
    GRID: "#39424d",
    HUES[1]: "#ff9e5e",
    HUES[2]: "#4fd1a5",
    HUES[3]: "#dca3cf",
    HUES[4]: "#b8c0c8",
    HUES[5]: "#d9c94f",
}
_WIDE = 640.0  # pixels
_CLASS = "ecowas-lc-picture"
_HEAD = re.compile(r"<!DOCTYPE.*?>\s*", re.DOTALL)
_SIZE = re.compile(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"')
_GROUND = re.compile(r'(<polygon fill=)"(?:white|#ffffff)" stroke="(?:none|transparent)"')
_TOOLTIP = re.compile(r'<a (?:xlink:)?title="([^"]*)"[^>]*>')


_COLOURED = "".join(
    f'.{_CLASS} [{kind}="{light}" i]{{{kind}:var(--p{number},{light})}}'
    for number, light in enumerate(_DARK)
    for kind in ("fill", "stroke")
)


def _style() -> str:
    dark = "".join(f"--p{number}:{colour};" for number, colour in enumerate(_DARK.values()))
    light = "".join(f"--p{number}:initial;" for number in range(len(_DARK)))
    dark_pages = ('body[data-jp-theme-light="false"]', "body.vscode-dark", '[data-md-color-scheme="slate"]')
    light_pages = ('body[data-jp-theme-light="true"]', "body.vscode-light", '[data-md-color-scheme="default"]')
    return (
        f".{_CLASS}{{max-width:100%;height:auto}}.{_CLASS} text:not([fill]){{fill:var(--p6,{INK})}}"
        f".{_CLASS} .node:hover path,.{_CLASS} .node:hover ellipse{{stroke-width:3}}"
        + _COLOURED
        + f"@media(prefers-color-scheme:dark){{.{_CLASS}{{{dark}}}}}"
        + ",".join(f"{page} .{_CLASS}" for page in dark_pages)
        + f"{{{dark}}}"
        + ",".join(f"{page} .{_CLASS}" for page in light_pages)
        + f"{{{light}}}"
        + f"@media print{{.{_CLASS}{{{light}}}}}"
    )


def shown(svg: str) -> str:
    """Return Graphviz's SVG for a notebook: at most as wide as its cell, in the page's colours."""
    found = _SIZE.search(svg)
    if found is None:
        return svg
    width, height = (float(size) * 96 / 72 for size in found.groups())
    # JupyterLab shows an SVG as an image and stretches one whose width is in percent to the cell, however small it
    # is: use percent only for pictures that may be too wide for a cell.
    own = 'width="100%"' if width >= _WIDE else f'width="{width:.0f}" height="{height:.0f}"'
    head = f'<svg class="{_CLASS}" role="img" {own} style="max-width:{width:.0f}px;height:auto"'
    svg = _with_tooltips(_HEAD.sub("", svg)).replace(found[0], head, 1)
    # no background, so that the page's own colour shows through
    svg = _GROUND.sub(r'\1"none" stroke="none"', svg, count=1)
    return re.sub(r"(<svg [^>]*>)", lambda match: f"{match[1]}\n<style>{_style()}</style>", svg, count=1)


def saved(svg: str) -> str:
    """Return a notebook's SVG for a file, with a fixed size and fixed colours."""
    width = re.search(r'style="max-width:(\d+)px;height:auto"', svg)
    box = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', svg)
    if width is None or box is None:
        return svg
    pixels = int(width[1])
    height = round(pixels * float(box[2]) / float(box[1]))
    svg = re.sub(r"<style>.*?</style>\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(
        rf'width="[\d%]+"(?: height="\d+")? {width[0]}', f'width="{pixels}" height="{height}"', svg, count=1
    )
    return svg.replace('<polygon fill="none" stroke="none"', '<polygon fill="white" stroke="none"', 1)


def _with_tooltips(svg: str) -> str:
    """Return the SVG with tooltips that work in all browsers: titles instead of links without a target."""
    return _TOOLTIP.sub(r"<g><title>\1</title>", svg).replace("</a>", "</g>")


class Picture(ABC):
    """A picture: ``mermaid`` and ``ascii`` always work, ``svg`` and ``png`` require the extra ``draw``.

    Without the extra, ``svg`` and ``png`` raise :class:`MissingExtraError`.
    """

    @property
    @abstractmethod
    def svg(self) -> str:
        """The picture as SVG."""

    @property
    @abstractmethod
    def png(self) -> bytes:
        """The picture as PNG."""

    @property
    @abstractmethod
    def mermaid(self) -> str:
        """The picture in Mermaid's language, which GitHub and many other tools render."""

    @property
    @abstractmethod
    def ascii(self) -> str:
        """The picture as plain text."""

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file and return its path.

        Args:
            path: The file. Its extension selects the format: ``.svg``, ``.png``, ``.mmd`` (Mermaid), ``.md``
                (Mermaid in a code block) or ``.txt``.

        Returns:
            The path.

        Raises:
            InvalidInputError: The file has another extension.
            MissingExtraError: SVG or PNG without the extra ``draw``; nothing is written.
            OSError: The file cannot be written; an existing file is left unchanged.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".svg":
                content = saved(self.svg).encode()
            case ".png":
                content = self.png
            case ".mmd":
                content = self.mermaid.encode()
            case ".md":
                content = f"```mermaid\n{self.mermaid}```\n".encode()
            case ".txt":
                content = self.ascii.encode()
            case other:
                raise InvalidInputError(
                    f"A picture can't be saved as {other or 'a file without an ending'!r}. "
                    "Use .svg, .png, .mmd, .md or .txt."
                )
        with output_file(path) as file:
            file.write(content)
        return path

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": self.ascii}
        try:
            bundle["image/svg+xml"] = self.svg
            bundle["image/png"] = b64encode(self.png).decode()  # for viewers that do not trust SVG
        except MissingExtraError:
            bundle["text/vnd.mermaid"] = self.mermaid
        return {
            kind: content
            for kind, content in bundle.items()
            if (not include or kind in include) and kind not in (exclude or ())
        }

    def __str__(self) -> str:
        return self.ascii
