"""Displays are safe with any content, readable everywhere, and never fail the user's cell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from IPython.core.formatters import PlainTextFormatter
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from ecowas_lc import (
    TWG,
    RedisChatMessageHistory,
    RedisMemoryService,
    RedisSaver,
    RedisStore,
    RouteDecision,
)
from ecowas_lc.display import bundle_of
from ecowas_lc.display.blocks import prose
from ecowas_lc.storage.server import Server
from ecowas_lc.supervisor.routing.decision import FoundWord, TakenOver
from ecowas_lc.supervisor.supervisor_graph import SupervisorResult
from tests.display.pages import ATTRIBUTES, HOSTILE, MARKER, MEASURE, TAGS, Parsed, Restricted, browser, words
from tests.display.samples import samples
from tests.fixtures.servers import RunningServer, running_server


@pytest.fixture(scope="module")
def running() -> Iterator[RunningServer]:
    with running_server("redis") as server:
        yield server


@pytest.fixture(scope="module")
def shown(running: RunningServer) -> Iterator[dict[str, dict[str, Any]]]:
    """The texts that each sample shows."""
    server = Server.from_url(running.url)
    with samples(server, "shown", router="lexical", turns=3) as found:
        yield {name: one._repr_mimebundle_() for name, one in found.objects.items()}
    server.close()


def nothing_unsafe_in(html: str) -> Parsed:
    """Fail if the HTML could run or load anything; return it parsed."""
    parsed = Parsed(html)
    assert parsed.tags <= TAGS
    assert parsed.attributes <= ATTRIBUTES
    assert all(re.fullmatch(r"(width|left):\d+\.\d%", style) for style in parsed.styles)
    style = re.sub(r"</style>.*", "", html, flags=re.DOTALL)
    assert not re.search(r"https?:|url\(|@import|expression|javascript:", style)
    return parsed


NAMES = [
    "saver",
    "thread",
    "thread-waiting",
    "threads-row",
    "difference",
    "history",
    "memory",
    "decision",
    "group",
    "result",
    "result-waiting",
    "store",
    "report",
    "comparison",
    "documents",
    "grounded",
    "overview",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_object_shows_itself(shown: dict[str, dict[str, Any]], name: str) -> None:
    """A display is HTML without scripts, loads nothing, and comes with plain text."""
    parsed = nothing_unsafe_in(shown[name]["text/html"])
    assert "can't be shown" not in parsed.text
    assert len(parsed.text) > 60
    text = shown[name]["text/plain"]
    assert words(text) == Restricted(shown[name]["text/html"]).words  # the same without HTML, and without styles
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("saver", ("summit-prep", "tools waits", "fetch failed", "release waits", "done")),
        ("thread", ("How can we finance", "route → energy + resource mobilization", "2 reports", "protocol")),
        ("thread-waiting", ("tools waits for a decision", "book_room", "2026-03-04", "approve", "412 tokens in")),
        ("threads-row", ("book_room", "approve", "tools waits")),
        ("difference", ("messages", "The opening ceremony")),
        ("history", ("session summit-prep", "coastal backbone")),
        ("memory", ("1 session", "energy 4", "supervisor 6")),
        (
            "decision",
            (
                "finance",
                "Needs",
            ),
        ),
        ("group", ("Energy & Infrastructure", "French")),
        ("result", ("What each group said", "Together", "bankable")),
        ("result-waiting", ("Waits for a decision", "reject")),
        ("store", ("users / amina / memories", "Eats no fish")),
        ("report", ("micro-F1", "expected ↓ chosen →")),
        ("comparison", ("lexical", "dialogues")),
    ],
)
def test_displays_tell_what_matters(
    shown: dict[str, dict[str, Any]], name: str, expected: tuple[str, ...]
) -> None:
    """The display shows what people look for in an object."""
    text = Parsed(shown[name]["text/html"]).text
    assert [part for part in expected if part not in text] == []


def test_the_text_form_names_no_place_in_memory(shown: dict[str, dict[str, Any]]) -> None:
    """The text that a notebook stores is informative, and identical when the cell runs again."""
    told = {name: bundle["text/plain"] for name, bundle in shown.items() if " at 0x" in bundle["text/plain"]}
    assert told == {}


def test_a_graph_shows_its_picture(shown: dict[str, dict[str, Any]]) -> None:
    """A supervisor graph is a picture that was drawn here, and text."""
    assert {"image/svg+xml", "text/plain"} <= shown["graph"].keys()
    assert "Energy" in shown["graph"]["image/svg+xml"]


def hostile_objects(server: Server, prefix: str, bad: str) -> dict[str, Any]:
    """Objects with a hostile text in every field that another person may fill."""
    text = bad.encode("utf-8", "replace").decode()  # ids and values must be encodable; others are refused
    name = text.replace("\x00", "")
    saver = RedisSaver(server=server, prefix=prefix)

    def ask(state: MessagesState) -> dict[str, Any]:
        call = {"name": "send", "args": {name: name, "to": [name, {name: name}]}, "id": "1"}
        messages = [
            AIMessage(name, name=name, tool_calls=[call]),
            ToolMessage(name, tool_call_id="1", name=name, status="error"),
            SystemMessage(name),
        ]
        return {"messages": messages}

    def wait(state: MessagesState) -> dict[str, Any]:
        actions = [{"name": name, "args": {name: name}}]
        interrupt(
            {"action_requests": actions, "review_configs": [{"action_name": name, "allowed_decisions": [name]}]}
        )
        return {}

    def fail(state: MessagesState) -> dict[str, Any]:
        raise ValueError(name)

    for thread_id, last in ((f"w {name}", wait), (f"f {name}", fail)):
        builder = StateGraph(MessagesState).add_node("ask", ask).add_node("last", last)
        graph = builder.add_edge(START, "ask").add_edge("ask", "last").compile(checkpointer=saver)
        try:
            graph.invoke({"messages": [HumanMessage(name, name=name)]}, {"configurable": {"thread_id": thread_id}})
        except ValueError:
            assert last is fail
    memory = RedisMemoryService(server=server, prefix=prefix)
    memory.append_to_history(name, name, {"role": "user", "content": name})
    history = RedisChatMessageHistory(name, name, server=server, prefix=prefix)
    history.add_messages([HumanMessage(name, name=name), AIMessage(name, name=name)])
    store = RedisStore(server=server, prefix=prefix)
    store.put(("a", "b"), name, {name: [name]})
    report = {"status": bad, "text": bad, "reason": bad, "left_out": [bad], "released": bad, "citations": []}
    cited = {"number": bad, "title": bad, "cited_text": bad, "page": bad, "document": bad}
    result = {
        "messages": [HumanMessage(bad), AIMessage(bad, name=bad)],
        "decision": {"groups": [bad, "energy"], "source": bad, "reason": bad},
        "reports": {bad: report, "energy": {**report, "citations": [cited]}},
        "synthesis": {"agreements": [f"{bad}!"], "conflicts": [f"{bad}?"], "missing": {bad: bad}, "text": bad},
    }
    return {
        "saver": saver,
        "row": saver.waiting()[0],
        "difference": saver.diff(f"w {name}"),
        "waiting": saver.thread(f"w {name}"),
        "failed": saver.thread(f"f {name}"),
        "memory": memory,
        "history": history,
        "store": store,
        "result": SupervisorResult(result),
        "group": TWG("bad", bad, bad, {"en": [bad], bad: [bad]}, bad),
        "decision": RouteDecision(
            (bad,),
            bad,
            bad,
            scores={bad: 0.4},
            words=(FoundWord(bad, 0, len(bad), bad),),
            nearest=bad,
            taken_over=TakenOver((bad,), 0, bad),
            question=bad,
            thresholds=(0.3, 0.5),
        ),
        "decision without a question": RouteDecision((bad,), bad, bad, words=(FoundWord(bad, 0, 3, bad),)),
    }


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_what_people_and_models_write_is_text(running: RunningServer, number: int) -> None:
    """A display shows any text of a message, a name, a value or an error as text, never as HTML."""
    server = Server.from_url(running.url)
    try:
        for name, one in hostile_objects(server, f"hostile{number}", HOSTILE[number]).items():
            html = one._repr_html_()
            text = nothing_unsafe_in(html).text
            assert MARKER in text, name
            assert "can't be shown" not in text, (name, text)
            html.encode()
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", html)
    finally:
        server.close()


class Broken(TWG):
    """A group that can't even be printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_a_display_never_raises() -> None:
    """If the server is gone or an object is broken, the display says so instead of raising."""
    gone = RedisSaver.from_url("redis://127.0.0.1:1/0")
    for one in (gone, gone.thread("t")):
        text = nothing_unsafe_in(one._repr_html_() or "").text
        assert "It can't be shown now. RedisUnavailableError" in text
    broken = Broken("a", "b", "c")
    object.__setattr__(broken, "terms", 7)
    object.__setattr__(broken, "prompt", 7)
    told = bundle_of(broken)["text/plain"]
    assert "Broken object" in told
    assert "It can't be shown now. TypeError" in told
    assert SupervisorResult({"messages": 3, "decision": 4, "reports": 5})._repr_html_()


def test_a_display_reads_a_bounded_amount(running: RunningServer) -> None:
    """The display of a saver or a memory service takes no more commands where four times as much is stored."""
    server = Server.from_url(running.url)
    client = server.client
    costs = []
    for prefix, threads in (("few", 25), ("many", 100)):
        saver = RedisSaver(server=server, prefix=prefix)
        graph = StateGraph(MessagesState).add_node("echo", lambda _: {"messages": [AIMessage("yes")]})
        compiled = graph.add_edge(START, "echo").compile(checkpointer=saver)
        for number in range(threads):
            compiled.invoke({"messages": [("user", "?")]}, {"configurable": {"thread_id": str(number)}})
        memory = RedisMemoryService(server=server, prefix=prefix)
        for number in range(threads):
            memory.append_to_history("energy", str(number), {"role": "user", "content": "?"})
        before = client.info("stats")["total_commands_processed"]
        assert saver._repr_html_()
        assert memory._repr_html_()
        costs.append(client.info("stats")["total_commands_processed"] - before)
    server.close()
    assert costs[1] <= costs[0] + 2


async def test_sync_objects_show_themselves_in_a_running_loop(running: RunningServer) -> None:
    """Notebooks run an event loop; a display of a sync object works there all the same."""
    saver = RedisSaver.from_url(running.url, prefix="shown")
    assert "can't be shown" not in (saver._repr_html_() or "can't be shown")
    saver.close()


def test_displays_are_loaded_when_they_are_needed() -> None:
    """Using a saver or a group imports no display module."""
    code = (
        "import sys; from ecowas_lc import RedisSaver, TWG, RouteDecision; TWG('a', 'b', 'c');"
        "late = ('ecowas_lc.display', 'ecowas_lc.drawing', 'pandas', 'IPython');"
        "print([name for name in sys.modules if name.startswith(late)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_results_are_dicts(shown: dict[str, dict[str, Any]]) -> None:
    """A run's result is a dict in every way that programs use it."""
    result = SupervisorResult({"decision": {"groups": []}})
    assert isinstance(result, dict)
    assert json.loads(json.dumps(result)) == {"decision": {"groups": []}}
    assert {**result} == result
    formats = PlainTextFormatter()
    assert formats(SupervisorResult({"messages": [HumanMessage("Rooms?")]})).startswith("Answer")
    assert formats([result]) == "[{'decision': {'groups': []}}]"


def test_displays_fit_and_can_be_read(shown: dict[str, dict[str, Any]], running: RunningServer) -> None:
    """At 900 pixels nothing is wider than its cell and text stands out, light and dark, with and without styles.

    Hostile text does not run, and no display asks the network for anything.
    """
    server = Server.from_url(running.url)
    pages = {name: bundle["text/html"] for name, bundle in shown.items() if "text/html" in bundle}
    bad = "".join(HOSTILE[:7])
    pages |= {f"hostile {name}": one._repr_html_() for name, one in hostile_objects(server, "wide", bad).items()}
    long = "x" * 3_000
    pages["long"] = SupervisorResult(
        {"messages": [HumanMessage(long), AIMessage(long, name=long)], "decision": {"groups": [long]}}
    )._repr_html_()
    server.close()
    problems: dict[str, Any] = {}
    requests: list[str] = []
    with browser() as opened:
        for scheme in ("light", "dark"):
            page = opened.new_page(viewport={"width": 900, "height": 600}, color_scheme=scheme)
            page.on("request", lambda request: requests.append(request.url))
            page.add_init_script(f"window.{MARKER} = () => {{ window.marker7ran = 1 }}")
            for name, html in pages.items():
                for styled in (True, False):
                    body = html if styled else html.split("</style>", 1)[1]
                    ground = "#fff" if scheme == "light" or not styled else "#111"
                    page.set_content(f"<!doctype html><body style='background:{ground}'>{body}")
                    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                    found = page.evaluate(MEASURE)
                    if styled and (found["wide"] or found["faint"] or found["scroll"] > 0):
                        problems[f"{name} {scheme}"] = found
                    assert not found["ran"], name
    assert problems == {}
    assert [url for url in requests if not url.startswith(("about:", "data:"))] == []


def test_markdown_of_a_model_is_shown() -> None:
    """Headings, lists, quotations, code and emphasis are shown as such; brackets and tags stay text."""
    parts = prose("# Plan\n- coast\n1. *now*\n> said [1]\n```\n<b>\n```\none\ntwo **bold** [x](y)")
    shown = [ET.tostring(part, encoding="unicode") for part in parts]
    assert shown == [
        "<p><strong>Plan</strong></p>",
        "<ul><li>coast</li></ul>",
        "<ol><li><em>now</em></li></ol>",
        "<blockquote><p>said [1]</p></blockquote>",
        "<p><code>&lt;b&gt;</code></p>",
        "<p>one<br />two <strong>bold</strong> [x](y)</p>",
    ]
