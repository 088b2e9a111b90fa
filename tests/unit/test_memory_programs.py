"""The memory programs without a server: the commands they send, and how they handle replies."""

from __future__ import annotations

import json
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecowas_lc.errors import ConfigurationError, NotSerializableError, RedisUnavailableError, WrongTypeError
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.memory.histories import APPEND, CLEARED, Conversations, entry
from ecowas_lc.memory.json_values import from_json, to_json
from ecowas_lc.memory.service import stats_op
from ecowas_lc.memory.session_index import FORGET, LIST, TOUCH, RecentlyIndexed
from ecowas_lc.memory.sessions import Sessions
from ecowas_lc.memory.states import Values
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import Command

MESSAGE = {"role": "user", "content": "x"}


def replay(program, *batches):
    """Drive a program with these replies; the batches it sent, and its result."""
    sent = [next(program)]
    for replies in batches:
        try:
            sent.append(program.throw(replies) if isinstance(replies, Exception) else program.send(replies))
        except StopIteration as stop:
            return sent, stop.value
    raise AssertionError("the program wants more replies")


def scripts_of(batch):
    return [item.script for item in batch if not isinstance(item, Command)]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def conversations(clock):
    return Conversations(Keys("p"), 100, RecentlyIndexed(clock))


def kept(length=1, is_new=0, is_eternal=0):
    return [1, length, is_new, is_eternal] if is_new or is_eternal else [1, length]


def how(batch):
    """The arguments of an append: expiry rule, limit, operation id, digest of the older text, its elements."""
    return batch[-1].args[0].split(" ")


def append(conversations, *batches, **options):
    return replay(conversations.append_op(conversations.place("a", "s"), entry(MESSAGE), **options), *batches)


def test_indexes_come_first_and_seldom(conversations, clock):
    """The first append of a session sends its index entries in the same batch, before it; those of the next
    minute don't; a longer ttl, or a minute later, sends them again.
    """
    [batch], length = append(conversations, [1, 1, 1, 1, kept(is_new=1)])
    assert scripts_of(batch) == [TOUCH] * 4 + [APPEND]
    assert length == 1
    [batch], _ = append(conversations, [kept(2)])
    assert scripts_of(batch) == [APPEND]
    [batch], _ = append(conversations, [1, 1, 1, 1, kept(3)], ttl=5000)
    assert len(batch) == 5
    clock.now = 61
    [batch], _ = append(conversations, [1, 1, 1, 1, kept(4)])
    assert len(batch) == 5


def test_a_history_that_vanished_is_indexed_again(conversations):
    """An append that finds its history gone, though just indexed, adds it to the index again."""
    append(conversations, [1, 1, 1, 1, kept(is_new=1)])
    sent, _ = append(conversations, [kept(is_new=1)], [1, 1, 1, 1])
    assert scripts_of(sent[1]) == [TOUCH] * 4


def test_a_history_that_never_expires_is_indexed_for_ever(conversations):
    """When the server reports that a history never expires, the indexes are updated."""
    sent, _ = append(conversations, [1, 1, 1, 1, kept(is_eternal=1)], [1, 1, 1, 1])
    assert sent[1][0].args[0] == ""
    [batch], _ = append(conversations, [kept(is_eternal=1)])
    assert scripts_of(batch) == [APPEND]


def test_what_was_indexed_is_remembered_within_bounds(conversations, monkeypatch):
    """A process that has very many sessions forgets which of them it has indexed, and indexes them again."""
    monkeypatch.setattr("ecowas_lc.memory.session_index._MOST_REMEMBERED", 2)
    indexed = []
    for session in "ababcbca":
        program = conversations.append_op(conversations.place("a", session), entry(MESSAGE))
        is_indexed = len(next(program)) == 1
        with pytest.raises(StopIteration):
            program.send([kept(2)] if is_indexed else [1, 1, 1, 1, kept(2)])
        indexed.append(is_indexed)
    assert indexed == [False, False, True, True, False, False, True, False]


def test_clearing_forgets_that_it_was_indexed(conversations):
    """After a clear, the next append sends the index entries again."""
    append(conversations, [1, 1, 1, 1, kept(is_new=1)])
    conversations.clear_call("a", "s")
    [batch], _ = append(conversations, [1, 1, 1, 1, kept(is_new=1)])
    assert len(batch) == 5


def test_the_older_format_is_sent_back_converted(conversations):
    """If the server returns the older text, it is sent again as elements, with the text's digest; if the
    text has changed meanwhile, once more.
    """
    first, second = (json.dumps([{"role": "user", "content": text}]).encode() for text in ("1", "2"))
    sent, length = append(conversations, [1, 1, 1, 1, [0, first]], [[0, second]], [kept(2)], [-1], [1] * 4)
    assert length == 2
    assert [how(batch)[4] for batch in sent[:3]] == ["0", "1", "1"]
    assert b'"1"' in sent[1][-1].args[2]
    assert b'"2"' in sent[2][-1].args[2]
    assert how(sent[0])[3] == "" != how(sent[1])[3] != how(sent[2])[3]


def test_messages_with_ids_need_no_operation_id(conversations):
    """An append of messages without ids carries a generated id; messages with ids need none."""
    place = conversations.place("a", "s")
    sent = [how(next(conversations.append_op(place, entry(MESSAGE))))[2] for _ in range(2)]
    assert len(set(sent)) == 2
    assert all(sent)
    assert how(next(conversations.append_op(place, entry({**MESSAGE, "id": "1"}))))[2] == ""


def test_foreign_data_stops_a_program(conversations):
    """A reply about foreign data is a ``WrongTypeError`` with the key's name."""
    with pytest.raises(WrongTypeError, match="p:history:a:s holds a hash"):
        append(conversations, [1, 1, 1, 1, [2, b"p:history:a:s", b"hash"]])


def test_listing_takes_strays_out(conversations):
    """A listed name whose history is gone is removed if its score is unchanged, and is not in the result."""
    sessions = Sessions(conversations, Values(conversations.keys, 100))
    program = sessions.of_agent_op("a")
    sent, result = replay(program, [[b"s", b"5", b"t", b"6", b"u", b"7"]], [1, 10, 0, None, 1, 20], [1])
    assert result == ["u", "s"]
    assert scripts_of(sent[0]) == [LIST]
    assert scripts_of(sent[2]) == [FORGET]
    assert sent[2][0].args == (b"t", b"6")


def test_errors_pass_through_a_program(conversations):
    """An exception that the runner throws into a program is raised from it."""
    with pytest.raises(RedisUnavailableError):
        append(conversations, RedisUnavailableError("down"))


def test_statistics_without_the_right_to_ask():
    """If ``INFO`` and ``DBSIZE`` are refused, the statistics say so and count the indexes' entries."""
    refusal = Exception("NOPERM")
    _, stats = replay(
        stats_op(Keys("p")),
        [{"a": refusal, "b": 5}],
        [{"a": refusal, "b": b"# Memory\r\nused_memory:100\r\n"}],
        [[b"energy", b"1"], 2, 3],
        [4],
    )
    assert (stats["used_memory_bytes"], stats["total_keys"]) == (None, None)
    assert "INFO" in stats["used_memory"]
    assert (stats["agents"], stats["sessions"], stats["threads"], stats["histories"]) == (1, 2, 3, 4)


def test_statistics_are_summed():
    """On a cluster, sizes are added up, in either form of redis-py's INFO."""
    _, stats = replay(
        stats_op(Keys("p")),
        [{"a": 1, "b": 5}],
        [{"a": {"used_memory": 1024}, "b": b"# Memory\r\nused_memory:1024\r\n"}],
        [[], 0, 0],
    )
    assert (stats["used_memory_bytes"], stats["used_memory"], stats["total_keys"]) == (2048, "2.00K", 6)


surrogates = st.text(st.characters(categories=["Cs", "Ll", "Lo"]) | st.sampled_from("😀é"))


@given(surrogates)
def test_any_text_is_stored_or_refused(text):
    """Text with lone surrogates is read back the same, or refused: never silently changed."""
    try:
        raw = to_json({"content": text}, "message")
    except NotSerializableError:
        assert any(0xD800 <= ord(a) < 0xDC00 <= ord(b) < 0xE000 for a, b in pairwise(text))
    else:
        assert from_json(raw, b"key") == {"content": text}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {"b": (1,)}]}, r"state\['a'\]\[1\]\['b'\] is a tuple"),
        ({"a": {3: 1}}, r"state\['a'\] has the key 3"),
        ([1.0, float("nan")], r"state\[1\] is nan"),
        (object(), "state is a object"),
    ],
)
def test_refusals_name_the_place(value, place):
    """The error for a value that JSON can't represent names the place in it."""
    with pytest.raises(NotSerializableError, match=place):
        to_json(value, "state")


def test_numbers_too_long_to_print_are_refused():
    """An integer beyond Python's limit on digits is a named error."""
    with pytest.raises(NotSerializableError, match=r"state\['n'\] is a number with too many digits"):
        to_json({"n": 10**5000}, "state")


def test_endless_values_are_refused():
    """A value that contains itself, or is nested too deeply, is a named error."""
    loop = []
    loop.append(loop)
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for value in (loop, deep):
        with pytest.raises(NotSerializableError, match="nested too deeply"):
            to_json(value, "state")
    while deep:
        deep = deep["a"]


def test_a_value_that_is_mended_while_all_are_read_is_there():
    """Data that fails among others but can be read alone is not left out; deleted data is not invented."""
    foreign = WrongTypeError("a hash")
    for later, expected in ((b"5", {"k": 5, "l": 1}), (None, {"l": 1})):
        program = Values(Keys("p"), 100).all_data_op("s")
        _, found = replay(program, [[b"k", b"1", b"l", b"1"]], [foreign, b"1"], [later])
        assert found == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": 3}, "host must be text"),
        ({"host": "redis://h"}, "is a URL"),
        ({"port": "x"}, "port must be a number"),
        ({"db": -1}, "database must be a number"),
        ({"url": "redis://h", "host": "h"}, "Pass only one"),
    ],
)
def test_an_address_that_can_not_be_used_is_named(options, said):
    """Each part of an address is checked before anything connects; the error names the part."""
    with pytest.raises(ConfigurationError, match=said):
        RedisMemoryService(**options)


@pytest.mark.parametrize("seconds", [[0.004], [1.5, 0.004], [0.08, 0.02, 0.05, 0.06, 0.09]])
def test_a_slow_answer_makes_no_message_younger_than_its_removal(conversations, monkeypatch, seconds):
    """A message was said, its session was removed, and only a repeated attempt reached the server: it stays away.

    The server is asked again until a reply is quick, at most five times, and the fastest reply counts: its removal
    is compared with the message's age in the middle of the question.
    """
    passed = [0.0]
    monkeypatch.setattr("ecowas_lc.memory.histories.time", SimpleNamespace(monotonic=lambda: passed[0]))
    place = conversations.place("energy", "s")
    program = conversations.append_op(place, [b"id", entry(MESSAGE)], ages=[500])
    batch = next(program)
    for took in seconds:
        assert scripts_of(batch) == [CLEARED, CLEARED]
        passed[0] += took
        # It was removed 5 ms after it had been said; the server looks half way between question and reply.
        removed_before = 495 + (passed[0] - took / 2) * 1000
        batch = program.send([-1, int(removed_before)])
    append = next(call for call in batch if call.script is APPEND)
    assert append.args[1:] == (), "no message is left"
