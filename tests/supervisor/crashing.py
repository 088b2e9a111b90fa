"""Run as a program: a supervisor on Redis that kills itself at its nth operation. Arguments: url, prefix, n."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker
from tests.supervisor.conftest import Graph, asked, in_thread

SYNTHESIS = {"views": {"energy": "E.", "digital": "D."}, "answer": "So."}


class Countdown:
    """Kills the process, as the kernel would, when it has been called ``n`` times; 0: never."""

    def __init__(self, n: int) -> None:
        self._left = n

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def crashing_history(url: str, prefix: str, countdown: Countdown) -> Any:
    """Return a history factory whose histories count down before and after each write."""

    class History(RedisChatMessageHistory):
        def add_messages(self, messages: Sequence[BaseMessage]) -> None:
            countdown()
            super().add_messages(messages)
            countdown()

    return lambda agent, session: History(agent, session, url=url, prefix=prefix)


def supervisor(url: str, prefix: str, n: int = 0, **options: Any) -> tuple[Graph, ScriptedModel]:
    """Return a supervisor on Redis, and its model, which count down together."""
    countdown = Countdown(n)

    def energy(messages: list[BaseMessage]) -> str:
        countdown()
        return "energy speaks."

    model = ScriptedModel(script=by_speaker({"energy": energy, "synthesis": SYNTHESIS}), structured=True)
    graph = build_supervisor(
        model,
        router=FixedRouter(),
        checkpointer=RedisSaver.from_url(url, prefix=prefix),
        history_factory=crashing_history(url, prefix, countdown),
        **options,
    )
    return graph, model


if __name__ == "__main__":
    graph, _ = supervisor(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    graph.invoke(asked("energy+digital: a?"), in_thread("s"), durability="sync")
