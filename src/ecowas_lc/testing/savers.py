"""Conformance checks for langgraph checkpointers that langgraph's own suite leaves out: two writers of one thread.

It needs no test framework, and works with pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    @pytest.mark.parametrize("shell", ["sync", "async"])
    async def test_two_writers(check, shell):
        await run_check(check, my_savers, shell)

where ``my_savers`` is an async context manager that yields two savers on one new and empty storage::

    @contextlib.asynccontextmanager
    async def my_savers():
        with MySaver(url) as one, MySaver(url) as other:
            yield one, other

:func:`validate` runs every check and returns the failed ones with reasons. ``InMemorySaver`` and ``SqliteSaver``
pass. A saver that stores values by version and numbers versions as ``BaseCheckpointSaver.get_next_version`` does
mixes up the values of two forks, because they get the same version number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint

Saver = BaseCheckpointSaver[Any]
Shell = Literal["sync", "async"]
MakeSavers = Callable[[], AbstractAsyncContextManager[tuple[Saver, Saver]]]

__all__ = ["CHECKS", "Check", "run_check", "validate"]

CAPABILITY = "two writers of one thread"
_THREAD: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


class Writer:
    """One of two writers: a saver with all methods awaitable, whichever shell is tested."""

    def __init__(self, saver: Saver, shell: Shell) -> None:
        self.saver = saver
        self._shell = shell

    async def put(self, parent: CheckpointTuple | None, value: Any) -> Any:
        """Store a checkpoint after ``parent``, with this value in its channel, and return its config."""
        checkpoint = empty_checkpoint()
        before = parent.checkpoint["channel_versions"].get("channel") if parent is not None else None
        version = self.saver.get_next_version(before, None)
        checkpoint["channel_values"] = {"channel": value}
        checkpoint["channel_versions"] = {"channel": version}
        config = parent.config if parent is not None else _THREAD
        step = parent.metadata.get("step", -1) + 1 if parent is not None else -1
        metadata: Any = {"source": "loop", "step": step, "parents": {}}
        return await self._call("put", config, checkpoint, metadata, {"channel": version})

    async def put_writes(self, config: Any, value: Any, task_id: str) -> None:
        """Store a task's write, pending on a checkpoint."""
        await self._call("put_writes", config, [("channel", value)], task_id, "")

    async def get(self, config: Any = None) -> CheckpointTuple:
        """Return a checkpoint, or the thread's latest."""
        found = await self._call("get_tuple", config or _THREAD)
        assert found is not None, "a checkpoint that was written is not there"
        return found  # type: ignore[no-any-return]

    async def list(self) -> list[CheckpointTuple]:
        """Return the thread's checkpoints."""
        if self._shell == "sync":
            return await asyncio.to_thread(lambda: [*self.saver.list(_THREAD)])
        listed: AsyncIterator[CheckpointTuple] = self.saver.alist(_THREAD)
        return [found async for found in listed]

    async def delete(self) -> None:
        """Delete the thread."""
        await self._call("delete_thread", "thread")

    async def _call(self, method: str, *arguments: Any) -> Any:
        if self._shell == "sync":
            return await asyncio.to_thread(getattr(self.saver, method), *arguments)
        return await getattr(self.saver, f"a{method}")(*arguments)


Run = Callable[[Writer, Writer], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: its name, its text, and the code that checks it."""

    name: str
    promise: str
    run: Run

    def __str__(self) -> str:
        return self.name


CHECKS: list[Check] = []


def _check(run: Run) -> Run:
    CHECKS.append(Check(getattr(run, "__name__", "").strip("_"), (run.__doc__ or "").strip(), run))
    return run


def _value(found: CheckpointTuple) -> Any:
    return found.checkpoint["channel_values"].get("channel")


@_check
async def _both_extend_one_checkpoint(one: Writer, other: Writer) -> None:
    """Two checkpoints with the same parent are both stored; the later one is the latest."""
    begun = await one.get(await one.put(None, "begun"))
    configs = [await one.put(begun, "one"), await other.put(begun, "other")]
    for config in configs:
        assert (await one.get(config)).parent_config == (await other.get(config)).parent_config
    assert len(await one.list()) == 3
    latest = max(config["configurable"]["checkpoint_id"] for config in configs)
    assert (await other.get()).checkpoint["id"] == latest


@_check
async def _values_of_forks_keep_apart(one: Writer, other: Writer) -> None:
    """In each of two forks, a channel has the value that the fork's writer stored."""
    begun = await one.get(await one.put(None, ["begun"]))
    mine, theirs = await one.put(begun, ["begun", "one"]), await other.put(begun, ["begun", "other"])
    for reader in (one, other):
        assert _value(await reader.get(mine)) == ["begun", "one"]
        assert _value(await reader.get(theirs)) == ["begun", "other"]


@_check
async def _lists_grow_side_by_side(one: Writer, other: Writer) -> None:
    """Two branches that grow alternately keep all of their own items, and none of the other's."""
    begun = await one.get(await one.put(None, ["begun"]))
    heads = {one: begun, other: begun}
    for turn in range(5):
        for name, writer in (("one", one), ("other", other)):
            value = [*_value(heads[writer]), f"{name} {turn}"]
            heads[writer] = await writer.get(await writer.put(heads[writer], value))
    assert _value(await other.get(heads[one].config)) == ["begun", *(f"one {turn}" for turn in range(5))]
    assert _value(await one.get(heads[other].config)) == ["begun", *(f"other {turn}" for turn in range(5))]


@_check
async def _nothing_is_lost_at_once(one: Writer, other: Writer) -> None:
    """Of checkpoints that two writers store at the same time, none is lost."""
    begun = await one.get(await one.put(None, "begun"))

    async def write(writer: Writer, name: str) -> list[Any]:
        return [await writer.put(begun, f"{name} {number}") for number in range(20)]

    written = [
        config for configs in await asyncio.gather(write(one, "a"), write(other, "b")) for config in configs
    ]
    listed = {found.checkpoint["id"] for found in await one.list()}
    assert {config["configurable"]["checkpoint_id"] for config in written} <= listed
    assert len(listed) == 41


@_check
async def _pending_writes_of_both(one: Writer, other: Writer) -> None:
    """Writes of two tasks are both pending; a task that both have run counts once."""
    config = await one.put(None, "begun")
    await asyncio.gather(one.put_writes(config, "one", "task-1"), other.put_writes(config, "other", "task-2"))
    await asyncio.gather(one.put_writes(config, "same", "task-3"), other.put_writes(config, "same", "task-3"))
    pending = sorted((await one.get(config)).pending_writes or ())
    assert pending == [("task-1", "channel", "one"), ("task-2", "channel", "other"), ("task-3", "channel", "same")]


@_check
async def _begun_anew_after_a_deletion(one: Writer, other: Writer) -> None:
    """A thread that one writer starts after the other deleted it has nothing from before, and all of its own."""
    old = await one.get(await one.put(None, ["old"] * 50))
    await other.delete()
    begun = await one.get(await one.put(None, ["new"]))
    assert _value(begun) == ["new"]
    assert [found.checkpoint["id"] for found in await other.list()] == [begun.checkpoint["id"]]
    assert old.checkpoint["id"] != begun.checkpoint["id"]
    grown = await one.put(begun, ["new", *["old"] * 50])
    assert _value(await other.get(grown)) == ["new", *["old"] * 50]


async def run_check(check: Check, make_savers: MakeSavers, shell: Shell = "async") -> None:
    """Run one check on new savers.

    Args:
        check: The check to run.
        make_savers: An async context manager that yields two savers on one new and empty storage.
        shell: Which methods to call, ``"sync"`` or ``"async"``.

    Raises:
        AssertionError: The savers break the check's promise.
    """
    async with make_savers() as (one, other):
        await check.run(Writer(one, shell), Writer(other, shell))


async def validate(make_savers: MakeSavers, shells: tuple[Shell, ...] = ("sync", "async")) -> dict[str, str]:
    """Run every check through each shell.

    Args:
        make_savers: An async context manager that yields two savers on one new and empty storage.
        shells: Which methods to call.

    Returns:
        The reasons of failed checks by name; empty if all checks passed.
    """
    failed: dict[str, str] = {}
    for check in CHECKS:
        for shell in shells:
            try:
                await run_check(check, make_savers, shell)
            except Exception as error:
                failed[f"{check.name} ({shell})"] = str(error).partition("\n")[0] or type(error).__name__
    return failed
