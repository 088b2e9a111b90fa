"""Passwords, keys and logins appear nowhere: all output is searched for them.

Some tools print the local variables of every frame in a traceback. Our frames and redis-py's hold no readable
password, neither when a call fails nor when settings are invalid. Excluded are the frames of the caller, and of a
constructor that refuses a plain-text argument, which the caller's frame holds too.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import inspect
import io
import logging
import traceback
import warnings
from pathlib import Path

import httpx
import pytest
import redis.asyncio
from langchain_core.outputs import Generation
from typing_extensions import is_typeddict

import ecowas_lc
from ecowas_lc import (
    AsyncRedisMemoryService,
    EncryptedRedisSerializer,
    LLMService,
    RedisAgent,
    RedisChatMessageHistory,
    RedisLLMCache,
    RedisMemoryService,
    RedisSaver,
    RedisVectorStore,
    SupervisorAgent,
    build_supervisor,
    history_factory,
    make_chat_model,
)
from ecowas_lc._secret import Secret
from ecowas_lc.agents.base_agent import BaseAgent
from ecowas_lc.errors import ConfigurationError, EcowasError, ModelError
from ecowas_lc.settings import get_settings, load_settings
from ecowas_lc.storage.server import Server
from tests.faults.load import build_graph
from tests.fixtures.ollama_stub import serving_stub
from tests.fixtures.secrets import ENCODED, GOOD, KEY, PASSWORD, USER, signs_in
from tests.fixtures.servers import closed_port

TESTS = str(Path(__file__).parents[1])
CONFIG = {"configurable": {"thread_id": "t"}}
MESSAGE = {"role": "user", "content": "?"}


@pytest.mark.parametrize("said", [PASSWORD, ENCODED, repr(KEY), f"x{base64.b64encode(b'u:' + PASSWORD.encode())}"])
def test_the_search_finds_them(said):
    """The search finds a secret in any of its forms."""
    assert signs_in(f"redis://{said}@localhost")


def test_variables_are_searched():
    """A frame's local variables, except those of a test's frame, count as part of an error."""
    namespace: dict[str, object] = {}
    exec(compile("def fail(hidden):\n raise ValueError('no')", "/somewhere/else.py", "exec"), namespace)
    with pytest.raises(ValueError, match="no") as found:
        namespace["fail"](PASSWORD)
    assert not signs_in(said_by(found.value))
    assert signs_in(variables_of(found.value))


def test_a_password_is_hidden_in_text():
    """A password is neither in its repr nor in text that it is put into; libraries get the real one."""
    password = Secret(PASSWORD)
    assert not signs_in(f"{password} {password!r} {password:>20} {[password]}" + "{}".format(password))  # noqa: UP032
    assert (str(password), password.encode()) == (PASSWORD, PASSWORD.encode())


def said_by(error: BaseException) -> str:
    """Message, repr and traceback of an error and of all that led to it, as logs show them."""
    said = "".join(traceback.format_exception(error))
    for step in chain_of(error):
        said += f"{step!r}{step}{step.args!r}{getattr(step, '__notes__', '')}"
    return said


def chain_of(error: BaseException | None) -> list[BaseException]:
    """An error and everything that led to it, suppressed or not."""
    found, left = [], [error]
    while left:
        step = left.pop()
        if step is not None and step not in found:
            found.append(step)
            left += [step.__cause__, step.__context__, *getattr(step, "exceptions", ())]
    return found


def variables_of(error: BaseException) -> str:
    """The variables of every frame of every traceback that led to it, but those of the tests themselves."""
    return "\n".join(
        f"{frame.filename}:{frame.lineno} {frame.name} {frame.locals}"
        for step in chain_of(error)
        for frame in traceback.TracebackException.from_exception(step, capture_locals=True, compact=True).stack
        if not frame.filename.startswith(TESTS)
    )


@pytest.fixture
def heard():
    """All records of every logger at any level, with their arguments, and every warning."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.format = lambda record: f"{logging.Formatter().format(record)} {vars(record)!r}"
    loggers = [logging.getLogger(name) for name in ("", *logging.root.manager.loggerDict)]
    before = [(each, each.level, each.propagate, each.disabled) for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
        each.propagate, each.disabled = True, False
    logging.root.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield lambda: text.getvalue() + "".join(str(each.message) for each in warned)
    finally:
        logging.root.removeHandler(handler)
        for each, level, propagate, disabled in before:
            each.level, each.propagate, each.disabled = level, propagate, disabled


KINDS = (
    "down",
    "wrong-password",
    "not-escaped",
    "half-escaped",
    "not-a-port",
    "not-a-scheme",
    "sentinel-down",
    "not-a-sentinel",
    "cluster-down",
    "cluster-wrong-password",
    "not-a-cluster",
    "unix",
    "query",
    "bad-query",
    "not-tls",
    "tls-wrong-authority",
    "tls-wrong-password",
    "tls-wrong-key-password",
)

UNREADABLE = {"not-escaped", "half-escaped", "not-a-port", "not-a-scheme"}


def test_every_kind_is_tried(secret_urls):
    """Every URL of the fixture is tested here."""
    assert {*KINDS, *GOOD} == set(secret_urls)


def settings_for(url, certificates, **more):
    return load_settings(redis_url=url, redis_ssl_ca_certs=certificates / "ca.crt", **more)


def uses(make_from):
    """Every way to use a server, as pairs of a constructor and a call."""
    saver, memory, awaiting, history = make_from
    return [
        (saver, lambda made: made.get_tuple(CONFIG)),
        (saver, lambda made: asyncio.run(made.aget_tuple(CONFIG))),
        (memory, lambda made: made.append_to_history("a", "s", MESSAGE)),
        (memory, lambda made: made.get_memory_stats()),
        (awaiting, lambda made: asyncio.run(made.append_to_history("a", "s", MESSAGE))),
        (history, lambda made: made.messages),
        (history, lambda made: asyncio.run(made.aget_messages())),
    ]


def from_settings(settings, prefix):
    settings = settings.model_copy(update={"prefix": prefix})
    return (
        lambda: RedisSaver.from_settings(settings),
        lambda: RedisMemoryService(server=Server.from_settings(settings), prefix=prefix),
        lambda: AsyncRedisMemoryService(server=Server.from_settings(settings), prefix=prefix),
        lambda: RedisChatMessageHistory("a", "s", server=Server.from_settings(settings), prefix=prefix),
    )


def from_url(url, prefix):
    return (
        lambda: RedisSaver.from_url(url, prefix=prefix),
        lambda: RedisMemoryService(url=url, prefix=prefix),
        lambda: AsyncRedisMemoryService(url=url, prefix=prefix),
        lambda: RedisChatMessageHistory("a", "s", url=url, prefix=prefix),
    )


# redis-py 6.2 can't in asyncio.
OPENS_LOCKED_KEYS = "ssl_password" in inspect.signature(redis.asyncio.SSLConnection).parameters


@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_says_no_secret(kind, secret_urls, certificates, prefix, heard, monkeypatch, is_long):
    """No message, repr, traceback with its variables, log or warning of a call that fails holds one."""
    for name in ("REDIS_CONNECT_TIMEOUT", "REDIS_SOCKET_TIMEOUT"):
        monkeypatch.setenv(name, "0.3" if kind == "not-tls" else "5")
    get_settings.cache_clear()
    url = secret_urls[kind]
    said, variables = [], []

    def attempt(make, use, *, is_hidden):
        try:
            made = make()
        except ConfigurationError as error:
            assert kind in UNREADABLE
            said.append(said_by(error))
            if is_hidden:
                variables.append(variables_of(error))
            return
        with pytest.raises(EcowasError) as found:
            use(made)
        logging.getLogger("app").error("failed", exc_info=found.value)
        said.append(said_by(found.value) + shown(made))
        variables.append(variables_of(found.value))
        made._server.close()

    try:
        settings = settings_for(url, certificates)
    except ConfigurationError as error:
        said.append(said_by(error))
    else:
        said.append(shown(settings) + str(settings.model_dump()) + settings.model_dump_json())
        for make, use in uses(from_settings(settings, prefix))[:: 1 if is_long else 2]:
            attempt(make, use, is_hidden=True)
    for make, use in uses(from_url(url, prefix))[1 :: 1 if is_long else 3]:
        attempt(make, use, is_hidden=False)
    assert len(said) >= 3
    assert variables
    assert not signs_in("".join(said))
    assert not signs_in(heard())
    assert not signs_in("".join(variables)), [line for line in "".join(variables).split("\n") if signs_in(line)]


@pytest.fixture(autouse=True)
def afresh():
    """After a test changes the environment, the next one reads it again."""
    yield
    get_settings.cache_clear()


def shown(thing) -> str:
    """All the ways in which it is printed."""
    said = repr(thing)
    for show in (str, format):
        try:
            said += f" {show(thing)}"
        except EcowasError as error:  # a history prints its messages, and has to read them
            said += said_by(error)
    return said


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
@pytest.mark.parametrize("name", ["redis_password", "password"])
def test_passwords_that_come_alone(name, wrong, redis_server, prefix, heard):
    """``REDIS_PASSWORD`` and ``password=`` are as secret as a URL."""
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", prefix, "reset", "on", f">{PASSWORD}", "~*", "+@all")
        login = (f"no{PASSWORD}" if wrong else PASSWORD), prefix
        try:
            if name == "password":
                parts = {"host": "127.0.0.1", "port": redis_server.port}
                memory = RedisMemoryService(**parts, password=login[0], username=login[1], prefix=prefix)
            else:
                settings = load_settings(
                    redis_url=None, redis_host="127.0.0.1", redis_port=redis_server.port,
                    redis_password=login[0], redis_username=login[1],
                )  # fmt: skip
                memory = RedisMemoryService(server=Server.from_settings(settings), prefix=prefix)
            if wrong:
                with pytest.raises(EcowasError) as found:
                    memory.get_agent_state("a")
                assert not signs_in(said_by(found.value) + variables_of(found.value))
            else:
                assert memory.get_agent_state("a") is None
            assert not signs_in(shown(memory) + shown(memory.server) + shown(memory.server.client) + heard())
            memory.server.close()
        finally:
            admin.execute_command("ACL", "DELUSER", prefix)


def test_what_lives_shows_no_secret(secret_urls, certificates, prefix, heard):
    """Printing any object of ours, of redis-py or of the model's client does not show a secret.

    No list of objects is needed: all live objects are printed, among them one of each public class that takes a
    secret or holds one.
    """
    alive = []
    with serving_stub() as stub:
        address = stub.url.replace("://", f"://{USER}:{ENCODED}@")
        models = {"ollama_base_url": address, "ollama_model": "tiny"}
        for kind in GOOD:
            settings = settings_for(secret_urls[kind], certificates, prefix=prefix, **models)
            server = Server.from_settings(settings)
            saver = RedisSaver(server=server, prefix=prefix, serde=EncryptedRedisSerializer(KEY))
            memory = RedisMemoryService(server=server, prefix=prefix)
            awaiting = AsyncRedisMemoryService(server=server, prefix=prefix)
            history = RedisChatMessageHistory("a", kind, server=server, prefix=prefix)
            agents = [
                RedisAgent("energy", kind, memory=memory, settings=settings),
                SupervisorAgent(
                    session_id=kind, use_redis=True, memory=memory, settings=settings, router="lexical"
                ),
                BaseAgent("digital", settings=settings),
            ]
            assert agents[0].chat("Good morning?")
            chat = make_chat_model(settings)
            graph = build_supervisor(
                model=chat,
                router="lexical",
                checkpointer=saver,
                history_factory=history_factory(server=memory.server),
            )
            build_graph(saver).invoke({"messages": [("user", "?")]}, CONFIG)
            history.add_user_message("?")
            vectors = RedisVectorStore(
                server=server, prefix=prefix, mode="words", encryption=EncryptedRedisSerializer(KEY)
            )
            cache = RedisLLMCache(server=server, prefix=prefix, encryption=EncryptedRedisSerializer(KEY))
            cache.update("?", kind, [Generation(text="Good morning.")])
            assert cache.lookup("?", kind) is not None
            alive += [settings, server, saver, memory, awaiting, history, *agents, chat, graph, vectors, cache]
            alive.append(metrics := ecowas_lc.Metrics(server, [prefix]))
            assert metrics.exposition()

            async def look(server=server, awaiting=awaiting, saver=saver, kind=kind):
                if kind == "tls-locked-key" and not OPENS_LOCKED_KEYS:
                    with pytest.raises(ConfigurationError, match=r"can't use .* ssl_password in asyncio"):
                        await saver.aget_tuple(CONFIG)
                    return everything_alive()
                await awaiting.append_to_history("a", "b", MESSAGE)
                await saver.aget_tuple(CONFIG)
                return everything_alive()

            found = asyncio.run(look())
            metrics.close()
            memory.clear_all_agent_data("a")
            saver.delete_thread("t")
            cache.clear()
        service = LLMService(settings=settings)
        assert service.chat("?") == "Good morning."
        alive += [
            service,
            make_chat_model(settings, client_kwargs={"headers": {"Authorization": f"B {PASSWORD}"}}),
        ]
        found |= everything_alive()
    kinds = {cls for cls, _ in found}
    public = {name: getattr(ecowas_lc, name) for name in ecowas_lc.__all__}
    for name, cls in public.items():
        if (
            inspect.isclass(cls)
            and not issubclass(cls, (Exception, dict))
            and not is_typeddict(cls)
            and {*HOLDERS} & {*inspect.signature(cls).parameters}
        ):
            assert any(issubclass(each, cls) for each in kinds), f"an object of {name}"
    assert {"redis.connection.ConnectionPool"} <= {f"{cls.__module__}.{cls.__name__}" for cls in kinds} | {
        f"{base.__module__}.{base.__name__}" for cls in kinds for base in cls.__mro__
    }
    assert len(kinds) > 40
    leaks = {f"{cls.__module__}.{cls.__name__}: {text[:300]}" for cls, text in found if signs_in(text)}
    assert not leaks
    assert not signs_in(heard())
    for each in alive:
        if isinstance(each, Server):
            each.close()


HOLDERS = ("url", "password", "settings", "server", "client", "keys", "memory", "model", "redis_url")
LIBRARIES = ("ecowas_lc", "redis", "langchain_ollama", "ollama", "httpx", "httpcore", "langgraph")


def everything_alive():
    """Every object of ours and of the libraries that get a secret from us: its class and how it prints."""
    found = set()
    for thing in gc.get_objects():
        cls = type(thing)
        if str(cls.__module__).partition(".")[0] in LIBRARIES and cls is not Secret:  # whose str() contains it
            with contextlib.suppress(ReferenceError):
                found.add((cls, shown(thing)))
    return found


@pytest.mark.parametrize("key", [KEY[:-1], [KEY], {"a": KEY, "b": KEY}], ids=["short", "list", "which"])
def test_keys_that_cannot_be_used(key):
    """The error for an invalid encryption key does not contain the key."""
    with pytest.raises(ConfigurationError) as found:
        EncryptedRedisSerializer(key)
    assert not signs_in(said_by(found.value))


def test_keys_that_do_not_open(redis_server, connect, prefix, heard):
    """Neither does the error for a key that can't decrypt the stored data."""
    server = connect(redis_server.url)
    saver = RedisSaver(server=server, prefix=prefix, serde=EncryptedRedisSerializer(b"x" * 32))
    build_graph(saver).invoke({"messages": [("user", "?")]}, CONFIG)
    for serde in (EncryptedRedisSerializer(KEY), EncryptedRedisSerializer({"other": KEY})):
        with pytest.raises(EcowasError) as found:
            RedisSaver(server=server, prefix=prefix, serde=serde).get_tuple(CONFIG)
        assert not signs_in(said_by(found.value) + variables_of(found.value) + shown(serde))
    assert not signs_in(heard())


@pytest.mark.parametrize("kind", ["down", "not-escaped", "refused", "not-ollama", "not-pulled"])
def test_logins_of_model_servers(kind, heard):
    """No output contains the user and password of ``OLLAMA_BASE_URL``, or the configured headers."""
    with serving_stub() as stub:
        stub.error = (500, "no") if kind == "refused" else None
        port = closed_port() if kind == "down" else stub.url.rpartition(":")[2]
        base = f"http://{USER}:{PASSWORD if kind == 'not-escaped' else ENCODED}@127.0.0.1:{port}"
        base += "/elsewhere" if kind == "not-ollama" else ""
        said = []
        try:
            settings = load_settings(ollama_base_url=base, ollama_model="no" if kind == "not-pulled" else "tiny")
        except ConfigurationError as error:
            with pytest.raises(ConfigurationError) as found:
                make_chat_model(base_url=base)
            said = said_by(error) + said_by(found.value)
        if isinstance(said, str):
            assert kind == "not-escaped"
            assert not signs_in(said)
            return
        headers = {"client_kwargs": {"headers": {"X-Key": PASSWORD}}}
        for service in (LLMService(settings=settings), LLMService(settings=settings, **headers)):
            for call in (lambda s: s.chat("?"), lambda s: asyncio.run(s.achat("?")), lambda s: s.list_models()):
                try:
                    call(service)
                except ModelError as error:
                    said.append(said_by(error) + variables_of(error))
            said.append(shown(service) + shown(service._model) + shown(settings))
        assert len(said) >= 4
        assert not signs_in("".join(said)), [s for s in "".join(said).split("\n") if signs_in(s)]
        assert not signs_in(heard())


def test_logins_reach_the_model_server():
    """Secrets hidden from output are sent unchanged: the login of the address, and headers."""
    with serving_stub() as stub:
        base = stub.url.replace("://", f"://{USER}:{ENCODED}@")
        service = LLMService(base, "tiny", client_kwargs={"headers": {"X-Key": PASSWORD}})
        assert service.chat("?") == asyncio.run(service.achat("?")) == "Good morning."
        for headers in stub.headers[-2:]:
            assert headers["X-Key"] == PASSWORD
            assert headers["Authorization"] == httpx.BasicAuth(USER, PASSWORD)._auth_header
