"""With documents, groups answer from passages, and what no passage supports never gets into the thread."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document as Found
from langchain_core.retrievers import BaseRetriever
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc import Documents, RouteDecision, SupervisorAgent
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.supervisor import build_supervisor
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
    """The model's sentence stays with a mark, its invention goes, and the citation says where it stands."""
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


def test_an_unusable_answer_gives_way_to_quotations(ask: Ask, documents: Documents) -> None:
    """Whatever a small model makes of it, the documents' own words answer."""
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
    """Tokens are heard only once they have passed the check."""
    said = "The coastal line has a rated capacity of 420 MW. It belongs to Norvik Bank."
    graph, _ = graph_of(documents, "energy", says={"energy": said})
    heard = "".join(part[0].text for part in stream(graph, LINE, stream_mode="messages"))
    assert "420 MW" in heard
    assert "Norvik" not in heard


def test_several_groups_answers_stand_side_by_side(ask: Ask, documents: Documents) -> None:
    """Sources are numbered anew over all answers; a group whose documents do not answer is named as missing."""
    graph, _ = graph_of(documents, "energy", "minerals", says={})
    result = ask(graph, f"{LINE} {ROYALTY}")
    text = result["messages"][-1].text
    assert result["synthesis"]["form"] == "reports"
    for annotation in result["messages"][-1].content_blocks[0].get("annotations", []):
        assert f"[{annotation['extras']['number']}]" in text


def test_the_supervisor_declines_too(ask: Ask, documents: Documents) -> None:
    """A factual question for no group is answered from all documents or not at all; small talk is free."""
    graph, model = graph_of(documents, says={"supervisor": "Hello, how can I help?"})
    assert "420 MW" in ask(graph, LINE, "a")["messages"][-1].text
    assert ask(graph, "Who won the football cup of Lumeira in 2019?", "b")["messages"][-1].text.startswith(
        "The documents do not say."
    )
    asked = len(model.calls)
    assert ask(graph, "Good morning!", "c")["messages"][-1].text == "Hello, how can I help?"
    assert len(model.calls) == asked + 1


def test_a_retriever_will_do(ask: Ask) -> None:
    """Any LangChain retriever gives passages, for one group or for all."""

    class Fixed(BaseRetriever):
        def _get_relevant_documents(self, query: str, **_: Any) -> list[Found]:
            return [Found("The mill of Esra grinds 40 tonnes a day.", metadata={"source": "mill.txt"})]

    graph, _ = graph_of({"agriculture": Fixed()}, "agriculture", says={"agriculture": "It grinds 400 tonnes."})
    message = ask(graph, "How many tonnes does the mill of Esra grind a day?")["messages"][-1]
    assert "40 tonnes" in message.text
    assert message.content_blocks[0]["annotations"][0]["extras"]["file"] == "mill.txt"


def test_the_thread_keeps_the_passages(ask: Ask, documents: Documents) -> None:
    """A fork or a resumed run rests on the passages that were found when the question was asked."""
    graph, _ = graph_of(documents, "energy", says={"energy": "420 MW."})
    ask(graph, LINE)
    kept: Graph = graph
    reports = kept.get_state(in_thread("t")).values["reports"]
    assert any("420 MW" in passage["text"] for passage in reports["energy"]["passages"])


def test_bad_arguments_are_named() -> None:
    """What are no documents, and a mode that does not exist, are refused when the graph is built."""
    with pytest.raises(ConfigurationError, match="no documents"):
        graph_of(object(), "energy")
    with pytest.raises(ConfigurationError, match="grounding="):
        graph_of({}, "energy", grounding="loose")


def test_the_supervisor_as_an_agent(documents: Documents) -> None:
    """``SupervisorAgent`` takes documents as the graph does."""
    model = ScriptedModel(script=by_speaker({"energy": "It has 999 MW."}))
    agent = SupervisorAgent(model=model, router=Chosen("energy"), documents=documents)
    assert "420 MW" in agent.smart_chat(LINE)
