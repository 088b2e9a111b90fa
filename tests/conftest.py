"""Fixtures for every test; each family of them is a module of ``tests.fixtures``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [  # those that others import first
    "tests.fixtures.servers",
    "tests.fixtures.tls",
    "tests.fixtures.faults",
    "tests.fixtures.local_model",
    "tests.fixtures.secrets",
]

# On a machine that does other things too, how long an example takes says nothing.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


def pytest_configure() -> None:
    """Let processes that tests start hear Ctrl-C, though a shell that runs us in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run browser tests last: Playwright's event loop goes on running in their thread, so no other loop may."""
    items.sort(key=lambda item: "/browser/" in item.nodeid)


@pytest.fixture(autouse=True)
def _nothing_known_of_models() -> Iterator[None]:
    """What a process learnt about a model server is forgotten: another test's server may get the same port."""
    yield
    if served := sys.modules.get("ecowas_lc.llm.served"):
        served.forget_served_models()
    if line := sys.modules.get("ecowas_lc.llm.request_queue"):
        line.forget_lines()
