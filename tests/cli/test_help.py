"""Help and version: quick, complete, and without anything heavy."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ecowas_lc._extras import install_command
from tests.cli.conftest import Run

COMMANDS = [
    ["access", "add"],
    ["access", "add-person"],
    ["access", "list"],
    ["access", "remove"],
    ["ask"],
    ["audit"],
    ["chat"],
    ["demo"],
    ["docs", "add"],
    ["docs", "list"],
    ["docs", "reindex"],
    ["docs", "remove"],
    ["docs", "search"],
    ["docs", "show"],
    ["doctor"],
    ["erase"],
    ["search"],
    ["eval"],
    ["graph"],
    ["local-model", "install"],
    ["local-model", "serve"],
    ["serve"],
    ["server", "start"],
    ["server", "status"],
    ["server", "stop"],
    ["sessions", "clear"],
    ["sessions", "export"],
    ["sessions", "extend"],
    ["sessions", "import"],
    ["sessions", "list"],
    ["sessions", "reindex"],
    ["sessions", "show"],
    ["stats"],
    ["threads", "copy"],
    ["threads", "delete"],
    ["threads", "diff"],
    ["threads", "export"],
    ["threads", "history"],
    ["threads", "import"],
    ["threads", "list"],
    ["threads", "migrate"],
    ["threads", "prune"],
    ["threads", "reindex"],
    ["threads", "resume"],
    ["threads", "show"],
    ["threads", "waiting"],
]


def test_help_imports_nothing_heavy() -> None:
    """``--help`` imports no langchain, langgraph or redis, and only the command line of this package."""
    code = (
        "import sys; from ecowas_lc.cli import main; main(['--help']); "
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    modules = done.stderr.split()
    roots = {name.partition(".")[0] for name in modules}
    heavy = {"httpx", "langchain", "langchain_core", "langchain_ollama", "langgraph", "numpy", "ollama", "redis"}
    assert roots.isdisjoint(heavy)
    assert {name for name in modules if name.startswith("ecowas_lc.")} == {
        "ecowas_lc._version",
        "ecowas_lc.cli",
        "ecowas_lc.cli.commands",
        "ecowas_lc.cli.options",
        "ecowas_lc.errors",
    }


def test_help_is_quick(tmp_path: Path) -> None:
    """``--help`` takes at most 1.6 times the processor time of a bare typer program's."""
    bare = tmp_path / "bare.py"
    bare.write_text(
        "import typer\napp = typer.Typer()\n"
        "@app.command()\ndef one() -> None:\n    'One.'\n"
        "@app.command()\ndef two() -> None:\n    'Two.'\napp()\n"
    )

    def seconds(*command: str) -> float:
        spent = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *command, "--help"], capture_output=True, check=True, timeout=60)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(spent)

    assert seconds("-m", "ecowas_lc.cli") <= 1.6 * seconds(str(bare))


def test_help_documents_the_exit_codes(run: Run) -> None:
    """Scripts rely on the exit codes, so help lists them."""
    ended = run("--help")
    assert ended.code == 0
    assert "Exit codes: 0 success; 1 failure" in " ".join(ended.out.split())


NOT_STORED = [
    ["demo"],
    ["eval"],
    ["graph"],
    ["local-model", "install"],
    ["local-model", "serve"],
    ["server", "start"],
    ["server", "status"],
    ["server", "stop"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_about_what_is_stored_takes_a_server_and_a_prefix(run: Run, command: list[str]) -> None:
    """``--url`` and ``--prefix`` are one set of options, and no command that reads a server lacks them."""
    said = run(*command, "--help").out
    for option in ("--url URL", "--prefix PREFIX"):
        assert (option in said) == (command not in NOT_STORED), option


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(run: Run, command: list[str]) -> None:
    """Every command has help, and every documented command exists."""
    ended = run(*command, "--help")
    assert ended.code == 0
    assert "Usage: ecowas-lc " + " ".join(command) in " ".join(ended.out.split())
    assert ended.err == ""


def test_no_command_is_undocumented(run: Run) -> None:
    """The list of commands in the tests is complete."""
    from typer.main import get_command

    from ecowas_lc.cli.commands import app

    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        found += [[name, sub] for sub in command.commands] if hasattr(command, "commands") else [[name]]
    assert sorted(found) == sorted(COMMANDS)


def test_version(run: Run) -> None:
    """``--version`` prints only the version."""
    from ecowas_lc import __version__

    assert (run("--version").code, run("--version").out) == (0, f"{__version__}\n")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_named(missing: str) -> None:
    """Without typer or rich the command says which extra to install, in one line."""
    code = f"import sys; sys.modules[{missing!r}] = None; from ecowas_lc.cli import main; sys.exit(main(['ask']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == f"The command needs {missing}, which is not installed. Run: {install_command('cli')}\n"


def test_the_install_command_of_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A checkout on ``PYTHONPATH``, which is not installed, names itself: it knows no requirements of an extra."""
    assert install_command("cli").startswith("pip install ")
    assert ".[" not in install_command("cli")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert install_command("cli") == "pip install '.[cli]'"


@pytest.mark.parametrize("group", [[], ["local-model"], ["server"], ["sessions"], ["threads"]], ids=" ".join)
def test_what_commands_do_is_told_whole(run: Run, monkeypatch: pytest.MonkeyPatch, group: list[str]) -> None:
    """At 80 columns, the list of commands has one line per command, and no sentence is cut off."""
    monkeypatch.setenv("COLUMNS", "80")
    _, _, listed = run(*group, "--help").out.partition("Commands:\n")
    commands = listed.partition("\n\n")[0].splitlines()
    assert len(commands) > 1
    for line in commands:
        assert line.startswith("  ")
        assert line.endswith(".")
        assert not line.endswith("...")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_switch_takes_no_value(run: Run, command: list[str]) -> None:
    """A flag is not shown as if it took a value."""
    assert "bool" not in run(*command, "--help").out.lower()
