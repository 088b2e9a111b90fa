"""One process of a rolling upgrade: ``python program.py URL``, with a version of ecowas_lc on ``PYTHONPATH``.

It imports only what every version has. Each line that it reads is a prefix and steps, as JSON; it runs the steps
and writes each result as a line of JSON.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import json
import operator
import sys
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, message_to_dict
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.store.base import SearchItem
from langgraph.types import Command, interrupt

import ecowas_lc
from ecowas_lc import (
    EcowasError,
    EncryptedRedisSerializer,
    RedisChatMessageHistory,
    RedisMemoryService,
    RedisSaver,
    build_supervisor,
)

URL, PREFIX = sys.argv[1], ""
LONG = "word " * 60
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def join(old: list[Any], new: list[Any]) -> list[Any]:
    return [*old, *(each for part in new for each in part)]


@dataclasses.dataclass
class Plan:
    steps: list[str]
    at: dt.datetime


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    delta: Annotated[list[str], DeltaChannel(join, snapshot_frequency=2)]
    idle: Annotated[list[str], DeltaChannel(join, snapshot_frequency=1)]
    values: dict[str, Any]
    approved: bool


def things(turn: int) -> dict[str, Any]:
    return {
        "plan": Plan([LONG, f"{turn}"], MOMENT),
        "document": Document(LONG, metadata={"turn": turn}),
        "nested": [(1, {2, 3}), frozenset({"a"}), {4: (5,)}],
        "number": decimal.Decimal("1.5"),
        "id": uuid.UUID(int=turn),
        "text": "\ud800",
    }


def answer(state: State) -> Any:
    turn = sum(isinstance(each, HumanMessage) for each in state["messages"])
    reply = AIMessage(f"{turn}! {LONG}", id=f"a{turn}", response_metadata={"model": "m", "turn": turn})
    return {"messages": [reply], "log": [f"answer {turn}"], "delta": [f"d{turn}"], "values": things(turn)}


def approve(state: State) -> Any:
    return {"approved": bool(interrupt("?")), "log": ["approved"]}


def graph(saver: Any) -> Any:
    builder = StateGraph(State).add_node(answer).add_node(approve)
    return builder.add_edge(START, "answer").add_edge("answer", "approve").compile(checkpointer=saver)


def saver(*, encrypted: bool = False) -> RedisSaver:
    serde = EncryptedRedisSerializer(b"k" * 32, allow=[Plan]) if encrypted else None
    allow = {} if encrypted else {"allow": [Plan]}
    return RedisSaver.from_url(URL, prefix=PREFIX, serde=serde, ttl=1000, **allow)


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def turn(thread: str, number: int, encrypted: bool = False) -> Any:
    """A turn that waits for approval and gets it."""
    with saver(encrypted=encrypted) as on:
        made = graph(on)
        start: dict[str, Any] = {"messages": [HumanMessage(f"{number}? {LONG}", id=f"q{number}")]}
        if number == 1:
            start["idle"] = [LONG]
        made.invoke(start, config(thread), durability=["sync", "async", "exit"][number % 3])
        made.invoke(Command(resume="yes"), config(thread))
    return True


def begin(thread: str, number: int) -> Any:
    """A turn that is left waiting."""
    with saver() as on:
        graph(on).invoke({"messages": [HumanMessage(f"{number}?", id=f"q{number}")]}, config(thread))
    return True


def resume(thread: str) -> Any:
    with saver() as on:
        return graph(on).invoke(Command(resume="yes"), config(thread))["log"]


def thread(thread: str, encrypted: bool = False) -> Any:
    """All that a thread holds, past and pending included."""
    with saver(encrypted=encrypted) as on:
        return [
            [repr(each.values), each.next, each.metadata, repr(each.tasks), each.config, each.parent_config]
            for each in graph(on).get_state_history(config(thread))
        ]


def raw(thread: str) -> Any:
    with saver() as on:
        return repr([(each.checkpoint, each.metadata, each.pending_writes) for each in on.list(config(thread))])


def rows(encrypted: bool = False) -> Any:
    """The list of threads, which the earlier version has not."""
    with saver(encrypted=encrypted) as on:
        return [[row.id, row.title, row.messages, [asked.value for asked in row.waiting]] for row in on.threads()]


def upkeep(thread: str) -> Any:
    with saver() as on:
        on.copy_thread(thread, f"{thread}-copy")
        on.prune([thread], strategy="keep_latest")
        return True


def hit(thread: str) -> Any:
    """State that an earlier version has no name for."""

    class Found(TypedDict):
        hits: list[Any]

    found = SearchItem(("users",), "k", {"likes": "tea"}, MOMENT, MOMENT, 0.5)
    with saver() as on:
        made = StateGraph(Found).add_node("find", lambda state: {"hits": [found]}).add_edge(START, "find")
        made.compile(checkpointer=on).invoke({"hits": []}, config(thread))
    return True


def say(agent: str, session: str, *texts: str) -> Any:
    history = RedisChatMessageHistory(agent, session, url=URL, prefix=PREFIX)
    for number, text in enumerate(texts):
        kind = AIMessage if number % 2 else HumanMessage
        history.add_messages([kind(text, id=f"{session}-{text}", additional_kwargs={"n": number})])
    return True


def history(agent: str, session: str) -> Any:
    return [
        message_to_dict(each) for each in RedisChatMessageHistory(agent, session, url=URL, prefix=PREFIX).messages
    ]


def remember(agent: str, session: str, text: str) -> Any:
    with RedisMemoryService(url=URL, prefix=PREFIX) as memory:
        memory.append_to_history(
            agent, session, {"role": "user", "content": text, "extra": [1, None]}, max_history=50
        )
        memory.save_agent_state(agent, {"text": text, "n": [1, 2.5]})
        memory.set_session_data(session, f"key {text}", {"value": text})
    return True


def memory(agent: str, session: str) -> Any:
    with RedisMemoryService(url=URL, prefix=PREFIX) as on:
        return [
            on.get_conversation_history(agent, session),
            on.get_agent_state(agent),
            sorted(on.get_all_session_data(session).items()),
            sorted(on.get_all_sessions_for_agent(agent)),
            sorted(on.get_all_agents_for_session(session)),
            sorted(on.get_all_agents()),
        ]


def clear(session: str) -> Any:
    with RedisMemoryService(url=URL, prefix=PREFIX) as on:
        return bool(on.clear_session(session))


def lines() -> Any:
    with saver() as on, RedisMemoryService(url=URL, prefix=PREFIX) as memory:
        return [*memory.export_jsonl(), *on.export_jsonl()]


def restore(file: str) -> Any:
    with open(file) as lines, RedisMemoryService(url=URL, prefix=PREFIX) as memory:
        memory.import_jsonl(lines)
    with open(file) as lines, saver() as on:
        on.import_jsonl(lines)
    return True


def ask(thread: str, question: str) -> Any:
    """A question to the supervisor, with histories."""

    def replies() -> Iterator[AIMessage]:
        while True:
            yield AIMessage("As the group sees it, yes.")

    with saver() as on:
        supervisor = build_supervisor(
            GenericFakeChatModel(messages=replies()),
            router="lexical",
            checkpointer=on,
            history_factory=lambda agent, session: RedisChatMessageHistory(agent, session, url=URL, prefix=PREFIX),
        )
        supervisor.invoke({"messages": [HumanMessage(question, id=question)]}, config(thread))
        return [each.text for each in supervisor.get_state(config(thread)).values["messages"]]


def run(name: str, *arguments: Any) -> Any:
    try:
        return globals()[name](*arguments)
    except EcowasError as error:
        return {"error": type(error).__name__, "text": str(error)}


def main() -> None:
    global PREFIX
    print(json.dumps(ecowas_lc.__file__), flush=True)
    for line in sys.stdin:
        PREFIX, steps = json.loads(line)
        print(json.dumps([run(*step) for step in steps], default=repr), flush=True)


if __name__ == "__main__":
    main()
