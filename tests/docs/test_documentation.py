"""The documentation builds, and its code does what it says."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from typer.models import CommandInfo

import ecowas_lc
from ecowas_lc.cli.commands import app, docs, local_model, server, sessions, threads
from ecowas_lc.embedded import stop_server
from ecowas_lc.settings import load_settings
from tests.docs.page import LANGUAGES, blocks_of
from tests.fixtures.ollama_stub import serving_stub
from tests.fixtures.other_data import put_other_data, unharmed
from tests.fixtures.servers import RunningServer, running_server, server_binary

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
WITH_BLOCKS = [page for page in PAGES if blocks_of(page.read_text(encoding="utf-8"))]


@pytest.fixture
def model_url() -> Iterator[str]:
    with serving_stub() as stub:
        yield stub.url


@pytest.fixture(scope="module")
def somebodys_server() -> Iterator[RunningServer]:
    """A server with other people's data, which a reader's settings name."""
    with running_server("redis") as server:
        put_other_data(server)
        yield server


@pytest.mark.parametrize("path", WITH_BLOCKS, ids=lambda path: str(path.relative_to(ROOT / "docs")))
def test_every_block_runs(path: Path, tmp_path: Path, model_url: str, somebodys_server: RunningServer) -> None:
    """A reader who copies a page's blocks in order gets the page's output, and changes no other data.

    The settings name a server with other data: the blocks use a separate prefix on it, or start a server.
    """
    with unharmed(somebodys_server):
        _run(path, tmp_path, model_url, somebodys_server.url)


def _run(path: Path, tmp_path: Path, model_url: str, redis_url: str) -> None:
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    if "redis-server" in path.read_text(
        encoding="utf-8"
    ):  # the system's servers, whatever servers Python packages install
        folders.insert(0, str(Path(server_binary("redis")).parent))
    env = {
        **{name: value for name, value in os.environ.items() if not re.match(r"(REDIS|OLLAMA|ECOWAS)_", name)},
        "ECOWAS_LC_DATA_DIR": str(tmp_path / "data"),
        "ECOWAS_LC_LINGER_SECONDS": "0",
        "REDIS_URL": redis_url,
        "OLLAMA_BASE_URL": model_url,
        "OLLAMA_MODEL": "tiny",
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join(folders),
        "LANGGRAPH_NO_VERSION_CHECK": "true",
        "LANGSMITH_TRACING": "false",
    }
    # The second is starlette's own, in the lowest version that langgraph-api allows.
    kept = ("-W", "error", "-W", "ignore:The anyio.abc.BlockingPortal alias:DeprecationWarning")
    command = [sys.executable, *kept, "-m", "tests.docs.page", str(path)]
    try:
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
        )
    finally:
        stop_server(load_settings(data_dir=tmp_path / "data"))
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("path", WITH_BLOCKS, ids=lambda path: str(path.relative_to(ROOT / "docs")))
def test_no_block_is_left_out(path: Path) -> None:
    """Every fenced block has a language that the test above knows, so none goes unchecked."""
    text = path.read_text(encoding="utf-8")
    fences = re.findall(r"^ *```(.*)$", text, re.MULTILINE)
    assert len(fences) == 2 * len(blocks_of(text))
    assert {block.language for block in blocks_of(text)} <= set(LANGUAGES)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published pages; mkdocs finds every page, link, anchor and name, and prints no warning."""
    folder = tmp_path_factory.mktemp("site")
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    return folder


@pytest.mark.timeout(300)
def test_the_reference_is_complete(site: Path) -> None:
    """Every public name is in the reference, and so is every public method that a public class defines."""
    reference = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").rglob("*.html"))
    shown = set(re.findall(r'id="(ecowas_lc\.[\w.]+)"', reference))
    assert ":meth:" not in reference
    missing = []
    for name in set(ecowas_lc.__all__) - {"__version__"}:
        value = getattr(ecowas_lc, name)
        home = [place for place in shown if place.endswith(f".{name}")]
        methods = [
            method
            for method in (vars(value) if inspect.isclass(value) else ())
            if not method.startswith("_")
            and inspect.isroutine(getattr(value, method))
            and getattr(getattr(value, method), "__name__", "") == method
            and getattr(value, method).__module__.startswith("ecowas_lc")  # others are of a library's making
        ]
        if not home:
            missing.append(name)
        missing += [f"{name}.{method}" for method in methods if f"{home[0]}.{method}" not in shown]
    assert missing == []
    for inherited in ("SupervisorAgent.areset_history", "RedisAgent.chat", "RedisSaver.from_settings"):
        assert any(place.endswith(f".{inherited}") for place in shown), inherited


@pytest.mark.timeout(300)
def test_notebooks_are_pages(site: Path) -> None:
    """Each notebook is a page in the navigation, with its title and the pictures that are stored in it."""
    home = (site / "index.html").read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        page = site / "notebooks" / path.stem / "index.html"
        text = page.read_text(encoding="utf-8")
        [title] = re.findall(r"<h1[^>]*>([^<]*)", text)
        assert f"# {title}" in "".join(nbformat.read(path, as_version=4).cells[0].source)
        assert f'href="notebooks/{path.stem}/"' in home
        for picture in re.findall(r'<img[^>]* src="(?!data:)([^"]*)"', text):
            assert (page.parent / picture).exists(), picture


def _name(command: CommandInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", "")).replace("_", "-")


@pytest.mark.timeout(300)
def test_the_command_line_page_has_every_command(site: Path) -> None:
    """The page is generated from the commands, so it lists each of them with its options."""
    page = (site / "reference" / "command-line" / "index.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'id="(ecowas-lc-[a-z-]+)"', page))
    groups = {"": app, "sessions-": sessions, "threads-": threads, "docs-": docs, "server-": server}
    for prefix, group in {**groups, "local-model-": local_model}.items():
        for command in group.registered_commands:
            assert f"ecowas-lc-{prefix}{_name(command)}" in shown
    assert "--overwrite" in page


@pytest.mark.timeout(300)
@pytest.mark.parametrize("asset", ["src", "href"])
def test_pages_load_nothing_from_elsewhere(site: Path, asset: str) -> None:
    """Fonts, scripts and styles come with the pages: a reader without network sees the same."""
    pattern = re.compile(rf'<(?:script|link|img)[^>]* {asset}="(?:https?:)?//([^"]+)"')
    for page in site.rglob("*.html"):
        assert pattern.findall(page.read_text(encoding="utf-8")) == [], page.name
