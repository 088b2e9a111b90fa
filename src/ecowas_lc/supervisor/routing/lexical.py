"""The router without requirements: it finds each group's own words in the question."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import NamedTuple

from ecowas_lc._language import COMMON_WORDS, guess_language
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.supervisor.routing.decision import FoundWord, PastTurn, RouteDecision, Thresholds, checked_question
from ecowas_lc.supervisor.routing.focus import Focus, focus
from ecowas_lc.supervisor.routing.in_conversation import followed, read_turn, resolve
from ecowas_lc.supervisor.routing.text import Spelling, Word, fold, words, words_in_place
from ecowas_lc.supervisor.routing.turns import ELSEWHERE as ELSEWHERE_MARK
from ecowas_lc.supervisor.routing.turns import GROUP, Marked, features
from ecowas_lc.twg import TWG, default_groups, example_questions, example_turns, general_cues, validate_groups

THRESHOLDS = Thresholds(first=0.5, further=0.6)

# Logistic regression on the example questions, with one model for all groups so that it also works for your
# groups. Its features: the weight of a group's words, of its strongest rival's, and of two kinds of words against
# any group: general ones (greetings, the summit at large) and outside subjects (poems, football). ``python -m
# ecowas_lc.supervisor.routing.build`` prints newly fitted constants.
OWN, RIVAL, GENERAL, ELSEWHERE, BIAS = 9.66, -2.09, -2.75, -4.95, -3.01

_USUALLY_SHARED = 0.4  # for groups without examples

_SET_ASIDE = 0.4
"""Minimum weight of a group's words in the excluded part of a text for the group to be excluded."""

_NAMED = 0.7
"""Minimum weight of a term for a turn to name a group by it."""

_GENERAL, _ELSEWHERE, _NEUTRAL = "|general", "|elsewhere", "|neutral"  # no group's id may contain a bar


@dataclass(frozen=True, slots=True)
class WordEvidence:
    """The evidence of a question's words: weights per group, the terms behind them, and the words against.

    ``focus`` is the part of the text that was read, ``found`` the words that point to a group, and ``set_aside``
    the groups that the text excludes.
    """

    focus: Focus
    weights: Mapping[str, float]
    terms: Mapping[str, tuple[str, ...]]
    found: tuple[FoundWord, ...]
    general: float
    elsewhere: float
    set_aside: frozenset[str] = frozenset()

    def relevance(self) -> dict[str, float]:
        """Return for each group how certain the words are that the question concerns it, from 0 to 1."""
        return {group: logistic(*self.features(group)) for group in self.weights}

    def features(self, group: str) -> tuple[float, float, float, float]:
        """Return four weights from 0 to 1: the group's, its strongest rival's, and the two against any group."""
        rival = max((weight for other, weight in self.weights.items() if other != group), default=0.0)
        return (
            _saturate(self.weights[group]),
            _saturate(rival),
            _saturate(self.general),
            _saturate(self.elsewhere),
        )


class LexicalRouter:
    """A router by vocabulary only: deterministic, without a model, well under a millisecond per question.

    Raises:
        InvalidIdError, InvalidInputError: The groups or their terms are not usable.
    """

    def __init__(self, groups: Sequence[TWG] | None = None) -> None:
        self._groups = default_groups() if groups is None else validate_groups(groups)
        self._vocabulary = _vocabulary(tuple(self._groups))

    def route(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return the groups whose words the question contains, the strongest first.

        Raises:
            EmptyQuestionError: The question contains no text.
        """
        question = checked_question(question)
        if not conversation:
            evidence = self.evidence(question)
            relevance = evidence.relevance()
            return _decision(THRESHOLDS.choose(relevance), relevance, evidence)
        turn = read_turn(question, self)
        relevance = turn.evidence.relevance()
        resolved = resolve(turn, relevance, turn.kinds, conversation, self, THRESHOLDS)
        return followed(_decision(THRESHOLDS.choose(relevance), relevance, turn.evidence), resolved)

    async def aroute(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return what :meth:`route` returns; it is fast enough to run on the event loop."""
        return self.route(question, conversation=conversation)

    def evidence(self, question: str) -> WordEvidence:
        """Return what the words of a question say about each group."""
        part = focus(question)
        aside = self._weigh(part, part.dismissed)
        set_aside = frozenset(group for group in aside.weights if aside.weights[group] >= _SET_ASIDE)
        if not part.asked:  # everything is excluded: then that is the subject
            return replace(aside, set_aside=set_aside)
        asked = self._weigh(part, part.asked)
        if not set_aside:
            return asked
        return replace(
            asked,
            weights={group: 0.0 if group in set_aside else asked.weights[group] for group in asked.weights},
            found=tuple(word for word in asked.found if word.group not in set_aside),
            set_aside=set_aside,
        )

    def turn_features(self, text: str) -> set[str]:
        """Return the features of a turn's words from which its kind is predicted."""
        read = words_in_place(text)
        return features(read, self.marked(read, text), "?" in text)

    def joins(self, group: str) -> float:
        """Return how often a group works with others, from 0 to 1: the share of its examples that concern both."""
        return _shared().get(group, _USUALLY_SHARED)

    def marked(self, read: Sequence[Word], text: str) -> list[Marked]:
        """Return the words of a turn that belong to a group or to an outside subject."""
        found: list[Marked] = []
        for match in self._vocabulary.terms.matches_among(read, guess_language(text), self._vocabulary.spelling):
            if max((w for label, w in match.weights.items() if not label.startswith("|")), default=0) >= _NAMED:
                found.append(Marked(match.start, match.end, GROUP))
            elif match.weights.get(_ELSEWHERE, 0) >= _NAMED:
                found.append(Marked(match.start, match.end, ELSEWHERE_MARK))
        return found

    def _weigh(self, part: Focus, spans: Sequence[tuple[int, int]]) -> WordEvidence:
        """Return the evidence of the words in these parts of a text."""
        weights = dict.fromkeys((*(group.id for group in self._groups), _GENERAL, _ELSEWHERE, _NEUTRAL), 0.0)
        terms: dict[str, list[str]] = {group.id: [] for group in self._groups}
        found: list[FoundWord] = []
        seen: set[tuple[str, str]] = set()
        read = [word for start, end in spans for word in words_in_place(part.text, start, end)]
        language = guess_language(" ".join(part.text[start:end] for start, end in spans))
        for match in self._vocabulary.terms.matches_among(read, language, self._vocabulary.spelling):
            start, end = read[match.start].start, read[match.end - 1].end
            for label, weight in match.weights.items():
                if label in terms:
                    found.append(FoundWord(part.text[start:end], start, end, label))
                if (label, match.term) in seen:
                    continue
                seen.add((label, match.term))
                weights[label] += weight
                if label in terms:
                    terms[label].append(match.term)
        return WordEvidence(
            focus=part,
            weights={group: weights[group] for group in terms},
            terms={group: tuple(one) for group, one in terms.items()},
            found=tuple(found),
            general=weights[_GENERAL],
            elsewhere=weights[_ELSEWHERE],
        )


class _Known(NamedTuple):
    terms: Vocabulary
    spelling: Spelling


@lru_cache(maxsize=16)
def _known(own: tuple[Term, ...]) -> _Known:
    """Return the vocabulary of these groups and the spelling of its words, shared by all routers of a process."""
    terms = Vocabulary([*own, *_terms_against(own)])
    labels = {term.label for term in own}
    learnt = _word_frequency()
    telling = [word for word in learnt if not terms.labels_of(word).isdisjoint(labels)]
    return _Known(terms, Spelling([*terms.single_words(labels), *telling], _right_words()))


def _vocabulary(groups: tuple[TWG, ...]) -> _Known:
    return _known(tuple(_own_terms(groups)))


def _decision(groups: tuple[str, ...], relevance: Mapping[str, float], evidence: WordEvidence) -> RouteDecision:
    if groups:
        found = "; ".join(f"{group} ({', '.join(evidence.terms[group])})" for group in groups)
        reason = f"The question contains words of {found}."
    elif any(evidence.weights.values()):
        reason = "The question's words point to no group clearly enough."
    elif evidence.general or evidence.elsewhere:
        reason = "The question has only general words."
    else:
        reason = "No group's words are in the question."
    return RouteDecision(
        groups,
        "lexical",
        reason,
        scores=relevance,
        words=evidence.found,
        question=evidence.focus.text,
        thresholds=THRESHOLDS.as_pair(),
    )


def logistic(own: float, rival: float, general: float, elsewhere: float) -> float:
    """Return the relevance for these features of a group."""
    return 1 / (1 + math.exp(-(OWN * own + RIVAL * rival + GENERAL * general + ELSEWHERE * elsewhere + BIAS)))


def _saturate(weight: float) -> float:
    return 1 - math.exp(-weight)


def _own_terms(groups: Sequence[TWG]) -> Iterator[Term]:
    for group in groups:
        for language, terms in group.terms.items():
            for term in terms:
                yield Term(term, group.id, language)
        for term in described_terms(group):
            yield Term(term, group.id)


def _terms_against(own: Sequence[Term]) -> Iterator[Term]:
    """Yield the general terms, except those that a group uses as its own."""
    claimed = Vocabulary(own)
    labels = {"neutral": _NEUTRAL, "elsewhere": _ELSEWHERE, "outside": _ELSEWHERE}
    for kind, terms in general_cues().items():
        for term in terms:
            if kind == "neutral" or not claimed.is_term(parse_term(term)[0]):
                yield Term(term, labels.get(kind, _GENERAL))


# Words that may stand between the words of a phrase: "pertes sur le réseau" is found by "pertes réseau".
_FILLERS = frozenset(
    words(
        """a an and of for the to in on our their its my your de du des la le les l d et sur en au aux un une nos
        da do das dos na no nas o os as e em para por um uma"""
    )
)
_MOST_FILLERS = 2
_PART = re.compile(r"=?[^\W_]+\*?")
_OTHER_LANGUAGE = 0.55  # "data" means date in Portuguese, but technical English is common in all three languages


class Term(NamedTuple):
    """A term from a group's data, the label that it points to, and its language (``""``: any)."""

    text: str
    label: str
    language: str = ""


class Match(NamedTuple):
    """A term found among words: the words that it spans, its text, and its weight for each label."""

    start: int
    end: int
    term: str
    weights: dict[str, float]


@dataclass(slots=True)
class _Node:
    exact: dict[str, _Node] = field(default_factory=dict)
    stems: dict[str, _Node] = field(default_factory=dict)
    term: str = ""
    weights: dict[tuple[str, str], float] = field(default_factory=dict)  # by label and language

    def after(self, word: str, accented: str) -> Iterator[_Node]:
        """Yield the nodes that a word leads to, the most exact first."""
        if word in self.exact:
            yield self.exact[word]
        if accented != word and "=" + accented in self.exact:
            yield self.exact["=" + accented]
        if self.stems:
            for length in range(len(word), 0, -1):
                if word[:length] in self.stems:
                    yield self.stems[word[:length]]


class Vocabulary:
    """Terms with the labels that they point to; a term may point to several labels.

    A term is a word or a phrase. A word that ends in ``*`` is a stem; a word that starts with ``=`` needs its
    accents (``=maïs`` is not ``mais``); ``^0.5`` after the term sets a weight other than 1. Otherwise, case,
    accents, hyphens and apostrophes are ignored. If one term lies within another, only the longer one counts; of
    terms that span the same words, a less exact one counts only in the languages of the most exact one: a
    *banquet* is not a *banque*. A term weighs less in a question that is clearly in another language.

    Raises:
        InvalidInputError: A term contains no letter, or its weight is not a positive number.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        self._root = _Node()
        self._languages: set[str] = set()
        for term in terms:
            text, weight = parse_term(term.text)
            node = self._root
            for part in _parts(text):
                children = node.stems if part.endswith("*") else node.exact
                node = children.setdefault(part.rstrip("*"), _Node())
            node.term = text
            key = (term.label, term.language)
            node.weights[key] = max(weight, node.weights.get(key, 0.0))
            self._languages.add(term.language)

    def matches(self, question: str) -> list[Match]:
        """Return the terms found in a question, in order, without terms inside other terms."""
        return self.matches_among(words_in_place(question), guess_language(question))

    def matches_among(
        self, found_words: Sequence[Word], language: str | None, spelling: Spelling | None = None
    ) -> list[Match]:
        """Return the terms found among the words of a text in this language (``None``: uncertain).

        With ``spelling``, a word that starts no term is replaced by the word of which it is a misspelling.
        """
        folded = [word.folded for word in found_words]
        accented = [word.accented for word in found_words]
        if spelling is not None:
            for place, word in enumerate(folded):
                if not self._knows(word, accented[place]):
                    folded[place] = spelling.corrected(word)
        found: list[Match] = []
        covered = 0
        for start in range(len(folded)):
            end, nodes = self._longest(folded, accented, start)
            if nodes and end > covered:
                found.append(Match(start, end, nodes[0].term, _weigh(nodes, language)))
                covered = end
        return found

    def single_words(self, labels: Collection[str]) -> Iterator[str]:
        """Yield the terms that are one whole word and point to one of these labels."""
        for word, node in self._root.exact.items():
            if any(label in labels for label, _ in node.weights):
                yield word

    def labels_of(self, word: str) -> set[str]:
        """Return the labels that a single word points to."""
        return {label for node in self._root.after(word, word) for label, _ in node.weights}

    def is_term(self, text: str) -> bool:
        """Return whether the whole text is a term."""
        spelt = words_in_place(text.replace("*", "").replace("=", ""))
        folded, accented = [word.folded for word in spelt], [word.accented for word in spelt]
        return bool(folded) and self._longest(folded, accented, 0)[0] == len(folded)

    def _knows(self, word: str, accented: str) -> bool:
        return next(self._root.after(word, accented), None) is not None

    def _longest(self, folded: Sequence[str], accented: Sequence[str], start: int) -> tuple[int, list[_Node]]:
        """Return the end of the longest terms from ``start``, and their nodes, the most exact first."""
        longest: tuple[int, list[_Node]] = (start, [])
        stack = [(self._root, start, 0, False)]
        while stack:
            node, position, skipped, behind_filler = stack.pop()
            if node.weights and not behind_filler:  # a term must end with a word of its own
                if position > longest[0]:
                    longest = (position, [node])
                elif position == longest[0]:
                    longest[1].append(node)
            if position == len(folded):
                continue
            word = folded[position]
            if start < position and skipped < _MOST_FILLERS and word in _FILLERS and (node.exact or node.stems):
                stack.append((node, position + 1, skipped + 1, True))
            children = list(node.after(word, accented[position]))
            stack.extend(
                (child, position + 1, skipped, False) for child in reversed(children)
            )  # the last is popped first
        return longest


def parse_term(term: str) -> tuple[str, float]:
    """Split a term into its text and its weight.

    Raises:
        InvalidInputError: The term contains no letter or digit, or its weight is not a positive number.
    """
    text, caret, number = term.partition("^")
    try:
        weight = float(number) if caret else 1.0
    except ValueError:
        weight = 0.0
    if not weight > 0 or math.isinf(weight):
        raise InvalidInputError(f"The weight of {term!r} is not a positive number. Write it as in 'tariff*^0.5'.")
    if not _PART.search(text):
        raise InvalidInputError(f"The term {term!r} contains no letter or digit. Remove it.")
    return text.strip(), weight


def _parts(text: str) -> list[str]:
    """Return a term's words as stored in the tree: folded, except those that need their accents."""
    return [part if part.startswith("=") else fold(part) for part in _PART.findall(text.lower())]


def _weigh(nodes: Sequence[_Node], language: str | None) -> dict[str, float]:
    """Return the weights for each label of terms that span the same words, in a question in ``language``."""
    languages = {own for _, own in nodes[0].weights}
    weights: dict[str, float] = {}
    for node in nodes:
        fresh: dict[str, float] = {}
        for (label, own), weight in node.weights.items():
            if label in weights or (own and own not in languages):
                continue
            foreign = language is not None and own in ("en", "fr", "pt") and own != language
            fresh[label] = max(fresh.get(label, 0.0), weight * (_OTHER_LANGUAGE if foreign else 1.0))
        weights |= fresh
    return weights


FEW_TERMS = 30
"""A group with fewer terms is also found by the words of its description."""

_WEIGHT = 0.8
_SHORTEST = 4
_MOST_FREQUENT = 4  # in about 2,000 questions; "regional" or "access" point to no single group


def count_terms(group: TWG) -> int:
    """Return how many terms a group has in all languages."""
    return sum(map(len, group.terms.values()))


def described_terms(group: TWG) -> Iterator[str]:
    """Yield the distinctive words of a group's name and description, as terms for a vocabulary."""
    if count_terms(group) >= FEW_TERMS:
        return
    frequency = _word_frequency()
    for word in dict.fromkeys(words(f"{group.name} {group.description}")):
        if len(word) >= _SHORTEST and frequency[word] <= _MOST_FREQUENT:
            stem = f"{word[:-1]}*" if word.endswith("s") and len(word) > _SHORTEST else word
            yield f"{stem}^{_WEIGHT}"


@cache
def _right_words() -> frozenset[str]:
    """Return words that are never treated as misspellings."""
    turns = {word for turn in example_turns() for word in words(turn.text)}
    return frozenset(turns.union(_word_frequency(), *COMMON_WORDS.values()))


@cache
def _shared() -> dict[str, float]:
    asked = Counter(group for example in example_questions() for group in example.groups)
    shared = Counter(
        group for example in example_questions() if len(example.groups) > 1 for group in example.groups
    )
    return {group: shared[group] / asked[group] for group in asked}


@cache
def _word_frequency() -> Counter[str]:
    return Counter(word for example in example_questions() for word in set(words(example.question)))
