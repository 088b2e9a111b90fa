"""Writes threads for checkpoint tests: checkpoints as langgraph makes them, one after the other."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.checkpoint.base.id import uuid6


def at(thread_id: Any = "t", checkpoint_id: str | None = None, ns: str | None = "", **more: Any) -> Any:
    """A config."""
    configurable = {"thread_id": thread_id, **more}
    if ns is not None:
        configurable["checkpoint_ns"] = ns
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


class Writer:
    """Writes a thread's checkpoints through a saver, each after the one before."""

    def __init__(self, saver: BaseCheckpointSaver[Any], thread_id: str = "t", ns: str = "", **more: Any) -> None:
        self.saver = saver
        self.config = at(thread_id, ns=ns, **more)
        self.more = more
        self.values: dict[str, Any] = {}
        self.versions: dict[str, Any] = {}
        self.number = 0

    def draft(self, id_: str | None = None, gone: tuple[str, ...] = (), **values: Any) -> tuple[Checkpoint, Any]:
        """The next checkpoint, in which these channels have new values, and the new versions."""
        highest = max(self.versions.values(), default=None)
        new = {channel: self.saver.get_next_version(highest, None) for channel in (*values, *gone)}
        self.versions = {**self.versions, **new}
        self.values = {name: value for name, value in {**self.values, **values}.items() if name not in gone}
        checkpoint: Any = {
            "v": 4,
            "id": id_ or str(uuid6(clock_seq=self.number)),
            "ts": "2026-01-01T00:00:00+00:00",
            "channel_values": dict(self.values),
            "channel_versions": dict(self.versions),
            "versions_seen": {"node": dict(self.versions)},
            "updated_channels": sorted(new),
        }
        return checkpoint, new

    def put(
        self,
        id_: str | None = None,
        metadata: dict[str, Any] | None = None,
        gone: tuple[str, ...] = (),
        **values: Any,
    ) -> Any:
        """Store the next checkpoint; returns its config."""
        checkpoint, new = self.draft(id_, gone, **values)
        stored = self.saver.put(self.config, checkpoint, self._metadata(metadata), new)
        return self._moved(stored)

    async def aput(
        self,
        id_: str | None = None,
        metadata: dict[str, Any] | None = None,
        gone: tuple[str, ...] = (),
        **values: Any,
    ) -> Any:
        """The same, async."""
        checkpoint, new = self.draft(id_, gone, **values)
        stored = await self.saver.aput(self.config, checkpoint, self._metadata(metadata), new)
        return self._moved(stored)

    def _metadata(self, metadata: dict[str, Any] | None) -> Any:
        return {"source": "loop", "step": self.number, "parents": {}, **(metadata or {})}

    def _moved(self, stored: Any) -> Any:
        self.number += 1
        self.config = {"configurable": {**stored["configurable"], **self.more}}
        return stored


def id_of(config: Any) -> str:
    """A config's checkpoint id."""
    return config["configurable"]["checkpoint_id"]


def key_of(prefix: str, thread_id: str = "t") -> str:
    """An ordinary thread's key."""
    return f"{prefix}:checkpoint:{{{thread_id}}}"
