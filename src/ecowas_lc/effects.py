"""Node logic written once: a program yields effects, and a blocking or an awaiting runner carries them out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from ecowas_lc import _telemetry

T = TypeVar("T")


class Effect(Protocol):
    """An operation with input or output that can run blocking or with ``await``."""

    def run(self, config: RunnableConfig) -> Any:
        """Run the operation, blocking."""
        ...

    async def arun(self, config: RunnableConfig) -> Any:
        """Run the operation without blocking the event loop."""
        ...


Program = Generator[Effect, Any, T]


@dataclass(frozen=True, slots=True)
class Watch:
    """How to trace a node's work: the span's name and attributes, and what the result adds to them."""

    kind: str
    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    learn: Callable[[_telemetry.Span, Any], None] | None = None

    def learnt(self, seen: _telemetry.Span, result: Any) -> None:
        """Set the span's attributes that follow from the result."""
        if self.learn is not None:
            self.learn(seen, result)


@dataclass(frozen=True, slots=True)
class Doing:
    """An effect made of a function and its async counterpart."""

    blocking: Callable[[RunnableConfig], Any]
    awaiting: Callable[[RunnableConfig], Awaitable[Any]]

    def run(self, config: RunnableConfig) -> Any:
        """Call the blocking function."""
        return self.blocking(config)

    async def arun(self, config: RunnableConfig) -> Any:
        """Await the async counterpart."""
        return await self.awaiting(config)


def serve(program: Generator[Any, Any, T], answer: Callable[[Any], Any]) -> T:
    """Run any program to its end, blocking; ``answer`` carries out each request that the program yields.

    An exception from ``answer`` is raised inside the program.
    """
    try:
        asked = next(program)
        while True:
            try:
                reply = answer(asked)
            except Exception as error:
                asked = program.throw(error)
            else:
                asked = program.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        program.close()


async def aserve(program: Generator[Any, Any, T], answer: Callable[[Any], Awaitable[Any]]) -> T:
    """Run any program to its end as :func:`serve` does, without blocking the event loop."""
    try:
        asked = next(program)
        while True:
            try:
                reply = await answer(asked)
            except Exception as error:
                asked = program.throw(error)
            else:
                asked = program.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        program.close()


def run(program: Program[T], config: RunnableConfig) -> T:
    """Run a program of effects to its end, blocking."""
    return serve(program, lambda effect: effect.run(config))


async def arun(program: Program[T], config: RunnableConfig) -> T:
    """Run a program of effects to its end, without blocking the event loop."""
    return await aserve(program, lambda effect: effect.arun(config))


def as_node(
    name: str,
    program: Callable[[Any, RunnableConfig], Program[Any]],
    label: Mapping[str, str],
    inner: Runnable[Any, Any] | None = None,
    watch: Watch | None = None,
    about: str = "",
) -> RunnableLambda[Any, Any]:
    """Return a graph node that runs the program made for its input, in sync and async runs of the graph.

    Args:
        name: The node's name.
        program: Called with the node's input and the config; returns the program to run.
        label: Added to the metadata of every call that the program makes.
        inner: A graph that the program runs; langgraph finds it here when it looks for a node's subgraphs.
        watch: How to trace each run as a span.
        about: A description of the node, for pictures of the graph.
    """

    from langchain_core.runnables import RunnableLambda

    def blocking(state: Any, config: RunnableConfig) -> Any:
        labelled = _labelled(config, label, inner)
        if watch is None or not _telemetry.is_watched():
            return run(program(state, labelled), labelled)
        with _telemetry.span(watch.kind, watch.name, **watch.attributes) as seen:
            result = run(program(state, labelled), labelled)
            watch.learnt(seen, result)
        return result

    async def awaiting(state: Any, config: RunnableConfig) -> Any:
        labelled = _labelled(config, label, inner)
        if watch is None or not _telemetry.is_watched():
            return await arun(program(state, labelled), labelled)
        with _telemetry.span(watch.kind, watch.name, **watch.attributes) as seen:
            result = await arun(program(state, labelled), labelled)
            watch.learnt(seen, result)
        return result

    blocking.__doc__ = awaiting.__doc__ = about or None
    return RunnableLambda(blocking, afunc=awaiting, name=f"{name}_program")


def _labelled(config: RunnableConfig, label: Mapping[str, str], _inner: object) -> RunnableConfig:
    from langchain_core.runnables.config import merge_configs

    return merge_configs(config, {"metadata": dict(label)}) if label else config
