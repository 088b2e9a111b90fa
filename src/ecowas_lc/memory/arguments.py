"""Arguments of the memory API, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ecowas_lc.errors import InvalidInputError

FOREVER = float("inf")
LONGEST_TTL_SECONDS = 10**10  # three centuries; Redis refuses what overflows its clock


def check_ttl(ttl: object, what: str = "ttl") -> int:
    """``ttl`` in seconds where it can be used as a time to live.

    Raises:
        InvalidInputError: it is not a whole number of seconds from 1 on; ``what`` names it.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int):
        raise InvalidInputError(f"{what} must be a whole number of seconds, not {type(ttl).__name__}.")
    if not 1 <= ttl <= LONGEST_TTL_SECONDS:
        raise InvalidInputError(f"{what} must be from 1 to {LONGEST_TTL_SECONDS} seconds, not {ttl}.")
    return ttl


def lifetime_seconds(ttl: int | None, default_ttl: int | None) -> float:
    """``ttl``, or the default where it is ``None``; ``FOREVER`` where that is ``None``, too."""
    return lifetime_and_rule(ttl, default_ttl)[0]


def lifetime_and_rule(ttl: int | None, default_ttl: int | None) -> tuple[float, str]:
    """Both :func:`lifetime_seconds` and :func:`expiry_rule`."""
    if ttl is not None:
        seconds = check_ttl(ttl)
        return seconds, f"={seconds * 1000}"
    return (FOREVER, ">") if default_ttl is None else (default_ttl, f">{default_ttl * 1000}")


def lifetime_of(left: int) -> float:
    """Seconds from what ``PTTL`` says of a key that exists."""
    return FOREVER if left == -1 else left / 1000


def expiry_rule(ttl: int | None, default_ttl: int | None) -> str:
    """What the scripts are told: exactly ``ttl`` seconds, or without it the default or what is left, if longer."""
    return lifetime_and_rule(ttl, default_ttl)[1]


def check_count(count: object, what: str) -> int:
    """``count`` where it is a whole number from 1 on.

    Raises:
        InvalidInputError: it is not; ``what`` names it.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidInputError(f"{what} must be a whole number from 1 on, not {count!r}.")
    return count


def check_message(message: object) -> dict[str, Any]:
    """``message`` where it is a dict with a role and a content.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(message, dict):
        raise InvalidInputError(
            f'A message must be a dict like {{"role": "user", "content": "…"}}, not {type(message).__name__}. '
            "For LangChain messages use RedisChatMessageHistory."
        )
    if not isinstance(message.get("role"), str) or not message["role"]:
        raise InvalidInputError('A message needs a "role" that is text, such as "user" or "assistant".')
    if "content" not in message:
        raise InvalidInputError('A message needs a "content".')
    return message


def check_history(history: object) -> list[dict[str, Any]]:
    """``history`` as a list of messages.

    Raises:
        InvalidInputError: it is not one.
    """
    if isinstance(history, (str, bytes, dict)) or not isinstance(history, Iterable):
        raise InvalidInputError(f"The history must be a list of messages, not {type(history).__name__}.")
    return [check_message(message) for message in history]
