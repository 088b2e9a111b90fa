"""Every error this package raises on purpose, in one tree.

    EcowasError
    ├── ConfigurationError (ValueError)         settings, URLs, arguments that contradict each other
    │   └── MissingExtraError                   an optional dependency is not installed
    ├── InvalidInputError (ValueError)          what the caller passed can't be used
    │   ├── InvalidIdError                      an id that is empty or is not text
    │   ├── NotSerializableError (TypeError)    a value that could not be read back
    │   │   └── TypeNotAllowedError             a type outside the checkpointer's allowlist
    │   ├── DimensionMismatchError              vectors of another length than those stored
    │   ├── EmptyQuestionError                  nothing was asked
    │   ├── InvalidDecisionError                a reviewer's decision is none of those that are possible
    │   │   └── NotWaitingError                 what was decided on does not wait any more
    │   ├── UnknownCheckpointError              the thread has no checkpoint with this id
    │   ├── UnreadableDocumentError             a file that holds no text that can be used
    │   └── UnknownGroupError                   no working group has this id
    ├── StorageError                            Redis or what is stored in it
    │   ├── RedisUnavailableError               nobody answers, or the connection broke
    │   │   └── RedisTimeoutError               it answers too late
    │   ├── RedisRefusedError                   it answered: no (login, ACL, memory, read-only, …)
    │   ├── TooLargeError                       more than the server takes in one value
    │   ├── NotReplicatedError                  too few replicas have it (only with ``wait_replicas``)
    │   ├── WrongTypeError                      somebody else's data type is at one of our keys
    │   ├── CorruptDataError                    stored bytes that this format does not allow
    │   │   └── DecryptionError                 wrong key, or a row moved or changed
    │   ├── FormatVersionError                  written by a newer version of this package
    │   ├── ThreadGoneError                     a thread expired or was deleted while a run built on it
    │   ├── CheckpointConflictError             another run has extended this checkpoint (fencing)
    │   ├── ItemConflictError                   another writer has changed this item (``if_version``)
    │   └── EmbeddedServerError                 the embedded server is missing or does not start
    ├── ModelError                              Ollama or the model behind it
    │   ├── ModelServerUnavailableError         nobody answers at the address
    │   ├── ModelNotFoundError                  the model is not pulled
    │   ├── ModelTimeoutError                   no answer in time
    │   ├── ModelCapabilityError                no tools or no structured output
    │   └── ContextOverflowError (LangChain's)  the question does not fit the model's context
    └── SupervisorError                         the graph
        ├── LoopBudgetError                     too many hops, or the same step again and again
        ├── AsyncToolError                      a tool that only works in asynchronous runs
        ├── DecisionPendingError                a draft of the thread still waits for a reviewer
        └── ThreadBusyError                     another run of the thread is under way

A message says what was wrong and what to do next. None holds a password. Where something is merely of no effect,
it is an :class:`UnknownSettingWarning`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class EcowasError(Exception):
    """Base class of every error raised on purpose by this package."""


class ConfigurationError(EcowasError, ValueError):
    """Settings, a URL or arguments that can't be used, or that contradict each other."""


class MissingExtraError(ConfigurationError):
    """An optional dependency is needed and not installed; the message gives the command."""


class InvalidInputError(EcowasError, ValueError):
    """Something the caller passed can't be used; nothing was written."""


class UnreadableDocumentError(InvalidInputError):
    """A file can't be used as a document: too large, encrypted, scanned, damaged or of an unknown format."""


class InvalidIdError(InvalidInputError):
    """An agent, session, thread or group id that is empty or is not text."""


class NotSerializableError(InvalidInputError, TypeError):
    """A value that could not be read back the same; nothing was written."""


class TypeNotAllowedError(NotSerializableError):
    """A value whose type is outside the checkpointer's allowlist, on write or on read."""


class DimensionMismatchError(InvalidInputError):
    """Vectors whose length differs from the index configuration's, or from those that are stored."""


class EmptyQuestionError(InvalidInputError):
    """A question with no text in it."""


class InvalidDecisionError(InvalidInputError):
    """A decision that is none of those that the waiting request allows; nothing was released."""


class NotWaitingError(InvalidDecisionError):
    """A decision about something that does not wait any more, or that never did; nothing was released."""


class UnknownCheckpointError(InvalidInputError):
    """A checkpoint that the thread does not have; nothing was run."""


class UnknownGroupError(InvalidInputError):
    """No working group has this id; the message lists those there are."""


class StorageError(EcowasError):
    """Redis, or what is stored in it."""


class RedisUnavailableError(StorageError):
    """Nobody answers at the server's address, or the connection broke and retries ran out."""


class RedisTimeoutError(RedisUnavailableError):
    """The server did not answer within the socket timeout; a write may have happened."""


class RedisRefusedError(StorageError):
    """The server answered, and refused: login, ACL, memory limit, read-only replica, …"""


class TooLargeError(StorageError):
    """The server takes no value or command of this size; nothing was written."""


class NotReplicatedError(StorageError):
    """The write was made, and too few replicas have it yet: it is lost should the primary fail now."""


class WrongTypeError(StorageError):
    """One of our keys holds a data type that this package never writes there."""


class CorruptDataError(StorageError):
    """Stored bytes that the storage format does not allow."""


class DecryptionError(CorruptDataError):
    """An encrypted value that this key does not open, or that was moved or changed."""


class FormatVersionError(StorageError):
    """Data written in a newer storage format than this version of the package reads."""


class ThreadGoneError(StorageError):
    """The thread expired, or was deleted, while a run was building on what it held; nothing was written."""


class CheckpointConflictError(StorageError):
    """Another run has already extended this checkpoint (only with ``fencing=True``)."""


class ItemConflictError(StorageError):
    """Another writer has changed this item since it was read (only with ``if_version``)."""


class EmbeddedServerError(StorageError):
    """The embedded server's binary is missing, or the server does not start."""


class ModelError(EcowasError):
    """Ollama, or the model behind it."""


class ModelServerUnavailableError(ModelError):
    """Nobody answers at the model server's address."""


class ModelNotFoundError(ModelError):
    """The model server runs and does not have this model."""


class ModelTimeoutError(ModelError):
    """The model did not answer within the time allowed."""


class ModelCapabilityError(ModelError):
    """The model can't do what was asked of it (tools, structured output)."""


if TYPE_CHECKING:
    from langchain_core.exceptions import ContextOverflowError as _LangChainContextOverflowError

    class ContextOverflowError(ModelError, _LangChainContextOverflowError):
        """The prompt does not fit the model's effective context window; also LangChain's error of this name."""


def __getattr__(name: str) -> Any:
    """Make :class:`ContextOverflowError` when it is first used: loading LangChain's takes a tenth of a second."""
    if name != "ContextOverflowError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from langchain_core import exceptions

    ours = "The prompt does not fit the model's effective context window; also LangChain's error of this name."
    langchains = getattr(exceptions, "ContextOverflowError", None)  # older versions have none
    bases = (ModelError, langchains) if langchains else (ModelError,)
    made = type(name, bases, {"__doc__": ours, "__module__": __name__})
    return globals().setdefault(name, made)


class SupervisorError(EcowasError):
    """The supervisor graph could not go on."""


class LoopBudgetError(SupervisorError):
    """A run used up its hop or repeat budget; the state is intact."""


class AsyncToolError(SupervisorError):
    """A group has a tool that only works asynchronously, and the run is synchronous: use ``ainvoke``."""


class DecisionPendingError(SupervisorError):
    """A draft of this thread waits for a reviewer, so a new question is refused; the draft goes on waiting."""


class ThreadBusyError(SupervisorError):
    """Another run of this thread is under way; the question was not stored."""


class TurnStoppedError(SupervisorError):
    """The turn was stopped between two steps; what was done is stored, and it can be resumed."""


class IncompleteWarning(UserWarning):
    """A listing, an export or a removal left something out, or may have; the message says what and why."""


class UnknownSettingWarning(UserWarning):
    """A variable with our prefix, in the environment or in ``.env``, that sets nothing: a misspelt one, mostly."""


__all__ = [
    "ContextOverflowError",
    *(
        name
        for name, value in list(globals().items())
        if isinstance(value, type) and issubclass(value, (EcowasError, Warning)) and name != "ContextOverflowError"
    ),
]
