"""The program that copies a thread: beside its place first, then into it in one step."""

from __future__ import annotations

import time
from dataclasses import replace

from ecowas_lc.checkpoint.beside import (
    BESIDE_SECONDS,
    STORED_FORMAT,
    Beside,
    beside_calls,
    chunks,
    fields_of,
    runs_in,
)
from ecowas_lc.checkpoint.ops import RUN_SECONDS, Context, put_op, put_writes_op
from ecowas_lc.checkpoint.outline import outline_op
from ecowas_lc.checkpoint.place import Place
from ecowas_lc.checkpoint.reading import found_elements, has_sealed, read_call
from ecowas_lc.errors import DecryptionError, FormatVersionError, InvalidInputError, WrongTypeError
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.ops import Op, call, command
from ecowas_lc.storage.scripts import load_script

_ADOPT = load_script("checkpoint_thread", "checkpoint_adopt")


def copy_thread_op(at: Context, source: str, target: str) -> Op[None]:
    """Copy a thread whole.

    Raises:
        InvalidInputError: there is a target thread already; it was left as it is.
    """
    if source == target:
        raise InvalidInputError("A thread can't be copied onto itself.")
    [known] = yield (command("HMGET", at.keys.thread(target), "format", "N"),)
    if None not in known:
        raise _taken(target)
    beside = Beside.of(at.keys)
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
        raise _taken(target)


def _taken(target: str) -> InvalidInputError:
    return InvalidInputError(
        f"There is a thread {target!r} already; it was left as it is. Delete it first, or copy to another id."
    )


def _copy_op(at: Context, source: str, target: str, beside: Keys) -> Op[list[str] | None]:
    # No stored byte names its thread, so the fields are copied as they are.
    copy = beside.thread(target)
    latest = read_call(at, Place(source, None), start="latest", along="", limit=1, writes=False, values=False)
    reply, answer = yield (command("HGETALL", at.keys.thread(source)), latest)
    fields = fields_of(reply)
    if fields and (found := fields.get(b"format")) != STORED_FORMAT:
        if found is None:
            raise WrongTypeError(f"What is stored in the place of the thread {source!r} is not a thread.")
        raise FormatVersionError(f"The thread {source!r} is stored in a newer format. Upgrade ecowas_lc.")
    if b"N" not in fields:
        return None
    if has_sealed(found_elements(at, source, answer)[0]):
        raise DecryptionError(
            f"The thread {source!r} is encrypted and bound to its id. A saver with its key can copy it: "
            "serde=EncryptedRedisSerializer(…)"
        )
    for some in chunks(fields.items()):
        yield beside_calls(copy, some)
    return runs_in(fields)


def _copy_sealed_op(at: Context, source: str, target: str, beside: Keys) -> Op[list[str] | None]:
    # What is encrypted is bound to its thread: it is opened and sealed anew, oldest first.
    every = yield from outline_op(at, source)
    into = replace(at, keys=beside, ttl_ms=BESIDE_SECONDS * 1000, one_slot=False, indexes=False)
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
