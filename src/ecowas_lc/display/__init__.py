"""The notebook display of objects: safe HTML without scripts, readable without styles, and the same as plain text.

:class:`ecowas_lc._display.Displayed` calls :func:`bundle_of` when an object ends a notebook's cell.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ecowas_lc.display.blocks import cut, heading, note
from ecowas_lc.display.html_elements import Node, formats_of

_VIEWS = {  # by class name, so that no class is imported to display another
    "RedisSaver": "storage_views:saver",
    "SavedThread": "storage_views:thread",
    "ThreadRow": "storage_views:threads_row",
    "ThreadDifference": "storage_views:difference",
    "RedisChatMessageHistory": "storage_views:history",
    "MemoryServiceBase": "storage_views:memory",
    "RedisStore": "storage_views:store",
    "Documents": "storage_views:documents",
    "RouteDecision": "routing_views:decision",
    "TWG": "routing_views:group",
    "RouterReport": "routing_views:router_report",
    "DialogueReport": "routing_views:dialogue_report",
    "Comparison": "routing_views:comparison",
    "SupervisorResult": "conversation_views:result",
    "LiveRun": "live:live_run",
    "Explorer": "storage_views:explorer",
    "Records": "storage_views:records",
    "GroundedAnswer": "conversation_views:grounded",
}
_PICTURES = {
    "SupervisorGraph": "ecowas_lc.drawing:draw_graph",
    "SupervisorAgent": "ecowas_lc.display.conversation_views:agent_picture",
}
_MOST_LETTERS_OF_TEXT = 20_000


def bundle_of(shown: Any) -> dict[str, Any]:
    """Return an object in every format that a notebook may use, without raising."""
    for kind in type(shown).__mro__:
        if not kind.__module__.startswith("ecowas_lc."):
            continue
        if (picture := _PICTURES.get(kind.__name__)) is not None:
            try:
                drawn: dict[str, Any] = _named(picture)(shown)._repr_mimebundle_()
            except Exception as error:  # a plain display is better than a failing one
                return _failed(shown, error)
            return {**drawn, "text/plain": f"{type(shown).__name__}\n{drawn['text/plain']}"}
        if (view := _VIEWS.get(kind.__name__)) is not None:
            return _viewed(shown, view)
    return {"text/plain": _text(shown)}


def _viewed(shown: Any, view: str) -> dict[str, Any]:
    try:
        parts: list[Node] = _named(f"{__name__}.{view}")(shown)
        return formats_of(*parts)
    except Exception as error:  # stored data and servers may fail in any way
        return _failed(shown, error)


def _failed(shown: Any, error: Exception) -> dict[str, Any]:
    why = f"It can't be shown now. {type(error).__name__}: {cut(error, 400)}"
    return formats_of(heading(type(shown).__name__, cut(_text(shown), 200)), note(why))


def _text(shown: Any) -> str:
    try:
        return cut(repr(shown), _MOST_LETTERS_OF_TEXT)
    except Exception:  # the object may contain code of other people
        return f"{type(shown).__name__} object"


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


__all__ = ["bundle_of"]
