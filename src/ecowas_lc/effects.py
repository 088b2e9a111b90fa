"""Node logic written once: programs yield what they need done, a blocking or an awaiting runner does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from langchain_core.runnables import RunnableConfig

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
