"""``ecowas-lc erase``: shows how much belongs to a user, and deletes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ecowas_lc.cli.screen import confirmed, remark, say
from ecowas_lc.cli.terminal import one_line, show_json

if TYPE_CHECKING:
    from ecowas_lc import ErasureReceipt

# The kinds that are counted, with their singular.
_ONE = {"threads": "thread", "sessions": "session", "items": "item"}


def erase_everything(user: str, *, field: str, label: int, yes: bool, json: bool) -> None:
    """Count what belongs to a user, ask, and delete it.

    Raises:
        InvalidIdError: The user id is empty.
        StorageError: The server is unavailable.
    """
    from ecowas_lc import erase

    counted = erase(user, field=field, label=label, dry_run=True)
    if counted.is_empty or not confirmed(f"Delete {_counts(counted)} of {one_line(user)}?", yes=yes):
        receipt = counted
    else:
        receipt = erase(user, field=field, label=label)
    if json:
        show_json(asdict(receipt))
        return
    if receipt.is_empty:
        say(f"Nothing belongs to {one_line(user)}.")
    elif not receipt.dry_run:
        say(f"Deleted {_counts(receipt)} of {one_line(user)}.")
    if receipt.unattributed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in receipt.unattributed.items())
        remark(f"Not attributed to any user: {kinds}.")


def _counts(receipt: ErasureReceipt) -> str:
    found = [f"{n} {_ONE[kind] if n == 1 else kind}" for kind, n in receipt.found.items() if n]
    return " and ".join([*([", ".join(found[:-1])] if found[:-1] else []), *found[-1:]])
