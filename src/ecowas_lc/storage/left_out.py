"""Unreadable data in listings and exports: it is left out, and a warning says which and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from ecowas_lc.errors import (
    CorruptDataError,
    EcowasError,
    FormatVersionError,
    IncompleteWarning,
    TypeNotAllowedError,
    WrongTypeError,
)
from ecowas_lc.storage.keys import id_text
from ecowas_lc.storage.ops import Op, T

UNREADABLE = (CorruptDataError, FormatVersionError, TypeNotAllowedError, WrongTypeError)
"""Errors that concern a single thread, history or value, and no other."""


def attempted_op(op: Op[T]) -> Op[T | EcowasError]:
    """Run a program about one item; return its error if the item can't be read."""
    try:
        return (yield from op)
    except UNREADABLE as error:
        return error


def warn_left_out(what: str, why: object) -> None:
    """Warn that one item was left out."""
    warnings.warn(f"{what} can't be read and was left out: {why}", IncompleteWarning, stacklevel=2)


def readable_ids(members: Iterable[bytes], index: str) -> list[str]:
    """Return the ids among an index's members; members that are not ids are left out."""
    ids = []
    for member in members:
        try:
            ids.append(id_text(member))
        except CorruptDataError as error:
            warn_left_out(f"An entry of the index of {index}", error)
    return ids
