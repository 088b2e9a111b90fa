"""JupyterLab shows the committed notebooks correctly."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError

import nbformat
import pytest
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.display.pages import browser
from tests.fixtures.servers import free_port, need, wait_until
from tests.notebooks.execution import NOTEBOOKS

WIDTH = 900
PLANTED = (
    "<table><tr><td>" + "x" * 3_000 + "</td></tr></table><script>void 0</script><p onclick='void 0'>click</p>"
)
MEASURE = """() => [...document.querySelectorAll('.jp-Cell')].map(cell => {
  const outputs = [...cell.querySelectorAll('.jp-OutputArea-output')];
  const wide = [], active = [];
  for (const output of outputs) {
    const edge = output.getBoundingClientRect().right;
    if (output.scrollWidth > output.clientWidth + 1) wide.push(`scrolls: ${output.scrollWidth}`);
    for (const element of output.querySelectorAll('*')) {
      const box = element.getBoundingClientRect();
      const name = `${element.tagName}.${element.getAttribute('class')}`;
      if (box.width && box.right > edge + 1) wide.push(`${name} by ${Math.round(box.right - edge)}`);
      if (/^(script|iframe|object|embed|form|link)$/i.test(element.tagName)) active.push(name);
      for (const {name: key, value} of element.attributes)
        if (/^on/i.test(key) || /^\\s*javascript:/i.test(value)) active.push(`${name} ${key}`);
    }
  }
  return {wide: wide.slice(0, 5), active, shown: outputs.filter(output => output.clientHeight > 5).length};
})"""


@dataclass(frozen=True)
class Lab:
    """A JupyterLab over a folder."""

    folder: Path
    url: str
    token: str
    data: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab with separate settings and signatures, and without kernels: outputs are read, not run."""
    if find_spec("jupyterlab") is None:
        need("jupyterlab")
    home = tmp_path_factory.mktemp("lab")
    found = Lab(home / "notebooks", f"http://127.0.0.1:{free_port()}", secrets.token_hex(), home / "data")
    settings = home / "settings" / "@jupyterlab" / "notebook-extension"
    for folder in (found.folder, found.data, settings):
        folder.mkdir(parents=True)
    # By default only cells on the screen are drawn.
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    env = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(found.data),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_TOKEN": found.token,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port_retries=0"]
    command += [f"--port={found.url.rpartition(':')[2]}", f"--ServerApp.root_dir={found.folder}"]
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--KernelSpecManager.ensure_native_kernel=False", "--KernelSpecManager.allowed_kernelspecs=none"]
    command += ["--ServerApp.terminals_enabled=False"]
    log = home / "log"
    with log.open("w") as out, subprocess.Popen(command, env=env, stdout=out, stderr=out) as process:
        try:
            wait_until(lambda: process.poll() is not None or _answers(found.url), "JupyterLab")
            assert process.poll() is None, log.read_text()
            yield found
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()  # a busy JupyterLab may not notice that it should end


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A browser's window, which keeps its loaded JupyterLab."""
    with browser() as chromium:
        yield chromium.new_page(viewport={"width": WIDTH, "height": 1_200})


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api", timeout=1):
            return True
    except (URLError, ConnectionError, TimeoutError):
        return False


def bound_together(paths: list[Path]) -> tuple[nbformat.NotebookNode, list[str]]:
    """All notebooks as one, since opening each takes seconds, with each cell's place; the last cell is bad."""
    cells: list[Any] = []
    places: list[str] = []
    for path in paths:
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells, start=1):
            bare = new_markdown_cell(cell.source) if cell.cell_type == "markdown" else new_code_cell("…")
            if cell.cell_type == "code":
                bare.outputs = cell.outputs
            cells.append(bare)
            places.append(f"{path.stem}, cell {number}")
    cells.append(new_code_cell("…", outputs=[new_output("display_data", {"text/html": PLANTED})]))
    return new_notebook(cells=cells), [*places, "planted"]


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "untrusted"])
def test_outputs_fit_their_cells_and_hold_no_scripts(lab: Lab, page: Any, trusted: bool) -> None:
    """In a window 900 px wide, no output is wider than its cell, and none contains active content.

    An untrusted notebook shows its outputs, too. The output planted at the end shows that faults are found.
    """
    notebook, places = bound_together(NOTEBOOKS)
    path = lab.folder / f"{'trusted' if trusted else 'untrusted'}.ipynb"
    nbformat.write(notebook, path)
    if trusted:
        notary = NotebookNotary(data_dir=str(lab.data))
        notary.sign(nbformat.read(path, as_version=4))
        notary.store.close()
    page.goto(f"{lab.url}/doc/tree/{path.name}?token={lab.token}&reset")
    page.wait_for_function(
        "wanted => document.querySelectorAll('.jp-Cell').length === wanted", arg=len(places), timeout=60_000
    )
    page.wait_for_function(
        "() => [...document.images].every(image => image.complete)"
        " && [...document.querySelectorAll('.jp-OutputArea td')].some(one => /x{3000}/.test(one.textContent))"
        " && [...document.querySelectorAll('.jp-OutputArea-output')].every(output => output.clientHeight > 5)",
        timeout=60_000,
    )
    measured = page.evaluate(MEASURE)
    by_place = dict(zip(places, measured, strict=True))
    planted = by_place.pop("planted")
    assert planted["wide"]
    assert bool(planted["active"]) is trusted  # the sanitizer removes scripts from untrusted outputs
    assert {place: found["wide"] for place, found in by_place.items() if found["wide"]} == {}
    assert {place: found["active"] for place, found in by_place.items() if found["active"]} == {}
    silent = [
        place
        for place, cell in zip(places[:-1], notebook.cells, strict=False)
        if cell.get("outputs") and not by_place[place]["shown"]
    ]
    assert silent == []
