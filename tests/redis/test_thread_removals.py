"""Repeating a removal of a thread after a lost reply removes nothing that others have begun since."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from ecowas_lc import InvalidIdError, RedisSaver
from ecowas_lc.checkpoint.writing import delete_thread_op
from tests.fixtures.leftovers import left_over


@pytest.fixture
def saver(server, prefix):
    with RedisSaver.from_url(server.url, prefix=prefix) as made:
        yield made


@pytest.fixture
def raw(server):
    with server.client() as client:
        yield client


def put(saver: RedisSaver, said: str, thread_id: str = "t") -> None:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"said": said}
    checkpoint["channel_versions"] = {"said": 1}
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    saver.put(config, checkpoint, {"step": 1}, {"said": 1})


def said(saver: RedisSaver, thread_id: str = "t") -> Any:
    found = saver.get_tuple({"configurable": {"thread_id": thread_id}})
    return None if found is None else found.checkpoint["channel_values"]["said"]


def listed(saver: RedisSaver) -> list[str]:
    return [found.config["configurable"]["thread_id"] for found in saver.list(None)]


@pytest.mark.parametrize("was_there", [True, False], ids=["a thread", "none"])
def test_a_removal_that_is_sent_again_leaves_what_came_since(saver, was_there):
    """A removal whose reply was lost is repeated: threads that others have begun since stay, and stay listed."""
    if was_there:
        put(saver, "old")
    lost = delete_thread_op(saver._at, "t")
    batch = next(lost)

    def send():
        def op():
            return (yield batch)

        return saver._server.run(op())

    send()
    put(saver, "new")
    answer = send()
    saver._server.run(following(lost, answer))
    assert said(saver) == "new"
    assert listed(saver) == ["t"]
    saver.delete_thread("t")
    assert said(saver) is None
    put(saver, "newest")
    send()
    assert said(saver) == "newest", "others' removals don't make it forgotten"


def following(op, answer):
    """What a program does after a reply."""
    try:
        batch = op.send(answer)
        while True:
            batch = op.send((yield batch))
    except StopIteration:
        return


async def test_a_named_removal_is_made_once(saver):
    """The caller's name for a removal makes it repeatable; another name removes what is stored now."""
    for delete in (saver.delete_thread, None):
        put(saver, "old")
        name = "first" if delete else "second"
        for content in ("new", "newer"):
            if delete:
                saver.delete_thread("t", operation=name)
            else:
                await saver.adelete_thread("t", operation=name)
            assert said(saver) == (None if content == "new" else "new")
            put(saver, "new")
    saver.delete_thread("t", operation="third")
    assert said(saver) is None
    with pytest.raises(InvalidIdError, match="letters and digits"):
        saver.delete_thread("t", operation="a b")


def test_a_removed_thread_is_gone_everywhere(saver, raw, prefix):
    """The record of a removal is no thread: nothing lists, copies, exports or renews it, and it expires."""
    put(saver, "old")
    saver.delete_thread("t", operation="once")
    assert left_over(raw, prefix) == []
    assert 3500 < raw.ttl(f"{prefix}:checkpoint:{{t}}") <= 3600
    assert listed(saver) == []
    assert saver.ttl("t") == -1
    assert saver.touch("t") is False
    assert saver.pin("t") is False
    saver.copy_thread("t", "u")
    assert said(saver, "u") is None
    saver.prune(["t"])
    assert [line for line in saver.export_jsonl(["t"]) if '"type"' in line] == []
    put(saver, "source", "v")
    saver.copy_thread("v", "t")
    assert said(saver) == "source"
    saver.delete_thread("t", operation="once")
    assert said(saver) == "source", "a copy was begun since, too"


def test_a_thread_that_was_removed_before_is_exported_as_it_is(saver, prefix):
    """Records of removals are not part of a thread: an import finds the thread unchanged."""
    put(saver, "old")
    saver.delete_thread("t")
    put(saver, "new")
    lines = list(saver.export_jsonl(["t"]))
    assert saver.import_jsonl(lines).unchanged == 1
    saver.delete_thread("t")
    assert saver.import_jsonl(lines).written == 1
    assert saver.import_jsonl(lines).unchanged == 1
    assert said(saver) == "new"
    assert saver.ttl("t") is None
