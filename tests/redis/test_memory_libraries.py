"""Libraries that remember through langgraph's store, on ours: LangMem's tools, and the files of deepagents."""

from __future__ import annotations

from importlib.util import find_spec
from inspect import signature
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.store import RedisStore
from tests.fixtures.scripted_model import Answer, ScriptedModel
from tests.fixtures.servers import RunningServer, need

# Warnings of these libraries and their dependencies at import are not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")


def calling(name: str, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": name}])


def user(name: str, thread: str) -> Any:
    return {"configurable": {"langgraph_user_id": name, "thread_id": thread}}


def memory_script(messages: list[BaseMessage]) -> Answer:
    """Stores what it reads, and searches for what it is asked."""
    if isinstance(messages[-1], ToolMessage):
        return messages[-1].text
    text = messages[-1].text
    if text.endswith("?"):
        return calling("search_memory", query=text, limit=1)
    return calling("manage_memory", content=text, action="create")


async def test_langmem(server: RunningServer, prefix: str) -> None:
    """LangMem's tools keep memories in our store, and find them by their words, for this user only."""
    if find_spec("langmem") is None:
        need("langmem")
    from langmem import create_manage_memory_tool, create_search_memory_tool

    namespace = ("memories", "{langgraph_user_id}")
    index: Any = {"embed": None}
    with RedisStore.from_url(server.url, prefix=prefix, index=index) as store:

        def agent() -> Any:
            return create_agent(
                ScriptedModel(script=memory_script, tools=True),
                tools=[create_manage_memory_tool(namespace), create_search_memory_tool(namespace)],
                store=store,
            )

        for text in ("Ama prefers answers in French.", "Tariffs rise in March."):
            said = agent().invoke({"messages": [HumanMessage(text)]}, user("ama", "one"))
            assert said["messages"][-1].text.startswith("created memory")
        found = await agent().ainvoke({"messages": [HumanMessage("which tariff?")]}, user("ama", "two"))
        assert "Tariffs rise in March." in found["messages"][-1].text
        assert "French" not in found["messages"][-1].text
        nothing = agent().invoke({"messages": [HumanMessage("which tariff?")]}, user("kofi", "three"))
        assert nothing["messages"][-1].text == "[]"
        assert store.list_namespaces() == [("memories", "ama")]


def file_script(messages: list[BaseMessage]) -> Answer:
    """Writes, edits or reads a file, depending on the first word of its prompt."""
    if isinstance(messages[-1], ToolMessage):
        return messages[-1].text
    path = "/memories/notes.txt"
    match messages[-1].text.split(maxsplit=1):
        case ["write", text]:
            return calling("write_file", file_path=path, content=text)
        case ["edit", text]:
            return calling("edit_file", file_path=path, old_string="francs", new_string=text)
        case _:
            return calling("read_file", file_path=path)


def test_files_of_deepagents(server: RunningServer, prefix: str) -> None:
    """Another thread and process reads from our store what a deep agent wrote into a ``StoreBackend``."""
    if find_spec("deepagents") is None:
        need("deepagents")
    from deepagents import create_deep_agent
    from deepagents.backends import CompositeBackend, StateBackend, StoreBackend

    def backend(*runtime: Any, **options: Any) -> Any:
        files: Any = StoreBackend
        state: Any = StateBackend
        return CompositeBackend(default=state(*runtime), routes={"/memories/": files(*runtime, **options)})

    takes_runtime = "namespace" not in signature(StoreBackend.__init__).parameters  # before version 0.7
    chosen = backend if takes_runtime else backend(namespace=lambda _: ("files",))

    def ask(thread: str, text: str) -> str:
        with (
            RedisSaver.from_url(server.url, prefix=prefix) as saver,
            RedisStore.from_url(server.url, prefix=prefix) as store,
        ):
            agent: Any = create_deep_agent(
                ScriptedModel(script=file_script, tools=True),
                backend=chosen,
                checkpointer=saver,
                store=store,
            )
            config: Any = {"configurable": {"thread_id": thread}}
            return str(agent.invoke({"messages": [HumanMessage(text)]}, config)["messages"][-1].text)

    ask("one", "write The tariff is 118 francs.")
    assert "118 francs" in ask("two", "read")
    ask("two", "edit FCFA")
    assert "118 FCFA" in ask("three", "read")
