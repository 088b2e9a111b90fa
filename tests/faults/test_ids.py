"""Ids may be any text: every part of the package keeps them apart and returns them unchanged."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import InvalidIdError, NotSerializableError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import RedisMemoryService
from tests.faults.load import build_graph
from tests.fixtures.servers import running_server

# Separators, globs, hash tags, escapes and their look-alikes come up far more often than chance has them.
PARTS = st.sampled_from([*":%{}*?\\,[] Aaé\n\0", "%3A", "[a]", "e\u0301", "\ud800"])
IDS = st.one_of(st.lists(PARTS, min_size=1, max_size=6).map("".join), st.text(min_size=1, max_size=20))
pytestmark = pytest.mark.timeout(1800)  # hundreds of examples in the long form
SURROGATES = st.characters(categories=["Cs"])


@pytest.fixture(scope="module")
def own():
    with running_server("redis") as server:
        yield server


@pytest.fixture(scope="module")
def service(own):
    with RedisMemoryService(url=own.url, prefix="ids") as memory:
        yield memory


def examples(is_long):
    return settings(
        max_examples=500 if is_long else 20, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


def test_no_two_ids_meet(service, own, is_long):
    """Two pairs of ids have two histories, states and values, returned unchanged and deleted separately."""

    @examples(is_long)
    @given(st.lists(st.tuples(IDS, IDS), min_size=2, max_size=6, unique=True))
    def check(pairs):
        with own.client() as raw:
            raw.flushall()
        for agent, session in pairs:
            service.append_to_history(agent, session, {"role": "user", "content": agent + session})
            service.set_session_data(session, agent, [agent, session])
            service.save_agent_state(agent, agent)
        for agent, session in pairs:
            [message] = service.get_conversation_history(agent, session)
            assert message["content"] == agent + session
            assert service.get_session_data(session, agent) == [agent, session]
            assert service.get_agent_state(agent) == agent
            assert set(service.get_all_sessions_for_agent(agent)) == {s for a, s in pairs if a == agent}
            assert set(service.get_all_agents_for_session(session)) == {a for a, s in pairs if s == session}
            assert set(service.get_all_session_data(session)) == {a for a, s in pairs if s == session}
        assert set(service.get_all_agents()) == {agent for agent, _ in pairs}
        (agent, session), *others = pairs
        assert service.clear_conversation_history(agent, session)
        for other in others:
            assert service.get_conversation_history(*other)
        service.clear_session(session)
        for a, s in others:
            assert (s != session) == bool(service.get_conversation_history(a, s))

    check()


def test_threads_are_kept_apart(own, is_long):
    """Two thread ids have two threads, listed by their own ids, and deleted one by one."""

    @examples(is_long)
    @given(st.lists(IDS, min_size=2, max_size=4, unique=True))
    def check(threads):
        with own.client() as raw:
            raw.flushall()
        with RedisSaver.from_url(own.url, prefix="ids") as saver:
            graph = build_graph(saver)
            for thread in threads:
                graph.invoke({"messages": [HumanMessage(f"in {thread!r}")]}, config_of(thread))
            listed = {found.config["configurable"]["thread_id"] for found in saver.list(None)}
            assert listed == set(threads)
            saver.delete_thread(threads[0])
            for thread in threads:
                messages = graph.get_state(config_of(thread)).values.get("messages", [])
                assert [m.text for m in messages[:1]] == ([] if thread == threads[0] else [f"in {thread!r}"])

    check()


def config_of(thread):
    return {"configurable": {"thread_id": thread}}


def test_prefixes_are_kept_apart(own, is_long):
    """Data under one prefix is not visible under another, whatever the ids."""

    @examples(is_long)
    @given(IDS, IDS, st.sampled_from([("a", "ab"), ("a", "A"), ("a.b", "a"), ("a-x", "a")]))
    def check(agent, session, prefixes):
        with own.client() as raw:
            raw.flushall()
        services = [RedisMemoryService(url=own.url, prefix=prefix) for prefix in prefixes]
        try:
            services[0].append_to_history(agent, session, {"role": "user", "content": "?"})
            services[0].set_session_data(session, agent, 1)
            other = services[1]
            assert other.get_all_agents() == []
            assert other.get_conversation_history(agent, session) == []
            assert other.clear_session(session) == 0
            assert other.clear_all_agent_data(agent) == 0
            assert len(services[0].get_conversation_history(agent, session)) == 1
        finally:
            for each in services:
                each.close()

    check()


@pytest.mark.parametrize("size", [60_000, 1_000_000])
def test_very_long_ids(service, own, size):
    """Ids of a megabyte are just text."""
    long = "é" * (size // 2)
    service.append_to_history(long, long, {"role": "user", "content": "?"})
    assert service.get_all_sessions_for_agent(long) == [long]
    assert len(service.get_conversation_history(long, long)) == 1
    assert service.clear_all_agent_data(long) == 1
    with RedisSaver.from_url(own.url, prefix="ids") as saver:
        graph = build_graph(saver)
        graph.invoke({"messages": [HumanMessage("?")]}, config_of(long))
        assert len(graph.get_state(config_of(long)).values["messages"]) == 2
        saver.delete_thread(long)


@pytest.mark.parametrize("bad", ["", None, 7, b"a", ["a"]])
def test_unusable_ids(service, bad):
    """An id that is empty or is not text is refused by name before anything is sent."""
    for call in (
        lambda: service.get_conversation_history(bad, "s"),
        lambda: service.append_to_history("a", bad, {"role": "user", "content": "?"}),
        lambda: service.set_session_data("s", bad, 1),
        lambda: service.save_agent_state(bad, {}),
        lambda: RedisChatMessageHistory(bad, "s"),
    ):
        with pytest.raises(InvalidIdError):
            call()


def test_any_messages_come_back(own, is_long):
    """Contents and metadata of any text, however nested, are returned equal from histories and threads."""
    scalars = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    )
    nested = {"extend": lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3)}
    values = st.recursive(scalars, **nested, max_leaves=8)
    extra = st.dictionaries(st.text(min_size=1), values, max_size=3)

    @examples(is_long)
    @given(st.lists(st.tuples(st.text() | st.lists(SURROGATES).map("".join), extra), min_size=1, max_size=4))
    def check(contents):
        with own.client() as raw:
            raw.flushall()
        messages = [
            HumanMessage(text, additional_kwargs=kwargs, id=str(n)) for n, (text, kwargs) in enumerate(contents)
        ]
        history = RedisChatMessageHistory("a", "s", url=own.url, prefix="ids")
        try:
            history.add_messages(messages)
        except (
            NotSerializableError
        ):  # JSON can't distinguish two lone surrogates from the character that they form
            assert any("\ud800" <= character <= "\udfff" for text, _ in contents for character in text)
            assert history.messages == []
        else:
            assert history.messages == messages
        with RedisSaver.from_url(own.url, prefix="ids") as saver:
            graph = build_graph(saver)
            graph.invoke({"messages": messages}, config_of("t"))
            with RedisSaver.from_url(own.url, prefix="ids") as other:
                assert build_graph(other).get_state(config_of("t")).values["messages"][:-1] == messages

    check()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_any_values_come_back(service, own, is_long):
    """States and session data of any JSON are returned equal; lone surrogates too, or they are refused by name."""

    @examples(is_long)
    @given(IDS, st.dictionaries(IDS, JSON, min_size=1, max_size=3), JSON)
    def check(session, data, state):
        with own.client() as raw:
            raw.flushall()
        for key, value in data.items():
            service.set_session_data(session, key, value)
        service.save_agent_state(session, state)
        assert service.get_all_session_data(session) == data
        assert {key: service.get_session_data(session, key) for key in data} == data
        assert service.get_agent_state(session) == state

    check()


def test_any_metadata_and_filters(own, is_long):
    """Metadata of any JSON is returned equal, and any filter finds what a plain comparison finds."""
    names = st.sampled_from(["source", "step", "a", "", "{", "*", "é", "\ud800"]) | st.text(max_size=5)
    metadata = st.dictionaries(names.filter(lambda name: name != "parents"), JSON, max_size=4)

    @examples(is_long)
    @given(st.lists(metadata, min_size=1, max_size=4), st.data())
    def check(written, data):
        with own.client() as raw:
            raw.flushall()
        with RedisSaver.from_url(own.url, prefix="ids") as saver:
            for number, each in enumerate(written):
                checkpoint = empty_checkpoint() | {"id": f"{number:03}"}
                saver.put({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, checkpoint, each, {})
            stored = [found.metadata for found in saver.list(config_of("t"))][::-1]
            # langgraph takes NULs out of texts in metadata, as a favour to Postgres.
            assert [without_nul(each) for each in stored] == [without_nul(each) for each in written]
            pairs = [pair for each in stored for pair in each.items()]
            some = st.lists(st.sampled_from(pairs), max_size=2).map(dict) if pairs else st.just({})
            for wanted in (data.draw(some), data.draw(metadata)):
                expected = [
                    f"{number:03}"
                    for number, each in enumerate(stored)
                    if all(each.get(key) == value for key, value in wanted.items())  # as in memory
                ]
                for config in (config_of("t"), None):
                    found = saver.list(config, filter=wanted)
                    assert [each.checkpoint["id"] for each in found] == expected[::-1], wanted

    check()


def without_nul(value):
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [without_nul(each) for each in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(each) for key, each in value.items()}
    return value


def test_any_names_in_a_thread(own, is_long):
    """Namespaces, checkpoints, channels, tasks and runs of any names are separate, and are deleted run by run."""
    ids = IDS.filter(lambda name: "\0" not in name)

    @examples(is_long)
    @given(st.lists(st.tuples(ids, ids, ids), min_size=2, max_size=4, unique_by=(lambda t: t[0], lambda t: t[2])))
    def check(names):
        with own.client() as raw:
            raw.flushall()
        with RedisSaver.from_url(own.url, prefix="ids") as saver:
            for ns, channel, run in names:
                checkpoint = empty_checkpoint() | {
                    "id": f"1{channel}", "channel_values": {channel: [ns, run]}, "channel_versions": {channel: 1},
                }  # fmt: skip
                where = {"configurable": {"thread_id": "t", "checkpoint_ns": ns}}
                stored = saver.put(where, checkpoint, {"run_id": run}, {channel: 1})
                saver.put_writes(stored, [(channel, run)], channel, ns)
            (_, _, gone), *_ = names
            for deleted in (False, True):
                for ns, channel, run in names:
                    found = saver.get_tuple({"configurable": {"thread_id": "t", "checkpoint_ns": ns}})
                    if deleted and run == gone:
                        assert found is None
                        continue
                    assert found.checkpoint["channel_values"] == {channel: [ns, run]}
                    assert found.pending_writes == [(channel, channel, run)]
                    assert found.metadata["run_id"] == run
                saver.delete_for_runs([gone])

    check()
