"""The program that copies a thread: beside its place first, then into it in one step."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ecowas_lc.checkpoint.ops import RUN_SECONDS, Context, put_op, put_writes_op
from ecowas_lc.checkpoint.outline import outline_op
from ecowas_lc.checkpoint.place import Place
from ecowas_lc.checkpoint.reading import found_elements, read_call
from ecowas_lc.errors import FormatVersionError, InvalidInputError, WrongTypeError
from ecowas_lc.storage.keys import Keys, id_bytes, id_text
from ecowas_lc.storage.ops import Op, call, command
from ecowas_lc.storage.scripts import load_script

_ADOPT = load_script("checkpoint_shared", "checkpoint_adopt")

_FORMAT = b"1"
_CHUNK_BYTES = 4 * 2**20
_CHUNK_FIELDS = 1000
_COPY_SECONDS = 3600  # a copy that was cut off is gone by then


@dataclass(frozen=True, slots=True)
class _Beside(Keys):
    """Keys whose threads are copies in the making, in the slot that they are for."""

    token: str = ""

    def thread(self, thread_id: str) -> bytes:
        return Keys.thread(self, thread_id) + b":copy:" + self.token.encode()


def copy_thread_op(at: Context, source: str, target: str) -> Op[None]:
    """Copy a thread whole.

    Raises:
        InvalidInputError: there is a target thread already; it was left as it is.
    """
    if source == target:
        raise InvalidInputError("A thread can't be copied onto itself.")
    beside = _Beside(at.keys.prefix, uuid.uuid4().hex)
    copy = beside.thread(target)
    runs = yield from (_copy_op if at.format.sealer is None else _copy_sealed_op)(at, source, target, beside)
    if runs is None:
        return
    at.format.memo.forget(target)
    now, member = time.time(), id_bytes(target)
    # The indexes first: an entry too many is harmless, one too few would hide a thread.
    [_, adopted, *_] = yield (
        command("ZADD", at.keys.threads(), now, member),
        call(_ADOPT, (at.keys.thread(target), copy), at.ttl()),
        *(command("ZADD", at.keys.run(run_id), now, member) for run_id in runs),
        *(command("EXPIRE", at.keys.run(run_id), RUN_SECONDS) for run_id in runs),
    )
    if not adopted:
        raise InvalidInputError(
            f"There is a thread {target!r} already; it was left as it is. Delete it first, or copy to another id."
        )


def _copy_op(at: Context, source: str, target: str, beside: Keys) -> Op[list[str] | None]:
    # No stored byte names its thread, so the fields are copied as they are.
    copy = beside.thread(target)
    [flat] = yield (command("HGETALL", at.keys.thread(source)),)
    fields = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    if fields and (found := fields.get(b"format")) != _FORMAT:
        if found is None:
            raise WrongTypeError(f"What is stored in the place of the thread {source!r} is not a thread.")
        raise FormatVersionError(f"The thread {source!r} is stored in a newer format. Upgrade ecowas_lc.")
    if b"N" not in fields:
        return None
    for words in _chunks(fields):
        yield (command("HSET", copy, *words), command("EXPIRE", copy, _COPY_SECONDS))
    return [id_text(field[1:]) for field in fields if field.startswith(b"r")]


def _chunks(fields: dict[bytes, bytes]) -> Iterator[list[bytes]]:
    words: list[bytes] = []
    size = 0
    for name, value in fields.items():
        words += name, value
        size += len(name) + len(value)
        if size > _CHUNK_BYTES or len(words) >= 2 * _CHUNK_FIELDS:
            yield words
            words, size = [], 0
    if words:
        yield words


def _copy_sealed_op(at: Context, source: str, target: str, beside: Keys) -> Op[list[str] | None]:
    # What is encrypted is bound to its thread: it is opened and sealed anew, oldest first.
    every = yield from outline_op(at, source)
    into = replace(at, keys=beside, ttl_ms=_COPY_SECONDS * 1000, one_slot=False, indexes=False)
    for outlined in reversed(every):
        [answer] = yield (read_call(at, outlined.place, start="at", along="", limit=1),)
        page, elements = found_elements(at, source, answer)
        for found in page:
            read = at.format.checkpoint(found, elements)
            place = Place(target, found.place.namespace, found.place.checkpoint_id)
            versions = read.checkpoint["channel_versions"]
            yield from put_op(
                into, place, read.checkpoint, read.metadata, versions, parent=outlined.parent, fence=b""
            )
            for task_id, task_path, writes in at.format.batches(found, elements):
                yield from put_writes_op(into, place, writes, task_id, task_path)
    if not every:
        return None
    runs = (each.metadata.get("run_id") for each in every)
    return list(dict.fromkeys(run_id for run_id in runs if isinstance(run_id, str) and run_id))
