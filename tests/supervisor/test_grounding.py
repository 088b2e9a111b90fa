"""With documents, groups answer from passages, and unsupported statements never get into the thread."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document as Found
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc import Documents, RouteDecision, SupervisorAgent
from ecowas_lc.agents import create_energy_agent, create_supervisor
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.nodes import ALLOWED
from ecowas_lc.supervisor.routing.decision import TakenOver
from ecowas_lc.twg import TWG, default_groups
from tests.documents.conftest import DOSSIER
from tests.fixtures.scripted_model import ScriptedModel, by_speaker
from tests.fixtures.servers import RunningServer
from tests.supervisor.conftest import Ask, Graph, Stream, in_thread

LINE = "What is the rated capacity of the coastal line?"
ROYALTY = "What is the royalty on lithium concentrate in Talvera?"


class Chosen:
    """A router that always chooses the same groups."""

    def __init__(self, *groups: str) -> None:
        self._decision = RouteDecision(groups, "test", "chosen")

    def route(self, question: str) -> RouteDecision:
        return self._decision

    async def aroute(self, question: str) -> RouteDecision:
        return self._decision


@pytest.fixture
def documents(redis_server: RunningServer, prefix: str) -> Documents:
    found = Documents.from_url(redis_server.url, prefix=prefix)
    found.add(DOSSIER / "energy_interconnection_2025.md", DOSSIER / "minerals_lithium_2025.md")
    return found


def graph_of(documents: Any, *groups: str, says: dict[str, Any] | None = None, **options: Any) -> Any:
    model = ScriptedModel(script=by_speaker(says or {}))
    graph = build_supervisor(
        model, router=Chosen(*groups), documents=documents, checkpointer=InMemorySaver(), **options
    )
    return graph, model


def test_what_is_supported_stays_with_its_source(ask: Ask, documents: Documents) -> None:
    """A supported sentence stays with a mark, an invented one is removed, and the citation has its position."""
    said = "The coastal line has a rated capacity of 420 MW. It will be doubled to 840 MW."
    graph, _ = graph_of(documents, "energy", says={"energy": said})
    result = ask(graph, LINE)
    message = result["messages"][-1]
    assert message.text == "The coastal line has a rated capacity of 420 MW. [1]"
    [block] = message.content_blocks
    [annotation] = block["annotations"]
    assert annotation["title"].startswith("Status of the Maroa interconnection")
    assert block["text"][annotation["start_index"] : annotation["end_index"]] in said
    report = result["reports"]["energy"]
    assert report["left_out"] == ["It will be doubled to 840 MW."]
    assert annotation["extras"]["file"] in {passage["file"] for passage in report["passages"]}


def test_what_is_not_supported_can_be_marked_instead(ask: Ask, documents: Documents) -> None:
    """With ``grounding="flag"``, sentences without a source stay in the answer and are marked."""
    said = "The coastal line has a rated capacity of 420 MW. It will be doubled to 840 MW."
    graph, _ = graph_of(documents, "energy", says={"energy": said}, grounding="flag")
    text = ask(graph, LINE)["messages"][-1].text
    assert text == f"{said.replace('. ', '. [1] ')} (not supported by the documents)"


def test_an_unusable_answer_gives_way_to_quotations(ask: Ask, documents: Documents) -> None:
    """Whatever a small model writes, the documents' own words answer."""
    graph, _ = graph_of(documents, "energy", says={"energy": "Energy is the future of all member states."})
    assert "420 MW" in ask(graph, LINE)["messages"][-1].text


def test_what_the_documents_do_not_say_is_declined(ask: Ask, documents: Documents) -> None:
    """No model is asked, nothing is claimed, and the closest documents are named in the question's language."""
    graph, model = graph_of(documents, "energy", says={"energy": "It costs 12 million."})
    result = ask(graph, "Combien coûte la ligne entre Talvera et Mirabu ?")
    assert result["messages"][-1].text.startswith("Les documents ne le disent pas.")
    assert result["reports"]["energy"]["declined"]
    assert model.calls == []


def test_nothing_unchecked_is_streamed(stream: Stream, documents: Documents) -> None:
    """Tokens are streamed only once they have passed the check."""
    said = "The coastal line has a rated capacity of 420 MW. It belongs to Norvik Bank."
    graph, _ = graph_of(documents, "energy", says={"energy": said})
    heard = "".join(part[0].text for part in stream(graph, LINE, stream_mode="messages"))
    assert "420 MW" in heard
    assert "Norvik" not in heard


def test_several_groups_answers_stand_side_by_side(ask: Ask, documents: Documents) -> None:
    """Each group answers the question that is its own; sources are renumbered over all answers."""
    royalty = "The royalty on lithium concentrate in Talvera is 6 per cent of the value. It ends soon."
    graph, _ = graph_of(documents, "energy", "minerals", says={"energy": "", "minerals": royalty})
    result = ask(graph, f"{LINE} {ROYALTY}")
    [block] = result["messages"][-1].content_blocks
    text = block["text"]
    assert result["synthesis"]["form"] == "reports"
    assert [report["text"].count("[1]") for report in result["reports"].values()] == [1, 1]
    assert "It ends soon" not in text
    first, second = block["annotations"]
    for number, (annotation, figure) in enumerate([(first, "420 MW"), (second, "6 per cent")], 1):
        assert annotation["extras"]["number"] == number
        cited = text[annotation["start_index"] : annotation["end_index"]]
        assert figure in cited
        assert text[annotation["end_index"] :].startswith(f" [{number}]")
    assert text.count("[1]") == text.count("[2]") == 1
    assert text.index("420 MW") < text.index("6 per cent")


def test_other_groups_documents_are_searched_before_declining(ask: Ask, documents: Documents) -> None:
    """If a question goes to the wrong group, the documents of the right one answer, unless that group is held."""
    graph, _ = graph_of(documents, "agriculture", says={"agriculture": "Nothing."})
    report = ask(graph, LINE)["reports"]["agriculture"]
    assert "420 MW" in report["text"]
    assert report["passages"][0]["file"] == "energy_interconnection_2025.md"
    held, _ = graph_of(documents, "agriculture", interrupt_before_release=["energy"])
    report = ask(held, LINE)["reports"]["agriculture"]
    assert report["declined"]
    assert "420 MW" not in report["text"]


@pytest.mark.parametrize("chosen", [(), ("agriculture",)], ids=["supervisor", "a group"])
def test_no_answer_uses_what_the_user_may_not_read(chosen: tuple[str, ...], documents: Documents) -> None:
    """A user who may ask certain groups gets nothing from documents that only others may read."""
    graph, _ = graph_of(documents, *chosen)
    for number, (allowed, is_answered) in enumerate(((["agriculture"], False), (["agriculture", "energy"], True))):
        config: Any = {"configurable": {"thread_id": str(number), ALLOWED: allowed}}
        result = graph.invoke({"messages": [("user", LINE)]}, config)
        assert ("420 MW" in result["messages"][-1].text) is is_answered
        [report] = result["reports"].values()
        assert is_answered or not report["passages"]


def test_the_supervisor_declines_too(ask: Ask, documents: Documents) -> None:
    """A factual question for no group is answered from all documents or not at all; small talk claims nothing."""
    graph, model = graph_of(documents, says={"supervisor": "Hello! The summit of Lumeira cost 9 million."})
    assert "420 MW" in ask(graph, LINE, "a")["messages"][-1].text
    assert ask(graph, "Who won the football cup of Lumeira in 2019?", "b")["messages"][-1].text.startswith(
        "The documents do not say."
    )
    asked = len(model.calls)
    for number, small_talk in enumerate(["Good morning!", "How are you?", "Write me a poem about the sea."]):
        answer = ask(graph, small_talk, f"c{number}")["messages"][-1].text
        assert answer == "Happy to help. What would you like to know from the documents?"
    assert len(model.calls) == asked
    flagging, _ = graph_of(documents, says={"supervisor": "Hello!"}, grounding="flag")
    assert ask(flagging, "Good morning!", "d")["messages"][-1].text == "Hello!"


@pytest.mark.parametrize(
    ("thanks", "answer"),
    [
        ("Thank you!", "Happy to help."),
        ("Merci beaucoup, c'est parfait.", "À votre service."),
        ("Muito obrigada pela ajuda!", "Ao dispor."),
    ],
)
def test_thanks_for_an_answer_are_not_answered_from_documents(
    ask: Ask, documents: Documents, thanks: str, answer: str
) -> None:
    """A turn that only thanks is not completed with the question before it, and claims nothing."""
    graph, _ = graph_of(documents, says={"supervisor": "You are welcome. The line has 999 MW."})
    assert "420 MW" in ask(graph, LINE, "a")["messages"][-1].text
    assert ask(graph, thanks, "a")["messages"][-1].text.startswith(answer)
    assert "420 MW" in ask(graph, f"{thanks} {LINE}", "a")["messages"][-1].text


def test_a_retriever_will_do(ask: Ask) -> None:
    """Any LangChain retriever can supply passages, for one group or for all."""

    class Fixed(BaseRetriever):
        def _get_relevant_documents(self, query: str, **_: Any) -> list[Found]:
            return [Found("The mill of Esra grinds 40 tonnes a day.", metadata={"source": "mill.txt"})]

    graph, _ = graph_of({"agriculture": Fixed()}, "agriculture", says={"agriculture": "It grinds 400 tonnes."})
    message = ask(graph, "How many tonnes does the mill of Esra grind a day?")["messages"][-1]
    assert "40 tonnes" in message.text
    assert message.content_blocks[0]["annotations"][0]["extras"]["file"] == "mill.txt"


def test_the_thread_keeps_the_passages(ask: Ask, documents: Documents) -> None:
    """A fork or a resumed run uses the passages that were found when the question was asked."""
    graph, _ = graph_of(documents, "energy", says={"energy": "420 MW."})
    ask(graph, LINE)
    kept: Graph = graph
    reports = kept.get_state(in_thread("t")).values["reports"]
    assert any("420 MW" in passage["text"] for passage in reports["energy"]["passages"])


def test_bad_arguments_are_named() -> None:
    """Objects that are not documents, and an unknown mode, are refused when the graph is built."""
    with pytest.raises(ConfigurationError, match="can't be used as documents"):
        graph_of(object(), "energy")
    with pytest.raises(ConfigurationError, match="grounding="):
        graph_of({}, "energy", grounding="loose")


def test_the_supervisor_as_an_agent(documents: Documents) -> None:
    """``SupervisorAgent`` takes documents as the graph does."""
    model = ScriptedModel(script=by_speaker({"energy": "It has 999 MW."}))
    agent = SupervisorAgent(model=model, router=Chosen("energy"), documents=documents)
    assert "420 MW" in agent.smart_chat(LINE)


def test_the_factories_take_documents(documents: Documents) -> None:
    """Agents from the factories answer from documents, and keep their citations."""
    model = ScriptedModel(script=by_speaker({"energy": "It has 999 MW."}))
    assert "420 MW" in create_supervisor(model=model, router=Chosen("energy"), documents=documents).smart_chat(
        LINE
    )
    agent = create_energy_agent(model=model, documents=documents)
    assert "420 MW" in agent.chat(LINE)
    [block] = agent.history[-1]["content"]
    assert block["annotations"][0]["title"].startswith("Status of the Maroa")
    assert agent.chat("What did the line to Norvik cost?").startswith("The documents do not say.")


def test_an_agent_reads_documents_without_blocking(documents: Documents) -> None:
    """``achat`` of an agent with documents returns the checked answer, as ``chat`` does."""
    agent = create_energy_agent(model=ScriptedModel(script=by_speaker({})), documents=documents)
    assert "420 MW" in asyncio.run(agent.achat(LINE))


class Mill(BaseRetriever):
    """One passage about a mill."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Found]:
        return [Found("The mill of Esra grinds 40 tonnes a day.", metadata={"source": "mill.txt"})]


def with_own_documents(documents: Any, group: str = "agriculture") -> list[TWG]:
    return [replace(one, documents=documents) if one.id == group else one for one in default_groups()]


def test_a_group_has_documents_of_its_own(ask: Ask, documents: Documents) -> None:
    """``TWG(documents=…)`` come before those for all groups, and work without them."""
    mill = "How many tonnes does the mill of Esra grind a day?"
    for for_all in (None, documents):
        graph, _ = graph_of(for_all, "agriculture", groups=with_own_documents(Mill()))
        assert "40 tonnes" in ask(graph, mill)["messages"][-1].text
        says_it = "420 MW" in ask(graph, LINE, "other")["messages"][-1].text
        assert says_it == (for_all is not None), "before it declines, it searches those of all groups"


def test_documents_are_named_once() -> None:
    """Documents that are passed twice for a group, or are not documents, are refused when the graph is built."""
    with pytest.raises(ConfigurationError, match="both have documents for agriculture"):
        graph_of({"agriculture": Mill()}, "agriculture", groups=with_own_documents(Mill()))
    with pytest.raises(ConfigurationError, match="can't be used as documents"):
        graph_of(None, "agriculture", groups=with_own_documents("mill.txt"))


class Claiming:
    """An agent that claims something."""

    def chat(self, prompt: str) -> str:
        return "It has 999 MW."


def tell_time() -> str:
    """Return the time."""
    return "noon"


@pytest.mark.parametrize(
    "bypass", [{"tools": {"energy": [tell_time]}}, {"agents": {"energy": Claiming()}}], ids=["tools", "agent"]
)
def test_no_group_bypasses_its_documents(bypass: dict[str, Any], documents: Documents) -> None:
    """A group that would answer without its documents is refused by name; without documents it is accepted."""
    for given, groups in (
        (documents, None),
        ({"energy": documents}, None),
        (None, with_own_documents(documents, "energy")),
    ):
        with pytest.raises(ConfigurationError, match=r"'energy' has documents and .* by group id"):
            graph_of(given, "energy", groups=groups, **bypass)
    graph_of({"minerals": documents}, "energy", **bypass)


def test_no_registered_agent_bypasses_its_documents(documents: Documents) -> None:
    """``register_agent`` refuses an agent for a group with documents, and the supervisor is unchanged."""
    model = ScriptedModel(script=by_speaker({"energy": "It has 999 MW."}))
    agent = SupervisorAgent(model=model, router=Chosen("energy"), documents=documents)
    with pytest.raises(ConfigurationError, match="'energy' has documents"):
        agent.register_agent("energy", Claiming())
    assert "420 MW" in agent.smart_chat(LINE)


@pytest.mark.parametrize("chosen", [("energy",), ()], ids=["group", "supervisor"])
def test_a_removed_document_is_in_no_later_answer(documents: Documents, chosen: tuple[str, ...]) -> None:
    """A removed document appears in no search or conversation again, whatever the model repeats."""

    def parrot(messages: list[Any]) -> str:
        return "As I said: " + " ".join(message.text for message in messages[1:-1])

    model = ScriptedModel(script=by_speaker({"energy": parrot, "supervisor": parrot}))
    router = Chosen(*chosen)
    agent = SupervisorAgent(model=model, router=router, documents=documents)
    assert "420 MW" in agent.smart_chat(LINE)
    removed = next(one for one in documents.all() if "interconnection" in one.title)
    documents.remove(removed.id)
    assert "420" not in agent.smart_chat(LINE)
    assert "420" not in agent.smart_chat("Please repeat what you told me before.")
    assert all("420" not in message.text for messages in model.calls[1:] for message in messages)


def test_nor_is_it_in_answers_without_documents(ask: Ask, documents: Documents) -> None:
    """A thread continued in a graph without documents does not repeat statements that rested on them."""
    graph, _ = graph_of(documents, "energy", says={"energy": "420 MW."})
    ask(graph, LINE)
    model = ScriptedModel(script=by_speaker({}))
    later = build_supervisor(model, router=Chosen("energy"), checkpointer=graph.checkpointer)
    ask(later, "And what was that again?")
    assert all("420" not in message.text for message in model.calls[-1])
    assert any(LINE in message.text for message in model.calls[-1])


TARIFFS = """# Household tariffs (fictional)

Date: 14 May 2025

The household tariff in Sorano was 61 maros per kWh in 2025.
The household tariff in Sorano was 57 maros per kWh in 2024.
The household tariff in Kandu was 83 maros per kWh in 2025.
The royalty on lithium concentrate in Talvera is 6.5 per cent.
"""


@pytest.fixture
def tariffs(redis_server: RunningServer, prefix: str, tmp_path: Path) -> Documents:
    (tmp_path / "tariffs.md").write_text(TARIFFS, encoding="utf-8")
    found = Documents.from_url(redis_server.url, prefix=prefix)
    found.add(tmp_path / "tariffs.md")
    return found


@pytest.mark.parametrize("chosen", [("energy",), ()], ids=["group", "supervisor"])
@pytest.mark.parametrize(
    ("first", "follow_up", "answer"),
    [
        ("What was the household tariff in Sorano in 2025?", "And in 2024?", "57 maros"),
        ("Quel était le tarif domestique à Sorano en 2025 ?", "et pour le Kandu ?", "83 maros"),
        ("Qual era a tarifa doméstica em Kandu em 2025?", "e em Sorano?", "61 maros"),
    ],
    ids=["en", "fr", "pt"],
)
def test_follow_ups_are_searched_with_their_subject(
    ask: Ask, tariffs: Documents, chosen: tuple[str, ...], first: str, follow_up: str, answer: str
) -> None:
    """A follow-up is answered only from passages about the subject that it leaves out."""
    graph, _ = graph_of(tariffs, *chosen)
    ask(graph, first)
    text = ask(graph, follow_up)["messages"][-1].text
    assert answer in text
    assert text.count("maros") == 1


def test_a_new_subject_takes_nothing_over(ask: Ask, tariffs: Documents) -> None:
    """After any conversation, a self-contained question is answered as if it came first."""
    graph, _ = graph_of(tariffs, "energy")
    alone = ask(graph, ROYALTY, "alone")["messages"][-1].text
    ask(graph, "What was the household tariff in Sorano in 2025?")
    assert ask(graph, ROYALTY)["messages"][-1].text == alone
    assert "6.5 per cent" in alone


def test_a_follow_up_goes_on_with_the_turn_that_the_router_names(ask: Ask, tariffs: Documents) -> None:
    """If the router names the earlier turn that is taken up again, that turn completes the question."""

    class Back(Chosen):
        def route(self, question: str, *, conversation: Any = ()) -> RouteDecision:
            taken = TakenOver(("energy",), 0, conversation[0].question) if len(conversation) > 1 else None
            return RouteDecision(("energy",), "test", "chosen", taken_over=taken)

        async def aroute(self, question: str, *, conversation: Any = ()) -> RouteDecision:
            return self.route(question, conversation=conversation)

    graph = build_supervisor(
        ScriptedModel(script=by_speaker({})), router=Back(), documents=tariffs, checkpointer=InMemorySaver()
    )
    ask(graph, "What was the household tariff in Sorano in 2025?")
    ask(graph, ROYALTY)
    assert "57 maros" in ask(graph, "And in 2024?")["messages"][-1].text


def test_an_agent_completes_follow_ups(tariffs: Documents) -> None:
    """Agents of single groups complete follow-ups from their own conversation."""
    agent = create_energy_agent(model=ScriptedModel(script=by_speaker({})), documents=tariffs)
    agent.chat("What was the household tariff in Sorano in 2025?")
    assert "57 maros" in agent.chat("And in 2024?")


SENTENCES = (
    "The coastal line has a rated capacity of 420 MW.",
    "It belongs to Norvik Bank.",
    "Losses on the coastal line were 3.8 per cent in April 2025.",
    "**Repairs cost 2.6 million maros.**",
    "1. The line is operated by the Maroa Power Board under a concession of 25 years.",
    "Losses were 9.9 per cent [3].",
    "<think>Is it 999 MW? It is 999 MW.</think>",
    "The line is not in service",
)
INVENTED = ("Norvik", "9.9", "999", "not in service")


@pytest.mark.parametrize("letters", [False, True], ids=["words", "letters"])
@pytest.mark.parametrize("seed", range(4))
def test_each_streamed_text_is_part_of_the_final_answer(
    stream: Stream, documents: Documents, seed: int, letters: bool
) -> None:
    """Whatever a model streams, in whatever pieces, the streamed text is the answer, and all of it is checked."""
    chance = random.Random(seed)
    for number in range(3):
        chosen = chance.sample(SENTENCES, chance.randint(1, len(SENTENCES)))
        said = "".join(one + chance.choice((" ", "\n", "\n\n")) for one in chosen)
        graph, model = graph_of(documents, "energy", says={"energy": said})
        model.letters = letters
        heard: dict[str, str] = {}
        for message, _ in stream(graph, LINE, str(number), stream_mode="messages"):
            heard[message.id] = heard.get(message.id, "") + message.text
            assert not [one for one in INVENTED if one in heard[message.id]], said
        final = graph.get_state(in_thread(str(number))).values["messages"][-1]
        assert {message: text for message, text in heard.items() if text} == {final.id: final.text}, said


def test_a_sentence_is_heard_as_soon_as_it_has_passed(stream: Stream, documents: Documents) -> None:
    """A checked answer is streamed sentence by sentence, each with its mark."""
    graph, _ = graph_of(documents, "energy", says={"energy": f"{SENTENCES[0]} {SENTENCES[1]} {SENTENCES[2]}"})
    heard = [part[0].text for part in stream(graph, LINE, stream_mode="messages") if part[0].text]
    assert heard == [f"{SENTENCES[0]} [1]", f" {SENTENCES[2]} [2]"]


def test_a_model_that_does_not_stream_is_checked_too(stream: Stream, documents: Documents) -> None:
    """If a model returns its answer as a whole, the checked part is streamed."""

    class Whole(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "whole"

        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            answer = AIMessage(f"{SENTENCES[0]} {SENTENCES[1]}")
            return ChatResult(generations=[ChatGeneration(message=answer)])

    graph = build_supervisor(Whole(), router=Chosen("energy"), documents=documents, checkpointer=InMemorySaver())
    heard = "".join(part[0].text for part in stream(graph, LINE, stream_mode="messages"))
    assert heard == f"{SENTENCES[0]} [1]"


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_cached_answer_is_not_asked_for_again(documents: Documents, way: str) -> None:
    """A repeated question is answered from the cache of answers, checked and streamed like the first one."""
    graph, model = graph_of(
        documents,
        "energy",
        says={"energy": "The coastal line has a rated capacity of 420 MW. It will be doubled."},
    )
    model.cache = InMemoryCache()
    heard = []
    for thread in ("a", "b"):
        given, used = {"messages": [("user", LINE)]}, in_thread(thread)
        if way == "sync":
            pieces = [piece for piece, _ in graph.stream(given, used, stream_mode="messages")]
        else:

            async def streamed(given: Any = given, used: Any = used) -> list[Any]:
                return [piece async for piece, _ in graph.astream(given, used, stream_mode="messages")]

            pieces = asyncio.run(streamed())
        heard.append("".join(piece.text for piece in pieces if isinstance(piece, AIMessageChunk)))
    assert heard == ["The coastal line has a rated capacity of 420 MW. [1]"] * 2
    assert len(model.calls) == 1
