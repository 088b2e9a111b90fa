"""Agents whose sessions live on a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from ecowas_lc import BaseAgent, RedisAgent, RedisMemoryService
from ecowas_lc.errors import ConfigurationError, InvalidInputError, NotSerializableError, WrongTypeError
from ecowas_lc.settings import load_settings
from tests.agents.conftest import Call, dialogue, numbered, redis_agent, texts
from tests.fixtures.servers import RunningServer, wait_until


def test_a_second_agent_goes_on(call: Call, memory: RedisMemoryService) -> None:
    """Agents with the same ids share a conversation: it is loaded on creation, and both see every message."""
    first = redis_agent(memory)
    call(first, "chat", "one?")
    scripted = numbered()
    second = redis_agent(memory, model=scripted)
    assert texts(call(second, "history")) == dialogue("one?")
    call(second, "chat", "two?")
    assert [message.text for message in scripted.calls[-1][1:]] == [*dialogue("one?"), "two?"]
    assert call(first, "history") == call(second, "history")
    assert redis_agent(memory, "digital").history == []
    assert RedisAgent("energy", "another", model=numbered(), memory=memory).history == []


def test_another_process_goes_on(redis_server: RunningServer, memory: RedisMemoryService) -> None:
    """A program that knows only the ids finds the stored data."""
    redis_agent(memory).chat("one?")
    program = (
        "import sys, json; from ecowas_lc import RedisAgent, RedisMemoryService\n"
        "memory = RedisMemoryService(url=sys.argv[1], prefix=sys.argv[2])\n"
        "print(json.dumps(RedisAgent('energy', 's', memory=memory).history))"
    )
    command = [sys.executable, "-W", "error", "-c", program, redis_server.url, memory.prefix]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert texts(json.loads(done.stdout)) == dialogue("one?")


def test_what_is_stored_is_the_published_schema(memory: RedisMemoryService) -> None:
    """The memory service reads the history at its key; messages carry an id and who spoke."""
    redis_agent(memory).chat("one?")
    question, answer = memory.get_conversation_history("energy", "s")
    assert (question["role"], question["content"]) == ("user", "one?")
    assert (answer["role"], answer["content"], answer["name"]) == ("assistant", "Answer to: one?", "energy")
    assert question["id"] != answer["id"]


def test_the_server_keeps_no_more_than_asked(memory: RedisMemoryService) -> None:
    """``max_history`` is the length on the server too."""
    agent = redis_agent(memory, max_history=4)
    for question in ("one?", "two?", "three?"):
        agent.chat(question)
    assert texts(memory.get_conversation_history("energy", "s")) == dialogue("two?", "three?")
    assert texts(agent.history) == dialogue("two?", "three?")


def test_a_base_agent_with_redis_keeps_its_history_there(call: Call, memory: RedisMemoryService) -> None:
    """``use_redis=True`` implies a history: loaded on creation, saved after each chat, removed by a reset."""
    agent = BaseAgent("energy", session_id="s", use_redis=True, model=numbered(), memory=memory)
    call(agent, "chat", "one?")
    assert texts(memory.get_conversation_history("energy", "s")) == dialogue("one?")
    assert len(BaseAgent("energy", session_id="s", use_redis=True, model=numbered(), memory=memory).history) == 2
    call(agent, "reset_history")
    assert call(agent, "history") == []
    assert memory.get_conversation_history("energy", "s") == []
    assert memory.get_all_sessions_for_agent("energy") == []


def test_a_session_says_what_is_known_of_it(call: Call, memory: RedisMemoryService) -> None:
    """The session's figures are the server's own and JSON-able; ``extend_session`` renews it."""
    agent = redis_agent(memory, memory_ttl=100)
    assert call(agent, "get_session_info") == {
        "agent_id": "energy",
        "session_id": "s",
        "history_length": 0,
        "backend": "redis",
        "ttl": None,
        "first_activity": None,
        "last_activity": None,
    }
    assert call(agent, "extend_session") is False
    call(agent, "chat", "one?")
    moment = time.time_ns() // 1_000_000
    wait_until(lambda: time.time_ns() // 1_000_000 > moment, "the next millisecond")
    call(agent, "chat", "two?")
    info = json.loads(json.dumps(call(agent, "get_session_info")))
    assert (info["history_length"], info["backend"]) == (4, "redis")
    assert 95 <= info["ttl"] <= 100
    assert info["first_activity"] < info["last_activity"]
    assert call(agent, "extend_session", 1000) is True
    assert 995 <= call(agent, "get_session_info")["ttl"] <= 1000
    assert call(agent, "extend_session") is True
    assert 95 <= call(agent, "get_session_info")["ttl"] <= 100
    with pytest.raises(InvalidInputError):
        call(agent, "extend_session", 0)


def test_how_long_a_session_lives(redis_server: RunningServer, prefix: str) -> None:
    """``memory_ttl``; without it, the memory service's default; without that, the settings'."""
    service = RedisMemoryService(url=redis_server.url, prefix=prefix, default_ttl=500)
    settings = load_settings(redis_url=redis_server.url, prefix=prefix, redis_memory_ttl=700)
    for agent, most in (
        (RedisAgent("energy", "a", memory=service, model=numbered(), memory_ttl=300), 300),
        (RedisAgent("energy", "b", memory=service, model=numbered()), 500),
        (RedisAgent("energy", "c", settings=settings, model=numbered()), 700),
    ):
        agent.chat("one?")
        agent.save_state({"step": 1})
        assert most - 5 <= agent.get_session_info()["ttl"] <= most
        with redis_server.client() as client:
            assert most - 5 <= client.ttl(f"{prefix}:state:energy") <= most


def test_state_is_the_agents_own(call: Call, memory: RedisMemoryService) -> None:
    """A state is any JSON-able value, visible to every session and process."""
    agent = redis_agent(memory)
    assert call(agent, "load_state") is None
    state = {"step": 3, "nested": {"list": [1, 2.5, None, True, "é"]}}
    call(agent, "save_state", state)
    assert call(redis_agent(memory), "load_state") == state
    assert memory.get_agent_state("energy") == state
    with pytest.raises(NotSerializableError):
        call(agent, "save_state", {"step": {1, 2}})
    assert call(agent, "load_state") == state


def test_without_redis_all_is_in_the_process(call: Call) -> None:
    """With ``use_redis=False`` the agent keeps everything in the process, and contacts no server."""
    agent = RedisAgent("energy", "s", use_redis=False, model=numbered())
    state = {"step": [1]}
    call(agent, "save_state", state)
    state["step"].append(2)
    assert call(agent, "load_state") == {"step": [1]}
    call(agent, "chat", "one?")
    assert texts(call(agent, "history")) == dialogue("one?")
    assert call(agent, "get_session_info")["backend"] == "memory"
    assert call(agent, "extend_session") is False


def test_a_history_that_is_refused_is_not_kept(memory: RedisMemoryService) -> None:
    """``keep_history=False`` applies to a RedisAgent too; its state is still stored."""
    redis_agent(memory).chat("one?")
    agent = redis_agent(memory, keep_history=False)
    agent.chat("two?")
    agent.save_state([1])
    assert agent.history == []
    assert texts(memory.get_conversation_history("energy", "s")) == dialogue("one?")
    assert memory.get_agent_state("energy") == [1]


def test_another_programs_data_is_left_alone(redis_server: RunningServer, memory: RedisMemoryService) -> None:
    """Corrupt data is no outage: the agent raises, overwrites nothing, and does not continue in memory."""
    with redis_server.client() as client:
        client.sadd(f"{memory.prefix}:history:energy:s", "theirs")
        with pytest.raises(WrongTypeError):
            redis_agent(memory)
        assert client.smembers(f"{memory.prefix}:history:energy:s") == {b"theirs"}


def test_threads_share_an_agent(memory: RedisMemoryService) -> None:
    """If many threads ask at once, each exchange is stored whole, once."""
    agent = redis_agent(memory, max_history=100)
    questions = [f"{n}?" for n in range(24)]
    threads = [
        threading.Thread(target=lambda some: [agent.chat(q) for q in some], args=(questions[n::6],))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    stored = texts(memory.get_conversation_history("energy", "s"))
    pairs = list(zip(stored[::2], stored[1::2], strict=True))
    assert sorted(pairs) == sorted((q, f"Answer to: {q}") for q in questions)


def test_a_memory_that_is_none_is_refused() -> None:
    """``memory`` takes a memory service; anything else is an error that says so."""
    with pytest.raises(ConfigurationError, match="must be a RedisMemoryService"):
        BaseAgent("energy", use_redis=True, model=numbered(), memory="redis://h")  # type: ignore[arg-type]
