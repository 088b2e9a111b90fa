"""Honest synthesis: a small model's output is used only as far as it can be trusted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt

from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.synthesis import Digest, Sources, figures_in
from tests.fixtures.scripted_model import Answer, FixedRouter, ScriptedModel, by_speaker, speaker_of
from tests.supervisor.conftest import Ask, Graph

REPORTS: dict[str, Any] = {
    "energy": "The Dorsale Nord costs 684 million USD. It runs for 875 km.",
    "digital": "Fibre can share its pylons. That saves 1 250 km of trench.",
}
GOOD: dict[str, Any] = {
    "views": {"energy": "The line costs 684 million USD.", "digital": "Fibre saves 1,250 km of trench."},
    "agreements": ["One corridor serves both."],
    "conflicts": ["Who owns the pylons."],
    "open_questions": ["Who maintains the fibre?"],
    "answer": "Build both at once.",
}


def supervisor(synthesis: Any, *, structured: bool = True, **options: Any) -> tuple[Graph, ScriptedModel]:
    model = ScriptedModel(script=by_speaker({**REPORTS, "synthesis": synthesis}), structured=structured)
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), **options)
    return graph, model


def test_figures_that_nobody_gave_are_left_out(ask: Ask) -> None:
    """A figure in a synthesis comes from a group or from the user; the rest is kept out of text and lists."""
    made = {
        **GOOD,
        "agreements": ["Both want 99 substations.", "One corridor serves both."],
        "answer": "Build both in 2026. It costs 12,000 million USD. The line is 875 km long.",
    }
    graph, _ = supervisor(made)
    result = ask(graph, "energy+digital: what by 2026?")
    synthesis = result["synthesis"]
    assert synthesis["agreements"] == ["One corridor serves both."]
    assert "**In short**: Build both in 2026. The line is 875 km long." in synthesis["text"]
    assert synthesis["left_out"] == ["Both want 99 substations.", "It costs 12,000 million USD."]
    for invented in ("99", "12,000"):
        assert invented not in result["messages"][-1].text


def test_a_view_with_foreign_figures_gives_way_to_the_groups_own_words(ask: Ask) -> None:
    """A group is never quoted with another group's figure: its first sentence is used instead."""
    made = {**GOOD, "views": {"energy": "Fibre saves 1 250 km.", "digital": "Share the pylons."}}
    graph, _ = supervisor(made)
    views = ask(graph, "energy+digital: a?")["synthesis"]["views"]
    assert views == {"energy": "The Dorsale Nord costs 684 million USD.", "digital": "Share the pylons."}


@pytest.mark.parametrize("view", ["energy", "Energy & Infrastructure.", "The view of Energy & Infrastructure."])
def test_a_view_that_only_names_the_group_gives_way_to_its_own_words(ask: Ask, view: str) -> None:
    """Weak models write a group's name instead of its view: that is no view, and no agreement either."""
    made = {
        **GOOD,
        "views": {**GOOD["views"], "energy": view},
        "agreements": ["energy", "One corridor serves both."],
    }
    graph, _ = supervisor(made)
    synthesis = ask(graph, "energy+digital: a?")["synthesis"]
    assert synthesis["views"]["energy"] == "The Dorsale Nord costs 684 million USD."
    assert synthesis["agreements"] == ["One corridor serves both."]


@pytest.mark.parametrize(
    "form",
    [
        {"views": {"energy": "", "digital": "none"}, "agreements": ["N/A"], "answer": ""},
        {"views": "yes", "agreements": "no", "conflicts": [1, None], "answer": 7},
        {"views": {"energy": "2023-12-24", "digital": "2023-12-24"}, "answer": "2023-12-24"},
        {},
    ],
)
def test_a_form_filled_with_nothing_leaves_the_groups_answers(ask: Ask, form: dict[str, Any]) -> None:
    """If nothing of the form is usable, the answers follow one another under the groups' names."""
    graph, model = supervisor(form)
    result = ask(graph, "energy+digital: a?")
    assert result["synthesis"]["form"] == "reports"
    text = result["messages"][-1].text
    for part in ("Energy & Infrastructure", "Digital Economy", *REPORTS.values()):
        assert part in text
    assert [speaker_of(prompt) for prompt in model.calls].count("synthesis") == 1


def test_prose_is_taken_where_no_form_can_be_had(ask: Ask) -> None:
    """A model without structured output writes prose; groups it does not name are named all the same."""
    graph, model = supervisor("Energy & Infrastructure wants the line. It needs 77 MW.", structured=False)
    result = ask(graph, "energy+digital: a?")
    synthesis = result["synthesis"]
    assert synthesis["form"] == "text"
    assert result["messages"][-1].text == (
        "Energy & Infrastructure wants the line.\n\n"
        "**Digital Economy & Transformation**: Fibre can share its pylons."
    )
    assert synthesis["left_out"] == ["It needs 77 MW."]
    assert synthesis["agreements"] == synthesis["conflicts"] == synthesis["open_questions"] == []
    assert model.formats == [None, None, None]


def test_nonsense_instead_of_a_form_is_followed_by_prose(ask: Ask) -> None:
    """A model that breaks the form is asked once more, for prose; after that it is not asked again."""
    graph, model = supervisor("blah")
    result = ask(graph, "energy+digital: a?")
    assert result["synthesis"]["form"] == "text"
    assert result["messages"][-1].text.startswith("blah")
    assert [speaker_of(prompt) for prompt in model.calls].count("synthesis") == 2


@pytest.mark.parametrize("structured", [True, False])
def test_a_model_that_fails_costs_no_answer(ask: Ask, structured: bool) -> None:
    """If no synthesis can be made, all answers of the groups are still passed on."""
    graph, _ = supervisor(RuntimeError("boom"), structured=structured)
    result = ask(graph, "energy+digital: a?")
    assert result["synthesis"]["form"] == "reports"
    assert REPORTS["energy"] in result["messages"][-1].text
    assert REPORTS["digital"] in result["messages"][-1].text


def test_a_form_that_was_cut_off_is_used_as_far_as_it_goes(ask: Ask) -> None:
    """Without room for the whole form its complete parts count, half sentences do not."""
    cut = json.dumps(GOOD)[: json.dumps(GOOD).index("Who maintains") + 8]
    graph, _ = supervisor(cut)
    result = ask(graph, "energy+digital: a?")
    assert result["synthesis"]["conflicts"] == ["Who owns the pylons."]
    assert result["synthesis"]["open_questions"] == []
    assert "Who main" not in result["messages"][-1].text


def test_long_answers_still_fit_together(ask: Ask) -> None:
    """Six long answers are shortened evenly for the model; the state keeps them whole."""
    ids = ["energy", "agriculture", "minerals", "digital", "protocol", "resource_mobilization"]
    long = "word " * 900
    model = ScriptedModel(
        script=by_speaker({**dict.fromkeys(ids, long), "synthesis": {**GOOD, "views": {}}}), structured=True
    )
    graph = build_supervisor(model, router=FixedRouter(), num_ctx=4096)
    result = ask(graph, "+".join(ids) + ": all?")
    assert result["synthesis"]["form"] == "structured"
    [prompt] = [prompt for prompt in model.calls if speaker_of(prompt) == "synthesis"]
    assert prompt[1].text.count("[…]") == 6
    assert result["reports"]["energy"]["text"] == long.strip()


@pytest.mark.parametrize(
    ("question", "heading", "missing"),
    [
        ("energy+digital+protocol: quel est le coût de la ligne ?", "Points d'accord", "Il manque l'avis de"),
        ("energy+digital+protocol: qual é o custo da linha?", "Pontos de acordo", "Falta o parecer de"),
        ("energy+digital+protocol: what does the line cost?", "Agreements", "Missing: the view of"),
    ],
)
def test_the_graphs_own_words_are_in_the_users_language(
    ask: Ask, question: str, heading: str, missing: str
) -> None:
    """Headings and notes follow the language of the question."""
    script: dict[str, Any] = {**REPORTS, "protocol": RuntimeError("boom"), "synthesis": GOOD}
    model = ScriptedModel(script=by_speaker(script), structured=True)
    text = ask(build_supervisor(model, router=FixedRouter()), question)["messages"][-1].text
    assert heading in text
    assert f"{missing} Protocol & Logistics" in text


def partials(value: Any) -> list[dict[str, Any]]:
    """Return what a parser of growing JSON yields while ``value`` is being written."""
    from langchain_core.utils.json import parse_partial_json

    text = json.dumps(value, ensure_ascii=False)
    found: list[dict[str, Any]] = []
    for end in range(1, len(text) + 1):
        try:
            part = parse_partial_json(text[:end])
        except ValueError:
            continue
        if isinstance(part, dict):
            found.append(part)
    return found


sentence = st.sampled_from(
    ["", "none", "Build it.", "In 2019. Then wait.", "It costs 684 million USD.", 'A "quote"']
)


@given(st.tuples(sentence, sentence), st.tuples(*[st.lists(sentence, max_size=3)] * 3), sentence)
def test_what_was_said_is_never_taken_back(
    views: tuple[str, str], lists: tuple[list[str], list[str], list[str]], answer: str
) -> None:
    """While a synthesis is streamed, each version begins with the previous one, and the last one is stored."""
    value: dict[str, Any] = {
        "views": dict(zip(("energy", "digital"), views, strict=True)),
        **dict(zip(("agreements", "conflicts", "open_questions"), lists, strict=True)),
        "answer": answer,
    }
    digest = Digest("Why?", REPORTS, {"energy": "Energy", "digital": "Digital"}, {}, "A note.", "en")
    said = ""
    for part in partials(value):
        text = digest.text(part, complete=False)
        assert text.startswith(said)
        said = text
    final = digest.text(value, complete=True)
    assert final.startswith(said)
    synthesis = digest.synthesis(value)
    assert (synthesis["text"] if synthesis else "") == final


@pytest.mark.parametrize(
    ("source", "text", "supported"),
    [
        ("684 million", "684 million", True),
        ("1 250 km", "1,250 km", True),
        ("1,250 km", "1 250 km", True),
        ("1.250,5", "1,250.5", True),
        ("no figure", "one of 3", True),
        ("no figure", "2026", False),
        ("330 kV and 225 kV", "330 225 kV", True),
        ("14:05", "14:50", False),
    ],
)
def test_figures_are_compared_however_they_are_written(source: str, text: str, supported: bool) -> None:
    """Signs between the digits differ from language to language; single digits are words."""
    assert Sources([source]).support(text) is supported


def test_figures_in_a_text() -> None:
    """Bare digits, two at least."""
    assert figures_in("In 2026, 1,250 km; 3 of 16 states") == {"2026", "1250", "16"}


def test_a_failing_group_is_not_named_as_agreeing(ask: Ask) -> None:
    """The form that the model fills has no place for a group that did not answer."""

    def synthesis(messages: list[Any]) -> Answer:
        return GOOD

    script: dict[str, Any] = {**REPORTS, "minerals": RuntimeError("boom"), "synthesis": synthesis}
    model = ScriptedModel(script=by_speaker(script), structured=True)
    ask(build_supervisor(model, router=FixedRouter()), "energy+digital+minerals: a?")
    [schema] = [schema for schema in model.formats if schema]
    assert list(schema["properties"]["views"]["properties"]) == ["energy", "digital"]


def test_prose_in_which_every_figure_is_invented_leaves_the_groups_answers(ask: Ask) -> None:
    """If a model has no structured output and its prose can't be trusted, the groups' answers remain."""
    graph, _ = supervisor("It costs 99 billion.", structured=False)
    synthesis = ask(graph, "energy+digital: what?")["synthesis"]
    assert synthesis["form"] == "reports"
    assert "684 million" in synthesis["text"]


@pytest.mark.parametrize("structured", [True, False])
def test_a_pause_in_the_synthesis_is_a_pause_of_the_run(ask: Ask, structured: bool) -> None:
    """A model that asks a person through langgraph does not count as failed."""
    graph, _ = supervisor(lambda _: interrupt("May I?"), structured=structured)
    assert [one.value for one in ask(graph, "energy+digital: what?")["__interrupt__"]] == ["May I?"]
