"""The base class of pictures, which can be displayed in notebooks, saved and printed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ecowas_lc._output_file import output_file
from ecowas_lc.drawing.theme import saved
from ecowas_lc.errors import InvalidInputError, MissingExtraError


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
