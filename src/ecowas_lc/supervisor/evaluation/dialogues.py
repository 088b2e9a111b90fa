"""A router's accuracy on labelled conversations, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ecowas_lc._display import Displayed
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.supervisor.routing import PastTurn, RouteDecision, Router, with_conversation
from ecowas_lc.twg import Dialogue, LabelledTurn

MOVES = ("stay", "add", "drop", "leave", "nobody")
"""What a turn does to the previous groups: keep them, add some, drop some, switch to others, or ask no group."""


@dataclass(frozen=True, slots=True)
class DialogueScore:
    """One language's figures: all turns, and those that cannot be routed by their own words."""

    n: int
    exact_set: float
    in_context: int
    exact_in_context: float


@dataclass(frozen=True, slots=True)
class TurnMistake:
    """A turn that was not sent to exactly its groups, with the turns before it."""

    turn: LabelledTurn
    decision: RouteDecision
    before: tuple[PastTurn, ...]
    dialogue: str


@dataclass(frozen=True, slots=True)
class DialogueReport(Displayed):
    """A router's figures over the ``n`` turns of dialogues.

    ``exact_set`` is the share of turns sent to exactly their groups; ``exact_in_context`` is the same share of the
    ``in_context`` turns, which cannot be routed by their own words. ``moves[expected][chosen]`` counts turns by
    what they do to the groups asked before (:data:`MOVES`), if any were asked.
    """

    n: int
    exact_set: float
    micro_f1: float
    in_context: int
    exact_in_context: float
    by_language: dict[str, DialogueScore]
    moves: dict[str, dict[str, int]]
    mistakes: tuple[TurnMistake, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures ready for JSON, rounded to four places, without the mistakes."""
        return {
            "n": self.n,
            "exact_set": round(self.exact_set, 4),
            "micro_f1": round(self.micro_f1, 4),
            "in_context": self.in_context,
            "exact_in_context": round(self.exact_in_context, 4),
            "by_language": {
                language: {
                    "n": score.n,
                    "exact_set": round(score.exact_set, 4),
                    "in_context": score.in_context,
                    "exact_in_context": round(score.exact_in_context, 4),
                }
                for language, score in self.by_language.items()
            },
            "moves": {expected: dict(chosen) for expected, chosen in self.moves.items()},
        }


@dataclass(frozen=True, slots=True)
class _Outcome:
    dialogue: Dialogue
    turn: LabelledTurn
    decision: RouteDecision
    before: tuple[PastTurn, ...]

    @property
    def is_exact(self) -> bool:
        return set(self.turn.groups) == set(self.decision.groups)


def evaluate_dialogues(
    router: Router,
    dialogues: Iterable[Dialogue],
    *,
    own_past: bool = False,
    on_dialogue: Callable[[int, int], None] | None = None,
) -> DialogueReport:
    """Route every turn of every dialogue and return the figures.

    Args:
        router: The router.
        dialogues: The labelled dialogues.
        own_past: Whether the router is told its own earlier choices, as in use, where one mistake leads to others.
            By default it is told the labels, so each turn counts separately.
        on_dialogue: Called with the number of dialogues done and their total after each dialogue.

    Raises:
        InvalidInputError: There is no dialogue.
    """
    given = tuple(dialogues)
    if not given:
        raise InvalidInputError("There is no dialogue to evaluate on. Pass at least one.")
    conversing = with_conversation(router)
    outcomes: list[_Outcome] = []
    for done, dialogue in enumerate(given, start=1):
        before: tuple[PastTurn, ...] = ()
        for turn in dialogue.turns:
            decision = conversing.route(turn.question, conversation=before)
            outcomes.append(_Outcome(dialogue, turn, decision, before))
            before = (*before, PastTurn(turn.question, decision.groups if own_past else turn.groups))
        if on_dialogue is not None:
            on_dialogue(done, len(given))
    context = [outcome for outcome in outcomes if outcome.turn.needs_context]
    languages = dict.fromkeys(dialogue.language for dialogue in given)
    return DialogueReport(
        n=len(outcomes),
        exact_set=_exact(outcomes),
        micro_f1=_micro_f1(outcomes),
        in_context=len(context),
        exact_in_context=_exact(context),
        by_language={language: _score(language, outcomes) for language in languages},
        moves=_moves(outcomes),
        mistakes=tuple(
            TurnMistake(outcome.turn, outcome.decision, outcome.before, outcome.dialogue.id)
            for outcome in outcomes
            if not outcome.is_exact
        ),
    )


def move(groups: Collection[str], before: Collection[str]) -> str:
    """Return what asking these groups does to those asked before, one of :data:`MOVES`."""
    now, then = set(groups), set(before)
    if not now:
        return "nobody"
    if now == then:
        return "stay"
    if now > then:
        return "add"
    return "drop" if now < then else "leave"


def _moves(outcomes: Sequence[_Outcome]) -> dict[str, dict[str, int]]:
    table = {expected: dict.fromkeys(MOVES, 0) for expected in MOVES}
    for outcome in outcomes:
        topic = next((turn.groups for turn in reversed(outcome.before) if turn.groups), None)
        if topic is not None:
            table[move(outcome.turn.groups, topic)][move(outcome.decision.groups, topic)] += 1
    return table


def _exact(outcomes: Sequence[_Outcome]) -> float:
    return sum(outcome.is_exact for outcome in outcomes) / len(outcomes) if outcomes else 1.0


def _micro_f1(outcomes: Sequence[_Outcome]) -> float:
    right = sum(len({*outcome.turn.groups} & {*outcome.decision.groups}) for outcome in outcomes)
    named = sum(len({*outcome.turn.groups}) + len({*outcome.decision.groups}) for outcome in outcomes)
    return 2 * right / named if named else 1.0


def _score(language: str, outcomes: Sequence[_Outcome]) -> DialogueScore:
    own = [outcome for outcome in outcomes if outcome.dialogue.language == language]
    context = [outcome for outcome in own if outcome.turn.needs_context]
    return DialogueScore(
        n=len(own), exact_set=_exact(own), in_context=len(context), exact_in_context=_exact(context)
    )
