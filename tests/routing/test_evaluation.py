"""Measuring routers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ecowas_lc.errors import InvalidInputError, MissingExtraError
from ecowas_lc.supervisor.evaluation import (
    MOVES,
    Dialogue,
    LabelledQuestion,
    LabelledTurn,
    compare_routers,
    draw_confusion,
    evaluate,
    evaluate_dialogues,
    evaluation_dialogues,
    evaluation_set,
    format_dialogues,
    format_table,
    load_dialogues,
    load_questions,
    usable_routers,
)
from ecowas_lc.supervisor.evaluation import __main__ as command
from ecowas_lc.supervisor.evaluation.dialogues import move
from ecowas_lc.supervisor.routing import PastTurn, RouteDecision

from .scripted import Scripted


class Fixed:
    """Answers from a table: any object with ``route`` and ``aroute`` is a router."""

    def __init__(self, answers: dict[str, tuple[str, ...]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def route(self, question: str) -> RouteDecision:
        self.asked.append(question)
        return RouteDecision(self.answers[question], "lexical", "by table")

    async def aroute(self, question: str) -> RouteDecision:
        return self.route(question)


def asked(question: str, *groups: str, language: str = "en") -> LabelledQuestion:
    return LabelledQuestion(question, groups, language)


QUESTIONS = [
    asked("right", "a"),
    asked("one too many", "a"),
    asked("one missing", "a", "b", language="fr"),
    asked("wrong", "b", language="fr"),
    asked("nothing", language="pt"),
]
ANSWERS: dict[str, tuple[str, ...]] = {
    "right": ("a",),
    "one too many": ("a", "c"),
    "one missing": ("a",),
    "wrong": ("c",),
    "nothing": (),
}


def test_the_figures_are_what_they_are_called() -> None:
    """Counted by hand: 3 groups right, of 5 expected and 5 chosen; 2 of 5 sets exact."""
    report = evaluate(Fixed(ANSWERS), QUESTIONS)
    assert report.n == 5
    assert report.micro_f1 == pytest.approx(2 * 3 / (5 + 5))
    assert report.exact_set == pytest.approx(2 / 5)
    assert report.ms_per_question > 0
    a, b, c = report.by_group["a"], report.by_group["b"], report.by_group["c"]
    assert (a.n, a.precision, a.recall, a.f1, a.added, a.missed) == (3, 1, 1, 1, 0, 0)
    assert (b.n, b.precision, b.recall, b.f1, b.added, b.missed) == (2, 1, 0, 0, 0, 2)
    assert (c.n, c.precision, c.recall, c.f1, c.added, c.missed) == (0, 0, 1, 0, 2, 0)
    assert {language: score.n for language, score in report.by_language.items()} == {"en": 2, "fr": 2, "pt": 1}
    assert report.by_language["en"].micro_f1 == pytest.approx(2 * 2 / (2 + 3))
    assert report.by_language["pt"].exact_set == 1
    assert report.sources == {"lexical": 5}
    assert [mistake.question.question for mistake in report.mistakes] == ["one too many", "one missing", "wrong"]


def test_confusion_counts_every_group_once() -> None:
    """Right groups lie on the diagonal; odd ones pair with each other, or with no group."""
    table = evaluate(Fixed(ANSWERS), QUESTIONS).confusion
    counted = {(row, column): n for row, cells in table.items() for column, n in cells.items() if n}
    assert counted == {
        ("a", "a"): 3,
        ("(none)", "c"): 1,
        ("b", "(none)"): 1,
        ("b", "c"): 1,
        ("(none)", "(none)"): 1,
    }


def test_progress_is_told_and_the_first_load_is_not_timed() -> None:
    """Each question is reported once; the router is warmed up before the clock runs."""
    router = Fixed(ANSWERS)
    seen: list[tuple[int, int]] = []
    evaluate(router, QUESTIONS, on_question=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 5) for n in range(1, 6)]
    assert router.asked[0] == router.asked[1] == "right"


def test_no_question_is_an_error() -> None:
    """An evaluation without questions is refused, because its figures would mean nothing."""
    with pytest.raises(InvalidInputError, match="no question"):
        evaluate(Fixed({}), [])


def test_the_json_form_has_the_published_keys() -> None:
    """Scripts rely on these names."""
    figures = json.loads(json.dumps(compare_routers(["lexical"]).as_dict()))
    assert set(figures) == {"lexical"}
    assert {"n", "micro_f1", "exact_set", "ms_per_question", "by_group", "by_language"} <= set(figures["lexical"])
    assert figures["lexical"]["n"] == 76
    assert set(figures["lexical"]["by_language"]) == {"en", "fr", "pt"}
    assert figures["lexical"]["by_group"]["energy"]["f1"] > 0.9


def test_routers_are_compared_on_the_users_questions() -> None:
    """Names and questions can be chosen; without a model all others that are installed take part."""
    assert usable_routers() == ("lexical", "semantic", "hybrid")
    assert usable_routers(model=object()) == ("lexical", "semantic", "model", "hybrid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecowas_lc.supervisor.evaluation.comparison.offline_installed", lambda: False)
        assert usable_routers() == ("lexical", "hybrid")
        assert usable_routers(embeddings=object()) == ("lexical", "semantic", "hybrid")
    seen: list[tuple[str, int, int]] = []
    comparison = compare_routers(
        ["lexical"],
        questions=[asked("Solar power?", "energy", language="")],
        on_progress=lambda *step: seen.append(step),
    )
    assert comparison.reports["lexical"].micro_f1 == 1
    assert comparison.measured is None
    assert seen == [("lexical", 1, 1)]
    assert "no language" in format_table(comparison.reports)


def test_a_hopeless_model_does_not_make_the_hybrid_worse() -> None:
    """With a model that always names the first group, the hybrid router's figures are those without it."""
    questions = evaluation_set("dev")[:20]
    model = Scripted(sayings=['{"groups": ["energy"]}'])
    comparison = compare_routers(["model", "hybrid"], questions=questions, model=model)
    alone = compare_routers(["hybrid"], questions=questions)
    assert comparison.measured is not None
    assert not comparison.measured.is_better
    assert comparison.reports["hybrid"].micro_f1 == alone.reports["hybrid"].micro_f1
    assert comparison.reports["hybrid"].sources == {"semantic": 20}
    assert comparison.reports["model"].sources == {"model": 20}


def test_the_table_shows_router_language_and_group() -> None:
    """One column per router, a line for each figure."""
    table = format_table({"mine": evaluate(Fixed(ANSWERS), QUESTIONS)})
    for text in ("mine", "micro-F1", "0.600", "exact set", "0.400", "en (F1 / exact)", "c (F1, +added -missed)"):
        assert text in table


def test_questions_are_read_from_a_file(tmp_path: Path) -> None:
    """A user's JSONL file: blank lines and a missing language are fine, repeated ids count once."""
    file = tmp_path / "mine.jsonl"
    file.write_text(
        '\ufeff{"question": " Où ? ", "twgs": ["a", "a"], "lang": "fr"}\n\n{"question": "Hi", "twgs": []}\n',
        "utf-8",
    )
    assert load_questions(file) == (asked("Où ?", "a", language="fr"), asked("Hi", language=""))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("not json", "not JSON"),
        ('["question"]', "not a JSON object"),
        ('{"twgs": []}', '"question"'),
        ('{"question": " ", "twgs": []}', '"question"'),
        ('{"question": "x"}', '"twgs"'),
        ('{"question": "x", "twgs": "energy"}', '"twgs"'),
        ('{"question": "x", "twgs": [1]}', '"twgs"'),
        ('{"question": "x", "twgs": [], "lang": 3}', '"lang"'),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """The error names the file, the line and the problem."""
    file = tmp_path / "mine.jsonl"
    file.write_text(f'{{"question": "x", "twgs": []}}\n{line}\n', "utf-8")
    with pytest.raises(InvalidInputError, match=problem) as caught:
        load_questions(file)
    assert f"{file}, line 2" in str(caught.value)


def test_a_file_without_questions_is_named(tmp_path: Path) -> None:
    """A file that is missing, empty or not text is an error of ours that names it."""
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n")
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path / "missing.jsonl", empty, binary, tmp_path):
        with pytest.raises(InvalidInputError, match=file.name):
            load_questions(file)
    with pytest.raises(InvalidInputError, match="dev, validation, hard-dev, hard-validation, blind"):
        evaluation_set("test")


DIALOGUE = Dialogue(
    (
        LabelledTurn("right", ("a",)),
        LabelledTurn("one missing", ("a", "b"), needs_context=True),
        LabelledTurn("wrong", ("b",), needs_context=True),
        LabelledTurn("nothing", (), needs_context=False),
    ),
    "fr",
)


def test_dialogues_are_counted_turn_by_turn() -> None:
    """Counted by hand: 2 of 4 turns exact, none of the 2 in context; moves are relative to the earlier groups."""
    report = evaluate_dialogues(Fixed(ANSWERS), [DIALOGUE])
    assert (report.n, report.exact_set, report.in_context, report.exact_in_context) == (4, 0.5, 2, 0)
    assert report.micro_f1 == pytest.approx(2 * 2 / (4 + 3))
    assert report.by_language["fr"].exact_set == 0.5
    counted = {(row, column): n for row, cells in report.moves.items() for column, n in cells.items() if n}
    assert counted == {("add", "stay"): 1, ("drop", "leave"): 1, ("nobody", "nobody"): 1}
    assert [mistake.turn.question for mistake in report.mistakes] == ["one missing", "wrong"]
    assert report.mistakes[1].before[-1] == PastTurn("one missing", ("a", "b"))
    own = evaluate_dialogues(Fixed(ANSWERS), [DIALOGUE], own_past=True)
    assert own.mistakes[1].before[-1] == PastTurn("one missing", ("a",))
    with pytest.raises(InvalidInputError, match="no dialogue"):
        evaluate_dialogues(Fixed({}), [])


@pytest.mark.parametrize(
    ("groups", "does"),
    [("ab", "stay"), ("abc", "add"), ("a", "drop"), ("c", "leave"), ("bc", "leave"), ("", "nobody")],
)
def test_what_a_turn_does_to_the_groups_before(groups: str, does: str) -> None:
    """Each turn does one of five things."""
    assert move(groups, "ab") == does


def test_dialogues_have_their_place_in_table_and_json() -> None:
    """Languages, the turns in context and the moves of each router; scripts read ``dialogues``."""
    compared = compare_routers(["lexical"], questions=(), dialogues=evaluation_dialogues("validation")[:4])
    assert compared.reports == {}
    figures = json.loads(json.dumps(compared.as_dict()))["lexical"]["dialogues"]
    assert {"n", "exact_set", "in_context", "exact_in_context", "micro_f1", "by_language", "moves"} == set(figures)
    assert set(figures["moves"]) == set(figures["moves"]["stay"]) == set(MOVES)
    table = format_dialogues(compared.dialogues)
    assert "en (exact / in context)" in table
    assert "lexical: expected, chosen" in table


def test_dialogues_are_read_from_a_file(tmp_path: Path) -> None:
    """A file may hold questions and dialogues; each reader takes its own."""
    file = tmp_path / "both.jsonl"
    turns = '[{"question": "x", "twgs": ["a"]}, {"question": "y", "twgs": [], "needs_context": true}]'
    file.write_text(f'{{"turns": {turns}, "lang": "fr"}}\n{{"question": "Hi", "twgs": []}}\n', "utf-8")
    turn = LabelledTurn("y", (), needs_context=True)
    assert load_dialogues(file) == (Dialogue((LabelledTurn("x", ("a",)), turn), "fr"),)
    assert load_questions(file) == (asked("Hi", language=""),)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"turns": []}', '"turns"'),
        ('{"turns": ["x"]}', '"turns"'),
        ('{"turns": [{"question": "x"}]}', '"twgs"'),
        ('{"turns": [{"question": "x", "twgs": [], "needs_context": 1}]}', '"needs_context"'),
        ('{"turns": [{"question": "x", "twgs": []}], "id": 1}', '"id"'),
    ],
)
def test_a_bad_dialogue_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """A bad dialogue is named like a bad question, by file and line."""
    file = tmp_path / "mine.jsonl"
    file.write_text(line, "utf-8")
    with pytest.raises(InvalidInputError, match=problem) as caught:
        load_dialogues(file)
    assert f"{file}, line 1" in str(caught.value)
    with pytest.raises(InvalidInputError, match="dev, validation, blind"):
        evaluation_dialogues("test")


def test_the_picture_is_a_legible_png(tmp_path: Path) -> None:
    """One table per router, large enough to read, and nothing where a row has no more tables."""
    from matplotlib.image import imread

    report = evaluate(Fixed(ANSWERS), QUESTIONS)
    for count in (1, 3, 4):
        path = draw_confusion({f"router {n}": report for n in range(count)}, tmp_path / f"{count}.png")
        height, width, _ = imread(path).shape
        assert height > 400
        assert width > 400 * min(count, 2)
    picture = imread(draw_confusion({f"router {n}": report for n in range(5)}, tmp_path / "5.png"))
    height, width, _ = picture.shape
    assert (picture[height // 2 :, width * 2 // 3 :, :3] == 1).all()
    with pytest.raises(InvalidInputError, match="no report"):
        draw_confusion({}, tmp_path / "none.png")


def test_without_the_extra_drawing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures need nothing; only the picture does."""
    report = evaluate(Fixed(ANSWERS), QUESTIONS)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="pip install 'matplotlib"):
        draw_confusion({"mine": report}, tmp_path / "x.png")


def test_the_command_prints_both_sets_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``python -m ecowas_lc.supervisor.evaluation picture.png`` prints the figures of the documentation."""
    monkeypatch.setattr(
        command, "compare_routers", lambda questions: compare_routers(["lexical"], questions=questions)
    )
    picture = tmp_path / "confusion.png"
    assert command.main([str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "Evaluation set 'dev'" in printed
    assert "Evaluation set 'validation'" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")

    def draw(*_: object) -> None:
        raise MissingExtraError("Drawing needs the extra drawing.")

    monkeypatch.setattr(command, "draw_confusion", draw)
    monkeypatch.setattr(command, "EVALUATION_SETS", ("dev",))
    monkeypatch.setattr(command, "DIALOGUE_SETS", ())
    assert command.main([str(picture)]) == 0
    assert "Drawing needs the extra drawing." in capsys.readouterr().out
