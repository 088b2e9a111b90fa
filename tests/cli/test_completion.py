"""Shell completion: the suggestions in a real shell and through typer's protocol."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
HEAVY = ("httpx", "langchain_core", "langchain_ollama", "langgraph", "numpy", "redis")


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), **more}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ecowas-lc sess", {"sessions"}),
        ("ecowas-lc sessions ", {"clear", "export", "extend", "import", "list", "reindex", "show"}),
        ("ecowas-lc sessions list --a", {"--active", "--agent"}),
        ("ecowas-lc threads resume --re", {"--reason", "--reject", "--request"}),
        ("ecowas-lc stats --pre", {"--prefix"}),
        ("ecowas-lc graph --format m", {"mermaid"}),
    ],
)
def test_a_shell_offers_commands_and_options(tmp_path: Path, words: str, offered: set[str]) -> None:
    """The script that is installed makes bash offer commands, options and choices."""
    line = words.split(" ")
    script = (
        'eval "$(_ECOWAS_LC_COMPLETE=source_bash ecowas-lc)"; complete -p ecowas-lc >/dev/null || exit 1; '
        f"COMP_WORDS=({' '.join(line[:-1])} '{line[-1]}'); COMP_CWORD={len(line) - 1}; "
        '_ecowas_lc_completion ecowas-lc; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", script], env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=True
    )
    assert set(done.stdout.split()) == offered
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_each_shell_has_a_script(tmp_path: Path, shell: str) -> None:
    """typer's own scripts name this command, for each shell that it knows."""
    done = subprocess.run(
        [BIN / "ecowas-lc"],
        env=environment(tmp_path, _ECOWAS_LC_COMPLETE=f"source_{shell}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "ecowas-lc" in done.stdout
    assert f"complete_{shell}" in done.stdout


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    """Suggestions need no import of langchain, langgraph or redis, so that the Tab key is quick."""
    code = (
        "import atexit, sys; atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr)); "
        "from ecowas_lc.cli import main; main()"
    )
    words = environment(tmp_path, _ECOWAS_LC_COMPLETE="complete_bash", COMP_WORDS="ecowas-lc se", COMP_CWORD="1")
    done = subprocess.run(
        [sys.executable, "-c", code], env=words, capture_output=True, text=True, timeout=60, check=False
    )
    assert set(done.stdout.split()) >= {"server", "sessions"}
    assert {name.partition(".")[0] for name in done.stderr.split()}.isdisjoint(HEAVY)
