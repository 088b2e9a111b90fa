"""Channel values that several checkpoints share: built once, and copied when you look at a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any, NamedTuple

_MISSING: Any = object()


class Shared(NamedTuple):
    """A value that several checkpoints share, and a function that returns a copy for one of them."""

    value: Any
    copy: Callable[[], Any]


class SharedValues(dict[str, Any]):
    """The channel values of one of several checkpoints that were read together.

    A value that other checkpoints hold too is one object for all of them until you take it out of this dict. You
    then get a copy, which the dict keeps, so that changing it is never visible in another checkpoint.
    """

    __slots__ = ("_own", "_shared")

    def __init__(self, values: Mapping[str, Any], shared: Mapping[str, Shared]) -> None:
        super().__init__(values)
        self._shared = shared  # the shared ones among ``values``
        self._own: dict[str, Any] = {}

    def _unshared(self, key: Any, value: Any) -> Any:
        shared = self._shared.get(key)
        if shared is None or value is not shared.value:
            return value
        # If two threads look at the same time, both get the copy of the first.
        own = self._own.setdefault(key, shared.copy())
        super().__setitem__(key, own)
        return own

    def _unshare(self) -> None:
        for key in self._shared:
            if (value := super().get(key, _MISSING)) is not _MISSING:
                self._unshared(key, value)

    def __getitem__(self, key: str) -> Any:
        return self._unshared(key, super().__getitem__(key))

    def get(self, key: str, default: Any = None) -> Any:
        """Return a channel's value, or ``default``."""
        return self._unshared(key, super().__getitem__(key)) if key in self else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return a channel's value; if it has none, set and return ``default``."""
        return self._unshared(key, super().setdefault(key, default))

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove a channel's value and return it."""
        if key in self:
            self._unshared(key, super().__getitem__(key))
        return super().pop(key) if default is _MISSING else super().pop(key, default)

    def popitem(self) -> tuple[str, Any]:
        """Remove the last channel and its value, and return both."""
        self._unshare()
        return super().popitem()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return a view of all values."""
        self._unshare()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return a view of all channels and values."""
        self._unshare()
        return super().items()

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of all values."""
        self._unshare()
        return super().copy()

    def __or__(self, other: Any) -> Any:
        self._unshare()
        return super().__or__(other)

    def __iter__(self) -> Iterator[str]:
        # Python copies a dict (dict(…), {**…}, update) past __getitem__, unless its class has this method.
        return super().__iter__()

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (self.copy(),)
