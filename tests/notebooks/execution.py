"""Runs notebooks in separate kernels; ``python -m tests.notebooks.execution`` saves their outputs."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from ecowas_lc.embedded import stop_server
from ecowas_lc.local_model import LocalModel, running_local_model
from ecowas_lc.settings import load_settings

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_SECONDS = 100


class _ThisPython(KernelSpecManager):
    """Knows one kernel, this interpreter, so that the machine's kernels do not matter."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def environment(folder: Path, model: LocalModel, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a kernel: an embedded server in ``folder``, the local model, and no personal settings."""
    kept = {
        name: value
        for name, value in base.items()
        if not re.match(r"(REDIS|OLLAMA|ECOWAS|AGENT|SUPERVISOR|LLM)_", name)
    }
    return kept | {
        "ECOWAS_LC_DATA_DIR": str(folder / "data"),
        "ECOWAS_LC_LINGER_SECONDS": "0",
        "OLLAMA_BASE_URL": model.base_url,
        "OLLAMA_MODEL": model.model,
        "LLM_TEMPERATURE": "0",
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONHASHSEED": "0",
        "LANGSMITH_TRACING": "false",
    }


def executed(path: Path, folder: Path, env: Mapping[str, str]) -> nbformat.NotebookNode:
    """The notebook with the outputs of this run.

    Raises:
        CellExecutionError: a cell raised, or took too long; the message shows it.
    """
    notebook = nbformat.read(path, as_version=4)
    manager = AsyncKernelManager(kernel_spec_manager=_ThisPython(), transport="ipc", ip=str(folder / "kernel"))
    client = NotebookClient(notebook, km=manager, timeout=CELL_SECONDS, record_timing=False, allow_errors=False)
    client.owns_km = True  # so that the kernel ends with the run
    client.execute(cwd=str(folder), env=dict(env))
    return notebook


def main(names: list[str]) -> None:
    """Execute the notebooks (all, or those whose names begin so) and write their outputs into them."""
    chosen = [path for path in NOTEBOOKS if not names or path.name.startswith(tuple(names))]
    import os

    with running_local_model() as model:
        for path in chosen:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                notebook = executed(path, folder, environment(folder, model, os.environ))
                stop_server(load_settings(data_dir=folder / "data"))
            notebook.metadata = {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            }
            nbformat.write(notebook, path)
            print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
