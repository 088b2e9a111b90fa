"""``ecowas-lc server`` and ``ecowas-lc local-model``: manage the embedded server and the small local model."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from dataclasses import asdict
from typing import Any

import typer

from ecowas_lc.cli.options import FAILED
from ecowas_lc.cli.screen import remark, say
from ecowas_lc.cli.terminal import out, show_json
from ecowas_lc.errors import EcowasError
from ecowas_lc.settings import Settings, get_settings


def serve(port: int, threads: int, *, awkward: bool = False) -> None:
    """Serve the local model until Ctrl-C."""
    from ecowas_lc.local_model import MODEL_NAME
    from ecowas_lc.local_model import serve as run

    def announce(base_url: str) -> None:
        console = out()
        console.print(f"{MODEL_NAME} is served at {base_url}; press Ctrl-C to stop. In another terminal:")
        console.print(f'  OLLAMA_BASE_URL={base_url} OLLAMA_MODEL={MODEL_NAME} ecowas-lc ask "…"')

    run(port=port, threads=threads, awkward=awkward, on_ready=announce)


def install() -> None:
    """Install the missing parts of the local model, showing each command before it runs.

    Raises:
        EcowasError: A command failed.
    """
    from ecowas_lc.local_model import install_command, is_available

    if is_available():
        remark("The small local model is already installed.")
        return
    for command in install_command():
        remark(f"Running: {shlex.join(command)}")
        # Run in an empty folder: Python would import a pip.py from the working directory, and uv read a uv.toml
        # there.
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "PYTHONSAFEPATH": "1"}
            done = subprocess.run(command, cwd=folder, env=environment, check=False)  # noqa: S603
        code = done.returncode
        if code != 0:
            raise EcowasError(f"The command failed with code {code}: {shlex.join(command)}")


def start(*, as_json: bool) -> None:
    """Start the embedded server, which keeps running until it is stopped."""
    from ecowas_lc.embedded import start_server

    settings = get_settings()
    running = start_server(settings)
    if as_json:
        show_json({"socket": str(running.socket), "data_dir": str(running.data_dir), "pid": running.pid})
    else:
        console = out()
        console.print(f"Running as process {running.pid} until `ecowas-lc server stop`.")
        _place(running.socket, running.data_dir)
    _warn_if_unused(settings)


def stop(*, as_json: bool) -> None:
    """Stop the embedded server."""
    from ecowas_lc.embedded import stop_server

    stopped = stop_server(get_settings())
    if as_json:
        show_json({"stopped": stopped})
    else:
        say("Stopped. The data is kept." if stopped else "It was not running.")


def status(*, as_json: bool) -> None:
    """Show the embedded server's status."""
    from ecowas_lc.embedded import server_status

    settings = get_settings()
    found = server_status(settings)
    if as_json:
        shown: dict[str, Any] = asdict(found)
        show_json(shown | {"socket": str(found.socket), "data_dir": str(found.data_dir)})
    elif found.running:
        linger = f"{settings.linger_seconds:g} s after its last use"
        stays = "until it is stopped" if found.kept else f"until {linger}"
        users = "" if found.users is None else f", used by {found.users} process{'' if found.users == 1 else 'es'}"
        uptime = "" if found.uptime_seconds is None else f", up for {_duration(found.uptime_seconds)}"
        say(f"Running as process {found.pid}{uptime}{users}; it stays {stays}.")
        _place(found.socket, found.data_dir)
    else:
        say("Not running. It starts by itself when it is needed; `ecowas-lc server start` keeps it running.")
        say(f"Data    {found.data_dir}")
    _warn_if_unused(settings)
    if not found.running:
        raise typer.Exit(FAILED)


def _place(socket: object, data_dir: object) -> None:
    console = out()
    console.print(f"Socket  {socket}")
    console.print(f"Data    {data_dir}")
    console.print(f"Look    redis-cli -s {socket}")


def _warn_if_unused(settings: Settings) -> None:
    if settings.redis_source != "default":
        name = "REDIS_URL" if settings.redis_source == "url" else "REDIS_HOST"
        remark(f"{name} is set, so conversations are stored on that server, not here.")


def _duration(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
