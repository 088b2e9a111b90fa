"""``ecowas-lc threads show|diff``: shows a checkpoint's contents, and what changed between two checkpoints."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ecowas_lc.checkpoint.viewing import plain
from ecowas_lc.cli.conversation import checked_session
from ecowas_lc.cli.screen import MARGIN, counted, labelled, shortened
from ecowas_lc.cli.store import SPEAKERS, Store, ago, duration, opened_store
from ecowas_lc.cli.terminal import one_line, out, show_json
from ecowas_lc.errors import EcowasError, InvalidInputError

if TYPE_CHECKING:
    from langgraph.checkpoint.base import CheckpointTuple

    from ecowas_lc.checkpoint import ChannelChange

_NEXT = "branch:to:"  # the prefix of langgraph's channels that name the next node
_KNOWN = ("source", "step", "parents", "run_id", "thread_id", "checkpoint_ns", "checkpoint_id")


def show_checkpoint(thread: str, checkpoint: str | None, namespace: str, *, json: bool) -> None:
    """Show a checkpoint, by default the latest.

    Raises:
        EcowasError: There is no such thread or checkpoint.
    """
    thread = checked_session(thread)
    with opened_store() as store:
        found = _found(store, thread, checkpoint, namespace)
        left = store.saver.ttl(thread)
    values = {channel: plain(value) for channel, value in found.checkpoint["channel_values"].items()}
    pending = [
        {"task": task, "channel": channel, "value": plain(value)}
        for task, channel, value in found.pending_writes or ()
    ]
    parent = _id_of(found.parent_config) if found.parent_config is not None else None
    metadata = {key: plain(value) for key, value in found.metadata.items() if key not in _KNOWN}
    if json:
        show_json(
            {
                "thread": thread,
                "namespace": namespace,
                "checkpoint": found.checkpoint["id"],
                "parent": parent,
                "at": found.checkpoint["ts"],
                "step": found.metadata.get("step"),
                "source": found.metadata.get("source"),
                "run": found.metadata.get("run_id"),
                "metadata": metadata,
                "ttl_seconds": left,
                "values": values,
                "pending": pending,
            }
        )
        return
    labelled(
        "Thread", f"{one_line(thread)}, {'never expires' if left is None else f'expires in {duration(left)}'}", 12
    )
    labelled("Checkpoint", f"{one_line(found.checkpoint['id'])}{_moment(found)}", 12)
    labelled("After", parent or "none (first checkpoint)", 12)
    for label, text in (("Namespace", namespace), ("Run", found.metadata.get("run_id"))):
        if text:
            labelled(label, one_line(str(text)), 12)
    for key, value in metadata.items():
        labelled(one_line(key), value_text(value), 12)
    if following := [channel.removeprefix(_NEXT) for channel in values if channel.startswith(_NEXT)]:
        labelled("Next", ", ".join(following), 12)
    _section("Values")
    for channel, value in values.items():
        if not channel.startswith(_NEXT):
            _value(channel, value)
    if pending:
        _section("Pending")
        for write in pending:
            _value(write["channel"].strip("_"), write["value"])


def show_difference(thread: str, before: str | None, after: str | None, namespace: str, *, json: bool) -> None:
    """Show what changed from one checkpoint to another: by default, from the latest one's parent to it.

    Raises:
        EcowasError: There is no such thread or checkpoint, or no checkpoint before it.
    """
    thread = checked_session(thread)
    with opened_store() as store:
        for checkpoint in (after, before):
            _found(store, thread, checkpoint, namespace)
        try:
            found = store.saver.diff(thread, before, after, checkpoint_ns=namespace)
        except InvalidInputError as error:  # the request is valid, but the checkpoint does not exist
            raise EcowasError(str(error)) from None
    old, new = found.before, found.after
    channels = {channel: _shown(change) for channel, change in found.channels.items()}
    if json:
        ends = {"before": old.checkpoint["id"], "after": new.checkpoint["id"]}
        show_json({"thread": thread, "namespace": namespace, **ends, "channels": channels})
        return
    labelled("From", f"{old.checkpoint['id']}{_moment(old)}", 12)
    labelled("To", f"{new.checkpoint['id']}{_moment(new)}", 12)
    shown = {channel: change for channel, change in channels.items() if not channel.startswith(_NEXT)}
    if not shown:
        out().print("\nNo value changed.")
    for channel, change in shown.items():
        out().print(Text(f"\n{one_line(channel)}: {change['change']}", style="bold"))
        removed, added = (
            (change["removed"], change["added"])
            if "removed" in change
            else ([change[end]] if end in change else [] for end in ("before", "after"))
        )
        for mark, style, items in (("-", "dark_orange", removed), ("+", "deep_sky_blue1", added)):
            for item in items:
                out().print(Text(shortened(f"{MARGIN}{mark} {value_text(item)}", out()), style=style))


def _shown(change: ChannelChange) -> dict[str, Any]:
    shown: dict[str, Any] = {"change": change.change}
    if change.removed is not None and change.added is not None:
        return shown | {"removed": plain(change.removed), "added": plain(change.added)}
    if change.change != "new":
        shown["before"] = plain(change.before)
    if change.change != "gone":
        shown["after"] = plain(change.after)
    return shown


def _found(store: Store, thread: str, checkpoint: str | None, namespace: str) -> CheckpointTuple:
    place = {"thread_id": thread, "checkpoint_ns": namespace}
    found = store.saver.get_tuple(
        {"configurable": place if checkpoint is None else {**place, "checkpoint_id": checkpoint}}
    )
    if found is not None:
        return found
    store.check_thread(thread)
    if checkpoint is not None:
        raise EcowasError(
            f"There is no checkpoint {checkpoint!r} in thread {thread!r}. `ecowas-lc threads history` lists them."
        )
    found_in = {_namespace_of(each) for each in store.saver.list({"configurable": {"thread_id": thread}})}
    known = [repr(each) if each else "'' (the main graph's)" for each in sorted(found_in)]
    raise EcowasError(f"There is no namespace {namespace!r} in thread {thread!r}. Available: {', '.join(known)}.")


def _namespace_of(found: CheckpointTuple) -> str:
    return str(found.config["configurable"].get("checkpoint_ns", ""))


def _id_of(config: Any) -> str:
    return str(config["configurable"]["checkpoint_id"])


def _moment(found: CheckpointTuple) -> str:
    from datetime import datetime

    step, source = found.metadata.get("step"), found.metadata.get("source")
    return f" (step {step}, {source}, {ago(datetime.fromisoformat(found.checkpoint['ts']))})"


def _value(channel: str, value: Any) -> None:
    console = out()
    if isinstance(value, list) and value:
        console.print(Text(f"{MARGIN}{one_line(channel)}: {counted(len(value), 'item')}"))
        for item in value:
            console.print(Text(shortened(f"{MARGIN}{MARGIN}{value_text(item)}", console), style="dim"))
    else:
        console.print(Text(shortened(f"{MARGIN}{one_line(channel)}: {value_text(value)}", console)))


def value_text(value: Any) -> str:
    """Return a value on one line: a message with its author, anything else as JSON."""
    if isinstance(value, dict) and {"type", "text"} <= value.keys():
        speaker = value.get("name") or SPEAKERS.get(value["type"], value["type"])
        said = f"{speaker}: {value['text']}"
        calls = ", ".join(f"{call['name']}({value_text(call['args'])})" for call in value.get("tool_calls", ()))
        return f"{said} {calls}".rstrip() if calls else said
    return value if isinstance(value, str) else json_module.dumps(value, ensure_ascii=False)


def _section(title: str) -> None:
    out().print(Text(f"\n{title}", style="bold"))
