"""LangGraph's Agent Server with our graph and our checkpointer: ``langgraph dev`` for real, driven by its SDK."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError

from ecowas_lc import RedisSaver, RedisStore, draw_thread
from ecowas_lc.embedded import stop_server
from ecowas_lc.settings import Settings, load_settings
from tests.fixtures.ollama_stub import OllamaStub, serving_stub
from tests.fixtures.servers import free_port, need, wait_until

CONFIGURATION = Path(__file__).parents[2] / "langgraph.json"
SOLAR = {"messages": [{"role": "user", "content": "Which solar plants feed the power pool?"}]}
HARVEST = {"messages": [{"role": "user", "content": "How are smallholder farmers paid for their harvest?"}]}


@dataclass
class AgentServer:
    """``langgraph dev`` in a temporary folder, on a free port, with an embedded Valkey server."""

    folder: Path
    model_url: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> Settings:
        return load_settings(data_dir=self.folder / "data")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        configuration = json.loads(CONFIGURATION.read_text(encoding="utf-8"))
        configuration["graphs"]["reviewed"] = "tests.agent_server.served:graph"
        (self.folder / CONFIGURATION.name).write_text(json.dumps(configuration), encoding="utf-8")
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "LANG"))},
            "PYTHONPATH": str(CONFIGURATION.parent),
            "ECOWAS_LC_DATA_DIR": str(self.folder / "data"),
            "ECOWAS_LC_LINGER_SECONDS": "0",
            "OLLAMA_BASE_URL": self.model_url,
            "OLLAMA_MODEL": "tiny",
            "LANGGRAPH_NO_VERSION_CHECK": "true",
            "LANGSMITH_TRACING": "false",
            "NO_COLOR": "1",
            # nothing may leave the machine: every attempt gets a proxy that does not exist
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        command = [
            sys.executable,
            "-m",
            "langgraph_cli",
            "dev",
            "--no-browser",
            "--no-reload",
            "--port",
            str(self.port),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self.answers, f"the Agent Server: {self.log[-2000:]}", seconds=60)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log[-3000:]
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/ok", timeout=2).is_success
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(20)
            self.process = None


@pytest.fixture(scope="module")
def model() -> Iterator[OllamaStub]:
    with serving_stub() as stub:
        yield stub


@pytest.fixture(scope="module")
def agent_server(model: OllamaStub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentServer]:
    for module in ("langgraph_api", "langgraph_cli"):
        if importlib.util.find_spec(module) is None:
            need("langgraph-cli[inmem] (extra server)")
    server = AgentServer(tmp_path_factory.mktemp("agent-server"), model.url)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        stop_server(server.settings)


@pytest.fixture
async def client(agent_server: AgentServer) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=agent_server.url) as client:
        yield client


def speakers(values: Any) -> list[str]:
    return [message["name"] or message["type"] for message in values["messages"]]


async def test_threads_runs_and_history(client: LangGraphClient, agent_server: AgentServer) -> None:
    """A run goes through our graph, and its checkpoints are in our storage and nowhere else."""
    thread = (await client.threads.create())["thread_id"]
    values = await client.runs.wait(thread, "supervisor", input=SOLAR)
    assert values["decision"]["groups"] == ["energy"]
    assert speakers(values) == ["human", "energy"]
    history = await client.threads.get_history(thread, limit=50)
    assert [state["next"] for state in history] == [[], ["record"], ["energy"], ["route"], ["__start__"]]
    with RedisSaver.from_settings(agent_server.settings) as saver:
        drawn = draw_thread(saver, thread)
        assert [moment.title for moment in drawn] == ["input", "start", "route", "energy", "record"]
    assert not list(agent_server.folder.glob(".langgraph_api/*checkpoint*"))


async def test_streaming(client: LangGraphClient) -> None:
    """Tokens arrive one by one, each with the group that speaks."""
    thread = (await client.threads.create())["thread_id"]
    tokens: list[tuple[str, str]] = []
    async for part in client.runs.stream(thread, "supervisor", input=SOLAR, stream_mode="messages-tuple"):
        assert part.event != "error", part.data
        if part.event == "messages":
            message, about = part.data
            if message["type"] == "AIMessageChunk" and message["content"]:
                tokens.append((about.get("twg"), message["content"]))
    assert tokens == [("energy", "Good "), ("energy", "morning"), ("energy", ".")]


def asking(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}


async def test_tools_what_waits_and_the_final_answer_are_told(client: LangGraphClient) -> None:
    """The custom stream has the events, a held answer is in no stream, and a decision lets the run continue."""
    thread = (await client.threads.create())["thread_id"]
    told: list[Any] = []
    heard = ""
    for question in ("energy: a?", "protocol: b?"):
        stream = client.runs.stream(
            thread, "reviewed", input=asking(question), stream_mode=["custom", "messages-tuple"]
        )
        async for part in stream:
            assert part.event != "error", part.data
            if part.event == "custom":
                told.append(part.data)
            if part.event == "messages":
                heard += str(part.data[0]["content"])
    assert [one["type"] for one in told] == ["tool_call", "tool_result", "final", "waiting"]
    assert "protocol speaks." not in heard
    state = await client.threads.get_state(thread)
    [request] = [one for task in state["tasks"] for one in task["interrupts"]]
    assert request["value"]["draft"] == told[-1]["draft"]
    values = await client.runs.wait(thread, "reviewed", command={"resume": {request["id"]: "approve"}})
    assert values["messages"][-1]["content"] == "protocol speaks."


async def test_a_second_run_of_a_thread_is_refused(client: LangGraphClient, model: OllamaStub) -> None:
    """With ``multitask_strategy="reject"``, the second run gets 409, and the first continues undisturbed."""
    thread = (await client.threads.create())["thread_id"]
    model.stall_before = 0
    try:
        run = await client.runs.create(thread, "supervisor", input=SOLAR)
        with pytest.raises(ConflictError) as refused:
            await client.runs.create(thread, "supervisor", input=HARVEST, multitask_strategy="reject")
        assert refused.value.response.status_code == 409
    finally:
        model.stall_before = None
        model.released.set()
    await client.runs.join(thread, run["run_id"])
    model.released.clear()
    assert speakers((await client.threads.get_state(thread))["values"]) == ["human", "energy"]


async def test_copies_are_threads_of_their_own(client: LangGraphClient) -> None:
    """A copied thread has the conversation and continues independently."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "supervisor", input=SOLAR)
    copy = (await client.threads.copy(thread))["thread_id"]
    await client.runs.wait(copy, "supervisor", input=HARVEST)
    assert speakers((await client.threads.get_state(copy))["values"]) == [
        "human",
        "energy",
        "human",
        "agriculture",
    ]
    assert speakers((await client.threads.get_state(thread))["values"]) == ["human", "energy"]


async def test_forks_from_an_earlier_checkpoint(client: LangGraphClient) -> None:
    """A run from an earlier checkpoint continues from there, whatever came later."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "supervisor", input=SOLAR)
    earlier = (await client.threads.get_state(thread))["checkpoint"]
    await client.runs.wait(thread, "supervisor", input=HARVEST)
    values = await client.runs.wait(
        thread,
        "supervisor",
        input={"messages": [{"role": "user", "content": "Which mines dig for lithium?"}]},
        checkpoint=earlier,
    )
    assert speakers(values) == ["human", "energy", "human", "minerals"]


async def test_a_rolled_back_run_leaves_nothing(client: LangGraphClient, model: OllamaStub) -> None:
    """Cancelling a run with ``rollback`` removes its checkpoints: the thread is as it was before."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "supervisor", input=SOLAR)
    before = await client.threads.get_history(thread, limit=50)
    model.stall_before = 0
    try:
        run = await client.runs.create(thread, "supervisor", input=HARVEST)
        deadline = monotonic() + 30
        while len(await client.threads.get_history(thread, limit=50)) <= len(before) + 2:
            assert monotonic() < deadline, "the run never wrote a checkpoint"
        await client.runs.cancel(thread, run["run_id"], action="rollback", wait=True)
    finally:
        model.stall_before = None
    # The server may reply a moment before it has removed the run's data.
    deadline = monotonic() + 30
    while True:
        after = await client.threads.get_history(thread, limit=50)
        if [state["checkpoint"] for state in after] == [state["checkpoint"] for state in before]:
            return
        assert monotonic() < deadline, "the run's checkpoints are still there"


async def test_deleted_threads_are_gone(client: LangGraphClient, agent_server: AgentServer) -> None:
    """Deleting a thread deletes its checkpoints."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "supervisor", input=SOLAR)
    await client.threads.delete(thread)
    with RedisSaver.from_settings(agent_server.settings) as saver:
        assert saver.get_tuple({"configurable": {"thread_id": thread}}) is None


async def test_restarts_with_its_state(client: LangGraphClient, agent_server: AgentServer) -> None:
    """After a restart, threads have their state and history, and conversations continue."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "supervisor", input=SOLAR)
    before = await client.threads.get_history(thread, limit=50)
    agent_server.stop()
    agent_server.start()
    async with get_client(url=agent_server.url) as anew:
        assert await anew.threads.get_history(thread, limit=50) == before
        values = await anew.runs.wait(thread, "supervisor", input=HARVEST)
        assert speakers(values) == ["human", "energy", "human", "agriculture"]


async def test_the_store_is_ours(client: LangGraphClient, agent_server: AgentServer) -> None:
    """Items that the SDK puts are in our storage, are found by meaning, and are still there after a restart."""
    namespace = ["memories", "ama"]
    await client.store.put_item(namespace, key="power", value={"text": "The electricity tariff rises in March."})
    await client.store.put_item(namespace, key="port", value={"text": "The port exports phosphate."})
    found = await client.store.search_items(["memories"], query="prix du courant", limit=1)
    assert [item["key"] for item in found["items"]] == ["power"]
    with RedisStore.from_settings(agent_server.settings) as store:
        assert [
            item.key for item in store.search(("memories",), filter={"text": "The port exports phosphate."})
        ] == ["port"]
    await client.store.delete_item(namespace, key="port")
    agent_server.stop()
    agent_server.start()
    async with get_client(url=agent_server.url) as anew:
        assert (await anew.store.list_namespaces(prefix=["memories"]))["namespaces"] == [namespace]
        assert (await anew.store.get_item(namespace, key="power"))["value"]["text"].startswith("The electricity")
        assert [i["key"] for i in (await anew.store.search_items(namespace, query="port"))["items"]] == ["power"]


def test_never_blocked_its_event_loop(agent_server: AgentServer) -> None:
    """The tests above never blocked the event loop, which this server monitors; no method is missing."""
    assert "Blocking call" not in agent_server.log
    assert "missing a" not in agent_server.log  # "Custom checkpointer missing acopy_thread", and so on
