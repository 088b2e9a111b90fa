"""Node logic written once: programs yield what they need done, a blocking or an awaiting runner does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import merge_configs

T = TypeVar("T")


class Effect(Protocol):
    """Something with input or output in it, that can be done in a blocking or an awaiting way."""

    def run(self, config: RunnableConfig) -> Any:
        """Do it, blocking."""
        ...

    async def arun(self, config: RunnableConfig) -> Any:
        """Do it without blocking the event loop."""
        ...


Program = Generator[Effect, Any, T]


@dataclass(frozen=True, slots=True)
class Doing:
    """An effect made of a function and its awaitable twin."""

    blocking: Callable[[RunnableConfig], Any]
    awaiting: Callable[[RunnableConfig], Awaitable[Any]]

    def run(self, config: RunnableConfig) -> Any:
        """Call the blocking function."""
        return self.blocking(config)

    async def arun(self, config: RunnableConfig) -> Any:
        """Await its twin."""
        return await self.awaiting(config)


def run(program: Program[T], config: RunnableConfig) -> T:
    """Drive a program to its end, blocking; what an effect raises is raised inside the program."""
    try:
        effect = next(program)
        while True:
            try:
                reply = effect.run(config)
            except Exception as error:
                effect = program.throw(error)
            else:
                effect = program.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        program.close()


async def arun(program: Program[T], config: RunnableConfig) -> T:
    """Drive a program to its end as :func:`run` does, without blocking the event loop."""
    try:
        effect = next(program)
        while True:
            try:
                reply = await effect.arun(config)
            except Exception as error:
                effect = program.throw(error)
            else:
                effect = program.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        program.close()


def as_node(
    name: str,
    program: Callable[[Any, RunnableConfig], Program[Any]],
    label: Mapping[str, str],
    inner: Runnable[Any, Any] | None = None,
) -> RunnableLambda[Any, Any]:
    """Return a graph node that runs the program made for its input, in both ways of running a graph.

    ``label`` goes into the metadata of every call that the program makes. ``inner`` is a graph that the program
    runs: langgraph finds it here when it looks for a node's subgraphs.
    """

    def blocking(state: Any, config: RunnableConfig) -> Any:
        labelled = _labelled(config, label, inner)
        return run(program(state, labelled), labelled)

    async def awaiting(state: Any, config: RunnableConfig) -> Any:
        labelled = _labelled(config, label, inner)
        return await arun(program(state, labelled), labelled)

    return RunnableLambda(blocking, afunc=awaiting, name=f"{name}_program")


def _labelled(config: RunnableConfig, label: Mapping[str, str], _inner: object) -> RunnableConfig:
    return merge_configs(config, {"metadata": dict(label)}) if label else config
