"""What redis-py raises, as errors of ours that say where, what was wrong and what to do next."""

from __future__ import annotations

from redis import exceptions as redis_errors

from ecowas_lc.errors import (
    CheckpointConflictError,
    CorruptDataError,
    EcowasError,
    FormatVersionError,
    RedisRefusedError,
    RedisTimeoutError,
    RedisUnavailableError,
    StorageError,
    WrongTypeError,
)

# Our scripts answer these words, followed by a space and a sentence.
_SCRIPT_ERRORS: dict[str, type[StorageError]] = {
    "ECOWASCONFLICT": CheckpointConflictError,
    "ECOWASCORRUPT": CorruptDataError,
    "ECOWASFORMAT": FormatVersionError,
    "ECOWASTYPE": WrongTypeError,
}

_REFUSALS = {
    "OOM": "It is out of memory. Raise its maxmemory, or shorten TTLs so that it can free some.",
    "READONLY": "It is a read-only replica. Point REDIS_URL at the primary (or at Sentinel).",
    "NOPERM": "This user may not do that. Give it ~{prefix}:* and the commands of `ecowas-lc doctor`.",
    "NOAUTH": "It wants a password. Set REDIS_PASSWORD, or put it in REDIS_URL.",
    "WRONGPASS": "User name or password is wrong. Check REDIS_USERNAME and REDIS_PASSWORD or REDIS_URL.",
    "MISCONF": "It refuses writes because it can't save to disk. Free disk space; its log says more.",
    "NOREPLICAS": "It refuses writes because too few replicas follow it. Start them again.",
    "LOADING": "It is still loading its data. Try again in a moment.",
    "CLUSTERDOWN": "The cluster is down. `redis-cli --cluster check` says which slots nobody serves.",
    "BUSY": "It is busy with a long script. Try again in a moment.",
    "CROSSSLOT": "It is a cluster: use a redis+cluster:// URL.",
    "MOVED": "It is a cluster: use a redis+cluster:// URL.",
}


def _word_and_rest(error: Exception) -> tuple[str, str]:
    text = str(error)
    word, _, rest = text.partition(" ")
    if word == "ERR" and (found := next((w for w in _SCRIPT_ERRORS if w in rest), None)):
        # Redis < 7 wraps an error that a script returns: "ERR Error running script …: ECOWASTYPE …"
        return found, rest.partition(found)[2].lstrip()
    return word, rest


def translate(error: Exception, where: str) -> EcowasError:
    """The error of ours for what redis-py raised while talking to ``where`` (host and port, never a secret)."""
    if isinstance(error, EcowasError):
        return error
    if isinstance(error, redis_errors.MaxConnectionsError) or "No connection available" in str(error):
        return RedisUnavailableError(
            f"All connections to Redis at {where} are in use and none came free in time. "
            "Raise REDIS_MAX_CONNECTIONS, or ask for less at once."
        )
    if isinstance(error, (redis_errors.AuthenticationError, redis_errors.AuthorizationError)):
        return RedisRefusedError(f"Redis at {where} refused the login. {_REFUSALS['WRONGPASS']}")
    if isinstance(error, (redis_errors.TimeoutError, TimeoutError)):
        return RedisTimeoutError(
            f"Redis at {where} did not answer in time. Check that it is not overloaded, "
            "or raise REDIS_SOCKET_TIMEOUT."
        )
    if isinstance(error, redis_errors.RedisClusterException):
        return RedisUnavailableError(
            f"The Redis cluster at {where} can't be used: {error}. Check that its nodes run and are reachable."
        )
    if isinstance(error, (redis_errors.ConnectionError, OSError)) and not isinstance(
        error, redis_errors.ReadOnlyError
    ):
        if isinstance(error, redis_errors.BusyLoadingError):
            return RedisRefusedError(f"Redis at {where} refused: {_REFUSALS['LOADING']}")
        return RedisUnavailableError(
            f"Redis at {where} can't be reached. Start it, or set REDIS_URL to a server that runs; "
            "`ecowas-lc doctor` says more."
        )
    word, rest = _word_and_rest(error)
    if word in _SCRIPT_ERRORS:
        return _SCRIPT_ERRORS[word](rest)
    if word == "WRONGTYPE" or "WRONGTYPE" in rest:
        return WrongTypeError(
            f"A key of ours on Redis at {where} holds another type of data, which was left as it is. "
            "Some other program uses the same prefix: set ECOWAS_LC_PREFIX, or move that key."
        )
    for refusal, advice in _REFUSALS.items():
        if word == refusal or f"-{refusal} " in rest or f"{refusal} " in rest:
            return RedisRefusedError(f"Redis at {where} refused: {advice}")
    if isinstance(error, redis_errors.ReadOnlyError):
        return RedisRefusedError(f"Redis at {where} refused: {_REFUSALS['READONLY']}")
    if isinstance(error, redis_errors.OutOfMemoryError):
        return RedisRefusedError(f"Redis at {where} refused: {_REFUSALS['OOM']}")
    if isinstance(error, redis_errors.NoPermissionError):
        return RedisRefusedError(f"Redis at {where} refused: {_REFUSALS['NOPERM']}")
    return StorageError(f"Redis at {where} answered with an error: {error}")
