"""A type checker knows the input of a supervisor graph, and the result of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
from ecowas_lc import build_supervisor

graph = build_supervisor()
result = graph.invoke({"messages": [("user", "Hello")]}, {"configurable": {"thread_id": "a"}})
reveal_type(result)
reveal_type(result["decision"]["groups"])
reveal_type(result["reports"]["energy"]["status"])
graph.invoke({"messages": "Hello"})
graph.invoke(None)
graph.invoke({"question": "Hello"})
"""


def test_input_and_output_are_typed(tmp_path: Path) -> None:
    """State and output are TypedDicts: a type checker finds a key that no run takes or returns."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        str(program),
    ]  # with the project's settings and mypy's cache
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=110, check=False)
    said = done.stdout
    assert "SupervisorOutput" in said, said
    assert 'note: Revealed type is "list[str]"' in said.replace("builtins.", ""), said
    assert "Literal['answered']" in said, said
    errors = [line for line in said.splitlines() if ": error:" in line]
    assert len(errors) == 1, said
    assert ":11: error: No overload variant" in errors[0], said
