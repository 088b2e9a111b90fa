"""The notebooks run unchanged, and their committed outputs are readable."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from ecowas_lc.local_model import LocalModel
from tests.fixtures.other_data import put_other_data, unharmed
from tests.fixtures.servers import RunningServer, running_server
from tests.notebooks.execution import NOTEBOOKS, environment, executed

EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
PICTURES = ("image/svg+xml", "image/png")
OF_A_MACHINE = re.compile(r"/(root|home|tmp|work|Users|var)/|127\.0\.0\.1|0x[0-9a-f]{8}")


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def kinds(notebook: nbformat.NotebookNode) -> list[str]:
    return [kind for output in outputs(notebook) for kind in sorted(output.get("data", {})) if kind in PICTURES]


WITHOUT_ADDRESS = {"02", "06", "07", "08", "09", "10"}


@pytest.fixture(scope="module")
def somebodys_server() -> Iterator[RunningServer]:
    """A server with other people's data, which a reader's settings name."""
    with running_server("redis") as server:
        put_other_data(server)
        yield server


@EACH
@pytest.mark.llm
def test_runs_top_to_bottom(
    path: Path, tmp_path: Path, local_model: LocalModel, somebodys_server: RunningServer
) -> None:
    """Every cell of every notebook runs without an error or a warning, and draws what the committed one shows.

    The settings name a server with other data, which is unchanged byte for byte afterwards. Some have an address
    for Ollama, and some find a model by themselves.
    """
    env = environment(tmp_path, local_model, os.environ) | {"REDIS_URL": somebodys_server.url}
    if path.name[:2] in WITHOUT_ADDRESS:
        del env["OLLAMA_BASE_URL"], env["OLLAMA_MODEL"]
    with unharmed(somebodys_server):
        notebook = executed(path, tmp_path, env)
    noise = [output["text"] for output in outputs(notebook) if output.get("name") == "stderr"]
    assert noise == []
    assert kinds(notebook) == kinds(nbformat.read(path, as_version=4))


@pytest.mark.llm
def test_runs_where_no_model_server_is_set(tmp_path: Path, local_model: LocalModel) -> None:
    """Without an address for Ollama, the cell that all notebooks share finds a model and names it."""
    env = environment(tmp_path, local_model, os.environ)
    del env["OLLAMA_BASE_URL"], env["OLLAMA_MODEL"]
    [whole] = [path for path in NOTEBOOKS if path.name.startswith("05")]
    notebook = nbformat.read(whole, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    notebook.cells = [first, new_code_cell("len(model.invoke('Hello').text)")]
    path = tmp_path / "beginning.ipynb"
    nbformat.write(notebook, path)
    said = "".join(output["text"] for output in outputs(executed(path, tmp_path, env)) if output.get("text"))
    assert re.match(r"Ollama is not ready, so the small test model \S+ answers|\S+ answers at \S+\.", said)


@EACH
def test_sets_itself_up_alone(path: Path) -> None:
    """The first cell sets a separate prefix for the notebook, and the model is available on every machine."""
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    [prefix] = re.findall(r'^os\.environ\["ECOWAS_LC_PREFIX"\] = "([\w-]+)"', code[0], re.MULTILINE)
    assert prefix == f"notebook-{int(path.name[:2])}"
    for source in code:
        assert not re.search(r"make_chat_model|ChatOllama|OLLAMA_|REDIS_URL", source), source


@EACH
def test_committed_outputs(path: Path) -> None:
    """Committed notebooks were run top to bottom and show a picture, no error, and no trace of a machine."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert kinds(notebook), "no picture"
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    shown = "\n".join(
        str(text)
        for output in outputs(notebook)
        for kind, text in [("text", output.get("text", "")), *output.get("data", {}).items()]
        if kind != "image/png"
    )
    found = OF_A_MACHINE.search(shown)
    assert found is None, shown[max(0, found.start() - 80) : found.end() + 80]


def test_all_are_there() -> None:
    """The notebooks are numbered in the order in which they are to be read."""
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(1, 11)]
