"""What a semantic router learns from: example questions, and descriptions of groups that have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

from ecowas_lc.supervisor.routing.lexical import THRESHOLDS, LexicalRouter
from ecowas_lc.supervisor.routing.vocabulary import parse_term
from ecowas_lc.twg import TWG, default_groups, example_questions

_MOST_TERMS = 24
_LEAST_WEIGHT = 0.7

# A term alone lies far from any question; asked about, it lies where the questions lie.
_ASKED = ("What should be done about {}?", "How does {} work?")


@dataclass(frozen=True, slots=True)
class Lesson:
    """Which example questions count for a set of groups, and what stands in for those they lack.

    ``rows`` are positions in :func:`ecowas_lc.twg.example_questions` and ``labels`` the groups of each;
    ``described`` maps each group without examples to sentences made of its name, description and terms.
    """

    rows: tuple[int, ...]
    labels: tuple[tuple[str, ...], ...]
    described: dict[str, tuple[str, ...]]


def prepare(groups: Sequence[TWG], words: LexicalRouter) -> Lesson:
    """Return what there is to learn from for these groups.

    Examples speak for the summit's own groups, so long as their descriptions are unchanged. Those of groups that
    are not here are left out, since another group may have taken their field over. An example in which a
    described group's own words are found counts for it too.
    """
    ours = {group.id: group.description for group in default_groups()}
    known = {group.id for group in groups if ours.get(group.id) == group.description}
    described = {group.id: tuple(_sentences(group)) for group in groups if group.id not in known}
    rows: list[int] = []
    labels: list[tuple[str, ...]] = []
    for row, example in enumerate(example_questions()):
        if not known.issuperset(example.groups):
            continue
        own: tuple[str, ...] = ()
        if described:
            relevance = words.evidence(example.question).relevance()
            own = tuple(group for group in described if relevance[group] >= THRESHOLDS.first)
        rows.append(row)
        labels.append(example.groups + own)
    return Lesson(tuple(rows), tuple(labels), described)


def _sentences(group: TWG) -> Iterator[str]:
    yield group.name
    if group.description.strip():
        yield group.description
    subjects = [part.strip(" .") for part in group.description.replace(":", ",").replace(";", ",").split(",")]
    for subject in dict.fromkeys([*filter(None, subjects), *_terms(group)]):
        for question in _ASKED:
            yield question.format(subject)


def _terms(group: TWG) -> list[str]:
    """Return the group's plainest terms, of each language in turn."""
    by_language = [
        [
            text.replace("*", "").replace("=", "")
            for text, weight in map(parse_term, terms)
            if weight >= _LEAST_WEIGHT
        ]
        for terms in group.terms.values()
    ]
    turns = chain.from_iterable(zip_longest(*by_language))
    return list(islice((term for term in turns if term), _MOST_TERMS))
