"""Garbage, truncated and foreign bytes at every key of ours: a named error or a right answer, and nothing else."""

from __future__ import annotations

import contextlib
import inspect
import json
import random
import struct
import subprocess
import sys
import traceback
import warnings

import ormsgpack
import pytest
from langchain_core.messages import BaseMessage, HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.errors import (
    CorruptDataError,
    EcowasError,
    IncompleteWarning,
    InvalidInputError,
    StorageError,
    TypeNotAllowedError,
)
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.memory.histories import CLEARED
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import call, command
from tests.faults.load import build_graph

pytestmark = [
    pytest.mark.rights("+scan"),  # for reindex
    # Listings and exports leave unreadable data out, with this warning.
    pytest.mark.filterwarnings("ignore::ecowas_lc.errors.IncompleteWarning"),
]
CONFIG = {"configurable": {"thread_id": "t"}}
OF_THE_SERVICE = {"access_keys", "access_people", "analytics", "audit", "login", "open_runs"} | {
    "run_events", "run_lease", "runs_of_session", "served_run", "session_of_run", "stored_runs"
}  # fmt: skip  # stored by ``ecowas-lc serve``: damaged in tests/web/test_corrupt_data.py
IDS = {"agent_id": "a", "session_id": "s", "key": "k", "thread_id": "t", "run_id": "r"}
DIGEST = b"d" * 16


def corruptions(value: bytes, dice: random.Random, rounds: int) -> list[bytes]:
    """The values that could replace ``value``."""
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
            run = {"configurable": {"thread_id": "t", "run_id": "r" * (n + 1)}}
            self.graph.invoke({"messages": [HumanMessage("x" * 300, id=f"q{n}")]}, run)
        last = self.graph.get_state(CONFIG).config
        self.saver.put_writes(last, [("messages", [HumanMessage("y" * 2000)])], "task")
        self.history.add_messages([HumanMessage("?", id="1"), HumanMessage("!", id="2")])
        self.memory.save_agent_state("a", {"n": 1})
        self.memory.set_session_data("s", "k", [1])
        keys = self.memory._programs.keys

        def marks():
            yield (call(CLEARED, (keys.cleared_agent("a"),), "mark"),)
            yield (call(CLEARED, (keys.cleared_session("s"),), "mark"),)
            yield (command("HSET", keys.whole(), "sessions:run", 1, "threads:run", 1),)
            yield (command("ZADD", keys.collections(), 1, b"store"),)

        self._server.run(marks())

    def calls(self):
        # A new saver each time: the behaviour of another process that has not read anything yet.
        saver = RedisSaver(server=self._server, prefix=self._prefix)
        graph = build_graph(saver)
        return [
            lambda: graph.get_state(CONFIG),
            lambda: list(saver.list(CONFIG)),
            lambda: list(saver.list(None, filter={"source": "loop"})),
            lambda: saver.copy_thread("t", "copy"),
            lambda: list(saver.export_jsonl()),
            lambda: (saver.ttl("t"), saver.touch("t"), saver.pin("t"), saver.unpin("t")),
            lambda: saver.prune(["t"], strategy="keep_latest"),
            lambda: saver.get_delta_channel_history(config=CONFIG, channels=["messages"]),
            lambda: graph.invoke({"messages": [HumanMessage("z", id="z")]}, CONFIG),
            lambda: self.history.messages,
            self.history.all_messages,
            lambda: self.history.add_messages([HumanMessage("new", id="new")]),
            lambda: self.history.add_messages([HumanMessage("held", id="held")], ages=[0]),
            lambda: self.history.add_messages([HumanMessage("older", id="older")], ages=[60]),
            lambda: self.memory.get_conversation_history("a", "s"),
            lambda: self.memory.append_to_history("a", "s", {"role": "user", "content": "w"}, max_history=2),
            self.memory.get_session_infos,
            lambda: self.memory.get_agent_state("a"),
            lambda: self.memory.get_all_session_data("s"),
            lambda: self.memory.get_all_sessions_for_agent("a"),
            lambda: self.memory.get_all_agents_for_session("s"),
            self.memory.get_all_agents,
            self.memory.get_memory_stats,
            lambda: list(self.memory.export_jsonl()),
            lambda: self.memory.extend_ttl("a", "s"),
            self.memory.reindex,
            lambda: saver.delete_for_runs(["r", "other"]),
            lambda: self.memory.clear_session("s"),
            lambda: self.memory.clear_all_agent_data("a"),
        ]

    def try_all(self, what):
        for attempt in self.calls():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", IncompleteWarning)
                    attempt()
            except EcowasError:
                pass
            except Exception as error:
                if is_of_the_graph(error):
                    continue
                raise AssertionError(f"{what}: an error that is not ours") from error


def key_kinds(prefix):
    """A key of every kind that there is, by its name in the schema."""
    keys, found = Keys(prefix), {}
    for name, make in inspect.getmembers(Keys, inspect.isfunction):
        wanted = [each for each in inspect.signature(make).parameters if each != "self"]
        if not name.startswith("_") and name not in OF_THE_SERVICE | {
            "companion"
        }:  # which is history_meta, from the history's key
            found[name] = make(keys, *(IDS[each] for each in wanted))
    return found


def families(raw, key):
    """A place of each kind inside a key: of a thread's fields one of each that begins with the same letter."""
    found = {}
    for name, value, replace in places(raw, key):
        found.setdefault((name[:3], value[:1] if name[:3] == "b'v" else b""), (name, value, replace))
    return found.values()


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
    """Whatever bytes are stored in any place, every call returns or raises an error of ours."""
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


def test_every_kind_of_key_is_there(redis_server, connect, prefix):
    """These tests damage a key of every kind in the schema."""
    Everything(connect(redis_server.url), prefix).write()
    with redis_server.client() as raw:
        assert set(key_kinds(prefix).values()) <= set(raw.scan_iter(f"{prefix}:*"))
        fields = {field[:1] for field in raw.hgetall(Keys(prefix).thread("t"))}
        assert fields >= {b"f", b"N", b"L", b"c", b"w", b"v", b"e", b"g", b"n", b"r"}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", sorted(key_kinds("p")))
def test_every_corruption_of_every_kind(kind, redis_server, connect, prefix, is_long):
    """In each kind of key, in each position: nothing, garbage, a bomb, and the value cut anywhere."""
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    key = key_kinds(prefix)[kind]
    with redis_server.client() as raw:
        dumped = {each: raw.dump(each) for each in raw.scan_iter(f"{prefix}:*")}
        for name, value, replace in list(families(raw, key)):
            lengths = range(len(value))
            cuts = lengths if is_long else random.Random(name).sample(lengths, min(len(value), 3))
            for bad in [*corruptions(value, random.Random(7), 3), *(value[:cut] for cut in cuts)]:
                replace(bad)
                everything.try_all(f"{key!r} {name} = {bad[:80]!r}")
                for other in raw.scan_iter(f"{prefix}:*"):
                    raw.delete(other)
                for other, dump in dumped.items():
                    raw.restore(other, 0, dump, replace=True)


def test_strange_fields_and_scores(redis_server, connect, prefix):
    """Fields with names that no version writes, and times before and after all times."""
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    with redis_server.client() as raw:
        dumped = {each: raw.dump(each) for each in raw.scan_iter(f"{prefix}:*")}
        for key in dumped:
            kind = raw.type(key)
            for strange in (b"", b"c", b"c\0", b"v\0\0", b"w", b"g\0", b"n", b"e", b"L", b"M", b"\xff" * 9, b"r"):
                if kind == b"hash":
                    raw.hset(key, strange, b"\xff\xff")
                elif kind == b"zset":
                    for score in (float("inf"), float("-inf"), -1e300, 1e300):
                        raw.zadd(key, {strange: score})
                        raw.zadd(key, dict.fromkeys(raw.zrange(key, 0, -1), score))
                else:
                    break
                everything.try_all(f"{key!r} with {strange!r}")
                for other in raw.scan_iter(f"{prefix}:*"):
                    raw.delete(other)
                for other, dump in dumped.items():
                    raw.restore(other, 0, dump, replace=True)


@pytest.mark.parametrize("kind", ["string", "list", "hash", "set", "zset", "stream"])
def test_foreign_types_at_every_key(redis_server, connect, prefix, kind):
    """Another program's data at a key of ours is an error of ours, and is unchanged."""
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
            for call in everything.calls()[:-3]:
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
    """A few bytes that claim to be gigabytes, or nest without end, are refused before anything is allocated."""
    with pytest.raises(CorruptDataError):
        Serializer().load(b"\x00\x00" + BOMBS[name])


def test_bombs_take_no_memory_and_no_time():
    """All of them at once, in a process with little memory and stack left."""
    done = subprocess.run(
        [sys.executable, "-c", WITH_LITTLE], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["CorruptDataError"] * 2 * len(BOMBS)), done.stderr[-800:]


# The address space may grow by 64 MB, and a minute of processor time is the end.
WITH_LITTLE = """
import re, resource
from ecowas_lc.checkpoint.codec.serializer import Serializer
from tests.faults.test_corrupt_data import BOMBS
held = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (held + 64 * 1024 * 1024,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for bomb in BOMBS.values():
    for payload in (bomb, b"\\x91" + bomb):
        try:
            Serializer().load(b"\\0\\0" + payload)
        except Exception as error:
            print(type(error).__name__)
"""


def test_nested_objects_are_bounded():
    """Extensions within extensions, each a separate level, end in a named error, not in a crash."""
    payload = b"\xc0"
    for _ in range(20_000):
        body = b"\x92\xa5tuple\x91" + payload
        payload = b"\xc9" + struct.pack(">I", len(body)) + b"\x02" + body
        if len(payload) > 200_000:
            break
    with pytest.raises(CorruptDataError):
        Serializer().load(b"\x00\x00" + payload)


def deep_objects(levels, arrays, code=2):
    """Extensions within extensions, with arrays in each: msgpack's own limit restarts in each of them."""
    payload = b"\x90"
    for _ in range(levels):
        body = {
            2: b"\x92\xa5tuple" + b"\x91" * arrays + payload,
            3: b"\x93\x00" + b"\x91" * arrays + payload + b"\xc0",
            4: b"\x91\x92\x01" + b"\x91" * arrays + payload,
        }[code]
        payload = b"\xc9" + struct.pack(">IB", len(body), code) + body
    return payload


READ_DEEP = """
import sys, threading
from ecowas_lc.checkpoint.codec.serializer import Serializer
from tests.faults.test_corrupt_data import deep_objects


def read():
    for code in (2, 3, 4):
        try:
            Serializer().load(b"\\0\\0" + deep_objects(int(sys.argv[1]), int(sys.argv[2]), code))
        except Exception as error:
            print(type(error).__name__, flush=True)

read()
reader = threading.Thread(target=read)
reader.start()
reader.join()
"""


@pytest.mark.parametrize(("levels", "arrays"), [(20, 900), (100, 900), (1000, 1), (5000, 0), (60, 253)])
def test_nesting_never_ends_the_process(levels, arrays):
    """Some kilobytes that nest arrays in objects in arrays are refused by name, in any thread: nothing crashes."""
    done = subprocess.run(
        [sys.executable, "-c", READ_DEEP, str(levels), str(arrays)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["CorruptDataError"] * 6), done.stderr[-800:]


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_short_fuzz(seed, is_long):
    """Thousands of inputs of up to 64 kB, real values nested, cut and mixed: errors of ours, and no crash."""
    inputs = "50000" if is_long else "2500"
    command = [sys.executable, "-m", "tests.faults.fuzz_decoders", "--inputs", inputs, "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("inputs\n")


def test_numbers_that_python_can_not_hold():
    """Names, positions and batches that raise whatever Python raises for them are corrupt data, and no more."""
    from ecowas_lc.checkpoint.format import unpack_envelope

    row = [4, "t", [], [], None, [], {}, {}, [], "[]"]
    bad = {
        9: ["[" * 200_000, {}, "[1]", "7"],
        2: [[float("inf"), 0], ["x", 0], [10**30, 0], 7, [[]]],
        3: [[[]], 1, [[0, float("nan"), 0]], [None]],
        7: [3, [[]]],
        6: [[], None],
    }
    for place, values in bad.items():
        for value in values:
            with pytest.raises(CorruptDataError):
                unpack_envelope([*row[:place], value, *row[place + 1 :]], "x")


@pytest.mark.parametrize(
    "target", ["os:system", "subprocess:Popen", "builtins:eval", "pathlib:Path", "antigravity:x"]
)
def test_classes_outside_the_allowlist_are_not_imported(target):
    """A stored payload naming a callable or class outside the allowlist is refused, and nothing is imported."""
    import sys

    sys.modules.pop("antigravity", None)
    body = ormsgpack.packb([target, ["touch /tmp/never"]])
    with pytest.raises((TypeNotAllowedError, CorruptDataError)):
        Serializer().load(b"\x00\x00\xc7" + bytes([len(body)]) + b"\x02" + body)
    assert "antigravity" not in sys.modules


COMMANDS = {
    "ours": lambda touch: ["os:system", [touch]],
    "ours, a class": lambda touch: ["subprocess:Popen", [touch]],
    "langgraph's": lambda touch: ["os", "system", touch],
    "langgraph's with arguments": lambda touch: ["os", "system", [touch]],
    "langgraph's with names": lambda touch: ["os", "system", {"command": touch}],
    "langgraph's with a method": lambda touch: ["os", "system", {"command": touch}, "__call__"],
    "a module of its own": lambda touch: ["danger_zone:Thing", [touch]],
    "another's module": lambda touch: ["danger_zone", "Thing", touch],
}


@pytest.mark.parametrize("form", COMMANDS)
def test_no_stored_value_runs_anything(form, redis_server, connect, prefix, tmp_path, monkeypatch):
    """A value in Redis that names a callable, in every form and extension type: nothing runs, or loads."""
    (tmp_path / "danger_zone.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    body = ormsgpack.packb(COMMANDS[form](f"touch {tmp_path}/ran"))
    with redis_server.client() as raw:
        key = Keys(prefix).thread("t")
        stored = {f: v for f, v in raw.hgetall(key).items() if f[:1] == b"e" or f.startswith(b"v\0turns")}
        assert len(stored) > 3
        for code in range(128):
            payload = b"\0\0\xc8" + struct.pack(">HB", len(body), code) + body
            for field, value in stored.items():
                # As a channel's value, and as an element of the kind that stands there.
                spoilt = value[:1] + payload if field[:1] == b"v" else payload[:2] + value[2:3] + payload[2:]
                raw.hset(key, field, spoilt)
            with pytest.raises(EcowasError):
                RedisSaver(server=connect(redis_server.url), prefix=prefix).get_tuple(CONFIG)
    assert not (tmp_path / "ran").exists()
    assert "danger_zone" not in sys.modules


@pytest.mark.parametrize("lc", [1, 2])
@pytest.mark.parametrize("path", [["os", "system"], ["danger_zone", "Thing"], ["langchain", "llms", "x", "Y"]])
def test_no_stored_message_runs_anything(lc, path, redis_server, connect, prefix, tmp_path, monkeypatch):
    """A message in a history that claims to be a constructor call, as LangChain's dumps do, is not executed."""
    (tmp_path / "danger_zone.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    call = {"lc": lc, "type": "constructor", "id": path, "kwargs": {"command": f"touch {tmp_path}/ran"}}
    texts = [call, {"role": "user", "content": call}, {"type": "human", "data": call}]
    texts += [{"role": "user", "content": "?", "additional_kwargs": call}, {"type": "constructor", "data": call}]
    for number, text in enumerate(texts):
        history = RedisChatMessageHistory("a", str(number), server=connect(redis_server.url), prefix=prefix)
        with redis_server.client() as raw:
            raw.rpush(Keys(prefix).history("a", str(number)), json.dumps(text))
        with contextlib.suppress(EcowasError):
            assert all(isinstance(message, BaseMessage) for message in history.messages)
    assert not (tmp_path / "ran").exists()
    assert "danger_zone" not in sys.modules


def test_a_thread_with_a_newer_format_is_left_alone(redis_server, connect, prefix):
    """A thread that a newer version wrote is an error that says so, or is left out, and is not written to."""
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    with redis_server.client() as raw:
        [key] = [key for key in raw.scan_iter(f"{prefix}:checkpoint:*") if raw.hexists(key, "format")]
        raw.hset(key, "format", "99")
        before = raw.dump(key)
        for number, attempt in enumerate(everything.calls()[:6]):
            if number in (2, 4):  # over all threads, which leave it out
                assert len(attempt()) <= 1
                continue
            with pytest.raises(StorageError):
                attempt()
        assert raw.dump(key) == before


def test_a_row_that_the_scripts_choke_on(redis_server, connect, prefix):
    """Data that a script on the server can't read is a corrupt-data error, as if this process had read it."""
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
    """A list that claims billions of items, and checkpoints that link in a ring, take no time."""
    everything = Everything(connect(redis_server.url), prefix)
    everything.write()
    saver = everything.saver
    with redis_server.client() as raw:
        [key] = [key for key in raw.scan_iter(f"{prefix}:checkpoint:*") if raw.hexists(key, "format")]
        for field, value in raw.hgetall(key).items():
            if field.startswith(b"v") and value.startswith(b"l"):
                raw.hset(key, field, value[:2] + struct.pack(">II", 0, 2**32 - 1))
        for call in everything.calls():
            with contextlib.suppress(CorruptDataError, InvalidInputError):
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
            with contextlib.suppress(CorruptDataError, InvalidInputError):
                call()
