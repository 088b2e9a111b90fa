"""Settings are validated where they are used, and accept the forms that people and orchestrators write."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from ecowas_lc import (
    AsyncRedisMemoryService,
    ConfigurationError,
    LLMService,
    RedisChatMessageHistory,
    RedisMemoryService,
    RedisSaver,
    Settings,
    UnknownSettingWarning,
    get_redis_memory,
    get_settings,
    history_factory,
)
from ecowas_lc.settings import NOT_FROM_A_FILE, load_settings, usable_settings
from ecowas_lc.storage.server import Server

URL = "redis://127.0.0.1:1/0"
FIELDS = {field.alias or name.upper(): name for name, field in Settings.model_fields.items()}
# A value that can't be used, for each name that has one: any text is a password, a prefix or a router's name.
# fmt: off
UNUSABLE = {
    name: "no such value"
    for name in FIELDS
    if name
    not in {
        "REDIS_URL", "REDIS_HOST", "REDIS_USERNAME", "REDIS_PASSWORD", "OLLAMA_MODEL", "OLLAMA_BASE_URL",
        "REDIS_SSL_CA_CERTS", "REDIS_SSL_CERTFILE", "REDIS_SSL_KEYFILE", "ECOWAS_LC_PREFIX", "ECOWAS_LC_ROUTER",
        *NOT_FROM_A_FILE,
    }
} | {"OLLAMA_BASE_URL": "ftp://models", "OLLAMA_HOST": "http://a:hunter2", "REDIS_HOST": " ", "OLLAMA_MODEL": " "}
# fmt: on
LINK = "tcp://10.96.0.12:6379"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """No name of ours is set, in a folder without ``.env``; nothing has been said or read yet."""
    for name in [name for name in os.environ if name.upper().startswith(("ECOWAS", *FIELDS))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The log's messages about settings."""
    caplog.set_level(logging.DEBUG)
    return lambda: [record.getMessage() for record in caplog.records if record.name == "ecowas_lc.settings"]


EXPLICIT: dict[str, Callable[[], object]] = {
    "RedisSaver.from_url": lambda: RedisSaver.from_url(URL),
    "RedisSaver(client)": lambda: RedisSaver(redis.Redis()),
    "RedisMemoryService(url)": lambda: RedisMemoryService(url=URL),
    "RedisMemoryService(host)": lambda: RedisMemoryService("127.0.0.1", 1),
    "RedisMemoryService(client)": lambda: RedisMemoryService(client=redis.Redis()),
    "AsyncRedisMemoryService(url)": lambda: AsyncRedisMemoryService(url=URL),
    "RedisChatMessageHistory(url)": lambda: RedisChatMessageHistory("a", "s", url=URL),
    "RedisChatMessageHistory(client)": lambda: RedisChatMessageHistory("a", "s", client=redis.Redis()),
    "history_factory(url)": lambda: history_factory(URL)("a", "s"),
    "get_redis_memory(host)": lambda: get_redis_memory("127.0.0.1", 1),
    "Server.from_url, cluster": lambda: Server.from_url("redis+cluster://127.0.0.1:1"),
}


@pytest.mark.parametrize("make", EXPLICIT.values(), ids=EXPLICIT)
@pytest.mark.parametrize("place", ["environment", ".env", "unreadable .env"])
def test_a_named_server_needs_no_settings(
    make: Callable[[], object], place: str, bare: pytest.MonkeyPatch
) -> None:
    """A URL, a host or a client wins over any settings, wherever you pass it."""
    if place == "environment":
        for name, value in {**UNUSABLE, "REDIS_PORT": LINK}.items():
            bare.setenv(name, value)
    elif place == ".env":
        Path(".env").write_text("\n".join(f"{name}='{value}'" for name, value in UNUSABLE.items()))
    else:
        Path(".env").write_bytes(b"REDIS_URL=\xff\xfe")
    made = make()
    assert "127.0.0.1" in repr(made) or "localhost" in repr(made) or "RedisSaver" in repr(made)


@pytest.mark.parametrize("name", UNUSABLE)
def test_it_fails_where_it_is_used(name: str, bare: pytest.MonkeyPatch, said: Callable[[], list[str]]) -> None:
    """An invalid value is a named error when it is read, and does not affect other settings."""
    bare.setenv(name, UNUSABLE[name])
    settings = load_settings()
    with pytest.raises(
        ConfigurationError, match=f"^{name} in the environment can't be used: .*Fix it there"
    ) as told:
        getattr(settings, FIELDS[name])
    assert UNUSABLE[name].strip() not in str(told.value) or not UNUSABLE[name].strip()
    assert "hunter2" not in str(told.value)
    assert settings.problems == [str(told.value)]
    default = Settings(_env_file=None, **{FIELDS[name]: Settings.model_fields[FIELDS[name]].default})
    also = {"ollama_base_url"} if name == "OLLAMA_HOST" else set[str]()  # which it stands for
    for other in set(FIELDS.values()) - {FIELDS[name]} - also:
        assert getattr(settings, other) == getattr(default, other)
    assert said() == []
    assert getattr(settings.lenient(), FIELDS[name]) == Settings.model_fields[FIELDS[name]].default
    assert len(said()) == 1
    assert getattr(settings.lenient(), FIELDS[name]) == Settings.model_fields[FIELDS[name]].default
    assert len(said()) == 1, "said once"


HOSTS = [name for name in UNUSABLE if not name.startswith("REDIS")]


@pytest.mark.parametrize("name", [*HOSTS, "REDIS_PORT", "REDIS_DB", "REDIS_HOST"])
def test_a_host_applications_value_stops_no_saver(name: str, bare: pytest.MonkeyPatch) -> None:
    """If ``REDIS_URL`` is set, its parts and the settings for models and agents are not read."""
    bare.setenv("REDIS_URL", URL)
    bare.setenv(name, UNUSABLE[name])
    if name in {"ECOWAS_LC_WAIT_REPLICAS"}:  # about writing, so it is used
        with pytest.raises(ConfigurationError, match=name):
            RedisSaver.from_settings()
        return
    RedisSaver.from_settings()
    RedisMemoryService.from_settings()
    history_factory()("a", "s")
    get_redis_memory()


def test_models_need_no_server(bare: pytest.MonkeyPatch) -> None:
    """A model's service reads no Redis setting; its arguments win over invalid settings."""
    for name in [name for name in UNUSABLE if name.startswith(("REDIS", "AGENT", "SUPERVISOR", "LLM"))]:
        bare.setenv(name, UNUSABLE[name])
    service = LLMService(temperature=0.1, timeout=3)
    assert service.timeout == 3
    with pytest.raises(ConfigurationError, match="LLM_TIMEOUT"):
        LLMService(temperature=0.1)


@pytest.mark.parametrize(
    "quoted",
    ['"{}"', "'{}'", ' "{}"\n'],
)
def test_quotes_that_docker_keeps(quoted: str, bare: pytest.MonkeyPatch) -> None:
    """``docker run --env-file`` keeps quotes as part of a value, and a password may contain quotes."""
    for name, value in {"REDIS_URL": URL, "OLLAMA_BASE_URL": "http://models:11434", "LLM_TIMEOUT": "2m"}.items():
        bare.setenv(name, quoted.format(value))
    bare.setenv("REDIS_PASSWORD", quoted.format("x"))
    settings = load_settings()
    assert settings.problems == []
    assert Server.from_settings(settings).where == "127.0.0.1:1"
    assert (settings.ollama_base_url, settings.llm_timeout) == ("http://models:11434", 120)
    assert settings.redis_password is not None
    assert settings.redis_password.get_secret_value() == quoted.format("x")


@pytest.mark.parametrize("link", [LINK, "TCP://10.0.0.1:6379", "udp://[::1]:53", f'"{LINK}"', f" {LINK}"])
def test_service_links(link: str, bare: pytest.MonkeyPatch, said: Callable[[], list[str]]) -> None:
    """The ``REDIS_PORT`` that Kubernetes and Docker set for a service is ignored, with one line in the log."""
    bare.setenv("REDIS_PORT", link)
    bare.setenv("REDIS_URL", URL)
    assert load_settings().problems == []
    Server.from_settings(load_settings())
    assert said() == []
    bare.delenv("REDIS_URL")
    bare.setenv("REDIS_HOST", "redis.example")
    settings = load_settings()
    for each in (settings, settings, settings.lenient(), settings.model_copy()):
        assert Server.from_settings(each).where == "redis.example:6379"
    [line] = said()
    assert line.startswith("REDIS_PORT in the environment is a service link")
    assert link not in line


def test_a_service_of_our_name(bare: pytest.MonkeyPatch) -> None:
    """The variables that Kubernetes sets for a service named ecowas-lc are not misspelt settings."""
    for name in (
        "ECOWAS_LC_PORT", "ECOWAS_LC_SERVICE_HOST", "ECOWAS_LC_SERVICE_PORT", "ECOWAS_LC_SERVICE_PORT_HTTP",
        "ECOWAS_LC_PORT_8000_TCP", "ECOWAS_LC_PORT_8000_TCP_PROTO", "ECOWAS_LC_PORT_8000_TCP_PORT",
        "ECOWAS_LC_PORT_8000_TCP_ADDR", "ECOWAS_LC_NAME", "ECOWAS_LC_ENV_LANG",  # the last two are Docker's
    ):  # fmt: skip
        bare.setenv(name, "tcp://10.96.0.12:8000")
    load_settings()  # warnings are errors


@pytest.mark.parametrize(
    "name", ["PREFIX", "DATA_DIR", "ROUTER", "VALKEY_SERVER", "WAIT_REPLICAS", "LINGER_SECONDS"]
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_names_of_fields_are_not_ours(name: str, place: str, bare: pytest.MonkeyPatch) -> None:
    """A variable named like an attribute, such as PREFIX, belongs to another program."""
    if place == "environment":
        bare.setenv(name, "/usr/local")
    else:
        Path(".env").write_text(f"{name}=/usr/local\n")
    settings = load_settings()
    assert settings.model_fields_set == set()
    assert settings.problems == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120), ("120.0", 120), ("120s", 120), ("2m", 120), ("2 min", 120), ("2 Minutes", 120), ("1h", 3600),
        ("1h30m", 5400), ("1 h 30 min", 5400), ("1.5h", 5400), ("1d", 86400), ("2w", 1209600), (" 90 s ", 90),
        ("500ms", 0.5), ("1e2", 100),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float, bare: pytest.MonkeyPatch) -> None:
    """Durations are seconds, or have a unit, in every setting that is a duration."""
    names = ["REDIS_SOCKET_TIMEOUT", "REDIS_CONNECT_TIMEOUT", "LLM_TIMEOUT", "ECOWAS_LC_LINGER_SECONDS"]
    for name in names if seconds % 1 or "e" in text else [*names, "REDIS_MEMORY_TTL"]:
        bare.setenv(name, text)
        assert getattr(load_settings(), FIELDS[name]) == seconds, name
    assert Settings(llm_timeout=text).llm_timeout == seconds


@pytest.mark.parametrize("text", ["2x", "m", "2m 3", "-1m", "0s", "120 # seconds", "1h-30m", "one minute", "nan"])
def test_what_is_no_duration(text: str, bare: pytest.MonkeyPatch) -> None:
    """Anything else is a named error."""
    bare.setenv("LLM_TIMEOUT", text)
    with pytest.raises(ConfigurationError, match="LLM_TIMEOUT"):
        _ = load_settings().llm_timeout


@pytest.mark.parametrize("name", sorted(NOT_FROM_A_FILE))
@pytest.mark.parametrize("spelling", [str.upper, str.lower])
def test_a_file_chooses_no_program_and_no_folder(name: str, spelling: Any) -> None:
    """``.env`` can't set which program runs or where files are written; a warning says so, without the value."""
    Path(".env").write_text(f"{spelling(name)}=bin/hunter2\nREDIS_MEMORY_TTL=5\n")
    with pytest.warns(
        UnknownSettingWarning, match=f"^{name} in .env is ignored: .*Set it in the environment"
    ) as told:
        settings = load_settings()
    assert getattr(settings, FIELDS[name]) is None
    assert settings.redis_memory_ttl == 5, "the rest of the file counts"
    assert "hunter2" not in str(told[0].message)


def test_the_environment_chooses_both(bare: pytest.MonkeyPatch) -> None:
    """The environment can set what ``.env`` can't."""
    for name in NOT_FROM_A_FILE:
        bare.setenv(name, "/opt/place")
        assert getattr(load_settings(), FIELDS[name]) == Path("/opt/place")


def test_the_environment_wins_over_the_file(bare: pytest.MonkeyPatch) -> None:
    """Also if its value is invalid: that is an error, not a reason to use the file's."""
    Path(".env").write_text("REDIS_DB=3\n")
    bare.setenv("REDIS_DB", "4")
    assert load_settings().redis_db == 4
    bare.setenv("REDIS_DB", "four")
    with pytest.raises(ConfigurationError, match="REDIS_DB in the environment"):
        _ = load_settings().redis_db


def test_arguments_are_validated_at_once(bare: pytest.MonkeyPatch) -> None:
    """A mistake in an argument is pydantic's error, or ours, before anything is used."""
    bare.setenv("LLM_TIMEOUT", "no such value")
    with pytest.raises(ValidationError) as told:
        Settings(redis_port="x")
    assert [error["loc"] for error in told.value.errors()] == [("redis_port",)]
    with pytest.raises(ConfigurationError, match="REDIS_PORT"):
        load_settings(redis_port="x")
    with pytest.raises(ValidationError, match="Settings"):
        Settings.model_validate("redis://localhost")
    assert load_settings(llm_timeout=7).llm_timeout == 7


def test_settings_stay_values(bare: pytest.MonkeyPatch) -> None:
    """Settings with an invalid value can still be compared, hashed, copied and printed."""
    bare.setenv("REDIS_DB", "x")
    one, other = load_settings(), load_settings()
    assert one == other
    assert len({one, other, one.lenient(), other.lenient()}) == 2
    assert one.model_copy(update={"redis_db": 3}).redis_db == 3
    assert one.model_copy(deep=True) == one
    assert "redis_db" not in repr(one)
    assert usable_settings().redis_db == 0


def test_what_names_a_program_or_a_folder() -> None:
    """A setting that is a path can't be in ``.env``, unless the file is only read."""
    paths = {name for name, field in FIELDS.items() if "Path" in str(Settings.model_fields[field].annotation)}
    only_read = {"REDIS_SSL_CA_CERTS", "REDIS_SSL_CERTFILE", "REDIS_SSL_KEYFILE"}
    assert paths - only_read == NOT_FROM_A_FILE


@pytest.mark.parametrize(("name", "value"), [("REDIS_URL", URL), ("REDIS_HOST", "127.0.0.1")])
def test_a_server_of_the_settings_asks_for_no_other(name: str, value: str, bare: pytest.MonkeyPatch) -> None:
    """If the settings name a server, the embedded one is not looked for."""

    def fail(*_: object) -> bool:
        raise AssertionError("the embedded server was asked for")

    bare.setattr("ecowas_lc.embedded.is_available", fail)
    bare.setenv(name, value)
    RedisSaver.from_settings()
    RedisMemoryService.from_settings()
    history_factory()
    bare.delenv(name)
    with pytest.raises(AssertionError, match="embedded"):
        RedisSaver.from_settings(load_settings())


@pytest.mark.parametrize(
    ("env", "file", "timeout", "warning"),
    [
        ({}, None, 10.0, ""),
        ({"redis_socket_timeout": "2s"}, None, 2.0, ""),
        ({}, "REDIS_SOCKET_TIMEOUT=2s", 2.0, ""),
        ({"ECOWAS_REDIS_SOCKET_TIMEOUT": "2s"}, None, 10.0, "Did you mean REDIS_SOCKET_TIMEOUT"),
        ({"OLLAMA_MODEL": "another"}, None, 10.0, ""),
    ],
)
def test_connections_use_what_is_set(env: dict[str, str], file: str | None, timeout: float, warning: str) -> None:
    """A call that names its server uses what is set, wherever that is, and loads no settings if nothing is."""
    if file:
        Path(".env").write_text(file, encoding="utf-8")
    code = (
        "import sys; from ecowas_lc.storage.server import Server; found = Server.from_url('redis://:1')._factory; "
        "print(found.settings.redis_socket_timeout, 'pydantic_settings' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, check=True
    )
    is_set = bool(file) or any(name != "OLLAMA_MODEL" for name in env)
    assert done.stdout.split() == [str(timeout), str(is_set)]
    assert warning in done.stderr if warning else not done.stderr
