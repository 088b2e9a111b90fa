"""The default router: the installed methods, and a model only if it helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecowas_lc.errors import ConfigurationError, EmptyQuestionError
from ecowas_lc.supervisor.evaluation import evaluate, measure_model, save_measurement
from ecowas_lc.supervisor.routing import ROUTERS, Router, get_router, hybrid
from ecowas_lc.supervisor.routing.hybrid import HybridRouter
from ecowas_lc.supervisor.routing.measurement import (
    ModelMeasurement,
    groups_digest,
    load_measurement,
    measurements_file,
)
from ecowas_lc.twg import LabelledQuestion, default_groups, evaluation_set

from .bag_of_words import BagOfWords, BrokenEmbeddings
from .own_groups import HEALTH
from .scripted import Scripted

ANSWER = '{"groups": ["minerals"]}'


@pytest.fixture(scope="module")
def offline() -> HybridRouter:
    return HybridRouter()


@pytest.fixture(scope="module")
def unsure(offline: HybridRouter) -> LabelledQuestion:
    """A question on which words and meaning are unsure, as some always are."""
    questions = (*evaluation_set("dev"), *evaluation_set("validation"))
    return next(question for question in questions if offline.weigh(question.question).is_unsure)


@pytest.fixture
def words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hybrid, "offline_installed", lambda: False)


def measured(cheap_router: str, *, model_right: int, cheap_right: int) -> ModelMeasurement:
    return ModelMeasurement(
        model="Scripted scripted:1b",
        groups=groups_digest(default_groups()),
        cheap_router=cheap_router,
        asked=20,
        model_right=model_right,
        cheap_right=cheap_right,
    )


@pytest.mark.parametrize(("name", "micro_f1", "exact_set"), [("dev", 0.98, 0.96), ("validation", 0.94, 0.91)])
def test_it_routes_best_offline(offline: Router, name: str, micro_f1: float, exact_set: float) -> None:
    """Words and meaning together do better than either, and better than the product promises."""
    report = evaluate(offline, evaluation_set(name))
    assert report.micro_f1 >= micro_f1
    assert report.exact_set >= exact_set
    assert report.sources == {"semantic": report.n}


@pytest.mark.parametrize(
    "question",
    [
        "Hi!",
        "Thank you so much for everything.",
        "Bonsoir, qui êtes-vous ?",
        "Muito obrigado pela ajuda",
        "What is this summit about?",
        "Quels pays font partie de la CEDEAO ?",
        "Quantos grupos de trabalho existem?",
        "Who painted the Mona Lisa?",
        "Écris un poème sur la mer",
        "Quem ganhou o jogo de futebol?",
        "What is the square root of 81?",
    ],
)
def test_general_questions_go_to_no_group(offline: Router, question: str) -> None:
    """Greetings, thanks, general questions about the summit and off-topic ones go to the supervisor."""
    assert offline.route(question).groups == ()


async def test_both_ways_to_ask_agree(offline: Router) -> None:
    """``aroute`` equals ``route``; the reason shows words and meaning."""
    question = "Who pays for rural electrification?"
    decision = await offline.aroute(question)
    assert decision == offline.route(question)
    assert "words found: " in decision.reason
    assert "nearest: " in decision.reason
    for empty in ("", " \n"):
        with pytest.raises(EmptyQuestionError):
            await offline.aroute(empty)
        with pytest.raises(EmptyQuestionError):
            offline.route(empty)


@pytest.mark.usefixtures("words_only")
async def test_without_embeddings_it_is_the_lexical_router() -> None:
    """Without any extra, the words decide, without an error."""
    router, words = get_router("hybrid"), get_router("lexical")
    for question in evaluation_set("dev"):
        decision = words.route(question.question)
        assert router.route(question.question) == await router.aroute(question.question) == decision


async def test_failing_embeddings_leave_the_words() -> None:
    """A server that is down costs quality, never the answer."""
    router = get_router("hybrid", embeddings=BrokenEmbeddings())
    for decision in (router.route("solar power"), await router.aroute("solar power")):
        assert (decision.groups, decision.source) == (("energy",), "lexical")
        assert "nobody answers" in decision.reason


def test_an_engine_that_does_not_load_leaves_the_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If an installed engine can't run on this machine, you get a warning and the router still works."""

    def fail(*_: object) -> None:
        raise OSError("illegal instruction")

    monkeypatch.setattr("ecowas_lc.supervisor.routing.semantic.SemanticRouter", fail)
    decision = get_router("hybrid").route("What is the electricity tariff?")
    assert decision.groups == ("energy",)
    assert "illegal instruction" in caplog.text


def test_poor_embeddings_do_not_spoil_what_the_words_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weight of meaning is measured on the examples: crude embeddings count for little."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    questions = evaluation_set("validation")
    words = evaluate(get_router("lexical"), questions)
    together = evaluate(get_router("hybrid", embeddings=BagOfWords()), questions)
    assert together.sources == {"semantic": together.n}
    assert together.micro_f1 >= words.micro_f1 - 0.02


@pytest.mark.parametrize("name", ["semantic", "hybrid"])
def test_what_is_no_embeddings_is_refused_at_once(name: str) -> None:
    """Passing a model's name instead of embeddings is an error before the first question."""
    with pytest.raises(ConfigurationError, match="OllamaEmbeddings"):
        get_router(name, embeddings="nomic-embed-text")  # type: ignore[arg-type]


def test_an_unknown_router_is_named_with_those_there_are() -> None:
    """A misspelt setting is an error that lists the valid values."""
    with pytest.raises(ConfigurationError, match=r"'fuzzy'.*lexical, semantic, model, hybrid"):
        get_router("fuzzy")
    assert ROUTERS == ("lexical", "semantic", "model", "hybrid")


async def test_a_model_nobody_measured_is_not_asked(tmp_path: Path, unsure: LabelledQuestion) -> None:
    """A model passed by the graph costs no call and changes nothing until it has proved itself."""
    model = Scripted(sayings=[ANSWER])
    router = HybridRouter(model=model, measurements=tmp_path / "models.json")
    assert not router.asks_model
    assert router.route(unsure.question) == HybridRouter().route(unsure.question)
    await router.aroute(unsure.question)
    assert model.calls == []


async def test_a_model_that_proved_better_is_asked_where_the_others_are_unsure(
    tmp_path: Path, offline: HybridRouter, unsure: LabelledQuestion
) -> None:
    """The model is asked only in doubt; otherwise the cheap routers decide without a call."""
    file = save_measurement(
        measured(offline.cheap_router, model_right=16, cheap_right=11), tmp_path / "models.json"
    )
    model = Scripted(sayings=[ANSWER])
    router = HybridRouter(model=model, measurements=file)
    assert router.asks_model
    sure = "How much electricity does a solar power plant deliver to the grid?"
    assert router.route(sure) == offline.route(sure)
    assert await router.aroute(sure) == offline.route(sure)
    assert model.calls == []
    decision = router.route(unsure.question)
    assert (decision.groups, decision.source) == (("minerals",), "model")
    assert await router.aroute(unsure.question) == decision
    assert len(model.calls) == 2
    earlier = tmp_path / "earlier.json"  # with an earlier name of a field
    earlier.write_text(file.read_text().replace('"cheap_router"', '"beside"'))
    assert HybridRouter(model=model, measurements=earlier).asks_model


@pytest.mark.parametrize("right", [0, 10, 11, 12, 15])
def test_a_model_that_proved_no_better_is_not_asked(tmp_path: Path, offline: HybridRouter, right: int) -> None:
    """A small model must not make things worse: a lead on 20 questions that may be luck does not count."""
    file = save_measurement(
        measured(offline.cheap_router, model_right=right, cheap_right=11), tmp_path / "models.json"
    )
    assert not HybridRouter(model=Scripted(sayings=[ANSWER]), measurements=file).asks_model


@pytest.mark.usefixtures("words_only")
def test_a_measurement_counts_for_what_was_measured_alone(tmp_path: Path) -> None:
    """Other groups, another model or other cheap routers invalidate a measurement."""
    file = save_measurement(measured("words", model_right=12, cheap_right=3), tmp_path / "models.json")
    assert HybridRouter(model=Scripted(sayings=[ANSWER]), measurements=file).asks_model
    other_model = Scripted(sayings=[ANSWER], model="other:3b")
    assert not HybridRouter(model=other_model, measurements=file).asks_model
    groups = [*default_groups(), HEALTH]
    assert not HybridRouter(groups, model=Scripted(sayings=[ANSWER]), measurements=file).asks_model


def test_the_caller_has_the_last_word(unsure: LabelledQuestion) -> None:
    """``ask_model`` overrides any measurement, either way."""
    always = get_router("hybrid", model=Scripted(sayings=[ANSWER]), ask_model=True)
    assert always.route(unsure.question).source == "model"
    never = Scripted(sayings=[ANSWER])
    get_router("hybrid", model=never, ask_model=False).route(unsure.question)
    assert never.calls == []


@pytest.mark.parametrize("said", ["nonsense", ConnectionError("gone")])
def test_a_model_that_fails_changes_nothing(
    offline: HybridRouter, unsure: LabelledQuestion, said: str | Exception
) -> None:
    """In doubt, and with a model that does not help, the cheap routers' decision counts."""
    router = get_router("hybrid", model=Scripted(sayings=[said]), ask_model=True)
    decision = router.route(unsure.question)
    assert decision.groups == offline.route(unsure.question).groups
    assert decision.source == "semantic"
    assert "did not route" in decision.reason


def test_a_model_is_measured_where_the_others_are_unsure(offline: HybridRouter) -> None:
    """Measuring asks only the doubtful questions, and counts which router got them entirely right."""
    questions = (*evaluation_set("dev"), *evaluation_set("validation"))
    doubtful = [question for question in questions if offline.weigh(question.question).is_unsure]
    perfect = Scripted(sayings=[_knows({question.question: question.groups for question in questions})])
    told: list[tuple[str, int, int]] = []
    result = measure_model(perfect, on_progress=lambda *step: told.append(step))
    assert told == [(result.model, done, len(doubtful)) for done in range(1, len(doubtful) + 1)]
    assert result.asked == len(doubtful) == len(perfect.calls)
    assert result.asked < len(questions) / 5
    assert result.model_right == result.asked > result.cheap_right
    assert result.is_better
    assert result.cheap_router == offline.cheap_router
    hopeless = measure_model(Scripted(sayings=["nonsense"]))
    assert hopeless.model_right == 0
    assert hopeless.cheap_right == result.cheap_right
    assert not hopeless.is_better


def test_measurements_are_kept_one_of_a_kind(tmp_path: Path) -> None:
    """A new measurement replaces the older one of its model and keeps those of other models."""
    file = tmp_path / "deep" / "models.json"
    first = measured("words", model_right=1, cheap_right=2)
    other = ModelMeasurement("Scripted other", first.groups, "words", 5, 5, 0)
    newer = measured("words", model_right=9, cheap_right=2)
    for measurement in (first, other, newer):
        assert save_measurement(measurement, file) == file
    assert load_measurement(first.model, first.groups, "words", file) == newer
    assert load_measurement(other.model, other.groups, "words", file) == other
    assert load_measurement("nobody", first.groups, "words", file) is None
    assert [path.name for path in file.parent.iterdir()] == ["models.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"model": "x"}]', '{"a": 1}', "\xff"])
def test_measurements_that_can_not_be_read_count_as_none(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged file never stops a router; it is logged, and the next measurement replaces it."""
    file = tmp_path / "models.json"
    file.write_bytes(content.encode("latin-1"))
    assert not HybridRouter(model=Scripted(sayings=[ANSWER]), measurements=file).asks_model
    assert "can't be read" in caplog.text
    save_measurement(measured("words", model_right=1, cheap_right=0), file)
    assert load_measurement("Scripted scripted:1b", groups_digest(default_groups()), "words", file) is not None


def test_measurements_have_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are kept in the user's data directory, which XDG variables can move."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert measurements_file().is_relative_to(tmp_path)
    assert load_measurement("a", "b", "c") is None


def _knows(answers: dict[str, tuple[str, ...]]):  # type: ignore[no-untyped-def]
    import json

    return lambda messages: json.dumps({"groups": answers[messages[-1].text.removeprefix("Question: ")]})
