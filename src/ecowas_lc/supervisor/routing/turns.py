"""The kind of a turn by its words only: continue, change the subject, thank, ask for a summary.

A small linear model on words, pairs of words and parts of words, learnt from the example turns. Names of places,
times and numbers count as one word each, and so do the groups' own terms: "and in Ghana?" and "et au Togo ?" are
turns of one kind, also for groups and places that no example names.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

from ecowas_lc.supervisor.routing.text import Word, words
from ecowas_lc.twg import TURN_KINDS, ExampleTurn, example_turns
from ecowas_lc.twg.group import DATA, split_terms

SUBJECT = "subject"
"""The kind of a turn that names its own subject; all other kinds are in :data:`ecowas_lc.twg.TURN_KINDS`."""

KINDS = (*TURN_KINDS, SUBJECT)

WEIGHTS = files("ecowas_lc.supervisor.routing") / "data" / "turns.json"

GROUP, ELSEWHERE, _PLACE, _TIME, _NUMBER = "<group>", "<elsewhere>", "<place>", "<time>", "<number>"
_LONGEST_NAME = 3
_LONG = 7  # words; "and" before a longer question is only an opening
_POSSESSIVES = frozenset({"its", "their", "leur", "leurs"})
_ARTICLES = frozenset({"la"})
"""Words that refer back in one language ("lá") and are an article in another, when more words follow."""
_PIECES = (4, 5)
_LENGTHS = ((1, "1"), (2, "2"), (3, "3"), (6, "6"), (10, "10"))


class Marked(NamedTuple):
    """A part of a turn that is a term of a group, or a word of an outside subject."""

    start: int
    end: int
    mark: str


def learnt_turns() -> tuple[ExampleTurn, ...]:
    """Return the example turns from which kinds are learnt: every second one of those on outside subjects.

    There are many of those because single questions need them; all of them would make too many turns look like
    one.
    """
    outside = [turn for turn in example_turns() if turn.kind == "outside"]
    kept = set(outside[::2])
    return tuple(turn for turn in example_turns() if turn.kind != "outside" or turn in kept)


def features(found: Sequence[Word], marked: Sequence[Marked], asks: bool) -> set[str]:
    """Return the features of a turn; ``asks`` says whether it contains a question mark."""
    read = ["^", *_abstract(found, marked), "$"]
    seen = set(read)
    seen.update(f"{one} {other}" for one, other in pairwise(read))
    for one in read:
        if one[0] not in "<^$":
            seen.update(_pieces(f"_{one}_"))
    length = len(read) - 2
    seen.add("#" + next((name for most, name in _LENGTHS if length <= most), "more"))
    seen.add(f"#g{min(read.count(GROUP), 3)}")
    if asks:
        seen.add("#?")
    return seen


def kinds_of(seen: set[str]) -> dict[str, float]:
    """Return the probability of each kind for a turn with these features."""
    weights, bias = _model()
    known = [weights[one] for one in seen if one in weights]
    scale = 1 / math.sqrt(len(known) + 1)
    scores = [scale * (sum(row[kind] for row in known) + bias[kind]) for kind in range(len(KINDS))]
    most = max(scores)
    chances = [math.exp(score - most) for score in scores]
    return {kind: chance / sum(chances) for kind, chance in zip(KINDS, chances, strict=True)}


def links(text: str, *, own: Collection[str] = ()) -> bool:
    """Return whether a turn refers back: by its first or last word or by a pronoun.

    A preposition at the end ("can they pay with?") lacks its noun. A possessive after the turn's ``own`` words
    belongs to them: "how are farmers paid for their harvest?" refers to nothing before.
    """
    said = words(text)
    leading, joining, pointing, _ = _links()
    if not said:
        return False
    leads = said[0] in leading or said[-1] in leading or (said[0] in joining and len(said) < _LONG)
    named = min((place for word in own if (place := _place(words(word), said)) is not None), default=len(said))
    return leads or any(
        word in pointing
        and not (word in _POSSESSIVES and place > named)
        and not (word in _ARTICLES and place < len(said) - 1)
        for place, word in enumerate(said)
    )


def asks(text: str) -> bool:
    """Return whether a turn starts like a question that names its subject."""
    said = words(text)
    return bool(said) and said[0] in _links()[3]


def _place(phrase: Sequence[str], said: Sequence[str]) -> int | None:
    return next((at for at in range(len(said)) if said[at : at + len(phrase)] == phrase), None)


def _abstract(found: Sequence[Word], marked: Sequence[Marked]) -> Iterator[str]:
    places, times = _names()
    marks = {mark.start: mark for mark in marked}
    position = 0
    while position < len(found):
        for length in range(_LONGEST_NAME, 0, -1):
            name = tuple(word.folded for word in found[position : position + length])
            if len(name) == length and (name in places or name in times):
                yield _PLACE if name in places else _TIME
                position += length
                break
        else:
            word = found[position].folded
            if position in marks:
                yield marks[position].mark
                position = marks[position].end
            else:
                yield _NUMBER if word[0].isdigit() else word
                position += 1


def _pieces(word: str) -> Iterator[str]:
    for length in _PIECES:
        for start in range(len(word) - length + 1):
            yield "~" + word[start : start + length]


@cache
def _names() -> tuple[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
    return _listed("places"), _listed("times")


@cache
def _links() -> tuple[frozenset[str], ...]:
    return tuple(
        frozenset(name[0] for name in _listed(kind)) for kind in ("leading", "joining", "pointing", "asking")
    )


def _listed(kind: str) -> frozenset[tuple[str, ...]]:
    content = tomllib.loads((DATA / "words.toml").read_text(encoding="utf-8"))
    return frozenset(tuple(words(name)) for name in split_terms(content[kind]))


@cache
def _model() -> tuple[Mapping[str, tuple[float, ...]], tuple[float, ...]]:
    content = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    rows: dict[str, tuple[float, ...]] = {}
    for feature, row in content["weights"].items():
        rows[feature] = tuple(weight / 10 for weight in row)
    return rows, tuple(weight / 10 for weight in content["bias"])
