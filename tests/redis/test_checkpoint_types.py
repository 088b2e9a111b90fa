"""State of any class through graphs is refused on writing or read back equal, never degraded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import ormsgpack
import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import TypeNotAllowedError
from tests.redis import strict_graph
from tests.redis.stored import blob
from tests.redis.strict_graph import VALUES, Colour, Hidden, Plan, Point, Step, graph
from tests.redis.writer import Writer, at, key_of

MODULE = "tests.redis.strict_graph"
THREAD: Any = {"configurable": {"thread_id": "t"}}


def run(url: str, prefix: str, allow: Any, strict: bool) -> dict[str, Any]:
    environment = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true" if strict else "false"}
    command = [sys.executable, "-W", "ignore", "-m", MODULE, url, prefix, json.dumps(allow)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_langgraphs_strict_mode(redis_server: Any, prefix: str) -> None:
    """With langgraph's own strict variable, compiling allows the classes in the schemas; nothing becomes a dict.

    langgraph collects models, dataclasses and enums, but no named tuples: these must be allowed, as without it.
    """
    outcome = run(redis_server.url, prefix, [], strict=True)
    assert f"TypeNotAllowedError: A value of type {MODULE}.Point can't be stored" in outcome["error"]
    outcome = run(redis_server.url, prefix, [f"{MODULE}.Point"], strict=True)
    assert outcome["equal"] == dict.fromkeys(VALUES, True)
    assert outcome["types"] == {"plan": "Plan", "step": "Step", "colour": "Colour", "point": "Point"}
    assert f"TypeNotAllowedError: A value of type {MODULE}.Hidden can't be stored" in outcome["hidden"]
    saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
    with saver, pytest.raises(TypeNotAllowedError, match="not imported"):
        graph(saver, {}).get_state(THREAD)


@pytest.mark.parametrize(
    "allow",
    [[Plan, Point], ["tests.redis.strict_graph.Plan", f"{MODULE}:Point"], "any"],
    ids=["classes", "names", "any"],
)
def test_without_any_variable(redis_server: Any, prefix: str, allow: Any) -> None:
    """With the classes allowed, or everything, a graph's state is read back equal and of the same types."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix, allow=allow) as saver:
        compiled = graph(saver, {"anything": (Step("x"), {Colour.RED: Point(3, 4)})})
        compiled.invoke({"messages": []}, THREAD)
    with RedisSaver.from_url(redis_server.url, prefix=prefix, allow=allow) as other:
        values = graph(other, {}).get_state(THREAD).values
        assert {name: values[name] for name in VALUES} == VALUES
        assert values["anything"] == (Step("x"), {Colour.RED: Point(3, 4)})


def test_refused_when_it_is_written(redis_server: Any, prefix: str) -> None:
    """Writing a class that could not be read back fails, and the line in the message makes it work."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        with pytest.raises(TypeNotAllowedError) as refused:
            graph(saver, {}).invoke({"messages": []}, THREAD, durability="sync")
        last = Writer(saver, "w").put(a=1)
        with pytest.raises(TypeNotAllowedError, match="Hidden"):
            saver.put_writes(last, [("a", [Hidden()])], "task")
        assert saver.get_tuple(last).pending_writes == []  # type: ignore[union-attr]
    allow: list[Any] = []
    for _ in range(10):  # a line for each class, as a user would add them
        line = re.search(r'allow=(\["[^"]+"\])', str(refused.value))
        assert line is not None
        allow += eval(line[1])
        with RedisSaver.from_url(redis_server.url, prefix=prefix, allow=allow) as saver:
            try:
                graph(saver, {}).invoke(
                    {"messages": []}, {"configurable": {"thread_id": "again"}}, durability="sync"
                )
                break
            except TypeNotAllowedError as error:
                refused._excinfo = (type(error), error, error.__traceback__)  # type: ignore[assignment]
    else:
        pytest.fail(f"no end of refusals: {allow}")
    assert len(allow) <= 4


def test_a_stored_name_is_not_imported(redis_server: Any, prefix: str, tmp_path: Any, monkeypatch: Any) -> None:
    """A foreign payload in Redis that names a module imports nothing and runs nothing."""
    marker = tmp_path / "ran"
    (tmp_path / "payload_module.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        last = Writer(saver).put(a={"text": "x"}, b=[{"text": "x" * 400}])
        fields = raw.hgetall(key_of(prefix))
        [value] = [name for name in fields if name.startswith(b"v\0a")]
        [element] = [name for name in fields if name[:1] == b"e" and blob(fields[name])[1][:1] == b"x"]
        for name in ("payload_module:Thing", "os:system", "subprocess:Popen", "builtins:eval", "builtins:exec"):
            for arguments in (["true"], {}, {"args": "true"}):
                crafted = ormsgpack.packb(ormsgpack.Ext(2, ormsgpack.packb([name, arguments])))
                for field, bad in ((value, b"p\0\0" + crafted), (element, b"\0\0x" + crafted)):
                    raw.hset(key_of(prefix), field, bad)
                    with (
                        RedisSaver.from_url(
                            redis_server.url, prefix=prefix
                        ) as another,  # which has not seen it yet
                        pytest.raises(TypeNotAllowedError, match="was not imported"),
                    ):
                        another.get_tuple(last)
                    raw.hset(key_of(prefix), field, fields[field])
        assert saver.get_tuple(last) is not None
    assert not marker.exists()
    assert "payload_module" not in sys.modules


def test_with_allowlist_leaves_the_saver_as_it_was(redis_server: Any, prefix: str) -> None:
    """The saver that compiling makes shares connections with the first, and allows more than it."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        wider = saver.with_allowlist({(MODULE, "Hidden")})
        assert type(wider) is RedisSaver
        last = Writer(wider).put(a=Hidden(x=5))
        assert wider.get_tuple(last).checkpoint["channel_values"]["a"] == Hidden(x=5)  # type: ignore[union-attr]
        with pytest.raises(TypeNotAllowedError):
            saver.get_tuple(last)
        with pytest.raises(TypeNotAllowedError):
            Writer(saver).put(a=Hidden())
    own = JsonPlusSerializer(allowed_msgpack_modules=None)
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=own) as saver:
        wider = saver.with_allowlist({(MODULE, "Hidden")})
        last = Writer(wider, "own").put(a=Hidden(x=5))
        assert wider.get_tuple(last).checkpoint["channel_values"]["a"] == Hidden(x=5)  # type: ignore[union-attr]
        assert saver.serde is own


def test_a_custom_serde_is_used_as_given(redis_server: Any, prefix: str) -> None:
    """A user's own serializer is called for every value, and its output is stored unchanged."""
    calls: list[Any] = []

    class Own:
        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            calls.append(obj)
            return "own", repr(obj).encode()

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            assert data[0] == "own"
            return eval(data[1])

    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=Own()) as saver:
        last = Writer(saver).put(a={1, 2}, b=(1, "x" * 500), c=None)
        saver.put_writes(last, [("a", {3})], "task")
        found = saver.get_tuple(at())
        assert found is not None
        assert found.checkpoint["channel_values"] == {"a": {1, 2}, "b": (1, "x" * 500), "c": None}
        assert found.pending_writes == [("task", "a", {3})]
        # four values, and the thread's entry for the list of threads
        assert len(calls) == 5


def test_the_program_under_test_is_this_module() -> None:
    """The separate process and this one mean the same classes."""
    assert strict_graph.Plan.__module__ == MODULE
