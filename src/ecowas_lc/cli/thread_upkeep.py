"""``ecowas-lc threads delete|copy|prune``: threads removed, doubled and shortened."""

from __future__ import annotations

from collections.abc import Sequence

from ecowas_lc.cli.conversation import checked_session
from ecowas_lc.cli.progress import shown_progress
from ecowas_lc.cli.screen import confirmed, counted, say, show_json
from ecowas_lc.cli.store import opened_store
from ecowas_lc.errors import InvalidInputError


def delete_thread(thread: str, *, yes: bool, json: bool) -> None:
    """Remove a thread; the groups' histories of that session stay.

    Raises:
        EcowasError: there is no such thread.
    """
    thread = checked_session(thread)
    with opened_store() as store:
        store.check_thread(thread)
        if not confirmed(f"Remove thread {thread} and all its checkpoints?", yes=yes):
            return
        store.saver.delete_thread(thread)
    if json:
        show_json({"thread": thread, "deleted": True})
    else:
        say(f"Thread {thread} is gone.")


def copy_thread(thread: str, target: str, *, json: bool) -> None:
    """Copy a thread whole.

    Raises:
        EcowasError: there is no such thread.
        InvalidInputError: the target's id is taken.
    """
    thread, target = checked_session(thread), checked_session(target)
    with opened_store() as store:
        store.check_thread(thread)
        store.saver.copy_thread(thread, target)
    if json:
        show_json({"thread": thread, "copy": target})
    else:
        say(f"Thread {target} is a copy of {thread}.")


def prune_threads(threads: Sequence[str], *, every: bool, keep: int, yes: bool, json: bool) -> None:
    """Remove all but the newest checkpoints of threads, or of every one.

    Raises:
        EcowasError: there is no such thread; none was pruned.
        InvalidInputError: neither threads nor ``every``, or both.
    """
    names = [checked_session(thread) for thread in dict.fromkeys(threads)]
    if bool(names) == every:
        raise InvalidInputError("Which threads? Give their ids, or --all, not both.")
    with opened_store() as store:
        for thread in names:
            store.check_thread(thread)
        names = names or store.thread_ids()
        of = "each thread" if every else ", ".join(names)
        if names and not confirmed(
            f"Remove all checkpoints of {of} but the newest{'' if keep == 1 else f' {keep}'}?", yes=yes
        ):
            return
        with shown_progress() as tell:
            for number, thread in enumerate(names, start=1):
                store.saver.prune([thread], keep_last=keep)
                tell("pruned", number, len(names))
    if json:
        show_json({"threads": names, "kept": keep})
    else:
        stays = "newest checkpoint stays" if keep == 1 else f"newest {keep} checkpoints stay"
        say(f"{counted(len(names), 'thread')} pruned; of each namespace the {stays}.")
