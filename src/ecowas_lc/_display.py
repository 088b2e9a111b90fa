"""What makes an object show itself in a notebook; how it looks is up to :mod:`ecowas_lc.display`."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Any


class Displayed:
    """Shows an object as HTML where it ends a notebook's cell; nothing of it is imported before that.

    A display never raises and reads a bounded amount from the server.
    """

    __slots__ = ()

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None, **_: Any
    ) -> dict[str, Any]:
        # by name, as this package is above those whose objects it shows
        bundle: dict[str, Any] = import_module("ecowas_lc.display").bundle_of(self)
        return {
            kind: content
            for kind, content in bundle.items()
            if (not include or kind in include) and kind not in (exclude or ())
        }

    def _repr_html_(self) -> str | None:
        html: str | None = self._repr_mimebundle_().get("text/html")
        return html
