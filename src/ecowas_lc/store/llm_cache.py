"""``RedisLLMCache``: LangChain's cache of model answers on plain Redis or Valkey: exact, bounded and expiring."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from langchain_core.caches import BaseCache
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from ecowas_lc._connection_settings import LONGEST_TTL
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.errors import CorruptDataError, InvalidInputError
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.connected import Connected
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.ops import Op, call, command, load_script
from ecowas_lc.storage.server import Server
from ecowas_lc.store.redis_store import sealer_of

if TYPE_CHECKING:
    from ecowas_lc.checkpoint import EncryptedRedisSerializer

_GET = load_script("llm_cache_get")
_PUT = load_script("llm_cache_put")

_SHARDS = 16  # each one lives in a different cluster slot
_ALLOWED = (Generation, GenerationChunk, ChatGeneration, ChatGenerationChunk)


class LLMCacheOptions(TypedDict, total=False):
    """Options of a cache, by name; see :class:`~ecowas_lc.RedisLLMCache`."""

    prefix: str
    ttl: float | None
    max_entries: int
    encryption: EncryptedRedisSerializer | None


class RedisLLMCache(Connected, BaseCache):
    """A cache of model answers in Redis, for the same prompt to the same model with the same options.

    Use it with ``langchain_core.globals.set_llm_cache(RedisLLMCache.from_settings())`` or ``ChatOllama(cache=…)``.
    One object serves sync and async code. Reading and writing take one round trip each. Only digests of the
    prompts are stored, never the prompts.

    Args:
        client: ``redis.Redis`` or ``redis.RedisCluster``.
        async_client: ``redis.asyncio.Redis`` or ``RedisCluster``.
        prefix: The prefix of every key.
        ttl: Seconds after which an answer expires; ``None``: never.
        max_entries: The approximate number of answers to keep; the least recently used ones are removed.
        encryption: The serializer that :class:`~ecowas_lc.RedisSaver` encrypts with.
        server: The ``.server`` of another object, to share its connections.

    Raises:
        RedisUnavailableError, RedisRefusedError: The server can't be reached, or refuses (from any method).
        TypeNotAllowedError: An answer holds an object that could not be read back.
        CorruptDataError: The stored data is not an answer.
    """

    def __init__(
        self,
        client: Any = None,
        *,
        async_client: Any = None,
        prefix: str = "ecowas",
        ttl: float | None = None,
        max_entries: int = 10_000,
        encryption: EncryptedRedisSerializer | None = None,
        server: Server | None = None,
    ) -> None:
        if ttl is not None and (type(ttl) not in (int, float) or not 0 < ttl <= LONGEST_TTL):
            raise InvalidInputError(
                "ttl must be a number of seconds above 0, or None for answers that never expire."
            )
        if type(max_entries) is not int or max_entries < 1:
            raise InvalidInputError(f"max_entries must be a whole number, 1 or more, not {max_entries!r}.")
        self._server = server or Server.from_clients(client, async_client)
        self._keys = Keys(prefix)
        self._ttl_ms = None if ttl is None else max(1, round(ttl * 1000))
        self._most = -(-max_entries // _SHARDS)
        self._serializer = Serializer(_ALLOWED)
        self._sealer = sealer_of(encryption)

    @classmethod
    def from_url(cls, url: str, *, credential_provider: Any = None, **options: Unpack[LLMCacheOptions]) -> Self:
        """Return a cache for a URL.

        Args:
            url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``redis+cluster://``.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
            **options: The constructor's arguments.

        Returns:
            The cache. It connects on first use.

        Raises:
            ConfigurationError: The URL or an option can't be used.
        """
        return cls(server=Server.from_url(url, credential_provider=credential_provider), **options)

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        credential_provider: Any = None,
        **options: Unpack[LLMCacheOptions],
    ) -> Self:
        """Return a cache for the server of the settings.

        Args:
            settings: The settings to use; default: those of the process.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
            **options: The constructor's arguments; the prefix is taken from the settings unless you pass one.

        Raises:
            ConfigurationError: The settings or an option can't be used.
        """
        settings = settings or get_settings()
        options.setdefault("prefix", settings.prefix)
        return cls(server=Server.from_settings(settings, credential_provider=credential_provider), **options)

    def lookup(self, prompt: str, llm_string: str) -> Sequence[Generation] | None:
        """Return the cached answer to a prompt.

        Args:
            prompt: The prompt.
            llm_string: LangChain's description of the model and its options.

        Returns:
            The generations; ``None`` if no answer is cached.
        """
        return self._server.run(self._lookup_op(prompt, llm_string))

    async def alookup(self, prompt: str, llm_string: str) -> Sequence[Generation] | None:
        """Return the cached answer to a prompt, without blocking the event loop; see :meth:`lookup`."""
        return await self._server.arun(self._lookup_op(prompt, llm_string))

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store the answer to a prompt.

        Args:
            prompt: The prompt.
            llm_string: LangChain's description of the model and its options.
            return_val: The generations.
        """
        self._server.run(self._update_op(prompt, llm_string, return_val))

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store the answer to a prompt, without blocking the event loop; see :meth:`update`."""
        await self._server.arun(self._update_op(prompt, llm_string, return_val))

    def clear(self, **_: Any) -> None:
        """Remove all answers."""
        self._server.run(self._clear_op())

    async def aclear(self, **_: Any) -> None:
        """Remove all answers, without blocking the event loop."""
        await self._server.arun(self._clear_op())

    # --- programs ---

    def _lookup_op(self, prompt: str, llm_string: str) -> Op[Sequence[Generation] | None]:
        digest = _digest(prompt, llm_string)
        [raw] = yield (call(_GET, self._shard(digest[0] % _SHARDS), digest),)
        if raw is None:
            return None
        blob = self._sealer.open(raw, self._context(digest)) if self._sealer else raw
        answer = self._serializer.load(blob)
        if not isinstance(answer, list) or not all(isinstance(each, Generation) for each in answer):
            raise CorruptDataError("A cached entry is not an answer. Clear the cache.")
        return answer

    def _update_op(self, prompt: str, llm_string: str, answer: Sequence[Generation]) -> Op[None]:
        digest = _digest(prompt, llm_string)
        blob = self._serializer.dump(list(answer))
        if self._sealer:
            blob = self._sealer.seal(blob, self._context(digest))
        ttl = "" if self._ttl_ms is None else self._ttl_ms
        yield (call(_PUT, self._shard(digest[0] % _SHARDS), digest, ttl, self._most, blob),)

    def _clear_op(self) -> Op[None]:
        yield tuple(command("UNLINK", key) for number in range(_SHARDS) for key in self._shard(number))

    def _shard(self, number: int) -> tuple[bytes, bytes]:
        return _shard(self._keys, number)

    def _context(self, digest: bytes) -> bytes:
        return b"\0".join((b"llm-cache", id_bytes(self._keys.prefix), digest))


def _digest(prompt: str, llm_string: str) -> bytes:
    asked = id_bytes(prompt)
    return blake2b(b"%d:%b%b" % (len(asked), asked, id_bytes(llm_string)), digest_size=16).digest()


def count_answers_op(keys: Keys) -> Op[int]:
    """Return the number of cached answers."""
    return sum((yield tuple(command("HLEN", _shard(keys, number)[0]) for number in range(_SHARDS))))


def _shard(keys: Keys, number: int) -> tuple[bytes, bytes]:
    answers = b"%b:llm-cache:{%d}" % (id_bytes(keys.prefix), number)
    return answers, answers + b":uses"
