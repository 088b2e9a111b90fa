"""The README is correct: its code runs unchanged and prints what the README shows."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from ecowas_lc.cli.commands import app
from tests.e2e.conftest import House
from tests.fixtures.ollama_stub import serving_stub
from tests.fixtures.other_data import put_other_data, unharmed
from tests.fixtures.servers import running_server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- quickstart: (\w+) -->\n```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
QUICKSTART = {name: (code, output) for name, code, output in BLOCK.findall(README)}


def pattern(output: str) -> str:
    """The pattern for the output: its lines unchanged, where ``...`` stands for the model's text."""
    lines = [r".+" if line == "..." else re.escape(line) for line in output.splitlines()]
    return "\n".join(lines) + "\n"


def test_the_quickstart_is_found() -> None:
    """The blocks are in the README."""
    assert list(QUICKSTART) == ["first", "memory", "supervisor"]


@pytest.mark.llm
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", QUICKSTART)
def test_the_quickstart_runs(house: House, name: str) -> None:
    """Each block runs in a fresh process and prints what the README shows."""
    code, output = QUICKSTART[name]
    done = house.python("-c", code)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(pattern(output), done.stdout, re.DOTALL), done.stdout


@pytest.mark.parametrize("name", QUICKSTART)
def test_the_quickstart_harms_nobody(bare_house: House, name: str) -> None:
    """On a server with other data, which the settings name, each block changes no key but its own."""
    code, _ = QUICKSTART[name]
    with running_server("redis") as server, serving_stub() as ollama:
        put_other_data(server)
        settings = {"REDIS_URL": server.url, "OLLAMA_BASE_URL": ollama.url, "OLLAMA_MODEL": "tiny"}
        house = replace(bare_house, environment=bare_house.environment | settings)
        with unharmed(server):
            done = house.python("-c", code)
        assert done.returncode == 0, done.stderr


NOT_ON_AN_INDEX = re.compile(r"pip install [^\n`]*(?<![\w./-])['\"]?ecowas[-_]lc\b")


def test_nothing_is_installed_from_an_index() -> None:
    """The package is on no index, where anyone could take its name: install it from a checkout or a wheel."""
    places = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("notebooks/*.ipynb"),
        *ROOT.glob("examples/*.py"),
    ]
    places += [path for path in ROOT.glob("src/**/*") if path.suffix in (".py", ".md", ".toml")]
    found = [path.name for path in places if NOT_ON_AN_INDEX.search(path.read_text(encoding="utf-8"))]
    assert found == []
    assert NOT_ON_AN_INDEX.search("pip install -U ecowas-lc")
    assert NOT_ON_AN_INDEX.search("pip install 'ecowas-lc[draw]'")
    assert not NOT_ON_AN_INDEX.search("pip install './ecowas_lc-0.1.0-py3-none-any.whl[cli]'")


def test_the_installation_can_be_typed(bare_house: House) -> None:
    """The extras that it installs exist, the model that it pulls is the one it names, and its commands run."""
    [block] = re.findall(r"^## Install\n\n[^`#]+```sh\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    [install, pull, *commands] = block.splitlines()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [wanted] = re.findall(r"pip install '\.\[([\w,]+)\]'", install)
    assert set(wanted.split(",")) <= set(extras)
    [pulled, named] = re.findall(r"ollama pull (\S+) && export OLLAMA_MODEL=(\S+)", pull)[0]
    assert pulled == named
    with serving_stub() as ollama:
        model = {"OLLAMA_BASE_URL": ollama.url, "OLLAMA_MODEL": "tiny"}
        house = replace(bare_house, environment=bare_house.environment | model)
        for command in commands:
            program, *arguments = shlex.split(command, comments=True)
            assert program == "ecowas-lc"
            done = house.ecowas(*arguments)
            assert "Traceback" not in done.stderr
            assert done.returncode == 0 or arguments == ["doctor"], done.stderr  # it minds the stub's small model
    assert "Good morning." in done.stdout


def test_every_command_in_the_table_is_there() -> None:
    """The table of commands names those there are, and no other."""
    from typer.main import get_command

    named = set()
    for line in re.findall(r"^\| `ecowas-lc ([^`]+)`", README, re.MULTILINE):
        name, *rest = line.split()
        subs = rest[0].split(r"\|") if rest and re.fullmatch(r"[a-z-]+(\\\|[a-z-]+)*", rest[0]) else [""]
        named |= {f"{name} {sub}".strip() for sub in subs}
    there = set()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        there |= {f"{name} {sub}" for sub in command.commands} if hasattr(command, "commands") else {name}
    assert named == there - {"local-model install"}


def test_its_links_lead_somewhere() -> None:
    """Files and folders that it links to exist."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_makefile_has_its_two_commands() -> None:
    """The two commands that the README names are targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
