"""State that a forked child must reset: locks of other threads, connection slots, event loops, pending work.

A child has only one thread, the one that called ``fork``; the work of all other threads stops where it was. So a
lock that another thread held is never released in the child, a connection slot is never returned, and pending
retries still belong to the parent. This is the only module that hooks into :func:`os.fork`. Every part of the
package that has a lock, a semaphore, a thread, a table keyed by event loop or pending work either uses
:class:`Lock` or :class:`ForkBarrier`, or registers itself with :func:`register`. A test finds the ones that don't.

Owners are held weakly: registering an object does not keep it alive.
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

log = logging.getLogger(__name__)  # logging has registered its fork hooks by now, so ours run before them


class Forgetful(Protocol):
    """An object that resets itself in a forked child."""

    def forget_parent(self) -> None:
        """Replace locks, slots and tables with new ones, and drop work that only the parent may do.

        Must not block.
        """


# Changed only by single dict operations, which are atomic. A lock could itself be held during a fork.
_owners: dict[int, ref[Forgetful]] = {}
_numbers = itertools.count()
_inherited: list[Any] = []


def register(owner: Forgetful) -> None:
    """Call ``owner.forget_parent()`` in each forked child for as long as the owner lives.

    Owners are called in the order in which they registered, so owners registered later still have the parent's
    state.
    """
    number = next(_numbers)
    _owners[number] = ref(owner, lambda _: _owners.pop(number, None))


def keep(inherited: Any) -> None:
    """Keep an object of the parent unchanged for the whole life of this child.

    Destroying a redis-py client takes its locks, which may stay locked forever in this child, and closes resources
    that its event loop shares with the parent's.
    """
    _inherited.append(inherited)


class Lock:
    """A mutex that is free in a forked child, whichever thread of the parent held it."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        register(self)

    def forget_parent(self) -> None:
        """Replace the mutex with a new one."""
        self._lock = threading.Lock()

    def locked(self) -> bool:
        """Return whether a thread holds the mutex."""
        return self._lock.locked()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lock = self._lock
        if lock.locked():  # if not, it was replaced while this thread held it: the thread forked inside the block
            lock.release()


class ForkBarrier:
    """A reentrant mutex that delays forks: ``fork`` in another thread waits until the mutex is free.

    Use it for state that a child must not inherit half done, such as a file lock that the parent is about to
    release.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _barriers.append(self)

    def before_fork(self) -> None:
        """Wait until no other thread holds the mutex."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Release the mutex in the parent."""
        self._lock.release()

    def forget_parent(self) -> None:
        """Replace the mutex with a new one."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(RuntimeError):  # it was replaced: this thread forked inside the block
            self._lock.release()


_barriers: list[ForkBarrier] = []  # module-level ones only: they are few and live as long as the process


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
        except Exception:  # the other owners must be reset in any case
            log.exception("%s could not restart in a forked child", type(owner).__name__)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
