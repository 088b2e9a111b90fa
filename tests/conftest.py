"""Fixtures for every test; each family of them is a module of ``tests.fixtures``."""

from __future__ import annotations

import signal

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
