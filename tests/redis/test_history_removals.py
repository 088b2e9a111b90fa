"""Removed messages stay removed, and a repeated removal removes nothing that others have added since."""

from __future__ import annotations

import contextlib

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc.errors import InvalidInputError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.memory.histories import APPEND, REPLACE
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import call
from tests.fixtures.leftovers import left_over
from tests.fixtures.servers import wait_until

MESSAGE = {"role": "user", "content": "x"}


@pytest.fixture
def memory(server, prefix):
    with RedisMemoryService(url=server.url, prefix=prefix) as service:
        yield service


@pytest.fixture
def raw(server):
    with server.client() as client:
        yield client


@pytest.fixture
def history(memory):
    return RedisChatMessageHistory("energy", "s", server=memory.server, prefix=memory.prefix)


def send(memory, *batch):
    """Send the same calls again, as a client does whose reply was lost."""

    def op():
        return (yield batch)

    return memory.server.run(op())


def cleared(memory, **options):
    """The call that removes the history, to be sent more than once."""
    return memory._programs.conversations.clear_call("energy", "s", **options)


def texts(history):
    return [message.text for message in history.messages]


@pytest.mark.parametrize("was_there", [True, False], ids=["a history", "none"])
def test_a_removal_that_is_sent_again_leaves_what_came_since(memory, history, was_there):
    """A removal whose reply was lost is sent again: what others have appended since stays, and the reply is the
    first one's; also if others have removed the history too.
    """
    if was_there:
        history.add_messages([HumanMessage("old", id="1")])
    first, others = cleared(memory), cleared(memory)
    [answer] = send(memory, first)
    history.add_messages([HumanMessage("new", id="1")])
    assert send(memory, first)[0][:2] == answer[:2] == [1, int(was_there)]
    assert texts(history) == ["new"]
    send(memory, others)
    history.add_messages([HumanMessage("newer", id="1")])
    for again in (first, others):
        send(memory, again)
        assert texts(history) == ["newer"]


def test_a_named_removal_is_made_once(history):
    """The caller's name for a removal is enough to repeat it after an error; another name removes all."""
    history.add_messages([HumanMessage("old", id="1")])
    history.clear(operation="tidy1")
    history.add_messages([HumanMessage("new", id="1")])
    history.clear(operation="tidy1")
    assert texts(history) == ["new"]
    history.clear(operation="tidy2")
    assert texts(history) == []
    for bad in ("", "a b", "é", "a:b"):
        with pytest.raises(InvalidInputError, match="letters and digits"):
            history.clear(operation=bad)


async def test_a_named_removal_is_made_once_async(history):
    """The async method keeps the same promise."""
    await history.aadd_messages([HumanMessage("old", id="1")])
    await history.aclear(operation="tidy1")
    await history.aadd_messages([HumanMessage("new", id="1")])
    await history.aclear(operation="tidy1", age=5)
    assert texts(history) == ["new"]


def test_a_removal_that_was_held_leaves_what_began_since(history):
    """A removal requested earlier, which reaches the server only now, keeps a history that began after it."""
    history.add_messages([HumanMessage("new", id="1")])
    history.clear(age=60)
    assert texts(history) == ["new"]
    history.clear(age=0)
    assert texts(history) == []


def test_what_was_said_before_the_removal_does_not_come_back(history):
    """A journal is replayed: messages from before the history was cleared are left out."""
    history.add_messages([HumanMessage("secret", id="1")])
    history.clear()
    history.add_messages([HumanMessage("secret", id="1"), HumanMessage("held", id="2")], ages=[20, 10])
    assert texts(history) == []
    assert history.info() is None
    history.add_messages([HumanMessage("secret", id="1"), HumanMessage("said since", id="3")], ages=[20, 0])
    assert texts(history) == ["said since"]
    history.add_messages([HumanMessage("secret", id="1")], ages=[20])
    assert texts(history) == ["said since"], "also once others have begun it anew"
    with pytest.raises(InvalidInputError, match="1 messages and 2 ages"):
        history.add_messages([HumanMessage("x")], ages=[1, 2])


def test_what_a_process_says_after_its_own_removal_is_kept(history, raw):
    """A removal reaches the server late: messages sent in the meantime stay, unless others removed them later."""
    history.add_messages([HumanMessage("old", id="1")])
    history.clear(operation="mine", age=0)
    history.add_messages([HumanMessage("said in between", id="2")], ages=[20], after="mine")
    assert texts(history) == ["said in between"]
    now = raw.time()
    wait_until(lambda: raw.time() > (now[0], now[1] + 2000), "another millisecond")
    history.clear()
    history.add_messages([HumanMessage("said in between", id="2")], ages=[20], after="mine")
    assert texts(history) == []


async def test_what_was_said_before_the_removal_does_not_come_back_async(history):
    """The async methods keep the same promise."""
    await history.aadd_messages([HumanMessage("secret", id="1")])
    await history.aclear()
    await history.aadd_messages([HumanMessage("secret", id="1"), HumanMessage("said since", id="3")], ages=[20, 0])
    assert [message.text for message in await history.aget_messages()] == ["said since"]


@pytest.mark.parametrize("clear", ["session", "agent"])
def test_a_whole_session_or_agent_does_not_come_back(memory, history, clear):
    """Journals hold histories that never reached the server: removing their whole session, or agent, counts."""
    other = {"session": ("digital", "s"), "agent": ("energy", "t")}[clear]
    unknown = RedisChatMessageHistory(*other, server=memory.server, prefix=memory.prefix)
    history.add_messages([HumanMessage("a", id="1")], ages=[0])
    assert (memory.clear_session("s") if clear == "session" else memory.clear_all_agent_data("energy")) == 1
    unknown.add_messages([HumanMessage("held", id="1"), HumanMessage("since", id="2")], ages=[60, 0])
    assert texts(unknown) == ["since"]
    elsewhere = RedisChatMessageHistory("digital", "t", server=memory.server, prefix=memory.prefix)
    elsewhere.add_messages([HumanMessage("held", id="1")], ages=[60])
    assert texts(elsewhere) == ["held"]


def test_a_removal_is_remembered_for_a_day_where_journals_are_kept(memory, raw, prefix, history):
    """Two minutes are enough for a retry; a process that keeps a journal may be cut off for hours."""
    for name, ages, seconds in (("plain", (), 120), ("kept", [0], 86_400)):
        one = RedisChatMessageHistory("energy", name, server=memory.server, prefix=prefix)
        one.add_messages([HumanMessage("a", id="1")], ages=ages)
        one.clear()
        left = raw.ttl(f"{prefix}:history-meta:{{{prefix}:history:energy:{name}}}")
        assert seconds - 10 < left <= seconds
    assert left_over(raw, prefix) == []


def test_an_append_that_is_sent_again_does_not_undo_a_removal(memory, history):
    """Its reply was lost, and others removed the history: the retry is recognised and stores nothing."""
    place = Keys(memory.prefix).history("energy", "s")
    keys = (place, Keys(memory.prefix).companion(place))
    append = call(APPEND, keys, "> 0 lost1  0", b"", b'{"role":"user","content":"secret"}')
    save = call(REPLACE, keys, "=", "lost2", "", "", "", b"", b'{"role":"user","content":"secret"}')
    for lost in (append, save):
        send(memory, lost)
        history.clear()
        send(memory, lost)
        assert texts(history) == []
    send(memory, append._replace(args=("> 0 lost3  0", *append.args[1:])))
    memory.save_conversation_history("energy", "s", [{**MESSAGE, "content": "other"}])
    send(memory, append._replace(args=("> 0 lost3  0", *append.args[1:])))
    assert texts(history) == ["other"]


def test_a_removal_that_is_sent_again_leaves_the_indexes_right(memory, history):
    """A repeated removal takes the name out of the indexes again, but what others have begun since is listed."""
    history.add_messages([HumanMessage("old", id="1")])
    lost = memory._programs.sessions.clear_op("energy", "s")
    batch = next(lost)
    send(memory, *batch)
    history.add_messages([HumanMessage("new", id="2")])
    answer = send(memory, *batch)
    with contextlib.suppress(StopIteration):
        while True:
            answer = send(memory, *lost.send(answer))
    assert texts(history) == ["new"]
    assert memory.get_all_sessions_for_agent("energy") == ["s"]
    assert memory.get_all_agents_for_session("s") == ["energy"]
    assert memory.get_all_agents() == ["energy"]
    assert memory.clear_session("s") == 1


def test_ids_are_found_where_only_the_list_survived(memory, raw, prefix, history):
    """A server may evict only the companion key: a repetition finds the ids in the messages themselves."""
    key = f"{prefix}:history-meta:{{{prefix}:history:energy:s}}"
    memory.append_to_history("energy", "s", {**MESSAGE, "content": 'not "id":"3"'})
    for number in range(1200):
        memory.append_to_history("energy", "s", {**MESSAGE, "id": str(number)})
    for again in ("0", "600", "1199"):
        assert raw.delete(key)
        assert memory.append_to_history("energy", "s", {**MESSAGE, "id": again}) == 1201
    assert memory.append_to_history("energy", "s", {**MESSAGE, "id": "3"}) == 1201
    raw.delete(key)
    assert memory.append_to_history("energy", "s", MESSAGE) == 1202
    assert memory.append_to_history("energy", "s", {**MESSAGE, "id": "7"}) == 1202
    raw.delete(key)
    raw.lpush(f"{prefix}:history:energy:s", '{"id": ["odd"]', '[1, "id"]', '{"id": 5}', '{"id": "mine"}')
    history.add_messages([HumanMessage("x", id="mine"), HumanMessage("y", id="8"), HumanMessage("z", id="new")])
    assert raw.llen(f"{prefix}:history:energy:s") == 1207
