"""Pictures of graphs: their contents, the highlighted route, in every format, without network."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc import TWG, MissingExtraError, RouteDecision, build_supervisor, draw_graph
from ecowas_lc.errors import EcowasError, InvalidInputError
from tests.fixtures.network import refuse_connections
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker

SVG = "{http://www.w3.org/2000/svg}"
TWO = [
    ("__start__", "route"),
    ("route", "energy"),
    ("route", "digital"),
    ("energy", "gather"),
    ("digital", "gather"),
    ("gather", "synthesise"),
    ("synthesise", "record"),
    ("record", "__end__"),
]


@pytest.fixture(scope="module")
def graph() -> Any:
    model = ScriptedModel(script=by_speaker({}), structured=False)
    return build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())


NO_SOCKETS = """
import sys

def refuse(event, _):
    if event.startswith("socket."):
        raise RuntimeError("a picture went to the network")

sys.addaudithook(refuse)
"""


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No socket, neither here nor in the process that draws."""
    refuse_connections(monkeypatch)
    (tmp_path / "sitecustomize.py").write_text(NO_SOCKETS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("no_network")
def test_the_drawing_process_has_no_sockets_in_these_tests() -> None:
    """The fixture that blocks the network below also blocks it in child processes."""
    opening = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-P", "-c", opening], capture_output=True, text=True, check=False)
    assert "a picture went to the network" in done.stderr


def texts(svg: str) -> set[str]:
    return {"".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text")}


def thick_edges(svg: str) -> set[str]:
    """The titles of the edges drawn as the route."""
    found = set()
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        path = group.find(f"{SVG}path")
        title = group.find(f"{SVG}title")
        is_edge = group.get("class") == "edge" and path is not None and title is not None
        if is_edge and float(path.get("stroke-width", "1")) > 2:
            found.add(str(title.text))
    return found


@pytest.mark.usefixtures("no_network")
def test_svg_shows_every_node_and_edge(graph: Any) -> None:
    """Every node has its label and every edge its line; without a route, none is highlighted."""
    svg = draw_graph(graph).svg
    assert {"start", "route", "supervisor", "gather", "synthesise", "record", "end"} <= texts(svg)
    assert {"Energy &", "Infrastructure", "Resource", "Mobilization"} <= texts(svg)
    titles = {title.text for title in ET.fromstring(svg).iter(f"{SVG}title")}
    assert {f"{edge.source}->{edge.target}" for edge in graph.get_graph().edges} <= titles
    assert thick_edges(svg) == set()


@pytest.mark.usefixtures("no_network")
def test_png_is_a_picture_of_some_size(graph: Any) -> None:
    """The PNG is valid, and wide enough to read."""
    png = draw_graph(graph).png
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert width >= 1200
    assert height >= 400


def test_the_font_is_our_own(graph: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The picture is the same on a machine without fonts: letters, not boxes."""
    usual = draw_graph(graph).png
    (tmp_path / "fonts.conf").write_text("<fontconfig></fontconfig>")
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert draw_graph(graph).png == usual


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("energy+digital: a?", TWO),
        (
            "energy: a?",
            [("__start__", "route"), ("route", "energy"), ("energy", "record"), ("record", "__end__")],
        ),
        (
            "hello",
            [("__start__", "route"), ("route", "supervisor"), ("supervisor", "record"), ("record", "__end__")],
        ),
    ],
)
def test_the_route_of_a_run(graph: Any, question: str, expected: list[tuple[str, str]]) -> None:
    """A run's result highlights exactly its route."""
    result = graph.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": question}})
    picture = draw_graph(graph, result)
    assert picture.plan.taken == set(expected)
    assert thick_edges(picture.svg) == {f"{source}->{target}" for source, target in expected}


def test_the_route_is_what_the_run_really_did(graph: Any) -> None:
    """The highlighted nodes are those that the stream of updates names."""
    question = {"messages": [("user", "energy+digital: a?")]}
    config: Any = {"configurable": {"thread_id": "really"}}
    ran = {node for part in graph.stream(question, config, stream_mode="updates") for node in part}
    picture = draw_graph(graph, graph.get_state(config).values)
    assert picture.plan.visited == ran | {"__start__", "__end__"}


@pytest.mark.parametrize(
    "route",
    [
        RouteDecision(("energy", "digital"), "lexical", "because"),
        {"groups": ["energy", "digital"]},
        ["route", {"energy", "digital"}, "gather", "synthesise", "record"],
    ],
)
def test_other_ways_to_say_a_route(graph: Any, route: Any) -> None:
    """A decision alone or the nodes step by step highlight the same route."""
    assert draw_graph(graph, route).plan.taken == set(TWO)


def test_a_decision_goes_through_the_reviewer() -> None:
    """A decision does not know that answers were held; the graph does, and no line ends in the open."""
    model = ScriptedModel(script=by_speaker({}), structured=False)
    held = build_supervisor(
        model, router=FixedRouter(), checkpointer=InMemorySaver(), interrupt_before_release=["energy"]
    )
    alone = draw_graph(held, {"groups": ["energy"]}).plan.taken
    assert alone == {
        ("__start__", "route"),
        ("route", "energy"),
        ("energy", "release"),
        ("release", "record"),
        ("record", "__end__"),
    }
    released = {"energy": {"status": "answered", "released": True}, "digital": {"status": "answered"}}
    both = draw_graph(held, {"decision": {"groups": ["energy", "digital"]}, "reports": released}).plan.taken
    assert both == {edge for edge in TWO if edge != ("energy", "gather")} | {
        ("energy", "release"),
        ("release", "gather"),
    }


def test_one_answer_of_several_groups_is_not_combined(graph: Any) -> None:
    """If all groups but one failed, the route goes past the node that combines answers."""
    reports = {"energy": {"status": "answered"}, "digital": {"status": "failed"}}
    run = {"decision": {"groups": ["energy", "digital"]}, "reports": reports}
    taken = draw_graph(graph, run).plan.taken
    assert taken == {edge for edge in TWO if "synthesise" not in edge} | {("gather", "record")}


def test_groups_of_ones_own_have_their_names() -> None:
    """A user's group is shown by its name, as the summit's are; long names stay inside their box."""
    model = ScriptedModel(script=by_speaker({}), structured=False)
    groups = [
        TWG("water", "水資源管理ワーキンググループと国境を越える河川の管理", "You are."),
        TWG("sport", "Sport & Leisure", "You are."),
    ]
    picture = draw_graph(build_supervisor(model, groups=groups, router=FixedRouter()))
    assert "Sport & Leisure" in texts(picture.svg)
    assert "Sport #38; Leisure" in picture.mermaid
    lines = [text for text in texts(picture.svg) if any(letter > "\u3000" for letter in text)]
    assert len(lines) > 1
    assert max(map(len, lines)) <= 10


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (["route", "fishing"], "'fishing'"),
        ("route", "is not a route"),
        ({"answer": 42}, "no decision"),
        (7, "is not a route"),
    ],
)
def test_what_is_no_route(graph: Any, route: Any, message: str) -> None:
    """An impossible route is named instead of being ignored."""
    with pytest.raises(InvalidInputError, match=message):
        draw_graph(graph, route)


def test_what_is_no_graph() -> None:
    """An object that is not a graph is named in the error."""
    with pytest.raises(InvalidInputError, match="not a graph"):
        draw_graph("energy")


def test_ascii(graph: Any) -> None:
    """The text has a line for each node, fits 79 columns, and marks the route."""
    lines = draw_graph(graph, {"groups": ["energy"]}).ascii.splitlines()
    assert lines[0].split() == ["*", "start", "=>", "route"]
    assert any(line.split() == ["*", "energy", "=>", "record"] for line in lines)
    assert any(line.split() == ["agriculture", "->", "gather,", "record"] for line in lines)
    assert max(map(len, lines)) <= 79
    assert all(line.isascii() for line in lines)
    assert "*" not in draw_graph(graph).ascii


def test_mermaid(graph: Any) -> None:
    """The Mermaid text has every edge and marks those of the route."""
    picture = draw_graph(graph, {"groups": ["energy"]})
    lines = picture.mermaid.splitlines()
    assert lines[0].startswith("flowchart")
    assert sum("-->" in line or "-.->" in line for line in lines) == len(graph.get_graph().edges)
    [marked] = [line for line in lines if line.strip().startswith("linkStyle")]
    assert len(marked.split()[1].split(",")) == 4
    assert "Energy #38; Infrastructure" in picture.mermaid


def test_a_chain_is_drawn_by_the_names_of_its_parts() -> None:
    """LangChain gives the parts of a chain random ids; a picture shows what they are."""
    chain = {"rooms": RunnableLambda(str.upper), "day": RunnablePassthrough()} | RunnableLambda(repr)
    picture = draw_graph(chain)
    for told in (picture.ascii, picture.mermaid, " ".join(texts(picture.svg))):
        assert not re.search("[0-9a-f]{32}", told)
        assert "upper" in told
        assert "rooms" in told


def test_labels_of_ones_own(graph: Any) -> None:
    """You can rename nodes; such a name is shown as plain text."""
    picture = draw_graph(graph, labels={"energy": 'A "B" <C> \\ [D];%%'})
    assert {'A "B" <C> \\', "[D];%%"} <= texts(picture.svg)
    assert "<C>" not in picture.mermaid


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("g.svg", b"<?xml"),
        ("g.PNG", b"\x89PNG"),
        ("g.mmd", b"flowchart"),
        ("g.md", b"```mermaid"),
        ("g.txt", b"  start"),
    ],
)
def test_saving(graph: Any, tmp_path: Path, name: str, beginning: bytes) -> None:
    """The file's extension determines the format."""
    path = draw_graph(graph).save(tmp_path / name)
    assert path == tmp_path / name
    assert path.read_bytes().startswith(beginning)


def test_saving_as_something_else(graph: Any, tmp_path: Path) -> None:
    """An unknown extension is refused, and nothing is written."""
    with pytest.raises(InvalidInputError, match=r"\.gif"):
        draw_graph(graph).save(tmp_path / "g.gif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_network")
def test_notebooks_show_it(graph: Any) -> None:
    """A notebook gets the SVG, and text in case it can't show one."""
    bundle = draw_graph(graph)._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<?xml")
    assert "route" in bundle["text/plain"]
    assert list(draw_graph(graph)._repr_mimebundle_(include=["text/plain"])) == ["text/plain"]


def test_a_drawing_process_that_fails(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process that draws ends without a picture, the error quotes what the process said."""
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(EcowasError, match=r"Graphviz could not draw the graph: (?s:.*)encodings"):
        _ = draw_graph(graph).svg


def test_without_the_extra(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, SVG and PNG say which to install and write nothing; text and notebooks work."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    picture = draw_graph(graph)
    for form in ("svg", "png"):
        with pytest.raises(MissingExtraError, match=r"pip install 'matplotlib"):
            getattr(picture, form)
        with pytest.raises(MissingExtraError):
            picture.save(tmp_path / f"g.{form}")
    assert list(tmp_path.iterdir()) == []
    assert "route" in picture.ascii
    assert "flowchart" in picture.mermaid
    assert "image/svg+xml" not in picture._repr_mimebundle_()
    assert "route" in picture._repr_mimebundle_()["text/plain"]
