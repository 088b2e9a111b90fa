"""Copying conversations from histories to LangGraph threads and back; each copy can be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from langchain_core.messages import BaseMessage, RemoveMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    copy_checkpoint,
    empty_checkpoint,
)
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages

from ecowas_lc.errors import InvalidInputError
from ecowas_lc.history.chat_history import RedisChatMessageHistory
from ecowas_lc.storage.keys import check_id

Saver = BaseCheckpointSaver[Any]
_Put = tuple[RunnableConfig, Checkpoint, CheckpointMetadata, dict[str, Any]]


def history_to_thread(
    history: RedisChatMessageHistory,
    checkpointer: Saver,
    thread_id: str | None = None,
    *,
    channel: str = "messages",
) -> int:
    """Add the messages of a history to a thread, except those that it already has.

    All messages of the history are copied, whatever its window, except ``RemoveMessage``, which is an instruction.
    Ids identify the messages. A message without an id (saved as a dict) gets one that is always the same. A graph
    whose state has ``channel``, such as :class:`langgraph.graph.MessagesState`, continues from there.

    Args:
        history: The history to copy from.
        checkpointer: The saver of the thread.
        thread_id: The thread's id; default: the history's session id.
        channel: The channel of the state that holds the messages.

    Returns:
        The number of messages added.

    Raises:
        InvalidInputError: The thread's ``channel`` holds something other than messages.
    """
    config = _config(history, thread_id)
    found, held = _read(checkpointer, config, channel)
    new = _unknown(history.all_messages(), held)
    if new:
        checkpointer.put(*_next(checkpointer, config, found, [*held, *new], channel))
    return len(new)


async def ahistory_to_thread(
    history: RedisChatMessageHistory,
    checkpointer: Saver,
    thread_id: str | None = None,
    *,
    channel: str = "messages",
) -> int:
    """Add the messages of a history to a thread, without blocking; see :func:`history_to_thread`."""
    config = _config(history, thread_id)
    found, held = await _aread(checkpointer, config, channel)
    new = _unknown(await history.aall_messages(), held)
    if new:
        await checkpointer.aput(*_next(checkpointer, config, found, [*held, *new], channel))
    return len(new)


def thread_to_history(
    checkpointer: Saver,
    history: RedisChatMessageHistory,
    thread_id: str | None = None,
    *,
    channel: str = "messages",
) -> int:
    """Append the messages of a thread to a history, except those that it already has.

    Args:
        checkpointer: The saver of the thread.
        history: The history to append to.
        thread_id: The thread's id; default: the history's session id.
        channel: The channel of the state that holds the messages.

    Returns:
        The number of messages appended.

    Raises:
        InvalidInputError: The thread's ``channel`` holds something other than messages.
        NotSerializableError: A message could not be read back the same; nothing is written.
    """
    _, held = _read(checkpointer, _config(history, thread_id), channel)
    new = _unknown(held, history.all_messages())
    history.add_messages(new)
    return len(new)


async def athread_to_history(
    checkpointer: Saver,
    history: RedisChatMessageHistory,
    thread_id: str | None = None,
    *,
    channel: str = "messages",
) -> int:
    """Append the messages of a thread to a history, without blocking; see :func:`thread_to_history`."""
    _, held = await _aread(checkpointer, _config(history, thread_id), channel)
    new = _unknown(held, await history.aall_messages())
    await history.aadd_messages(new)
    return len(new)


def _config(history: RedisChatMessageHistory, thread_id: str | None) -> RunnableConfig:
    thread_id = history.session_id if thread_id is None else check_id(thread_id, "thread id")
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def _read(
    checkpointer: Saver, config: RunnableConfig, channel: str
) -> tuple[CheckpointTuple | None, list[BaseMessage]]:
    found = checkpointer.get_tuple(config)
    if found is None or not _is_spread(found, channel):
        return found, _stored(found, channel)
    deltas = checkpointer.get_delta_channel_history(config=found.config, channels=[channel])
    return found, _replayed(deltas[channel], channel)


async def _aread(
    checkpointer: Saver, config: RunnableConfig, channel: str
) -> tuple[CheckpointTuple | None, list[BaseMessage]]:
    found = await checkpointer.aget_tuple(config)
    if found is None or not _is_spread(found, channel):
        return found, _stored(found, channel)
    deltas = await checkpointer.aget_delta_channel_history(config=found.config, channels=[channel])
    return found, _replayed(deltas[channel], channel)


def _is_spread(found: CheckpointTuple, channel: str) -> bool:
    # A DeltaChannel stores its value as writes along the thread, with occasional snapshots.
    checkpoint = found.checkpoint
    return channel in checkpoint["channel_versions"] and channel not in checkpoint["channel_values"]


def _stored(found: CheckpointTuple | None, channel: str) -> list[BaseMessage]:
    if found is None or channel not in found.checkpoint["channel_values"]:
        return []
    return _messages(
        DeltaChannel(_fold).from_checkpoint(found.checkpoint["channel_values"][channel]).get(), channel
    )


def _replayed(deltas: Mapping[str, Any], channel: str) -> list[BaseMessage]:
    replay: DeltaChannel[Any] = DeltaChannel(_fold).from_checkpoint(deltas.get("seed", []))
    replay.replay_writes(deltas["writes"])
    return _messages(replay.get(), channel)


def _fold(state: list[BaseMessage], writes: Sequence[Any]) -> list[BaseMessage]:
    for write in writes:
        messages = convert_to_messages(write if isinstance(write, list) else [write])
        known = {message.id for message in (*state, *messages) if not isinstance(message, RemoveMessage)}
        wanted = [m for m in messages if not isinstance(m, RemoveMessage) or m.id in {*known, REMOVE_ALL_MESSAGES}]
        state = add_messages(state, wanted)  # type: ignore[arg-type, assignment]
    return state


def _messages(value: Any, channel: str) -> list[BaseMessage]:
    if not isinstance(value, list) or not all(isinstance(item, BaseMessage) for item in value):
        raise InvalidInputError(
            f"The thread's channel {channel!r} does not hold messages. Name the right one with channel=."
        )
    return value


def _unknown(messages: Sequence[BaseMessage], held: Sequence[BaseMessage]) -> list[BaseMessage]:
    known = {message.id for message in held}
    return [m for m in messages if m.id not in known and not isinstance(m, RemoveMessage)]


def _next(
    checkpointer: Saver,
    config: RunnableConfig,
    found: CheckpointTuple | None,
    messages: list[BaseMessage],
    channel: str,
) -> _Put:
    step = found.metadata.get("step", -1) + 1 if found else 0
    checkpoint = copy_checkpoint(found.checkpoint) if found else empty_checkpoint()
    version = checkpointer.get_next_version(checkpoint["channel_versions"].get(channel), None)
    checkpoint["id"] = str(uuid6(clock_seq=step))
    checkpoint["ts"] = datetime.now(UTC).isoformat()
    checkpoint["channel_values"][channel] = messages
    checkpoint["channel_versions"][channel] = version
    checkpoint["updated_channels"] = [channel]
    metadata: CheckpointMetadata = {"source": "update", "step": step, "parents": {}}
    return found.config if found else config, checkpoint, metadata, {channel: version}
