"""Words to find a group by that comes with few terms of its own: those of its name and description."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

from ecowas_lc.supervisor.routing.text import words
from ecowas_lc.twg import TWG, example_questions

FEW_TERMS = 30
"""A group with fewer terms is also found by the words of its description."""

_WEIGHT = 0.8
_SHORTEST = 4
_MOST_FREQUENT = 4  # in about 2,000 questions; "regional" or "access" say nothing about any one group


def count_terms(group: TWG) -> int:
    """Return how many terms a group has in all languages."""
    return sum(map(len, group.terms.values()))


def described_terms(group: TWG) -> Iterator[str]:
    """Yield the telling words of a group's name and description, as terms for a vocabulary."""
    if count_terms(group) >= FEW_TERMS:
        return
    frequency = _word_frequency()
    for word in dict.fromkeys(words(f"{group.name} {group.description}")):
        if len(word) >= _SHORTEST and frequency[word] <= _MOST_FREQUENT:
            stem = f"{word[:-1]}*" if word.endswith("s") and len(word) > _SHORTEST else word
            yield f"{stem}^{_WEIGHT}"


@cache
def _word_frequency() -> Counter[str]:
    return Counter(word for example in example_questions() for word in set(words(example.question)))
