"""OpenTelemetry: the spans of a turn, and nothing at all unless the application has set it up."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.types import Command, interrupt
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ecowas_lc import _telemetry
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import history_factory
from ecowas_lc.llm import make_chat_model
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.ollama_stub import OllamaStub, serving_stub
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker
from tests.fixtures.servers import RunningServer

SOLAR = "energy: which solar tariffs are there?"
SECRET = "s3cret-tariff"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that an application with OpenTelemetry would export."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # as set_tracer_provider does, which works once
    return exporter


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Ask for content, as the settings do."""

    def wanted() -> None:
        monkeypatch.setenv("ECOWAS_LC_TELEMETRY_CONTENT", "true")
        get_settings.cache_clear()

    yield wanted
    get_settings.cache_clear()
    _telemetry.keep_content(wanted=False)


@pytest.fixture(scope="module")
def ollama() -> Iterator[OllamaStub]:
    with serving_stub() as stub:
        yield stub


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def run(graph: Any, given: Any, thread: str = "t") -> Any:
        config: Any = {"configurable": {"thread_id": thread}}
        given = {"messages": [("user", given)]} if isinstance(given, str) else given
        if request.param == "sync":
            return graph.invoke(given, config)
        return asyncio.run(graph.ainvoke(given, config))

    return run


def tree(exporter: InMemorySpanExporter) -> dict[str, Any]:
    """The spans by name, nested; those of Redis are left out, because they depend on how much is stored."""
    found = exporter.get_finished_spans()
    children: dict[int | None, list[ReadableSpan]] = {}
    for each in found:
        children.setdefault(each.parent.span_id if each.parent else None, []).append(each)

    def below(parent: int | None) -> dict[str, Any]:
        here = sorted(children.get(parent, ()), key=lambda each: each.name)
        return {each.name: below(each.context.span_id) for each in here if not of_redis(each)}

    return below(None)


def of_redis(span: ReadableSpan) -> bool:
    return "db.system.name" in (span.attributes or {})


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    [found] = [each for each in exporter.get_finished_spans() if each.name == name]
    return found


def graph_on(server: RunningServer, prefix: str, model: Any, **options: Any) -> Any:
    return build_supervisor(
        model,
        router=FixedRouter(),
        checkpointer=RedisSaver.from_url(server.url, prefix=prefix),
        history_factory=history_factory(url=server.url, prefix=prefix),
        **options,
    )


def test_the_spans_of_a_turn(
    redis_server: RunningServer,
    prefix: str,
    spans: InMemorySpanExporter,
    ollama: OllamaStub,
    ask: Callable[..., Any],
) -> None:
    """Turn, route, groups, model calls and checkpoints nest, with the attributes of the GenAI conventions."""
    model = make_chat_model(Settings(ollama_base_url=ollama.url, ollama_model="tiny", _env_file=None))
    ask(graph_on(redis_server, prefix, model), SOLAR)
    assert tree(spans) == {
        "invoke_agent ecowas_supervisor": {"invoke_agent energy": {"chat tiny": {}}, "route": {}}
    }
    turn = named(spans, "invoke_agent ecowas_supervisor")
    assert turn.attributes is not None
    assert turn.attributes["gen_ai.conversation.id"] == "t"
    assert turn.attributes["gen_ai.operation.name"] == "invoke_agent"
    route = named(spans, "route")
    assert route.attributes is not None
    assert route.attributes["ecowas.groups"] == ("energy",)
    chat = named(spans, "chat tiny")
    assert chat.kind is trace.SpanKind.CLIENT
    assert chat.attributes is not None
    told = dict(chat.attributes)
    assert told["gen_ai.provider.name"] == "ollama"
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "tiny"
    assert told["gen_ai.usage.input_tokens"] == 7
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert ollama.url == f"http://{told['server.address']}:{told['server.port']}"


def test_checkpoints_and_histories_are_part_of_the_turn(
    redis_server: RunningServer, prefix: str, spans: InMemorySpanExporter, ask: Callable[..., Any]
) -> None:
    """Each operation on Redis names its package and operation, under the turn or one of its nodes."""
    model = ScriptedModel(script=by_speaker({}))
    ask(graph_on(redis_server, prefix, model), SOLAR)
    found = spans.get_finished_spans()
    [turn] = [each for each in found if each.parent is None]
    assert turn.name == "invoke_agent ecowas_supervisor"
    stored = [each for each in found if of_redis(each)]
    assert {"checkpoint put", "checkpoint get_tuple"} <= {each.name for each in stored}
    assert any(each.name.startswith(("memory ", "history ")) for each in stored)
    assert {each.context.trace_id for each in stored} == {turn.context.trace_id}
    for each in stored:
        assert each.attributes is not None
        assert each.attributes["db.system.name"] == "redis"
        assert each.kind is trace.SpanKind.CLIENT


@tool
def tariff(country: str) -> str:
    """Look up a tariff."""
    if country == "Atlantis":
        raise LookupError(SECRET)
    return f"{country}: 13 cents"


def calling(messages: list[Any]) -> Any:
    found = [message for message in messages if isinstance(message, ToolMessage)]
    if found:
        return "Done."
    countries = ("Ghana", "Atlantis")
    calls = [{"name": "tariff", "args": {"country": name}, "id": name, "type": "tool_call"} for name in countries]
    return AIMessage("", tool_calls=calls)


def test_tools_are_spans_of_their_group(
    redis_server: RunningServer, prefix: str, spans: InMemorySpanExporter, ask: Callable[..., Any]
) -> None:
    """Each tool call is a span under its group, a failed one is marked, and answers are as without spans."""
    model = ScriptedModel(script=by_speaker({"energy": calling}), tools=True)
    result = ask(graph_on(redis_server, prefix, model, tools={"energy": [tariff]}), SOLAR)
    assert result["messages"][-1].text == "Done."
    [turn] = tree(spans).values()
    assert "execute_tool tariff" in turn["invoke_agent energy"]
    calls = [each for each in spans.get_finished_spans() if each.name == "execute_tool tariff"]
    told = {each.attributes["gen_ai.tool.call.id"]: each.attributes for each in calls if each.attributes}
    assert told.keys() == {"Ghana", "Atlantis"}
    assert ("error.type" in told["Ghana"], told["Atlantis"]["error.type"]) == (False, "tool_error")


class Passages:
    """Documents without any."""

    def search(self, query: str, *, group: str | None = None) -> list[Any]:
        return []

    async def asearch(self, query: str, *, group: str | None = None) -> list[Any]:
        return []


def test_a_search_for_passages_is_a_span(
    redis_server: RunningServer, prefix: str, spans: InMemorySpanExporter, ask: Callable[..., Any]
) -> None:
    """Retrieval is a span of its group, with the number of passages."""
    model = ScriptedModel(script=by_speaker({}))
    ask(graph_on(redis_server, prefix, model, documents=Passages()), SOLAR)
    found = [each for each in spans.get_finished_spans() if each.name == "retrieval documents"]
    assert found
    assert all((each.attributes or {})["ecowas.passages"] == 0 for each in found)
    assert "retrieval documents" in tree(spans)["invoke_agent ecowas_supervisor"]["invoke_agent energy"]


@tool
def permit(country: str) -> str:
    """Ask a person."""
    return str(interrupt(f"May {country}?"))


def asking(messages: list[Any]) -> Any:
    if any(isinstance(message, ToolMessage) for message in messages):
        return "Done."
    return AIMessage(
        "", tool_calls=[{"name": "permit", "args": {"country": "Ghana"}, "id": "a", "type": "tool_call"}]
    )


@pytest.mark.parametrize(
    "options", [{"interrupt_before_release": ["energy"]}, {"tools": {"energy": [permit]}}], ids=["release", "tool"]
)
def test_a_pause_is_no_error(
    redis_server: RunningServer,
    prefix: str,
    spans: InMemorySpanExporter,
    ask: Callable[..., Any],
    options: dict[str, Any],
) -> None:
    """A turn that waits for a reviewer, or a tool of a group that waits for a person, ends well."""
    model = ScriptedModel(script=by_speaker({"energy": asking} if "tools" in options else {}), tools=True)
    graph = graph_on(redis_server, prefix, model, **options)
    assert ask(graph, SOLAR)["__interrupt__"]
    ask(graph, Command(resume="approve"))
    found = spans.get_finished_spans()
    assert {each.status.status_code for each in found} == {trace.StatusCode.UNSET}
    assert not [each.name for each in found if "error.type" in (each.attributes or {})]


def test_a_failure_is_an_error(
    redis_server: RunningServer, prefix: str, spans: InMemorySpanExporter, ask: Callable[..., Any]
) -> None:
    """A failed group reports only the name of its error."""
    model = ScriptedModel(script=by_speaker({"protocol": lambda _: ValueError(SECRET)}))
    with pytest.raises(Exception, match=SECRET):
        ask(graph_on(redis_server, prefix, model), "protocol: who sits where?", "u")
    turn = named(spans, "invoke_agent ecowas_supervisor")
    assert turn.status.status_code is trace.StatusCode.ERROR
    group = named(spans, "invoke_agent protocol")
    assert group.attributes is not None
    assert group.attributes["ecowas.status"] == "failed"
    assert "error.type" in group.attributes
    assert SECRET not in everything(spans)


def everything(exporter: InMemorySpanExporter) -> str:
    return "\n".join(each.to_json() for each in exporter.get_finished_spans())


@pytest.mark.parametrize("kind", ["ollama", "another"])
def test_content_only_where_it_is_asked_for(
    redis_server: RunningServer,
    prefix: str,
    spans: InMemorySpanExporter,
    ollama: OllamaStub,
    content: Callable[[], None],
    ask: Callable[..., Any],
    kind: str,
) -> None:
    """Questions, answers and results are in no span, unless ``ECOWAS_LC_TELEMETRY_CONTENT`` is set."""

    def made() -> Any:
        if kind == "ollama":
            return make_chat_model(Settings(ollama_base_url=ollama.url, ollama_model="tiny", _env_file=None))
        return ScriptedModel(script=by_speaker({"energy": lambda _: "Good morning."}))

    ask(graph_on(redis_server, prefix, made()), f"energy: {SECRET}?", "quiet")
    assert SECRET not in everything(spans)
    assert "Good morning" not in everything(spans)
    content()
    ask(graph_on(redis_server, prefix, made()), f"energy: {SECRET}?", "loud")
    [chat] = [
        each
        for each in spans.get_finished_spans()
        if each.attributes and "gen_ai.input.messages" in each.attributes
    ]
    assert chat.attributes is not None
    assert SECRET in json.loads(str(chat.attributes["gen_ai.input.messages"]))[-1]["content"]
    assert json.loads(str(chat.attributes["gen_ai.output.messages"]))[0]["content"] == "Good morning."


async def test_a_stream_that_is_left_ends_its_spans(
    redis_server: RunningServer, prefix: str, spans: InMemorySpanExporter
) -> None:
    """Ending a stream early leaves no span open, and the caller's own span stays the current one."""
    tracer = trace.get_tracer_provider().get_tracer("application")
    model = ScriptedModel(script=by_speaker({}))
    graph = graph_on(redis_server, prefix, model)
    with tracer.start_as_current_span("request") as request:
        parts = graph.astream(
            {"messages": [("user", SOLAR)]}, {"configurable": {"thread_id": "t"}}, stream_mode="updates"
        )
        async for _ in parts:
            assert trace.get_current_span() is request
            break
        await parts.aclose()
        assert trace.get_current_span() is request
    turn = named(spans, "invoke_agent ecowas_supervisor")
    assert turn.parent is not None
    assert turn.parent.span_id == request.get_span_context().span_id
    assert turn.status.status_code is trace.StatusCode.UNSET


SET_UP = """
import sys
{set_up}
from langchain_core.language_models import FakeListChatModel
from langgraph.checkpoint.memory import InMemorySaver
from ecowas_lc import build_supervisor
graph = build_supervisor(FakeListChatModel(responses=["Yes."]), router="lexical", checkpointer=InMemorySaver())
graph.invoke({{"messages": [("user", "Which solar plants are there?")]}}, {{"configurable": {{"thread_id": "t"}}}})
"""
MISSING = "for name in ('opentelemetry', 'opentelemetry.trace'): sys.modules[name] = None"
PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
trace.set_tracer_provider(provider)
"""
SPANS = ["route", "chat FakeListChatModel", "invoke_agent energy", "invoke_agent ecowas_supervisor"]


@pytest.mark.parametrize(("set_up", "said"), [("", []), (MISSING, []), (PROVIDER, SPANS)], ids=len)
def test_spans_are_made_where_the_application_wants_them(set_up: str, said: list[str]) -> None:
    """A provider that the application sets up gets the spans; without one, or without the library, all works."""
    code = SET_UP.format(set_up=set_up)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, " ".join(said).split()), done.stderr


def test_the_library_is_not_imported_here() -> None:
    """If the application has not imported OpenTelemetry, a span does not import it either."""
    code = (
        "import sys\nfrom ecowas_lc import _telemetry\nwith _telemetry.span('turn', 'turn') as s: s.set(a=1)\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("provider", [None, trace.NoOpTracerProvider()], ids=["none", "no-op"])
def test_nobody_watching_costs_nothing(monkeypatch: pytest.MonkeyPatch, provider: Any) -> None:
    """Without a provider that does anything, no span is created, and streams are passed on unchanged."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    assert not _telemetry.is_watched()
    assert _telemetry.span("turn", "turn") is _telemetry.UNWATCHED
    parts = iter([1])
    assert _telemetry.followed("turn", "turn", parts) is parts
