"""Runs checks on stores, through their sync or async methods, and reports the results.

Its embedding needs no model: texts are similar as far as they share words of a small vocabulary.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from langgraph.store.base import BaseStore, IndexConfig, TTLConfig

from ecowas_lc.testing.stores.checks import CHECKS, Check, UnsupportedError

VOCABULARY = ("solar", "wind", "gold", "lithium", "rice", "cattle", "cable", "visa")
DIMENSIONS = len(VOCABULARY) + 1


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Return a vector for each text: how often it has each word of the vocabulary, and a constant."""
    vectors = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        vectors.append([*(float(words.count(word)) for word in VOCABULARY), 0.1])
    return vectors


Shell = Literal["sync", "async"]


@dataclass(frozen=True, slots=True)
class Setup:
    """How to create a store for a check; a store ignores settings for features that it lacks."""

    shell: Shell
    index: IndexConfig | None = None
    ttl: TTLConfig | None = None


MakeStore = Callable[[Setup], AbstractAsyncContextManager[BaseStore]]


class Calls:
    """A store with all methods awaitable, whichever shell is tested."""

    def __init__(self, store: BaseStore, shell: Shell) -> None:
        self.store = store
        self.shell = shell

    async def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of the store and return what it returns."""
        if self.shell == "sync":
            return getattr(self.store, method)(*args, **options)
        return await getattr(self.store, f"a{method}")(*args, **options)


@dataclass(slots=True)
class Report:
    """A store's results by capability: checks that passed, failed (and why), or found the feature missing."""

    name: str
    passed: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    unsupported: list[str] = field(default_factory=list)

    @property
    def conforms(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    def __str__(self) -> str:
        capabilities = dict.fromkeys([*self.passed, *self.failed, *self.unsupported])
        lines = [self.name]
        for capability in capabilities:
            passed, failed = len(self.passed.get(capability, ())), self.failed.get(capability, [])
            if not passed and not failed:
                lines.append(f"  {capability}: not supported")
                continue
            lines.append(f"  {capability}: {passed} of {passed + len(failed)}")
            lines += [f"    {name}: {why}" for name, why in failed]
        return "\n".join(lines)


async def run_check(check: Check, make_store: MakeStore, shell: Shell = "async") -> None:
    """Run one check on a new store.

    Args:
        check: The check to run.
        make_store: Creates a new, empty store, and closes it.
        shell: Which methods to call, ``"sync"`` or ``"async"``.

    Raises:
        AssertionError: The store does not do what the check expects.
        UnsupportedError: The store does not support the feature.
    """
    index: IndexConfig | None = None
    if check.index_fields is not None:
        index = {"dims": DIMENSIONS, "embed": embed, "fields": list(check.index_fields)}
    ttl: TTLConfig | None = None
    if check.ttl is not None:
        ttl = cast("TTLConfig", {"omit_expired": True, **check.ttl})
    async with make_store(Setup(shell, index, ttl)) as store:
        if check.ttl is not None and not store.supports_ttl:
            raise UnsupportedError(check.capability)
        await check.run(Calls(store, shell))


async def validate(name: str, make_store: MakeStore, shells: tuple[Shell, ...] = ("sync", "async")) -> Report:
    """Run every check through each shell and return a report.

    Args:
        name: The store's name in the report.
        make_store: Creates a new, empty store, and closes it.
        shells: Which methods to call.

    Returns:
        The report.
    """
    report = Report(name)
    for check in CHECKS:
        for shell in shells:
            title = f"{check.name} ({shell})"
            try:
                await run_check(check, make_store, shell)
            except UnsupportedError:
                if check.capability not in report.unsupported:
                    report.unsupported.append(check.capability)
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                why = str(error).partition("\n")[0] or f"{type(error).__name__} at line {last.lineno}: {last.line}"
                report.failed.setdefault(check.capability, []).append((title, why))
            else:
                report.passed.setdefault(check.capability, []).append(title)
    return report
