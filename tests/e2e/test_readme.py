"""The README keeps its word: its code runs as it stands and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ecowas_lc.cli.app import app
from tests.e2e.conftest import House

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- quickstart: (\w+) -->\n```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
QUICKSTART = {name: (code, output) for name, code, output in BLOCK.findall(README)}


def pattern(output: str) -> str:
    """What the output must match: its lines as they are, where ``...`` stands for what the model says."""
    lines = [r".+" if line == "..." else re.escape(line) for line in output.splitlines()]
    return "\n".join(lines) + "\n"


def test_the_quickstart_is_found() -> None:
    """Both blocks are in the README."""
    assert list(QUICKSTART) == ["memory", "supervisor"]


@pytest.mark.llm
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", QUICKSTART)
def test_the_quickstart_runs(house: House, name: str) -> None:
    """Each block runs in a fresh process and prints what the README shows."""
    code, output = QUICKSTART[name]
    done = house.python("-c", code)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(pattern(output), done.stdout, re.DOTALL), done.stdout


def test_every_command_in_the_table_is_there() -> None:
    """The table of commands names those there are, and no other."""
    from typer.main import get_command

    named = set()
    for line in re.findall(r"^\| `ecowas-lc ([^`]+)`", README, re.MULTILINE):
        name, *rest = line.split()
        subs = rest[0].split(r"\|") if rest and re.fullmatch(r"[a-z]+(\\\|[a-z]+)*", rest[0]) else [""]
        named |= {f"{name} {sub}".strip() for sub in subs}
    there = set()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        there |= {f"{name} {sub}" for sub in command.commands} if hasattr(command, "commands") else {name}
    assert named == there - {"local-model install"}


def test_its_links_lead_somewhere() -> None:
    """Files and folders that it links to are there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (Path(__file__).parents[2] / target).exists(), target


def test_the_makefile_has_its_two_commands() -> None:
    """The two commands that the README names are targets of the Makefile."""
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
