"""Limits on speakers: how many answer at once, for how long, and with how many steps."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig

from ecowas_lc import forks
from ecowas_lc.effects import Program, arun, run
from ecowas_lc.errors import LoopBudgetError
from ecowas_lc.llm.faults import timed_out
from ecowas_lc.llm.request_queue import Patience, patience

_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class LoopGuard:
    """Stops a speaker that loops on one question.

    ``max_hops`` limits the model calls, ``max_repeats`` how often the same tool call with the same arguments is
    made.
    """

    who: str
    max_hops: int
    max_repeats: int

    def check_calls(self, made: int) -> None:
        """Raise an error if no further model call is allowed after ``made`` calls.

        Raises:
            LoopBudgetError: The budget of model calls is used up.
        """
        if made >= self.max_hops:
            raise LoopBudgetError(
                f"{self.who} made {made} model calls without an answer. Ask something narrower, or raise max_hops."
            )

    def check_steps(self, steps: Iterable[str]) -> None:
        """Raise an error if one of these steps, identified by their texts, is repeated too often.

        Raises:
            LoopBudgetError: The same step is taken too often.
        """
        for step, times in Counter(steps).items():
            if times > self.max_repeats:
                raise LoopBudgetError(
                    f"{self.who} repeated the same step more than {self.max_repeats} times: {step[:200]}. "
                    "Ask something narrower, use another model, or raise max_repeats."
                )


class Slots:
    """A limit of ``limit`` holders at once (``None``: no limit), across threads and within each event loop."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.forget_parent()
        forks.register(self)

    def forget_parent(self) -> None:
        """Free all slots after a fork: those taken in the parent are never released here."""
        self._threads = threading.BoundedSemaphore(self._limit) if self._limit else None
        self._tasks: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold a slot, waiting for one in this thread."""
        threads = self._threads
        if threads is None:
            yield
        else:
            with threads:
                yield

    @asynccontextmanager
    async def aheld(self) -> AsyncGenerator[None]:
        """Hold a slot, waiting for one in this task."""
        if self._limit is None:
            yield
        else:
            async with self._of_this_loop(self._limit):
                yield

    def _of_this_loop(self, limit: int) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()  # a semaphore belongs to the event loop that first waited on it
        if loop not in self._tasks:
            self._tasks = {old: tasks for old, tasks in self._tasks.items() if not old.is_closed()}
        return self._tasks.setdefault(loop, asyncio.Semaphore(limit))


@dataclass(frozen=True, slots=True)
class Limited:
    """An effect that runs a whole program in a slot, abandoned after ``seconds`` (``None``: never).

    The time that its requests wait in the queue for the model's server does not count.

    Raises:
        ModelTimeoutError: The program took longer.
    """

    program: Program[Any]
    who: str
    seconds: float | None
    slots: Slots

    def run(self, config: RunnableConfig) -> Any:
        """Run the program, in a thread of its own if it may have to be abandoned."""
        with self.slots.held():
            if self.seconds is None:
                return run(self.program, config)
            return self._in_time(config, self.seconds)

    async def arun(self, config: RunnableConfig) -> Any:
        """Run the program, and cancel it when its time is up."""
        async with self.slots.aheld():
            if self.seconds is None:
                return await arun(self.program, config)
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(self.seconds) as limit:

                    def follow() -> None:
                        loop.call_soon_threadsafe(_set, limit, clock)

                    clock = Patience(self.seconds, follow)
                    token = patience.set(clock)
                    try:
                        return await arun(self.program, config)
                    finally:
                        patience.reset(token)
            except TimeoutError:
                raise timed_out(self.who, self.seconds, "group_timeout") from None

    def _in_time(self, config: RunnableConfig, seconds: float) -> Any:
        outcome: Future[Any] = Future()
        given_up = threading.Event()
        clock = Patience(seconds)

        def work() -> None:
            _given_up.set(given_up)
            patience.set(clock)
            try:
                outcome.set_result(run(self.program, config))
            except BaseException as error:  # any error is handed to the waiting thread
                outcome.set_exception(error)

        # A blocking call cannot be cancelled: the thread is abandoned and stops at the model's next token.
        threading.Thread(target=copy_context().run, args=(work,), name=self.who, daemon=True).start()
        try:
            while True:
                left = clock.left
                try:
                    return outcome.result(_POLL_SECONDS if left is None else max(left, 0.0))
                except FutureTimeoutError:
                    if outcome.done():
                        raise
                    if clock.is_over:
                        raise timed_out(self.who, seconds, "group_timeout") from None
        finally:
            given_up.set()


def _set(limit: asyncio.Timeout, clock: Patience) -> None:
    """Adjust a time limit to a clock that was paused or resumed."""
    if limit.expired():
        return
    left = clock.left
    with suppress(RuntimeError):  # its block has ended
        limit.reschedule(None if left is None else asyncio.get_running_loop().time() + left)


_given_up: ContextVar[threading.Event | None] = ContextVar("given_up", default=None)


class GivenUp(BaseException):
    """Raised in an abandoned answer. It is not an Exception, so that no code on the way handles it as an error."""


class StopWhenGivenUp(BaseCallbackHandler):
    """Stops a model at its next token if its answer was abandoned."""

    raise_error = True
    run_inline = True

    def __init__(self, given_up: threading.Event) -> None:
        self._given_up = given_up

    def on_llm_new_token(self, token: str | list[str | dict[str, Any]], **kwargs: Any) -> None:
        """Raise if the answer was abandoned."""
        if self._given_up.is_set():
            raise GivenUp


def stop_handlers() -> list[BaseCallbackHandler]:
    """Return the callbacks for a model call in a thread that may be abandoned."""
    event = _given_up.get()
    return [StopWhenGivenUp(event)] if event is not None else []


def stop_if_given_up() -> None:
    """Stop here if the answer was abandoned.

    Raises:
        GivenUp: The answer was abandoned.
    """
    event = _given_up.get()
    if event is not None and event.is_set():
        raise GivenUp
