"""``graph`` and ``eval``: pictures and figures, without a model or a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ecowas_lc import build_supervisor, draw_graph
from tests.cli.conftest import Run
from tests.fixtures.servers import closed_port


@pytest.fixture(autouse=True)
def offline(bare: pytest.MonkeyPatch) -> None:
    """Make both a server and a model unavailable."""
    bare.setenv("REDIS_URL", f"redis://127.0.0.1:{closed_port()}")
    bare.setenv("OLLAMA_BASE_URL", f"http://127.0.0.1:{closed_port()}")


def test_the_graph_is_printed(run: Run) -> None:
    """The graph is printed as text or Mermaid, exactly as the library returns it."""
    picture = draw_graph(build_supervisor(router="lexical"))
    assert run("graph").out == picture.ascii
    assert run("graph", "--format", "mermaid").out == picture.mermaid


def test_the_graph_for_programs(run: Run) -> None:
    """``--json`` prints nodes, edges and the route, and with ``--output`` the picture's path."""
    shown = json.loads(run("graph", "--json", "--route", "energy", "-o", "g.mmd").out)
    assert {"route", "energy", "synthesise"} <= set(shown["nodes"])
    assert {"from": "route", "to": "energy", "conditional": True} in shown["edges"]
    assert (shown["route"], shown["file"]) == (["energy"], str(Path("g.mmd").resolve()))


def test_a_route_is_marked(run: Run) -> None:
    """``--route`` marks the way by the groups that it names."""
    assert run("graph", "--route", "energy").out.splitlines()[0].split() == ["*", "start", "=>", "route"]


@pytest.mark.parametrize("name", ["graph.svg", "graph.png", "graph.mmd", "graph.md", "graph.txt"])
def test_the_picture_is_written(run: Run, name: str) -> None:
    """``--output`` writes the picture and prints where, as a path that can be clicked or pasted."""
    ended = run("graph", "--output", name)
    assert (ended.code, ended.out) == (0, f"{Path(name).resolve()}\n")
    assert Path(name).stat().st_size > 300


def test_routers_are_measured(run: Run) -> None:
    """Each named router has its figures, as a table or as JSON."""
    ended = run("eval", "--router", "lexical", "--data", "dev", "--json")
    figures = json.loads(ended.out)
    assert list(figures) == ["lexical"]
    assert 0.5 < figures["lexical"]["micro_f1"] <= 1
    table = run("eval", "--router", "lexical", "--data", "dev").out
    assert table.splitlines()[0].endswith("questions from dev")
    assert f"{figures['lexical']['micro_f1']:.3f}" in table


def test_dialogues_are_measured_too(run: Run) -> None:
    """The table lists dialogues below the questions, with their moves; JSON has them under ``dialogues``."""
    turns = [
        {"question": "Which solar plants?", "twgs": ["energy"]},
        {"question": "And in Mali?", "twgs": ["energy"]},
    ]
    Path("own.jsonl").write_text(json.dumps({"turns": turns, "lang": "en"}))
    figures = json.loads(run("eval", "--router", "lexical", "--data", "own.jsonl", "--json").out)["lexical"]
    assert (figures["dialogues"]["n"], figures["dialogues"]["exact_set"]) == (2, 1.0)
    assert figures["dialogues"]["moves"]["stay"]["stay"] == 1
    table = run("eval", "--router", "lexical", "--data", "own.jsonl").out
    assert table.startswith("1 dialogue from own.jsonl, turn by turn\n")
    assert "lexical: expected, chosen" in table


def test_questions_of_ones_own(run: Run) -> None:
    """A file of labelled questions is evaluated like the sets that ship with the package."""
    rows = [
        {"question": "Which solar tariffs does the power pool charge?", "twgs": ["energy"]},
        {"question": "Which solar tariffs does the power pool charge?", "twgs": ["protocol"]},
    ]
    Path("own.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    figures = json.loads(run("eval", "--router", "lexical", "--data", "own.jsonl", "--json").out)["lexical"]
    assert (figures["n"], figures["exact_set"]) == (2, 0.5)


def test_what_is_confused_is_drawn(run: Run) -> None:
    """``--picture`` draws the confusion table and prints the picture's path."""
    ended = run("eval", "--router", "lexical", "--data", "dev", "--picture", "eval.png")
    assert ended.code == 0
    assert f"Picture  {Path('eval.png').resolve()}" in ended.out
    assert Path("eval.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_is_down_can_not_be_measured(run: Run) -> None:
    """``--model NAME`` requires the model, and an error says what starts it."""
    ended = run("eval", "--model", "llama3.2:3b")
    assert (ended.code, ended.out) == (1, "")
    assert "`ollama serve`" in ended.err
