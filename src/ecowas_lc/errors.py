"""The errors that this package raises on purpose, as one tree.

    EcowasError
    ├── ConfigurationError (ValueError)         settings, URLs, arguments that contradict each other
    │   └── MissingExtraError                   an optional dependency is not installed
    ├── InvalidInputError (ValueError)          what the caller passed can't be used
    │   ├── InvalidIdError                      an id that is empty or is not text
    │   ├── NotSerializableError (TypeError)    a value that could not be read back
    │   │   └── TypeNotAllowedError             a type outside the checkpointer's allowlist
    │   ├── DimensionMismatchError              vectors whose length differs from the stored ones
    │   ├── EmptyQuestionError                  a question without text
    │   ├── InvalidDecisionError                a reviewer's decision that is not possible
    │   │   └── NotWaitingError                 the draft or step no longer waits for a decision
    │   ├── UnknownCheckpointError              the thread has no checkpoint with this id
    │   ├── UnreadableDocumentError             a file without usable text
    │   └── UnknownGroupError                   no working group has this id
    ├── StorageError                            Redis or what is stored in it
    │   ├── RedisUnavailableError               no server answers, or the connection broke
    │   │   └── RedisTimeoutError               the server answers too late
    │   ├── RedisRefusedError                   the server refused (login, ACL, memory, read-only, …)
    │   ├── TooLargeError                       a value larger than the server accepts
    │   ├── NotReplicatedError                  too few replicas have the write (only with ``wait_replicas``)
    │   ├── WrongTypeError                      one of our keys holds another program's data type
    │   ├── CorruptDataError                    stored bytes that this format does not allow
    │   │   └── DecryptionError                 wrong key, or a value that was moved or changed
    │   ├── FormatVersionError                  written by a newer version of this package
    │   ├── ThreadGoneError                     a thread expired or was deleted while a run built on it
    │   ├── CheckpointConflictError             another run has extended this checkpoint (fencing)
    │   ├── ItemConflictError                   another writer has changed this item (``if_version``)
    │   └── EmbeddedServerError                 the embedded server is missing or does not start
    ├── ModelError                              Ollama or the model behind it
    │   ├── ModelServerUnavailableError         no server answers at the address
    │   ├── ModelNotFoundError                  the model is not pulled
    │   ├── ModelTimeoutError                   no answer in time
    │   ├── ModelCapabilityError                the model lacks tools or structured output
    │   └── ContextOverflowError (LangChain's)  the question does not fit the model's context
    └── SupervisorError                         the graph
        ├── LoopBudgetError                     too many hops, or too many repeats of a step
        ├── AsyncToolError                      a tool that only works in asynchronous runs
        ├── DecisionPendingError                a draft of the thread still waits for a reviewer
        └── ThreadBusyError                     another run of the thread is under way

Each message says what was wrong and what to do next, and never contains a password. A setting that merely has no
effect causes an :class:`UnknownSettingWarning` instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class EcowasError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigurationError(EcowasError, ValueError):
    """Settings, a URL or arguments that can't be used or that contradict each other."""


class MissingExtraError(ConfigurationError):
    """An optional dependency that is needed but not installed; the message gives the command to install it."""


class InvalidInputError(EcowasError, ValueError):
    """An argument that can't be used; nothing was written."""


class UnreadableDocumentError(InvalidInputError):
    """A file that can't be used as a document: too large, encrypted, scanned, damaged or of an unknown format."""


class InvalidIdError(InvalidInputError):
    """An agent, session, thread or group id that is empty or is not text."""


class NotSerializableError(InvalidInputError, TypeError):
    """A value that would not be the same after writing and reading it; nothing was written."""


class TypeNotAllowedError(NotSerializableError):
    """A value whose type is outside the checkpointer's allowlist, on write or on read."""


class DimensionMismatchError(InvalidInputError):
    """Vectors whose length differs from the index configuration or from the stored vectors."""


class EmptyQuestionError(InvalidInputError):
    """A question without text."""


class InvalidDecisionError(InvalidInputError):
    """A decision that the waiting request does not allow; nothing was released."""


class NotWaitingError(InvalidDecisionError):
    """A decision about something that no longer waits for one, or never did; nothing was released."""


class UnknownCheckpointError(InvalidInputError):
    """A checkpoint that does not exist in the thread; nothing was run."""


class UnknownGroupError(InvalidInputError):
    """A group id that no working group has; the message lists the known ids."""


class StorageError(EcowasError):
    """A failure of Redis, or of the data stored in it."""


class RedisUnavailableError(StorageError):
    """No server answers at the address, or the connection broke and all retries failed."""


class RedisTimeoutError(RedisUnavailableError):
    """The server did not answer within the socket timeout; a write may have been carried out."""


class RedisRefusedError(StorageError):
    """The server answered with a refusal: login, ACL, memory limit, read-only replica, …"""


class TooLargeError(StorageError):
    """A value or command larger than the server accepts; nothing was written."""


class NotReplicatedError(StorageError):
    """The write succeeded, but too few replicas have it yet: if the primary fails now, the write may be lost."""


class WrongTypeError(StorageError):
    """One of our keys holds a data type that this package never writes there."""


class CorruptDataError(StorageError):
    """Stored bytes that do not follow the storage format."""


class DecryptionError(CorruptDataError):
    """An encrypted value that this key can't open, or that was moved or changed."""


class FormatVersionError(StorageError):
    """Data written in a newer storage format than this version of the package reads."""


class ThreadGoneError(StorageError):
    """The thread expired or was deleted during a run that built on it; nothing was written."""


class CheckpointConflictError(StorageError):
    """Another run has already extended this checkpoint (only with ``fencing=True``)."""


class ItemConflictError(StorageError):
    """Another writer has changed this item since it was read (only with ``if_version``)."""


class EmbeddedServerError(StorageError):
    """The embedded server's program is missing, or the server does not start."""


class ModelError(EcowasError):
    """A failure of Ollama, or of the model it runs."""


class ModelServerUnavailableError(ModelError):
    """No model server answers at the address."""


class ModelNotFoundError(ModelError):
    """The model server runs but does not have this model."""


class ModelTimeoutError(ModelError):
    """The model did not answer within the time allowed."""


class ModelCapabilityError(ModelError):
    """The model lacks a capability that was requested (tools, structured output)."""


if TYPE_CHECKING:
    from langchain_core.exceptions import ContextOverflowError as _LangChainContextOverflowError

    class ContextOverflowError(ModelError, _LangChainContextOverflowError):
        """The prompt does not fit the model's effective context window; also a subclass of LangChain's error."""


def __getattr__(name: str) -> Any:
    """Create :class:`ContextOverflowError` on first use: importing LangChain's error takes a tenth of a second."""
    if name != "ContextOverflowError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from langchain_core import exceptions

    ours = "The prompt does not fit the model's effective context window; also LangChain's error of this name."
    langchains = getattr(exceptions, "ContextOverflowError", None)  # older versions have none
    bases = (ModelError, langchains) if langchains else (ModelError,)
    made = type(name, bases, {"__doc__": ours, "__module__": __name__})
    return globals().setdefault(name, made)


class SupervisorError(EcowasError):
    """The supervisor graph could not continue."""


class LoopBudgetError(SupervisorError):
    """A run exceeded its limit of hops or repeats; the state is intact."""


class AsyncToolError(SupervisorError):
    """A group has a tool that only works asynchronously, but the run is synchronous: use ``ainvoke``."""


class DecisionPendingError(SupervisorError):
    """A draft of this thread waits for a reviewer, so a new question is refused; the draft keeps waiting."""


class ThreadBusyError(SupervisorError):
    """Another run of this thread is in progress; the question was not stored."""


class TurnStoppedError(SupervisorError):
    """The turn was stopped between two steps; finished steps are stored, and the turn can be resumed."""


class IncompleteWarning(UserWarning):
    """A listing, an export or a removal is, or may be, incomplete; the message says what is missing and why."""


class UnknownSettingWarning(UserWarning):
    """A variable with our prefix, in the environment or in ``.env``, that sets nothing; usually a misspelling."""


__all__ = [
    "ContextOverflowError",
    *(
        name
        for name, value in list(globals().items())
        if isinstance(value, type) and issubclass(value, (EcowasError, Warning)) and name != "ContextOverflowError"
    ),
]
