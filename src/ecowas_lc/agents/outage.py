"""Redis outages as agents see them: whether the server is available, and what is waiting to be written."""

from __future__ import annotations

import atexit
import logging
import random
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from itertools import count
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet, WeakValueDictionary

from ecowas_lc import _telemetry, forks
from ecowas_lc.errors import EcowasError, EmbeddedServerError, RedisRefusedError, RedisUnavailableError
from ecowas_lc.memory.service import ping_op
from ecowas_lc.storage.keys import Keys, wait_key
from ecowas_lc.storage.ops import Op, command
from ecowas_lc.storage.server import Server

log = logging.getLogger(__name__)

OUTAGES = (RedisUnavailableError, RedisRefusedError, EmbeddedServerError)
"""Errors that mean that the server is unavailable, whatever the request was; other errors concern the request."""

UNSETTLED_SECONDS = 10.0
"""The longest delay in seconds before servers save to disk or to a replica: a crash loses only younger writes."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 3.0

_TRIES = 3  # per write in the backlog, while the server accepts other writes

T = TypeVar("T")


class Held(NamedTuple):
    """A write in the backlog: how to store it, and how to drop a part of it that the server does not accept."""

    store: Callable[[], None]
    give_up_one: Callable[[Exception], bool] | None


class ServerLink:
    """The connection state of one prefix on one server, shared by all agents of the process.

    While the server is unavailable, only one background thread tries to reach it, so no conversation waits for it.
    When the server answers, the backlog is written in its original order, and the link is up again.
    """

    def __init__(self, server: Server, prefix: str) -> None:
        self.server = server
        self.prefix = prefix
        self._keys = Keys(prefix)
        self._lock = forks.Lock()
        self._problem: Exception | None = None
        self._held: dict[Hashable, Held] = {}
        self._lost: dict[Hashable, Held] = {}
        self._worker: threading.Thread | None = None
        self._shared: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
        self._on_failure: WeakSet[Any] = WeakSet()
        forks.register(self)

    def forget_parent(self) -> None:
        """Drop the backlog and try the server again: after a fork, the parent writes its own backlog."""
        self._problem = None
        self._held = {}
        self._worker = None

    @property
    def is_up(self) -> bool:
        """Whether the server was available when it was last tried."""
        return self._problem is None

    @property
    def holds(self) -> int:
        """Number of writes in the backlog."""
        return len(self._held)

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the object shared under ``key``, creating it if no agent holds one.

        If the object has a method ``link_failed``, it is called when the link goes down.
        """
        with self._lock:
            found: T | None = self._shared.get(key)
            if found is None:
                self._shared[key] = found = make()
                if hasattr(found, "link_failed"):
                    self._on_failure.add(found)
            return found

    def failed(self, error: Exception) -> None:
        """Take the link down; the first caller logs a warning."""
        with self._lock:
            is_first = self._problem is None
            self._problem = error
            watching = list(self._on_failure) if is_first else []
        if is_first:
            _telemetry.count("outage", 1)
            log.warning("%s Conversations continue in memory and are stored once it is available again.", error)
        for watcher in watching:
            watcher.link_failed(self)
        self._start()

    def hold(
        self, key: Hashable, store: Callable[[], None], give_up_one: Callable[[Exception], bool] | None = None
    ) -> None:
        """Add a write to the backlog, replacing an earlier one with the same key.

        Args:
            key: Identifies the write.
            store: Performs the write. It may be called more than once, and raises one of :data:`OUTAGES` if the
                server is unavailable after all.
            give_up_one: Called with the error if ``store`` keeps failing although the server accepts other writes.
                It drops the part that the server does not accept, and returns whether it found one.
        """
        with self._lock:
            self._held[key] = Held(store, give_up_one)
        self._start()

    def replay(self) -> None:
        """Write the backlog and take the link up.

        Raises:
            RedisUnavailableError, RedisRefusedError, EmbeddedServerError: The server is still unavailable.
        """
        self.server.run(ping_op(self._keys))
        stored = 0
        while True:
            with self._lock:
                if not self._held:
                    was_down, self._problem = self._problem is not None, None
                    break
                key, held = next(iter(self._held.items()))
            try:
                self._store(held)
                stored += 1
            except OUTAGES:
                raise
            except Exception:  # one failing write must not block the others
                log.exception("The backlog of %s could not be stored", key)
            with self._lock:
                if self._held.get(key) is held:  # otherwise, more was added in the meantime
                    del self._held[key]
        if was_down:
            _telemetry.count("outage", -1)
            log.info(
                "Redis at %s is available again; the backlog has been stored (%d).", self.server.where, stored
            )

    def try_once_more(self) -> None:
        """Write the backlog before the process ends; what fails now is lost, and is not tried again."""
        if self._held in ({}, self._lost):
            return
        try:
            self.replay()
        except EcowasError as error:
            self._lost = dict(self._held)
            log.warning(
                "%s The process is ending, and the backlog for this server is lost (%d).", error, self.holds
            )

    def _store(self, held: Held) -> None:
        """Perform one write of the backlog.

        A server that closes the connection because a message is too large looks like an unavailable server. The
        difference: it accepts another write at once, while this one fails every time.
        """
        for failures in count(1):
            try:
                held.store()
            except OUTAGES as error:
                if held.give_up_one is None or not self._takes_writes():
                    raise
                if failures % _TRIES == 0 and not held.give_up_one(error):
                    raise
            else:
                return

    def _takes_writes(self) -> bool:
        def write_op() -> Op[None]:
            yield (command("SET", wait_key(self._keys.agents()), "", "PX", 1000),)

        try:
            self.server.run(write_op())
        except EcowasError:
            return False
        return True

    def _start(self) -> None:
        with self._lock:
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, name="ecowas-lc-replay", daemon=True)
                self._worker.start()

    def _work(self) -> None:
        for pause in _pauses():
            time.sleep(pause)
            try:
                self.replay()
            except EcowasError as error:
                self.failed(error)
                continue
            with self._lock:
                if self._problem is None and not self._held:
                    self._worker = None
                    return

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server.where}, {'up' if self.is_up else 'down'})"


def link_to(server: Server, prefix: str) -> ServerLink:
    """Return the process's only link to a prefix on a server."""
    with _lock:
        link = _links.get((id(server), prefix))
        if link is None:  # the link keeps the server alive, so no other object can get its id
            _links[id(server), prefix] = link = ServerLink(server, prefix)
        return link


_lock = forks.Lock()
_links: WeakValueDictionary[tuple[int, str], ServerLink] = WeakValueDictionary()


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311  # so that not all processes come back at once
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


@atexit.register
def _last_try() -> None:
    for link in list(_links.values()):
        link.try_once_more()
