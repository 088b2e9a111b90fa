"""Fuzz everything that reads what is stored: ``python -m tests.faults.fuzz_decoders -max_total_time=600``.

Needs ``pip install atheris`` (Linux, Python 3.11 to 3.13). Only errors of :mod:`ecowas_lc.errors` may come out.
Arguments are libFuzzer's. The first bytes choose the decoder; seeds are real stored values, made at the start.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import sys
import tempfile
import uuid
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ecowas_lc"]):
    from ecowas_lc.checkpoint.client_cache import Memo
    from ecowas_lc.checkpoint.codec.elements import Elements, digests_in
    from ecowas_lc.checkpoint.codec.serializer import Serializer
    from ecowas_lc.checkpoint.format import Format, Found
    from ecowas_lc.checkpoint.place import Place
    from ecowas_lc.errors import EcowasError
    from ecowas_lc.history.messages import from_document
    from ecowas_lc.memory.json_values import from_json

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

SERIALIZER = Serializer()
FORMAT = Format(SERIALIZER, None, "ecowas", Memo())
PLACE = Place("t", "", "1f0")


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


def elements_of(data: bytes) -> Elements:
    """The input cut into elements, so that references find something."""
    digests = digests_in(data[2:82])
    return Elements({digest: data[2 + 16 * i :] for i, digest in enumerate(digests)}, b"", None)


DECODERS = (load_value, load_items, load_row, load_writes, load_list, load_message)


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


def main() -> None:
    """Fuzz until libFuzzer's limits are met, or something comes out that must not."""
    folder = Path(tempfile.mkdtemp(prefix="ecowas-lc-fuzz-"))
    write_seeds(folder)
    atheris.Setup([*sys.argv, str(folder)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
