"""The groups that a turn of a conversation concerns: those of its own words, those of an earlier turn, or both.

A turn is read clause by clause: "ok. back to the lithium: who refines it?" thanks, returns to a subject, and asks.
What the turn does (:data:`ecowas_lc.supervisor.routing.turns.KINDS`) and which groups its own words point to are
already known, from words only or also from embeddings; this module weighs them against the groups asked before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ecowas_lc.supervisor.routing.decision import PastTurn, RouteDecision, TakenOver, Thresholds
from ecowas_lc.supervisor.routing.focus import clauses
from ecowas_lc.supervisor.routing.text import words
from ecowas_lc.supervisor.routing.turns import asks, kinds_of, links

if TYPE_CHECKING:
    from ecowas_lc.supervisor.routing.lexical import LexicalRouter, WordEvidence

Kinds = Mapping[str, float]

MOST_TURNS = 50
"""Number of past turns that are considered."""

_OPENING = 7  # maximum number of words of a clause that only introduces the next one
_LEADS = frozenset({"chat", "back", "change"})
_IS_LEAD = 0.45

# Thresholds for a turn that concerns no group or stays with the previous ones: how certain its kind must be, and
# how weak the evidence for groups of its own.
_CHAT, _OWN_IN_CHAT = 0.4, 0.5
_OUTSIDE, _OWN_OUTSIDE = 0.42, 0.6
_OWN_ABOUT = 0.6

_PLAIN = 0.8
"""From this certainty on, words alone decide a turn that names nothing."""

_PLAIN_KINDS = frozenset({"chat", "about", "summary", "follow"})

# Required relevance of a group that is new to the conversation; higher the more a turn looks like a follow-up.
_NEW, _NEW_IN_FOLLOW_UP = 0.45, 0.3

# If a turn names a group that was not asked before, the previous groups stay too, unless the new group rarely
# works with others, or the turn is a complete question: long enough, certain of its subject, and without a
# reference back. A question mark at the end shows that a short turn is complete; if its first word asks ("which",
# "how many"), a lower certainty is enough.
_JOINS = 0.3
_OWN_QUESTION, _OWN_WITH_MARK, _OWN_SURE, _TOPIC_SILENT = 7, 5, 0.8, 0.15

_ASKED_SURE, _TOPIC_SILENT_THEN = 0.55, 0.3

_BY_WORDS, _ELSEWHERE = 0.4, 0.3

_SHOWN = 60  # characters of an earlier question that are quoted in a reason

_FIRST = frozenset(
    {"first", "1st", "premier", "premiere", "1er", "1ere", "primeiro", "primeira", "1o", "1a", "debut"}
)


@dataclass(frozen=True, slots=True)
class ParsedTurn:
    """A parsed turn: the evidence of its own words, the kinds of its leading clauses, and the kinds of the rest.

    ``opening`` is a first clause that may introduce the rest, for classifiers that can tell better than words.
    """

    evidence: WordEvidence
    leads: frozenset[str]
    rest: str
    opening: str | None
    kinds: Kinds


@dataclass(frozen=True, slots=True)
class Resolution:
    """The groups of a turn, a short reason for them, and what is taken over from an earlier turn."""

    groups: tuple[str, ...]
    why: str
    taken_over: TakenOver | None = None


def read_turn(question: str, lexicon: LexicalRouter) -> ParsedTurn:
    """Parse a turn by its words."""
    evidence = lexicon.evidence(question)
    parts = [question[start:end] for start, end in clauses(question, evidence.focus.asked)]
    leads: set[str] = set()
    opening: str | None = None
    while len(parts) > 1 and len(parts[0].split()) <= _OPENING:
        kinds = kinds_of(lexicon.turn_features(parts[0]))
        likeliest = max(kinds, key=kinds.__getitem__)
        if likeliest not in _LEADS or kinds[likeliest] < _IS_LEAD:
            opening = opening or parts[0]
            break
        leads.add(likeliest)
        opening = parts.pop(0)
    rest = " ".join(parts) or question
    return ParsedTurn(evidence, frozenset(leads), rest, opening, kinds_of(lexicon.turn_features(rest)))


def is_plain(turn: ParsedTurn) -> bool:
    """Return whether the words of a turn are decisive, so that embeddings would add nothing."""
    likeliest = max(turn.kinds, key=turn.kinds.__getitem__)
    return (
        likeliest in _PLAIN_KINDS
        and not turn.leads
        and turn.opening is None
        and turn.kinds[likeliest] >= _PLAIN
        and not any(turn.evidence.weights.values())
        and not turn.evidence.elsewhere
        and not turn.evidence.set_aside
    )


def weighed_kinds(turn: ParsedTurn, by_meaning: Kinds) -> dict[str, float]:
    """Return the kinds of a turn by words and embeddings combined; outside vocabulary counts most."""
    kinds = {kind: (1 - _BY_WORDS) * by_meaning[kind] + _BY_WORDS * turn.kinds[kind] for kind in turn.kinds}
    if turn.evidence.elsewhere >= 1:
        kinds["outside"] += _ELSEWHERE
    return kinds


def resolve(
    turn: ParsedTurn,
    relevance: Mapping[str, float],
    kinds: Kinds,
    conversation: Sequence[PastTurn],
    lexicon: LexicalRouter,
    thresholds: Thresholds,
    *,
    opening: Kinds | None = None,
) -> Resolution:
    """Return the groups that a turn concerns after this conversation.

    ``relevance`` is how relevant each group is by the turn's own words, and ``kinds`` what the turn does;
    ``opening`` is the same for its first clause, if that is known better than by words.
    """
    own = thresholds.choose(relevance)
    past = _Past(conversation, relevance)
    if past.topic is None:
        return Resolution(own, "" if own else "nothing was asked before")
    own_most = max((relevance[group] for group in own), default=0.0)
    likeliest = max(kinds, key=kinds.__getitem__)
    leads = set(turn.leads)
    leads.update(lead for lead in ("back", "change") if opening and opening[lead] >= _IS_LEAD)
    topic = past.groups_of(past.topic)
    back = "back" in leads or likeliest == "back"

    if likeliest in ("chat", "summary") and kinds[likeliest] >= _CHAT and own_most < _OWN_IN_CHAT and not back:
        said = "small talk" if likeliest == "chat" else "about the whole conversation"
        return Resolution((), f"it is {said}")
    if kinds["outside"] >= _OUTSIDE and own_most < _OWN_OUTSIDE and not back:
        return Resolution((), "its subject belongs to no group")
    if turn.evidence.set_aside.intersection(topic):
        left = tuple(group for group in topic if group not in turn.evidence.set_aside)
        new = (
            ()
            if not turn.evidence.focus.asked
            else tuple(g for g in own if g not in left and relevance[g] >= _NEW)
        )
        return _with(past, left, past.topic, new, "it leaves out a part of what was asked before")
    if back:
        place = past.gone_back_to(own, first=not _FIRST.isdisjoint(words(turn.evidence.focus.question)))
        return _with(past, past.groups_of(place), place, (), "it goes back to an earlier question")
    if "change" in leads or likeliest == "change":
        return Resolution(own, "it changes the subject")
    if likeliest == "about" and own_most < _OWN_ABOUT:
        if _was_about_nothing(conversation[-1], lexicon):
            return Resolution((), "it is about the supervisor's last answer")
        return _with(past, topic, past.topic, (), "it is about the answer just given")
    follows = kinds["follow"] + kinds["about"]
    new = tuple(g for g in own if g not in topic and relevance[g] >= _NEW + _NEW_IN_FOLLOW_UP * follows)
    if not new:
        return _with(past, topic, past.topic, (), "it continues what was asked before")
    if any(lexicon.joins(group) >= _JOINS for group in new) and not _is_own_question(turn, relevance, topic, new):
        return _with(past, topic, past.topic, new, "it adds to what was asked before")
    return Resolution(new, "it asks something new")


def _is_own_question(
    turn: ParsedTurn, relevance: Mapping[str, float], topic: Collection[str], new: Collection[str]
) -> bool:
    asked = turn.rest
    enough = _OWN_WITH_MARK if asked.rstrip().endswith("?") else _OWN_QUESTION
    sure, silent = (_ASKED_SURE, _TOPIC_SILENT_THEN) if asks(asked) else (_OWN_SURE, _TOPIC_SILENT)
    return (
        sum(any(map(str.isalnum, word)) for word in asked.split()) >= enough
        and max(relevance[group] for group in new) >= sure
        and max(relevance[group] for group in topic) < silent
        and not links(asked, own=[word.text for word in turn.evidence.found if word.group in new])
    )


class _Past:
    """The earlier turns, limited to this router's groups."""

    def __init__(self, conversation: Sequence[PastTurn], known: Collection[str]) -> None:
        self.start = max(0, len(conversation) - MOST_TURNS)
        self.turns = conversation[self.start :]
        self._groups = [tuple(group for group in turn.groups if group in known) for turn in self.turns]
        self.topic = next((place for place in reversed(range(len(self.turns))) if self._groups[place]), None)

    def groups_of(self, place: int) -> tuple[str, ...]:
        return self._groups[place]

    def gone_back_to(self, named: Collection[str], *, first: bool) -> int:
        """Return the turn that a question goes back to: one that opened a subject.

        It is the latest subject with one of the groups ``named``; else the ``first`` subject, or the one before
        the current one, or the current one if something else came in between.
        """
        subjects = self._subjects()
        matching = [subject for subject in subjects if any(set(named) & set(self._groups[p]) for p in subject)]
        if matching:
            return matching[-1][0]
        if first:
            return subjects[0][0]
        if len(subjects) > 1 and self._groups[-1]:
            return subjects[-2][0]
        return subjects[-1][-1]

    def _subjects(self) -> list[list[int]]:
        """Return the indices of turns by subject: consecutive turns that share a group."""
        subjects: list[list[int]] = []
        for place, groups in enumerate(self._groups):
            if not groups:
                continue
            if subjects and set(groups) & set(self._groups[subjects[-1][-1]]):
                subjects[-1].append(place)
            else:
                subjects.append([place])
        return subjects


def followed(decision: RouteDecision, resolved: Resolution) -> RouteDecision:
    """Return a decision for a turn's own words, adjusted to the conversation."""
    taken = resolved.taken_over
    if not resolved.why:
        return decision
    why = f"In this conversation, {resolved.why}"
    if taken is not None:
        why += f": {', '.join(taken.groups)} from {_shortened(taken.question)!r}"
    return replace(decision, groups=resolved.groups, reason=f"{why}. {decision.reason}", taken_over=taken)


def _shortened(question: str) -> str:
    return question if len(question) <= _SHOWN else f"{question[: _SHOWN - 1]}…"


def _with(past: _Past, groups: tuple[str, ...], place: int, new: tuple[str, ...], why: str) -> Resolution:
    taken = TakenOver(groups, past.start + place, past.turns[place].question) if groups else None
    return Resolution(tuple(dict.fromkeys((*groups, *new))), why, taken)


def _was_about_nothing(turn: PastTurn, lexicon: LexicalRouter) -> bool:
    """Return whether the supervisor answered a turn by itself, other than as small talk."""
    if turn.groups:
        return False
    kinds = kinds_of(lexicon.turn_features(lexicon.evidence(turn.question).focus.question or turn.question))
    return kinds["summary"] + kinds["outside"] > 0.5
