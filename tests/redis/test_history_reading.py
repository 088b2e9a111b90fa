"""Windows, limits, async use, sharing connections and LangChain's own runnable over a chat history."""

from __future__ import annotations

import asyncio
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import ConfigurableFieldSpec
from langchain_core.runnables.history import RunnableWithMessageHistory

from ecowas_lc.errors import ConfigurationError, InvalidIdError, InvalidInputError
from ecowas_lc.history import RedisChatMessageHistory, history_factory
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import was_set

TEXTS = [HumanMessage(f"message {number}", id=str(number)) for number in range(100)]


def exchange(results):
    """A question, a call of tools, its results and the answer."""
    calls = [{"name": "f", "args": {}, "id": str(number)} for number in range(results)]
    return [
        HumanMessage("?", id="q"),
        AIMessage("", tool_calls=calls, id="c"),
        *(ToolMessage(str(number), tool_call_id=str(number), id=f"r{number}") for number in range(results)),
        AIMessage("!", id="a"),
    ]


@pytest.fixture
def make(server, prefix):
    """Makes the history of the test with one window or another."""

    def make(**options):
        return RedisChatMessageHistory("energy", "s", server.url, prefix=prefix, **options)

    return make


def one_by_one(messages):
    """A token counter for which each message takes ten."""
    return 10 * len(messages)


def test_the_last_messages(make):
    """``max_messages`` reads only the last ones; all of them stay stored."""
    make().add_messages(TEXTS)
    assert make(max_messages=20).messages == TEXTS[-20:]
    assert make(max_messages=100).messages == make(max_messages=1000).messages == TEXTS
    assert make(max_messages=20).all_messages() == make().messages == TEXTS


@pytest.mark.parametrize(("most", "first"), [(1, "a"), (2, "a"), (3, "a"), (4, "a"), (5, "c"), (6, "q")])
def test_a_window_never_starts_with_an_orphan_result(make, most, first):
    """A window that would begin with tool results begins after them: their call lies outside."""
    make().add_messages(exchange(3))
    messages = make(max_messages=most).messages
    assert messages[0].id == first
    assert len(messages) <= most


def test_nothing_but_results_brings_their_call(make):
    """If the window would hold only results, their call is read too, because the model needs it."""
    make().add_messages(exchange(5)[:-1])
    for most in range(1, 6):
        assert [m.id for m in make(max_messages=most).messages] == ["c", "r0", "r1", "r2", "r3", "r4"]


def test_a_lone_result_is_read_where_nothing_was_cut(make):
    """A history that begins with a tool result is read unchanged."""
    make().add_messages([ToolMessage("1", tool_call_id="1"), HumanMessage("x")])
    assert len(make().messages) == len(make(max_messages=2).messages) == len(make(max_tokens=1000).messages) == 2


@pytest.mark.parametrize("budget", [0, 10, 15, 200, 640, 990, 1000, 5000])
def test_what_fits_the_tokens(make, budget):
    """``max_tokens`` reads the last messages that fit, as ``token_counter`` counts."""
    make().add_messages(TEXTS)
    if budget == 0:
        with pytest.raises(InvalidInputError):
            make(max_tokens=0)
        return
    fitting = min(budget // 10, 100)
    assert make(max_tokens=budget, token_counter=one_by_one).messages == TEXTS[100 - fitting :]
    assert (
        make(max_tokens=budget, token_counter=one_by_one, max_messages=30).messages == TEXTS[-min(fitting, 30) :]
    )


def each_costs_five(message: BaseMessage) -> int:
    """A token counter for one message."""
    return 5


class CountingModel(GenericFakeChatModel):
    """A model for which each message takes seven tokens."""

    def get_num_tokens_from_messages(self, messages, tools=None):
        return 7 * len(messages)


def test_counters_that_langchain_knows(make):
    """Without a counter tokens are estimated; a function of one message and a model count, too."""
    make().add_messages(TEXTS)
    assert 5 < len(make(max_tokens=100).messages) < 30
    assert len(make(max_tokens=100, token_counter=each_costs_five).messages) == 20
    assert len(make(max_tokens=100, token_counter=CountingModel(messages=iter([]))).messages) == 14
    with pytest.raises(ConfigurationError):
        make(token_counter=one_by_one)


def test_tokens_never_split_an_exchange(make):
    """Nor does a window by tokens begin with a tool result."""
    make().add_messages(exchange(3))
    for budget in range(10, 70, 10):
        messages = make(max_tokens=budget, token_counter=one_by_one).messages
        assert not messages or messages[0].type != "tool"


def test_limits_are_checked(make, server):
    """Limits and a ttl are whole numbers from 1 on; ids are text; one thing names the server."""
    for name in ("max_messages", "max_tokens", "max_history", "ttl"):
        for bad in (0, -1, 1.5, True):
            with pytest.raises(InvalidInputError):
                make(**{name: bad})
    with pytest.raises(InvalidIdError):
        RedisChatMessageHistory("", "s", server.url)
    with pytest.raises(ConfigurationError):
        RedisChatMessageHistory("a", "s", server.url, server.client())


def test_reading_the_end_costs_the_end(server, prefix):
    """The last twenty of many messages are one round trip and twenty messages' bytes; an append is one round
    trip, whatever its messages."""
    with running_proxy(server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        history = RedisChatMessageHistory("energy", "s", url, prefix=prefix, max_messages=20)
        history.add_messages([HumanMessage(f"{n}") for n in range(2000)])
        proxy.reset_counts()
        assert len(history.messages) == 20
        assert proxy.flushes == 1
        assert proxy.received < 21 * 100
        proxy.reset_counts()
        history.add_messages([HumanMessage("?"), AIMessage("!")])
        assert proxy.flushes == 1


def test_ttl_of_a_history(make, monkeypatch):
    """With ``ttl`` each write makes it live exactly so long; without, the longer of that and the settings'."""
    began = time.monotonic()
    make(ttl=60).add_messages(TEXTS[:1])
    assert was_set(make().info().ttl_seconds, 60, began)
    make().add_messages(TEXTS[1:2])
    assert 86390 < make().info().ttl_seconds <= 86400
    make(ttl=100).add_messages(TEXTS[2:3])
    assert make().info().ttl_seconds <= 100
    assert make(ttl=50).extend_ttl() is True
    assert make().info().ttl_seconds <= 50
    assert make().extend_ttl(70) is True
    assert was_set(make().info().ttl_seconds, 70, began)
    assert make().info().messages == 3


def test_trimming_on_write(make):
    """``max_history`` removes all but the last messages on each write, and no result loses its call."""
    history = make(max_history=3)
    history.add_messages(TEXTS[:10])
    assert history.messages == TEXTS[7:10]
    history.add_messages(exchange(4)[:-1])
    assert [m.id for m in history.messages] == ["c", "r0", "r1", "r2", "r3"]
    history.add_message(exchange(4)[-1])
    assert [m.id for m in history.messages] == ["a"]


async def test_async_history(make):
    """Reading, adding, clearing and renewing without blocking the event loop."""
    history = make(max_messages=5)
    await history.aadd_messages(TEXTS)
    assert await history.aget_messages() == TEXTS[-5:]
    assert await history.aall_messages() == TEXTS
    assert (await history.ainfo()).messages == 100
    assert await history.aextend_ttl(50) is True
    await asyncio.gather(*(history.aadd_messages([HumanMessage(str(n))]) for n in range(50)))
    assert (await history.ainfo()).messages == 150
    await history.aclear()
    assert await history.aget_messages() == []
    assert await history.ainfo() is None


def test_eight_threads_lose_nothing(make):
    """Adding from eight threads at once loses and repeats nothing."""
    batches = [
        [HumanMessage(f"{thread}-{number}", id=f"{thread}-{number}") for number in range(50)]
        for thread in range(8)
    ]

    def write(batch):
        history = make()
        for message in batch:
            history.add_message(message)
            history.add_message(message)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, batches))
    found = make().messages
    assert len(found) == 400
    for batch in batches:
        assert [message for message in found if message in batch] == batch


def test_histories_share_connections(server, prefix):
    """All histories of a process at one URL, and all of a factory, use one server's connections."""
    one = RedisChatMessageHistory("a", "s", server.url, prefix=prefix)
    two = RedisChatMessageHistory("b", "s", server.url, prefix=prefix)
    assert one.server is two.server
    make = history_factory(server.url, prefix=prefix, max_messages=3)
    made = make("a", "s")
    assert made.server is one.server
    made.add_messages(TEXTS)
    assert made.messages == TEXTS[-3:]
    assert one.messages == TEXTS
    with server.client() as client:
        own = history_factory(client=client, prefix=prefix)
        assert own("a", "s").messages == TEXTS
        assert own("a", "s").server is own("b", "t").server
    assert "127.0.0.1" in repr(made)
    assert "redis://" not in repr(made)


async def test_an_async_client_of_the_caller(server, prefix):
    """An async client that the caller created serves the async methods and stays open."""
    import redis.asyncio

    async with redis.asyncio.Redis(port=server.port, decode_responses=True) as client:
        history = RedisChatMessageHistory("a", "s", client=client, prefix=prefix)
        await history.aadd_messages(TEXTS[:3])
        assert await history.aget_messages() == TEXTS[:3]
        assert await client.ping()


def test_cluster_history(cluster, prefix):
    """A history on a cluster, window and trimming included."""
    for agent in ("energy", "digital", "minerals"):
        history = RedisChatMessageHistory(agent, "s", cluster.url, prefix=prefix, max_history=50, max_messages=5)
        history.add_messages(TEXTS)
        history.add_messages(TEXTS)
        assert history.messages == TEXTS[-5:]
        assert history.all_messages() == TEXTS[-50:]
        history.clear()
        assert history.messages == []


@pytest.fixture
def chain(server, prefix):
    """LangChain's runnable around a model that counts its input."""

    class Counting(GenericFakeChatModel):
        def _generate(self, messages, *args, **kwargs):
            self.messages = iter([AIMessage(f"I see {len(messages)} messages")])
            return super()._generate(messages, *args, **kwargs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain deprecated this runnable; its users are still supported
        return RunnableWithMessageHistory(
            Counting(messages=iter([])),
            history_factory(server.url, prefix=prefix),
            history_factory_config=[
                ConfigurableFieldSpec(id="agent_id", annotation=str),
                ConfigurableFieldSpec(id="session_id", annotation=str),
            ],
        )


def test_in_langchains_runnable(chain, make):
    """``RunnableWithMessageHistory`` reads and extends the history, a turn at a time."""
    config = {"configurable": {"agent_id": "energy", "session_id": "s"}}
    assert chain.invoke([HumanMessage("one")], config).content == "I see 1 messages"
    assert chain.invoke([HumanMessage("two")], config).content == "I see 3 messages"
    "".join(piece.content for piece in chain.stream([HumanMessage("three")], config))
    assert [m.content for m in make().messages] == [
        *("one", "I see 1 messages", "two", "I see 3 messages", "three", "I see 5 messages")
    ]
    assert [m.type for m in make().messages] == ["human", "ai"] * 3  # also what was streamed


async def test_in_langchains_runnable_async(chain, make):
    """``RunnableWithMessageHistory`` does the same in asyncio."""
    config = {"configurable": {"agent_id": "energy", "session_id": "s"}}
    await chain.ainvoke([HumanMessage("one")], config)
    assert (await chain.ainvoke([HumanMessage("two")], config)).content == "I see 3 messages"
    assert len(await make().aget_messages()) == 4
