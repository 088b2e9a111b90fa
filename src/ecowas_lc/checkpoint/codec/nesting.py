"""The nesting limit of payloads: data that would be refused on reading is also refused on writing.

msgpack's own limit restarts inside each extension, and each level takes space on the C stack, which no
``RecursionError`` protects. Without a limit of our own, a few kilobytes of extensions crash the process.
"""

from __future__ import annotations

MOST_WRITTEN = 200
"""Maximum nesting of objects that the writer accepts."""
MOST_READ = 500
"""Maximum nesting of objects that the reader accepts: earlier versions wrote as deep as their stack allowed."""
MOST_NESTED = 2048
"""Maximum nesting of arrays, maps and extensions, including the contents of extensions."""
MOST_IN_ONE = 1023
"""msgpack's own limit for the nesting of arrays and maps, outside of extensions."""

# The number of bytes between a head of this type and its contents, such as those of the length.
_FIXED = {0xC0: 0, 0xC1: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_FIXED |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_SHORT_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def nests_too_deep(payload: bytes, opened: frozenset[int]) -> bool:
    """Return whether a payload nests deeper than ``MOST_NESTED``; ``opened``: extension codes with msgpack.

    It reads the heads one by one without recursion. A truncated payload ends early.
    """
    at, size = 0, len(payload)
    left: list[int] = []  # the number of items left in each open container
    while at < size:
        head = payload[at]
        at += 1
        items = 0
        if head < 0x80 or head >= 0xE0:
            pass
        elif head < 0xA0:
            items = 2 * (head & 15) if head < 0x90 else head & 15
        elif head < 0xC0:
            at += head & 31
        elif head in _FIXED:
            at += _FIXED[head]
        elif head in _BYTES:
            width = _BYTES[head]
            at += width + int.from_bytes(payload[at : at + width], "big")
        elif head in _CONTAINERS:
            width, each = _CONTAINERS[head]
            items = each * int.from_bytes(payload[at : at + width], "big")
            at += width
        else:
            if head in _EXTENSIONS:
                width = _EXTENSIONS[head]
                length = int.from_bytes(payload[at : at + width], "big")
                at += width
            else:
                length = _SHORT_EXTENSIONS[head]
            code = payload[at] if at < size else 0
            at += 1
            if code in opened and length:
                items = 1
            else:
                at += length
        if items:
            left.append(items)
            if len(left) > MOST_NESTED:
                return True
            continue
        while left:
            left[-1] -= 1
            if left[-1]:
                break
            left.pop()
    return False
