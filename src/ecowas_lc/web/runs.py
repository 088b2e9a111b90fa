"""Stored runs: programs that start, drive, read and end them.

A run takes one question, decision or repeated question through the graph. Its events are a stream. Their ids
consist of the attempt and a number, so an event that is sent twice is stored only once.
The process that holds the run's lease drives it. Runs of one session are executed one at a time, in the order of
its queue.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from ecowas_lc.errors import CorruptDataError
from ecowas_lc.storage.keys import Keys, id_bytes, id_text
from ecowas_lc.storage.left_out import readable_ids, warn_left_out
from ecowas_lc.storage.ops import Call, Op, call, command, load_script
from ecowas_lc.supervisor.double_texting import OnBusy

_START = load_script("run_start")
_CLAIM = load_script("run_claim")
_APPEND = load_script("run_append")
_RELEASE = load_script("run_release")
_CANCEL = load_script("run_cancel")

Status = Literal["open", "done", "waiting", "failed", "cancelled"]

MOST_WAITING = 10
"""The maximum number of queued runs of one session."""
EVENTS_AT_ONCE = 1000
FIRST_EVENT = "0-1"
_STATUSES = frozenset(get_args(Status))
_KINDS = frozenset({"ask", "decide", "regenerate", "edit"})
_LONGEST_RUN_ID = 200
_LISTED_LONGER_SECONDS = 3600  # than a run is stored after its last event: clocks differ, and signs of life lag


class RunEvent(NamedTuple):
    """An event of a run. ``id`` is its position in the stream."""

    id: str
    data: dict[str, Any]

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.data.get("type"))


@dataclass(frozen=True, slots=True)
class Run:
    """A run and its status.

    ``kind`` is ``"ask"``, ``"decide"``, ``"regenerate"`` or ``"edit"``; ``given`` is the kind's input.
    """

    id: str
    session: str
    kind: str
    by: str
    status: Status = "open"
    given: dict[str, Any] = field(default_factory=dict)
    began: float = 0.0
    attempt: int = 0
    last: str = FIRST_EVENT

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.status != "open"

    def as_json(self) -> dict[str, Any]:
        """Return the run's fields as the API shows them."""
        return {
            "run": self.id,
            "session": self.session,
            "kind": self.kind,
            "by": self.by,
            "status": "running" if self.status == "open" else self.status,
            "began": self.began,
            "attempt": self.attempt,
        }


class Busy(NamedTuple):
    """Another run of the session is under way."""

    run_id: str


class Claim(NamedTuple):
    """The result of claiming a run: ``how`` is ``yours``, ``held``, ``behind`` or ``gone``."""

    how: str
    run: Run | None = None


def _fields(run: Run) -> list[str]:
    about = {"kind": run.kind, "by": run.by, "given": json.dumps(run.given), "began": repr(run.began)}
    return [word for pair in {"status": "open", **about}.items() for word in pair]


def _run_of(run_id: str, session: str, stored: dict[bytes, bytes]) -> Run:
    try:
        run = Run(
            run_id,
            session,
            stored[b"kind"].decode(),
            stored[b"by"].decode(),
            stored[b"status"].decode(),  # type: ignore[arg-type]
            json.loads(stored[b"given"]),
            float(stored[b"began"]),
            int(stored[b"attempt"]),
            stored[b"last"].decode(),
        )
        if not _is_whole(run):
            raise ValueError("no run")
    except (KeyError, ValueError, RecursionError) as error:
        raise CorruptDataError(f"The stored run {run_id!r} can't be read.") from error
    return run


def _is_whole(run: Run) -> bool:
    """Return whether the fields of a stored run are valid."""
    return (
        run.kind in _KINDS
        and run.status in _STATUSES
        and isinstance(run.given, dict)
        and all(_are_names(run.given.get(name)) for name in ("groups", "allowed"))
        and math.isfinite(run.began)
        and 0 <= run.attempt < 2**31
        and is_event_id(run.last)
    )


def _are_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def is_run_id(text: str) -> bool:
    """Return whether this has the form of a run's id."""
    return text.isascii() and text.isalnum() and len(text) <= _LONGEST_RUN_ID


def _pairs(flat: Sequence[bytes] | dict[bytes, bytes]) -> dict[bytes, bytes]:
    if isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))


def text_of(data: dict[str, Any]) -> str:
    """Return an event as it is stored."""
    return json.dumps(data, ensure_ascii=True, separators=(",", ":"))


def _event(entry: Any) -> RunEvent:
    try:
        entry_id, fields = entry
        data = json.loads(_pairs(fields)[b"e"])
        if not isinstance(data, dict) or not str(data.get("type")).replace("_", "").isalnum():
            raise ValueError("no event")
        return RunEvent(entry_id.decode(), data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptDataError("An event of a run can't be read.") from error


def _events(entries: Any) -> list[RunEvent]:
    """Return the events of a stream's entries. Unreadable ones are skipped with a warning."""
    found = []
    for entry in entries:
        try:
            found.append(_event(entry))
        except CorruptDataError as error:
            warn_left_out(f"The event {entry[0].decode()}", error)
    return found


def _member(run: Run) -> bytes:
    return id_bytes(run.id) + b":" + id_bytes(run.session)


@dataclass(frozen=True, slots=True)
class RunPrograms:
    """The programs of one prefix. ``ttl_seconds`` is how long a run is kept after its last event."""

    keys: Keys
    ttl_seconds: int

    @property
    def _ttl(self) -> int:
        return 1000 * self.ttl_seconds

    def start_op(self, run: Run, on_busy: OnBusy) -> Op[Busy | None]:
        """Store a run and its first event.

        Returns:
            ``None``, or the session's other run if that is under way and this one may not be queued.
        """
        keys, session = self.keys, run.session
        # Not atomic with the script below, which is safe: these entries are ignored until the run is stored.
        yield (
            command("SET", keys.session_of_run(run.id), id_bytes(session), "PX", self._ttl),
            command("ZADD", keys.open_runs(), time.time(), _member(run)),
            *self._noted(run, optional=False),
        )
        base = keys.served_run(session, run.id)[: -len(id_bytes(run.id))]
        first = {"type": "begun", "run": run.id, "session": session, "kind": run.kind, "at": run.began}
        [reply] = yield (
            call(
                _START,
                (
                    keys.runs_of_session(session),
                    keys.served_run(session, run.id),
                    keys.run_events(session, run.id),
                ),
                on_busy,
                MOST_WAITING,
                run.id,
                self._ttl,
                base,
                text_of({**first, **_shown(run.given)}),
                *_fields(run),
            ),
        )
        if reply[0] == 1:
            return None
        yield (
            command("DEL", keys.session_of_run(run.id)),
            command("ZREM", keys.open_runs(), _member(run)),
            command("ZREM", keys.stored_runs(session), id_bytes(run.id)),
        )
        return Busy(id_text(reply[1]))

    def _noted(self, run: Run, *, optional: bool = True) -> tuple[Call, ...]:
        """Return the commands that note a run in the list by which its session's runs are found and removed.

        Once a run has begun, they are ``optional``: another program's data at the list's key must not stop it.
        """
        noted, now = self.keys.stored_runs(run.session), time.time()
        oldest = now - self.ttl_seconds - _LISTED_LONGER_SECONDS
        return (
            command("ZADD", noted, now, id_bytes(run.id), optional=optional),
            command("ZREMRANGEBYSCORE", noted, "-inf", f"({oldest}", optional=optional),
            command("PEXPIRE", noted, self._ttl + 1000 * _LISTED_LONGER_SECONDS, optional=optional),
        )

    def claim_op(self, run_id: str, session: str, holder: str, lease_seconds: float) -> Op[Claim]:
        """Claim a run if it is its turn and no other process drives it."""
        keys = self.keys
        [reply] = yield (
            call(
                _CLAIM,
                (
                    keys.runs_of_session(session),
                    keys.served_run(session, run_id),
                    keys.run_lease(session, run_id),
                ),
                run_id,
                holder,
                round(1000 * lease_seconds),
            ),
        )
        how = bytes(reply[0]).decode()
        return Claim(how, _run_of(run_id, session, _pairs(reply[1:])) if how == "yours" else None)

    def append_op(
        self,
        run: Run,
        holder: str,
        lease_seconds: float,
        number: int,
        events: Sequence[str],
        final: str = "",
    ) -> Op[bool | None]:
        """Append events, numbered from ``number``, and renew the lease.

        Returns:
            Whether the run is to be cancelled, or ``None`` if another process holds it.
        """
        keys, session = self.keys, run.session
        append = call(
            _APPEND,
            (
                keys.runs_of_session(session),
                keys.served_run(session, run.id),
                keys.run_lease(session, run.id),
                keys.run_events(session, run.id),
            ),
            run.id,
            holder,
            run.attempt,
            round(1000 * lease_seconds),
            self._ttl,
            number,
            final,
            *events,
        )
        if final:
            reply, *_ = yield (append, command("ZREM", keys.open_runs(), _member(run)), *self._noted(run))
        else:
            [reply] = yield (append,)
        return None if reply[0] == -1 else reply[0] == 1

    def heard_of_op(self, runs: Sequence[Run]) -> Op[None]:
        """Record that this process is alive for these runs."""
        now = time.time()
        if runs:
            words = [word for run in runs for word in (now, _member(run))]
            renewals = [command("PEXPIRE", self.keys.session_of_run(run.id), self._ttl) for run in runs]
            noted = [words for run in runs for words in self._noted(run)]
            yield (command("ZADD", self.keys.open_runs(), *words), *renewals, *noted)

    def orphans_op(self, silent_seconds: float) -> Op[list[tuple[str, str]]]:
        """Return the runs, with their sessions, whose process has not reported for this many seconds."""
        until = time.time() - silent_seconds
        [members] = yield (command("ZRANGEBYSCORE", self.keys.open_runs(), "-inf", until, "LIMIT", 0, 100),)
        found, useless = [], []
        for member in members:
            try:
                run_id, _, session = id_text(member).partition(":")
            except CorruptDataError:
                run_id = session = ""
            if is_run_id(run_id) and session:
                found.append((run_id, session))
            else:
                useless.append(member)
        if useless:  # they are not runs, and would fill the page before actual runs
            yield (command("ZREM", self.keys.open_runs(), *useless),)
        return found

    def give_up_op(self, run_id: str, session: str, *events: dict[str, Any]) -> Op[None]:
        """End a run that can't be driven because its stored data can't be read, and free its session.

        The values of its keys are not changed, except the status and the last events.
        """
        keys, ttl = self.keys, self._ttl
        run, stream = keys.served_run(session, run_id), keys.run_events(session, run_id)
        told = [command("XADD", stream, "NOMKSTREAM", "*", "e", text_of(event), optional=True) for event in events]
        member = id_bytes(run_id) + b":" + id_bytes(session)
        yield (
            *told,
            command("HSET", run, "status", "failed", optional=True),
            command("PEXPIRE", run, ttl, optional=True),
            command("LREM", keys.runs_of_session(session), 0, run_id, optional=True),
            command("ZREM", keys.open_runs(), member),
        )

    def forget_op(self, run_id: str, session: str) -> Op[None]:
        """Remove a run from the index of open runs."""
        member = id_bytes(run_id) + b":" + id_bytes(session)
        yield (command("ZREM", self.keys.open_runs(), member),)

    def release_op(self, run: Run, holder: str) -> Op[None]:
        """Release a run, so that another process can claim it immediately."""
        yield (
            call(_RELEASE, (self.keys.run_lease(run.session, run.id),), holder),
            command("ZADD", self.keys.open_runs(), 0, _member(run)),
        )

    def cancel_op(self, run: Run) -> Op[str]:
        """Request the end of a run.

        Returns:
            ``gone``, ``cancelled``, ``asked``, or the final status of a run that has ended.
        """
        keys, session = self.keys, run.session
        [reply] = yield (
            call(
                _CANCEL,
                (
                    keys.runs_of_session(session),
                    keys.served_run(session, run.id),
                    keys.run_events(session, run.id),
                ),
                run.id,
                self._ttl,
                text_of({"type": "done", "status": "cancelled"}),
            ),
        )
        how = bytes(reply).decode()
        if how not in ("asked", "gone"):
            yield (command("ZREM", keys.open_runs(), _member(run)),)
        return how

    def find_op(self, run_id: str) -> Op[Run | None]:
        """Return a run, or ``None`` if it is no longer stored."""
        [session] = yield (command("GET", self.keys.session_of_run(run_id)),)
        if session is None:
            return None
        if not session:
            raise CorruptDataError(f"The session of the run {run_id!r} can't be read.")
        [stored] = yield (command("HGETALL", self.keys.served_run(id_text(session), run_id)),)
        return _run_of(run_id, id_text(session), _pairs(stored)) if stored else None

    def of_session_op(self, session: str) -> Op[list[Run]]:
        """Return a session's running and queued runs, in order."""
        names = yield from self._queued_op(session)
        if not names:
            return []
        wanted = tuple(command("HGETALL", self.keys.served_run(session, name), optional=True) for name in names)
        found = []
        for name, stored in zip(names, (yield wanted), strict=True):
            try:
                if isinstance(stored, Exception):
                    raise CorruptDataError(f"The key of the run {name!r} holds something else: {stored}")
                if stored:
                    found.append(_run_of(name, session, _pairs(stored)))
            except CorruptDataError as error:
                warn_left_out(f"The run {name}", error)
        return found

    def _queued_op(self, session: str) -> Op[list[str]]:
        [ids] = yield (command("LRANGE", self.keys.runs_of_session(session), 0, MOST_WAITING + 1),)
        return [name for name in readable_ids(ids, "runs") if is_run_id(name)]

    def events_op(self, wanted: Sequence[tuple[str, str, str]]) -> Op[list[list[RunEvent] | None]]:
        """Return the events of several runs after an id; ``None`` for a run that is no longer stored.

        Args:
            wanted: The run id, the session and the last known event id of each run.
        """
        replies = yield tuple(
            words
            for run_id, session, after in wanted
            for words in (
                command(
                    "XRANGE",
                    self.keys.run_events(session, run_id),
                    f"({after}",
                    "+",
                    "COUNT",
                    EVENTS_AT_ONCE,
                    optional=True,
                ),
                command("EXISTS", self.keys.run_events(session, run_id)),
            )
        )
        return [
            _events(entries) if exists and not isinstance(entries, Exception) else None
            for entries, exists in zip(replies[::2], replies[1::2], strict=True)
        ]


def _shown(given: dict[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in ("question", "question_id", "groups") if given.get(key)}


def later(one: str, other: str) -> bool:
    """Return whether the event id ``one`` comes after ``other``."""
    return _place(one) > _place(other)


def _place(event_id: str) -> tuple[int, int]:
    attempt, _, number = event_id.partition("-")
    return int(attempt), int(number)


def is_event_id(text: str) -> bool:
    """Return whether this has the form of an event's id."""
    attempt, _, number = text.partition("-")
    return all(part.isascii() and part.isdecimal() and len(part) < 10 for part in (attempt, number))
