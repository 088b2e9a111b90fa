"""The promised memory API, line by line, on real servers."""

from __future__ import annotations

import json
import time

import pytest

from ecowas_lc.errors import (
    ConfigurationError,
    EcowasError,
    InvalidIdError,
    InvalidInputError,
    NotSerializableError,
)
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from tests.fixtures.leftovers import left_over
from tests.fixtures.servers import wait_until, was_set

HISTORY = [
    {"role": "user", "content": "Où en est le pool énergétique ?"},
    {"role": "assistant", "content": "Quatorze pays.", "sources": [{"page": 3}], "score": 0.5},
]


@pytest.fixture
def memory(server, prefix):
    with RedisMemoryService(url=server.url, prefix=prefix) as service:
        yield service


@pytest.fixture
def raw(server):
    with server.client() as client:
        yield client


def test_history_comes_back_as_it_was_saved(memory):
    """A history is the saved list, including extra keys; if there is none, it is the empty list."""
    assert memory.get_conversation_history("energy", "s") == []
    memory.save_conversation_history("energy", "s", HISTORY)
    assert memory.get_conversation_history("energy", "s") == HISTORY
    memory.save_conversation_history("energy", "s", HISTORY[:1])
    assert memory.get_conversation_history("energy", "s") == HISTORY[:1]
    memory.save_conversation_history("energy", "s", [])
    assert memory.get_conversation_history("energy", "s") == []
    assert memory.get_all_sessions_for_agent("energy") == []


def test_published_keys_hold_readable_json(memory, raw, prefix):
    """The keys are the published ones, and hold JSON that redis-cli shows with its accents."""
    memory.save_conversation_history("energy", "s-1", HISTORY)
    memory.save_agent_state("energy", {"étape": 2})
    memory.set_session_data("s-1", "language", "français")
    lines = raw.lrange(f"{prefix}:history:energy:s-1", 0, -1)
    assert [json.loads(line) for line in lines] == HISTORY
    assert "énergétique" in lines[0].decode()
    assert raw.get(f"{prefix}:state:energy").decode() == '{"étape":2}'
    assert raw.get(f"{prefix}:session:s-1:language").decode() == '"français"'
    assert all(key.startswith(prefix.encode() + b":") for key in raw.scan_iter(f"*{prefix}*"))


def test_append_keeps_the_last_so_many(memory):
    """``max_history`` keeps the last messages; an append says how many there are."""
    for number in range(7):
        held = memory.append_to_history("energy", "s", {"role": "user", "content": str(number)}, max_history=5)
        assert held == min(number + 1, 5)
    assert [m["content"] for m in memory.get_conversation_history("energy", "s")] == list("23456")
    assert [m["content"] for m in memory.get_conversation_history("energy", "s", last=2)] == list("56")


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5])
def test_trimming_never_leaves_an_orphan_result(memory, most):
    """After a trim, a history never starts with a tool's result: its call is kept with it, or both are removed."""
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "args": {}, "id": "1"}]}
    results = [{"role": "tool", "content": '{"role": "user"}', "tool_call_id": str(n)} for n in range(3)]
    for message in [{"role": "user", "content": "?"}, call, *results]:
        memory.append_to_history("energy", "s", message, max_history=most)
    expected = {1: [call, *results], 2: [call, *results], 3: [call, *results], 4: [call, *results]}
    held = memory.get_conversation_history("energy", "s")
    assert held == expected.get(most, [{"role": "user", "content": "?"}, call, *results])
    memory.append_to_history("energy", "s", {"role": "assistant", "content": "!"}, max_history=most)
    assert memory.get_conversation_history("energy", "s")[0]["role"] != "tool"
    assert len(memory.get_conversation_history("energy", "s")) <= most


def test_results_without_any_call_are_still_trimmed(memory):
    """A history of only tool results keeps to its limit: there is no call to keep with them."""
    for number in range(9):
        memory.append_to_history("energy", "s", {"role": "tool", "content": str(number)}, max_history=3)
    assert [m["content"] for m in memory.get_conversation_history("energy", "s")] == list("678")


def test_state_and_session_data(memory):
    """Any JSON value is returned equal; ``None`` if there is none."""
    nested = {"a": [1, 2.5, None, True, {"b": "ç"}], "empty": {}, "list": [], "big": 2**80}
    assert memory.get_agent_state("energy") is None
    memory.save_agent_state("energy", nested)
    assert memory.get_agent_state("energy") == nested
    assert memory.get_session_data("s", "k") is None
    for value in (0, "", False, [], {}, nested, "text"):
        memory.set_session_data("s", "k", value)
        assert memory.get_session_data("s", "k") == value
    memory.set_session_data("s", "other", 1)
    assert memory.get_all_session_data("s") == {"k": "text", "other": 1}
    assert memory.delete_session_data("s", "k") is True
    assert memory.delete_session_data("s", "k") is False
    assert memory.get_all_session_data("s") == {"other": 1}


def test_clearing_says_whether_there_was_something(memory):
    """Clearing a history returns whether it existed, and leaves the agent's others."""
    memory.append_to_history("energy", "a", HISTORY[0])
    memory.append_to_history("energy", "b", HISTORY[0])
    assert memory.clear_conversation_history("energy", "a") is True
    assert memory.clear_conversation_history("energy", "a") is False
    assert memory.get_conversation_history("energy", "a") == []
    assert memory.get_all_sessions_for_agent("energy") == ["b"]


def test_sessions_by_last_activity(memory):
    """Sessions are listed most recently active first, each agent's own, and not once they are gone."""
    for session in ("one", "two", "three"):
        memory.append_to_history("energy", session, HISTORY[0])
    memory.append_to_history("digital", "four", HISTORY[0])
    wait_for_the_clock(memory)
    memory.append_to_history("energy", "one", HISTORY[1])
    assert memory.get_all_sessions_for_agent("energy")[0] == "one"
    assert set(memory.get_all_sessions_for_agent("energy")) == {"one", "two", "three"}
    assert memory.get_all_sessions_for_agent("nobody") == []
    assert memory.get_all_agents() == ["digital", "energy"]
    assert memory.get_all_agents_for_session("four") == ["digital"]
    assert memory.get_session_infos("energy")[0].session_id == "one"
    assert len(memory.get_session_infos()) == 4


def wait_for_the_clock(memory) -> None:
    """Until the server's clock, in milliseconds, has moved on."""
    start = memory.server.client.time()
    wait_until(
        lambda: (now := memory.server.client.time())[0] > start[0] or now[1] > start[1] + 2000, "two milliseconds"
    )


def test_session_info(memory):
    """Length, times and time to live of a history are known without reading it."""
    began = time.monotonic()
    assert memory.get_session_info("energy", "s") is None
    memory.append_to_history("energy", "s", HISTORY[0], ttl=60)
    first = memory.get_session_info("energy", "s")
    assert first is not None
    assert (first.messages, first.agent_id, first.session_id) == (1, "energy", "s")
    assert was_set(first.ttl_seconds, 60, began)
    assert first.first_activity == first.last_activity
    wait_for_the_clock(memory)
    memory.append_to_history("energy", "s", HISTORY[1])
    then = memory.get_session_info("energy", "s")
    assert then.first_activity == first.first_activity < then.last_activity


def test_histories_that_contain_a_text(memory):
    """A text is found in any case, in whichever form a message has its content, and not in its other fields."""
    contents = ["The Grid", ["of ", "GRIDS"], [{"type": "text", "text": "a grid"}], {"data": {"content": "grid"}}]
    for number, content in enumerate([*contents, "hydro", None, 7, [7]]):
        memory.save_conversation_history(
            "energy", f"s{number}", [{"role": "user", "content": content, "by": "grid"}]
        )
    pairs = [("energy", f"s{number}") for number in range(10)]
    assert memory.get_histories_containing(pairs, "grid") == set(pairs[:4])


def test_everything_of_an_agent_goes_at_once(memory, raw, prefix):
    """All histories and the state of an agent are removed and counted; others stay, and no key is left over."""
    for session in ("a", "b", "c"):
        memory.append_to_history("energy", session, HISTORY[0])
    memory.save_agent_state("energy", {})
    memory.append_to_history("digital", "a", HISTORY[0])
    assert memory.clear_all_agent_data("energy") == 4
    assert memory.clear_all_agent_data("energy") == 0
    assert memory.get_all_agents() == ["digital"]
    assert memory.get_all_agents_for_session("a") == ["digital"]
    assert memory.clear_session("a") == 1
    assert left_over(raw, prefix) == []


def test_a_whole_session_goes_at_once(memory, raw, prefix):
    """Every agent's history in a session and the session's data are removed and counted."""
    for agent in ("energy", "digital"):
        memory.append_to_history(agent, "s", HISTORY[0])
    memory.set_session_data("s", "k", 1)
    assert memory.clear_session("s") == 3
    assert memory.get_session_data("s", "k") is None
    assert left_over(raw, prefix) == []


@pytest.mark.rights("+info", "+dbsize")
def test_stats_count_what_there_is(memory):
    """The statistics have the promised names, and count agents, sessions and histories."""
    memory.append_to_history("energy", "a", HISTORY[0])
    memory.append_to_history("energy", "b", HISTORY[0])
    memory.append_to_history("digital", "a", HISTORY[0])
    stats = memory.get_memory_stats()
    assert isinstance(stats["used_memory"], str)
    assert stats["used_memory_bytes"] > 100_000
    assert stats["total_keys"] >= 6
    assert (stats["agents"], stats["sessions"], stats["histories"], stats["threads"]) == (2, 2, 3, 0)
    memory.clear_conversation_history("energy", "b")
    stats = memory.get_memory_stats()
    assert (stats["agents"], stats["sessions"], stats["histories"]) == (2, 1, 2)
    memory.clear_all_agent_data("energy")
    assert memory.get_memory_stats()["agents"] == 1


def test_health(memory):
    """``health_check`` is correct and never raises."""
    assert memory.health_check() is True
    assert RedisMemoryService(port=1, connect_timeout=0.2).health_check() is False
    assert RedisMemoryService("no-such-host.invalid", connect_timeout=0.2).health_check() is False


@pytest.mark.parametrize("bad", ["", None, 3, b"energy"])
def test_bad_ids_are_named_errors(memory, bad):
    """An id that is empty or not text is an ``InvalidIdError``, which is also a ``ValueError``."""
    for attempt in (
        lambda: memory.get_conversation_history(bad, "s"),
        lambda: memory.append_to_history("energy", bad, HISTORY[0]),
        lambda: memory.save_agent_state(bad, {}),
        lambda: memory.set_session_data("s", bad, 1),
        lambda: memory.get_all_sessions_for_agent(bad),
        lambda: memory.clear_all_agent_data(bad),
    ):
        with pytest.raises(InvalidIdError) as caught:
            attempt()
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, EcowasError)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "60", True, 10**11])
def test_bad_ttls_are_named_errors(memory, bad):
    """A time to live is a whole number of seconds from 1 on; anything else is refused before writing."""
    for attempt in (
        lambda: memory.append_to_history("energy", "s", HISTORY[0], ttl=bad),
        lambda: memory.save_conversation_history("energy", "s", HISTORY, ttl=bad),
        lambda: memory.save_agent_state("energy", {}, ttl=bad),
        lambda: memory.set_session_data("s", "k", 1, ttl=bad),
        lambda: memory.extend_ttl("energy", "s", ttl=bad),
    ):
        with pytest.raises(InvalidInputError):
            attempt()
    assert memory.get_all_agents() == []
    with pytest.raises(ConfigurationError):
        RedisMemoryService(default_ttl=bad)


@pytest.mark.parametrize("bad", ["hello", {"role": "user"}, {"content": "x"}, {"role": 1, "content": "x"}, None])
def test_bad_messages_are_named_errors(memory, bad):
    """A message is a dict with a role and a content; anything else is refused before writing."""
    with pytest.raises(InvalidInputError):
        memory.append_to_history("energy", "s", bad)
    with pytest.raises(InvalidInputError):
        memory.save_conversation_history("energy", "s", [HISTORY[0], bad])
    for history in ("text", None, HISTORY[0]):
        with pytest.raises(InvalidInputError):
            memory.save_conversation_history("energy", "s", history)
    for most in (0, -1, 1.5, True):
        with pytest.raises(InvalidInputError):
            memory.append_to_history("energy", "s", HISTORY[0], max_history=most)
    assert memory.get_conversation_history("energy", "s") == []


@pytest.mark.parametrize("bad", [(1, 2), {1: 2}, float("nan"), float("inf"), b"x", {1}, object(), [(1,)]])
def test_what_json_can_not_hold_is_a_named_error(memory, bad):
    """A value that JSON would change is a TypeError and a ValueError, before anything is written."""
    for attempt in (
        lambda: memory.save_agent_state("energy", {"deep": [bad]}),
        lambda: memory.set_session_data("s", "k", bad),
        lambda: memory.append_to_history("energy", "s", {"role": "user", "content": "x", "extra": bad}),
        lambda: memory.save_conversation_history("energy", "s", [HISTORY[0], {**HISTORY[0], "extra": bad}]),
    ):
        with pytest.raises(NotSerializableError) as caught:
            attempt()
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ValueError)
    assert memory.get_agent_state("energy") is None
    assert memory.get_conversation_history("energy", "s") == []


def test_contradicting_arguments_are_refused(server):
    """One of url, client, or host and port names the server; two of them are a mistake."""
    with pytest.raises(ConfigurationError):
        RedisMemoryService("127.0.0.1", url=server.url)
    with pytest.raises(ConfigurationError):
        RedisMemoryService(url=server.url, client=server.client())
    with pytest.raises(ConfigurationError):
        RedisMemoryService(port=0)
    with pytest.raises(ConfigurationError):
        RedisMemoryService(client="redis://localhost")
    with RedisMemoryService(url=server.url) as memory:
        for other in ({"url": server.url}, {"host": "elsewhere"}, {"client": server.client()}):
            with pytest.raises(ConfigurationError, match="Pass only one of"):
                RedisMemoryService(server=memory.server, **other)
    with pytest.raises(ConfigurationError, match="pass url="):
        RedisMemoryService(server=server.url)
    with pytest.raises(ConfigurationError, match="url="):
        RedisMemoryService(server.url)
    with pytest.raises(ConfigurationError, match="ssl=True"):
        RedisMemoryService("redis.example", ssl_ca_certs="/ca.pem")  # not in the clear, when TLS was meant


@pytest.mark.parametrize("name", ["socket_timeout", "connect_timeout", "max_connections"])
@pytest.mark.parametrize("bad", [0, -1, "5", True, float("nan"), 10**10])
def test_limits_that_can_not_be_used_are_named(name, bad):
    """A timeout is above 0 seconds, a number of connections is whole, and neither overflows."""
    with pytest.raises(ConfigurationError, match=name):
        RedisMemoryService(**{name: bad})
    with pytest.raises(ConfigurationError, match="max_connections"):
        RedisMemoryService(max_connections=2.5)


def test_a_password_is_never_shown():
    """Neither the repr nor an error holds the password."""
    service = RedisMemoryService("127.0.0.1", 1, password="s3cret-word", connect_timeout=0.2)
    with pytest.raises(EcowasError) as caught:
        service.get_agent_state("energy")
    assert "127.0.0.1:1" in str(caught.value)
    assert "s3cret-word" not in f"{service!r} {caught.value} {caught.value.__cause__!r}"


def test_clients_of_the_caller(server, prefix):
    """A client that decodes replies, and an async one, work as well and stay open."""
    with server.client(decode_responses=True) as client:
        with RedisMemoryService(client=client, prefix=prefix) as service:
            service.save_conversation_history("énergie", "s", HISTORY)
            service.set_session_data("s", "k", "é")
            assert service.get_conversation_history("énergie", "s") == HISTORY
            assert service.get_all_sessions_for_agent("énergie") == ["s"]
            assert service.get_session_info("énergie", "s").messages == 2
            assert service.get_session_data("s", "k") == "é"
            assert service.get_memory_stats()["agents"] == 1
            assert service.reindex() == 0
            assert service.clear_all_agent_data("énergie") == 1
        assert client.ping()


@pytest.mark.rights("+info", "+dbsize", "+scan")
async def test_async_twin_has_the_same_names(server, prefix):
    """Every public method of the sync service exists with ``await`` and does the same."""
    names = {name for name in dir(RedisMemoryService) if not name.startswith("_")}
    assert names <= set(dir(AsyncRedisMemoryService))
    async with AsyncRedisMemoryService(url=server.url, prefix=prefix) as memory:
        await memory.save_conversation_history("energy", "s", HISTORY)
        assert await memory.append_to_history("energy", "s", HISTORY[0], max_history=2) == 2
        assert await memory.get_conversation_history("energy", "s") == [HISTORY[1], HISTORY[0]]
        assert await memory.get_conversation_history("energy", "s", last=1) == [HISTORY[0]]
        await memory.save_agent_state("energy", {"a": 1})
        assert await memory.get_agent_state("energy") == {"a": 1}
        await memory.set_session_data("s", "k", [1])
        assert await memory.get_session_data("s", "k") == [1]
        assert await memory.get_all_session_data("s") == {"k": [1]}
        assert await memory.get_all_sessions_for_agent("energy") == ["s"]
        assert await memory.get_all_agents_for_session("s") == ["energy"]
        assert await memory.get_all_agents() == ["energy"]
        assert await memory.get_histories_containing([("energy", "s"), ("energy", "t")], "POOL") == {
            ("energy", "s")
        }
        assert (await memory.get_session_info("energy", "s")).messages == 2
        assert len(await memory.get_session_infos()) == 1
        assert await memory.extend_ttl("energy", "s", 500) is True
        assert (await memory.get_memory_stats())["sessions"] == 1
        assert await memory.reindex() == 0
        assert await memory.health_check() is True
        lines = [line async for line in memory.export_jsonl()]
        assert (await memory.import_jsonl(lines)).unchanged == 3
        assert await memory.delete_session_data("s", "k") is True
        assert await memory.clear_conversation_history("energy", "s") is True
        assert await memory.clear_session("s") == 0
        assert await memory.clear_all_agent_data("energy") == 1
    broken = AsyncRedisMemoryService(port=1, connect_timeout=0.2)
    assert await broken.health_check() is False
    await broken.close()
