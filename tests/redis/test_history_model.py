"""Any sequence of operations on a history, compared with a plain list that follows the promised rules."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import RedisMemoryService
from tests.fixtures.leftovers import left_over

DEFAULT_TTL = 1000


def kept(messages: list[dict[str, Any]], most: int | None) -> list[dict[str, Any]]:
    """The last ``most``, without results that lost their call; if only results are left, their call stays."""
    if most is None or len(messages) <= most:
        return messages
    last = messages[-most:]
    for index, message in enumerate(last):
        if message["role"] != "tool":
            return last[index:]
    call = max((i for i, m in enumerate(messages) if m["role"] != "tool"), default=None)
    is_call = call is not None and messages[call]["role"] == "assistant"
    return messages[call:] if is_call else last


@dataclass
class Model:
    """What a history should contain, which ids it should know, and how long it should live."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    left: float = 0

    def add(self, messages: list[dict[str, Any]], most: int | None, ttl: int | None) -> None:
        if not self.messages:
            self.ids, self.left = set(), 0
        for message in messages:
            if message.get("id") in self.ids:
                continue
            self.messages.append(message)
            if "id" in message:
                self.ids.add(message["id"])
        self.messages = kept(self.messages, most)
        self.left = max(self.left, DEFAULT_TTL) if ttl is None else ttl


messages = st.tuples(
    st.sampled_from(["user", "assistant", "tool"]), st.none() | st.integers(0, 15).map(lambda n: f"id {n}")
)
steps = st.one_of(
    st.tuples(st.just("append"), messages, st.none() | st.integers(1, 6), st.none() | st.sampled_from([50, 5000])),
    st.tuples(st.just("add"), st.lists(messages, max_size=5), st.none() | st.integers(1, 6), st.none()),
    st.tuples(st.just("save"), st.lists(messages, max_size=5), st.none(), st.none() | st.sampled_from([50, 5000])),
    st.tuples(st.just("extend"), st.none(), st.none(), st.none() | st.sampled_from([50, 5000])),
    st.tuples(st.just("delete"), st.none(), st.none(), st.none()),
    st.tuples(st.just("lose companion"), st.none(), st.none(), st.none()),
    st.tuples(st.just("clear"), st.none(), st.none(), st.none()),
)


def document(spec: tuple[str, str | None]) -> dict[str, Any]:
    role, identity = spec
    found = {"role": role, "content": str(random.random())}
    if role == "tool":
        found["tool_call_id"] = "call"
    return found if identity is None else {**found, "id": identity}


def as_message(found: dict[str, Any]) -> BaseMessage:
    made: dict[str, Any] = {"user": HumanMessage, "assistant": AIMessage, "tool": ToolMessage}
    return made[found["role"]](**{name: value for name, value in found.items() if name != "role"})


@pytest.mark.rights("+scan")  # for the test, which looks for leftovers
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(steps, min_size=1, max_size=12))
def test_any_sequence(server, prefix, sequence):
    """Appends, saves, trims, renewals and removals, through the service and through LangChain's history, in any
    order: the same messages in the same order, each id once, the promised time to live, never an orphan result."""
    memory = RedisMemoryService(url=server.url, prefix=prefix, default_ttl=DEFAULT_TTL)
    session = uuid4().hex  # not of random, which hypothesis seeds
    model = Model()
    for what, specs, most, ttl in sequence:
        if what == "append":
            one = document(specs)
            model.add([one], most, ttl)
            assert memory.append_to_history("a", session, one, most, ttl) == len(model.messages)
        elif what == "add":
            some = [{**document(spec), "id": spec[1] or f"{random.random()}"} for spec in specs]
            if some:
                model.add(some, most, None)
            history = RedisChatMessageHistory(
                "a", session, server=memory.server, prefix=prefix, max_history=most, default_ttl=DEFAULT_TTL
            )
            history.add_messages([as_message(found) for found in some])
            assert history.messages == [as_message(found) for found in model.messages]
        elif what == "save":
            some = [document(spec) for spec in specs]
            memory.save_conversation_history("a", session, some, ttl)
            model = Model(some, {m["id"] for m in some if "id" in m}, DEFAULT_TTL if ttl is None else ttl)
        elif what == "extend":
            assert memory.extend_ttl("a", session, ttl) is bool(model.messages)
            model.left = max(model.left, DEFAULT_TTL) if ttl is None else ttl
        elif what == "delete":  # by hand, or by a server that is out of memory
            memory.server.client.delete(f"{prefix}:history:a:{session}")
            model = Model()
        elif what == "lose companion":  # to eviction: ids in the list itself are known again
            memory.server.client.delete(f"{prefix}:history-meta:{{{prefix}:history:a:{session}}}")
            model.ids = {m["id"] for m in model.messages if "id" in m}
        else:
            assert memory.clear_conversation_history("a", session) is bool(model.messages)
            model = Model()
        assert memory.get_conversation_history("a", session) == model.messages
        info = memory.get_session_info("a", session)
        assert (info is None) is (not model.messages)
        assert memory.get_all_sessions_for_agent("a") == ([session] if model.messages else [])
        if info:
            assert info.messages == len(model.messages)
            assert model.left - 20 < info.ttl_seconds <= model.left
    memory.clear_conversation_history("a", session)
    assert left_over(memory.server.client, prefix) == []
    memory.close()
