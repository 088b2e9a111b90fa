"""What the figures were measured on: the machine, and the versions of everything that takes part."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from tests.fixtures.servers import server_binary

PACKAGES = (
    "langgraph",
    "langgraph-checkpoint",
    "langchain-core",
    "redis",
    "hiredis",
    "ormsgpack",
    "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-postgres",
    "psycopg",
    "langgraph-checkpoint-aws",
    "valkey",
    "langgraph-checkpoint-redis",
    "langchain-community",
    "langchain-redis",
)


def description() -> str:
    """A table: machine, system, servers, packages."""
    rows = {
        "processor": f"{_processor()}, {os.cpu_count()} cores, {_memory_gigabytes()} GB",
        "system": f"{_system()}, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}",
        "servers": ", ".join(_servers()) + "; on the same machine, over TCP",
        "packages": ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _field(path: str, name: str) -> str:
    found = re.search(rf"^{name}\s*[:=]\s*\"?(.*?)\"?$", Path(path).read_text(), re.MULTILINE)
    return found[1] if found else "?"


def _processor() -> str:
    return _field("/proc/cpuinfo", "model name") if Path("/proc/cpuinfo").exists() else platform.processor()


def _memory_gigabytes() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


def _system() -> str:
    return _field("/etc/os-release", "PRETTY_NAME") if Path("/etc/os-release").exists() else platform.system()


def _servers() -> list[str]:
    found = []
    for flavour in ("redis", "valkey"):
        command = [server_binary(flavour), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        version = re.search(r"v=([\d.]+)", said)
        found.append(f"{flavour.capitalize()} {version[1] if version else '?'}")
    return found
