"""The part of a text that is read as the question, and its limits."""

from __future__ import annotations

from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecowas_lc import get_router
from ecowas_lc._embeddings import MOST_AT_ONCE, OfflineEngine, _parts
from ecowas_lc.supervisor.routing.embedding import OfflineEmbeddings
from ecowas_lc.supervisor.routing.focus import MOST_ASKED, focus
from ecowas_lc.supervisor.routing.lexical import LexicalRouter
from ecowas_lc.supervisor.routing.text import Spelling
from tests.fixtures.servers import wait_until

MAIL = """Dear all, thank you for the wonderful dinner and the badges, and sorry that we left early. The bank has
signed and the farmers send their regards; nothing to do on that side. My question is only this: {} Please tell me
before Monday. My phone is best in the mornings. Kind regards, the desk officer"""


@pytest.mark.parametrize(
    ("question", "groups"),
    [
        ("which voltage must our utility keep once the line is connected?", {"energy"}),
        ("who owns the gold that artisanal miners find beside our concession?", {"minerals"}),
        ("may we keep the personal data of citizens on a server abroad?", {"digital"}),
    ],
)
def test_of_a_pasted_mail_the_asking_part_counts(question: str, groups: set[str]) -> None:
    """Politeness, news and other matters around a question do not affect its routing."""
    for name in ("lexical", "hybrid"):
        assert set(get_router(name).route(MAIL.format(question)).groups) == groups


@pytest.mark.parametrize(
    ("question", "group"),
    [
        ("Not about mining or the banks, I only want the maize price", "agriculture"),
        ("sans parler de barrages : quel est le prix du mil ?", "agriculture"),
        ("não é sobre dinheiro nem agricultura, quantos megawatts tem a central solar", "energy"),
        ("we don't need the gold price, only which hotel the mining ministers are in", "protocol"),
    ],
)
def test_what_is_set_aside_does_not_count(question: str, group: str) -> None:
    """A group that a question says it is not about is not asked, wherever its words stand."""
    for name in ("lexical", "hybrid"):
        assert get_router(name).route(question).groups == (group,)


@pytest.mark.parametrize(
    ("misspelt", "word"),
    [
        ("eletricity", "electricity"),
        ("electrciity", "electricity"),
        ("fertilizzer", "fertilizer"),
        ("bradband", "broadband"),
        ("gaurantee", "guarantee"),
        ("dilligence", "diligence"),
        ("fertilzer", "fertiliser"),
    ],
)
def test_a_slip_in_a_word_is_seen_through(misspelt: str, word: str) -> None:
    """A letter too many, missing, or misplaced is corrected."""
    assert Spelling([word], []).corrected(misspelt) == word


def test_a_right_word_stays_as_it_is() -> None:
    """A word that is known, short, or only rhymes with another is not corrected."""
    spelling = Spelling(["computing", "farming", "grid"], ["forming"])
    for word in ("competing", "forming", "grit", "harming", "7arming"):
        assert spelling.corrected(word) == word


def test_misspelt_questions_find_their_groups() -> None:
    """The decision shows the words as they were written."""
    decision = get_router("lexical").route("pls send the fertilzer figures")
    assert decision.groups == ("agriculture",)
    assert [word.text for word in decision.words] == ["fertilzer"]


@given(st.text(max_size=9000))
def test_any_text_has_a_bounded_question(text: str) -> None:
    """Whatever the input, the parts lie within the text, in order, and are short."""
    part = focus(text)
    assert len(part.question) <= MOST_ASKED
    assert all(0 <= start < end <= len(text) for start, end in (*part.asked, *part.dismissed))
    assert list(part.asked) == sorted(part.asked)
    LexicalRouter().evidence(text)


@pytest.mark.parametrize("text", ["solar power pool ", "? ", "x", "é", "the the don't leave ", "a.b,c;"])
def test_a_pasted_document_costs_what_a_page_does(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded and the compared text are as long for a megabyte as for a page."""
    embedded: list[str] = []
    own = OfflineEmbeddings.embed_query
    monkeypatch.setattr(
        OfflineEmbeddings, "embed_query", lambda self, text: embedded.append(text) or own(self, text)
    )
    router = get_router("hybrid")
    router.route("solar")
    long = text * (1_000_000 // len(text))
    embedded.clear()
    decision = router.route(long)
    assert sum(map(len, embedded)) <= MOST_ASKED
    assert all(word.end <= len(long) for word in decision.words)
    assert len(focus(long).question) <= MOST_ASKED


def test_of_many_long_questions_the_last_count() -> None:
    """If the questions of a text are longer than what is read of them, the last ones are read."""
    questions = [f"Which rule on electricity holds in country {n}, {'and so on, ' * 40}if any?" for n in range(4)]
    text = "We met on Monday. " * 100 + " ".join(questions)
    asked = focus(text).question
    assert text.endswith(asked)
    assert MOST_ASKED - 10 < len(asked) <= MOST_ASKED


def test_a_question_at_the_end_of_a_document_counts() -> None:
    """Text after thousands of characters is read as well."""
    document = "The committee met on Monday and took note of the minutes. " * 400
    for name in ("lexical", "hybrid"):
        assert get_router(name).route(f"{document}\nWhich lithium mines are open in Mali?").groups == ("minerals",)


def test_long_texts_do_not_keep_others_waiting() -> None:
    """The model is locked for a few texts at a time, and for a part of a long one."""
    held: list[tuple[int, int, bool]] = []

    class Model:
        """Records its calls, and whether the lock is held during them."""

        def query(self, texts: list[str]) -> list[list[float]]:
            held.append((len(texts), sum(map(len, texts)), engine._lock.locked()))
            return [[1.0, 0.0] if "x" in text else [0.0, 1.0] for text in texts]

    engine = OfflineEngine(Model())  # type: ignore[arg-type]
    vectors = engine.queries(["x" * 9_000 + "y" * 9_000, *["y" * 300] * 40, "x"])
    assert vectors[0] == pytest.approx([0.5**0.5, 0.5**0.5])
    assert vectors[1:] == [*[[0.0, 1.0]] * 40, [1.0, 0.0]]
    assert all(locked for _, _, locked in held)
    assert all(characters <= 2_000 or number == 1 for number, characters, _ in held)
    assert len(held) > 15


def test_a_short_text_comes_after_one_part_of_a_long_one() -> None:
    """A caller that waits for the model gets it next, before the caller that just had it."""
    order: list[str] = []

    class Model:
        """Lets a short question arrive while it reads the first part of a long text."""

        def query(self, texts: list[str]) -> list[list[float]]:
            order.append(texts[0][0])
            if len(order) == 1:
                short.start()
                wait_until(engine._next.locked, "the short question waits")
            return [[1.0] for _ in texts]

    engine = OfflineEngine(Model())  # type: ignore[arg-type]
    short = Thread(target=engine.queries, args=(["short"],))
    engine.queries(["x" * 9_000])
    short.join()
    assert order[:3] == ["x", "s", "x"]


@given(st.text(alphabet="ab \n", max_size=8000))
def test_a_long_text_is_read_to_its_end(text: str) -> None:
    """The parts contain everything but blanks."""
    parts = _parts(text)
    assert all(len(part) <= MOST_AT_ONCE for part in parts)
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
