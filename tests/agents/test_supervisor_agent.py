"""The supervisor as an object: a session of the graph, in this process or on a real server."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.config import get_store
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore

from ecowas_lc import TWG, BaseAgent, RedisMemoryService, create_supervisor, default_groups
from ecowas_lc.errors import (
    ConfigurationError,
    EmptyQuestionError,
    InvalidIdError,
    InvalidInputError,
    ModelError,
    UnknownGroupError,
)
from ecowas_lc.settings import load_settings
from tests.agents.conftest import Call, dialogue, model, numbered, redis_agent, supervisor, texts
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker
from tests.fixtures.servers import RunningCluster, RunningServer

IDS = [group.id for group in default_groups()]
SYNTHESIS = {"views": {"energy": "E.", "digital": "D."}, "answer": "So."}


def structured() -> ScriptedModel:
    return ScriptedModel(script=by_speaker({"synthesis": SYNTHESIS}), structured=True)


def thread(agent: Any) -> dict[str, Any]:
    return dict(agent.graph.get_state({"configurable": {"thread_id": agent.session_id}}).values)


@pytest.fixture(params=["process", "redis"])
def kept(request: pytest.FixtureRequest) -> RedisMemoryService | None:
    """A memory service, or none: the tests hold for both."""
    return None if request.param == "process" else request.getfixturevalue("memory")


def test_a_question_goes_to_whom_it_concerns(call: Call, kept: RedisMemoryService | None) -> None:
    """One group's answer is passed on, several are combined, and the supervisor answers general questions."""
    agent = supervisor(kept, model=structured())
    assert call(agent, "smart_chat", "energy: a?") == "energy speaks."
    both = call(agent, "smart_chat", "energy+digital: b?")
    assert "Energy & Infrastructure" in both
    assert both != "energy speaks."
    assert call(agent, "smart_chat", "hello") == "supervisor speaks."
    assert texts(call(agent, "history")) == [
        "energy: a?",
        "energy speaks.",
        "energy+digital: b?",
        both,
        "hello",
        "supervisor speaks.",
    ]


def test_the_facade_runs_the_graph(kept: RedisMemoryService | None) -> None:
    """The thread has the session's id and the messages of the transcript."""
    agent = supervisor(kept, model=structured())
    agent.smart_chat("energy: a?")
    agent.smart_chat("energy+digital: b?")
    state = thread(agent)
    assert [message.text for message in state["messages"]] == texts(agent.history)
    assert state["decision"]["groups"] == ["energy", "digital"]


def test_each_group_keeps_its_own_history(memory: RedisMemoryService) -> None:
    """Under its id; the transcript is the supervisor's."""
    agent = supervisor(memory, model=structured())
    agent.smart_chat("energy: a?")
    agent.smart_chat("energy+digital: b?")
    stored = {id_: texts(memory.get_conversation_history(id_, "s")) for id_ in ("energy", "digital", "supervisor")}
    assert stored["energy"] == ["energy: a?", "energy speaks.", "energy+digital: b?", "energy speaks."]
    assert stored["digital"] == ["energy+digital: b?", "digital speaks."]
    assert stored["supervisor"] == texts(agent.history)


def test_another_supervisor_goes_on(call: Call, memory: RedisMemoryService) -> None:
    """Supervisors with the same session share it: the second's models receive the first's messages."""
    call(supervisor(memory), "smart_chat", "energy: a?")
    scripted = model()
    second = supervisor(memory, model=scripted)
    assert texts(call(second, "history")) == ["energy: a?", "energy speaks."]
    call(second, "smart_chat", "energy: b?")
    assert [m.text for m in scripted.calls[-1][1:]] == ["energy: a?", "energy speaks.", "energy: b?"]
    assert len(thread(second)["messages"]) == 4


def test_a_stream_is_the_final_answer(call: Call) -> None:
    """Of several groups, only the combined answer is streamed; its parts joined are what the history holds."""
    agent = supervisor(model=structured())
    for question in ("energy: a?", "energy+digital: b?", "hello"):
        pieces = call(agent, "stream", question)
        assert "".join(pieces) == agent.history[-1]["content"]
        assert len(pieces) > 1


def test_a_stream_has_what_failures_add() -> None:
    """If only one of several groups could answer, its answer and a note on the others are streamed."""
    failing = ScriptedModel(script=by_speaker({"digital": ModelError("broken")}))
    agent = supervisor(model=failing)
    heard = "".join(agent.stream("energy+digital: b?"))
    assert heard.startswith("energy speaks.\n\n")
    assert "Digital Economy & Transformation" in heard
    assert heard == agent.history[-1]["content"]


def test_chat_is_the_supervisors_own_answer(call: Call) -> None:
    """The named group answers whatever the question is about; it is part of the conversation."""
    agent = supervisor()
    assert call(agent, "chat", "energy: a?") == "supervisor speaks."
    assert texts(agent.history) == ["energy: a?", "supervisor speaks."]


def test_delegating(call: Call, kept: RedisMemoryService | None) -> None:
    """The named group answers whatever the question is about; it is part of the conversation."""
    agent = supervisor(kept)
    assert call(agent, "delegate_to_agent", "digital", "energy: a?") == "digital speaks."
    assert texts(agent.history) == ["energy: a?", "digital speaks."]
    assert call(agent, "get_supervisor_status")["last_decision"]["groups"] == ["digital"]


def test_consulting(call: Call) -> None:
    """Each named group answers; the history holds the combined answer."""
    agent = supervisor(model=structured())
    answers = call(agent, "consult_multiple_agents", "a?", ["digital", "energy", "digital"])
    assert answers == {"digital": "digital speaks.", "energy": "energy speaks."}
    assert list(answers) == ["digital", "energy"]
    assert len(agent.history) == 2
    assert call(agent, "consult_multiple_agents", "b?", ["digital"]) == {"digital": "digital speaks."}


def test_who_could_not_be_consulted_is_told() -> None:
    """The other groups' answers are kept; if no group could answer, the cause is raised."""
    agent = supervisor(model=ScriptedModel(script=by_speaker({"digital": ModelError("broken. Mend it.")})))
    assert agent.consult_multiple_agents("a?", ["energy", "digital"]) == {"energy": "energy speaks."}
    report = agent.get_supervisor_status()["last_reports"]["digital"]
    assert (report["status"], report["reason"]) == ("failed", "broken. Mend it.")
    with pytest.raises(ModelError, match="broken"):
        agent.delegate_to_agent("digital", "b?")
    assert len(agent.history) == 2, "a question that nobody answered leaves no trace"


def test_unknown_groups_are_named(call: Call) -> None:
    """The groups that could answer do."""
    agent = supervisor()
    for name, arguments in (
        ("delegate_to_agent", ("nobody", "a?")),
        ("consult_multiple_agents", ("a?", ["energy", "nobody"])),
    ):
        with pytest.raises(UnknownGroupError, match=r"'nobody'.*energy, agriculture"):
            call(agent, name, *arguments)
    with pytest.raises(InvalidInputError, match="No groups were given"):
        call(agent, "consult_multiple_agents", "a?", [])
    assert agent.history == []


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_an_empty_prompt_is_refused(call: Call, prompt: str) -> None:
    """Whatever is asked for."""
    agent = supervisor()
    for name, arguments in (
        ("smart_chat", (prompt,)),
        ("chat", (prompt,)),
        ("stream", (prompt,)),
        ("identify_relevant_agents", (prompt,)),
        ("delegate_to_agent", ("energy", prompt)),
        ("consult_multiple_agents", (prompt, ["energy"])),
    ):
        with pytest.raises(EmptyQuestionError):
            call(agent, name, *arguments)


def test_who_is_relevant(call: Call) -> None:
    """The default router decides; a greeting concerns no group. No model is asked and nothing is stored."""
    scripted = model()
    agent = supervisor(model=scripted, router="lexical")
    assert call(agent, "identify_relevant_agents", "How do we extend the solar grid of the power pool?") == [
        "energy"
    ]
    assert call(agent, "identify_relevant_agents", "Good morning!") == []
    assert agent.history == []
    assert scripted.calls == []


def test_without_history_each_question_stands_for_itself(call: Call, memory: RedisMemoryService) -> None:
    """Refused by name, nothing is kept anywhere, whatever ``use_redis`` says."""
    scripted = model()
    agent = supervisor(memory, keep_history=False, model=scripted)
    call(agent, "smart_chat", "energy: a?")
    call(agent, "smart_chat", "energy: b?")
    assert [message.text for message in scripted.calls[-1][1:]] == ["energy: b?"]
    assert call(agent, "history") == []
    assert memory.get_all_agents() == []
    assert memory.get_memory_stats()["threads"] == 0
    call(agent, "reset_history")


def test_a_reset_forgets_the_session(call: Call, kept: RedisMemoryService | None) -> None:
    """A reset removes the session's transcript, thread and groups' histories, but no session data."""
    scripted = model()
    agent = supervisor(kept, model=scripted)
    other = supervisor(kept, session_id="other")
    other.smart_chat("energy: z?")
    if kept is not None:
        kept.set_session_data("s", "language", "fr")
    call(agent, "smart_chat", "energy: a?")
    call(agent, "reset_history")
    assert call(agent, "history") == []
    assert thread(agent) == {}
    call(agent, "smart_chat", "energy: b?")
    assert [message.text for message in scripted.calls[-1][1:]] == ["energy: b?"]
    assert len(other.history) == 2
    if kept is not None:
        assert kept.get_session_data("s", "language") == "fr"
        assert texts(kept.get_conversation_history("energy", "s")) == ["energy: b?", "energy speaks."]


def test_how_much_is_kept(redis_server: RunningServer, prefix: str) -> None:
    """``SUPERVISOR_MAX_HISTORY`` and ``AGENT_MAX_HISTORY`` messages; all of it for ``memory_ttl`` seconds."""
    settings = load_settings(
        redis_url=redis_server.url, prefix=prefix, supervisor_max_history=4, agent_max_history=2
    )
    agent = create_supervisor(
        session_id="s", use_redis=True, memory_ttl=300, settings=settings, model=model(), router=FixedRouter()
    )
    for question in ("energy: a?", "energy: b?", "energy: c?"):
        agent.smart_chat(question)
    assert texts(agent.history) == ["energy: b?", "energy speaks.", "energy: c?", "energy speaks."]
    with redis_server.client() as client:
        assert client.llen(f"{prefix}:history:energy:s") == 2
        keys = [key for key in client.keys(f"{prefix}:*:*s*") if not key.startswith(f"{prefix}:index".encode())]
        assert len(keys) >= 5
        for key in keys:
            assert 290 <= client.ttl(key) <= 300, key


def test_a_transcript_without_a_thread_is_gone_on_with(memory: RedisMemoryService) -> None:
    """A conversation saved by another program as the published dicts reaches the models once."""
    told = [{"role": "user", "content": "old?"}, {"role": "assistant", "content": "Old."}]
    memory.save_conversation_history("supervisor", "s", told)
    scripted = model()
    agent = supervisor(memory, model=scripted)
    for question in ("energy: a?", "energy: b?"):
        agent.smart_chat(question)
    heard = [message.text for message in scripted.calls[-1][1:]]
    assert heard == ["old?", "Old.", "energy: a?", "energy speaks.", "energy: b?"]
    assert texts(agent.history) == [*heard, "energy speaks."]
    state = thread(agent)
    assert [m.text for m in (*state["earlier"]["messages"], *state["messages"])] == texts(agent.history)


def test_two_turns_at_the_same_time(kept: RedisMemoryService | None) -> None:
    """Concurrent questions are answered one after the other, both are remembered, and the next turn knows both."""
    under_way: list[int] = []

    def answers(_: Any) -> str:
        under_way.append(1)
        assert len(under_way) == 1, "two turns of a session at once"
        time.sleep(0.05)
        under_way.clear()
        return "Together."

    waiting = supervisor(kept, model=model(energy=answers))
    other = supervisor(kept, model=model(energy=answers)) if kept else waiting
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(agent.smart_chat, f"energy: {n}?") for n, agent in enumerate((waiting, other))]
        assert [future.result(30) for future in asked] == ["Together.", "Together."]
    scripted = model()
    waiting.register_agent("digital", BaseAgent("digital", model=scripted))
    waiting.smart_chat("digital: c?")
    transcript = texts(waiting.history)
    assert sorted(transcript[:4:2]) == ["energy: 0?", "energy: 1?"]
    assert transcript[1::2] == ["Together.", "Together.", "digital speaks."]
    assert sorted(message.text for message in thread(waiting)["messages"]) == sorted(transcript)


def test_a_stream_that_is_broken_off_is_not_remembered(kept: RedisMemoryService | None) -> None:
    """A partial answer is not stored as an answer, and the conversation can continue."""
    agent = supervisor(kept, model=model(energy="one two three"))
    heard = agent.stream("energy: a?")
    assert next(heard) == "one"
    heard.close()  # type: ignore[attr-defined]

    async def breaks_off() -> str:
        stream = agent.astream("energy: b?")
        async with aclosing(stream):  # type: ignore[type-var]
            return await anext(stream)

    assert asyncio.run(breaks_off()) == "one"
    assert agent.history == []
    assert agent.smart_chat("energy: c?") == "one two three"
    assert texts(agent.history) == ["energy: c?", "one two three"]


def test_on_a_cluster(cluster: RunningCluster, prefix: str) -> None:
    """A session's keys may be anywhere."""
    with RedisMemoryService(url=cluster.url, prefix=prefix) as place:
        supervisor(place).smart_chat("energy: a?")
        agent = supervisor(place)
        agent.smart_chat("energy: b?")
        assert texts(agent.history) == ["energy: a?", "energy speaks.", "energy: b?", "energy speaks."]
        assert [message.text for message in thread(agent)["messages"]] == texts(agent.history)
        assert agent.get_session_info()["backend"] == "redis"
        agent.reset_history()
        assert (agent.history, thread(agent)) == ([], {})


def test_the_status_says_all(call: Call, memory: RedisMemoryService) -> None:
    """The status holds the registered groups, how the last answer was made and where it is stored; JSON-able."""
    agent = supervisor(memory)
    agent.smart_chat("energy: a?")
    status = json.loads(json.dumps(call(agent, "get_supervisor_status")))
    assert list(status["agents"]) == IDS
    assert status["agents"]["energy"] == {"name": "Energy & Infrastructure", "answered_by": "graph"}
    assert status["last_decision"]["groups"] == ["energy"]
    assert status["last_reports"]["energy"]["status"] == "answered"
    expected = {
        "session_id": "s",
        "backend": "redis",
        "history_length": 2,
        "router": "FixedRouter",
        "model": "ScriptedModel",
    }
    assert expected.items() <= status.items()


# --- registered agents ---


class Clerk:
    """Answers without a model; anything with ``chat`` can be registered."""

    def __init__(self, answer: str = "By the book.") -> None:
        self.answer = answer
        self.asked: list[str] = []

    def chat(self, prompt: str) -> str:
        self.asked.append(prompt)
        return self.answer


def test_a_registered_agent_answers_for_its_group(call: Call, kept: RedisMemoryService | None) -> None:
    """It answers in the graph instead of the group's model, alone or with others; the graph stores the history."""
    scripted = structured()
    agent = supervisor(kept, model=scripted)
    clerk = Clerk()
    agent.register_agent("energy", clerk)
    assert call(agent, "smart_chat", "energy: a?") == "By the book."
    assert scripted.calls == []
    assert "".join(call(agent, "stream", "energy: b?")) == "By the book."
    assert call(agent, "consult_multiple_agents", "c?", ["energy", "digital"])["energy"] == "By the book."
    assert clerk.asked == ["energy: a?", "energy: b?", "c?"]
    assert agent.get_supervisor_status()["agents"]["energy"]["answered_by"] == "Clerk"
    if kept is not None:
        assert len(kept.get_conversation_history("energy", "s")) == 6


def test_an_agent_that_keeps_its_history_keeps_it_once(call: Call, memory: RedisMemoryService) -> None:
    """The graph does not write a second history under the same ids; the model's tokens are streamed once."""
    agent = supervisor(memory)
    agent.register_agent("energy", redis_agent(memory))
    assert "".join(call(agent, "stream", "energy: a?")) == "Answer to: energy: a?"
    assert texts(memory.get_conversation_history("energy", "s")) == dialogue("energy: a?")
    assert texts(agent.history) == dialogue("energy: a?")


def test_a_new_group_can_be_registered() -> None:
    """The group is found by its terms or asked by its id; the others remain."""
    agent = supervisor(router="lexical")
    agent.register_agent("heritage", Clerk("Masks."), name="Culture", terms={"en": ["museum*", "mask*"]})
    assert agent.get_registered_agents() == [*IDS, "heritage"]
    assert agent.identify_relevant_agents("Which museums show masks?") == ["heritage"]
    assert agent.smart_chat("Which museums show masks?") == "Masks."
    assert agent.delegate_to_agent("heritage", "a?") == "Masks."
    assert agent.get_supervisor_status()["agents"]["heritage"]["name"] == "Culture"


def test_nobody_is_registered_unasked() -> None:
    """``auto_register=False`` starts without groups: the supervisor answers until some are registered."""
    agent = supervisor(auto_register=False, router="lexical")
    question = "How do we extend the solar grid of the power pool?"
    assert agent.get_registered_agents() == []
    assert agent.identify_relevant_agents(question) == []
    assert agent.smart_chat(question) == "supervisor speaks."
    with pytest.raises(UnknownGroupError, match="register_agent"):
        agent.delegate_to_agent("energy", "a?")
    agent.register_agent("energy")
    agent.register_agent("digital", Clerk())
    assert agent.get_registered_agents() == ["energy", "digital"]
    assert agent.smart_chat(question) == "energy speaks."
    assert len(agent.history) == 4, "registering goes on with the conversation"


def test_a_failing_agent_is_a_failing_group() -> None:
    """Others' answers are not lost for it, and it can be replaced by the group itself."""

    class Broken:
        def chat(self, prompt: str) -> str:
            raise RuntimeError("no idea")

    agent = supervisor()
    agent.register_agent("digital", Broken())
    assert agent.consult_multiple_agents("a?", ["energy", "digital"]) == {"energy": "energy speaks."}
    assert "no idea" in agent.get_supervisor_status()["last_reports"]["digital"]["reason"]
    agent.register_agent("digital")
    assert agent.delegate_to_agent("digital", "b?") == "digital speaks."


def test_what_can_not_be_registered() -> None:
    """No agent, no group, no id."""
    agent = supervisor()
    with pytest.raises(InvalidInputError, match=r"no method chat"):
        agent.register_agent("energy", object())  # type: ignore[arg-type]
    with pytest.raises(UnknownGroupError, match="nobody"):
        agent.register_agent("nobody")
    for bad in ("", "a:b", "supervisor", "messages"):
        with pytest.raises(InvalidIdError):
            agent.register_agent(bad, Clerk())
    assert agent.get_registered_agents() == IDS


def test_groups_are_data() -> None:
    """A supervisor can have other groups than the summit's; unusable ones are named."""
    own = [TWG("law", "Law", "You know the law.", {"en": ["treaty", "treaties"]})]
    scripted = numbered()
    agent = supervisor(groups=own, router="lexical", model=scripted)
    assert agent.get_registered_agents() == ["law"]
    agent.smart_chat("Which treaties?")
    assert scripted.calls[-1][0].text == "You know the law."
    with pytest.raises(ConfigurationError, match="router"):
        supervisor(router="oracle")
    with pytest.raises(InvalidInputError):
        supervisor(groups=[])


def test_a_supervisor_is_an_agent() -> None:
    """It has an id, a name and a generated session, so that it can be used wherever an agent can."""
    agent = create_supervisor(model=model(), router=FixedRouter())
    assert isinstance(agent, BaseAgent)
    assert (agent.agent_id, agent.max_history) == ("supervisor", 20)
    assert agent.session_id != create_supervisor(model=model()).session_id


def test_a_store_is_seen_by_graphs_and_agents(call: Call, kept: RedisMemoryService | None) -> None:
    """A group that is a graph finds the store as ``runtime.store``, and code in an agent by ``get_store``."""

    def remember(state: MessagesState, runtime: Runtime[None]) -> Any:
        assert runtime.store is not None
        before = runtime.store.get(("facts",), "said")
        runtime.store.put(("facts",), "said", {"text": state["messages"][-1].text})
        return {"messages": [AIMessage(before.value["text"] if before else "nothing yet")]}

    class Reader:
        def chat(self, prompt: str) -> str:
            found = get_store().get(("facts",), "said")
            return str(found.value["text"]) if found else "nothing yet"

    store = InMemoryStore()
    graph: Any = StateGraph(MessagesState).add_node(remember).add_edge(START, "remember").compile()
    for session in ("one", "two"):
        agent = supervisor(kept, session_id=session, store=store)
        agent.register_agent("energy", graph)
        agent.register_agent("digital", Reader())
        assert agent.graph.store is store
        said = call(agent, "smart_chat", f"energy: {session}?")
        assert said == ("nothing yet" if session == "one" else "energy: one?")
    assert call(agent, "delegate_to_agent", "digital", "what was said?") == "energy: two?"
    with pytest.raises(InvalidInputError, match="compiled graph"):
        agent.register_agent("energy", object())


def test_the_factory_takes_a_store() -> None:
    """``create_supervisor`` passes it on."""
    store = InMemoryStore()
    assert create_supervisor(model=model(), store=store).graph.store is store
