"""The checkpointer's pieces without a server: edits, memos, fields' names, envelopes, programs and replies."""

from __future__ import annotations

import copy
import json
import pickle
import struct
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import reindex as checkpoint_reindex
from ecowas_lc.checkpoint.client_cache import ClientCache, SeenList, ThreadMemo
from ecowas_lc.checkpoint.codec.elements import Collector, pack_row, split_row
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.checkpoint.configs import (
    CheckpointPlace,
    Extended,
    channel_of,
    decode_part,
    encode_part,
    encode_version,
    field_of,
)
from ecowas_lc.checkpoint.format import Format, edits, is_worth_sharing, pack_envelope, unpack_envelope
from ecowas_lc.checkpoint.reading import get_tuple_op
from ecowas_lc.checkpoint.writing import SaverContext, put_op, put_writes_op
from ecowas_lc.errors import CorruptDataError, InvalidInputError, StorageError
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import Pause, ScriptCall
from ecowas_lc.store import reindex as store_reindex

DIGESTS = st.lists(st.integers(0, 6).map(lambda number: bytes([number]) * 16), max_size=30).map(b"".join)
LONG = "word " * 60


def applied(base: bytes, packed: bytes, new: bytes) -> bytes:
    """The list that the server makes from edits."""
    out = b""
    for kind, start, count in struct.iter_unpack(">BII", packed):
        out += (new if kind else base)[16 * start : 16 * (start + count)]
    return out


@settings(max_examples=500, derandomize=True, deadline=None)
@given(DIGESTS, DIGESTS)
def test_edits_make_the_one_list_of_the_other(base: bytes, now: bytes) -> None:
    """Edits applied to their base yield the list that they were made for."""
    packed, new = edits(base, now)
    assert applied(base, packed, new) == now
    assert len(new) <= len(now)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(DIGESTS, DIGESTS, st.integers(0, 30))
def test_ordinary_edits_are_small(base: bytes, more: bytes, drop: int) -> None:
    """Appending, and dropping the front, take at most two edits each where nothing is in the list twice."""
    base = b"".join(bytes([100 + number]) * 16 for number in range(len(base) // 16))
    for now in (base + more, base[16 * drop :], base[16 * drop :] + more):
        packed, new = edits(base, now)
        assert applied(base, packed, new) == now
        assert len(packed) <= 2 * 9
        assert len(new) <= len(more)


def size(value: Any) -> int:
    return len(Serializer().dump(value))


@pytest.mark.parametrize(
    ("value", "worth"),
    [
        ([], False),
        ((HumanMessage("x"),), False),
        ("x" * 1000, False),
        ({"a": "x" * 1000}, False),
        ([1, 2, 3], False),
        (["short"] * 100, False),
        ([HumanMessage("x")], True),
        ([1, HumanMessage("x")], True),
        ([HumanMessage("x"), 1], True),
        (["x" * 200] * 3, True),
        ([{"text": "x" * 200}, {"text": "y" * 300}], True),
        (["x" * 1000, *range(100)], False),
    ],
    ids=lambda value: str(value)[:30],
)
def test_which_lists_are_worth_sharing(value: Any, worth: bool) -> None:
    """Lists of messages and of large items are shared; not those whose items are smaller than a reference."""
    assert is_worth_sharing(value, size) is worth


def test_memos_forget_the_least_recent() -> None:
    """Memos are kept for as many threads, digests and texts as are bounded, the latest in use."""
    memo = ClientCache()
    for number in range(5000):
        seen = SeenList(b"", b"", b"x" * 32_000, {(0, "y" * 1000, None): b"x" * 16})
        memo.thread(f"t{number}")
        memo.keep(f"t{number}", {("", "m"): seen})
        memo.thread("kept")
    assert 1000 < len(memo._threads) <= 4096
    assert "kept" in memo._threads
    kept = sum(seen.weight() for each in memo._threads.values() for seen in each.lists.values())
    assert kept == memo._weight <= 64 * 2**20
    for number in range(1000):
        memo.keep("kept", {(f"subgraph:{number}", "m"): seen})
    assert len(memo.thread("kept").lists) <= 64
    memo.keep("forgotten", {("", "m"): seen})
    memo.hold("forgotten", {b"d" * 16: b"x"})
    assert "forgotten" not in memo._threads
    for number in range(1000):
        memo.thread("kept").lacks([number.to_bytes(2, "big")])
        assert number.to_bytes(2, "big") in memo.thread("kept").absent
        assert len(memo.thread("kept").absent) <= 65
    memo.forget("kept")
    memo.forget("never there")
    assert "kept" not in memo._threads
    for number in range(5000):
        memo.forget(f"t{number}")
    assert memo._weight == 0


def test_a_memo_that_another_thread_evicts_meanwhile() -> None:
    """A thread's memo that is evicted between the two steps of a look-up is still returned."""

    class Evicting(OrderedDict[str, ThreadMemo]):
        def move_to_end(self, key: str, last: bool = True) -> None:
            del self[key]
            super().move_to_end(key, last)

    cache = ClientCache()
    memo = cache.thread("t")
    cache._threads = Evicting(cache._threads)
    assert cache.thread("t") is memo
    assert cache.thread("t") is not memo


def test_digests_of_texts_are_bounded() -> None:
    """Texts seen once are not kept forever, few large ones as well as many small ones."""
    memo = ClientCache()
    for number in range(60):
        Collector(b"", None, memo.seen(), b"").add_text(f"{number}" * 1_000_000)
        assert sum(map(len, memo.seen().texts)) <= 10 * 2**20
    for number in range(21_000):
        memo.seen().messages[0, f"{number}", None] = b"d"
    assert len(memo.seen().messages) <= 20_001


def test_memos_are_shared_by_threads() -> None:
    """Threads that record what they have read at the same time do not disturb each other."""
    memo = ThreadMemo()
    start = threading.Barrier(6)

    def note(number: int) -> None:
        start.wait(10)
        for count in range(3000):
            memo.saw([bytes([number]) + count.to_bytes(15, "big")])

    with ThreadPoolExecutor(6) as pool:
        for outcome in [pool.submit(note, number) for number in range(6)]:
            outcome.result(30)
    memo.saw([])
    assert len(memo.known) <= 1024 + 6


NAMES = st.text() | st.text(alphabet="\0%:a{}")


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(NAMES, NAMES, st.integers() | st.text() | st.floats(allow_nan=False)), min_size=2, max_size=8
    )
)
def test_no_two_values_share_a_field(places: list[Any]) -> None:
    """Namespace, channel and version form a name that no other three form, and that reveals the channel."""
    fields = {field_of(encode_part(ns), channel, version) for ns, channel, version in places}
    assert len(fields) == len({(ns, channel, type(version), repr(version)) for ns, channel, version in places})
    for ns, channel, version in places:
        name = field_of(encode_part(ns), channel, version)
        assert channel_of(name) == channel
        assert decode_part(name.split(b"\0")[0]) == ns


def test_versions_that_are_none() -> None:
    """A version is a number or text."""
    assert len({encode_version(version) for version in (1, 1.0, "1")}) == 3
    for version in (None, True, b"1", (1,)):
        with pytest.raises(InvalidInputError, match="version"):
            encode_version(version)


VERSIONS = st.dictionaries(
    st.text(max_size=4), st.integers() | st.text(max_size=4) | st.floats(allow_nan=False), max_size=4
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "v": st.integers(),
            "ts": st.text(),
            "channel_versions": VERSIONS,
            "versions_seen": st.dictionaries(st.text(max_size=4), VERSIONS, max_size=3),
            "updated_channels": st.none() | st.lists(st.text(max_size=4)),
        },
        optional={"pending_sends": st.lists(st.integers()), "of_tomorrow": st.text()},
    ),
    st.dictionaries(st.text(max_size=4), st.none() | st.booleans() | st.integers() | st.text()),
    st.dictionaries(st.text(), st.integers() | st.text()),
)
def test_envelopes(checkpoint: Any, inline: Any, metadata: Any) -> None:
    """A checkpoint keeps the types of its versions and any new keys in its envelope."""
    parts, names = pack_envelope({**checkpoint, "id": "1"}, metadata, inline)
    serializer = Serializer()
    back, said = unpack_envelope(serializer.load(serializer.dump_row(parts, names, None)[0]), "1")
    assert back == {**checkpoint, "id": "1", "channel_values": inline}
    assert repr(back["channel_versions"]) == repr(checkpoint["channel_versions"])
    assert repr(back["versions_seen"]) == repr(checkpoint["versions_seen"])
    assert said == metadata


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=60))
def test_rows_that_are_none(raw: bytes) -> None:
    """Bytes that are no row are a named error, or a row."""
    try:
        row = split_row(raw)
    except CorruptDataError:
        return
    assert len(row.parent) <= len(raw)
    assert split_row(b"\0\0" + pack_row(b"parent", [b"a\0b\0c"]) + b"blob").fields == (b"a\0b\0c",)


def test_a_reply_with_half_an_element() -> None:
    """Digests without their values raise a named error."""
    with pytest.raises(CorruptDataError, match="half an element"):
        context().format.elements("t", [b"1" * 16], [])


def test_a_reply_for_a_reader_that_has_more() -> None:
    """A reply that leaves out a list which this reader did not name as known is a named error."""
    program = get_tuple_op(context(), CheckpointPlace("t"))
    next(program)
    row = b"\0\0" + pack_row(b"", [b"v\0messages\x001"])
    with pytest.raises(CorruptDataError, match="assumes that a list is known"):
        program.send([[[[b"", b"1", row, [b"k" + bytes(17)], [], 1]], b"", [], 0]])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_a_config_of_an_extended_checkpoint_is_copied(copied: Any) -> None:
    """Applications copy and send configs, so the id in them equals the plain id and looks the same."""
    assert copied(Extended("1")) == "1"
    config = copied({"checkpoint_id": Extended("1")})
    assert config == {"checkpoint_id": "1"}
    assert json.dumps(config) == '{"checkpoint_id": "1"}'


@pytest.mark.parametrize(
    "name",
    [
        b"p:checkpoint:{%zz}",
        b"p:checkpoint:{\xff}",
        b"p:checkpoint:{}",
        b"p:checkpoint:{t}:staged",
        b"q:items:{a:1}:item:x",
    ],
)
def test_reindexing_passes_over_what_is_not_ours(name: bytes) -> None:
    """Keys with similar names are ignored, and no command is sent for them."""
    for program in (checkpoint_reindex._enter_op(context(), [name]), store_reindex._enter_op(Keys("p"), [name])):
        with pytest.raises(StopIteration) as ended:
            next(program)
        assert ended.value.value == 0


def context() -> SaverContext:
    return SaverContext(Keys("p"), Format(Serializer(), None, "p", ClientCache()), None, False, True)


def checkpoint(**values: Any) -> Any:
    versions = dict.fromkeys(values, 1)
    return {
        "v": 4,
        "id": "1",
        "ts": "",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {},
    }


def test_a_put_that_the_server_lacks_things_for() -> None:
    """If the server lacks a value or an element, the client resends with just that added."""
    at = context()
    values = {"old": {"text": LONG}, "new": [HumanMessage(LONG)]}
    program = put_op(at, CheckpointPlace("t"), checkpoint(**values), {}, {"new": 1}, parent="", fence=b"")
    [first] = next(program)
    assert first.args.count(b"p") == 0
    [second] = program.send([[[b"\0old\0i1"], b""]])
    assert second.args.count(b"p") == 1
    assert program.gi_frame is not None
    with pytest.raises(StopIteration):
        program.send([[]])
    # The next one relies on what the first reported as stored, and sends it if the server lacks it.
    again = put_op(at, CheckpointPlace("t"), checkpoint(**values), {}, {"new": 1}, parent="", fence=b"")
    [third] = next(again)
    assert not any(isinstance(arg, bytes) and LONG.encode() in arg for arg in third.args)
    # If it lacks the message, it may lack the text that this refers to, which is not asked for.
    [message] = [seen.digests for seen in at.format.memo.thread("t").lists.values()]
    [fourth] = again.send([[[b"\0new\0i1"], message]])
    assert sum(isinstance(arg, bytes) and LONG.encode() in arg for arg in fourth.args) == 1
    with pytest.raises(StopIteration):
        again.send([[]])


def tried(program: Any, answer: Any) -> None:
    next(program)
    for _ in range(20):
        program.send(answer)


def test_a_server_that_loses_everything_it_is_sent() -> None:
    """A server that evicts what it was just sent ends in an error that says why, not in a loop."""
    at = context()
    put = put_op(at, CheckpointPlace("t"), checkpoint(a={"text": LONG}), {}, {}, parent="", fence=b"")
    with pytest.raises(StorageError, match="maxmemory-policy"):
        tried(put, [[[b"\0a\0i1"], b""]])
    _, elements, _ = at.format.batch(CheckpointPlace("t", "", "1"), [("a", LONG)], "task", "")
    writes = put_writes_op(at, CheckpointPlace("t", "", "1"), [("a", LONG)], "task", "")
    with pytest.raises(StorageError, match="maxmemory-policy"):
        tried(writes, [b"".join(elements.bodies)])


@pytest.mark.parametrize("large", [b"x" * 50_000, "x" * 50_000], ids=["bytes", "text"])
@pytest.mark.parametrize("ends", ["answered", "refused", "abandoned"])
def test_a_large_value_that_another_call_is_sending(large: Any, ends: str) -> None:
    """A checkpoint waits for the writes that carry its value and refers to it; if they fail, it sends it."""

    def holds_it(sent: Any) -> bool:
        return any(isinstance(arg, bytes) and len(arg) > 50_000 for arg in sent.args)

    at = context()
    writes = put_writes_op(at, CheckpointPlace("t", "", "1"), [("a", large)], "task", "")
    [sent] = next(writes)
    assert holds_it(sent)
    put = put_op(at, CheckpointPlace("t"), checkpoint(a=large), {}, {"a": 1}, parent="", fence=b"")
    [waits] = next(put)
    assert isinstance(waits, Pause)
    assert not waits.until.done()
    if ends == "answered":
        with pytest.raises(StopIteration):
            writes.send([b""])
    elif ends == "refused":
        with pytest.raises(StorageError):
            writes.throw(StorageError("full"))
    else:
        writes.close()
    assert waits.until.done()
    [sent] = put.send([])
    assert holds_it(sent) == (ends != "answered")
    with pytest.raises(StopIteration):
        put.send([[]])
    assert not at.format.memo.thread("t").sending


def test_a_call_waits_once_for_each_other_call() -> None:
    """A checkpoint waits once for writes that carry several of its values, and never for itself."""
    at = context()
    values: dict[str, Any] = {"old": {"text": LONG}, "one": b"x" * 50_000, "two": b"y" * 50_000}
    pairs = [(name, values[name]) for name in ("one", "two")]
    writes = put_writes_op(at, CheckpointPlace("t", "", "1"), pairs, "task", "")
    next(writes)
    put = put_op(at, CheckpointPlace("t"), checkpoint(**values), {}, {"one": 1, "two": 1}, parent="", fence=b"")
    [waits] = next(put)
    assert isinstance(waits, Pause)
    writes.close()
    first, second = put.send([]), put.send([[[b"\0old\0i1"], b""]])
    assert [type(sent) for (sent,) in (first, second)] == [ScriptCall] * 2
    with pytest.raises(StopIteration):
        put.send([[]])
    assert not at.format.memo.thread("t").sending


def test_large_values_that_are_kept_are_bounded() -> None:
    """A thread's large values take at most 16 MiB of the process, and all threads' together count in its limit."""
    memo = ClientCache()
    for number in range(40):
        thread = memo.thread(f"t{number % 10}")
        memo.hold(f"t{number % 10}", {number.to_bytes(16, "big"): bytes(2**22)})
        assert sum(map(len, thread.held.values())) <= 2**24
        assert thread.weight == sum(map(len, thread.held.values()))
    assert sum(thread.weight for thread in memo._threads.values()) == memo._weight <= 2**26
    memo.hold("t9", {bytes(16): bytes(2**25)})
    assert not memo.thread("t9").held


def test_a_message_changed_while_it_is_stored() -> None:
    """A message that another thread changes between two attempts is serialised again."""
    at = context()
    messages = [HumanMessage(f"{number} {LONG}", id=str(number)) for number in range(3)]
    for _ in range(2):
        program = put_op(at, CheckpointPlace("t"), checkpoint(m=messages), {}, {"m": 1}, parent="", fence=b"")
        [sent] = next(program)
        with pytest.raises(StopIteration):
            program.send([[]])
    program = put_op(at, CheckpointPlace("t"), checkpoint(m=messages), {}, {"m": 1}, parent="", fence=b"")
    next(program)
    messages[1].content = f"changed {LONG}"
    [sent] = program.send([[[b"\0m\0i1"], b"".join(at.format.memo.thread("t").known)]])
    assert sum(isinstance(arg, bytes) and b"changed" in arg for arg in sent.args) == 1
    assert not any(isinstance(arg, bytes) and f"1 {LONG}".encode() in arg for arg in sent.args)
    with pytest.raises(StopIteration):
        program.send([[]])
