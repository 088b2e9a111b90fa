"""Concurrent runs on one thread: the second is refused, or waits for the first, across processes."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from ecowas_lc import forks
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.errors import StorageError, ThreadBusyError

OnBusy = Literal["refuse", "queue"]

_LEASE_SECONDS = 15.0  # how long a killed process blocks others
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.5


class _LocalLeases:
    """The threads held by runs of this process, for a saver that does not coordinate processes."""

    def __init__(self) -> None:
        self.forget_parent()
        forks.register(self)

    def forget_parent(self) -> None:
        """Hold nothing after a fork: the parent's runs do not run here."""
        self._lock = threading.Lock()
        self._held: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()

    def hold(self, saver: Any, thread_id: str, holder: str) -> bool:
        with self._lock:
            return self._held.setdefault(saver, {}).setdefault(thread_id, holder) == holder

    def release(self, saver: Any, thread_id: str, holder: str) -> None:
        with self._lock:
            held = self._held.get(saver, {})
            if held.get(thread_id) == holder:
                del held[thread_id]


_local = _LocalLeases()


def _pausing(seconds: float) -> Doing:
    return Doing(lambda _: time.sleep(seconds), lambda _: asyncio.sleep(seconds))


@dataclass(frozen=True, slots=True)
class Lease:
    """A run's lease on its thread: acquired before the run, renewed during it, released after it.

    A saver with ``leases``, such as :class:`~ecowas_lc.RedisSaver`, coordinates all processes; with other savers,
    only the runs of this process are coordinated.
    """

    saver: Any
    leases: Any
    thread_id: str
    holder: str
    on_busy: OnBusy
    wait_seconds: float

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the thread.

        Raises:
            ThreadBusyError: Another run holds it for longer than this one may wait.
        """
        run(self.taken(), {})
        done = threading.Event()
        renewing = threading.Thread(target=self._renewing, args=(done,), name="ecowas-lc-lease", daemon=True)
        if self._tells_all:
            renewing.start()
        try:
            yield
        finally:
            done.set()
            with suppress(StorageError):  # otherwise the lease expires by itself
                run(self.let_go(), {})

    @asynccontextmanager
    async def aheld(self) -> AsyncIterator[None]:
        """Hold the thread, as :meth:`held` does, without blocking the event loop."""
        await arun(self.taken(), {})
        renewing = asyncio.create_task(self._arenewing()) if self._tells_all else None
        try:
            yield
        finally:
            if renewing is not None:
                renewing.cancel()
            with suppress(StorageError):
                await arun(self.let_go(), {})

    @property
    def _tells_all(self) -> bool:
        return self.leases is not None

    def taken(self) -> Program[None]:
        """Acquire the lease for as long as it lasts without renewal."""
        pause, until = _FIRST_PAUSE_SECONDS, time.monotonic() + self.wait_seconds
        while not (yield self._hold()):
            left = until - time.monotonic()
            if self.on_busy == "refuse" or left <= 0:
                waited = f" (waited {self.wait_seconds:g} seconds)" if self.on_busy == "queue" else ""
                raise ThreadBusyError(
                    f"Another run of the thread {self.thread_id!r} is under way{waited}. The question was not "
                    "stored. Ask again when that run has finished."
                )
            yield _pausing(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _hold(self) -> Doing:
        saver, leases, thread_id, holder = self.saver, self.leases, self.thread_id, self.holder
        if not self._tells_all:

            async def hold(_: Any) -> bool:
                return _local.hold(saver, thread_id, holder)

            return Doing(lambda _: _local.hold(saver, thread_id, holder), hold)
        return Doing(
            lambda _: leases.hold(thread_id, holder, _LEASE_SECONDS),
            lambda _: leases.ahold(thread_id, holder, _LEASE_SECONDS),
        )

    def let_go(self) -> Program[None]:
        """Release the thread."""
        saver, leases, thread_id, holder = self.saver, self.leases, self.thread_id, self.holder
        if not self._tells_all:
            _local.release(saver, thread_id, holder)
            return
        yield Doing(
            lambda _: leases.release(thread_id, holder),
            lambda _: leases.arelease(thread_id, holder),
        )

    def _renewing(self, done: threading.Event) -> None:
        while not done.wait(_LEASE_SECONDS / 3):
            with suppress(StorageError):
                run(self._renewed(), {})

    async def _arenewing(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            with suppress(StorageError):
                await arun(self._renewed(), {})

    def _renewed(self) -> Program[None]:
        yield self._hold()
