"""Erasing the data of one user: threads, histories, session data and items of stores, with a receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.checkpoint.reading import outline_op
from ecowas_lc.checkpoint.saver import context_of
from ecowas_lc.checkpoint.writing import delete_thread_op
from ecowas_lc.errors import CorruptDataError, FormatVersionError, InvalidInputError, TypeNotAllowedError
from ecowas_lc.memory.service import MemoryPrograms
from ecowas_lc.memory.session_index import entries, listing
from ecowas_lc.memory.sessions import count_runs_op, forget_runs_op
from ecowas_lc.search.items import Write, fetch_op, filled_op, ids_op, write_op
from ecowas_lc.search.place import Collection, place_of, range_of
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.keys import check_id
from ecowas_lc.storage.left_out import readable_ids
from ecowas_lc.storage.ops import Op, command, together
from ecowas_lc.storage.server import Server
from ecowas_lc.store.backup import collections_op
from ecowas_lc.store.contents import Contents
from ecowas_lc.store.llm_cache import count_answers_op
from ecowas_lc.store.redis_store import sealer_of

if TYPE_CHECKING:
    from ecowas_lc.checkpoint import EncryptedRedisSerializer
    from ecowas_lc.checkpoint.writing import SaverContext

_AT_ONCE = 200
_UNREADABLE = (CorruptDataError, FormatVersionError, TypeNotAllowedError)
_OTHER_LABEL = "items with the user as another label"


@dataclass(frozen=True, slots=True)
class _Marks:
    """The marks by which data belongs to the user: a field's name, and the position of a namespace's label."""

    user: str
    field: str
    label: int


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """The result of an erasure: what it found of a user, and what it could not attribute to any user.

    ``found`` counts ``threads``, ``sessions`` (with their histories and data) and ``items``. All of it was
    removed, unless ``dry_run``. After an erasure, a second one finds nothing. ``unattributed`` counts data that
    names no user: ``threads``, ``sessions``, unreadable data (``unreadable threads``, ``unreadable items``),
    ``items with the user as another label`` of their namespace (see ``label``), and ``cached answers``, of which
    only digests are known.
    """

    user: str
    dry_run: bool
    found: Mapping[str, int]
    unattributed: Mapping[str, int]

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the user was found."""
        return not any(self.found.values())


def erase(
    user: str,
    *,
    url: str | None = None,
    prefix: str | None = None,
    settings: Settings | None = None,
    encryption: EncryptedRedisSerializer | None = None,
    field: str = "user_id",
    label: int = 0,
    dry_run: bool = False,
) -> ErasureReceipt:
    """Remove all data of a user and report what was removed.

    A thread belongs to the user that ``user_id`` in the metadata of one of its checkpoints names (pass it in a
    run's ``config["metadata"]``), or to the user of its session. A session, with its histories and data, belongs
    to the user that its session data ``user_id`` names. An item of a store belongs to the user that is the first
    label of its namespace, or that ``user_id`` in its value names. ``field`` and ``label`` change these marks.

    Args:
        user: The user whose data to remove.
        url: The server's URL. Default: the server of the settings.
        prefix: The prefix of the keys. Default: the prefix of the settings.
        settings: The settings to use; default: those of the process.
        encryption: The serializer that threads and items were encrypted with; without it, encrypted ones can't be
            attributed.
        field: The name under which metadata, session data and items' values hold the user.
        label: The position of the user in an item's namespace, from 0; LangMem's ``("memories", "ama")`` needs 1.
        dry_run: Only count, and remove nothing.

    Returns:
        An ``ErasureReceipt``.

    Raises:
        InvalidIdError: ``user`` or ``field`` is empty or not a string.
        InvalidInputError: ``label`` is not a whole number, 0 or more.
        StorageError: The server can't be reached, or refuses.
    """
    server, op = _prepared(_Marks(user, field, label), url, prefix, settings, encryption, dry_run)
    try:
        return server.run(op)
    finally:
        server.close()


async def aerase(
    user: str,
    *,
    url: str | None = None,
    prefix: str | None = None,
    settings: Settings | None = None,
    encryption: EncryptedRedisSerializer | None = None,
    field: str = "user_id",
    label: int = 0,
    dry_run: bool = False,
) -> ErasureReceipt:
    """Remove all data of a user as :func:`erase` does, without blocking the event loop.

    Args:
        user: The user whose data to remove.
        url: The server's URL. Default: the server of the settings.
        prefix: The prefix of the keys. Default: the prefix of the settings.
        settings: The settings to use; default: those of the process.
        encryption: The serializer that threads and items were encrypted with.
        field: The name under which metadata, session data and items' values hold the user.
        label: The position of the user in an item's namespace, from 0.
        dry_run: Only count, and remove nothing.
    """
    server, op = _prepared(_Marks(user, field, label), url, prefix, settings, encryption, dry_run)
    try:
        return await server.arun(op)
    finally:
        await server.aclose()


def _prepared(
    marks: _Marks,
    url: str | None,
    prefix: str | None,
    settings: Settings | None,
    encryption: EncryptedRedisSerializer | None,
    dry_run: bool,
) -> tuple[Server, Op[ErasureReceipt]]:
    check_id(marks.user, "user id")
    check_id(marks.field, "field")
    if isinstance(marks.label, bool) or not isinstance(marks.label, int) or marks.label < 0:
        raise InvalidInputError(
            f"label must be a position in a namespace, a whole number, 0 or more, not {marks.label!r}."
        )
    settings = settings or get_settings()
    prefix = settings.prefix if prefix is None else prefix
    server = Server.from_settings(settings) if url is None else Server.from_url(url, settings=settings)
    saver = RedisSaver(server=server, prefix=prefix, serde=encryption)
    programs = MemoryPrograms(server, prefix, None)
    sealer = sealer_of(encryption)
    return server, _erase_op(marks, context_of(saver), programs, sealer, not server.is_cluster, dry_run)


def _erase_op(
    marks: _Marks, threads: SaverContext, programs: MemoryPrograms, sealer: Any, one_slot: bool, dry_run: bool
) -> Op[ErasureReceipt]:
    keys = programs.keys
    unattributed: dict[str, int] = {}
    sessions, nobodys = yield from _sessions_op(marks, programs)
    unattributed["sessions"] = nobodys
    doomed = yield from _threads_op(marks, threads, sessions, unattributed)
    items = 0
    for name in (yield from collections_op(keys)):
        contents = Contents(Collection(keys, name, one_slot), sealer)
        items += yield from _items_op(marks, contents, unattributed, dry_run)
    unattributed["cached answers"] = yield from count_answers_op(keys)
    runs = 0
    for session in dict.fromkeys([*sessions, *doomed]):
        runs += yield from (count_runs_op if dry_run else forget_runs_op)(keys, session)
    if not dry_run:
        for session in sessions:
            yield from programs.sessions.clear_session_op(session)
        for thread in doomed:
            yield from delete_thread_op(threads, thread)
    found = {"threads": len(doomed), "sessions": len(sessions), "items": items}
    if runs:  # only services have them
        found["runs"] = runs
    return ErasureReceipt(
        marks.user, dry_run, found, {kind: count for kind, count in unattributed.items() if count}
    )


def _sessions_op(marks: _Marks, programs: MemoryPrograms) -> Op[tuple[list[str], int]]:
    """Return the user's sessions, and the number of sessions that name no user."""
    [reply] = yield (listing(programs.keys.sessions()),)
    names = sorted(entries(reply))
    found: list[str] = []
    nobodys = 0
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        users = yield from together([programs.values.data_op(session, marks.field) for session in some])
        found += [session for session, its in zip(some, users, strict=True) if its == marks.user]
        nobodys += sum(its is None for its in users)
    return found, nobodys


def _threads_op(
    marks: _Marks, ctx: SaverContext, sessions: list[str], unattributed: dict[str, int]
) -> Op[list[str]]:
    [members] = yield (command("ZREVRANGE", ctx.keys.threads(), 0, -1),)
    own = set(sessions)
    found = []
    for thread in readable_ids(members, "threads"):
        try:
            users = {each.metadata.get(marks.field) for each in (yield from outline_op(ctx, thread)) or ()}
        except _UNREADABLE:
            users = set()
            unattributed["unreadable threads"] = unattributed.get("unreadable threads", 0) + (thread not in own)
        else:
            if not users:
                continue  # it has expired
            unattributed["threads"] = unattributed.get("threads", 0) + (users == {None} and thread not in own)
        if thread in own or marks.user in users:
            found.append(thread)
    return found


def _items_op(marks: _Marks, contents: Contents, unattributed: dict[str, int], dry_run: bool) -> Op[int]:
    at, everything = contents.at, range_of(())
    count = 0
    for bucket in (yield from filled_op(at, ())):
        after: bytes | None = None
        while ids := (yield from ids_op(at, bucket, everything, _AT_ONCE, after)):
            after = ids[-1]
            rows = yield from fetch_op(at, ids, "hv")
            doomed = []
            for item_id, row in zip(ids, rows, strict=True):
                if row[0] is None:
                    continue
                try:
                    labels, _ = place_of(item_id)
                    belongs = labels[marks.label : marks.label + 1] == (marks.user,)
                    belongs = (
                        belongs or contents.decode_value(row[1] or b"", item_id).get(marks.field) == marks.user
                    )
                except _UNREADABLE:
                    unattributed["unreadable items"] = unattributed.get("unreadable items", 0) + 1
                    continue
                if belongs:
                    doomed.append(Write(item_id, deletes=True))
                elif marks.user in labels:
                    unattributed[_OTHER_LABEL] = unattributed.get(_OTHER_LABEL, 0) + 1
            count += len(doomed)
            if doomed and not dry_run:
                yield from write_op(at, doomed)
    return count


__all__ = ["ErasureReceipt", "aerase", "erase"]
