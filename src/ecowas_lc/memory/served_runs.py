"""Removal of the runs that ``ecowas-lc serve`` stored for a session: their questions, events and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.left_out import readable_ids
from ecowas_lc.storage.ops import Call, Op, command

_AT_ONCE = 100


def runs_listing(keys: Keys, session_id: str) -> tuple[Call, Call]:
    """Return the commands whose replies :func:`forget_runs_op` takes."""
    return (
        command("LRANGE", keys.runs_of_session(session_id), 0, -1, optional=True),
        command("ZRANGE", keys.stored_runs(session_id), 0, -1, optional=True),
    )


def count_runs_op(keys: Keys, session_id: str) -> Op[int]:
    """Return the number of a session's stored runs."""
    return len(_runs_in((yield runs_listing(keys, session_id))))


def forget_runs_op(keys: Keys, session_id: str, replies: Sequence[Any] | None = None) -> Op[int]:
    """Remove a session's runs, finished or not.

    Args:
        keys: The keys of the prefix.
        session_id: The session.
        replies: The replies to :func:`runs_listing`, if they have been read.

    Returns:
        The number of runs.
    """
    if replies is None:
        replies = yield runs_listing(keys, session_id)
    runs = _runs_in(replies)
    for start in range(0, len(runs), _AT_ONCE):
        yield tuple(
            removal
            for run in runs[start : start + _AT_ONCE]
            for removal in (
                command("UNLINK", keys.served_run(session_id, run)),
                command("UNLINK", keys.run_events(session_id, run)),
                command("UNLINK", keys.run_lease(session_id, run)),
                command("UNLINK", keys.session_of_run(run)),
                command("ZREM", keys.open_runs(), id_bytes(run) + b":" + id_bytes(session_id), optional=True),
            )
        )
    if any(replies):  # the lists go last: if the removal is interrupted, a repeated call still finds the runs
        yield (command("UNLINK", keys.runs_of_session(session_id), keys.stored_runs(session_id)),)
    return len(runs)


def _runs_in(replies: Sequence[Any]) -> list[str]:
    ids = [member for reply in replies if not isinstance(reply, Exception) for member in reply]
    return list(dict.fromkeys(readable_ids(ids, "runs")))
