"""The differences between two checkpoints of a thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Literal

from langgraph.checkpoint.base import CheckpointTuple

from ecowas_lc._display import Displayed
from ecowas_lc.checkpoint.configs import CheckpointPlace
from ecowas_lc.checkpoint.reading import get_tuple_op
from ecowas_lc.checkpoint.viewing import plain_key
from ecowas_lc.checkpoint.writing import SaverContext
from ecowas_lc.errors import InvalidInputError, UnknownCheckpointError
from ecowas_lc.storage.ops import Op, together


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """The change of one channel.

    Attributes:
        change: ``"new"``, ``"gone"`` or ``"changed"``.
        before: The channel's value in the earlier checkpoint; ``None`` if the channel is new.
        after: The channel's value in the later checkpoint; ``None`` if the channel is gone.
        removed: If both values are lists, the items that only the earlier one has, in order; else ``None``.
        added: If both values are lists, the items that only the later one has, in order; else ``None``.
    """

    change: Literal["new", "gone", "changed"]
    before: Any = None
    after: Any = None
    removed: tuple[Any, ...] | None = None
    added: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class ThreadDifference(Displayed):
    """The differences between two checkpoints of a thread.

    Attributes:
        thread: The thread's id.
        before: The earlier checkpoint.
        after: The later checkpoint.
        channels: The channels whose value differs, by name, in alphabetical order.
    """

    thread: str
    before: CheckpointTuple
    after: CheckpointTuple
    channels: Mapping[str, ChannelChange] = field(default_factory=dict)


def difference_op(
    ctx: SaverContext, thread_id: str, before: str | None, after: str | None, namespace: str
) -> Op[ThreadDifference]:
    """Compare two checkpoints: one flush, or two if the earlier one is the later one's parent.

    Raises:
        UnknownCheckpointError: The thread or the checkpoint does not exist.
        InvalidInputError: The later checkpoint has no parent.
    """
    if before is not None:
        places = [CheckpointPlace(thread_id, namespace, before), CheckpointPlace(thread_id, namespace, after)]
        old, new = yield from together([get_tuple_op(ctx, place) for place in places])
    else:
        new = yield from get_tuple_op(ctx, CheckpointPlace(thread_id, namespace, after))
        old = None
        if new is not None:
            if new.parent_config is None:
                raise InvalidInputError(
                    f"The checkpoint {new.checkpoint['id']} is the first, so there is nothing to compare it with."
                )
            before = str(new.parent_config["configurable"]["checkpoint_id"])
            old = yield from get_tuple_op(ctx, CheckpointPlace(thread_id, namespace, before))
    for found, name in ((new, after), (old, before)):
        if found is None:
            what = f"no checkpoint {name!r} in the thread {thread_id!r}" if name else f"no thread {thread_id!r}"
            raise UnknownCheckpointError(f"There is {what}. Look for it with saver.list(None) or saver.threads().")
    assert old is not None
    assert new is not None
    return ThreadDifference(thread_id, old, new, _changes(old, new))


_ABSENT = object()


def _changes(old: CheckpointTuple, new: CheckpointTuple) -> dict[str, ChannelChange]:
    old_values, new_values = old.checkpoint["channel_values"], new.checkpoint["channel_values"]
    changes = {}
    for channel in sorted(old_values.keys() | new_values.keys()):
        change = _change(old_values.get(channel, _ABSENT), new_values.get(channel, _ABSENT))
        if change is not None:
            changes[channel] = change
    return changes


def _change(old: Any, new: Any) -> ChannelChange | None:
    if old is _ABSENT:
        return ChannelChange("new", after=new)
    if new is _ABSENT:
        return ChannelChange("gone", before=old)
    if not (isinstance(old, list) and isinstance(new, list)):
        return None if plain_key(old) == plain_key(new) else ChannelChange("changed", old, new)
    ours, theirs = [plain_key(item) for item in old], [plain_key(item) for item in new]
    if ours == theirs:
        return None
    removed: list[Any] = []
    added: list[Any] = []
    for kind, begin, end, from_, to in SequenceMatcher(a=ours, b=theirs, autojunk=False).get_opcodes():
        if kind != "equal":
            removed += old[begin:end]
            added += new[from_:to]
    return ChannelChange("changed", old, new, tuple(removed), tuple(added))
