"""``threads resume``: a person decides in the terminal, and the run continues with exactly what was shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langgraph.store.memory import InMemoryStore

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import history_factory
from ecowas_lc.store import RedisStore
from ecowas_lc.supervisor import build_supervisor
from tests.cli.conftest import Run
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.servers import RunningServer

SOLAR = "Which solar tariffs does the power pool charge?"
TWO = "Which solar tariffs does the power pool charge, and which lithium mines are there?"
Waiting = Callable[..., list[Any]]


@pytest.fixture
def held(environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str) -> Waiting:
    """Ask a question whose answers wait for a reviewer, and return the requests."""

    def ask(question: str = SOLAR, thread: str = "t", answer: str = "Ten cents.") -> list[Any]:
        graph = build_supervisor(
            FakeListChatModel(responses=[answer]),
            router="lexical",
            checkpointer=RedisSaver.from_url(redis_server.url, prefix=prefix),
            history_factory=history_factory(url=redis_server.url, prefix=prefix),
            interrupt_before_release="all",
        )
        config: Any = {"configurable": {"thread_id": thread}}
        graph.invoke({"messages": [("user", question)]}, config)
        return list(graph.get_state(config).interrupts)

    return ask


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--approve"], "Ten cents."),
        (["--edit", "Eleven cents."], "Eleven cents."),
        (["--reject", "--reason", "too early"], "The answer of Energy & Infrastructure was not released."),
    ],
    ids=["approve", "edit", "reject"],
)
def test_a_decision_in_options(
    run: Run, held: Waiting, stub: OllamaStub, environment: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    """The run continues in this process with the decision; a single answer needs no model server."""
    [request] = held()
    environment.setenv("OLLAMA_BASE_URL", "http://127.0.0.1:1")
    ended = run("threads", "resume", "t", *options, "--json")
    assert ended.code == 0, ended.err
    shown = json.loads(ended.out)
    assert shown["answer"] == said
    assert (shown["decided"], shown["waiting"]) == ([request.id], [])
    history = json.loads(run("sessions", "show", "t", "--json").out)
    assert history["messages"][-1]["text"] == said
    assert history["histories"]["supervisor"][-1]["text"] == said
    again = run("threads", "resume", "t", "--approve")
    assert again.code == 1
    assert "Thread 't' has no request that waits" in again.err


def test_a_person_is_shown_what_waits_and_asked(run: Run, held: Waiting) -> None:
    """On a terminal each request is shown with its question and answer; an empty line leaves it waiting."""
    held()
    left = run("threads", "resume", "t", stdin="\n", on_terminal=True)
    assert (left.code, left.out) == (0, "")
    assert SOLAR in left.err
    assert "Ten cents." in left.err
    assert "Energy & Infrastructure" in left.err
    assert left.err.endswith("Nothing was decided.\n")
    assert "Nothing was decided." in run("threads", "resume", "t", on_terminal=True).err  # Ctrl-D
    refused = run("threads", "resume", "t", "--edit", "-", on_terminal=True)
    assert (refused.code, "reads the text from a pipe" in refused.err) == (2, True)
    ended = run("threads", "resume", "t", stdin="what?\na\n", on_terminal=True)
    assert "1 request decided in thread t." in ended.out
    assert "Ten cents." in ended.out


def test_a_person_is_shown_which_groups_an_answer_of_the_supervisor_concerns(run: Run, held: Waiting) -> None:
    """An answer of the supervisor itself that waits for a reviewer names the groups whose subject it is about."""
    [request] = held("Good morning!", answer=SOLAR)
    assert request.value["concerns"] == ["energy"]
    shown = run("threads", "resume", "t", stdin="\n", on_terminal=True).err
    assert [" ".join(line.split()) for line in shown.splitlines() if "Concerns" in line] == ["Concerns energy"]


def test_an_answer_is_edited_on_a_terminal(
    run: Run, held: Waiting, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user's editor gets the answer; without one the new text is typed. An unchanged text decides nothing."""
    held()
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nsed -i s/Ten/Twelve/ "$1"\n')
    editor.chmod(0o700)
    environment.delenv("VISUAL", raising=False)
    environment.setenv("EDITOR", "true")
    assert "was not changed" in run("threads", "resume", "t", stdin="e\n\n", on_terminal=True).err
    environment.setenv("EDITOR", str(editor))
    assert "Twelve cents." in run("threads", "resume", "t", stdin="e\n", on_terminal=True).out
    held(thread="typed")
    environment.setenv("EDITOR", "false")
    assert "The editor 'false' failed" in run("threads", "resume", "typed", stdin="e\n", on_terminal=True).err
    environment.delenv("EDITOR")
    assert "Nothing was decided." in run("threads", "resume", "typed", stdin="e\n", on_terminal=True).err
    typed = run("threads", "resume", "typed", stdin="e\nIn cents:\n13\n.\n", on_terminal=True)
    assert "In cents:" in typed.out
    assert "13" in typed.out


def test_one_of_several_requests_is_named(run: Run, held: Waiting, stub: OllamaStub) -> None:
    """If several answers wait, an option must name one by id or draft; once all are decided, the run continues."""
    first, second = held(TWO)
    ended = run("threads", "resume", "t", "--approve")
    assert ended.code == 2
    assert first.id in ended.err
    assert second.id in ended.err
    assert run("threads", "resume", "t", "--approve", "--request", "0" * 32).code == 1
    one = json.loads(run("threads", "resume", "t", "--approve", "--request", first.id, "--json").out)
    assert one["waiting"] == [second.id]
    assert "answer" not in one
    third, fourth = held(TWO, "text")
    left = run("threads", "resume", "text", "--edit", "-", "--request", third.id, stdin="Nine cents.\n")
    assert f"1 request still waiting: {fourth.id}." in left.err
    assert "1 request decided in thread text." in left.out
    ended = run("threads", "resume", "t", "--reject", "--request", second.value["draft"], "--json")
    other = json.loads(ended.out)
    assert other["waiting"] == []
    assert "Ten cents." in other["answer"]


@pytest.mark.parametrize(
    "options",
    [["--approve", "--reject"], ["--reason", "x"], ["--edit", " "], ["--answer", "yes"], []],
    ids=" ".join,
)
def test_what_is_no_decision_changes_nothing(run: Run, held: Waiting, options: list[str]) -> None:
    """Contradictory options, and a question without a terminal, end the command before anything is stored."""
    held()
    ended = run("threads", "resume", "t", *options)
    assert (ended.code, ended.out) == (2, "")
    assert run("threads", "resume", "t", "--approve").code == 0


def test_a_thread_that_does_not_exist(run: Run, environment: pytest.MonkeyPatch) -> None:
    """It is named, with the command that lists threads."""
    ended = run("threads", "resume", "none", "--approve")
    assert ended.code == 1
    assert "There is no thread 'none'" in ended.err


OWN = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt


def pay(state, runtime: Runtime):
    runtime.store.put(("payments",), "accra", {"amount": 10})
    is_agreed = interrupt("Pay 10 to Accra?") in ("yes", True)
    return {"messages": [AIMessage("Paid." if is_agreed else "Not paid.", id="a")]}


builder = StateGraph(MessagesState)
builder.add_node("pay", pay)
builder.add_edge(START, "pay")
graph = builder.compile()
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--answer", "yes"], "Paid."), (["--approve"], "Paid."), (["--reject"], "Not paid.")],
    ids=["answer", "approve", "reject"],
)
def test_a_tool_of_an_own_graph_is_answered(
    run: Run,
    environment: pytest.MonkeyPatch,
    redis_server: RunningServer,
    prefix: str,
    tmp_path: Path,
    options: list[str],
    said: str,
) -> None:
    """A thread of another graph continues only with that graph, which you name; the supervisor refuses it."""
    (tmp_path / "own_payments.py").write_text(OWN)
    scope: dict[str, Any] = {}
    exec(OWN, scope)
    saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
    graph = scope["graph"].copy({"checkpointer": saver, "store": InMemoryStore()})
    graph.invoke({"messages": [("user", "Pay.")]}, {"configurable": {"thread_id": "own"}})
    refused = run("threads", "resume", "own", "--answer", "yes")
    assert refused.code == 1
    assert "--graph" in refused.err
    for name in ("nonsense", "no_such_module_here:graph", "own_payments:none", "own_payments:interrupt"):
        assert run("threads", "resume", "own", "--answer", "yes", "--graph", name).code != 0
    own = ("threads", "resume", "own", "--graph", "own_payments:graph")
    assert "neither a compiled graph" in run(*own[:3], "--answer", "yes", "--graph", "own_payments:START").err
    assert "can't be edited here" in run(*own, "--edit", "no").err
    assert "Nothing was decided." in run(*own, stdin="\n", on_terminal=True).err
    ended = run(*own, *options, "--json")
    assert json.loads(ended.out)["answer"] == said
    with RedisStore.from_url(redis_server.url, prefix=prefix) as store:
        found = store.get(("payments",), "accra")
    assert found is not None
    assert found.value == {"amount": 10}


HELD_TOOL = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


def pay(state):
    decided = interrupt({"action_requests": [{"name": "pay", "args": {"amount": 10}}], "review_configs": []})
    return {"messages": [AIMessage(str(decided), id="a")]}


graph = StateGraph(MessagesState).add_node("pay", pay).add_edge(START, "pay").compile()
"""


@pytest.mark.parametrize(
    ("options", "typed", "decided"),
    [
        (["--approve"], "", "{'decisions': [{'type': 'approve'}]}"),
        (["--reject", "--reason", "no"], "", "{'decisions': [{'type': 'reject', 'message': 'no'}]}"),
        (["--reject"], "", "{'decisions': [{'type': 'reject', 'message': 'Rejected.'}]}"),
        ([], "what?\na\n", "{'decisions': [{'type': 'approve'}]}"),
        ([], "r\nno\n", "{'decisions': [{'type': 'reject', 'message': 'no'}]}"),
    ],
    ids=["approve", "reject", "reject without a reason", "typed approval", "typed rejection"],
)
def test_a_tool_call_that_is_held_is_decided_on(
    run: Run,
    environment: pytest.MonkeyPatch,
    redis_server: RunningServer,
    prefix: str,
    tmp_path: Path,
    options: list[str],
    typed: str,
    decided: str,
) -> None:
    """A request in the form of LangChain's middleware is approved or rejected, and nothing else."""
    (tmp_path / "held_tool.py").write_text(HELD_TOOL)
    scope: dict[str, Any] = {}
    exec(HELD_TOOL, scope)
    saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
    scope["graph"].copy({"checkpointer": saver}).invoke(
        {"messages": [("user", "Pay.")]}, {"configurable": {"thread_id": "held"}}
    )
    command = ("threads", "resume", "held", "--graph", "held_tool:graph")
    for refused in (("--edit", "x"), ("--answer", "yes")):
        assert "A tool call waits for approval. Pass --approve" in run(*command, *refused).err
    left = run(*command, stdin="\n", on_terminal=True)
    assert "Nothing was decided." in left.err
    assert "pay" in left.err
    ended = run(*command, *options, stdin=typed, on_terminal=not options)
    assert ended.code == 0, ended.err
    assert saver.thread("held").messages[-1].text == decided
