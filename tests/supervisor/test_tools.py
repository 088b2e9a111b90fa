"""Tools of a group: used if the model can, skipped if not, never in an endless loop."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import InjectedState, InjectedStore, ToolRuntime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt
from ollama import ResponseError
from pydantic import BaseModel, ConfigDict

from ecowas_lc.errors import AsyncToolError, InvalidInputError, LoopBudgetError, SupervisorError
from ecowas_lc.supervisor import build_supervisor, tool_graph
from tests.fixtures.scripted_model import Answer, FixedRouter, Script, ScriptedModel, by_speaker
from tests.supervisor.conftest import Ask, Graph, Stream, in_thread


@tool
def tariff(country: str) -> str:
    """Look up a country's electricity tariff."""
    if country == "Atlantis":
        raise LookupError("no such country")
    return f"{country}: 0.13 USD/kWh"


def calling(name: str = "tariff", **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"call-{json.dumps(args)}"}])


def results(messages: list[BaseMessage]) -> list[ToolMessage]:
    return [message for message in messages if isinstance(message, ToolMessage)]


def supervisor(script: Script, *, can: bool = True, **options: Any) -> tuple[Graph, ScriptedModel]:
    model = ScriptedModel(script=script, tools=can)
    options.setdefault("tools", {"energy": [tariff]})
    return build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), **options), model


def test_a_group_uses_its_tools(ask: Ask) -> None:
    """The model's calls are executed, their results shown to it, and the thread has only the final answer."""

    def energy(messages: list[BaseMessage]) -> Answer:
        found = results(messages)
        return f"It is {found[-1].text}." if found else calling(country="Ghana")

    graph, model = supervisor(by_speaker({"energy": energy}))
    result = ask(graph, "energy: what does power cost?")
    assert result["messages"][-1].text == "It is Ghana: 0.13 USD/kWh."
    assert result["reports"]["energy"]["tools"] == "used"
    assert result["reports"]["energy"]["model_calls"] == len(model.calls) == 2
    assert len(graph.get_state(in_thread("t")).values["messages"]) == 2


def test_tools_belong_to_their_group_alone(ask: Ask) -> None:
    """Another group is asked without them."""
    graph, _ = supervisor(by_speaker({}))
    assert ask(graph, "digital: a?")["reports"]["digital"]["tools"] == "none"
    assert ask(graph, "energy: a?")["reports"]["energy"]["tools"] == "unused"


def test_plain_functions_are_tools_too(ask: Ask) -> None:
    """A function with a docstring and types becomes a tool."""

    def half(number: int) -> int:
        """Halve a number."""
        return number // 2

    def energy(messages: list[BaseMessage]) -> Answer:
        found = results(messages)
        return found[-1].text if found else calling("half", number=8)

    graph, _ = supervisor(by_speaker({"energy": energy}), tools={"energy": [half]})
    assert ask(graph, "energy: a?")["messages"][-1].text == "4"


def test_a_tools_failure_is_told_to_the_model(ask: Ask) -> None:
    """A failing or unknown tool does not prevent an answer: the model may try something else."""

    def energy(messages: list[BaseMessage]) -> Answer:
        found = results(messages)
        if not found:
            return calling(country="Atlantis")
        if len(found) == 1:
            return calling("price", country="Ghana")
        return " ".join(message.text for message in found)

    graph, _ = supervisor(by_speaker({"energy": energy}))
    text = ask(graph, "energy: a?")["messages"][-1].text
    assert "LookupError: no such country" in text
    assert "price is not a valid tool, try one of [tariff]" in text


def test_without_support_for_tools_the_group_answers_and_says_so(ask: Ask) -> None:
    """A model that can't bind tools answers without them, and the answer says so."""
    graph, model = supervisor(by_speaker({"energy": "About 0.13 USD."}), can=False)
    result = ask(graph, "energy: what does power cost?")
    assert result["messages"][-1].text == (
        "About 0.13 USD.\n\n(Answered without tools: the model can't call any.)"
    )
    assert result["reports"]["energy"]["tools"] == "unavailable"
    assert "You have no tools" in model.calls[-1][0].text


class Refusing(ScriptedModel):
    """Accepts tools, but its server replies that the model does not support them, as Ollama does."""

    refusals: int = 0

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        self._refuse(kwargs)
        return super()._stream(messages, *args, **kwargs)

    def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        self._refuse(kwargs)
        return super()._astream(messages, *args, **kwargs)

    def _refuse(self, kwargs: dict[str, Any]) -> None:
        if kwargs.get("tools"):
            self.refusals += 1
            raise ResponseError("registry.ollama.ai/library/tiny does not support tools", 400)


@pytest.mark.parametrize(
    "question", ["energy: quel est le prix de l'électricité ?", "energy: qual é o preço da energia?"]
)
def test_a_server_that_refuses_tools_is_asked_once(ask: Ask, question: str) -> None:
    """The refusal is remembered, and the note is in the language of the question."""
    model = Refusing(script=by_speaker({"energy": "0,13."}), tools=True)
    graph = build_supervisor(model, router=FixedRouter(), tools={"energy": [tariff]})
    for _ in range(2):
        text = ask(graph, question)["messages"][-1].text
    assert ("sans outils" if "électricité" in question else "sem ferramentas") in text
    assert model.refusals == 1


def test_the_note_is_heard(stream: Stream) -> None:
    """The token stream also says that there were no tools, under the group's label."""
    graph, _ = supervisor(by_speaker({"energy": "About 0.13 USD."}), can=False)
    parts = stream(graph, "energy: a?", stream_mode="messages")
    assert "".join(chunk.text for chunk, _ in parts).endswith(
        "(Answered without tools: the model can't call any.)"
    )
    assert {metadata["twg"] for _, metadata in parts} == {"energy"}
    assert len({chunk.id for chunk, _ in parts}) == 1


def test_going_round_in_circles_ends(ask: Ask) -> None:
    """The very same call again and again is a named error; the state is intact and the next question answered."""
    graph, model = supervisor(
        by_speaker(
            {"energy": lambda messages: "Yes." if "second" in messages[-1].text else calling(country="Mali")}
        )
    )
    with pytest.raises(LoopBudgetError, match=r"energy.*same step.*tariff.*Mali"):
        ask(graph, "energy: first?")
    assert len(model.calls) == 3
    state = graph.get_state(in_thread("t")).values
    assert [message.text for message in state["messages"]] == ["energy: first?"]
    assert ask(graph, "energy: second?")["messages"][-1].text == "Yes."


def test_never_coming_to_an_end_ends(ask: Ask) -> None:
    """Ever new calls end at the budget of model calls."""

    def energy(messages: list[BaseMessage]) -> Answer:
        return calling(country=f"Country {len(messages)}")

    graph, model = supervisor(by_speaker({"energy": energy}), max_hops=5)
    with pytest.raises(LoopBudgetError, match="5 model calls"):
        ask(graph, "energy: a?")
    assert len(model.calls) == 5


def test_one_groups_loop_does_not_lose_the_others(ask: Ask) -> None:
    """A group in a loop is a missing view like any other failure."""
    graph, _ = supervisor(by_speaker({"energy": lambda messages: calling(country="Mali")}))
    result = ask(graph, "energy+digital: a?")
    assert result["reports"]["energy"]["error"] == "LoopBudgetError"
    assert result["messages"][-1].text.startswith("digital speaks.")


def test_a_tool_may_ask_the_user(ask: Ask) -> None:
    """A tool that interrupts pauses the run; after resuming, its result is the user's reply."""

    @tool
    def confirm() -> str:
        """Ask the user to confirm."""
        return f"user said {interrupt('May I?')}"

    def energy(messages: list[BaseMessage]) -> Answer:
        found = results(messages)
        return found[-1].text if found else calling("confirm")

    graph, _ = supervisor(by_speaker({"energy": energy}), tools={"energy": [confirm]}, group_timeout=5)
    ask(graph, "energy: a?")
    assert [i.value for i in graph.get_state(in_thread("t")).interrupts] == ["May I?"]
    assert ask(graph, Command(resume="yes"))["messages"][-1].text == "user said yes"


def test_two_tools_of_one_name_are_refused() -> None:
    """Two tools of a group must not share a name."""
    with pytest.raises(InvalidInputError, match="same name"):
        supervisor(by_speaker({}), tools={"energy": [tariff, tariff]})


def test_tools_get_what_langgraph_passes_to_them(ask: Ask) -> None:
    """The state, the store and the runtime reach a tool behind the model's back; a Command updates the turn."""

    @tool
    def look(
        city: str,
        state: Annotated[dict[str, Any], InjectedState],
        store: Annotated[BaseStore, InjectedStore()],
        runtime: ToolRuntime,
    ) -> Command[Any]:
        """Look at a city."""
        told = f"{city} {len(state['messages'])} {store.get(('a',), 'b').value['c']}"  # type: ignore[union-attr]
        return Command(update={"messages": [ToolMessage(told, tool_call_id=runtime.tool_call_id)]})

    def energy(messages: list[BaseMessage]) -> Answer:
        found = results(messages)
        return found[-1].text if found else calling("look", city="Accra")

    store = InMemoryStore()
    store.put(("a",), "b", {"c": "stored"})
    graph, _ = supervisor(by_speaker({"energy": energy}), tools={"energy": [look]}, store=store)
    assert ask(graph, "energy: a?")["messages"][-1].text == "Accra 2 stored"
    without, model = supervisor(by_speaker({"energy": energy}), tools={"energy": [look]})
    with pytest.raises(InvalidInputError, match=r"'look'.*store"):
        ask(without, "energy: a?")
    assert model.calls == []


def test_what_can_not_work_is_refused_when_the_graph_is_built() -> None:
    """A tool that wants a part of the state that a group does not have can never work."""

    @tool
    def wants(city: str, mood: Annotated[str, InjectedState("mood")]) -> str:
        """Look at a city."""
        return city + mood

    with pytest.raises(InvalidInputError, match="'mood'"):
        supervisor(by_speaker({}), tools={"energy": [wants]})


def test_a_tool_that_only_works_asynchronously() -> None:
    """It works in async runs; a sync one says what to use, before a model is asked."""

    async def price(city: str) -> str:
        return f"{city}: 7"

    only = StructuredTool.from_function(coroutine=price, name="price", description="The price in a city.")

    def energy(messages: list[BaseMessage]) -> Answer:
        found = results(messages)
        return found[-1].text if found else calling("price", city="Accra")

    graph, model = supervisor(by_speaker({"energy": energy}), tools={"energy": [only]})
    with pytest.raises(AsyncToolError, match="ainvoke"):
        graph.invoke({"messages": [("user", "energy: a?")]}, in_thread("t"))
    assert model.calls == []
    result = asyncio.run(graph.ainvoke({"messages": [("user", "energy: a?")]}, in_thread("u")))
    assert result["messages"][-1].text == "Accra: 7"


def test_what_was_approved_is_what_runs(ask: Ask) -> None:
    """The model is not asked again, other calls of its message run once, and a failed turn continues."""
    ran: list[str] = []

    @tool
    def pay(to: str) -> str:
        """Pay a person, after another has agreed."""
        agreed = interrupt(f"Pay {to}?")
        ran.append(f"paid {to}")
        return f"paid {to}: {agreed}"

    @tool
    def note(text: str) -> str:
        """Write something down."""
        ran.append(f"noted {text}")
        return "noted"

    asked_models: list[int] = []

    def energy(messages: list[BaseMessage]) -> Answer:
        asked_models.append(1)
        if results(messages):
            return "Done." if len(asked_models) > 2 else RuntimeError("the server went away")
        whom = "Accra" if len(asked_models) == 1 else "Mallory"
        return AIMessage(
            "",
            tool_calls=[
                {"name": "note", "args": {"text": "a"}, "id": "c1"},
                {"name": "pay", "args": {"to": whom}, "id": "c2"},
            ],
        )

    graph, _ = supervisor(by_speaker({"energy": energy}), tools={"energy": [pay, note]})
    ask(graph, "energy: a?")
    assert [one.value for one in graph.get_state(in_thread("t")).interrupts] == ["Pay Accra?"]
    with pytest.raises(SupervisorError, match="went away"):
        ask(graph, Command(resume="yes"))
    assert ask(graph, None)["messages"][-1].text == "Done."
    assert sorted(ran) == ["noted a", "paid Accra"]


@tool(return_direct=True)
def quote(city: str) -> str:
    """Quote a tariff."""
    return f"{city}: 12 cents"


def test_a_tool_may_give_the_answer_itself(ask: Ask) -> None:
    """The results of tools with ``return_direct`` are the group's answer; the model is not asked again."""
    asked: list[int] = []

    def script(messages: list[BaseMessage]) -> Answer:
        asked.append(len(messages))
        calls = [{"name": "quote", "args": {"city": city}, "id": city} for city in ("Lomé", "Accra")]
        return AIMessage("", tool_calls=calls)

    graph, _ = supervisor(script, tools={"energy": [quote]})
    result = ask(graph, "energy: tariffs?")
    assert result["reports"]["energy"]["text"] == "Lomé: 12 cents\n\nAccra: 12 cents"
    assert len(asked) == 1


class Odd:
    """A type that JSON schema does not know."""


def test_a_tool_that_no_model_can_be_told_about_is_refused() -> None:
    """A tool whose arguments can't be described is an error when the graph is built."""

    def look(at: Odd) -> str:
        """Look."""
        return str(at)

    class Args(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        at: Odd

    odd = StructuredTool.from_function(look, args_schema=Args)
    with pytest.raises(InvalidInputError, match="can't be described to a model"):
        supervisor(by_speaker({}), tools={"energy": [odd]})


def test_arguments_that_do_not_fit_are_told_to_the_model(ask: Ask) -> None:
    """The model is told what its call lacks, and may still answer."""

    def script(messages: list[BaseMessage]) -> Answer:
        if isinstance(messages[-1], ToolMessage):
            return f"It failed: {messages[-1].text}"
        return calling("tariff", town="Lomé")

    graph, _ = supervisor(script)
    assert "country" in ask(graph, "energy: tariffs?")["reports"]["energy"]["text"]


def test_a_tool_that_wants_a_store_needs_one() -> None:
    """Without a store, the graph is not built, and the error says how to pass one."""

    @tool
    def recall(city: str, store: Annotated[Any, InjectedStore()]) -> str:
        """Recall a city."""
        return city

    with pytest.raises(InvalidInputError, match="needs a store, but there is none"):
        tool_graph.check_tools("energy", {"recall": recall}, has_store=False)
