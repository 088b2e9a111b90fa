"""Questions whose groups are known: those that routers learn from, and those that they are measured on."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path

from ecowas_lc.errors import InvalidInputError
from ecowas_lc.twg.group import DATA

LANGUAGES = ("en", "fr", "pt")
EVALUATION_SETS = ("dev", "validation", "hard-dev", "hard-validation", "blind")
DIALOGUE_SETS = ("dev", "validation", "blind")
TURN_KINDS = ("chat", "about", "summary", "follow", "outside", "back", "change", "drop")
"""The kinds of turns: small talk; a request about the previous answer; a summary of the conversation; continuing
the subject; a subject outside all groups; going back; announcing another subject; leaving a part out."""


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question, the groups it concerns (none: the supervisor answers itself) and the code of its language."""

    question: str
    groups: tuple[str, ...]
    language: str


@dataclass(frozen=True, slots=True)
class LabelledTurn:
    """A turn of a dialogue, and the groups it concerns there.

    ``needs_context`` says whether its own words are not enough to tell the groups (``None``: not labelled).
    """

    question: str
    groups: tuple[str, ...]
    needs_context: bool | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation with the groups of each turn, in order, and the code of its language."""

    turns: tuple[LabelledTurn, ...]
    language: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class ExampleTurn:
    """A turn of a conversation and its kind, one of :data:`TURN_KINDS`."""

    text: str
    kind: str
    language: str


@cache
def example_questions() -> tuple[LabelledQuestion, ...]:
    """Return the example questions that the semantic and the hybrid router learn from.

    They include questions on subjects outside all groups, which have no groups.
    """
    examples = [question for language in LANGUAGES for question in _read_examples(language)]
    outside = [LabelledQuestion(t.text, (), t.language) for t in example_turns() if t.kind == "outside"]
    return tuple({question.question: question for question in (*outside, *examples)}.values())


@cache
def example_turns() -> tuple[ExampleTurn, ...]:
    """Return the turns from which the routers learn the kinds of turns."""
    kinds = tomllib.loads((DATA / "turns.toml").read_text(encoding="utf-8"))
    return tuple(
        ExampleTurn(line.strip(), kind, language)
        for kind in TURN_KINDS
        for language in LANGUAGES
        for line in kinds[kind][language].strip().splitlines()
    )


@cache
def evaluation_set(name: str) -> tuple[LabelledQuestion, ...]:
    """Return one of :data:`EVALUATION_SETS`; no router has learnt from any of them.

    Raises:
        InvalidInputError: The set does not exist.
    """
    if name not in EVALUATION_SETS:
        raise InvalidInputError(
            f"There is no evaluation set {name!r}. Choose one of: {', '.join(EVALUATION_SETS)}."
        )
    return _parse(DATA / "eval" / f"{name}.jsonl")


@cache
def evaluation_dialogues(name: str) -> tuple[Dialogue, ...]:
    """Return one of :data:`DIALOGUE_SETS`; the thresholds of the routers were chosen only on ``"dev"``.

    Raises:
        InvalidInputError: The set does not exist.
    """
    if name not in DIALOGUE_SETS:
        raise InvalidInputError(
            f"There are no evaluation dialogues {name!r}. Choose one of: {', '.join(DIALOGUE_SETS)}."
        )
    return _read(DATA / "eval" / f"dialogues-{name}.jsonl")[1]


@cache
def prompt_examples() -> tuple[LabelledQuestion, ...]:
    """Return the few questions that show a chat model how to route."""
    return _parse(DATA / "prompt_examples.jsonl")


def load_questions(path: str | Path) -> tuple[LabelledQuestion, ...]:
    """Read labelled questions from a JSONL file; the result is empty if the file holds only dialogues.

    Each line is an object with ``question`` (text), ``twgs`` (list of group ids, may be empty) and, optionally,
    ``lang`` (a language code). Blank lines and dialogues (:func:`load_dialogues`) are skipped.

    Args:
        path: The file.

    Raises:
        InvalidInputError: The file can't be read, has neither questions nor dialogues, or a line is not such an
            object; the message gives file and line.
    """
    return _parse(Path(path))


def load_dialogues(path: str | Path) -> tuple[Dialogue, ...]:
    """Read labelled dialogues from a JSONL file; single questions are skipped, so the result may be empty.

    Each line is an object with ``turns``, a list of objects with ``question``, ``twgs`` and, optionally,
    ``needs_context`` (true or false), and, optionally, ``lang`` and ``id`` (text).

    Args:
        path: The file.

    Raises:
        InvalidInputError: The file can't be read, has neither questions nor dialogues, or a line is not such an
            object; the message gives file and line.
    """
    return _read(Path(path))[1]


def _parse(source: Traversable) -> tuple[LabelledQuestion, ...]:
    return _read(source)[0]


def _read(source: Traversable) -> tuple[tuple[LabelledQuestion, ...], tuple[Dialogue, ...]]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidInputError(f"The questions in {source} can't be read: {reason}.") from None
    questions: list[LabelledQuestion] = []
    dialogues: list[Dialogue] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parse_line(line, f"{source}, line {number}")
        if isinstance(row, Dialogue):
            dialogues.append(row)
        else:
            questions.append(row)
    if not questions and not dialogues:
        raise InvalidInputError(f"{source} contains no question. Put one JSON object on each line.")
    return tuple(questions), tuple(dialogues)


def _parse_line(line: str, place: str) -> LabelledQuestion | Dialogue:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInputError(f"{place} is not JSON. Write one object a line.") from None
    if not isinstance(row, dict):
        raise InvalidInputError(f"{place} is not a JSON object.")
    language = row.get("lang", "")
    if not isinstance(language, str):
        raise InvalidInputError(f'"lang" in {place} is not text.')
    if "turns" not in row:
        question, groups = _labelled(row, place)
        return LabelledQuestion(question, groups, language)
    turns, name = row["turns"], row.get("id", "")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise InvalidInputError(f'"turns" in {place} is not a list of objects with "question" and "twgs".')
    if not isinstance(name, str):
        raise InvalidInputError(f'"id" in {place} is not text.')
    return Dialogue(tuple(_parse_turn(turn, place) for turn in turns), language, name)


def _parse_turn(turn: Mapping[str, object], place: str) -> LabelledTurn:
    needs_context = turn.get("needs_context")
    if needs_context is not None and not isinstance(needs_context, bool):
        raise InvalidInputError(f'"needs_context" in {place} is neither true nor false.')
    return LabelledTurn(*_labelled(turn, place), needs_context)


def _labelled(row: Mapping[str, object], place: str) -> tuple[str, tuple[str, ...]]:
    question, groups = row.get("question"), row.get("twgs")
    if not isinstance(question, str) or not question.strip():
        raise InvalidInputError(f'{place} has no "question".')
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise InvalidInputError(f'{place} has no "twgs". Give a list of group ids; an empty one for none.')
    return question.strip(), tuple(dict.fromkeys(groups))


def _read_examples(language: str) -> Iterable[LabelledQuestion]:
    content = tomllib.loads((DATA / "examples" / f"{language}.toml").read_text(encoding="utf-8"))
    for block in content["examples"]:
        for line in block["questions"].strip().splitlines():
            yield LabelledQuestion(line.strip(), tuple(block["groups"]), language)
