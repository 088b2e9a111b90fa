"""Broken connections, restarts, other programs' data and writers at the same time."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ecowas_lc.errors import CorruptDataError, NotReplicatedError, RedisUnavailableError, WrongTypeError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, ImportReport, RedisMemoryService
from ecowas_lc.memory.backup import Importer
from ecowas_lc.storage.backup_format import Lines
from ecowas_lc.storage.ops import writes
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import running_server

MESSAGE = {"role": "user", "content": "x"}


@pytest.fixture
def memory(server, prefix):
    with RedisMemoryService(url=server.url, prefix=prefix) as service:
        yield service


@pytest.fixture
def raw(server):
    with server.client() as client:
        yield client


def numbered(number):
    return {"role": "user", "content": str(number)}


def test_a_cut_connection_does_not_duplicate(server, prefix):
    """An append whose reply is lost is sent again and stored once; a later equal one is another message."""
    with running_proxy(server.port) as proxy, RedisMemoryService(port=proxy.port, prefix=prefix) as memory:
        memory.append_to_history("energy", "s", numbered(0))
        for number in range(1, 4):
            proxy.cut_next("reply", 0)
            assert memory.append_to_history("energy", "s", numbered(number)) == number + 1
        assert proxy.cuts == 3
        memory.append_to_history("energy", "s", numbered(3))
        assert [m["content"] for m in memory.get_conversation_history("energy", "s")] == list("01233")


@pytest.mark.parametrize("identity", [{}, {"id": "0"}])
def test_a_cut_connection_does_not_undo_others(server, prefix, identity):
    """A save whose reply is lost is done once: another client's append before the repetition stays."""
    with running_proxy(server.port) as proxy, RedisMemoryService(port=proxy.port, prefix=prefix) as memory:
        program = memory._programs.save_op("energy", "s", [numbered(0) | identity], None)
        batch = next(program)
        memory.server.run(_once(batch))
        memory.append_to_history("energy", "s", numbered(1))
        memory.server.run(_once(batch))
        assert [m["content"] for m in memory.get_conversation_history("energy", "s")] == ["0", "1"]


@pytest.mark.parametrize("kind", ["history", "state", "session-data"])
def test_a_cut_connection_does_not_change_the_report(memory, kind):
    """A record that an import sends again after a lost reply counts as written, not as already present."""
    ids = {"agent": "energy", "session": "s", "key": "k"}
    record = {"type": kind, **ids, "ttl_seconds": 100, "value": 1, "messages": [{**MESSAGE, "id": "1"}]}
    importer = Importer(memory._programs.sessions, overwrite=False)
    memory.server.run(_with_writes_sent_twice(importer.record_op(record, Lines())))
    assert importer.report == ImportReport(written=1)
    memory.server.run(importer.record_op(record, Lines()))
    assert importer.report == ImportReport(written=1, unchanged=1)


def _with_writes_sent_twice(program):
    batch = next(program)
    try:
        while True:
            replies = yield batch
            if writes(batch):
                replies = yield batch
            batch = program.send(replies)
    except StopIteration:
        pass


def _once(batch):
    yield batch


async def test_a_cut_connection_does_not_duplicate_async(server, prefix):
    """In asyncio, an append whose reply is lost is sent again and stored once, too."""
    with running_proxy(server.port) as proxy:
        async with AsyncRedisMemoryService(port=proxy.port, prefix=prefix) as memory:
            await memory.append_to_history("energy", "s", numbered(0))
            proxy.cut_next("reply", 0)
            assert await memory.append_to_history("energy", "s", numbered(1)) == 2
            assert proxy.cuts == 1


def test_a_write_that_replicas_lack_may_be_repeated(server, prefix):
    """A message with an id is stored once, as the error says; the call that finds it stored waits, too."""
    with RedisMemoryService(url=f"{server.url}?wait_replicas=1", prefix=prefix, socket_timeout=0.4) as memory:
        for _ in range(2):
            with pytest.raises(NotReplicatedError, match=r"0 of 1 replicas.*but a message without an id"):
                memory.append_to_history("energy", "s", {**MESSAGE, "id": "1"})
        assert memory.get_conversation_history("energy", "s") == [{**MESSAGE, "id": "1"}]


def test_a_server_that_forgot_its_scripts(memory, raw):
    """After SCRIPT FLUSH (or a failover) everything works, singly and in a batch."""
    memory.append_to_history("energy", "s", MESSAGE)
    raw.script_flush()
    memory.append_to_history("energy", "s", MESSAGE)
    raw.script_flush()
    memory.append_to_history("energy", "t", MESSAGE)
    assert len(memory.get_conversation_history("energy", "s")) == 2
    assert set(memory.get_all_sessions_for_agent("energy")) == {"s", "t"}


def test_a_restart_is_survived(prefix):
    """A service continues with a restarted server, and indexes what it writes there."""
    with running_server("redis") as server, RedisMemoryService(port=server.port, prefix=prefix) as memory:
        memory.append_to_history("energy", "s", MESSAGE)
        server.kill()
        with pytest.raises(RedisUnavailableError) as caught:
            memory.append_to_history("energy", "s", MESSAGE)
        assert f"127.0.0.1:{server.port}" in str(caught.value) or f"localhost:{server.port}" in str(caught.value)
        server.start()
        assert memory.append_to_history("energy", "s", MESSAGE) == 1
        assert memory.get_all_sessions_for_agent("energy") == ["s"]


def test_eight_threads_lose_nothing(memory):
    """Fifty appends by each of eight threads are all there, each thread's in its order."""

    def write(thread):
        for number in range(50):
            memory.append_to_history("energy", "s", {"role": "user", "content": f"{thread}-{number}"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    contents = [m["content"] for m in memory.get_conversation_history("energy", "s")]
    assert len(contents) == 400
    for thread in range(8):
        assert [c for c in contents if c.startswith(f"{thread}-")] == [f"{thread}-{n}" for n in range(50)]


def test_eight_threads_trim_to_the_same_length(memory):
    """Concurrent appends that each trim leave exactly the newest messages."""

    def write(thread):
        for number in range(25):
            memory.append_to_history("energy", "s", numbered(thread * 100 + number), max_history=10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(memory.get_conversation_history("energy", "s")) == 10


async def test_many_tasks_lose_nothing(server, prefix):
    """Two hundred appends at the same time on one event loop are all there."""
    async with AsyncRedisMemoryService(url=server.url, prefix=prefix) as memory:
        await asyncio.gather(*(memory.append_to_history("energy", "s", numbered(n)) for n in range(200)))
        contents = {m["content"] for m in await memory.get_conversation_history("energy", "s")}
        assert contents == {str(n) for n in range(200)}


def test_foreign_types_are_named_and_left(memory, raw, prefix):
    """Another program's data at one of our keys is a ``WrongTypeError`` naming the key, and is unchanged."""
    history, state, data = (f"{prefix}:{rest}" for rest in ("history:énergie:s", "state:énergie", "session:s:k"))
    for key in (history, state, data):
        raw.hset(key, "field", "theirs")
    for key, attempt in (
        (history, lambda: memory.append_to_history("énergie", "s", MESSAGE)),
        (history, lambda: memory.save_conversation_history("énergie", "s", [MESSAGE])),
        (history, lambda: memory.get_conversation_history("énergie", "s")),
        (history, lambda: memory.clear_conversation_history("énergie", "s")),
        (history, lambda: memory.extend_ttl("énergie", "s")),
        (state, lambda: memory.save_agent_state("énergie", {})),
        (state, lambda: memory.get_agent_state("énergie")),
        (data, lambda: memory.set_session_data("s", "k", 1)),
        (data, lambda: memory.get_session_data("s", "k")),
        (data, lambda: memory.get_all_session_data("s")),
        (data, lambda: memory.delete_session_data("s", "k")),
    ):
        with pytest.raises(WrongTypeError, match=key):
            attempt()
        assert raw.hgetall(key) == {b"field": b"theirs"}
    raw.delete(history)
    raw.set(f"{prefix}:history-meta:{{{history}}}", "theirs")
    with pytest.raises(WrongTypeError, match="history-meta"):
        memory.append_to_history("énergie", "s", MESSAGE)
    assert not raw.exists(history)


def test_foreign_data_does_not_stop_a_removal(memory, raw, prefix):
    """Removing all data of an agent, or of a session, skips keys that another program has taken."""
    for session in ("a", "b", "c"):
        memory.append_to_history("energy", session, MESSAGE)
    raw.delete(f"{prefix}:history:energy:b")
    raw.hset(f"{prefix}:history:energy:b", "field", "theirs")
    raw.hset(f"{prefix}:state:energy", "field", "theirs")
    assert memory.clear_all_agent_data("energy") == 2
    for name in ("k", "l"):
        memory.set_session_data("s", name, 1)
    raw.delete(f"{prefix}:session:s:k")
    raw.hset(f"{prefix}:session:s:k", "field", "theirs")
    assert memory.clear_session("s") == 1
    for key in ("history:energy:b", "state:energy", "session:s:k"):
        assert raw.hgetall(f"{prefix}:{key}") == {b"field": b"theirs"}


def test_corrupt_data_is_named(memory, raw, prefix):
    """Data that this package did not write is a ``CorruptDataError`` that names the key."""
    raw.set(f"{prefix}:state:energy", "{nonsense")
    raw.set(f"{prefix}:session:s:k", b"\xff\xfe")
    raw.rpush(f"{prefix}:history:energy:s", "{nonsense")
    raw.rpush(f"{prefix}:history:energy:t", "[1]")
    raw.set(f"{prefix}:history:energy:u", '{"role": "user"}')
    raw.set(f"{prefix}:history:energy:v", "[1]")
    for key, attempt in (
        ("state:energy", lambda: memory.get_agent_state("energy")),
        ("session:s:k", lambda: memory.get_session_data("s", "k")),
        ("history:energy:s", lambda: memory.get_conversation_history("energy", "s")),
        ("history:energy:t", lambda: memory.get_conversation_history("energy", "t")),
        ("history:energy:u", lambda: memory.get_conversation_history("energy", "u")),
        ("history:energy:u", lambda: memory.append_to_history("energy", "u", MESSAGE)),
        ("history:energy:v", lambda: memory.append_to_history("energy", "v", MESSAGE)),
    ):
        with pytest.raises(CorruptDataError, match=f"{prefix}:{key}"):
            attempt()
    assert raw.get(f"{prefix}:history:energy:u") == b'{"role": "user"}'


def test_corrupt_messages_are_named_by_their_position(memory, raw, prefix):
    """Positions count from the beginning if the whole is read, or from the end, as ``LSET`` accepts both."""
    key = f"{prefix}:history:energy:s"
    good, history = (
        json.dumps(MESSAGE),
        RedisChatMessageHistory("energy", "s", server=memory.server, prefix=prefix),
    )
    window = RedisChatMessageHistory("energy", "s", server=memory.server, prefix=prefix, max_messages=4)
    for bad in ("{nonsense", "[1]", '{"role": "user"}'):
        raw.rpush(key, *[good] * 50, bad, good)
        attempts = [(lambda: history.messages, 50), (lambda: window.messages, -2)]
        if bad != '{"role": "user"}':  # which the service returns unchanged
            attempts += [
                (lambda: memory.get_conversation_history("energy", "s"), 50),
                (lambda: memory.get_conversation_history("energy", "s", last=3), -2),
            ]
        for attempt, position in attempts:
            with pytest.raises(CorruptDataError, match=f"at position {position} "):
                attempt()
        raw.delete(key)


LEGACY = [
    {"role": "user", "content": "é ü", "n": 1.0, "empty": [], "none": {}, "big": 2**70},
    {"role": "assistant", "content": "fine"},
]


@pytest.fixture
def legacy(raw, prefix):
    raw.set(f"{prefix}:history:energy:old", json.dumps(LEGACY), ex=5000)


def test_the_older_format_is_read(memory, legacy):
    """A history in the previous system's format, one JSON text, is read unchanged, whole or its end."""
    assert memory.get_conversation_history("energy", "old") == LEGACY
    assert memory.get_conversation_history("energy", "old", last=1) == LEGACY[1:]
    info = memory.get_session_info("energy", "old")
    assert (info.messages, info.first_activity) == (2, None)
    assert memory.extend_ttl("energy", "old", 6000) is True
    assert memory.clear_conversation_history("energy", "old") is True


@pytest.mark.usefixtures("legacy")
def test_the_older_format_is_converted_by_the_first_write(memory, raw, prefix):
    """The first append turns it into a list, value for value, and keeps its longer time to live."""
    memory2 = RedisMemoryService(server=memory.server, prefix=prefix, default_ttl=10)
    assert memory2.append_to_history("energy", "old", MESSAGE) == 3
    assert memory.get_conversation_history("energy", "old") == [*LEGACY, MESSAGE]
    assert raw.type(f"{prefix}:history:energy:old") == b"list"
    assert 4990 < memory.get_session_info("energy", "old").ttl_seconds <= 5000
    assert memory.get_all_sessions_for_agent("energy") == ["old"]


@pytest.mark.usefixtures("legacy")
@pytest.mark.parametrize("write", ["append", "append to one known", "extend"])
def test_the_indexes_know_the_older_format_for_as_long_as_it_lives(memory, raw, prefix, write):
    """If its expiry was extended beyond ours, its session is listed until it expires."""
    brief = RedisMemoryService(server=memory.server, prefix=prefix, default_ttl=10)
    if write == "append to one known":
        brief.append_to_history("energy", "old2", MESSAGE)
        raw.set(f"{prefix}:history:energy:old2", json.dumps(LEGACY), ex=5000)
    session = "old2" if write == "append to one known" else "old"
    if write == "extend":
        brief.extend_ttl("energy", session)
    else:
        brief.append_to_history("energy", session, MESSAGE)
    for index, name in (("sessions", session), ("sessions:energy", session), ("agents", "energy")):
        assert raw.zscore(f"{prefix}:index:{index}", name) / 1000 > time.time() + 4990


def test_ids_of_the_older_format_are_known(memory, raw, prefix):
    """Messages that had ids before are not stored again; stored messages are kept, even two with the same id."""
    old = [{**numbered(n), "id": str(n % 1200)} for n in range(1201)]
    raw.set(f"{prefix}:history:energy:old", json.dumps([MESSAGE, *old]))
    assert memory.append_to_history("energy", "old", {**MESSAGE, "id": "7"}) == 1202
    assert memory.append_to_history("energy", "old", {**MESSAGE, "id": "1199"}) == 1202
    assert memory.append_to_history("energy", "old", {**MESSAGE, "id": "1200"}) == 1203
    assert memory.get_conversation_history("energy", "old")[:-1] == [MESSAGE, *old]


@pytest.mark.usefixtures("legacy")
def test_the_older_format_is_converted_once_by_many(memory):
    """Concurrent writers that find the older format lose neither its messages nor their own."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: memory.append_to_history("energy", "old", numbered(n)), range(40)))
    history = memory.get_conversation_history("energy", "old")
    assert history[:2] == LEGACY
    assert {m["content"] for m in history[2:]} == {str(n) for n in range(40)}
    assert len(history) == 42


@pytest.mark.usefixtures("legacy")
def test_the_older_format_is_replaced(memory):
    """Saving over the older format replaces it."""
    memory.save_conversation_history("energy", "old", [MESSAGE])
    assert memory.get_conversation_history("energy", "old") == [MESSAGE]


@pytest.mark.usefixtures("legacy")
@pytest.mark.rights("+scan")
def test_reindex_finds_what_no_index_knows(memory, raw, prefix, caplog):
    """One scan adds other programs' histories, states and data to the indexes; it only reports names that are
    no ids, and types that are never ours.
    """
    memory.append_to_history("energy", "known", MESSAGE)
    raw.rpush(f"{prefix}:history:digital:by-hand", json.dumps(MESSAGE))
    raw.set(f"{prefix}:state:minerals", "{}")
    raw.set(f"{prefix}:session:s:k", "1")
    raw.set(f"{prefix}:history:energy:a:b", "[]")
    for theirs in ("history:energy:theirs", "state:theirs", "session:theirs:k"):
        raw.hset(f"{prefix}:{theirs}", "field", "theirs")
    for number in range(600):
        raw.set(f"{prefix}:other:{number}", "")
    assert memory.get_all_sessions_for_agent("energy") == ["known"]
    assert memory.reindex() == 2
    assert memory.reindex() == 0
    assert set(memory.get_all_sessions_for_agent("energy")) == {"known", "old"}
    assert memory.get_all_sessions_for_agent("digital") == ["by-hand"]
    assert memory.get_all_agents() == ["digital", "energy", "minerals"]
    assert memory.get_all_session_data("s") == {"k": 1}
    assert {info.session_id for info in memory.get_session_infos()} == {"known", "old", "by-hand"}
    for passed_over in ("history:energy:a:b", "history:energy:theirs", "state:theirs", "session:theirs:k"):
        assert f"The key {prefix}:{passed_over} " in caplog.text


def test_what_an_append_costs(server, prefix):
    """An append is one flush and one command; a session's first one updates the indexes in the same flush.
    Reading the last twenty of many transfers only twenty.
    """
    with running_proxy(server.port) as proxy, RedisMemoryService(port=proxy.port, prefix=prefix) as memory:
        memory.health_check()
        proxy.reset_counts()
        memory.append_to_history("energy", "warm", MESSAGE)  # the server may not know the scripts yet
        proxy.reset_counts()
        memory.append_to_history("energy", "s", MESSAGE)
        assert proxy.flushes == 1
        proxy.reset_counts()
        with server.client() as raw:
            before = raw.info("commandstats")
            for _ in range(100):
                memory.append_to_history("energy", "s", MESSAGE, max_history=1000)
            after = raw.info("commandstats")
        assert proxy.flushes == 100
        calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
        assert calls["cmdstat_evalsha"] == 100
        assert not {"cmdstat_keys", "cmdstat_scan"} & {name for name, count in calls.items() if count}
        early = proxy.sent
        memory.save_conversation_history("energy", "s", [numbered(n) for n in range(5000)])
        proxy.reset_counts()
        for _ in range(100):
            memory.append_to_history("energy", "s", MESSAGE)
        assert proxy.sent < early * 1.05
        proxy.reset_counts()
        assert len(memory.get_conversation_history("energy", "s", last=20)) == 20
        assert (proxy.flushes, proxy.received < 20 * 60) == (1, True)
