"""The base class of objects that a notebook displays; :mod:`ecowas_lc.display` determines how they look."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Any


class Displayed:
    """Displays an object as HTML at the end of a notebook cell; the display code is imported only then.

    A display never raises, and reads a bounded amount from the server.
    """

    __slots__ = ()

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None, **_: Any
    ) -> dict[str, Any]:
        # imported by name, because ecowas_lc.display is above the packages whose objects it shows
        bundle: dict[str, Any] = import_module("ecowas_lc.display").bundle_of(self)
        return {
            kind: content
            for kind, content in bundle.items()
            if (not include or kind in include) and kind not in (exclude or ())
        }

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # IPython asks this of dicts and lists; inside another object, the usual short form is better
        is_nested = cycle or len(printer.stack) > 1
        printer.text(repr(self) if is_nested else self._repr_mimebundle_()["text/plain"])

    def _repr_html_(self) -> str | None:
        html: str | None = self._repr_mimebundle_().get("text/html")
        return html
