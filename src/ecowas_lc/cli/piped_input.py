"""Piped input: lines of UTF-8, or an error that names the line."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ecowas_lc.errors import InvalidInputError

_LONGEST_LINE = 4_000_000


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input, without line endings.

    Raises:
        InvalidInputError: A line is not UTF-8, or longer than 4 MB; nothing of it is passed on.
    """
    source = getattr(sys.stdin, "buffer", sys.stdin)
    number = 0
    while line := source.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise InvalidInputError(f"Line {number} of the input is longer than 4 MB. Shorten it.")
        try:
            text = line if isinstance(line, str) else line.decode("utf-8-sig" if number == 1 else "utf-8")
            text.encode()
        except UnicodeError:
            raise InvalidInputError(
                f"Line {number} of the input is not UTF-8. Convert it first: iconv -f latin1 -t utf-8 FILE"
            ) from None
        yield text.rstrip("\r\n")


def piped_text() -> str:
    """Return all of standard input.

    Raises:
        InvalidInputError: Standard input is a terminal, or not UTF-8.
    """
    if sys.stdin.isatty():
        raise InvalidInputError('There is no question. Write: ecowas-lc ask "…", or pipe it in: … | ecowas-lc ask')
    return "\n".join(piped_lines())
