"""The service in a process of its own, with a stub model: ``python -m benchmarks.served OPTIONS``, as JSON.

SIGUSR1 begins a profile, SIGUSR2 ends it and writes the shares of the time to a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pyinstrument import Profiler

from ecowas_lc.settings import load_settings
from ecowas_lc.supervisor.routing import RouteDecision
from ecowas_lc.web import create_app
from ecowas_lc.web.serving import address_of, listening, serve

WORDS = 20
EVERY_SECONDS = 5.0  # a word of a slow answer

OWNERS = {
    "web": "ecowas_lc.web",
    "supervisor": "ecowas_lc.supervisor",
    "checkpoint": "ecowas_lc.checkpoint",
    "ecowas_lc": "ecowas_lc, the rest",
    "redis": "redis-py",
    "langgraph": "langgraph",
    "langchain_core": "langchain-core",
    "pydantic": "langchain-core",
    "fastapi": "FastAPI, Starlette",
    "starlette": "FastAPI, Starlette",
    "uvicorn": "uvicorn",
    "asyncio": "event loop",
}


def said(question: str) -> str:
    """What the model answers to a question."""
    return " ".join(f"{question.split()[-1]}-{number}" for number in range(WORDS))


class Stub(BaseChatModel):
    """Answers at once, or, where a question says ``slow``, a word at a time until ``until``."""

    until: float

    @property
    def _llm_type(self) -> str:
        return "stub"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(said(messages[-1].text)))])

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        question = messages[-1].text
        is_slow = "slow" in question
        for number, word in enumerate(said(question).split()):
            if is_slow:
                left = self.until - time.time()
                await asyncio.sleep(max(0.0, min(EVERY_SECONDS, left)))
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{' ' if number else ''}{word}"))


class Energy:
    """A router that always asks one group."""

    def route(self, question: str) -> RouteDecision:
        return RouteDecision(("energy",), "fixed", "for the measurement")

    async def aroute(self, question: str) -> RouteDecision:
        return self.route(question)


def owner(stack: list[str]) -> str:
    """Whose the time is: the innermost of these packages that a stack is in."""
    for frame in reversed(stack):
        path = frame.partition("\0")[2].partition("\0")[0].split("/")
        if "epoll.poll" in frame or "select" in frame.partition("\0")[0]:
            return "waiting"
        found = [name for name in OWNERS if name in path]
        if found:
            return OWNERS[found[0]]
    return "Python"


def main() -> None:
    """Serve until the process is ended; the first line says where."""
    options = json.loads(sys.argv[1])
    if options.get("cpu") is not None:
        os.sched_setaffinity(0, {options["cpu"]})
    settings = load_settings(
        redis_url=options["url"],
        prefix="bench",
        web_requests_per_minute=10**6,
        web_questions_per_minute=10**6,
        redis_max_connections=options.get("connections", 10),
    )
    app = create_app(settings, model=Stub(until=options["until"]), router=Energy())
    profiler = Profiler(interval=0.002, async_mode="disabled")

    def end_profile() -> None:
        profiler.stop()
        shares: Counter[str] = Counter()
        if profiler.last_session:
            for stack, taken in profiler.last_session.frame_records:
                shares[owner(stack)] += taken
        folder = Path(options["folder"])
        (folder / "serving.txt").write_text(profiler.output_text(unicode=True, color=False), encoding="utf-8")
        (folder / "shares.new").write_text(json.dumps(dict(shares.most_common())), encoding="utf-8")
        (folder / "shares.new").rename(folder / "shares")

    def soon(do: Any) -> Any:
        return lambda *_: asyncio.get_running_loop().call_soon_threadsafe(do)

    signal.signal(signal.SIGUSR1, soon(profiler.start))
    signal.signal(signal.SIGUSR2, soon(end_profile))
    listener = listening("127.0.0.1", 0)
    serve(app, listener, on_ready=lambda: print(address_of(listener), flush=True))


if __name__ == "__main__":
    main()
