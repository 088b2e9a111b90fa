"""Threads as lines of a backup, and back: programs; see :mod:`ecowas_lc.storage.lines` for the file.

A thread is exported as it is stored, field by field, and nothing of it is decoded: whatever classes its values
hold, and without the key where they are encrypted, it comes back to the byte.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from ecowas_lc.checkpoint.beside import STORED_FORMAT, Beside, Field, chunks, fields_of
from ecowas_lc.checkpoint.ops import Context
from ecowas_lc.checkpoint.walk import Walk, next_page, walk_threads
from ecowas_lc.errors import RedisRefusedError, StorageError
from ecowas_lc.storage.keys import id_bytes, id_text
from ecowas_lc.storage.lines import CONTENTS, THREAD, THREAD_END, Progress, header, line_of, time_at
from ecowas_lc.storage.ops import Op, call, command
from ecowas_lc.storage.scripts import load_script

_SNAPSHOT = load_script("checkpoint_thread", "checkpoint_snapshot")

_SNAPSHOT_SECONDS = 600  # renewed with each page: one that was broken off is soon gone
_PAGE_BYTES = 2**20
_FEWEST, _MOST = 8, 1024  # fields a page
_THREADS_AT_ONCE = 500


def export_walk(at: Context, thread_ids: Sequence[str] | None, on_progress: Progress | None) -> Walk[str]:
    """The lines of these threads, or of every one, page by page; those that are not there are left out."""
    yield [header()]
    total = (yield _count_op(at)) if thread_ids is None else len(thread_ids)
    done = 0
    ids = _all(at) if thread_ids is None else _these(thread_ids)
    while (some := (yield from next_page(ids))) is not None:
        for thread_id in some:
            yield from _thread_walk(at, thread_id)
            done += 1
            if on_progress is not None:
                on_progress(done, max(done, total))


def _these(thread_ids: Sequence[str]) -> Walk[str]:
    yield list(thread_ids)


def _all(at: Context) -> Walk[str]:
    threads = walk_threads(at, page=_THREADS_AT_ONCE)
    while (page := (yield from next_page(threads))) is not None:
        yield [id_text(member) for member, _ in page]


def _count_op(at: Context) -> Op[int]:
    [count] = yield (command("ZCARD", at.keys.threads()),)
    return int(count)


@dataclass(slots=True)
class _Snapshot:
    """A thread as it stood at one moment: ``beside`` its place, or ``held`` where that can't be written."""

    record: dict[str, Any]
    beside: bytes
    held: dict[bytes, bytes] | None = None


def _thread_walk(at: Context, thread_id: str) -> Walk[str]:
    snapshot = yield _snapshot_op(at, thread_id)
    if snapshot is None:
        return
    yield [line_of(snapshot.record)]
    digest = new_digest()
    if snapshot.held is not None:
        yield from _lines(snapshot.held.items(), digest)
    else:
        cursor, count = b"0", _FEWEST
        while True:
            cursor, some = yield _page_op(snapshot.beside, cursor, count)
            yield from _lines(some.items(), digest)
            if int(cursor) == 0:
                break
            size = sum(map(len, some.values()))
            count = max(_FEWEST, count // 2) if size > _PAGE_BYTES else min(_MOST, count * 2)
        if not (yield _drop_op(snapshot.beside)):
            raise StorageError(
                f"The export of the thread {thread_id!r} took too long: what the server kept of it, for ten "
                "minutes after each page, has gone. Export it again."
            )
    yield [line_of({"type": THREAD_END, "thread": thread_id, "digest": digest.hexdigest()})]


def _snapshot_op(at: Context, thread_id: str) -> Op[_Snapshot | None]:
    beside, key = Beside.of(at.keys).thread(thread_id), at.keys.thread(thread_id)
    [score] = yield (command("ZSCORE", at.keys.threads(), id_bytes(thread_id)),)
    held = None
    try:
        [answer] = yield (call(_SNAPSHOT, (key, beside), _SNAPSHOT_SECONDS),)
        if not answer:
            return None
        count, left = answer
        stored_format = STORED_FORMAT
    except RedisRefusedError:
        # It is full, a replica, or this user may only read: then it is held here, whole.
        reply, left = yield (command("HGETALL", key), command("PTTL", key))
        held = fields_of(reply)
        count, stored_format = len(held), held.get(b"format", b"")
        if b"N" not in held:
            return None
    used = None if score is None else time_at(float(score))
    record = {
        "type": THREAD,
        "thread": thread_id,
        "prefix": at.keys.prefix,
        "storage_format": stored_format.decode("ascii", "replace"),
        "fields": count,
        "ttl_seconds": None if left < 0 else left / 1000,
        "last_activity": None if used is None else used.isoformat(),
    }
    return _Snapshot(record, beside, held)


def _page_op(key: bytes, cursor: bytes, count: int) -> Op[tuple[bytes, dict[bytes, bytes]]]:
    [answer, _] = yield (command("HSCAN", key, cursor, "COUNT", count), command("EXPIRE", key, _SNAPSHOT_SECONDS))
    following, reply = answer
    return following, fields_of(reply)


def _drop_op(key: bytes) -> Op[bool]:
    [there] = yield (command("UNLINK", key),)
    return bool(there)


def _lines(fields: Any, digest: Any) -> Iterator[list[str]]:
    for some in chunks(fields, _PAGE_BYTES):
        add_to_digest(digest, some)
        pairs = [[base64.b64encode(part).decode() for part in pair] for pair in some]
        yield [line_of({"type": CONTENTS, "fields": pairs})]


def new_digest() -> Any:
    """A digest of a thread's fields, in their order in the file: it tells damage, not forgery."""
    return blake2b(digest_size=16)


def add_to_digest(digest: Any, fields: Sequence[Field]) -> None:
    """Take these fields into the digest."""
    for part in (part for pair in fields for part in pair):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
