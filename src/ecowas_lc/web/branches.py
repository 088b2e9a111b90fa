"""The versions of a turn: where the checkpoints of a thread fork, and how each branch is gone back to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.types import StateSnapshot

_MOST_STATES = 200


@dataclass(frozen=True, slots=True)
class Node:
    """A checkpoint: its id, the one it follows, and langgraph's word for how it came about."""

    id: str
    parent: str
    source: str


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of one turn, the oldest first, each as the newest checkpoint of its branch.

    ``number`` counts from 1 and says which one the thread is on.
    """

    number: int
    tips: tuple[str, ...]

    @property
    def previous(self) -> str | None:
        """The checkpoint to go back to for the version before."""
        return self.tips[self.number - 2] if self.number > 1 else None

    @property
    def next(self) -> str | None:
        """The checkpoint to go to for the version after."""
        return self.tips[self.number] if self.number < len(self.tips) else None


async def versions_of(
    nodes: Sequence[Node], head: str, state_at: Callable[[str], Awaitable[StateSnapshot]]
) -> dict[str, Versions]:
    """Return the versions of turns by the id of their question, for turns that have several.

    Args:
        nodes: all checkpoints of the thread, in any order.
        head: the checkpoint that the thread is on.
        state_at: what reads a checkpoint; it is called for forks and what follows them only.
    """
    thread = _Thread(nodes, state_at)
    lineage = thread.lineage(head)
    forks = [name for name in ("", *lineage) if len(thread.children.get(name, ())) > 1]
    found: dict[str, Versions] = {}
    for fork in forks:
        if thread.read > _MOST_STATES:
            break
        question = await _question_of(fork, lineage, state_at)
        if question is None or question in found:
            continue
        versions = await thread.versions_below(fork, question)
        own = next((place for place, one in enumerate(versions) if not one.isdisjoint(lineage)), None)
        if own is not None and len(versions) > 1:
            found[question] = Versions(own + 1, tuple(max(one) for one in versions))
    return found


class _Thread:
    """The checkpoints of a thread as a tree; ids sort by time."""

    def __init__(self, nodes: Sequence[Node], state_at: Callable[[str], Awaitable[StateSnapshot]]) -> None:
        self.known = {node.id: node for node in nodes}
        self.children: dict[str, list[str]] = {}
        for node in sorted(nodes, key=lambda each: each.id):
            self.children.setdefault(node.parent, []).append(node.id)
        self.read = 0
        self._state_at = state_at

    def lineage(self, head: str) -> list[str]:
        """Return the checkpoints that led to one, and that one."""
        found: list[str] = []
        at = head
        while at in self.known and at not in found:
            found.append(at)
            at = self.known[at].parent
        return found[::-1]

    async def versions_below(self, fork: str, question: str) -> list[set[str]]:
        """Return the versions of a question's turn after a fork, each as its checkpoints, the oldest first."""
        found: list[set[str]] = []
        for branch in await self._branches(fork):
            again = await self._fork_in(branch, question)
            found += [self._below(branch)] if again is None else await self.versions_below(again, question)
        return found

    async def _branches(self, fork: str) -> list[list[str]]:
        """Return what follows a fork; going back to a branch copies a checkpoint, which makes no new branch."""
        merged: list[tuple[tuple[Any, ...], list[str]]] = []
        for name in self.children.get(fork, ()):
            self.read += 1
            key = _copied(await self._state_at(name))
            same = next((names for known, names in merged if known == key), None)
            if same is not None and self.known[name].source == "fork":
                same.append(name)
            else:
                merged.append((key, [name]))
        return [names for _, names in merged]

    async def _fork_in(self, branch: Sequence[str], question: str) -> str | None:
        """Return where the same turn forks again within a branch."""
        at = max(branch)
        while len(below := self.children.get(at, [])) == 1:
            at = below[0]
        if not below:
            return None
        messages: list[BaseMessage] = (await self._state_at(at)).values.get("messages") or []
        is_same = bool(messages) and isinstance(messages[-1], HumanMessage) and messages[-1].id == question
        return at if is_same else None

    def _below(self, branch: Sequence[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(branch)
        while waiting:
            at = waiting.pop()
            found.add(at)
            waiting += self.children.get(at, ())
        return found


def _copied(state: StateSnapshot) -> tuple[Any, ...]:
    messages: list[BaseMessage] = state.values.get("messages") or []
    return (tuple((message.id, message.text) for message in messages), state.next)


async def _question_of(
    fork: str, lineage: Sequence[str], state_at: Callable[[str], Awaitable[StateSnapshot]]
) -> str | None:
    """Return the id of the question whose turn forks here: it stands there already, or it is the next one."""
    before: list[BaseMessage] = (await state_at(fork)).values.get("messages") or [] if fork else []
    if before and isinstance(before[-1], HumanMessage):
        return before[-1].id
    for name in lineage[lineage.index(fork) + 1 if fork else 0 :]:
        messages: list[BaseMessage] = (await state_at(name)).values.get("messages") or []
        for message in messages[len(before) :]:
            if isinstance(message, HumanMessage):
                return message.id
    return None
