"""Ends what goes round in circles: a budget of steps, and of repetitions of the same step."""

from __future__ import annotations

from collections import Counter

from ecowas_lc.errors import LoopBudgetError


class LoopGuard:
    """Counts what one speaker does for one question.

    ``max_hops`` is the number of model calls, ``max_repeats`` how often the very same tool call may be made.
    """

    def __init__(self, who: str, *, max_hops: int, max_repeats: int) -> None:
        self._who = who
        self._max_hops = max_hops
        self._max_repeats = max_repeats
        self._seen: Counter[str] = Counter()
        self.hops = 0

    def hop(self) -> None:
        """Count one more model call.

        Raises:
            LoopBudgetError: the budget of model calls is used up.
        """
        if self.hops >= self._max_hops:
            raise LoopBudgetError(
                f"{self._who} made {self.hops} model calls and had no answer. "
                "Ask something narrower, or raise max_hops."
            )
        self.hops += 1

    def repeat(self, step: str) -> None:
        """Count one more ``step``, told apart by its text.

        Raises:
            LoopBudgetError: the same step was taken too often.
        """
        self._seen[step] += 1
        if self._seen[step] > self._max_repeats:
            raise LoopBudgetError(
                f"{self._who} repeated the same step more than {self._max_repeats} times: {step[:200]}. "
                "Ask something narrower, use another model, or raise max_repeats."
            )
