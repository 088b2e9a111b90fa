"""The promised API: names, arguments and defaults, documented, and used in an example that runs."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver

import ecowas_lc
from ecowas_lc import AsyncRedisMemoryService, LLMService, RedisMemoryService, Settings
from tests.docs.page import blocks_of

ROOT = Path(__file__).parents[2]

PROMISED: dict[Any, str] = {
    RedisMemoryService: "host='localhost', port=6379, db=0, password=None, default_ttl=86400",
    RedisMemoryService.save_conversation_history: "agent_id, session_id, history, ttl=None",
    RedisMemoryService.get_conversation_history: "agent_id, session_id, last=None",
    RedisMemoryService.append_to_history: "agent_id, session_id, message, max_history=None, ttl=None",
    RedisMemoryService.clear_conversation_history: "agent_id, session_id",
    RedisMemoryService.save_agent_state: "agent_id, state, ttl=None",
    RedisMemoryService.get_agent_state: "agent_id",
    RedisMemoryService.set_session_data: "session_id, key, value, ttl=None",
    RedisMemoryService.get_session_data: "session_id, key",
    RedisMemoryService.get_all_sessions_for_agent: "agent_id",
    RedisMemoryService.extend_ttl: "agent_id, session_id, ttl=None",
    RedisMemoryService.clear_all_agent_data: "agent_id",
    RedisMemoryService.get_memory_stats: "",
    RedisMemoryService.health_check: "",
    RedisMemoryService.close: "",
    ecowas_lc.create_redis_memory_from_config: "",
    ecowas_lc.test_redis_connection: "",
    ecowas_lc.RedisChatMessageHistory: "agent_id, session_id, url=None, client=None, ttl=None, max_messages=None, "
    "max_tokens=None, token_counter=None",
    ecowas_lc.get_llm_service: "",
    LLMService.chat: "prompt, system_prompt=None, temperature=None, max_tokens=None",
    LLMService.chat_with_history: "messages, temperature=None, max_tokens=None",
    LLMService.health_check: "",
    LLMService.list_models: "",
}

DEFAULTS = {
    "redis_url": None,
    "redis_host": "localhost",
    "redis_port": 6379,
    "redis_db": 0,
    "redis_password": None,
    "redis_max_connections": 10,
    "redis_memory_ttl": 86400,
    "agent_use_redis_memory": True,
    "agent_max_history": 10,
    "supervisor_max_history": 20,
    "ollama_base_url": "http://localhost:11434",
    "ollama_model": "qwen2.5:0.5b",
    "llm_temperature": 0.7,
    "llm_timeout": 120,
}

RETURNED = {
    "ChannelChange",
    "ErasureReceipt",
    "GraphPicture",
    "ImportReport",
    "MigrationReport",
    "OpaqueValue",
    "RouteDecision",
    "SessionInfo",
    "ThreadDifference",
    "ThreadPicture",
    "ThreadRow",
}
"""Classes that users receive and never construct."""

SHOWN = (
    RedisMemoryService,
    AsyncRedisMemoryService,
    ecowas_lc.RedisChatMessageHistory,
    ecowas_lc.BaseAgent,
    ecowas_lc.RedisAgent,
    ecowas_lc.SupervisorAgent,
    LLMService,
)


def arguments_of(callable_: Callable[..., Any]) -> str:
    """The arguments that may be positional, with their defaults."""
    parameters = inspect.signature(callable_).parameters.values()
    return ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in parameters
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
    )


@pytest.mark.parametrize("name", PROMISED, ids=lambda name: name.__qualname__)
def test_arguments_and_defaults(name: Callable[..., Any]) -> None:
    """Each callable takes the promised arguments, in that order, with these defaults."""
    assert arguments_of(name) == PROMISED[name]


def test_the_async_twin_takes_the_same() -> None:
    """Every public method of the memory service exists with ``await``, with the same arguments."""
    for name, method in methods_of(RedisMemoryService):
        twin = getattr(AsyncRedisMemoryService, name)
        assert arguments_of(twin) == arguments_of(method), name
        assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin) or name == "from_settings", (
            name
        )


@pytest.mark.parametrize("name", DEFAULTS)
def test_settings_and_their_defaults(name: str) -> None:
    """Each setting exists with the promised default."""
    assert Settings.model_fields[name].default == DEFAULTS[name]


def methods_of(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods of a class and of its base classes in this package."""
    for name in dir(cls):
        home = next((base for base in cls.__mro__ if name in vars(base)), object)
        is_ours = not name.startswith("_") and home.__module__.startswith("ecowas_lc")
        if is_ours and callable(method := getattr(cls, name)):
            yield name, method


def test_the_saver_beyond_what_langgraph_asks_for() -> None:
    """The methods of ``RedisSaver`` that langgraph's savers lack; adding one is a decision."""
    own = {name for name, _ in methods_of(ecowas_lc.RedisSaver)} - set(dir(BaseCheckpointSaver))
    twins = {"export_jsonl", "import_jsonl", "pin", "unpin", "touch", "ttl", "reindex"}
    twins |= {"threads", "waiting", "diff", "setup", "close"}
    others = {"from_settings", "from_url", "from_conn_string", "thread", "viewing"}
    assert own == {*others, *twins, *(f"a{name}" for name in twins)}


@pytest.mark.parametrize("name", sorted(set(ecowas_lc.__all__) - {"__version__"}))
def test_every_name_says_what_it_is(name: str) -> None:
    """A public name, its methods and its properties each have their own docstring."""
    found = getattr(ecowas_lc, name)
    assert inspect.getdoc(found)
    if not inspect.isclass(found):
        return
    for member, value in vars(found).items():
        if not member.startswith("_") and (
            inspect.isfunction(value) or isinstance(value, (property, classmethod))
        ):
            assert inspect.getdoc(value), f"{name}.{member}"


@cache
def examples() -> str:
    """The code of all examples: those of the folder, of the notebooks, of the README and of the documentation."""
    code = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.py")]
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        code += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        code += [block.text for block in blocks_of(page.read_text(encoding="utf-8")) if block.language == "python"]
    return "\n".join(code)


IN_USE = set(ecowas_lc.__all__) - {"__version__", *ecowas_lc.errors.__all__} - RETURNED


@pytest.mark.parametrize("name", sorted(IN_USE))
def test_every_name_is_in_an_example(name: str) -> None:
    """Each promised name is used in an example; other tests run these examples."""
    assert re.search(rf"\b{name}\b", examples())


@pytest.mark.parametrize("cls", SHOWN, ids=lambda cls: cls.__name__)
def test_every_method_is_in_an_example(cls: type) -> None:
    """So is each promised method."""
    missing = [name for name, _ in methods_of(cls) if not re.search(rf"\.{name}\b", examples())]
    assert missing == []
