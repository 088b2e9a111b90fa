"""The one import for notebooks: looking around, records and DataFrames."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from langchain_core.messages import AIMessageChunk

from ecowas_lc import InvalidInputError, MissingExtraError, ModelServerUnavailableError, get_settings
from ecowas_lc.local_model import LocalModel
from ecowas_lc.notebook import (
    Explorer,
    Records,
    available_model,
    chat_model,
    checkpoints,
    confusion,
    explore,
    messages,
    scores,
    sessions,
    steps,
    threads,
)
from ecowas_lc.storage.server import Server
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.evaluation import evaluate
from ecowas_lc.supervisor.routing import get_router
from ecowas_lc.twg import evaluation_set
from tests.display.samples import samples
from tests.display.test_displays import nothing_unsafe_in
from tests.fixtures.ollama_stub import serving_stub
from tests.fixtures.servers import running_server


@pytest.fixture(scope="module")
def here() -> Iterator[Explorer]:
    with running_server("redis") as running:
        server = Server.from_url(running.url)
        with samples(server, "here", router="lexical", turns=3), explore(running.url, prefix="here") as found:
            yield found
        server.close()


def test_three_lines_are_enough(here: Explorer) -> None:
    """An overview, a conversation with completion, and pictures: no setting up."""
    overview = nothing_unsafe_in(here._repr_html_() or "").text
    for part in ("summit-prep", "waiting in tools", "1 session", "users / amina", "Look closer"):
        assert part in overview
    assert "summit-prep" in here.threads._ipython_key_completions_()
    assert "opening ceremony" in (here.threads["summit-prep"]._repr_html_() or "")
    assert here.timeline("summit-prep")[2].said
    assert here.state("summit-prep").sizes["messages"]
    assert [row.id for row in here.waiting()] == ["tools", "for-review"]
    assert here.route("power grid", router="lexical").groups == ("energy",)
    assert here.history("energy", "summit-prep").messages
    nothing_unsafe_in(here.threads._repr_html_() or "")
    assert "energy" in [group.id for group in here.groups]
    assert here.activity().infos
    assert here.picture(build_supervisor(router="lexical"), ["energy"]).ascii
    assert repr(here).endswith("prefix='here')")


@pytest.mark.llm
def test_there_is_a_model_on_every_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], local_model: LocalModel
) -> None:
    """Ollama's model if it has one; else, if no address is set, the local model; a set address must answer."""
    monkeypatch.setenv("OLLAMA_BASE_URL", local_model.base_url)
    monkeypatch.setenv("OLLAMA_MODEL", local_model.model)
    get_settings.cache_clear()
    assert chat_model(num_predict=5).base_url == local_model.base_url
    assert local_model.model in capsys.readouterr().out
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://127.0.0.1:1")
    get_settings.cache_clear()
    with pytest.raises(ModelServerUnavailableError):
        chat_model()
    monkeypatch.delenv("OLLAMA_BASE_URL")
    monkeypatch.delenv("OLLAMA_MODEL")
    monkeypatch.setenv("OLLAMA_HOST", "")
    get_settings.cache_clear()
    monkeypatch.setattr(available_model._STARTED, "model", local_model)
    monkeypatch.setattr(available_model.LLMService, "check", refuse)
    assert chat_model().base_url == local_model.base_url
    assert "ignore what it says" in capsys.readouterr().out
    get_settings.cache_clear()


def test_a_model_of_ollama_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """If the server has the model that is set, it answers, and you are told where, without its password."""
    with serving_stub() as stub:
        monkeypatch.setenv("OLLAMA_BASE_URL", stub.url.replace("://", "://ama:secret@"))
        monkeypatch.setenv("OLLAMA_MODEL", "tiny")
        get_settings.cache_clear()
        assert chat_model(num_predict=5).invoke("Hello").text == "Good morning."
        assert stub.bodies("/api/chat")[0]["options"]["num_predict"] == 5
    get_settings.cache_clear()
    assert capsys.readouterr().out == f"tiny answers at {stub.url}.\n"


def refuse(_: Any) -> None:
    raise ModelServerUnavailableError("No Ollama answers.")


def test_every_name_has_a_docstring() -> None:
    """Completion shows descriptions."""
    import ecowas_lc.notebook as notebook

    for name in notebook.__all__:
        assert getattr(notebook, name).__doc__
    for name in dir(Explorer):
        if not name.startswith("_"):
            assert getattr(Explorer, name).__doc__, name


def test_threads_and_sessions_as_tables(here: Explorer) -> None:
    """Records are dicts; a DataFrame of them has times that can be grouped by day."""
    found = threads(here.saver, tokens=True)
    by_id = {record["thread"]: record for record in found}
    assert by_id["summit-prep"]["turns"] == 3
    assert by_id["tools"]["input_tokens"] == 824
    assert by_id["tools"]["waits"] == 1
    frame = found.to_pandas()
    assert frame.groupby(frame["last_activity"].dt.date)["messages"].sum().iloc[0] > 6
    kept = sessions(here.memory).to_pandas()
    assert kept.groupby("agent")["messages"].sum()["energy"] == 4
    assert isinstance(kept["first_activity"].dtype, pd.DatetimeTZDtype)


def test_checkpoints_and_messages_as_tables(here: Explorer) -> None:
    """Checkpoints list what ran, its duration and size; messages list speaker, time and tokens."""
    found = checkpoints(here.saver, "summit-prep")
    assert [record["number"] for record in found] == list(range(1, len(found) + 1))
    assert found[-1]["bytes"] > found[0]["bytes"]
    assert any(record["groups"] == "energy, resource_mobilization" for record in found)
    said = messages(here.thread("tools"))
    assert [record["speaker"] for record in said] == ["user", "assistant", "free_rooms", "assistant"]
    assert said[1]["output_tokens"] == 38
    assert all(record["at"] for record in said)
    assert messages(here.saver, "tools") == said
    assert len(messages(here.history("energy", "summit-prep"))) == 4
    assert len(messages(here.thread("tools").messages)) == 4
    assert {record["step"] for record in steps(here.saver, ["summit-prep"])} >= {"energy", "route", "record"}
    assert messages([AIMessageChunk("streamed")])[0]["speaker"] == "assistant"
    assert list(messages(here.saver, "no such thread")) == []
    with pytest.raises(InvalidInputError, match="has no messages"):
        messages(7)


def test_evaluation_as_tables() -> None:
    """A router's confusion and scores are records too."""
    report = evaluate(get_router("lexical"), evaluation_set("dev"))
    table = (
        confusion(report).to_pandas().pivot_table(index="expected", columns="chosen", values="count", fill_value=0)
    )
    assert table.loc["energy", "energy"] == 14
    assert {record["group"] for record in scores({"lexical": report})} >= {"energy", "protocol"}
    assert "energy" in nothing_unsafe_in(confusion(report)._repr_html_() or "").text


def test_pandas_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas, records work and a DataFrame says what to install; importing loads no such library."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    records = Records([{"a": 1}])
    assert records == [{"a": 1}]
    with pytest.raises(MissingExtraError, match="pip install pandas"):
        records.to_pandas()
    late = ("pandas", "IPython", "matplotlib")
    code = f"import sys, ecowas_lc.notebook; print([name for name in {late} if name in sys.modules])"
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
