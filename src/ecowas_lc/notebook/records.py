"""Stored data as records: plain dicts, or a pandas DataFrame if pandas is installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core.messages import BaseMessage

from ecowas_lc._display import Displayed
from ecowas_lc.checkpoint import RedisSaver, SavedThread
from ecowas_lc.checkpoint.viewing import viewed
from ecowas_lc.drawing import draw_state
from ecowas_lc.drawing.thread_layout import moments_of, new_messages, speaker_of, time_of
from ecowas_lc.errors import InvalidInputError, MissingExtraError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory.service import MemoryServiceBase
from ecowas_lc.supervisor.evaluation import RouterReport


class Records(Displayed, list[dict[str, Any]]):
    """Records of one kind: a list of dicts with the same keys, displayed as a table in notebooks."""

    def to_pandas(self) -> Any:
        """Return the records as a ``pandas.DataFrame``; times are in UTC.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError(
                "A DataFrame needs pandas. Run: pip install pandas. Records are dicts."
            ) from None
        return pd.DataFrame.from_records(list(self))


def threads(saver: RedisSaver, *, limit: int | None = 1_000, tokens: bool = False) -> Records:
    """Return a saver's threads as records, the most recently written first.

    The keys are ``thread``, ``title``, ``last_activity``, ``messages``, ``turns``, ``steps``, ``ttl_seconds``,
    ``waits`` and ``next``; with ``tokens``, which reads every thread's messages, also ``input_tokens`` and
    ``output_tokens`` as reported by the models.
    """
    found = Records()
    for row in saver.threads(limit=limit):
        record: dict[str, Any] = {
            "thread": row.id,
            "title": row.title,
            "last_activity": row.last_activity,
            "messages": row.messages,
            "turns": row.turns,
            "steps": row.steps,
            "ttl_seconds": row.ttl,
            "waits": len(row.waiting),
            "next": ", ".join(row.next),
        }
        if tokens:
            used = [_tokens(message) for message in SavedThread(viewed(saver), row.id).messages]
            record |= {"input_tokens": sum(one for one, _ in used), "output_tokens": sum(one for _, one in used)}
        found.append(record)
    return found


def checkpoints(saver: Any, thread_id: str, *, limit: int | None = 1_000) -> Records:
    """Return a thread's checkpoints as records, oldest first, with what ran and the size of the state.

    The keys are ``number``, ``checkpoint``, ``parent``, ``at``, ``source``, ``ran``, ``seconds`` (since the
    previous one), ``messages``, ``bytes``, ``groups`` (chosen in this step), ``waits`` and ``failed``.
    """
    place: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    listed = list(viewed(saver).list(place, limit=limit))
    sizes = draw_state(saver, thread_id, limit=len(listed)).sizes if listed else {}
    found = Records()
    for index, (item, moment) in enumerate(zip(listed[::-1], moments_of(listed, "messages"), strict=True)):
        messages = item.checkpoint["channel_values"].get("messages")
        found.append(
            {
                "number": moment.number,
                "checkpoint": item.checkpoint["id"],
                "parent": moment.parent,
                "at": moment.at,
                "source": moment.source,
                "ran": " + ".join(moment.ran),
                "seconds": moment.seconds,
                "messages": len(messages) if isinstance(messages, list) else None,
                "bytes": sum(each[index] for each in sizes.values()),
                "groups": None if moment.route is None else ", ".join(moment.route),
                "waits": "; ".join(moment.waiting),
                "failed": "; ".join(moment.failed),
            }
        )
    return found


def steps(saver: Any, thread_ids: Iterable[str], *, limit: int = 1_000) -> Records:
    """Return the duration of each step of some threads; groups that ran in parallel have the same duration.

    The keys are ``thread``, ``step``, ``at`` and ``seconds``.
    """
    found = Records()
    for thread_id in thread_ids:
        place: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        for moment in moments_of(list(viewed(saver).list(place, limit=limit)), "messages"):
            if moment.source == "loop" and moment.seconds is not None:
                found += [
                    {"thread": thread_id, "step": name, "at": moment.at, "seconds": moment.seconds}
                    for name in moment.ran
                    if not name.startswith("__")
                ]
    return found


def messages(of: Any, thread_id: str | None = None, *, limit: int = 1_000) -> Records:
    """Return the messages of a thread or of a history as records, oldest first.

    The keys are ``number``, ``speaker``, ``type``, ``text``, ``at`` (in threads), ``tool_calls``,
    ``input_tokens``, ``output_tokens`` and ``id``.

    Args:
        of: A thread (``saver.thread(id)``), a saver and ``thread_id``, a history, or messages.
        thread_id: The thread of a saver.
        limit: Maximum number of messages of a history, or of checkpoints of a thread.

    Raises:
        InvalidInputError: ``of`` is none of these.
    """
    if isinstance(of, SavedThread):
        return Records(_of_thread(of.saver, of.id, of.channel, limit))
    if isinstance(of, RedisChatMessageHistory):
        return Records(_record(number, one, None) for number, one in enumerate(of.latest(limit), start=1))
    if thread_id is not None and hasattr(of, "list") and hasattr(of, "alist"):
        return Records(_of_thread(of, thread_id, "messages", limit))
    if isinstance(of, (list, tuple)) and all(isinstance(one, BaseMessage) for one in of):
        return Records(_record(number, one, None) for number, one in enumerate(of, start=1))
    raise InvalidInputError(f"{of!r} has no messages. Pass saver.thread(id), a history, or a list of messages.")


def sessions(memory: MemoryServiceBase) -> Records:
    """Return the histories of a memory service as records, the most recently active first.

    The keys are ``session``, ``agent``, ``messages``, ``first_activity``, ``last_activity`` and ``ttl_seconds``.
    """
    infos = memory.server.run(memory._programs.sessions.all_op())
    return Records(
        {
            "session": info.session_id,
            "agent": info.agent_id,
            "messages": info.messages,
            "first_activity": info.first_activity,
            "last_activity": info.last_activity,
            "ttl_seconds": info.ttl_seconds,
        }
        for info in infos
    )


def confusion(report: RouterReport) -> Records:
    """Return a router's confusions: ``expected``, ``chosen`` and ``count`` of each pair that occurs."""
    return Records(
        {"expected": expected, "chosen": chosen, "count": count}
        for expected, row in report.confusion.items()
        for chosen, count in row.items()
        if count
    )


def scores(reports: Mapping[str, RouterReport]) -> Records:
    """Return the figures of routers by group.

    The keys are ``router``, ``group``, ``questions``, ``precision``, ``recall`` and ``f1``.
    """
    return Records(
        {
            "router": name,
            "group": group,
            "questions": score.n,
            "precision": score.precision,
            "recall": score.recall,
            "f1": score.f1,
        }
        for name, report in reports.items()
        for group, score in report.by_group.items()
    )


def _of_thread(saver: Any, thread_id: str, channel: str, limit: int) -> Iterator[dict[str, Any]]:
    place: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    listed = list(viewed(saver).list(place, limit=limit))
    by_id = {item.config["configurable"]["checkpoint_id"]: item for item in listed}
    if not listed:
        return
    latest = listed[0]
    said: dict[str, Any] = {}
    for item in listed[::-1]:
        above = item.parent_config["configurable"]["checkpoint_id"] if item.parent_config else None
        for one in new_messages(item, by_id.get(above), channel, is_first=above is None):
            said.setdefault(str(one.id), time_of(item))
    values = latest.checkpoint["channel_values"].get(channel)
    conversation = [one for one in values if isinstance(one, BaseMessage)] if isinstance(values, list) else []
    for number, one in enumerate(conversation, start=1):
        yield _record(number, one, said.get(str(one.id)))


def _record(number: int, message: BaseMessage, at: Any) -> dict[str, Any]:
    used_in, used_out = _tokens(message)
    calls = getattr(message, "tool_calls", None) or ()
    return {
        "number": number,
        "speaker": speaker_of(message),
        "type": message.type,
        "text": message.text,
        "at": at,
        "tool_calls": ", ".join(str(call["name"]) for call in calls),
        "input_tokens": used_in or None,
        "output_tokens": used_out or None,
        "id": message.id,
    }


def _tokens(message: BaseMessage) -> tuple[int, int]:
    used = getattr(message, "usage_metadata", None) or {}
    return int(used.get("input_tokens") or 0), int(used.get("output_tokens") or 0)
