"""Garbage, truncated and foreign bytes at every key of ours: a named error or a right answer, and nothing else."""

from __future__ import annotations

import contextlib
import random
import struct
import traceback

import ormsgpack
import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.errors import CorruptDataError, EcowasError, StorageError, TypeNotAllowedError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import RedisMemoryService
from tests.faults.load import build_graph

pytestmark = pytest.mark.rights("+scan")  # for reindex
CONFIG = {"configurable": {"thread_id": "t"}}
DIGEST = b"d" * 16


def corruptions(value: bytes, dice: random.Random, rounds: int) -> list[bytes]:
    """What might stand in the place of ``value``."""
    found = [
        b"",
        b"\xff" * len(value),
        value[: len(value) // 2],
        value[:-1],
        value + b"\x00",
        b"[" * 100_000,
        b'{"role": 7}',
        "\ud800".encode("utf-8", "surrogatepass"),
        b"\x00\x00" + b"\x91" * 5000 + b"\xc0",
        b"p\x00\x00\xc7\x05\x02\x92\xa3int\x01",
    ]
    for _ in range(rounds):
        copy = bytearray(value)
        for _ in range(dice.randint(1, 4)):
            if copy:
                copy[dice.randrange(len(copy))] = dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])
        found.append(bytes(copy))
    return found


def is_of_the_graph(error: BaseException) -> bool:
    """Whether the state could be read, being in the format yet, and the graph could not work with its values."""
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return "langgraph" in frames[-1] and not any("ecowas_lc" in name for name in frames)


class Everything:
    """One of each thing that is stored, and calls that read or extend it."""

    def __init__(self, server, prefix):
        self.saver = RedisSaver(server=server, prefix=prefix)
        self.graph = build_graph(self.saver)
        self.memory = RedisMemoryService(server=server, prefix=prefix)
        self.history = RedisChatMessageHistory("a", "s", server=server, prefix=prefix)
        self._server, self._prefix = server, prefix

    def write(self):
        for n in range(2):
            self.graph.invoke({"messages": [HumanMessage("x" * 300, id=f"q{n}")]}, CONFIG)
        last = self.graph.get_state(CONFIG).config
        self.saver.put_writes(last, [("messages", [HumanMessage("y" * 2000)])], "task")
        self.history.add_messages([HumanMessage("?", id="1"), HumanMessage("!", id="2")])
        self.memory.save_agent_state("a", {"n": 1})
        self.memory.set_session_data("s", "k", [1])

    def calls(self):
        # A saver of its own each time: what another process would do that has seen nothing yet.
        saver = RedisSaver(server=self._server, prefix=self._prefix)
        graph = build_graph(saver)
        return [
            lambda: graph.get_state(CONFIG),
            lambda: list(saver.list(CONFIG)),
            lambda: list(saver.list(None, filter={"source": "loop"})),
            lambda: saver.prune(["t"], strategy="keep_latest"),
            lambda: saver.get_delta_channel_history(config=CONFIG, channels=["messages"]),
            lambda: graph.invoke({"messages": [HumanMessage("z", id="z")]}, CONFIG),
            lambda: self.history.messages,
            lambda: self.history.all_messages(),
            lambda: self.history.add_messages([HumanMessage("new", id="new")]),
            lambda: self.memory.get_conversation_history("a", "s"),
            lambda: self.memory.append_to_history("a", "s", {"role": "user", "content": "w"}, max_history=2),
            lambda: self.memory.get_session_infos(),
            lambda: self.memory.get_agent_state("a"),
            lambda: self.memory.get_all_session_data("s"),
            lambda: self.memory.get_all_sessions_for_agent("a"),
            lambda: self.memory.get_all_agents_for_session("s"),
            lambda: self.memory.get_all_agents(),
            lambda: self.memory.get_memory_stats(),
            lambda: list(self.memory.export_jsonl()),
            lambda: self.memory.extend_ttl("a", "s"),
            lambda: self.memory.reindex(),
            lambda: self.memory.clear_session("s"),
            lambda: self.memory.clear_all_agent_data("a"),
        ]

    def try_all(self, what):
        for call in self.calls():
            try:
                call()
            except EcowasError:
                pass
            except Exception as error:
                if is_of_the_graph(error):
                    continue
                raise AssertionError(f"{what}: an error that is not ours") from error


def places(raw, key):
    """Every value inside a key: its bytes, and a function that puts others there."""
    kind = raw.type(key)
    if kind == b"string":
        yield "value", raw.get(key), lambda new: raw.set(key, new)
    elif kind == b"list":
        for index, value in enumerate(raw.lrange(key, 0, -1)):
            yield f"[{index}]", value, lambda new, index=index: raw.lset(key, index, new)
    elif kind == b"hash":
        for field, value in raw.hgetall(key).items():
            yield repr(field), value, lambda new, field=field: raw.hset(key, field, new)
    else:
        for member, score in raw.zrange(key, 0, -1, withscores=True):

            def replace(new, member=member, score=score):
                raw.zrem(key, member)
                raw.zadd(key, {new: score})

            yield f"member {member!r}", member, replace


@pytest.mark.timeout(1800)
def test_garbage_at_every_key(redis_server, connect, prefix, is_long):
    """Whatever bytes stand in whatever place of ours, every call answers or raises an error of ours."""
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    dice = random.Random(7)
    with redis_server.client() as raw:
        dumped = {key: raw.dump(key) for key in raw.scan_iter(f"{prefix}:*")}
        assert len(dumped) >= 10
        tried = 0
        for key in dumped:
            for name, value, replace in list(places(raw, key)):
                tries = corruptions(value, dice, 40 if is_long else 2)
                for bad in tries if is_long else dice.sample(tries, 1):
                    replace(bad)
                    everything.try_all(f"{key!r} {name} = {bad[:80]!r}")
                    tried += 1
                    for other in raw.scan_iter(f"{prefix}:*"):
                        raw.delete(other)
                    for other, dump in dumped.items():
                        raw.restore(other, 0, dump, replace=True)
        assert tried >= 50


@pytest.mark.parametrize("kind", ["string", "list", "hash", "set", "zset", "stream"])
def test_foreign_types_at_every_key(redis_server, connect, prefix, kind):
    """Another program's data at a key of ours is an error of ours, and is left as it was."""
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    makers = {
        "string": lambda raw, key: raw.set(key, "theirs"),
        "list": lambda raw, key: raw.rpush(key, "theirs"),
        "hash": lambda raw, key: raw.hset(key, "theirs", 1),
        "set": lambda raw, key: raw.sadd(key, "theirs"),
        "zset": lambda raw, key: raw.zadd(key, {"theirs": 1}),
        "stream": lambda raw, key: raw.xadd(key, {"theirs": 1}),
    }
    with redis_server.client() as raw:
        dumped = {key: raw.dump(key) for key in raw.scan_iter(f"{prefix}:*")}
        for key in dumped:
            if raw.type(key).decode() == kind:
                continue
            raw.delete(key)
            makers[kind](raw, key)
            theirs = raw.dump(key)
            for call in everything.calls()[:-2]:
                try:
                    call()
                except EcowasError:
                    pass
                except Exception as error:
                    raise AssertionError(f"{key!r} as a {kind}: an error that is not ours") from error
                assert raw.dump(key) == theirs or (b":history:" in key and kind == "string"), (key, kind)
            for other, dump in dumped.items():
                raw.restore(other, 0, dump, replace=True)


BOMBS = {
    "nested arrays": b"\x91" * 100_000 + b"\xc0",
    "nested maps": b"\x81\xa1a" * 100_000 + b"\xc0",
    "an array of four milliards": b"\xdd\xff\xff\xff\xff",
    "a map of four milliards": b"\xdf\xff\xff\xff\xff",
    "text of four milliards": b"\xdb\xff\xff\xff\xffa",
    "binary of four milliards": b"\xc6\xff\xff\xff\xffa",
    "an extension of four milliards": b"\xc9\xff\xff\xff\xff\x02a",
    "an array of numpy's size": b"\xc7\x3f\x02" + ormsgpack.packb(["ndarray", ["<f8", [2**40], "C", b"", False]]),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name):
    """A few bytes that claim to be gigabytes, or nest without end, are refused before anything is made of them."""
    with pytest.raises(CorruptDataError):
        Serializer().load(b"\x00\x00" + BOMBS[name])


def test_nested_objects_are_bounded():
    """Extensions within extensions, each a level of its own, end in a named error and no crash."""
    payload = b"\xc0"
    for _ in range(20_000):
        body = b"\x92\xa5tuple\x91" + payload
        payload = b"\xc9" + struct.pack(">I", len(body)) + b"\x02" + body
        if len(payload) > 200_000:
            break
    with pytest.raises(CorruptDataError):
        Serializer().load(b"\x00\x00" + payload)


@pytest.mark.parametrize(
    "target", ["os:system", "subprocess:Popen", "builtins:eval", "pathlib:Path", "antigravity:x"]
)
def test_classes_outside_the_allowlist_are_not_imported(target):
    """A stored payload that names a callable or class that is not allowed is refused, its module not imported."""
    import sys

    sys.modules.pop("antigravity", None)
    body = ormsgpack.packb([target, ["touch /tmp/never"]])
    with pytest.raises((TypeNotAllowedError, CorruptDataError)):
        Serializer().load(b"\x00\x00\xc7" + bytes([len(body)]) + b"\x02" + body)
    assert "antigravity" not in sys.modules


def test_a_thread_with_a_newer_format_is_left_alone(redis_server, connect, prefix):
    """A thread that a newer version wrote is an error that says so, and is not written to."""
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    with redis_server.client() as raw:
        [key] = [key for key in raw.scan_iter(f"{prefix}:checkpoint:*") if raw.hexists(key, "format")]
        raw.hset(key, "format", "99")
        before = raw.dump(key)
        for call in everything.calls()[:6]:
            with pytest.raises(StorageError):
                call()
        assert raw.dump(key) == before


def test_a_row_that_the_scripts_choke_on(redis_server, connect, prefix):
    """What a server-side script can't read is corrupt data by name, as what this process can't read is."""
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    with redis_server.client() as raw:
        [key] = [key for key in raw.scan_iter(f"{prefix}:checkpoint:*") if raw.hexists(key, "format")]
        for field in raw.hkeys(key):
            if field.startswith(b"c"):
                raw.hset(key, field, b"\x00")
    with pytest.raises(CorruptDataError):
        everything.saver.get_tuple(CONFIG)


def test_claims_that_would_take_for_ever(redis_server, connect, prefix):
    """A list that claims milliards of items, and checkpoints that link in a ring, take no time."""
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    saver = everything.saver
    with redis_server.client() as raw:
        [key] = [key for key in raw.scan_iter(f"{prefix}:checkpoint:*") if raw.hexists(key, "format")]
        for field, value in raw.hgetall(key).items():
            if field.startswith(b"v") and value.startswith(b"l"):
                raw.hset(key, field, value[:2] + struct.pack(">II", 0, 2**32 - 1))
        for call in everything.calls():
            with contextlib.suppress(CorruptDataError):
                call()
        saver.delete_thread("t")
        everything.write()
        newest, *_, oldest = [found.config["configurable"]["checkpoint_id"] for found in saver.list(CONFIG)]
        row = raw.hget(key, b"c\0" + oldest.encode())
        link = int.from_bytes(row[:2], "big")
        rest = row[2:] if link == 0xFFFF else row[2 + link :]
        raw.hset(key, b"c\0" + oldest.encode(), len(newest).to_bytes(2, "big") + newest.encode() + rest)
        calls = everything.calls()
        calls.append(lambda: next(iter(saver.list(CONFIG, before={"configurable": {"checkpoint_id": "0"}})), None))
        for call in calls:
            with contextlib.suppress(CorruptDataError):
                call()
