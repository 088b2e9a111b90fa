"""Each script does all of its work or none, whichever of its commands the server's ACL refuses."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from langgraph.checkpoint.base import empty_checkpoint

from ecowas_lc import IncompleteWarning, RedisMemoryService, RedisSaver
from ecowas_lc.checkpoint import backup, maintenance, writing
from ecowas_lc.errors import EcowasError, RedisRefusedError
from ecowas_lc.memory import histories, states
from ecowas_lc.storage.keys import Keys
from tests.fixtures.servers import RunningServer

SECOND = {"role": "user", "content": "second"}
THREAD: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


class Place:
    """One example's setting: a separate prefix, as the administrator and as a user with one right less."""

    def __init__(self, server: RunningServer, raw: redis.Redis, prefix: str, user: str) -> None:
        self.raw = raw
        self.prefix = prefix
        url = f"redis://{user}:pw@127.0.0.1:{server.port}/0"
        self.admin = RedisMemoryService(url=f"redis://127.0.0.1:{server.port}/0", prefix=prefix)
        self.memory = RedisMemoryService(url=url, prefix=prefix)
        self.admins_saver = RedisSaver(server=self.admin.server, prefix=prefix)
        self.saver = RedisSaver(server=self.memory.server, prefix=prefix)
        self.brief = RedisSaver(server=self.memory.server, prefix=prefix, ttl=60)

    def close(self) -> None:
        self.admin.close()
        self.memory.close()

    def put(self, saver: RedisSaver, **values: Any) -> Any:
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = dict(values)
        checkpoint["channel_versions"] = dict.fromkeys(values, 1)
        return saver.put(THREAD, checkpoint, {"step": 1, "run_id": "r"}, dict.fromkeys(values, 1))

    def first(self, *ids: str) -> None:
        """A history of the administrator's."""
        for identity in ids:
            self.admin.append_to_history("a", "s", {"role": "user", "content": "first", "id": identity})

    def append(self, message: dict[str, Any], **options: Any) -> Any:
        """Append without updating the indexes, which is a separate script."""
        key = Keys(self.prefix).history("a", "s")
        self.memory._programs.conversations.indexed.remember(key, float("inf"))
        return self.memory.append_to_history("a", "s", message, **options)

    def send(self, *batch: Any) -> Any:
        def op() -> Any:
            return (yield batch)

        return self.memory.server.run(op())

    def state(self) -> dict[bytes, Any]:
        """The data of conversations, without times, lifetimes and index entries."""
        found: dict[bytes, Any] = {}
        for key in self.raw.scan_iter(f"{self.prefix}:*"):
            if b":index:" in key or b":copy:" in key or b":wait:" in key or b":cleared:" in key:
                continue
            kind = self.raw.type(key)
            if kind == b"zset":
                names = self.raw.zrange(key, 0, -1)
                found[key] = sorted(name for name in names if name[:1] in b"mon" or name == b"last")
            elif kind == b"hash":
                found[key] = self.raw.hgetall(key)
            else:
                found[key] = self.raw.lrange(key, 0, -1) if kind == b"list" else self.raw.get(key)
        return {key: value for key, value in found.items() if value}


Step = Callable[[Place], Any]


def nothing(_: Place) -> None:
    """There is nothing yet."""


def thread(place: Place) -> None:
    stored = place.put(place.admins_saver, n=["x" * 200, "y" * 200], m="z" * 2000)
    place.admins_saver.put_writes(stored, [("n", "w" * 300)], "task")


def long_thread(place: Place) -> None:
    config = THREAD
    for n in range(5):
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"n": [f"{n}" * 300]}
        checkpoint["channel_versions"] = {"n": n + 1}
        config = place.admins_saver.put(config, checkpoint, {"step": n, "run_id": f"r{n}"}, {"n": n + 1})


def legacy(place: Place) -> None:
    place.raw.set(f"{place.prefix}:history:a:s", json.dumps([SECOND, {**SECOND, "id": "1"}]), ex=500)


def pinned(place: Place) -> None:
    thread(place)
    place.raw.expire(f"{place.prefix}:checkpoint:{{t}}", 500)
    place.admins_saver.pin("t")


def imported(place: Place) -> None:
    lines = list(place.admins_saver.export_jsonl(["t"]))
    place.put(place.admins_saver, other="o" * 200)
    place.saver.import_jsonl(lines, overwrite=True)


def clear(place: Place) -> None:
    place.send(place.memory._programs.conversations.clear_call("a", "s"))


def replace(place: Place) -> None:
    call = place.memory._programs.conversations
    keys = call.place("a", "s").keys
    place.send(histories.call(histories.REPLACE, keys, "=60000", uuid.uuid4().hex, "", "", "", b"9", b'{"a": 1}'))


def value_of(place: Place) -> tuple[Any, ...]:
    return Keys(place.prefix).session_data("s", "k"), b"2", 60.0, False


def write(place: Place, checkpoint_id: str) -> None:
    at: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": checkpoint_id}}
    place.brief.put_writes(at, [("n", "v" * 400)], "task")


def elements(place: Place) -> None:
    place.send(writing.call(writing._ELEMENTS, (Keys(place.prefix).thread("t"),), b"d" * 16, b"\0\0sbody"))


EXAMPLES: dict[str, tuple[Step, Step, tuple[Any, ...]]] = {
    "append, new": (nothing, lambda p: p.append({**SECOND, "id": "2"}), (histories.APPEND,)),
    "append, new, for ever": (nothing, lambda p: p.append(SECOND), (histories.APPEND,)),
    "append": (lambda p: p.first("1"), lambda p: p.append({**SECOND, "id": "2"}), (histories.APPEND,)),
    "append, no id": (lambda p: p.first("1"), lambda p: p.append(SECOND, ttl=60), (histories.APPEND,)),
    "append, trim": (
        lambda p: p.first(*map(str, range(40))),
        lambda p: p.append({**SECOND, "id": "x"}, max_history=3),
        (histories.APPEND,),
    ),
    "append, legacy": (legacy, lambda p: p.append({**SECOND, "id": "2"}), (histories.APPEND,)),
    "append, lost companion": (
        lambda p: (p.first("1", "2"), p.raw.delete(f"{p.prefix}:history-meta:{{{p.prefix}:history:a:s}}")),
        lambda p: p.append({**SECOND, "id": "2"}),
        (histories.APPEND,),
    ),
    "save, new": (nothing, replace, (histories.REPLACE,)),
    "save": (lambda p: p.first("1", "2"), replace, (histories.REPLACE,)),
    "save, legacy": (legacy, replace, (histories.REPLACE,)),
    "clear": (lambda p: p.first("1"), clear, (histories.CLEAR,)),
    "value": (nothing, lambda p: p.send(states._store(*value_of(p))), (states.STORE,)),
    "remove value": (
        lambda p: p.admin.set_session_data("s", "k", 1),
        lambda p: p.send(states.removal(value_of(p)[0])),
        (states.REMOVE,),
    ),
    "put, new": (nothing, lambda p: p.put(p.brief, n=["x" * 200]), (writing._PUT,)),
    "put, new, for ever": (nothing, lambda p: p.put(p.saver, n=["x" * 200]), (writing._PUT,)),
    "put": (thread, lambda p: p.put(p.brief, n=["q" * 200]), (writing._PUT,)),
    "put, for ever": (thread, lambda p: p.put(p.saver, k="q" * 200), (writing._PUT,)),
    "writes, new": (nothing, lambda p: write(p, "c1"), (writing._PUT_WRITES,)),
    "writes": (thread, lambda p: write(p, "c1"), (writing._PUT_WRITES,)),
    "elements, new": (nothing, elements, (writing._ELEMENTS,)),
    "elements": (thread, elements, (writing._ELEMENTS,)),
    "delete thread": (thread, lambda p: p.saver.delete_thread("t"), (writing._DELETE_THREAD,)),
    "prune": (long_thread, lambda p: p.saver.prune(["t"]), (writing._DELETE,)),
    "pin": (thread, lambda p: p.saver.pin("t"), (maintenance._EXPIRY,)),
    "unpin": (pinned, lambda p: p.brief.unpin("t"), (maintenance._EXPIRY,)),
    "copy": (thread, lambda p: p.brief.copy_thread("t", "u"), (maintenance._ADOPT,)),
    "copy, for ever": (thread, lambda p: p.saver.copy_thread("t", "u"), (maintenance._ADOPT,)),
    "export": (thread, lambda p: list(p.saver.export_jsonl(["t"])), (backup._SNAPSHOT,)),
    "import": (thread, imported, (backup._RESTORE,)),
}


@pytest.fixture
def prefixes(server: RunningServer) -> Iterator[Callable[[str], Place]]:
    """Set up an example with a user who may not run one of the commands."""
    limited, server.limits_users = server.limits_users, False
    with server.client() as raw:
        made: list[Place] = []

        def make(denied: str) -> Place:
            prefix = f"t{uuid.uuid4().hex[:12]}"
            user = f"without-{denied}"
            rights = ["reset", "on", ">pw", f"~{prefix}:*", "+@all", f"-{denied}"]
            raw.execute_command("ACL", "SETUSER", user, *rights)
            place = Place(server, raw, prefix, user)
            made.append(place)
            return place

        yield make
        for place in made:
            place.close()
            for key in raw.scan_iter(f"{place.prefix}:*"):
                raw.delete(key)
        for name in {f"without-{command.lower()}" for command in commands_of(EXAMPLES)}:
            raw.execute_command("ACL", "DELUSER", name)
    server.limits_users = limited


def commands_of(examples: dict[str, tuple[Step, Step, tuple[Any, ...]]]) -> set[str]:
    scripts = {script for _, _, scripts in examples.values() for script in scripts}
    return {name.decode() for script in scripts for name in re.findall(rb"call\('([A-Z]+)'", script.source)}


def test_an_append_whose_index_is_refused(prefixes: Callable[[str], Place]) -> None:
    """A stored message is not reported as refused, or its caller would store it twice."""
    place = prefixes("zrevrange")  # which the script that touches only indexes needs
    with pytest.warns(IncompleteWarning, match="Lists may lack the history of 'a' in the session 's'.*zrevrange"):
        assert place.memory.append_to_history("a", "s", SECOND) == 1
    assert place.admin.get_conversation_history("a", "s") == [SECOND]


@pytest.mark.parametrize("example", EXAMPLES)
def test_all_or_nothing(prefixes: Callable[[str], Place], example: str) -> None:
    """Whichever command is refused, the work is done and no error is raised, or nothing has changed."""
    before, attempt, scripts = EXAMPLES[example]
    refused = 0
    for command in sorted(commands_of({example: (before, attempt, scripts)})):
        place = prefixes(command.lower())
        before(place)
        earlier = place.state()
        try:
            attempt(place)
        except RedisRefusedError:
            refused += 1
            if example not in ("import", "export"):  # which write more than once
                assert place.state() == earlier, f"{example} without {command}"
        except EcowasError as error:
            raise AssertionError(f"{example} without {command}: {error}") from error
        for key in place.raw.scan_iter(f"{place.prefix}:*:copy:*"):
            assert place.raw.ttl(key) > 0, f"{example} without {command} leaves {key!r} for ever"
    assert refused >= 1
