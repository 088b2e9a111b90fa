"""Groups answer at the same time, within the configured limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker, speaker_of
from tests.supervisor.conftest import Ask, asked, in_thread


class QuickSynthesis(ScriptedModel):
    """Sleeps for groups only."""

    def _nap(self, messages: Any) -> float:
        return 0.0 if speaker_of(messages) == "synthesis" else 0.5

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        time.sleep(self._nap(messages))
        return super()._stream(messages, *args, **kwargs)

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self._nap(messages))
        async for chunk in super()._astream(messages, *args, **kwargs):
            yield chunk


def model() -> QuickSynthesis:
    return QuickSynthesis(script=by_speaker({"synthesis": {"views": {}, "answer": "So."}}), structured=True)


def test_three_groups_take_as_long_as_the_slowest(ask: Ask) -> None:
    """Wall time of three groups is at most 1.3 times that of the slowest, synthesis and storage included."""
    graph = build_supervisor(model(), router=FixedRouter(), checkpointer=InMemorySaver())
    ask(graph, "hello", "warm-up")
    for _ in range(6):  # a busy machine may hold one of them up
        alone = _seconds(lambda: ask(graph, "energy: a?"))
        together = _seconds(lambda: ask(graph, "energy+digital+minerals: a?"))
        if together <= alone * 1.3:
            return
    pytest.fail(f"three took {together:.2f} s, and one {alone:.2f} s")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_no_more_groups_speak_at_once_than_allowed(ask: Ask) -> None:
    """``max_parallel`` limits the concurrent calls, and every group still answers."""
    for limit in (1, 2):
        scripted = ScriptedModel(script=by_speaker({}), seconds=0.2)
        graph = build_supervisor(scripted, router=FixedRouter(), max_parallel=limit)
        result = ask(graph, "energy+digital+minerals+protocol: a?")
        assert scripted.most_at_once == limit
        assert len(result["reports"]) == 4


def test_the_bound_holds_for_all_runs_of_a_graph_together() -> None:
    """Several conversations share the slots, because they share the model server."""
    scripted = ScriptedModel(script=by_speaker({}), seconds=0.1)
    graph = build_supervisor(scripted, router=FixedRouter(), max_parallel=2, checkpointer=InMemorySaver())

    async def together() -> None:
        await asyncio.gather(
            *(graph.ainvoke(asked("energy+digital: a?"), in_thread(str(thread))) for thread in range(4))
        )

    asyncio.run(together())
    assert scripted.most_at_once == 2


def test_waiting_for_a_slot_does_not_count_as_taking_too_long(ask: Ask) -> None:
    """The time limit of a group begins when it may start."""
    scripted = ScriptedModel(script=by_speaker({}), seconds=0.2)
    graph = build_supervisor(scripted, router=FixedRouter(), max_parallel=1, group_timeout=1.0)
    result = ask(graph, "energy+agriculture+minerals+digital+protocol+resource_mobilization: a?")
    assert {report["status"] for report in result["reports"].values()} == {"answered"}
