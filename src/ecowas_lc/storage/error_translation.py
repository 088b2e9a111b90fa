"""Translation of redis-py's errors into ours, which say where it happened, what was wrong and what to do next."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from redis import exceptions as redis_errors

from ecowas_lc._extras import install_command
from ecowas_lc.errors import (
    CheckpointConflictError,
    CorruptDataError,
    EcowasError,
    FormatVersionError,
    RedisRefusedError,
    RedisTimeoutError,
    RedisUnavailableError,
    StorageError,
    ThreadGoneError,
    TooLargeError,
    WrongTypeError,
)
from ecowas_lc.storage.credentials import CredentialProviderError

_UNLESS_SET = "localhost:6379"
# Error codes of our scripts; a space and a sentence follow them.
_SCRIPT_ERRORS: dict[str, type[StorageError]] = {
    "ECOWASCONFLICT": CheckpointConflictError,
    "ECOWASCORRUPT": CorruptDataError,
    "ECOWASFORMAT": FormatVersionError,
    "ECOWASGONE": ThreadGoneError,
    "ECOWASTYPE": WrongTypeError,
}

# The errors that redis-py raises; those of its cluster clients are not subclasses of RedisError.
FAILURES: tuple[type[Exception], ...] = (
    redis_errors.RedisError,
    redis_errors.RedisClusterException,
    redis_errors.ChildDeadlockedError,
    OSError,
)

_REFUSALS = {
    "OOM": "It is out of memory. Raise its maxmemory, or shorten TTLs so that it can free some.",
    "READONLY": "It is a read-only replica. Point REDIS_URL at the primary (or at Sentinel).",
    "NOAUTH": "It requires a password. Set REDIS_PASSWORD, or put it in REDIS_URL.",
    "WRONGPASS": "The user name or password is wrong. Check REDIS_USERNAME and REDIS_PASSWORD or REDIS_URL.",
    "MISCONF": "It refuses writes because it can't save to disk. Free disk space; its log says more.",
    "NOREPLICAS": "It refuses writes because too few replicas follow it. Start them again.",
    "LOADING": "It is still loading its data. Try again in a moment.",
    "MASTERDOWN": "It is a replica that has lost its primary. Point REDIS_URL at the primary (or at Sentinel).",
    "CLUSTERDOWN": "The cluster is down. `redis-cli --cluster check` lists the slots that no node serves.",
    "TRYAGAIN": "The cluster is moving this slot to another node. Try again in a moment.",
    "BUSY": "It is busy with a long script. Try again in a moment.",
    "CROSSSLOT": "It is a cluster: use a redis+cluster:// URL.",
    "MOVED": "It is a cluster: use a redis+cluster:// URL.",
    "ASK": "It is a cluster: use a redis+cluster:// URL.",
}
# redis-py removes the error code from the text of these.
_WORDS: dict[type[BaseException], str] = {
    redis_errors.OutOfMemoryError: "OOM",
    redis_errors.ReadOnlyError: "READONLY",
    redis_errors.NoPermissionError: "NOPERM",
    redis_errors.BusyLoadingError: "LOADING",
    redis_errors.MasterDownError: "MASTERDOWN",
    redis_errors.ClusterDownError: "CLUSTERDOWN",
    redis_errors.TryAgainError: "TRYAGAIN",
    redis_errors.ClusterCrossSlotError: "CROSSSLOT",
    redis_errors.MovedError: "MOVED",
    redis_errors.AskError: "ASK",
}
# Errors without a specific code.
_TEXTS = {
    "without any password configured": "It has no password, but one was sent. Unset REDIS_PASSWORD, or "
    "remove the password from REDIS_URL.",
    "max number of clients reached": "It has reached its limit of clients. Raise its maxclients, or lower "
    "REDIS_MAX_CONNECTIONS.",
    "invalid username-password pair": _REFUSALS["WRONGPASS"],
    "invalid password": _REFUSALS["WRONGPASS"],
    "Authentication required": _REFUSALS["NOAUTH"],
    "DB index is out of range": "It has no database of this number. Change REDIS_DB, or the end of REDIS_URL.",
    "SELECT is not allowed in cluster mode": "A cluster has only database 0. Use a redis+cluster:// URL.",
    "Cluster mode is not enabled": "It is not a cluster: use a redis:// URL.",
    "command 'SENTINEL'": "It is not a Sentinel: use a redis:// URL, or name the port of a Sentinel, usually "
    "26379.",
    "command `SENTINEL`": "It is not a Sentinel: use a redis:// URL, or name the port of a Sentinel, usually "
    "26379.",
    "cluster support disabled": "It is not a cluster: use a redis:// URL.",
}
# Answers to a request above the limits (proto-max-bulk-len, a million arguments), before the server disconnects.
_TOO_LARGE = ("invalid bulk length", "invalid multibulk length", "maximum allowed size")
# Answers when an ACL forbids something; in scripts, Redis 6.2 names neither the user nor the command.
_FORBIDDEN = ("-NOPERM ", ": NOPERM ", "The user executing the script can't", "ACL failure in script")
_FORBIDDEN_KEYS = ("permissions to access", "can't access at least one of the keys")


# Patterns, which are compiled only when an error occurs: a program's start doesn't wait for that.
# Lua's errors when one of our scripts fails on stored data.
_TRIPPED = (
    r"bad argument|data string too short|too many results to unpack|malformed|"
    r"attempt to (?:perform arithmetic|concatenate|compare|get length|index (?!global))"
)
# Lua's errors if the server lacks a library or a function: fakeredis, for example, has no `struct`.
_LACKS = (
    r"nonexistent global variable '(\w+)'|"
    r"attempt to (?:index|call) (?:global|field|method) '(\w+)' \(a nil value\)"
)
_UNKNOWN_COMMAND = r"(?i)unknown command [`']([^`']+)[`']"
_UNKNOWN_IN_SCRIPT = r"(?i)Unknown (?:Redis |Valkey )?command called from"


@dataclass(frozen=True)
class Attempt:
    """The details of an attempt for the message: the user, the prefix, the command and the number of tries."""

    user: str = ""
    prefix: str = ""
    command: str = ""
    times: int = 1


def is_corrupt(error: Exception) -> bool:
    """Return whether a script found that the stored data does not follow the storage format."""
    text = str(error)
    return "ECOWASCORRUPT" in text or ("user_script" in text and re.search(_TRIPPED, text) is not None)


def translate(error: Exception, where: str, attempt: Attempt | None = None) -> EcowasError:
    """Return our error for an error of redis-py at ``where`` (host and port, never a secret)."""
    if isinstance(error, EcowasError):
        return error
    ours = _named(error, where, attempt or Attempt())
    ours.__cause__ = error  # set here, because a program may raise it elsewhere
    return ours


def _named(error: Exception, where: str, attempt: Attempt) -> EcowasError:
    if isinstance(error, redis_errors.MaxConnectionsError) or "No connection available" in str(error):
        return RedisUnavailableError(
            f"All connections to Redis at {where} are in use and none came free in time. "
            "Raise REDIS_MAX_CONNECTIONS, or make fewer calls at the same time."
        )
    if (failed := _provider_fault(error)) is not None:
        return RedisRefusedError(
            f"There is no login for Redis at {where}: {failed}. Fix the credential_provider; its own error is the "
            "cause of this one."
        )
    if advice := next((advice for text, advice in _TEXTS.items() if text in str(error)), None):
        return RedisRefusedError(f"Redis at {where} refused: {advice}")
    word, rest = _word_and_rest(error)
    if word == "NOPERM" or any(text in str(error) for text in _FORBIDDEN):
        return RedisRefusedError(f"Redis at {where} refused: {_forbidden(str(error), attempt)}")
    if word in _SCRIPT_ERRORS:
        # Redis 7 appends the script's digest, and other servers the line in it.
        return _SCRIPT_ERRORS[word](rest.partition(" script: ")[0].partition("\n")[0])
    if any(text in str(error) for text in _TOO_LARGE):
        return TooLargeError(
            f"Redis at {where} does not accept a value or command of this size, and nothing was written. Store "
            "less at once, or raise the server's proto-max-bulk-len."
        )
    if word == "WRONGTYPE" or "WRONGTYPE" in rest:
        return WrongTypeError(
            f"A key of this package on Redis at {where} holds another type of data, which was not changed. "
            "Another program uses the same prefix: set ECOWAS_LC_PREFIX, or move that key."
        )
    for refusal, advice in _REFUSALS.items():
        # Redis < 7 also wraps the error of a command in a script.
        if word == refusal or f"-{refusal} " in rest or f": {refusal} " in rest:
            return RedisRefusedError(f"Redis at {where} refused: {advice}")
    if isinstance(error, (redis_errors.AuthenticationError, redis_errors.AuthorizationError)):
        return RedisRefusedError(f"Redis at {where} refused the login. {_REFUSALS['WRONGPASS']}")
    return _unanswered(error, where, attempt)


def _forbidden(text: str, attempt: Attempt) -> str:
    user = re.search(r"User (\S+) has no permissions", text)
    command = re.search(r"run the '([^']+)' command", text)
    keys = f" that begin with {attempt.prefix}:" if attempt.prefix else " of this call"
    if any(part in text for part in _FORBIDDEN_KEYS):
        what = f"use keys{keys}"
    elif command or attempt.command:
        what = f"run {(command[1].replace('|', ' ') if command else attempt.command).upper()}"
    else:
        what = "run a command that this call needs"
    granted = f"~{attempt.prefix}:* and " if attempt.prefix else ""
    name = (user[1] if user else attempt.user) or "default"
    return f"the user {name!r} may not {what}. Grant {granted}the commands that `ecowas-lc doctor` lists."


def _word_and_rest(error: Exception) -> tuple[str, str]:
    for cls in type(error).__mro__:
        if cls in _WORDS:
            return _WORDS[cls], str(error)
    text = str(error)
    word, _, rest = text.partition(" ")
    is_wrapped = word == "ERR" or "user_script" in text
    if is_wrapped and (found := next((each for each in _SCRIPT_ERRORS if each in text), None)):
        # Redis < 7 wraps an error that a script returns or raises: "ERR Error running script …: ECOWASTYPE …"
        return found, text.partition(found)[2].lstrip()
    return word, rest


def _unanswered(error: Exception, where: str, attempt: Attempt) -> EcowasError:
    if isinstance(error, (redis_errors.TimeoutError, TimeoutError)):
        return RedisTimeoutError(
            f"Redis at {where} did not answer in time. Check that it is not overloaded and, with TLS, that this "
            "port speaks it; or raise REDIS_SOCKET_TIMEOUT."
        )
    if isinstance(error, redis_errors.InvalidResponse):
        return RedisUnavailableError(
            f"The server at {where} does not speak the Redis protocol. Check the address."
        )
    if (fault := _tls_fault(error)) is not None:
        return RedisUnavailableError(
            f"Redis at {where} can't be reached with TLS: {_cause_of(fault)}. "
            "Check REDIS_SSL_CA_CERTS, REDIS_SSL_CERTFILE and REDIS_SSL_KEYFILE, and that the port speaks TLS."
        )
    if type(error) is redis_errors.ClusterError:  # redis-py gave up after its maximum number of redirections
        return RedisRefusedError(f"The Redis cluster at {where} refused: {_REFUSALS['TRYAGAIN']}")
    if isinstance(error, (redis_errors.RedisClusterException, redis_errors.ClusterError)):
        return RedisUnavailableError(
            f"The Redis cluster at {where} can't be used: no node for these keys can be reached. "
            "`redis-cli --cluster check` says more."
        )
    if _is_unknown_host(error):
        return RedisUnavailableError(
            f"The host name of Redis at {where} can't be resolved. Check its spelling in "
            "REDIS_URL or REDIS_HOST, and your DNS."
        )
    if _was_hung_up_on(error):
        return RedisUnavailableError(
            f"Redis at {where} can't be reached: it closed the connection without an answer. If the port speaks "
            "TLS, use a rediss:// URL; or the server is starting, stopping or full. `ecowas-lc doctor` says more."
        )
    if isinstance(error, (redis_errors.ConnectionError, OSError)):
        by_itself = (
            f", or run: {install_command('embedded')} for one that starts by itself"
            if where == _UNLESS_SET and not _has_embedded()
            else ""
        )
        return RedisUnavailableError(
            f"Redis at {where} can't be reached. Start it, or set REDIS_URL to a running server{by_itself}; "
            "`ecowas-lc doctor` says more."
        )
    return _answered(error, where, attempt)


def _has_embedded() -> bool:
    from ecowas_lc.embedded import is_available

    return is_available()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_unknown_host(error: Exception) -> bool:
    return any(isinstance(cause, socket.gaierror) for cause in _causes(error))


def _was_hung_up_on(error: Exception) -> bool:
    """Return whether the server closed a connection that it had accepted, as a TLS port does for plain Redis."""
    if not isinstance(error, (redis_errors.ConnectionError, OSError)):
        return False
    return "Connection closed by server" in str(error) or any(
        isinstance(cause, ConnectionResetError) for cause in _causes(error)
    )


def _answered(error: Exception, where: str, attempt: Attempt) -> EcowasError:
    """Return the error for any other answer; only Lua's errors on stored data mean corrupt data."""
    text = str(error)
    if "SCRIPT KILL" in text or "Script killed" in text:
        return RedisRefusedError(
            f"Redis at {where} ended a script of this call before it wrote anything, because of a "
            "SCRIPT KILL. The stored data is unchanged: try again."
        )
    if lacking := re.search(_LACKS, text):
        return RedisRefusedError(
            f"The server at {where} can't run this package's scripts: its Lua has no "
            f"{lacking[1] or lacking[2]!r}. Use Redis 6.2 or newer, or Valkey; other compatible servers often "
            "lack it."
        )
    if found := re.search(_UNKNOWN_COMMAND, text):
        return RedisRefusedError(
            f"Redis at {where} refused: it does not know the command {found[1].upper()}. {_COMMANDS}"
        )
    if re.search(_UNKNOWN_IN_SCRIPT, text):
        return RedisRefusedError(
            f"Redis at {where} refused: a script of this call uses a command that it does not know. {_COMMANDS}"
        )
    if "no such key" in text:
        return StorageError(
            f"A key that this call uses on Redis at {where} no longer exists: it expired, or was deleted "
            "or evicted. The stored data is unchanged: try again."
        )
    if "not enough memory" in text:
        return RedisRefusedError(f"Redis at {where} refused: {_REFUSALS['OOM']}")
    if is_corrupt(error):
        found_twice = attempt.times > 1
        return CorruptDataError(
            f"The data under a key of this package on Redis at {where} is not in the storage format"
            f"{', and was not when it was read again' if found_twice else ''}: {_said(text)}. "
            + (
                "Restore the thread or history from a backup; without one, delete it."
                if found_twice
                else "Nothing was changed. Read it to see whether it is damaged; if so, restore it from a backup."
            )
        )
    return StorageError(f"Redis at {where} answered with an error: {_said(text)}")


_COMMANDS = (
    "Undo rename-command in its configuration, or use Redis 6.2 or newer, or Valkey; docs/how-to/acl.md lists the "
    "commands that are used."
)


def _said(text: str) -> str:
    return text.partition(" script: ")[0].partition("\n")[0].removesuffix(".")


def _provider_fault(error: BaseException | None) -> CredentialProviderError | None:
    while error is not None:
        if isinstance(error, CredentialProviderError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _cause_of(fault: ssl.SSLError) -> str:
    # Python's own, such as "No cipher can be selected.", have no reason.
    cause = getattr(fault, "reason", None) or fault.strerror or (fault.args[0] if fault.args else "")
    return str(cause).removesuffix(".") or "handshake failed"


def _tls_fault(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None
