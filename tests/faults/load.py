"""Load through the public API, sync and async at once, that can tell afterwards what was lost or doubled.

A call is acknowledged once it has returned. Each writer writes 0, 1, 2, …; if a call raised an error, it does
what an application does: it sends the same message again (history), resumes the run (graph), or continues with
the next number if a repetition can't be recognised (dicts without an id).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from operator import add
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import StorageError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from ecowas_lc.storage.server import Server
from ecowas_lc.store import RedisStore
from tests.fixtures.servers import wait_until

TURNS_A_THREAD = 25
PATIENCE_SECONDS = 60.0


class Turns(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    turns: Annotated[int, add]


def _answer(state: Turns) -> dict[str, Any]:
    return {"messages": [AIMessage(f"answer to {state['messages'][-1].text}")]}


def _count(state: Turns) -> dict[str, Any]:
    return {"turns": 1}


def build_graph(saver: RedisSaver) -> Any:
    """A graph of two nodes that reveals a repetition: an answer without an id, and a sum."""
    graph = StateGraph(Turns)
    graph.add_node("answer", _answer)
    graph.add_node("count", _count)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", "count")
    graph.add_edge("count", END)
    return graph.compile(checkpointer=saver)


class Writer:
    """One kind of write; ``steps`` are the calls of one turn, which a shell makes or awaits."""

    repeats = True  # whether a failed call may be repeated

    def __init__(self, name: str, server: Server, prefix: str, *, is_async: bool, options: dict[str, Any]) -> None:
        self.name = f"{name}-{'async' if is_async else 'sync'}"
        self.is_async = is_async
        self.acknowledged: list[int] = []
        self.times: list[tuple[float, float]] = []
        self.errors: list[StorageError] = []
        self.foreign: list[BaseException] = []

    def turn(self, n: int, failed: bool) -> Any:
        """A generator of calls: each is yielded as (sync function or coroutine function, arguments)."""
        raise NotImplementedError

    def stored(self) -> Counter[int]:
        """How often each number was found."""
        raise NotImplementedError

    def lost(self) -> list[int]:
        stored = self.stored()
        return [n for n in self.acknowledged if not stored[n]]

    def doubled(self) -> list[int]:
        return [n for n, times in self.stored().items() if times > 1]


class HistoryWriter(Writer):
    def __init__(self, server: Server, prefix: str, *, is_async: bool, options: dict[str, Any]) -> None:
        super().__init__("history", server, prefix, is_async=is_async, options=options)
        self.history = RedisChatMessageHistory("load", self.name, server=server, prefix=prefix)

    def turn(self, n: int, failed: bool) -> Any:
        add = self.history.aadd_messages if self.is_async else self.history.add_messages
        yield add, [HumanMessage(str(n), id=f"m{n}")]

    def stored(self) -> Counter[int]:
        return Counter(int(message.text) for message in self.history.all_messages())


class AppendWriter(Writer):
    repeats = False

    def __init__(self, server: Server, prefix: str, *, is_async: bool, options: dict[str, Any]) -> None:
        super().__init__("append", server, prefix, is_async=is_async, options=options)
        self.memory: Any = (AsyncRedisMemoryService if is_async else RedisMemoryService)(
            server=server, prefix=prefix
        )
        self.reader = RedisMemoryService(server=server, prefix=prefix)

    def turn(self, n: int, failed: bool) -> Any:
        yield self.memory.append_to_history, "load", self.name, {"role": "user", "content": str(n)}

    def stored(self) -> Counter[int]:
        return Counter(int(each["content"]) for each in self.reader.get_conversation_history("load", self.name))


class ValueWriter(AppendWriter):
    """A value that counts up: a write is lost if the value is less than the acknowledged number."""

    def __init__(self, server: Server, prefix: str, *, is_async: bool, options: dict[str, Any]) -> None:
        super().__init__(server, prefix, is_async=is_async, options=options)
        self.name = self.name.replace("append", "value")

    def turn(self, n: int, failed: bool) -> Any:
        yield self.memory.set_session_data, self.name, "n", n
        yield self.memory.save_agent_state, self.name, {"n": n}

    def stored(self) -> Counter[int]:
        data = self.reader.get_session_data(self.name, "n")
        state = (self.reader.get_agent_state(self.name) or {}).get("n")
        held = -1 if data is None or state is None else min(data, state)
        return Counter(range(held + 1))


class GraphWriter(Writer):
    def __init__(self, server: Server, prefix: str, *, is_async: bool, options: dict[str, Any]) -> None:
        super().__init__("graph", server, prefix, is_async=is_async, options=options)
        self.graph = build_graph(RedisSaver(server=server, prefix=prefix, **options))
        self.started = -1

    def config(self, n: int) -> Any:
        return {"configurable": {"thread_id": f"{self.name}-{n // TURNS_A_THREAD}"}}

    def turn(self, n: int, failed: bool) -> Any:
        graph, config = self.graph, self.config(n)
        invoke = graph.ainvoke if self.is_async else graph.invoke
        # Both ways of writing checkpoints: while the next step runs, and before it.
        how = {"durability": "async" if n % 2 else "sync"}
        if failed:
            state = yield (graph.aget_state if self.is_async else graph.get_state), config
            # Not `state.next`: it lacks tasks whose writes are stored, although their step is still to come.
            if state.tasks:
                yield invoke, None, config, how
                return
            if any(message.id == f"q{n}" for message in state.values.get("messages", [])):
                return
        self.started = max(self.started, n)
        yield invoke, {"messages": [HumanMessage(str(n), id=f"q{n}")]}, config, how

    def stored(self) -> Counter[int]:
        found: Counter[int] = Counter()
        for first in range(0, self.started + 1, TURNS_A_THREAD):
            values = self.graph.get_state(self.config(first)).values
            texts = Counter(message.text for message in values.get("messages", []))
            asked = [int(text) for text in texts if text.isdigit()]
            for n in asked:
                # A question without its answer was not acknowledged, or is lost.
                found[n] = max(texts[str(n)], texts[f"answer to {n}"]) if texts[f"answer to {n}"] else 0
            excess = values.get("turns", 0) - len(asked)
            if excess > 0:
                found[asked[-1]] += excess
        return found


class StoreWriter(Writer):
    """Items of a store; an item is also lost if a search misses it, or still finds it after its deletion."""

    def __init__(self, server: Server, prefix: str, *, is_async: bool, options: dict[str, Any]) -> None:
        super().__init__("store", server, prefix, is_async=is_async, options=options)
        self.store = RedisStore(server=server, prefix=prefix, index={"embed": None, "fields": ["text"]})
        self.stale: list[int] = []

    def turn(self, n: int, failed: bool) -> Any:
        put, delete, search = self.store.put, self.store.delete, self.store.search
        if self.is_async:
            put, delete, search = self.store.aput, self.store.adelete, self.store.asearch  # type: ignore[assignment]
        space = (self.name, f"part{n % 3}")
        yield put, space, str(n), {"text": f"number{n}"}
        if str(n) not in {item.key for item in (yield partial(search, query=f"number{n}"), (self.name,))}:
            self.stale.append(n)
        yield put, space, "short-lived", {"text": f"gone{n}"}
        yield delete, space, "short-lived"
        if (yield partial(search, query=f"gone{n}"), space):
            self.stale.append(n)

    def stored(self) -> Counter[int]:
        found = self.store.search((self.name,), limit=100_000)
        return Counter(int(item.key) for item in found if item.key != "short-lived")

    def lost(self) -> list[int]:
        return [*super().lost(), *self.stale]


KINDS = (HistoryWriter, AppendWriter, ValueWriter, GraphWriter, StoreWriter)


@dataclass
class Outcome:
    """A row of the table."""

    fault: str
    acknowledged: int
    lost: int
    doubled: int
    failed: int
    recovery_seconds: float | None
    details: dict[str, list[int]]

    def assert_nothing_lost(self) -> None:
        assert self.acknowledged > 0
        assert (self.lost, self.doubled) == (0, 0), self


@dataclass
class Load:
    """Writers of every kind at work on one server, each kind sync in a thread and async in a common event loop."""

    server: Server
    prefix: str
    options: dict[str, Any] = field(default_factory=dict)
    kinds: tuple[Any, ...] = KINDS
    pause_seconds: float = 0.002

    def __post_init__(self) -> None:
        self.writers: list[Writer] = [
            kind(self.server, self.prefix, is_async=is_async, options=self.options)
            for kind in self.kinds
            for is_async in (False, True)
        ]
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._fault_at: float | None = None

    def __enter__(self) -> Load:
        for writer in self.writers:
            if not writer.is_async:
                self._threads.append(threading.Thread(target=self._drive, args=(writer,), daemon=True))
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._adrive_all()), daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads), "a call did not end"

    def run_for(self, seconds: float) -> None:
        """Let the writers work for a while, every one of them with success at least once."""
        end = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= end or self._broken(), "time passes", seconds + 5)
        before = {writer.name: len(writer.acknowledged) for writer in self.writers}
        wait_until(
            lambda: all(len(w.acknowledged) > before[w.name] for w in self.writers) or self._broken(),
            f"every writer has a call acknowledged: {self.latest_errors()}",
            PATIENCE_SECONDS,
        )
        self._assert_unbroken()

    def fault(self) -> None:
        """From here the time to recover is counted."""
        self._fault_at = time.monotonic()

    def recovered(self, writer: Writer) -> float | None:
        """When the first call that began after the fault was acknowledged, in seconds after it."""
        assert self._fault_at is not None
        ends = [end for began, end in list(writer.times) if began >= self._fault_at]
        return min(ends) - self._fault_at if ends else None

    def wait_for_recovery(self) -> None:
        """Wait until every writer has had a call acknowledged that began after the fault."""
        wait_until(
            lambda: all(self.recovered(writer) is not None for writer in self.writers) or self._broken(),
            f"every writer goes on after the fault: {self.latest_errors()}",
            PATIENCE_SECONDS,
        )
        self._assert_unbroken()

    def wait_for_errors(self, count: int = 1) -> None:
        """Wait until the fault has been felt."""
        before = {writer.name: len(writer.errors) for writer in self.writers}
        wait_until(
            lambda: all(len(w.errors) >= before[w.name] + count for w in self.writers) or self._broken(),
            "every writer has felt the fault",
            PATIENCE_SECONDS,
        )
        self._assert_unbroken()

    def latest_errors(self) -> dict[str, str]:
        return {writer.name: repr(writer.errors[-1]) for writer in self.writers if writer.errors}

    @property
    def errors(self) -> list[StorageError]:
        return [error for writer in self.writers for error in writer.errors]

    def stored(self) -> dict[str, Counter[int]]:
        """What every writer finds of its own writes."""
        return {writer.name: writer.stored() for writer in self.writers}

    def outcome(self, fault: str) -> Outcome:
        """Read everything back and count; the writers have stopped."""
        self._assert_unbroken()
        times = [self.recovered(writer) for writer in self.writers] if self._fault_at else []
        return Outcome(
            fault,
            sum(len(writer.acknowledged) for writer in self.writers),
            sum(len(writer.lost()) for writer in self.writers),
            sum(len(writer.doubled()) for writer in self.writers),
            len(self.errors),
            max((seconds for seconds in times if seconds is not None), default=None),
            {w.name: w.lost() + w.doubled() for w in self.writers if w.lost() or w.doubled()},
        )

    def _broken(self) -> bool:
        return any(writer.foreign for writer in self.writers)

    def _assert_unbroken(self) -> None:
        for writer in self.writers:
            if writer.foreign:
                raise AssertionError(f"{writer.name} met an error that is not ours") from writer.foreign[0]

    def _drive(self, writer: Writer) -> None:
        n, failed = 0, False
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                turn, value = writer.turn(n, failed), None
                try:
                    while True:
                        value = _made(turn.send(value))
                except StopIteration:
                    pass
            except StorageError as error:
                n, failed = self._failed(writer, error, n)
                self._stopping.wait(0.02)
            except BaseException as error:  # kept for the test to raise
                writer.foreign.append(error)
                return
            else:
                n, failed = self._succeeded(writer, began, n)
                self._stopping.wait(self.pause_seconds)

    async def _adrive_all(self) -> None:
        await asyncio.gather(*(self._adrive(writer) for writer in self.writers if writer.is_async))

    async def _adrive(self, writer: Writer) -> None:
        n, failed = 0, False
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                turn, value = writer.turn(n, failed), None
                try:
                    while True:
                        value = await _made(turn.send(value))
                except StopIteration:
                    pass
            except StorageError as error:
                n, failed = self._failed(writer, error, n)
                await asyncio.sleep(0.02)
            except BaseException as error:  # kept for the test to raise
                writer.foreign.append(error)
                return
            else:
                n, failed = self._succeeded(writer, began, n)
                await asyncio.sleep(self.pause_seconds)

    @staticmethod
    def _failed(writer: Writer, error: StorageError, n: int) -> tuple[int, bool]:
        writer.errors.append(error)
        return (n, True) if writer.repeats else (n + 1, False)

    @staticmethod
    def _succeeded(writer: Writer, began: float, n: int) -> tuple[int, bool]:
        writer.acknowledged.append(n)
        writer.times.append((began, time.monotonic()))
        return n + 1, False


def _made(step: tuple[Any, ...]) -> Any:
    function, *arguments = step
    keywords = (
        arguments.pop() if arguments and isinstance(arguments[-1], dict) and "durability" in arguments[-1] else {}
    )
    return function(*arguments, **keywords)
