"""Drives an organisation's runs in this process, and lets any number of readers follow the runs of any process.

Runs of this process are followed as their events are stored. Those of other processes are polled a few times a
second, all in one flush: a blocking read would need a separate connection for each run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from ecowas_lc import forks
from ecowas_lc.errors import EcowasError, RedisUnavailableError, StorageError, ThreadBusyError
from ecowas_lc.storage.left_out import UNREADABLE
from ecowas_lc.supervisor.double_texting import OnBusy
from ecowas_lc.web.organisation import Organisation
from ecowas_lc.web.problems import UNEXPECTED, DrainingError, NotFoundError, about
from ecowas_lc.web.run_events import Playing
from ecowas_lc.web.runs import FIRST_EVENT, Busy, Run, RunEvent, RunPrograms, later, text_of

log = logging.getLogger(__name__)

MOST_EVENTS = 20_000
"""The limit of one attempt. The rest of a longer answer arrives all at once."""
_MOST_ATTEMPTS = 5
_GATHERED_SECONDS = 0.04  # tokens closer together than this form one event
_ASKED_SECONDS = 0.1  # how often runs of other processes are polled
_THREAD_WAIT_SECONDS = 60.0
_TURN_PAUSE_SECONDS = 0.1
_STORAGE_RETRY_SECONDS = 0.5
_CANCEL_AGAIN_SECONDS = 5.0
_MOST_OUTAGES = 20

OnEnd = Callable[[Run, str, list[dict[str, Any]], float], Any]


class LostError(Exception):
    """Another process has taken over the run."""


class Feed:
    """The events of a run that this process knows."""

    def __init__(self, run_id: str, session: str) -> None:
        self.run_id, self.session = run_id, session
        self.events: list[RunEvent] = []
        self.is_over = False
        self.is_local = False
        self.readers = 0
        self._changed = asyncio.Event()
        forks.register(self)

    def forget_parent(self) -> None:
        """Reset what belongs to the parent's event loop, in a forked child."""
        self._changed = asyncio.Event()

    @property
    def last(self) -> str:
        """The id of the last known event."""
        return self.events[-1].id if self.events else "0-0"

    def add(self, events: list[RunEvent]) -> None:
        """Add the events that are new."""
        last = self.last
        fresh = [event for event in events if later(event.id, last)]
        self.events += fresh
        if any(event.type == "done" for event in fresh):
            self.is_over = True
        if fresh:
            self.wake()

    def wake(self) -> None:
        """Wake up the readers."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, seconds: float) -> None:
        """Wait for a new event, at most for this many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def index_after(self, event_id: str) -> int:
        """Return the index of the first event after an id."""
        low, high = 0, len(self.events)
        while low < high:
            middle = (low + high) // 2
            if later(self.events[middle].id, event_id):
                high = middle
            else:
                low = middle + 1
        return low


class _Writer:
    """Stores the events of one attempt. Tokens that are close together are stored as one event."""

    def __init__(self, driver: Driver, run: Run, feed: Feed) -> None:
        self._driver, self._run, self._feed = driver, run, feed
        self._number = 1
        self._waiting: list[dict[str, Any]] = []
        self._lock = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._last_flush = 0.0
        self.is_cancelled = False
        self.broken: BaseException | None = None
        forks.register(self)

    def forget_parent(self) -> None:
        """Reset in a forked child what belongs to the parent: its event loop and its events to store."""
        self._waiting.clear()
        self._lock = asyncio.Lock()
        self._flusher = None

    async def add(self, event: dict[str, Any]) -> None:
        """Store an event. A token may be held back briefly and stored with the tokens after it."""
        if self.broken is not None:
            raise self.broken
        if event["type"] == "token":
            if self._number > MOST_EVENTS:
                return
            last = self._waiting[-1] if self._waiting else None
            if last is not None and last["type"] == "token" and last["message"] == event["message"]:
                last["text"] += event["text"]
            else:
                self._waiting.append(dict(event))
            if self._flusher is None or self._flusher.done():
                pause = max(0.0, self._last_flush + _GATHERED_SECONDS - time.monotonic())
                self._flusher = asyncio.create_task(self._later(pause))
            return
        self._waiting.append(event)
        await self.flush()

    async def _later(self, pause: float) -> None:
        try:
            await asyncio.sleep(pause)
            await self.flush()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.broken = error

    async def flush(self, final: str = "") -> None:
        """Store the held events and renew the lease.

        Raises:
            LostError: Another process has taken over the run.
        """
        async with self._lock:
            events, self._waiting = self._waiting, []
            self._last_flush = time.monotonic()
            reply = await self._driver.stored(self._run, self._number, [text_of(each) for each in events], final)
            if reply is None:
                raise LostError
            self.is_cancelled = self.is_cancelled or reply
            attempt = self._run.attempt
            self._feed.add(
                [RunEvent(f"{attempt}-{self._number + place}", each) for place, each in enumerate(events)]
            )
            self._number += len(events)

    async def end(self, status: str, *events: dict[str, Any]) -> None:
        """Store the last events and the final status."""
        await self.stop()
        self._waiting += [*events, {"type": "done", "status": status}]
        await self.flush(status)

    async def stop(self) -> None:
        """Cancel the delayed flush."""
        if self._flusher is not None:
            await end_tasks(self._flusher)


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended, whatever their results.

    A task that ends an inner wait at the moment of its cancellation can lose it, so it is cancelled again.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()  # else asyncio logs that nobody has looked at it


class Driver:
    """Drives the runs of one organisation in this process."""

    def __init__(
        self,
        organisation: Organisation,
        *,
        lease_seconds: float = 6.0,
        on_end: OnEnd | None = None,
    ) -> None:
        self.organisation = organisation
        self.programs = RunPrograms(organisation.keys, organisation.settings.redis_memory_ttl)
        self.holder = uuid4().hex
        self.lease_seconds = lease_seconds
        self.is_draining = False
        self._on_end = on_end
        self._feeds: dict[str, Feed] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, Run] = {}
        self._work: dict[str, asyncio.Task[Any]] = {}
        self._poller: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """The number of runs that this process drives or has queued."""
        return len(self._tasks)

    # --- starting and ending ---

    async def start(self, run: Run, on_busy: OnBusy) -> Busy | None:
        """Start a run in this process.

        Raises:
            DrainingError: This process is shutting down.
        """
        if self.is_draining:
            raise DrainingError("This process is being shut down. Send the request again in a moment.")
        busy: Busy | None = await self.organisation.run(self.programs.start_op(run, on_busy))
        if busy is None:
            self._adopt(run.id, run.session)
        return busy

    def _adopt(self, run_id: str, session: str) -> None:
        if run_id not in self._tasks:
            task = asyncio.create_task(self._drive(run_id, session))
            self._tasks[run_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(run_id, None))

    async def cancel(self, run: Run) -> str:
        """Request the end of a run in any process. For the returned status, see ``cancel_op``."""
        how: str = await self.organisation.run(self.programs.cancel_op(run))
        if how == "asked" and (work := self._work.get(run.id)) is not None:
            work.cancel("asked")
        return how

    async def take_over(self) -> None:
        """Report the runs of this process as alive, and take over runs of processes that no longer report."""
        here = [run for run_id, run in self._runs.items() if run_id in self._tasks]
        await self.organisation.run(self.programs.heard_of_op(here))
        if self.is_draining:
            return
        for run_id, session in await self.organisation.run(self.programs.orphans_op(self.lease_seconds)):
            self._adopt(run_id, session)

    def stop_serving(self) -> None:
        """Refuse new runs, and end the readers' streams so that they reconnect to another process."""
        self.is_draining = True
        for feed in self._feeds.values():
            feed.wake()

    async def drain(self, seconds: float) -> None:
        """Refuse new runs, wait this many seconds for running ones, and leave the rest to other processes."""
        self.stop_serving()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=seconds)
        await end_tasks(*self._tasks.values(), *([self._poller] if self._poller is not None else []))

    # --- driving ---

    async def stored(self, run: Run, number: int, events: list[str], final: str) -> bool | None:
        """Store events. If Redis can't be reached, retry until it can or until another process has the run."""
        while True:
            try:
                found: bool | None = await self.organisation.run(
                    self.programs.append_op(run, self.holder, self.lease_seconds, number, events, final)
                )
            except UNREADABLE:
                raise
            except StorageError as error:
                log.warning("The events of a run can't be stored: %s", error)
                await asyncio.sleep(_STORAGE_RETRY_SECONDS)
            else:
                return found

    async def _drive(self, run_id: str, session: str) -> None:
        claimed: Run | None = None
        try:
            claimed = await self._claimed(run_id, session)
            if claimed is not None:
                await self._perform(claimed)
        except LostError:
            log.warning("Another process has taken over the run %s.", run_id)
        except asyncio.CancelledError:
            if claimed is not None:
                with suppress(EcowasError):
                    await self._leave(claimed)
            raise
        except UNREADABLE as error:
            log.warning("Giving up the run %s: %s", run_id, error)
            with suppress(EcowasError):
                await self._give_up(run_id, session, error)
        except Exception:
            log.exception("The run %s failed.", run_id)
        finally:
            self._runs.pop(run_id, None)
            self._work.pop(run_id, None)
            if (feed := self._feeds.get(run_id)) is not None:
                feed.is_local = False
                self._drop(feed)
                if feed.readers and not self.is_draining:
                    self._poll()

    async def _give_up(self, run_id: str, session: str, error: EcowasError) -> None:
        told = {"type": "error", **_problem(error)}, {"type": "done", "status": "failed"}
        await self.organisation.run(self.programs.give_up_op(run_id, session, *told))

    async def _leave(self, run: Run) -> None:
        await self.organisation.run(self.programs.release_op(run, self.holder))

    async def _claimed(self, run_id: str, session: str) -> Run | None:
        """Wait for the run's turn and return it, or return ``None`` if another process drives it."""
        waits = Run(run_id, session, "", "")
        while True:
            try:
                claim = await self.organisation.run(
                    self.programs.claim_op(run_id, session, self.holder, self.lease_seconds)
                )
            except UNREADABLE:
                raise
            except StorageError as error:
                log.warning("A run can't be started: %s", error)
                await asyncio.sleep(_STORAGE_RETRY_SECONDS)
                continue
            if claim.how == "yours":
                run: Run = claim.run
                return run
            if claim.how == "gone":
                await self.organisation.run(self.programs.forget_op(run_id, session))
                return None
            if claim.how == "held":
                return None
            self._runs[run_id] = waits
            await asyncio.sleep(_TURN_PAUSE_SECONDS)

    async def _perform(self, run: Run) -> None:
        self._runs[run.id] = run
        feed = self._feed(run.id, run.session)
        await self._load(feed)
        feed.is_local = True
        writer = _Writer(self, run, feed)
        if run.attempt > 1:
            await writer.add({"type": "cut", "messages": _unfinished(feed.events), "attempt": run.attempt})
        if run.attempt > _MOST_ATTEMPTS:
            detail = f"The run was abandoned: {_MOST_ATTEMPTS} processes ended while executing it. Ask again."
            await self._ended(run, writer, "failed", {"type": "error", "status": 500, "detail": detail})
            return
        is_lost, began = False, time.monotonic()
        playing = Playing(self.organisation, run)
        renewing = asyncio.create_task(self._renewing(run, writer))
        work = self._work[run.id] = asyncio.create_task(self._play(run, playing, writer))
        try:
            await asyncio.wait((work, renewing), return_when=asyncio.FIRST_COMPLETED)
            if renewing.done() and not work.done():
                await end_tasks(work)
                renewing.result()
            await self._finish(run, playing, writer, work, time.monotonic() - began)
        except LostError:
            is_lost = True  # the new process also holds the thread, under the run's name
            raise
        finally:
            await end_tasks(work, renewing)
            await writer.stop()
            if not is_lost:
                with suppress(StorageError):
                    await self.organisation.saver.leases.arelease(run.session, run.id)

    async def _finish(
        self, run: Run, playing: Playing, writer: _Writer, work: asyncio.Task[Any], seconds: float
    ) -> None:
        if work.cancelled():
            with suppress(EcowasError):
                await playing.keep_partial()
            await self._ended(run, writer, "cancelled", seconds=seconds)
            return
        error = work.exception()
        if error is None:
            await self._ended(run, writer, playing.status, seconds=seconds)
        elif isinstance(error, LostError):
            raise error
        elif isinstance(error, EcowasError):
            await self._ended(run, writer, "failed", {"type": "error", **_problem(error)}, seconds=seconds)
        else:
            log.error("The run %s failed.", run.id, exc_info=error)
            told = {"type": "error", "status": 500, "detail": UNEXPECTED}
            await self._ended(run, writer, "failed", told, seconds=seconds)

    async def _ended(
        self, run: Run, writer: _Writer, status: str, *events: dict[str, Any], seconds: float = 0.0
    ) -> None:
        await writer.end(status, *events)
        self._runs.pop(run.id, None)  # else it would be listed as open again until this task has ended
        if self._on_end is not None:
            told = [event.data for event in self._feeds[run.id].events] if run.id in self._feeds else []
            with suppress(EcowasError):
                await self._on_end(run, status, told, seconds)

    async def _play(self, run: Run, playing: Playing, writer: _Writer) -> None:
        await self._hold_thread(run)
        outages = 0
        while True:
            try:
                async for event in playing.events():
                    await writer.add(event)
                    if writer.is_cancelled:
                        raise asyncio.CancelledError
            except RedisUnavailableError as error:
                outages += 1
                if outages > _MOST_OUTAGES:
                    raise
                log.warning("The run %s continues when Redis is back: %s", run.id, error)
                await writer.flush()  # waits until Redis is back
                unfinished = _unfinished(self._feed(run.id, run.session).events)
                await writer.add({"type": "cut", "messages": unfinished, "attempt": run.attempt})
                playing.begin_again()
            else:
                return await writer.flush()

    async def _hold_thread(self, run: Run) -> None:
        """Lock the thread against other programs' runs.

        The run's id is the holder, so that a process that takes over the run also holds the lock.

        Raises:
            ThreadBusyError: Another program's run has held the thread for too long.
        """
        until = time.monotonic() + _THREAD_WAIT_SECONDS
        while not await self._hold(run):
            if time.monotonic() > until:
                raise ThreadBusyError("Another program is answering a question in this session. Ask again later.")
            await asyncio.sleep(_TURN_PAUSE_SECONDS)

    async def _hold(self, run: Run) -> bool:
        return await self.organisation.saver.leases.ahold(run.session, run.id, max(3 * self.lease_seconds, 10.0))

    async def _renewing(self, run: Run, writer: _Writer) -> None:
        while True:
            await asyncio.sleep(self.lease_seconds / 4)
            await writer.flush()
            if writer.is_cancelled and (work := self._work.get(run.id)) is not None:
                work.cancel("asked")
            with suppress(StorageError):
                await self._hold(run)

    # --- following ---

    def _feed(self, run_id: str, session: str) -> Feed:
        if run_id not in self._feeds:
            self._feeds[run_id] = Feed(run_id, session)
        return self._feeds[run_id]

    def _drop(self, feed: Feed) -> None:
        if not feed.readers and not feed.is_local:
            self._feeds.pop(feed.run_id, None)

    async def _load(self, feed: Feed) -> None:
        while True:
            [found] = await self.organisation.run(
                self.programs.events_op([(feed.run_id, feed.session, feed.last)])
            )
            if not found:
                return
            feed.add(found)

    async def follow(
        self, run: Run, after: str = "0-0", *, beat_seconds: float = 15.0
    ) -> AsyncGenerator[RunEvent | None]:
        """Yield a run's events after an id, as they happen, and ``None`` after each pause of ``beat_seconds``.

        Ends when the run ends or this process shuts down.

        Raises:
            NotFoundError: The run's events are no longer stored.
        """
        feed = self._feed(run.id, run.session)
        feed.readers += 1
        try:
            if not feed.is_local:
                await self._load(feed)
                if not feed.events:
                    raise NotFoundError("The events of this run are no longer stored.")
                if run.is_over:  # also if its last event can't be read
                    feed.is_over = True
                self._poll()
            place = feed.index_after(after)
            while True:
                while place < len(feed.events):
                    yield feed.events[place]
                    place += 1
                if feed.is_over or self.is_draining:
                    return
                before = len(feed.events)
                await feed.changed(beat_seconds)
                if len(feed.events) == before and not self.is_draining:
                    yield None
        finally:
            feed.readers -= 1
            self._drop(feed)

    def _poll(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._polling())

    async def _polling(self) -> None:
        while feeds := [feed for feed in self._feeds.values() if not feed.is_local and not feed.is_over]:
            await asyncio.sleep(_ASKED_SECONDS)
            wanted = [(feed.run_id, feed.session, feed.last) for feed in feeds]
            try:
                found = await self.organisation.run(self.programs.events_op(wanted))
            except StorageError as error:
                log.warning("The events of runs can't be read: %s", error)
                await asyncio.sleep(_STORAGE_RETRY_SECONDS)
                continue
            for feed, events in zip(feeds, found, strict=True):
                if events is None:
                    feed.is_over = True
                    feed.wake()
                elif events:
                    feed.add(events)


def _problem(error: EcowasError) -> dict[str, Any]:
    found = about(error)
    return {key: found[key] for key in ("status", "detail", "error")}


def _unfinished(events: list[RunEvent]) -> list[str]:
    """Return the ids of the messages whose speaker has not finished."""
    spoken: dict[str, str] = {}
    for event in events:
        if event.type == "token":
            spoken[str(event.data.get("message"))] = str(event.data.get("speaker"))
        elif event.type == "finished":
            spoken = {message: by for message, by in spoken.items() if by != event.data.get("speaker")}
        elif event.type == "cut" and isinstance(cut := event.data.get("messages"), list):
            spoken = {message: by for message, by in spoken.items() if message not in cut}
    return sorted(spoken)


__all__ = ["FIRST_EVENT", "MOST_EVENTS", "Driver", "Feed", "LostError"]
