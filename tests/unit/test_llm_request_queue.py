"""The queue learns how many requests a model server answers at once, and waiting is not slowness."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from ecowas_lc.errors import ModelTimeoutError
from ecowas_lc.llm import LLMService, make_chat_model
from ecowas_lc.llm.request_queue import Patience, QueuedRequest, RequestQueue, line_for
from ecowas_lc.settings import get_settings
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.ollama_stub import OllamaStub, serving_stub
from tests.fixtures.scripted_model import FixedRouter
from tests.fixtures.servers import wait_until

SIX = "energy+minerals+agriculture+digital+protocol+resource_mobilization: what now?"


@pytest.fixture
def stub() -> Iterator[OllamaStub]:
    with serving_stub() as serving:
        yield serving


def slowly(stub: OllamaStub, *, at_once: int, words: int = 6, pause: float = 0.05) -> None:
    """Make the server answer this many requests at once, each for ``words * pause`` seconds."""
    stub.slots, stub.words, stub.pause = threading.Semaphore(at_once), ["word "] * words, pause


@pytest.mark.parametrize("way", ["threads", "tasks"])
@pytest.mark.parametrize("at_once", [1, 4])
def test_waiting_is_not_slowness(stub: OllamaStub, at_once: int, way: str) -> None:
    """Six answers of 0.3 s from a server that answers one at a time all arrive within a time-out of 1.2 s each."""
    slowly(stub, at_once=at_once)
    llm = LLMService(stub.url, "tiny", timeout=1.2)

    def all_six() -> list[str]:
        if way == "threads":
            with ThreadPoolExecutor(6) as pool:
                return list(pool.map(llm.chat, ["x"] * 6))

        async def gathered() -> list[str]:
            return list(await asyncio.gather(*(llm.achat("x") for _ in range(6))))

        return asyncio.run(gathered())

    line = line_for(stub.url, "registry.ollama.ai/library/tiny:latest")
    for _ in range(5):  # on a busy machine answers may not overlap, which teaches nothing
        assert [answer.split() for answer in all_six()] == [["word"] * 6] * 6
        if line.limit > 1 or line._rest_until:
            break
    assert stub.most_at_once <= at_once + 1, "one more is tried, never a crowd"
    assert (line.limit == 1) if at_once == 1 else (line.limit > 1)


def test_a_server_that_answers_one_at_a_time_is_not_tried_again_and_again(stub: OllamaStub) -> None:
    """Once a second request has waited, requests are sent one by one for a while."""
    slowly(stub, at_once=1, words=2, pause=0.1)
    llm = LLMService(stub.url, "tiny", timeout=5)
    line = line_for(stub.url, "registry.ollama.ai/library/tiny:latest")
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):  # a request that arrives only after another's answer has ended teaches nothing
            list(pool.map(llm.chat, ["x"] * 4))
            if line._rest_until:
                break
        assert line._rest_until
        stub.most_at_once = 0
        list(pool.map(llm.chat, ["x"] * 8))
    assert stub.most_at_once == 1


@pytest.mark.parametrize("way", ["sync", "async"])
def test_six_groups_within_their_time(stub: OllamaStub, way: str) -> None:
    """``group_timeout`` does not run while a group waits for its turn; ``max_parallel`` need not be set."""
    slowly(stub, at_once=1)
    model = make_chat_model(base_url=stub.url, model="tiny", timeout=1.2)
    graph = build_supervisor(model, router=FixedRouter(), group_timeout=1.5)
    question = {"messages": [("user", SIX)]}
    result = graph.invoke(question) if way == "sync" else asyncio.run(graph.ainvoke(question))
    assert {report["status"] for report in result["reports"].values()} == {"answered"}
    assert len(result["reports"]) == 6


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_slow_group_is_given_up_all_the_same(stub: OllamaStub, way: str) -> None:
    """The clock runs while the server works; the error names ``group_timeout``."""
    stub.stall_before = 1
    model = make_chat_model(base_url=stub.url, model="tiny", timeout=20)
    graph = build_supervisor(model, router=FixedRouter(), group_timeout=0.3)
    question = {"messages": [("user", "energy: what now?")]}
    with pytest.raises(ModelTimeoutError, match="group_timeout") as caught:
        _ = graph.invoke(question) if way == "sync" else asyncio.run(graph.ainvoke(question))
    assert "LLM_TIMEOUT" not in str(caught.value)
    stub.released.set()


def test_the_environment_may_say_how_many(stub: OllamaStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """OLLAMA_NUM_PARALLEL has the server's meaning: this many requests are sent at once, and never one more."""
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "3")
    get_settings.cache_clear()
    try:
        slowly(stub, at_once=3)
        llm = LLMService(stub.url, "tiny", timeout=5)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(llm.chat, ["x"] * 6))
        assert stub.most_at_once == 3
    finally:
        get_settings.cache_clear()


def test_a_question_within_an_answer(stub: OllamaStub) -> None:
    """Asking while reading an answer does not wait for that answer, in the same thread or another."""
    slowly(stub, at_once=2, words=3, pause=0.0)
    llm = LLMService(stub.url, "tiny", timeout=20)
    parts = llm.stream("x")
    assert next(parts)
    assert llm.chat("y")
    with ThreadPoolExecutor(1) as pool:  # the reader has stopped reading: the server is done with it
        assert pool.submit(llm.chat, "z").result(20)
    parts.close()  # type: ignore[attr-defined]


def test_a_request_that_is_given_up_makes_room(stub: OllamaStub) -> None:
    """A cancelled task leaves the queue, whether it was being answered or waiting."""
    slowly(stub, at_once=1, words=3, pause=0.02)
    stub.stall_before = 1

    async def main() -> str:
        llm = LLMService(stub.url, "tiny", timeout=20)
        asking = [asyncio.create_task(llm.achat("x")) for _ in range(4)]
        await asyncio.to_thread(wait_until, lambda: bool(stub.bodies("/api/chat")), "the first is sent")
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        stub.stall_before = None
        stub.released.set()
        return await llm.achat("y")

    assert asyncio.run(main()).split() == ["word"] * 3


class TestTheLineItself:
    """Its rules, without a server."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [0.0]
        monkeypatch.setattr("ecowas_lc.llm.request_queue.time", SimpleNamespace(monotonic=lambda: now[0]))
        return now

    def test_one_more_is_tried_only_while_others_are_being_answered(self, clock: list[float]) -> None:
        """The second request is sent when the first answer has begun, the third after both have progressed."""
        line = RequestQueue()
        first, second, third = waiting_in(line), waiting_in(line), waiting_in(line)
        assert not second.admitted
        first.heard()
        assert second.admitted
        second.heard()
        clock[0] += 1
        assert (line.limit, third.admitted) == (1, False)
        first.heard()
        assert (line.limit, third.admitted) == (2, True)

    def test_what_was_on_its_way_proves_nothing(self, clock: list[float]) -> None:
        """A part of the first answer that comes right after the second's beginning may have been in a buffer."""
        line = RequestQueue()
        first = waiting_in(line)
        first.heard()
        second = waiting_in(line)
        second.heard()
        first.heard()
        assert line.limit == 1

    def test_what_waited_was_not_answered_at_once(self) -> None:
        """A second answer that began after the first one's end teaches the queue to wait."""
        line = RequestQueue()
        first = waiting_in(line)
        first.heard()
        second = waiting_in(line)
        line._leave(first)
        second.heard()
        line.learn(second, 3.0, 10.0)
        line._leave(second)
        assert line.limit == 1
        third = waiting_in(line)
        third.heard()
        assert not waiting_in(line).admitted

    @pytest.mark.parametrize(("worked", "limit"), [(0.8, 2), (0.4, 1)])
    def test_short_answers_are_told_by_their_times(self, clock: list[float], worked: float, limit: int) -> None:
        """If the first answer ends before the second begins, the server's figures show whether they overlapped.

        A request that reached the server only after the first answer has not waited either, and proves nothing.
        """
        line = RequestQueue()
        first = waiting_in(line)
        first.heard()
        second = waiting_in(line)
        clock[0] += 0.5
        line._leave(first)
        clock[0] += 0.5
        second.heard()
        line.learn(second, 0.001, worked)
        line._leave(second)
        assert line.limit == limit
        waiting_in(line).heard()
        assert waiting_in(line).admitted, "the next attempt need not wait"

    def test_a_server_that_answers_fewer_than_before(self, clock: list[float]) -> None:
        """If requests begin to wait, fewer are sent at once."""
        line = RequestQueue(limit=3)
        turns = [waiting_in(line) for _ in range(3)]
        for turn in turns:
            turn.heard()
        line.learn(turns[2], 5.0, 1.0)
        assert line.limit == 2

    def test_a_clock_stands_still(self) -> None:
        """Pauses may overlap, and the time left is the same as before them."""
        clock = Patience(10.0)
        clock.pause()
        clock.pause()
        assert clock.left is None
        clock.resume()
        assert clock.left is None
        assert not clock.is_over
        clock.resume()
        assert clock.left is not None
        assert 9 < clock.left <= 10
        assert Patience(None).left is None
        assert Patience(0.0).is_over


def waiting_in(line: RequestQueue) -> QueuedRequest:
    turn = QueuedRequest(line, (), lambda: None, object())
    line._enter(turn)
    return turn


def test_waiting_counts_for_no_clock() -> None:
    """A service that is asked within a group stops both clocks while it waits: its own and the group's."""
    group = Patience(10.0)
    seen: list[float | None] = []
    line = RequestQueue()
    own = Patience(10.0)
    with line.held():
        waiting = QueuedRequest(line, (group, own), lambda: None, object())
        line._enter(waiting)
        seen += [group.left, own.left]
    assert seen == [None, None]
    assert waiting.admitted
    assert group.left is not None
    assert own.left is not None
