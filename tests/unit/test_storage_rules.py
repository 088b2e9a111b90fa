"""Rules of storage that need no server: ids, times, errors of redis-py, values that can't be stored."""

from __future__ import annotations

import io
import struct
import zoneinfo
from typing import Any

import pytest
import redis
from redis import exceptions

from ecowas_lc.checkpoint import configs, lease, migration, reindex
from ecowas_lc.checkpoint.codec import types
from ecowas_lc.errors import (
    ConfigurationError,
    CorruptDataError,
    EcowasError,
    InvalidIdError,
    InvalidInputError,
    RedisRefusedError,
    RedisUnavailableError,
    StorageError,
    TypeNotAllowedError,
)
from ecowas_lc.memory.backup import _lifetime
from ecowas_lc.search import words
from ecowas_lc.search.place import place_of
from ecowas_lc.settings import Settings
from ecowas_lc.storage import clients, clusters, credentials
from ecowas_lc.storage.addresses import parse_url
from ecowas_lc.storage.backup_format import time_at
from ecowas_lc.storage.credentials import Credentials
from ecowas_lc.storage.error_translation import translate
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import ReplicaWait, command


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StorageError("ours"), StorageError),
        (redis.exceptions.MaxConnectionsError("full"), RedisUnavailableError),
        (exceptions.AuthorizationError("no"), RedisRefusedError),
        (exceptions.InvalidResponse("odd"), RedisUnavailableError),
        (exceptions.ClusterError("TTL exhausted."), RedisRefusedError),
        (
            exceptions.ResponseError("Error running script: Script killed by user with SCRIPT KILL"),
            RedisRefusedError,
        ),
        (exceptions.ResponseError("unknown command 'ZMSCORE', with args beginning with"), RedisRefusedError),
        (exceptions.ResponseError("Unknown Redis command called from script"), RedisRefusedError),
        (exceptions.ResponseError("no such key"), StorageError),
        (exceptions.ResponseError("not enough memory"), RedisRefusedError),
        (exceptions.ResponseError("something else"), StorageError),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, Exception) else "",
)
def test_each_error_of_the_server_has_a_name(error: Exception, kind: type[EcowasError]) -> None:
    """The class says what to do, and the message names the server."""
    found = translate(error, "h:1")
    assert isinstance(found, kind)
    assert found is error or "h:1" in str(found)


def test_ids_of_any_kind() -> None:
    """Numbers are ids too; what is too long, no text, or of another form is refused."""

    class Text(str):
        __slots__ = ()

    assert configs.thread_id_of(5) == "5"
    assert configs.Extended("a") == Text("a")
    with pytest.raises(InvalidIdError, match="longer than"):
        configs.field_of(b"", "x" * 70_000, 1)
    with pytest.raises(CorruptDataError):
        configs.channel_of(b"none")
    with pytest.raises(InvalidIdError, match="must be text, not int"):
        configs.checked_id(5, "task id")
    with pytest.raises(CorruptDataError):
        place_of(b"no key")
    with pytest.raises(InvalidInputError, match="holder must not be empty"):
        next(lease.hold_op(Keys("p"), "t", "", 1.0))
    with pytest.raises(ConfigurationError, match="must be text, not int"):
        parse_url(5)  # type: ignore[arg-type]
    assert command("PING").wire_with_source() == ("PING",)


def test_keys_and_times_of_other_programs() -> None:
    """A key that is no thread, an id without a time and a time that no calendar has are nothing."""
    keys = Keys("p")
    assert reindex._thread_of(keys, b"p:checkpoint:{%zz}") is None
    assert reindex._thread_of(keys, keys.thread("t")) == "t"
    assert [reindex._time_of(field) for field in (b"a\0no uuid", b"a\0" + b"0" * 32)] == [0.0, 0.0]
    assert time_at(1e20) is None
    assert _lifetime(None) == float("inf")
    assert words.row_of(["", "…"]) == b""


def test_values_that_can_not_be_stored_are_named() -> None:
    """A zone without a name; values without a truth value are compared by their form."""
    utc = b"TZif" + bytes(16) + struct.pack(">6I", 0, 0, 0, 0, 1, 4) + bytes(6) + b"UTC\0"
    with pytest.raises(TypeNotAllowedError, match="ZoneInfo without a key"):
        types._zone_key(zoneinfo.ZoneInfo.from_file(io.BytesIO(utc)))

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("no truth value")

        __hash__ = None  # type: ignore[assignment]

    assert migration._equal(Odd(), 1) is False


async def test_a_provider_that_fails_is_named() -> None:
    """Its class is shown, and never what it returns."""

    class Provider:
        async def get_credentials_async(self) -> Any:
            raise OSError("no token")

    credentials = Credentials(Provider())
    assert repr(credentials) == "Credentials(Provider)"
    with pytest.raises(exceptions.AuthenticationError, match="Provider"):
        await credentials.get_credentials_async()


def test_servers_and_options_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login for the embedded server, several hosts for one and an option that asyncio lacks are refused."""
    with pytest.raises(ConfigurationError, match="embedded server has no logins"):
        credentials.checked_provider(
            redis.UsernamePasswordCredentialProvider("a", "b"), has_login=False, is_embedded=True
        )
    with pytest.raises(ConfigurationError, match="redis\\+cluster://"):
        clients.ClientFactory(parse_url("redis://a:1,b:2"), Settings(_env_file=None)).make()
    known = {redis: {"ssl_password"}, redis.asyncio: set()}
    monkeypatch.setattr(clients, "_connection_options", lambda tls, library=redis: known[library])
    with pytest.raises(ConfigurationError, match="can't use the Redis URL's option ssl_password in asyncio"):
        clients._check_options_of_asyncio(parse_url("rediss://h?ssl_password=x"))
    with pytest.raises(AttributeError), clusters._closed_by_another_caller():
        getattr(object(), "nothing")  # noqa: B009
    call = command("SET", "k", 1)
    done = clusters._PendingCommand(call, call.args)
    done.reply, done.replicas = b"OK", StorageError("WAIT is refused.")
    with pytest.raises(StorageError, match="WAIT is refused"):
        clusters._checked([done], ReplicaWait(1, 100))
