"""Displays are safe with any content, readable everywhere, and never fail the user's cell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
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
    display,
)
from ecowas_lc.display import blocks, bundle_of, conversation_views, html_elements, routing_views, storage_views
from ecowas_lc.display.blocks import ago, duration, plain, prose
from ecowas_lc.storage.server import Server
from ecowas_lc.supervisor.evaluation.comparison import Comparison
from ecowas_lc.supervisor.routing.decision import FoundWord, TakenOver
from ecowas_lc.supervisor.routing.measurement import ModelMeasurement
from ecowas_lc.supervisor.supervisor_graph import SupervisorResult
from tests.display.pages import ATTRIBUTES, HOSTILE, MARKER, MEASURE, TAGS, Parsed, Restricted, browser, words
from tests.display.samples import samples
from tests.fixtures.servers import RunningServer, running_server
from tests.redis.writer import Writer


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


def test_a_difference_leaves_out_the_graphs_own_bookkeeping(shown: dict[str, dict[str, Any]]) -> None:
    """People see what changed in the conversation, not a digest by which the graph recognises its histories."""
    text = Parsed(shown["difference"]["text/html"]).text
    assert "messages" in text
    assert "synced" not in text


def test_values_of_any_kind_have_a_short_form() -> None:
    """Whatever a value is, a display shows it on one line, also if its own code fails."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert plain(b"abc") == "3 bytes"
    assert plain(Broken()) == "Broken object"
    assert plain({"a": [1, None, "x"]}) == "{a: [1, None, x]}"
    assert (duration(None), ago(None)) == ("never expires", "unknown")
    assert (duration(0.2), duration(5), duration(90), duration(200_000)) == ("200 ms", "5.0 s", "2 min", "2 d")
    assert "Broken object" in str(bundle_of(Broken()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("saver", ("summit-prep", "waiting in tools", "fetch failed", "waiting in release", "done")),
        ("thread", ("How can we finance", "route → energy + resource mobilization", "2 reports", "protocol")),
        (
            "thread-waiting",
            ("Waiting for a decision in tools", "book_room", "2026-03-04", "approve", "412 tokens in"),
        ),
        ("threads-row", ("book_room", "approve", "Waiting for a decision in tools")),
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
        ("result-waiting", ("Waiting for a decision", "reject")),
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


def test_what_is_too_long_or_named_twice_is_cut() -> None:
    """Long texts, lines and lists of mistakes end with how much is left; a word is marked once."""
    [*_, rest] = blocks.prose("x" * 30, most=10)
    assert "20 more characters" in str(html_elements._cell(rest))
    assert html_elements._fitted("word " * 100, 5)[-1].endswith("…")
    assert html_elements._inline(html_elements.element("br")) == "\n"
    words = [FoundWord("a", 0, 5, "energy"), FoundWord("b", 2, 5, "digital")]
    marked = routing_views.highlighted("solar power", words, blocks.Hues([]))
    assert str(html_elements._cell(marked)).count("(") <= 1


def test_a_picture_that_fails_is_a_plain_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell shows the error's kind and text."""
    monkeypatch.setattr(display, "_named", lambda _: 1)
    monkeypatch.setitem(display._PICTURES, "TakenOver", "x:y")
    assert "It can't be shown now. TypeError" in bundle_of(TakenOver(("energy",), 0, "q"))["text/plain"]


def test_views_of_little_and_of_much(running: RunningServer) -> None:
    """A thread and a history without contents, a difference without changes and one with many have a view each."""
    with RedisSaver.from_url(running.url, prefix="little") as saver:
        graph = StateGraph(MessagesState).add_node("a", lambda _: {}).add_edge(START, "a").compile(saver)
        graph.invoke({"messages": [("user", "Hello?")]}, {"configurable": {"thread_id": "t"}})
        assert "There is no such thread" in bundle_of(saver.thread("none"))["text/plain"]
        items = list(saver.list({"configurable": {"thread_id": "t"}}))
        state = graph.get_state(items[-1].config)
        graph.update_state(state.config, {"messages": [("user", "Another")]})
        assert "on other branches" in bundle_of(saver.thread("t"))["text/plain"]
        Writer(saver, "odd").put(messages="no list")
        [row] = [row for row in saver.threads() if row.id == "odd"]
        for display in (saver.thread("odd"), row):
            told = bundle_of(display)["text/plain"]
            assert "never expires" in told
            assert "message" not in told.partition("never expires")[0]
    history = RedisChatMessageHistory("energy", "none", url=running.url, prefix="little")
    assert "There are no messages yet." in bundle_of(history)["text/plain"]
    history.server.close()

    def texts(**channels: Any) -> str:
        shown = SimpleNamespace(thread="t", before=items[0], after=items[0], channels=channels)
        return html_elements.formats_of(*storage_views.difference(shown))["text/plain"]  # type: ignore[arg-type]

    change = SimpleNamespace(change="changed", before=1, after=2, added=None, removed=None)
    many = SimpleNamespace(change="changed", before=None, after=None, added=list(range(500)), removed=None)
    assert "No value changed." in texts()
    assert "− 1" in texts(count=change)
    assert "more items" in texts(many=many)


def test_a_turn_whose_beginning_was_not_read_is_left_out(
    running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long thread, the display shows the last turns that it read whole, and says so."""
    monkeypatch.setattr(storage_views, "MOST_CHECKPOINTS", 5)
    with RedisSaver.from_url(running.url, prefix="long") as saver:
        graph = StateGraph(MessagesState).add_node("a", lambda _: {"messages": [AIMessage("Yes.")]})
        compiled = graph.add_edge(START, "a").compile(saver)
        for number in range(3):
            compiled.invoke({"messages": [("user", f"{number}?")]}, {"configurable": {"thread_id": "t"}})
        told = bundle_of(saver.thread("t"))["text/plain"]
    assert "The last 1 turn of this thread." in told
    assert [f"{number}?" in told for number in range(3)] == [False, False, True]
    assert told.count("Yes.") == 1


def test_messages_with_sources_and_repeated_steps() -> None:
    """A source is listed once, whatever else the message holds; a step that ran again is counted."""
    notes = [{"type": "citation", "title": "A", "cited_text": "x", "extras": {"number": 1}}] * 2
    message = AIMessage(["text", {"type": "text", "text": "A", "annotations": [*notes, {"type": "other"}]}])
    [cited] = conversation_views.citations_of(message)
    assert (cited["number"], cited["title"]) == (1, "A")
    assert conversation_views.sources(["no source", cited, cited]) is not None
    assert "2" in conversation_views._folded(["a", "a"])[0]
    box = conversation_views.report_box("energy", {"status": "answered", "tools": "used"}, blocks.Hues())
    assert "used tools" in html_elements._cell(box)


def test_results_with_and_without_their_past() -> None:
    """Earlier messages are folded, a group's own sources are listed once, and odd values are left out."""
    said = [("human", "Before?"), ("ai", "Yes."), ("human", "Now?"), ("ai", "It is so.")]
    messages = [HumanMessage(text) if who == "human" else AIMessage(text) for who, text in said]
    cited = {"number": 1, "title": "Tariffs", "cited_text": "118 francs", "document": "d", "page": 3}
    shown: dict[str, Any] = {
        "messages": messages,
        "reports": {"energy": {"status": "answered", "text": "It is so.", "citations": [cited]}},
        "synthesis": "odd",
    }
    told = html_elements.formats_of(*conversation_views.result(shown))["text/plain"]
    assert "2 earlier messages" in told
    assert "Tariffs" in told
    assert conversation_views.synthesis_parts("odd", "") == []
    measured = ModelMeasurement("tiny", "digest", "words", 20, 18, 9)
    compared = html_elements.formats_of(*routing_views.comparison(Comparison({}, measured=measured)))["text/plain"]
    assert "tiny was asked 20 doubtful questions: right 18 times" in " ".join(compared.split())


def test_a_thread_is_shown_where_it_stands(running: RunningServer) -> None:
    """A thread that stopped before a step names the step; a changed message is shown once, in its current form."""
    with RedisSaver.from_url(running.url, prefix="stands") as saver:
        answer = AIMessage("First.", id="a")
        graph = StateGraph(MessagesState).add_node("a", lambda _: {"messages": [answer]})
        graph.add_node("b", lambda _: {"messages": [AIMessage("Second.", id="a")]})
        graph.add_edge(START, "a").add_edge("a", "b")
        on = graph.compile(saver, interrupt_before=["b"])
        place: Any = {"configurable": {"thread_id": "t"}}
        on.invoke({"messages": [("user", "Hello?")]}, place)
        assert html_elements._cell(storage_views._state(saver, saver.threads()[0])).count("before b") == 1
        on.invoke(None, place)
        told = bundle_of(saver.thread("t"))["text/plain"]
        assert "Second." in told
        assert "First." not in told
