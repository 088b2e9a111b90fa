"""``ecowas-lc local-model``: install the small local model, and serve it."""

from __future__ import annotations

import shlex
import subprocess

from ecowas_lc.cli.screen import out, remark
from ecowas_lc.errors import EcowasError


def serve(port: int, threads: int) -> None:
    """Serve it until Ctrl-C."""
    from ecowas_lc.local_model import MODEL_NAME
    from ecowas_lc.local_model import serve as run

    def announce(base_url: str) -> None:
        console = out()
        console.print(f"{MODEL_NAME} answers at {base_url}; Ctrl-C ends it. In another terminal:", markup=False)
        console.print(f'  OLLAMA_BASE_URL={base_url} OLLAMA_MODEL={MODEL_NAME} ecowas-lc ask "…"', markup=False)

    run(port=port, threads=threads, on_ready=announce)


def install() -> None:
    """Install what is missing of it, showing each command before it is run.

    Raises:
        EcowasError: a command failed.
    """
    from ecowas_lc.local_model import install_command, is_available

    if is_available():
        remark("The small local model is installed already.")
        return
    for command in install_command():
        remark(f"Running: {shlex.join(command)}")
        code = subprocess.run(command, check=False).returncode  # noqa: S603
        if code != 0:
            raise EcowasError(f"The command failed with code {code}: {shlex.join(command)}")
