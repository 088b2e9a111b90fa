"""The journal that an agent keeps for the server undoes no removal, stays within its limits and does not block."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from ecowas_lc import BaseAgent, RedisMemoryService, RedisSaver
from ecowas_lc.agents.outage import Held, ServerLink
from ecowas_lc.agents.transcript import SharedConversation
from ecowas_lc.checkpoint.lease import ThreadLeases
from ecowas_lc.effects import run
from ecowas_lc.errors import RedisTimeoutError, RedisUnavailableError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.storage.server import Server
from tests.agents.conftest import Call, dialogue, model, numbered, redis_agent, supervisor, texts
from tests.fixtures.proxy import running_proxy
from tests.fixtures.scripted_model import ScriptedModel
from tests.fixtures.servers import RunningServer, running_server, wait_until

LARGE = 3_000_000


@pytest.fixture(autouse=True)
def fewer_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that take redis-py a second are run dozens of times here."""
    monkeypatch.setattr("ecowas_lc.storage.clients._RETRIES", 1)


@pytest.fixture
def place(mortal: RunningServer, prefix: str) -> Iterator[RedisMemoryService]:
    """The memory service of the agents' process, on a server that may be killed."""
    with RedisMemoryService(url=mortal.url, prefix=prefix) as service:
        yield service


@pytest.fixture
def elsewhere(mortal: RunningServer, prefix: str) -> Iterator[RedisMemoryService]:
    """Another process's memory service."""
    with RedisMemoryService(url=mortal.url, prefix=prefix) as service:
        yield service


def wait_until_stored(agent: BaseAgent) -> None:
    """Wait until the agent is back on Redis."""
    link = place_link(agent)
    wait_until(lambda: agent.get_session_info()["backend"] == "redis" and not link.holds, "the replay")


def stored(service: RedisMemoryService, agent_id: str = "energy", session_id: str = "s") -> list[str]:
    return texts(service.get_conversation_history(agent_id, session_id))


REMOVALS: dict[str, Callable[[RedisMemoryService], Any]] = {
    "session": lambda service: service.clear_session("s"),
    "history": lambda service: service.clear_conversation_history("energy", "s"),
    "agent": lambda service: service.clear_all_agent_data("energy"),
    "saved as empty": lambda service: service.save_conversation_history("energy", "s", []),
    "LangChain's": lambda service: RedisChatMessageHistory(
        "energy", "s", server=service.server, prefix=service.prefix
    ).clear(),
}


@pytest.mark.parametrize("removal", REMOVALS)
def test_what_another_process_removed_does_not_come_back(
    call: Call, mortal: RunningServer, place: RedisMemoryService, elsewhere: RedisMemoryService, removal: str
) -> None:
    """A message sent just before an outage and then removed stays removed when the journal is replayed."""
    agent = redis_agent(place)
    call(agent, "chat", "my secret?")
    REMOVALS[removal](elsewhere)
    mortal.kill()
    call(agent, "get_session_info")  # notices
    mortal.start()
    wait_until_stored(agent)
    assert stored(elsewhere) == []
    assert call(agent, "history") == []
    call(agent, "chat", "and now?")
    assert stored(elsewhere) == dialogue("and now?")


class LateServer(Server):
    """A server that requests reach late, as after retries or on a busy machine."""

    is_late = False

    def run(self, op: Any) -> Any:
        self._arrive()
        return super().run(op)

    def _arrive(self) -> None:
        begun = time.monotonic()
        wait_until(lambda: not self.is_late or time.monotonic() > begun + 0.3, "the arrival")


@pytest.mark.parametrize("removal", REMOVALS)
def test_what_was_removed_does_not_come_back_late(
    mortal: RunningServer, prefix: str, elsewhere: RedisMemoryService, removal: str
) -> None:
    """However long the replayed message takes to arrive, and so however recent it seems, it stays removed."""
    server = LateServer.from_url(mortal.url)
    assert isinstance(server, LateServer)
    with closing(server), RedisMemoryService(server=server, prefix=prefix) as late:
        agent = redis_agent(late)
        agent.chat("my secret?")
        REMOVALS[removal](elsewhere)
        mortal.kill()
        agent.get_session_info()  # notices
        server.is_late = True
        mortal.start()
        wait_until_stored(agent)
        assert stored(elsewhere) == []
        server.is_late = False


def test_a_turn_that_ends_during_the_replay_is_in_the_thread(
    mortal: RunningServer, place: RedisMemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay drops turns that the transcript lacks, but not those that ended after it was read."""
    agent = supervisor(place, model=numbered())
    agent.smart_chat("up?")
    mortal.kill()
    agent.smart_chat("down?")
    read, during = agent._transcript.read_stored, ["meanwhile?"]

    def and_go_on(count: int | None = None) -> Any:
        told = yield from read(count)
        if during and told:
            agent.smart_chat(during.pop())
        return told

    monkeypatch.setattr(agent._transcript, "read_stored", and_go_on)
    mortal.start()
    wait_until_stored(agent)
    assert not during
    state = agent.graph.get_state({"configurable": {"thread_id": "s"}})
    assert [message.text for message in state.values["messages"]] == dialogue("up?", "down?", "meanwhile?")
    assert stored(place, "supervisor") == dialogue("up?", "down?", "meanwhile?")


def test_a_reset_during_the_replay_is_final(
    mortal: RunningServer, place: RedisMemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay does not bring back a turn of a conversation that is reset after the replay read it."""
    agent = supervisor(place, model=numbered())
    agent.smart_chat("up?")
    link = place_link(agent)
    monkeypatch.setattr(link, "_start", lambda: None)  # no retries in the background
    mortal.kill()
    agent.smart_chat("down?")
    mortal.start()
    link._problem = None
    read, resets = agent._transcript.read_stored, [agent.reset_history]

    def and_reset(count: int | None = None) -> Any:
        told = yield from read(count)
        resets.pop()()
        return told

    with monkeypatch.context() as during:
        during.setattr(agent._transcript, "read_stored", and_reset)
        run(agent._session._replayed(), {})
    assert not resets
    assert not agent.graph.get_state({"configurable": {"thread_id": "s"}}).values
    assert stored(place, "supervisor") == []


def test_two_replays_at_once(
    mortal: RunningServer, place: RedisMemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link's replay and a call's may run at once: both release a dead run's lease, and neither fails."""
    agent = supervisor(place, model=numbered())
    agent.smart_chat("up?")
    thread = agent._session._thread
    thread.add_stale("a run that died")
    both, release = threading.Barrier(2, timeout=20), ThreadLeases.release

    def together(leases: ThreadLeases, thread_id: str, holder: str) -> None:
        if holder == "a run that died":
            both.wait()
        release(leases, thread_id, holder)

    monkeypatch.setattr(ThreadLeases, "release", together)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: run(agent._session._brought(), {}), range(2)))
    assert thread.stale == ()
    assert not thread.waits


def test_another_sessions_outage_brings_nothing_back(
    mortal: RunningServer, place: RedisMemoryService, elsewhere: RedisMemoryService
) -> None:
    """If another agent of the process notices the outage, removed messages stay removed here too."""
    agent, other = redis_agent(place), redis_agent(place, "digital")
    agent.chat("my secret?")
    elsewhere.clear_session("s")
    mortal.kill()
    other.chat("hello?")
    mortal.start()
    wait_until_stored(other)
    assert stored(elsewhere) == []
    assert stored(elsewhere, "digital") == dialogue("hello?")


def test_what_was_held_while_it_was_removed_does_not_come_back(
    call: Call, mortal: RunningServer, prefix: str, elsewhere: RedisMemoryService
) -> None:
    """A cut-off process writes to a session that others remove: its earlier messages are removed too."""
    with running_proxy(mortal.port) as proxy, RedisMemoryService(url=proxy.url, prefix=prefix) as cut_off:
        agent, unknown = redis_agent(cut_off), redis_agent(cut_off, "digital")
        call(agent, "chat", "my secret?")
        proxy.refuse()
        call(agent, "chat", "held?")
        call(unknown, "chat", "held as well?")  # which the server has never received
        assert elsewhere.clear_session("s") == 1
        call(agent, "chat", "said since?")
        proxy.accept()
        wait_until_stored(agent)
        wait_until_stored(unknown)
        assert stored(elsewhere, "digital") == []
        assert stored(elsewhere) == dialogue("said since?")


def test_a_removed_thread_does_not_come_back(
    call: Call, mortal: RunningServer, place: RedisMemoryService, elsewhere: RedisMemoryService
) -> None:
    """If a supervisor's session is removed with its thread, neither transcript, histories nor thread return."""
    agent = supervisor(place, model=numbered())
    call(agent, "smart_chat", "energy: my secret?")
    elsewhere.clear_session("s")
    RedisSaver(server=elsewhere.server, prefix=elsewhere.prefix).delete_thread("s")
    mortal.kill()
    call(agent, "get_session_info")
    mortal.start()
    wait_until_stored(agent)
    for agent_id in ("supervisor", "energy"):
        assert stored(elsewhere, agent_id) == []
    call(agent, "smart_chat", "energy: and now?")
    messages = agent.graph.get_state({"configurable": {"thread_id": "s"}}).values["messages"]
    assert [message.text for message in messages] == dialogue("energy: and now?")


class LosingServer(Server):
    """Execute the nth operation and lose its reply, while other clients continue."""

    left = 0
    meanwhile: Callable[[], None]

    def run(self, op: Any) -> Any:
        result = super().run(op)
        self._lose()
        return result

    async def arun(self, op: Any) -> Any:
        result = await super().arun(op)
        self._lose()
        return result

    def _lose(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.meanwhile()
            raise RedisTimeoutError("the answer never came")


@pytest.mark.parametrize("what", ["agent", "supervisor"])
def test_a_reset_whose_answer_was_lost_takes_nothing_with_it(
    call: Call, mortal: RunningServer, prefix: str, what: str
) -> None:
    """The reset is applied when the link is back; what others have written since remains."""
    with RedisMemoryService(url=mortal.url, prefix=prefix) as elsewhere:
        for n in range(1, 20):
            server = LosingServer.from_url(mortal.url)
            assert isinstance(server, LosingServer)
            kept = f"{prefix}-{n}"
            mine, theirs = (RedisMemoryService(server=one, prefix=kept) for one in (server, elsewhere.server))
            agent = redis_agent(mine) if what == "agent" else supervisor(mine, model=numbered())
            ask = "chat" if what == "agent" else "smart_chat"
            other = redis_agent(theirs) if what == "agent" else supervisor(theirs, model=numbered())
            call(agent, ask, "energy: old?")
            said: list[str] = []

            def others_go_on(other: Any = other, said: list[str] = said) -> None:
                said.append("energy: others?")
                other.chat("energy: others?") if what == "agent" else other.smart_chat("energy: others?")

            server.meanwhile = others_go_on
            server.left = n
            call(agent, "reset_history")
            server.left, was_lost = 0, bool(said)
            wait_until_stored(agent)
            if not was_lost:
                break
            if what == "agent":
                assert stored(theirs) == dialogue("energy: others?"), "old? is gone"
                continue
            groups = len(agent._registry.groups)
            if n == groups + 1:  # the transcript comes after those of the groups
                assert stored(theirs, "supervisor")[-2:] == dialogue("energy: others?")
            elif n == groups + 2:
                state = other.graph.get_state({"configurable": {"thread_id": "s"}})
                assert [m.text for m in state.values["messages"]] == dialogue("energy: others?")
        assert n > 1


def test_memory_in_an_outage_is_bounded(call: Call, mortal: RunningServer, place: RedisMemoryService) -> None:
    """However long an outage lasts, no more is held than would be kept anyway; that much is stored after it."""
    agent = redis_agent(place, max_history=4)
    for n in range(20):
        call(agent, "chat", f"{n}?")
    said = agent._transcript._conversation
    assert len(said._unsettled) <= 4
    mortal.kill()
    for n in range(40):
        call(agent, "chat", f"{n}, down?")
        assert len(said._waiting) <= 4
        assert len(said._known) <= 4
    mortal.start()
    wait_until_stored(agent)
    assert stored(place) == texts(agent.history) == dialogue("38, down?", "39, down?")


def test_the_supervisors_memory_in_an_outage_is_bounded(mortal: RunningServer, place: RedisMemoryService) -> None:
    """In an outage, a supervisor's transcript and its groups' histories hold no more than would be kept anyway."""
    agent = supervisor(place, model=model())
    mortal.kill()
    for n in range(60):
        agent.smart_chat(f"energy: {n}?")
    held = [each for each in place_link(agent)._on_failure if isinstance(each, SharedConversation)]
    assert len(agent._session._thread.waiting()) == agent._transcript.limit // 2
    assert {said.agent_id for said in held} >= {"supervisor", "energy"}
    for said in held:
        assert len(said._waiting) <= said.limit < 100
    mortal.start()  # so that the thread in the background comes to its end
    wait_until_stored(agent)


def place_link(agent: Any) -> Any:
    return agent._keeping.link


def wordy(length: int) -> ScriptedModel:
    """A :func:`numbered` model whose answer to one question is so long."""
    script = numbered().script
    return ScriptedModel(
        script=lambda messages: "x" * length if messages[-1].text == "long?" else script(messages)
    )


TAKES_LESS = {
    "values": ("--proto-max-bulk-len", "1mb"),
    "commands": ("--client-query-buffer-limit", "1mb"),
}


@pytest.mark.parametrize("what", TAKES_LESS)
def test_a_message_that_the_server_never_takes(
    call: Call, prefix: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The damaged write is dropped by name; its session, and all others, are stored before and after it."""
    caplog.set_level(logging.ERROR, logger="ecowas_lc.agents")
    with running_server("redis", *TAKES_LESS[what]) as server:
        memory = RedisMemoryService(url=server.url, prefix=prefix)
        talkative = wordy(LARGE)
        agent, other = redis_agent(memory, model=talkative), redis_agent(memory, "digital")
        call(agent, "chat", "before?")
        assert call(agent, "chat", "long?") == "x" * LARGE
        call(other, "chat", "meanwhile?")
        assert call(agent, "chat", "after?") == "Answer to: after?"
        wait_until_stored(agent)
        wait_until_stored(other)
        assert stored(memory) == [*dialogue("before?"), "long?", *dialogue("after?")]
        assert stored(memory, "digital") == dialogue("meanwhile?")
        [named] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert (
            "(ai, 3000000 bytes) of the agent 'energy' in the session 's' can't be stored and was dropped" in named
        )
        assert "xxx" not in named
        memory.close()


def test_a_supervisor_goes_on_after_a_message_that_the_server_never_takes(call: Call, prefix: str) -> None:
    """The turn ends with its answer, and the session's next turns are stored in transcript and thread."""
    with running_server("redis", *TAKES_LESS["values"]) as server:
        memory = RedisMemoryService(url=server.url, prefix=prefix)
        agent = supervisor(memory, model=wordy(LARGE))
        call(agent, "smart_chat", "hello?")
        assert call(agent, "smart_chat", "long?") == "x" * LARGE
        call(agent, "smart_chat", "after?")
        wait_until_stored(agent)
        assert stored(memory, "supervisor") == [*dialogue("hello?"), "long?", *dialogue("after?")]
        state = agent.graph.get_state({"configurable": {"thread_id": "s"}})
        assert [message.text for message in state.values["messages"]][-2:] == dialogue("after?")
        memory.close()


def test_a_state_that_was_removed_does_not_come_back(
    call: Call, mortal: RunningServer, prefix: str, elsewhere: RedisMemoryService
) -> None:
    """A state that waits for the server is dropped if all of the agent was removed after it was saved."""
    with running_proxy(mortal.port) as proxy, RedisMemoryService(url=proxy.url, prefix=prefix) as cut_off:
        agent = redis_agent(cut_off)
        call(agent, "save_state", {"step": 1})
        proxy.refuse()
        call(agent, "save_state", {"step": 2})
        assert elsewhere.clear_all_agent_data("energy") == 1
        proxy.accept()
        wait_until_stored(agent)
        wait_until(lambda: not agent._keeping.link.holds, "the replay")
        assert elsewhere.get_agent_state("energy") is None
        assert call(agent, "load_state") is None


def test_messages_keep_their_order_when_they_are_large(mortal: RunningServer, place: RedisMemoryService) -> None:
    """The backlog is sent in parts small enough for every server, in the original order."""
    agent = redis_agent(place, model=wordy(300_000), max_history=40)
    agent.chat("up?")
    mortal.kill()
    for n in range(5):
        agent.chat(f"{n}?")
        agent.chat("long?")
    mortal.start()
    wait_until_stored(agent)
    in_order = [text for n in range(5) for text in (*dialogue(f"{n}?"), "long?", "x" * 300_000)]
    assert stored(place) == [*dialogue("up?"), *in_order]


def test_one_write_that_fails_blocks_no_other(
    redis_server: RunningServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A write with a bug is logged and dropped, and the rest of the backlog is stored; an outage keeps it."""
    link = ServerLink(Server.from_url(redis_server.url), prefix)
    stored: list[str] = []

    def fails() -> None:
        raise ValueError("a bug")

    def is_away() -> None:
        raise RedisUnavailableError("away")

    link._held = {"a": Held(fails, None), "b": Held(lambda: stored.append("b"), None)}
    link.replay()
    assert (stored, link.holds, link.is_up) == (["b"], 0, True)
    assert "The backlog of a could not be stored" in caplog.text
    link._held = {"c": Held(is_away, lambda _: False)}
    with pytest.raises(RedisUnavailableError):
        link.replay()
    assert link.holds == 1
    assert repr(link).endswith("up)")
    link._held = {}
    link.server.close()
