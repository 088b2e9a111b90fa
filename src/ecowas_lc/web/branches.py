"""The versions of a turn: where a thread's checkpoints fork, and which checkpoint leads back to each branch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.types import StateSnapshot

from ecowas_lc.supervisor.nodes import ROUTE

_MOST_STATES, _MOST_FORKS = 200, 50

StateAt = Callable[[str], Awaitable[StateSnapshot]]


@dataclass(frozen=True, slots=True)
class BranchNode:
    """A checkpoint: its id, the id of the one before it, and langgraph's ``source`` of it."""

    id: str
    parent: str
    source: str


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of one turn, oldest first, each named by the newest checkpoint of its branch.

    ``number`` counts from 1 and is the version that the thread is currently on.
    """

    number: int
    tips: tuple[str, ...]

    @property
    def previous(self) -> str | None:
        """The checkpoint that leads to the previous version."""
        return self.tips[self.number - 2] if self.number > 1 else None

    @property
    def next(self) -> str | None:
        """The checkpoint that leads to the next version."""
        return self.tips[self.number] if self.number < len(self.tips) else None


async def versions_of(nodes: Sequence[BranchNode], head: str, state_at: StateAt) -> dict[str, Versions]:
    """Return the versions of each turn that has several, by the id of its question.

    Args:
        nodes: All checkpoints of the thread, in any order.
        head: The checkpoint that the thread is on.
        state_at: Reads a checkpoint. It is called only for forks and the checkpoints after them.
    """
    thread = await _Thread.of(nodes, state_at)
    lineage = thread.lineage(head)
    forks = [name for name in ("", *lineage) if len(thread.children.get(name, ())) > 1]
    found: dict[str, Versions] = {}
    for fork in forks[-_MOST_FORKS:]:
        question = await thread.question_of(fork, lineage)
        if question is None or question in found:
            continue
        versions = await thread.versions_below(fork, question)
        own = next((place for place, one in enumerate(versions) if not one.isdisjoint(lineage)), None)
        if own is not None and len(versions) > 1:
            found[question] = Versions(own + 1, tuple(thread.newest[max(one)] for one in versions))
    return found


class _Thread:
    """The checkpoints of a thread as a tree. Ids sort by time.

    Returning to a branch copies its newest checkpoint. A copy counts as its original: it starts no branch, and the
    checkpoints after the copy count as those after the original.
    """

    def __init__(
        self,
        nodes: Sequence[BranchNode],
        state_at: StateAt,
        originals: Mapping[str, str],
        states: Mapping[str, Any],
    ) -> None:
        self._originals = originals
        self._states = dict(states)
        self._state_at = state_at
        self.parents: dict[str, str] = {}
        self.newest: dict[str, str] = {}
        self.children: dict[str, list[str]] = {}
        for node in sorted(nodes, key=lambda each: each.id):
            original = self._original(node.id)
            self.newest[original] = node.id
            if original == node.id:
                self.parents[node.id] = self._original(node.parent)
                self.children.setdefault(self.parents[node.id], []).append(node.id)

    @classmethod
    async def of(cls, nodes: Sequence[BranchNode], state_at: StateAt) -> Self:
        """Return the tree, with copies recognised."""
        siblings: dict[str, list[BranchNode]] = {}
        for node in sorted(nodes, key=lambda each: each.id):
            siblings.setdefault(node.parent, []).append(node)
        states: dict[str, StateSnapshot] = {}
        originals: dict[str, str] = {}
        for each in siblings.values():
            if len(each) < 2 or len(states) > _MOST_STATES:
                continue
            known: dict[tuple[Any, ...], str] = {}
            for node in each:
                states[node.id] = await state_at(node.id)
                key = _content(states[node.id])
                if node.source == "fork" and key in known:
                    originals[node.id] = known[key]
                elif ROUTE not in states[node.id].next:  # an answer that is being regenerated is not a copy
                    known.setdefault(key, node.id)
        return cls(nodes, state_at, originals, states)

    def _original(self, name: str) -> str:
        return self._originals.get(name, name)

    async def _messages(self, name: str) -> list[BaseMessage]:
        if name not in self._states:
            self._states[name] = await self._state_at(name)
        found: list[BaseMessage] = self._states[name].values.get("messages") or []
        return found

    def lineage(self, head: str) -> list[str]:
        """Return the checkpoints from the first one to this one."""
        found: list[str] = []
        at = self._original(head)
        while at in self.parents and at not in found:
            found.append(at)
            at = self.parents[at]
        return found[::-1]

    async def versions_below(self, fork: str, question: str) -> list[set[str]]:
        """Return the versions of a question's turn after a fork, oldest first, each as a set of checkpoints."""
        found: list[set[str]] = []
        for branch in self.children.get(fork, ()):
            again = await self._fork_in(branch, question)
            found += [self._below(branch)] if again is None else await self.versions_below(again, question)
        return found

    async def _fork_in(self, branch: str, question: str) -> str | None:
        """Return the checkpoint where the same turn forks again within a branch, or ``None``."""
        at = branch
        while len(below := self.children.get(at, [])) == 1:
            at = below[0]
        if not below:
            return None
        messages = await self._messages(at)
        is_same = bool(messages) and isinstance(messages[-1], HumanMessage) and messages[-1].id == question
        return at if is_same else None

    def _below(self, branch: str) -> set[str]:
        found: set[str] = set()
        waiting = [branch]
        while waiting:
            at = waiting.pop()
            found.add(at)
            waiting += self.children.get(at, ())
        return found

    async def question_of(self, fork: str, lineage: Sequence[str]) -> str | None:
        """Return the id of the question whose turn forks here: the fork's last message, or the next question."""
        before = await self._messages(fork) if fork else []
        if before and isinstance(before[-1], HumanMessage):
            return before[-1].id
        for name in lineage[lineage.index(fork) + 1 if fork else 0 :]:
            for message in (await self._messages(name))[len(before) :]:
                if isinstance(message, HumanMessage):
                    return message.id
        return None


def _content(state: StateSnapshot) -> tuple[Any, ...]:
    messages: list[BaseMessage] = state.values.get("messages") or []
    return (tuple((message.id, message.text) for message in messages), state.next)
