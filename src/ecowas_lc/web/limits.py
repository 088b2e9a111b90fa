"""The rate limit of each user."""

from __future__ import annotations

import time
from collections import OrderedDict

_MOST_KNOWN = 10_000


class Rate:
    """A rate limit for each user: requests per minute, with a burst. Each process counts separately."""

    def __init__(self, per_minute: int) -> None:
        self._per_second = per_minute / 60
        self._most = max(1.0, per_minute / 6)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, who: str) -> float:
        """Take one request from a user's allowance, and return the seconds to wait if it is used up, else 0."""
        now = time.monotonic()
        left, then = self._left.pop(who, (self._most, now))
        left = min(self._most, left + (now - then) * self._per_second)
        taken = left >= 1
        self._left[who] = (left - 1 if taken else left, now)
        while len(self._left) > _MOST_KNOWN:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._per_second
