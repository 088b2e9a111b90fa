"""A process of its own for each contender, which does one task at a time while the others wait.

A contender is one of a module's ``CONTENDERS``: the savers of :mod:`benchmarks.contenders`, or others.

In one process each saver would pay for the others' objects, which Python's collector walks.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.contenders import IN_EACH_ROUND, Contender
from benchmarks.places import place
from benchmarks.work import build, run_turns

SAVERS = "benchmarks.contenders"
LOG = Path(__file__).parents[1] / "build" / "bench" / "workers.log"
_RUN = secrets.token_hex(3)
ROUNDS_OF_OTHERS = 2


def fresh(what: str) -> str:
    """An id that nothing bears on a server that others use, too."""
    return f"bench-{_RUN}-{what}"


class Bench:
    """What tasks get, inside a worker: its contender, opened."""

    def __init__(self, contender: Contender, url: str) -> None:
        self.contender = contender
        self.url = url
        self._open = ExitStack()

    @cached_property
    def saver(self) -> Any:
        """What the contender is: a saver, or what another module compares."""
        return self._open.enter_context(self.contender.opened(self.url))

    def rehearse(self, name: str, work: Callable[[Any, str], object]) -> None:
        """Let a contender that replays commands prepare for ``work(saver, thread_id)``, which it may run once."""
        if self.contender.rehearse is not None:
            self.contender.rehearse(self.url, name, work)

    def rehearse_chat(self, turns: int) -> None:
        """Prepare for threads of the chat graph with at most this number of turns."""
        self.rehearse(f"chat {turns}", lambda saver, thread_id: run_turns(build(saver), thread_id, turns))

    @cached_property
    def graph(self) -> Any:
        """The chat graph, warm."""
        graph = build(self.saver)
        self.rehearse_chat(3)
        run_turns(graph, "bench-warm", 3)
        self.saver.delete_thread("bench-warm")
        return graph

    def close(self) -> None:
        self._open.close()


class TaskFailedError(Exception):
    """A task raised, in its worker."""


class Worker:
    """A process that holds one contender."""

    def __init__(self, name: str, url: str, module: str) -> None:
        self.name = name
        self.url = url
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.workers", name, url, module]
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("a") as log:  # what the libraries have to say would bury the tables
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def takes_part(self, number: int, rounds_of_others: int = ROUNDS_OF_OTHERS) -> bool:
        """Whether it is measured in this round: peers only in the first ones, since no bound depends on them."""
        return number < rounds_of_others or self.name in IN_EACH_ROUND

    def do(self, task: Callable[..., Any], *arguments: Any) -> Any:
        """What ``task(bench, *arguments)`` gives in the worker, as JSON can carry it.

        Raises:
            TaskFailedError: it raised, or the worker ended.
        """
        home = sys.modules["__main__"].__spec__ if task.__module__ == "__main__" else None
        module = home.name if home else task.__module__
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([module, task.__name__, arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise TaskFailedError(f"{self.name}: its process ended, see {LOG}")
        done, result = json.loads(answer)
        if not done:
            raise TaskFailedError(f"{self.name}, {task.__name__}: {result}")
        return result

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@contextmanager
def working(names: Iterable[str], module: str = SAVERS) -> Iterator[list[Worker]]:
    """A worker with a place of its own for each contender, in this order."""
    with ExitStack() as stack:
        contenders = importlib.import_module(module).CONTENDERS
        urls = {name: stack.enter_context(place(contenders[name].needs)) for name in names}
        yield [stack.enter_context(at(name, url, module)) for name, url in urls.items()]


@contextmanager
def at(name: str, url: str, module: str = SAVERS) -> Iterator[Worker]:
    """A worker of a contender at this URL."""
    worker = Worker(name, url, module)
    try:
        yield worker
    finally:
        worker.close()


def _serve(name: str, url: str, module: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between
    bench = Bench(importlib.import_module(module).CONTENDERS[name], url)
    try:
        for line in sys.stdin:
            home, task, arguments = json.loads(line)
            gc.collect()
            try:
                answer = [True, getattr(importlib.import_module(home), task)(bench, *arguments)]
            except Exception as error:
                answer = [False, f"{type(error).__name__}: {error}"]
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    finally:
        bench.close()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
