"""What a forked child must forget: locks that other threads held, connection slots, event loops, what waits.

A child has one thread, the one that called ``fork``; what the others were doing stays undone in it for good. So a
lock that one of them held is never released there, a slot never given back, and what waits to be repeated is still
the parent's to repeat. This is the one module that hooks into :func:`os.fork`. Whatever in the package has a lock,
a semaphore, a thread, a table by event loop or anything held for later either uses :class:`Lock` or
:class:`ForkBarrier`, or registers itself with :func:`register`; a test finds those that don't.

Owners are held weakly: nothing is kept alive by being registered.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
from types import TracebackType
from typing import Any, Protocol
from weakref import ref

log = logging.getLogger(__name__)  # logging's fork hooks are registered by now, so ours are waited for first


class Forgetful(Protocol):
    """Something that begins anew in a forked child."""

    def forget_parent(self) -> None:
        """Replace locks, slots and tables by new ones, and drop what only the parent may do. Must not block."""


# Changed by single dict operations alone, so that no lock is needed, which a fork would meet as well.
_owners: dict[int, ref[Forgetful]] = {}
_numbers = itertools.count()
_inherited: list[Any] = []


def register(owner: Forgetful) -> None:
    """Call ``owner.forget_parent()`` in each forked child, for as long as the owner lives.

    Owners are called in the order in which they registered: what an owner made later still says how it stood.
    """
    number = next(_numbers)
    _owners[number] = ref(owner, lambda _: _owners.pop(number, None))


def keep(inherited: Any) -> None:
    """Keep something of the parent's as it is for the life of this child.

    Destroying a client of redis-py takes its locks, which may be held for good here, and ends what its event loop
    shares with the parent's.
    """
    _inherited.append(inherited)


class Lock:
    """A mutex that is free in a forked child, whichever thread of the parent held it."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        register(self)

    def forget_parent(self) -> None:
        """Begin anew."""
        self._lock = threading.Lock()

    def locked(self) -> bool:
        """Return whether it is held."""
        return self._lock.locked()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lock = self._lock
        if lock.locked():  # else it was replaced while this thread held it: it forked inside the block
            lock.release()


class ForkBarrier:
    """A reentrant mutex during which no other thread forks: a fork waits until it is free.

    For what a child would inherit half done, such as a file lock that the parent is about to release.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _barriers.append(self)

    def before_fork(self) -> None:
        """Wait until no other thread holds it."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Let others have it again."""
        self._lock.release()

    def forget_parent(self) -> None:
        """Begin anew."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(RuntimeError):  # it was replaced: this thread forked inside the block
            self._lock.release()


_barriers: list[ForkBarrier] = []  # of modules, so that they are few and live as long as the process


def _before() -> None:
    for barrier in _barriers:
        barrier.before_fork()


def _after_in_parent() -> None:
    for barrier in reversed(_barriers):
        barrier.after_fork()


def _after_in_child() -> None:
    for barrier in _barriers:
        barrier.forget_parent()
    for reference in list(_owners.copy().values()):
        owner = reference()
        if owner is None:
            continue
        try:
            owner.forget_parent()
        except Exception:  # the others must begin anew all the same
            log.exception("%s could not begin anew in a forked child", type(owner).__name__)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
