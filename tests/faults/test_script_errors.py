"""Scripts that fail for reasons other than the data: each error says why, and none calls healthy data corrupt."""

from __future__ import annotations

import asyncio
import threading

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from redis.exceptions import ResponseError

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.errors import CorruptDataError, DecryptionError, EcowasError, RedisRefusedError, StorageError
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.storage import server as server_module
from ecowas_lc.storage.error_translation import Attempt, translate
from tests.fixtures.servers import running_server, wait_until
from tests.redis.writer import Writer, at, key_of

FLAVOURS = ["redis", "valkey", "redis-6.2"]
DELETION = ("delete it", "Delete")


def raised(call, async_call):
    """The error of a call, sync and async alike."""
    with pytest.raises(EcowasError) as sync:
        call()
    with pytest.raises(EcowasError) as other:
        asyncio.run(async_call())
    assert (type(sync.value), str(sync.value)) == (type(other.value), str(other.value))
    return sync.value


@pytest.mark.parametrize("kind", FLAVOURS)
@pytest.mark.parametrize("name", ["PEXPIRE", "ZADD", "HSET", "EVALSHA"])
def test_commands_that_the_server_lacks(kind, name):
    """A renamed or disabled command is reported as such, in a script or on its own; nothing is called corrupt."""
    with running_server(kind, "--rename-command", name, "") as server:
        with RedisSaver.from_url(server.url, ttl=100) as saver:

            async def put():
                async with RedisSaver.from_url(server.url, ttl=100) as other:
                    await other.aput(at(), empty_checkpoint(), {}, {})

            error = raised(lambda: saver.put(at(), empty_checkpoint(), {}, {}), put)
        assert type(error) is RedisRefusedError
        assert "does not know" in str(error)
        assert "rename-command" in str(error)
        if name in ("ZADD", "EVALSHA"):  # memories need no others of these
            with (
                RedisMemoryService(url=server.url) as memory,
                pytest.raises(RedisRefusedError, match="does not know"),
            ):
                memory.append_to_history("a", "s", {"role": "user", "content": "?"})


@pytest.mark.parametrize("kind", FLAVOURS)
def test_a_script_that_is_killed(kind):
    """SCRIPT KILL, which busy servers suggest, ends a read with a named error; the next read succeeds."""
    with running_server(kind, "--lua-time-limit", "1") as server, RedisSaver.from_url(server.url) as saver:
        messages = [HumanMessage(f"{number}", id=str(number)) for number in range(25_000)]
        Writer(saver).put(m=messages)
        done = threading.Event()

        def kill():
            with server.client() as client:
                while not done.is_set():
                    try:
                        client.script_kill()
                    except ResponseError:
                        continue

        killer = threading.Thread(target=kill)
        killer.start()
        met = []

        def is_killed():
            with RedisSaver.from_url(server.url) as fresh:
                try:
                    fresh.get_tuple(at())
                except RedisRefusedError as error:
                    met.append(str(error))
            return met

        try:
            wait_until(is_killed, "a read was killed", 60)
        finally:
            done.set()
            killer.join()
        assert "SCRIPT KILL" in met[-1]
        assert not any(word in met[-1] for word in DELETION)
        with RedisSaver.from_url(server.url) as fresh:
            assert len(fresh.get_tuple(at()).checkpoint["channel_values"]["m"]) == len(messages)


_IN_62 = "Error running script (call to f_0): @user_script:1: "
LOOK_ALIKES = {  # the replies of fakeredis, and of servers whose Lua is not Redis's
    f"{_IN_62}[string]:1: attempt to index global 'struct' (a nil value)\nstack traceback:\n\t": "'struct'",
    "user_script:1: Script attempted to access nonexistent global variable 'struct' script: 0": "'struct'",
    "user_script:9: attempt to call field 'error_reply' (a nil value) script: 0": "'error_reply'",
    "unknown command 'EVALSHA', with args beginning with: 'x'": "EVALSHA",
    "Unknown command called from script script: on @user_script:1.": "rename-command",
    f"{_IN_62}@user_script: 1: Unknown Redis command called from Lua script": "rename-command",
    "no such key script: 0, on @user_script:1.": "no longer exists",
    "user_script:1: not enough memory script: 0": "maxmemory",
    "Script killed by user with SCRIPT KILL. script: 0, on @user_script:1.": "SCRIPT KILL",
    f"{_IN_62}Script killed by user with SCRIPT KILL...": "SCRIPT KILL",
}


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_what_is_not_the_datas_fault(text):
    """An error about the server, its Lua or its operation is no corrupt data, and no reason to delete any."""
    error = translate(ResponseError(text), "here:1", Attempt(times=2))
    assert not isinstance(error, CorruptDataError)
    assert LOOK_ALIKES[text] in str(error)
    assert not any(word in str(error) for word in DELETION)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "user_script:1: attempt to perform arithmetic on a nil value script: 0",
        "user_script:1: bad argument #2 to 'unpack' (data string too short) script: 0",
        f"{_IN_62}user_script:1: attempt to index local 'x' (a nil value)",
        "user_script:1: attempt to concatenate field 'x' (a boolean value) script: 0",
        "user_script:1: attempt to compare nil with number script: 0",
    ],
)
def test_what_is(text):
    """If Lua fails on stored data, the data is corrupt; deletion is advised only after a second reading."""
    for times in (1, 2):
        error = translate(ResponseError(text), "here:1", Attempt(times=times))
        assert type(error) is CorruptDataError
        assert any(word in str(error) for word in DELETION) == (times == 2)


@pytest.fixture
def spoilt(redis_server, prefix):
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        Writer(saver).put(a=[1])
        with redis_server.client() as raw:
            key = key_of(prefix)
            [row] = [field for field in raw.hkeys(key) if field.startswith(b"c")]
            raw.hset(key, row, b"\x00")
            yield saver


def test_damaged_data_is_read_twice(spoilt, monkeypatch):
    """Unreadable data is read again before it is called damaged, and returned if the second reading succeeds."""
    sent = []

    def once_damaged(client, batch, where, waiting):
        sent.append(batch)
        if len(sent) == 1:
            raise ResponseError("user_script:1: attempt to perform arithmetic on a nil value script: 0")
        return [[[], b"", [], 0]]

    with pytest.raises(CorruptDataError, match="when it was read again") as error:
        spoilt.get_tuple(at())
    assert "delete" in str(error.value)
    with pytest.raises(CorruptDataError) as error:
        Writer(spoilt).put("0", a=[2])
    assert not any(word in str(error.value) for word in DELETION)
    monkeypatch.setattr(server_module, "_send", once_damaged)
    assert spoilt.get_tuple(at()) is None
    assert len(sent) == 2


async def test_damaged_data_is_read_twice_async(spoilt, redis_server, prefix):
    """In asyncio, unreadable data is read again before it is called damaged, too."""
    async with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        with pytest.raises(CorruptDataError, match="when it was read again"):
            await saver.aget_tuple(at())


@pytest.mark.parametrize("encrypted", [False, True])
def test_copies_of_what_others_delete(redis_server, prefix, encrypted):
    """A thread that others write and delete in the meantime is copied as it was at one moment, or not at all."""
    serde = EncryptedRedisSerializer(b"k" * 32) if encrypted else None
    done = threading.Event()

    def disturb():
        with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as other:
            while not done.is_set():
                other.delete_thread("t")
                writer = Writer(other)
                for number in range(3):
                    writer.put(f"{number}", a=[HumanMessage(f"{number}")])

    disturber = threading.Thread(target=disturb)
    disturber.start()
    found = []
    try:
        with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as saver:
            for number in range(150):
                saver.copy_thread("t", f"copy-{number}")
                found.append(len(list(saver.list(at(f"copy-{number}")))))
    finally:
        done.set()
        disturber.join()
    assert set(found) <= {0, 1, 2, 3}
    assert any(found)
    with redis_server.client() as raw:
        assert not list(raw.scan_iter(f"{prefix}:checkpoint:*:copy:*"))


def test_a_copy_that_goes_while_it_is_made(redis_server, prefix, monkeypatch):
    """A copy that is lost before it is complete is an error that says so, not corrupt data."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        Writer(saver).put(a=[HumanMessage("?")])
        real = server_module._send

        def send(client, batch, where, waiting):
            if any("checkpoint_adopt" in str(getattr(item, "script", "")) for item in batch):
                for key in raw.scan_iter(f"{prefix}:checkpoint:*:copy:*"):
                    raw.delete(key)
            return real(client, batch, where, waiting)

        monkeypatch.setattr(server_module, "_send", send)
        with pytest.raises(StorageError, match="copy it again") as error:
            saver.copy_thread("t", "copy")
        assert not isinstance(error.value, CorruptDataError)
        assert saver.get_tuple(at("copy")) is None


@pytest.mark.parametrize("answer", [b"OK", 7, None, [], [1], [[b"x"]], [b"x", b"y", b"z", b"w"]])
def test_answers_of_another_shape(redis_server, prefix, monkeypatch, answer):
    """A reply to another call, from a mixed-up connection, is an error of ours; the connection is closed."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        Writer(saver).put(a=1)
        dropped = []
        monkeypatch.setattr(server_module, "_drop_connections", dropped.append)
        with monkeypatch.context() as patched:
            patched.setattr(server_module, "_send", lambda *arguments: [answer])
            with pytest.raises(StorageError, match="mixed up"):
                saver.get_tuple(at())
        assert len(dropped) == 1
        assert saver.get_tuple(at()) is not None

        async def read():
            async with RedisSaver.from_url(redis_server.url, prefix=prefix) as other:
                with monkeypatch.context() as patched:

                    async def asend(*arguments):
                        return [answer]

                    patched.setattr(server_module, "_asend", asend)
                    with pytest.raises(StorageError, match="mixed up"):
                        await other.aget_tuple(at())
                assert await other.aget_tuple(at()) is not None

        asyncio.run(read())


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (KeyError("mine"), "can't be read with Theirs: 'mine'"),
        (DecryptionError("Written with another key."), "^Written with another key"),
    ],
    ids=["theirs", "ours"],
)
def test_errors_of_the_callers_serializer_on_read(redis_server, prefix, raised, expected):
    """An error of ours from a caller's serializer, which may wrap ours, is left; another names the serializer."""

    class Theirs:
        dumps_typed = JsonPlusSerializer().dumps_typed

        def loads_typed(self, data):
            raise raised

    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=Theirs()) as saver:
        Writer(saver).put(a=[1])
        with pytest.raises(EcowasError, match=expected) as error:
            saver.get_tuple(at())
    assert type(error.value) is (DecryptionError if raised is error.value else CorruptDataError)


def test_errors_of_the_callers_own_code_are_left(redis_server, prefix):
    """An exception from a caller's serializer reaches the caller."""

    class Broken:
        def dumps_typed(self, value):
            raise ValueError("mine")

        def loads_typed(self, data):
            raise ValueError("mine")

    with (
        RedisSaver.from_url(redis_server.url, prefix=prefix, serde=Broken()) as saver,
        pytest.raises(ValueError, match="mine") as error,
    ):
        Writer(saver).put(a=[1])
    assert type(error.value) is ValueError
