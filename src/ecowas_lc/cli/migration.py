"""``ecowas-lc threads migrate``: copies threads from another library's checkpointer."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ecowas_lc.cli.screen import counted, remark, say, shown_progress
from ecowas_lc.cli.store import opened_store
from ecowas_lc.cli.terminal import one_line, show_json
from ecowas_lc.errors import EcowasError, InvalidInputError, MissingExtraError

_SQLITE = "sqlite:///"
_POSTGRES = ("postgres://", "postgresql://")
_REDIS = ("redis://", "rediss://")


def migrate(source: str, threads: Sequence[str], allow: Sequence[str], *, json: bool) -> None:
    """Copy threads from another checkpointer to the settings' server, and report how many checkpoints match.

    Raises:
        InvalidInputError: The source cannot be opened.
        MissingExtraError: The library that reads it is not installed.
        EcowasError: Some threads were not copied.
    """
    from ecowas_lc.checkpoint import RedisSaver, migrate_threads

    with opened_store() as store, _opened(source) as old:
        target = RedisSaver(
            server=store.server,
            prefix=store.settings.prefix,
            default_ttl=store.settings.redis_memory_ttl,
            allow=list(allow),
        )
        with shown_progress() as tell:
            report = migrate_threads(
                old, target, list(threads) or None, on_progress=lambda done, total: tell("checked", done, total)
            )
    if json:
        show_json(asdict(report))
    else:
        say(
            f"{counted(report.threads, 'thread')}: {report.matched} of {counted(report.checkpoints, 'checkpoint')}"
            f" match, {report.written} of them written now."
        )
        for thread, why in report.failed.items():
            remark(f"{one_line(thread)}: {why}")
    if not report.is_complete:
        raise EcowasError(
            f"{counted(len(report.failed), 'thread')} could not be migrated. Fix the cause and repeat the "
            "command: it continues where it stopped."
        )


def _class(module: str, name: str, packages: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError:
        raise _missing(packages) from None


@contextmanager
def _opened(source: str) -> Iterator[Any]:
    """Yield the checkpointer at an address: a SQLite file, PostgreSQL or langgraph-checkpoint-redis."""
    if source.startswith(_POSTGRES):
        saver = _class(
            "langgraph.checkpoint.postgres", "PostgresSaver", "langgraph-checkpoint-postgres psycopg[binary]"
        )
        address = source
    elif source.startswith(_REDIS):
        saver = _class("langgraph.checkpoint.redis", "RedisSaver", "langgraph-checkpoint-redis")
        address = source
    else:
        saver = _class("langgraph.checkpoint.sqlite", "SqliteSaver", "langgraph-checkpoint-sqlite")
        address = source.removeprefix(_SQLITE)
        if not Path(address).is_file():
            raise InvalidInputError(
                f"There is no file {address!r}. Name a SQLite file, postgresql://… or the redis://… of "
                "langgraph-checkpoint-redis."
            )
    try:
        with saver.from_conn_string(address) as opened:
            if source.startswith(_REDIS):
                opened.setup()
            yield opened
    except EcowasError:
        raise
    except Exception as error:  # each library has its own error classes
        raise InvalidInputError(
            f"The source can't be read ({type(error).__name__}): {_told(error, source)}"
        ) from None


def _told(error: Exception, source: str) -> str:
    """Return an error's message, without a login that it may repeat."""
    from ecowas_lc._secret import safe_url

    return " ".join(str(error).replace(source, safe_url(source)).split())[:300]


def _missing(packages: str) -> MissingExtraError:
    return MissingExtraError(f"Reading this source needs another library. Run: pip install {packages}")
