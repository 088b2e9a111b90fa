"""``import ecowas_lc`` offers these names, and nothing that takes time before its first use."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import ecowas_lc

NAMES = [
    "ActivityPicture",
    "AsyncRedisMemoryService",
    "AsyncToolError",
    "BaseAgent",
    "ChannelChange",
    "CheckpointConflictError",
    "ConfigurationError",
    "ContextOverflowError",
    "CorruptDataError",
    "DecisionPendingError",
    "DecryptionError",
    "DimensionMismatchError",
    "Documents",
    "EcowasError",
    "EmbeddedServerError",
    "EmptyQuestionError",
    "EncryptedRedisSerializer",
    "ErasureReceipt",
    "Failure",
    "FormatVersionError",
    "GraphPicture",
    "GroundedAnswer",
    "GuardedChatOllama",
    "GuardedContextMiddleware",
    "ImportReport",
    "IncompleteWarning",
    "InvalidDecisionError",
    "InvalidIdError",
    "InvalidInputError",
    "ItemConflictError",
    "LLMService",
    "LoopBudgetError",
    "Metrics",
    "MigrationReport",
    "MissingExtraError",
    "ModelCapabilityError",
    "ModelError",
    "ModelNotFoundError",
    "ModelServerUnavailableError",
    "ModelTimeoutError",
    "Moment",
    "NotReplicatedError",
    "NotSerializableError",
    "NotWaitingError",
    "OpaqueValue",
    "PastTurn",
    "RedisAgent",
    "RedisChatMessageHistory",
    "RedisLLMCache",
    "RedisMemoryService",
    "RedisRefusedError",
    "RedisSaver",
    "RedisStore",
    "RedisTimeoutError",
    "RedisUnavailableError",
    "RedisVectorStore",
    "Report",
    "Request",
    "RouteDecision",
    "RoutePicture",
    "Router",
    "SavedThread",
    "SessionInfo",
    "Settings",
    "StatePicture",
    "StorageError",
    "SupervisorAgent",
    "SupervisorError",
    "SupervisorOutput",
    "SupervisorResult",
    "Synthesis",
    "TWG",
    "ThreadBusyError",
    "ThreadDifference",
    "ThreadGoneError",
    "ThreadPicture",
    "ThreadRow",
    "TooLargeError",
    "TurnStoppedError",
    "TypeNotAllowedError",
    "UnknownCheckpointError",
    "UnknownGroupError",
    "UnknownSettingWarning",
    "UnreadableDocumentError",
    "WrongTypeError",
    "__version__",
    "adraw_thread",
    "aerase",
    "ahistory_to_thread",
    "amigrate_threads",
    "athread_to_history",
    "build_supervisor",
    "check_answer",
    "create_agriculture_agent",
    "create_digital_agent",
    "create_energy_agent",
    "create_minerals_agent",
    "create_protocol_agent",
    "create_redis_memory_from_config",
    "create_resource_mobilization_agent",
    "create_supervisor",
    "default_groups",
    "draw_activity",
    "draw_graph",
    "draw_route",
    "draw_state",
    "draw_thread",
    "erase",
    "get_async_redis_memory",
    "get_llm_service",
    "get_redis_memory",
    "get_router",
    "get_settings",
    "grounded_answer",
    "history_factory",
    "history_to_thread",
    "make_chat_model",
    "migrate_threads",
    "reviewed",
    "test_redis_connection",
    "thread_to_history",
    "twg_tools",
]


def test_the_public_names() -> None:
    """A name is public when it is in this list; adding or removing one is a decision."""
    assert sorted(ecowas_lc.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there(name: str) -> None:
    """Every public name exists, also for ``from ecowas_lc import *`` and completion."""
    assert getattr(ecowas_lc, name) is not None
    assert name in dir(ecowas_lc)


PACKAGES = sorted(
    module.name
    for module in pkgutil.walk_packages(ecowas_lc.__path__, "ecowas_lc.")
    if module.ispkg and not module.name.rpartition(".")[2].startswith("_")
)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_what_it_offers(package: str) -> None:
    """A package's ``__all__`` lists what you may import from it, and each of these names exists."""
    module = importlib.import_module(package)
    for name in module.__all__:
        assert hasattr(module, name), name


def test_modules_at_the_top_are_public_or_marked() -> None:
    """A module next to the packages is public, or its name begins with an underscore."""
    modules = {module.name for module in pkgutil.iter_modules(ecowas_lc.__path__) if not module.ispkg}
    public = {name for name in modules if not name.startswith("_")}
    assert public == {"agent_server", "effects", "errors", "forks", "metrics", "settings"}


def test_an_unknown_name() -> None:
    """An unknown name is an AttributeError that contains it."""
    with pytest.raises(AttributeError, match="RedisServer"):
        _ = ecowas_lc.RedisServer


def test_every_error_is_public() -> None:
    """You can import every error class from the package itself."""
    from ecowas_lc import errors

    assert set(errors.__all__) <= set(NAMES)


def loaded_by(code: str) -> set[str]:
    """The modules that an interpreter has after ``code``, and not before; it must say nothing."""
    code = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def test_importing_is_silent_and_light() -> None:
    """``import ecowas_lc`` triggers no warning, prints nothing, and loads one small library."""
    loaded = loaded_by("import ecowas_lc")
    ours = {"ecowas_lc", "lazy_loader"}
    assert {module for module in loaded if module.partition(".")[0] not in sys.stdlib_module_names} == ours


def test_a_name_brings_what_it_stands_on_and_no_more() -> None:
    """Importing only the saver does not load the supervisor, the models, the pictures or the embedded server."""
    loaded = loaded_by("from ecowas_lc import RedisSaver")
    assert {module.split(".")[1] for module in loaded if module.startswith("ecowas_lc.")} == {
        "_connection_settings",
        "_display",
        "_extras",
        "_secret",
        "_telemetry",
        "checkpoint",
        "errors",
        "forks",
        "storage",
    }
    assert not loaded & {"langchain_ollama", "ollama", "numpy", "langgraph.pregel", "typer", "rich"}
    service = loaded_by("from ecowas_lc import RedisMemoryService")
    assert not service & {"langchain_core.messages", "langgraph", "ollama", "numpy"}
