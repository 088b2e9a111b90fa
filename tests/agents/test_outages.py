"""Redis fails during a conversation and returns: no message is lost, and none is doubled."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc import BaseAgent, RedisAgent, RedisMemoryService, SupervisorAgent
from ecowas_lc.agents.outage import Held, ServerLink
from ecowas_lc.agents.transcript import SharedConversation, storing
from ecowas_lc.effects import run
from ecowas_lc.errors import InvalidInputError, RedisTimeoutError, RedisUnavailableError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.storage.server import Server
from tests.agents.conftest import Call, dialogue, numbered, redis_agent, supervisor, texts
from tests.fixtures.servers import RunningServer, running_server, wait_until


@pytest.fixture(autouse=True)
def fewer_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that take redis-py a second are run dozens of times here."""
    monkeypatch.setattr("ecowas_lc.storage.clients._RETRIES", 1)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings of the agents."""
    caplog.set_level(logging.INFO, logger="ecowas_lc.agents")
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def place(mortal: RunningServer, prefix: str) -> Iterator[RedisMemoryService]:
    """A memory service on a server that may be killed."""
    with RedisMemoryService(url=mortal.url, prefix=prefix) as service:
        yield service


def wait_until_stored(agent: BaseAgent) -> None:
    """Wait until the agent is back on Redis."""
    wait_until(lambda: agent.get_session_info()["backend"] == "redis", "the replay")


def stored(server: RunningServer, prefix: str, agent_id: str = "energy") -> list[str]:
    """What a program unrelated to the agents finds on the server."""
    with RedisMemoryService(url=server.url, prefix=prefix) as elsewhere:
        return texts(elsewhere.get_conversation_history(agent_id, "s"))


def thread_of(agent: SupervisorAgent) -> Any:
    return agent.graph.get_state({"configurable": {"thread_id": "s"}})


def test_killed_in_mid_conversation(
    call: Call, mortal: RunningServer, place: RedisMemoryService, warnings: Callable[[], list[str]]
) -> None:
    """The agent continues in memory, warns once, and stores the backlog when the server is back."""
    scripted = numbered()
    agent = redis_agent(place, model=scripted)
    call(agent, "chat", "one?")
    mortal.kill()
    call(agent, "chat", "two?")
    call(agent, "chat", "three?")
    assert [message.text for message in scripted.calls[-1][1:]] == [*dialogue("one?", "two?"), "three?"]
    assert texts(call(agent, "history")) == dialogue("one?", "two?", "three?")
    info = call(agent, "get_session_info")
    assert (info["backend"], info["history_length"], info["ttl"]) == ("memory", 6, None)
    [warning] = warnings()
    assert f"127.0.0.1:{mortal.port}" in warning
    assert "in memory" in warning
    mortal.start()
    wait_until_stored(agent)
    call(agent, "chat", "four?")
    assert stored(mortal, place.prefix) == dialogue("one?", "two?", "three?", "four?")
    assert texts(call(agent, "history")) == stored(mortal, place.prefix)
    assert len(warnings()) == 1


def test_down_at_construction(
    call: Call, mortal: RunningServer, place: RedisMemoryService, warnings: Callable[[], list[str]]
) -> None:
    """An agent works without its server; earlier messages of others come first once the server is back."""
    redis_agent(place).chat("before?")
    mortal.kill()
    with RedisMemoryService(url=mortal.url, prefix=place.prefix) as elsewhere:
        agent = redis_agent(elsewhere)
        assert agent.get_session_info()["backend"] == "memory"
        call(agent, "chat", "one?")
        assert texts(call(agent, "history")) == dialogue("one?")
        assert call(agent, "extend_session") is False
        assert len([text for text in warnings() if "in memory" in text]) == 1
        mortal.start()
        wait_until_stored(agent)
        assert texts(agent.history) == stored(mortal, place.prefix) == dialogue("before?", "one?")
        assert agent.get_session_info()["ttl"] is not None


def test_again_and_again(call: Call, mortal: RunningServer, place: RedisMemoryService) -> None:
    """Each outage ends, and each new one triggers a new warning."""
    agent = redis_agent(place, max_history=100)
    questions = []
    for outage in range(3):
        for moment in ("up", "down"):
            questions.append(f"{outage} {moment}?")
            call(agent, "chat", questions[-1])
            mortal.kill() if moment == "up" else mortal.start()
        wait_until_stored(agent)
    assert stored(mortal, place.prefix) == dialogue(*questions)


class DyingServer(Server):
    """Kills the real server at the nth operation: before it is sent, or after it was done but unanswered."""

    @classmethod
    def of(cls, victim: RunningServer, moment: str) -> DyingServer:
        server = cls.from_url(victim.url)
        assert isinstance(server, cls)
        server._victim, server._left, server._moment = victim, 0, moment
        return server

    def run(self, op: Any) -> Any:
        self._left -= 1
        if self._left:
            return super().run(op)
        if self._moment == "after":
            super().run(op)
        self._victim.kill()
        if self._moment == "after":
            raise RedisTimeoutError("the answer never came")
        return super().run(op)

    async def arun(self, op: Any) -> Any:
        self._left -= 1
        if self._left:
            return await super().arun(op)
        if self._moment == "after":
            await super().arun(op)
        self._victim.kill()
        if self._moment == "after":
            raise RedisTimeoutError("the answer never came")
        return await super().arun(op)


def ask_while_dying(
    call: Call,
    name: str,
    make: Callable[[RedisMemoryService], BaseAgent],
    victim: RunningServer,
    prefix: str,
    moment: str,
    questions: list[str],
) -> Iterator[tuple[str, BaseAgent]]:
    """Hold a conversation again and again, killing the server one step later each time."""
    n, was_killed = 0, True
    while was_killed:
        n += 1
        server = DyingServer.of(victim, moment)
        place = f"{prefix}-{n}"
        agent = make(RedisMemoryService(server=server, prefix=place))
        call(agent, name, questions[0])
        server._left = n
        for question in questions[1:]:
            call(agent, name, question)
        was_killed = victim.process is None
        server._left = 0  # no more of it
        if was_killed:
            victim.start()
        wait_until_stored(agent)
        yield place, agent
        server.close()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_at_whichever_moment_it_dies(call: Call, mortal: RunningServer, prefix: str, moment: str) -> None:
    """Between any two operations, or between one and its answer: the transcript is as if nothing had happened."""
    questions = ["one?", "two?", "three?"]
    rounds = 0
    for place, agent in ask_while_dying(call, "chat", redis_agent, mortal, prefix, moment, questions):
        rounds += 1
        assert stored(mortal, place) == dialogue(*questions)
        assert texts(agent.history) == dialogue(*questions)
    assert rounds >= 5, "two operations for each question, and a round without a death"


@pytest.mark.parametrize(("call", "moment"), [("sync", "before"), ("async", "after")], indirect=["call"])
def test_the_supervisor_at_whichever_moment_it_dies(
    call: Call, mortal: RunningServer, prefix: str, moment: str
) -> None:
    """Transcript, histories and thread are as if there had been no outage; no group is asked twice."""
    questions = ["energy: one?", "energy: two?"]
    told = [text for question in questions for text in (question, "energy speaks.")]
    rounds = 0
    for place, agent in ask_while_dying(call, "smart_chat", supervisor, mortal, prefix, moment, questions):
        rounds += 1
        assert stored(mortal, place, "supervisor") == told
        assert stored(mortal, place, "energy") == told
        state = thread_of(agent)
        assert [message.text for message in state.values["messages"]] == told
        assert state.next == ()
        assert len(agent._model.calls) == 2
    assert rounds >= 10, "reading, routing, answering and writing"


def test_the_supervisor_through_an_outage(
    call: Call, mortal: RunningServer, place: RedisMemoryService, warnings: Callable[[], list[str]]
) -> None:
    """During the outage it knows the earlier conversation, and afterwards the whole; all its parts warn once."""
    agent = supervisor(place, model=numbered())
    call(agent, "smart_chat", "energy: one?")
    mortal.kill()
    call(agent, "smart_chat", "energy: two?")
    call(agent, "smart_chat", "digital: three?")
    assert [m.text for m in agent._model.calls[-1][1:]] == [
        *dialogue("energy: one?", "energy: two?"),
        "digital: three?",
    ]
    info = call(agent, "get_session_info")
    assert (info["backend"], info["history_length"]) == ("memory", 6)
    assert len(warnings()) == 1
    mortal.start()
    wait_until_stored(agent)
    told = dialogue("energy: one?", "energy: two?", "digital: three?")
    assert [message.text for message in thread_of(agent).values["messages"]] == told
    another = supervisor(RedisMemoryService(url=mortal.url, prefix=place.prefix), model=numbered())
    call(another, "smart_chat", "hello")
    assert [m.text for m in another._model.calls[-1][1:]] == [*told, "hello"]
    call(agent, "smart_chat", "energy: four?")
    told += dialogue("hello", "energy: four?")
    assert texts(agent.history) == stored(mortal, place.prefix, "supervisor") == told
    assert [message.text for message in thread_of(agent).values["messages"]] == told
    assert stored(mortal, place.prefix, "energy") == dialogue("energy: one?", "energy: two?", "energy: four?")
    assert stored(mortal, place.prefix, "digital") == dialogue("digital: three?")


@pytest.mark.parametrize("together", [True, False], ids=["one process", "as two processes"])
def test_two_agents_of_one_session(mortal: RunningServer, place: RedisMemoryService, together: bool) -> None:
    """Messages of two agents are stored once, in each one's order, or in one process in the common one."""
    with RedisMemoryService(url=mortal.url, prefix=place.prefix) as apart:
        one, other = redis_agent(place, max_history=40), redis_agent(place if together else apart, max_history=40)
        one.chat("one 0?")
        mortal.kill()
        for n in (1, 2):
            one.chat(f"one {n}?")
            other.chat(f"other {n}?")
        in_order = dialogue("one 0?", "one 1?", "other 1?", "one 2?", "other 2?")
        if together:
            assert texts(one.history) == texts(other.history) == in_order
        mortal.start()
        wait_until_stored(one)
        wait_until_stored(other)
        found = stored(mortal, place.prefix)
        assert texts(one.history) == texts(other.history) == found
        if together:
            assert found == in_order
        else:
            assert sorted(found) == sorted(in_order)
            for who in ("one", "other"):
                assert [t for t in found if f"{who} " in t] == [t for t in in_order if f"{who} " in t]


def test_many_threads(mortal: RunningServer, place: RedisMemoryService) -> None:
    """The server is killed while threads use one agent, and started again while they still do."""
    agent = redis_agent(place, max_history=1000)
    asked: list[str] = []
    enough = threading.Event()

    def talk(who: int) -> None:
        n = 0
        while not enough.is_set():
            question = f"{who} {n}?"
            agent.chat(question)
            asked.append(question)
            n += 1

    threads = [threading.Thread(target=talk, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for step in (mortal.kill, mortal.start):
        so_far = len(asked)
        wait_until(lambda so_far=so_far: len(asked) > so_far + 8, "some talk")
        step()
    so_far = len(asked)
    wait_until(lambda: len(asked) > so_far + 8 or len(asked) > 400, "some more talk")
    enough.set()
    for thread in threads:
        thread.join(30)
    wait_until_stored(agent)
    found = stored(mortal, place.prefix)
    assert sorted(found) == sorted(dialogue(*asked))
    for who in range(4):
        mine = [text for text in found if text.startswith(f"{who} ")]
        assert mine == [question for question in asked if question.startswith(f"{who} ")]


def test_an_agent_may_be_gone_by_then(mortal: RunningServer, place: RedisMemoryService) -> None:
    """An agent created per request, as in web applications: a later one stores its backlog, and others see it."""
    redis_agent(place).chat("one?")
    mortal.kill()
    for question in ("two?", "three?"):
        assert redis_agent(place).chat(question) == f"Answer to: {question}"
        gc.collect()
    assert texts(redis_agent(place).history) == dialogue("two?", "three?")
    mortal.start()
    wait_until(lambda: len(stored(mortal, place.prefix)) == 6, "the replay")
    assert stored(mortal, place.prefix) == dialogue("one?", "two?", "three?")


def test_what_the_server_forgot_is_said_again(prefix: str) -> None:
    """A server that loses writes it had just acknowledged, as one that saves only from time to time does."""
    with running_server("redis") as forgetful:
        agent = redis_agent(RedisMemoryService(url=forgetful.url, prefix=prefix))
        agent.chat("one?")
        forgetful.kill()
        agent.chat("two?")
        forgetful.start()
        wait_until_stored(agent)
        assert stored(forgetful, prefix) == dialogue("one?", "two?")


def test_a_reset_in_an_outage(call: Call, mortal: RunningServer, place: RedisMemoryService) -> None:
    """Removed messages stay removed, and messages since then are kept."""
    agent = supervisor(place, model=numbered())
    call(agent, "smart_chat", "energy: one?")
    mortal.kill()
    call(agent, "smart_chat", "energy: two?")
    call(agent, "reset_history")
    assert call(agent, "history") == []
    call(agent, "smart_chat", "energy: three?")
    assert [m.text for m in agent._model.calls[-1][1:]] == ["energy: three?"]
    mortal.start()
    wait_until_stored(agent)
    for agent_id in ("supervisor", "energy"):
        assert stored(mortal, place.prefix, agent_id) == dialogue("energy: three?")
    assert [message.text for message in thread_of(agent).values["messages"]] == dialogue("energy: three?")


def test_state_in_an_outage(call: Call, mortal: RunningServer, place: RedisMemoryService) -> None:
    """The last saved state is stored, and a state is remembered even if it was never changed."""
    agent = redis_agent(place)
    call(agent, "save_state", {"step": 1})
    assert call(redis_agent(place, "digital"), "load_state") is None
    mortal.kill()
    assert call(agent, "load_state") == {"step": 1}
    call(agent, "save_state", {"step": 2})
    call(agent, "save_state", {"step": 3})
    assert call(redis_agent(place), "load_state") == {"step": 3}
    mortal.start()
    wait_until_stored(agent)
    with RedisMemoryService(url=mortal.url, prefix=place.prefix) as elsewhere:
        assert elsewhere.get_agent_state("energy") == {"step": 3}
        elsewhere.save_agent_state("energy", {"step": 4})
    assert call(agent, "load_state") == {"step": 4}


def test_no_conversation_waits_for_a_dead_server(mortal: RunningServer, prefix: str) -> None:
    """Once the server is known to be down, only a background thread tries it."""
    others = set(threading.enumerate())  # agents of other tests may still try their own servers
    tried: list[str] = []

    class Watched(Server):
        def run(self, op: Any) -> Any:
            tried.append(threading.current_thread().name)
            return super().run(op)

    with closing(Watched.from_url(mortal.url)) as server:
        agent = redis_agent(RedisMemoryService(server=server, prefix=prefix))
        mortal.kill()
        agent.chat("one?")
        tried.clear()
        for question in ("two?", "three?"):
            agent.chat(question)
        wait_until(lambda: len(tried) >= 2, "it is tried again, with pauses")
        assert set(tried) == {"ecowas-lc-replay"}
        mortal.start()
        wait_until_stored(agent)
        wait_until(
            lambda: "ecowas-lc-replay" not in {t.name for t in set(threading.enumerate()) - others},
            "the thread ends",
        )


def test_a_server_that_refuses_is_no_server(prefix: str, warnings: Callable[[], list[str]]) -> None:
    """For example, a wrong password: the warning has the reason, never the password."""
    with running_server("redis", password="right") as guarded:
        url = f"redis://:wrong-secret@127.0.0.1:{guarded.port}/0"
        agent = RedisAgent("energy", "s", model=numbered(), memory=RedisMemoryService(url=url, prefix=prefix))
        agent.chat("one?")
        assert agent.get_session_info()["backend"] == "memory"
        [warning] = warnings()
        assert "password is wrong" in warning
        assert "wrong-secret" not in warning
        with guarded.client() as client:  # so that the thread in the background comes to its end
            client.config_set("requirepass", "wrong-secret")
        guarded.password = "wrong-secret"
        wait_until_stored(agent)
        assert stored(guarded, prefix) == dialogue("one?")


LEAVING = """
import sys
import ecowas_lc.agents.outage as link
from ecowas_lc import RedisAgent, RedisMemoryService
from tests.agents.conftest import numbered
link._FIRST_PAUSE_SECONDS = 1000.0
agent = RedisAgent("energy", "s", model=numbered(), memory=RedisMemoryService(url=sys.argv[1], prefix=sys.argv[2]))
agent.chat("one?")
print("said", flush=True)
sys.stdin.read()
link._last_try()  # as a chat does when it ends; the end of the process is the second time
"""


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_process_that_ends_tries_once_more(prefix: str, comes_back: bool) -> None:
    """The backlog is stored at the last moment, or the log says once that it is lost."""
    with running_server("redis") as server:
        server.kill()
        command = [sys.executable, "-W", "error", "-c", LEAVING, server.url, prefix]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(command, text=True, **pipes) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "said\n"
            if comes_back:
                server.start()
            _, errors = process.communicate("", timeout=60)
            assert process.returncode == 0
        if comes_back:
            assert stored(server, prefix) == dialogue("one?")
        else:
            assert errors.count("is lost (1)") == 1


def test_a_reset_that_comes_late_takes_nothing_with_it(mortal: RunningServer, prefix: str) -> None:
    """If two threads replay one reset, the second does not remove what the first has stored since."""
    store = RedisChatMessageHistory("energy", "s", url=mortal.url, prefix=prefix)
    store.add_user_message("before")
    said = SharedConversation("energy", "s")
    said.reset()
    late = storing(said, store)
    clearing = next(late)
    said.add([HumanMessage("one", id="1")])
    run(storing(said, store), {})
    assert [message.text for message in store.messages] == ["one"]
    said.add([HumanMessage("two", id="2")])
    clearing.run({})
    assert [message.text for message in store.messages] == ["one"], "it is known to have been done"
    storing_again = late.send(None)
    storing_again.run({})
    with pytest.raises(StopIteration):
        late.send(None)
    assert [message.text for message in store.messages] == ["one", "two"]
    assert not said.waits


def test_a_reset_while_another_is_on_its_way(mortal: RunningServer, prefix: str) -> None:
    """The newer reset reaches the server too."""
    store = RedisChatMessageHistory("energy", "s", url=mortal.url, prefix=prefix)
    said = SharedConversation("energy", "s")
    said.reset()
    first = storing(said, store)
    clearing = next(first)
    clearing.run({})
    store.add_user_message("between")
    said.reset()
    first.send(None).run({})
    assert store.messages == []
    with pytest.raises(StopIteration):
        first.send(None)
    assert not said.waits


def test_an_outage_that_nobody_had_noticed(call: Call, mortal: RunningServer, place: RedisMemoryService) -> None:
    """The first call after an outage has begun answers from memory and starts the replay, whichever call it is."""
    agent = redis_agent(place)
    call(agent, "chat", "one?")
    mortal.kill()
    assert call(agent, "extend_session") is False
    assert agent.get_session_info()["backend"] == "memory"
    assert not agent._keeping.link._takes_writes()
    agent._state._replay()  # nothing waits, so nothing is sent to the dead server
    mortal.start()
    wait_until_stored(agent)
    assert call(agent, "extend_session") is True
    agent._state._known.change(b'{"step":1}')
    assert call(agent, "load_state") == {"step": 1}
    assert place.get_agent_state("energy") == {"step": 1}


def test_a_message_that_spoils_a_batch_is_dropped_alone() -> None:
    """If the server refuses one message of a batch, only that message is dropped."""

    class Store:
        def __init__(self) -> None:
            self.texts: list[str] = []

        def add_messages(self, messages: Any, **_: Any) -> None:
            if any(message.text == "bad" for message in messages):
                raise InvalidInputError("bad can't be stored")
            self.texts += [message.text for message in messages]

    store: Any = Store()
    said = SharedConversation("energy", "s")
    said.add([HumanMessage(text, id=text) for text in ("one", "bad", "two")])
    assert not said.give_up_one(RedisTimeoutError("slow")), "a small message is not why a server does not answer"
    run(storing(said, store), {})
    assert store.texts == ["one", "two"]
    assert not said.waits


def test_a_write_that_fails_every_time(mortal: RunningServer, place: RedisMemoryService) -> None:
    """While the server takes no writes, a write stays in the backlog whole; else a part of it may be dropped."""
    link = ServerLink(place.server, place.prefix)
    tries: list[str] = []

    def store() -> None:
        tries.append("store")
        raise RedisUnavailableError("away")

    def give_up_one(error: Exception) -> bool:
        tries.append("give up")
        return False

    with pytest.raises(RedisUnavailableError):
        link._store(Held(store, give_up_one))
    assert tries == ["store", "store", "store", "give up"]
    mortal.kill()
    tries.clear()
    with pytest.raises(RedisUnavailableError):
        link._store(Held(store, give_up_one))
    assert tries == ["store"]
