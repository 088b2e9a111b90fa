"""Shared by the tests of faults: servers with timeouts of a second, and the duration of the load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ecowas_lc.settings import load_settings
from ecowas_lc.storage.server import Server

TIMEOUT_SECONDS = 1.0
# If no client may notice a fault, a busy machine must not cause an error either.
UNHURRIED = {"redis_socket_timeout": 20.0, "redis_connect_timeout": 20.0}
Connect = Callable[..., Server]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes the package's own servers for URLs, and closes their connections after the test."""
    with ExitStack() as stack:

        def make(url: str, **settings: object) -> Server:
            given = {"redis_socket_timeout": TIMEOUT_SECONDS, "redis_connect_timeout": TIMEOUT_SECONDS, **settings}
            server = Server.from_url(url, settings=load_settings(**given))
            stack.callback(server.close)
            return server

        yield make


@pytest.fixture(scope="session")
def load_seconds(is_long: bool) -> float:
    """How long load runs before and after a fault."""
    return 5.0 if is_long else 0.3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a ``flavour`` on both kinds of server in the long form, and on one in the short."""
    if "flavour" in metafunc.fixturenames:
        is_long = metafunc.config.getoption("--faults") == "long"
        metafunc.parametrize("flavour", ["redis", "valkey"] if is_long else ["redis"], scope="module")
