"""Fuzz everything that reads stored data: ``python -m tests.faults.fuzz_decoders -max_total_time=600``.

Needs ``pip install atheris`` (Linux, Python 3.11 to 3.13). Only errors of :mod:`ecowas_lc.errors` may be raised.
Arguments are libFuzzer's; inputs are up to 64 kB, with a dictionary of the bytes that nest payloads. The first
byte selects the decoder; seeds are real stored values, created at the start. ``--inputs 2000 --seed 7`` tries
that many inputs without atheris, as the test suite does.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import decimal
import faulthandler
import random
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports(include=["ecowas_lc"]) if atheris else contextlib.nullcontext():
    from ecowas_lc.checkpoint.client_cache import ClientCache
    from ecowas_lc.checkpoint.codec.elements import Elements, digests_in
    from ecowas_lc.checkpoint.codec.serializer import Serializer
    from ecowas_lc.checkpoint.codec.types import BUILTIN_BY_NAME
    from ecowas_lc.checkpoint.configs import CheckpointPlace
    from ecowas_lc.checkpoint.encryption import EncryptedRedisSerializer
    from ecowas_lc.checkpoint.format import Format, Found, unpack_envelope
    from ecowas_lc.errors import EcowasError
    from ecowas_lc.history.messages import from_document
    from ecowas_lc.memory.json_values import from_json
    from ecowas_lc.storage.backup_format import Lines

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

SERIALIZER = Serializer()
FORMAT = Format(SERIALIZER, None, "ecowas", ClientCache())
SEALED = EncryptedRedisSerializer(b"k" * 32)
SEALED_FORMAT = Format(SEALED, SEALED.sealer, "ecowas", ClientCache())
PLACE = CheckpointPlace("t", "", "1f0")
MOST_BYTES = 65_536
# Heads of extensions of every code and length, of containers, of long values; names of types.
DICTIONARY = [
    *(bytes([0xC7, length, code]) for code in range(1, 7) for length in (0, 5, 255)),
    *(bytes([0xC8, *length.to_bytes(2, "big"), code]) for code in range(1, 7) for length in (300, 65_535)),
    *(bytes([0xC9, *length.to_bytes(4, "big"), code]) for code in range(1, 7) for length in (70_000, 2**32 - 1)),
    *(bytes([0xD4 + width, code]) for code in range(1, 7) for width in range(5)),
    *(bytes([head]) for head in (0x80, 0x81, 0x8F, 0x90, 0x91, 0x9F, 0xC0, 0xC1, 0xC4, 0xDC, 0xDD, 0xDE, 0xDF)),
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xcb\x7f\xf0\0\0\0\0\0\0",
    b"\xff\xff",
    b"\0\0",
    b"[",
    b'{"lc": 1, "a": ',
    *(bytes([0xA0 + len(name)]) + name.encode() for name in sorted(BUILTIN_BY_NAME)),
    b"\xa7ndarray",
]


def load_value(data: bytes) -> None:
    SERIALIZER.load(data, elements_of(data))


def load_items(data: bytes) -> None:
    elements = elements_of(data)
    SERIALIZER.load_items(list(elements._stored), elements)


def load_row(data: bytes) -> None:
    FORMAT.checkpoint(Found(PLACE, data, [data[7:]] * data.count(b"v"), []), elements_of(data))


def load_writes(data: bytes) -> None:
    FORMAT.pending_writes(Found(PLACE, b"", [], [data]), elements_of(data))


def load_list(data: bytes) -> None:
    FORMAT.load_value(PLACE, b"\0messages\0i1", data, elements_of(data))


def load_message(data: bytes) -> None:
    document = from_json(data, b"k", 0)
    if isinstance(document, dict):
        from_document(document, b"k", 0)


def load_envelope(data: bytes) -> None:
    names = data[:200].decode("utf-8", "replace")
    unpack_envelope([*SERIALIZER.load(b"\0\0\x9a" + data[200:])[:9], names], "1f0")


def load_sealed(data: bytes) -> None:
    SEALED_FORMAT.pending_writes(Found(PLACE, b"", [], [b"\0\0\xc1\x01" + data]), Elements({}, b"", SEALED.sealer))


def load_entry(data: bytes) -> None:
    head = len(PLACE.id).to_bytes(2, "big") + PLACE.id
    FORMAT.load_entry(PLACE, head + data)


def load_line(data: bytes) -> None:
    lines = Lines()
    for line in ('{"format": "ecowas-lc", "version": 1}', data.decode("utf-8", "replace")):
        lines.record(line)


def elements_of(data: bytes) -> Elements:
    """The input cut into elements, so that references find something."""
    digests = digests_in(data[2:82])
    return Elements({digest: data[2 + 16 * i :] for i, digest in enumerate(digests)}, b"", None)


DECODERS = (
    load_value,
    load_items,
    load_row,
    load_writes,
    load_list,
    load_message,
    load_envelope,
    load_sealed,
    load_line,
    load_entry,
)


def one_input(data: bytes) -> None:
    if not data:
        return
    with contextlib.suppress(EcowasError):
        DECODERS[data[0] % len(DECODERS)](data[1:])


def write_seeds(folder: Path) -> None:
    """Real stored values, one file each."""
    values = [
        {"a": [1, 2.5, None, True, "x" * 200], "b": (1, {2, 3}), 5: b"bytes"},
        [HumanMessage("?", id="1"), AIMessage("!" * 200, id="2", response_metadata={"model": "m"})],
        ToolMessage("42", tool_call_id="c", artifact={"n": 1}),
        [dt.datetime.now(dt.UTC), uuid.uuid4(), decimal.Decimal("1.5"), 2**90, "\ud800"],
    ]
    for number, value in enumerate(values):
        shared = FORMAT.collector("t")
        plain, referring = SERIALIZER.dump(value), SERIALIZER.dump(value, shared)
        for kind in range(len(DECODERS)):
            (folder / f"{number}-{kind}-plain").write_bytes(bytes([kind]) + plain)
            (folder / f"{number}-{kind}-shared").write_bytes(bytes([kind]) + referring)
        for digest in shared.bodies:
            (folder / f"{number}-{digest.hex()}").write_bytes(b"\1" + shared.stored(digest))
    (folder / "message").write_bytes(b'\5{"role": "assistant", "content": "!", "tool_calls": [{"name": "f"}]}')


def wrapped(data: bytes, dice: random.Random) -> bytes:
    """``data`` inside extensions and arrays, again and again."""
    code, arrays = dice.choice([2, 2, 3, 4]), dice.choice([0, 1, 3, 200, 900])
    for _ in range(dice.choice([1, 2, 5, 20, 100, 700])):
        inner = b"\x91" * arrays + data
        body = {2: b"\x92\xa5tuple\x91" + inner, 3: b"\x93\0" + inner + b"\xc0", 4: b"\x91\x92\x01" + inner}[code]
        if len(body) > MOST_BYTES - 10:
            break
        data = b"\xc9" + len(body).to_bytes(4, "big") + bytes([code]) + body
    return data


def changed(data: bytes, dice: random.Random) -> bytes:
    """One of the things that a fuzzer does to an input."""
    at = dice.randrange(len(data) + 1)
    match dice.randrange(6):
        case 0:
            return data[:at] + dice.choice(DICTIONARY) * dice.choice([1, 1, 2, 50, 3000]) + data[at:]
        case 1:
            return data[:at] + bytes([dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            return data[:at] + dice.choice(DICTIONARY) + data[at + dice.randrange(1, 9) :]
        case 4:
            return data[:3] + wrapped(data[3:], dice)
        case _:
            return data[:at] + data[dice.randrange(len(data) + 1) :]


def try_inputs(seeds: list[bytes], inputs: int, seed: int) -> None:
    """Try this many inputs, each a seed with a few changes."""
    dice = random.Random(seed)
    for _ in range(inputs):
        data = dice.choice(seeds)
        for _ in range(dice.randrange(1, 6)):
            data = changed(data, dice)[:MOST_BYTES]
        if dice.random() < 0.3:
            data = bytes([dice.randrange(len(DECODERS))]) + data[1:]
        one_input(data)
    print(f"{inputs} inputs")


def main() -> None:
    """Fuzz until libFuzzer's limits are met, or something comes out that must not."""
    folder = Path(tempfile.mkdtemp(prefix="ecowas-lc-fuzz-"))
    write_seeds(folder)
    if "--inputs" in sys.argv:
        faulthandler.enable()
        parser = argparse.ArgumentParser()
        parser.add_argument("--inputs", type=int, required=True)
        parser.add_argument("--seed", type=int, default=0)
        given: Any = parser.parse_args()
        try_inputs([file.read_bytes() for file in sorted(folder.iterdir())], given.inputs, given.seed)
        return
    if atheris is None:
        sys.exit("Without --inputs this needs atheris: pip install atheris")
    dictionary = folder.with_suffix(".dict")
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in DICTIONARY)
    dictionary.write_text("".join(f'"{word}"\n' for word in words))
    options = [f"-max_len={MOST_BYTES}", f"-dict={dictionary}"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(folder)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
