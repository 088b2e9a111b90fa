"""The commands ``ecowas-lc sessions``: options and help; see :mod:`ecowas_lc.cli.app`."""

from __future__ import annotations

from typing import Annotated

import typer

from ecowas_lc.cli.options import Debug, ImportFile, Json, Limit, Output, Overwrite, SessionArgument, Yes, commands

sessions = commands("What is kept of each session, and for how long.")


@sessions.command("list")
def sessions_list(
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="ID", help="Only this agent's.", show_default=False)
    ] = None,
    limit: Limit = 20,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the sessions that live, most recently active first."""
    from ecowas_lc.cli.sessions import list_sessions

    list_sessions(agent, limit, json=as_json)


@sessions.command("show")
def sessions_show(
    session: SessionArgument,
    brief: Annotated[bool, typer.Option("--brief", help="One line a message.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a session's conversation and its agents' histories."""
    from ecowas_lc.cli.sessions import show_session

    show_session(session, brief=brief, json=as_json)


@sessions.command("extend")
def sessions_extend(
    session: SessionArgument,
    ttl: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", help="From now on; left out, REDIS_MEMORY_TTL.", show_default=False),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Let a session live longer."""
    from ecowas_lc.cli.sessions import extend_session

    extend_session(session, ttl, json=as_json)


@sessions.command("clear")
def sessions_clear(
    session: SessionArgument, yes: Yes = False, as_json: Json = False, debug: Debug = False
) -> None:
    """Remove all that is kept of a session."""
    from ecowas_lc.cli.sessions import clear_session

    clear_session(session, yes=yes, json=as_json)


@sessions.command("export")
def sessions_export(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="SESSION", help="Only these; without, everything.", show_default=False),
    ] = None,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write sessions as JSON Lines.

    Histories, data and threads; without a name also the agents' states.
    """
    from ecowas_lc.cli.backups import export_sessions

    export_sessions(names or (), output, json=as_json)


@sessions.command("import")
def sessions_import(
    file: ImportFile, overwrite: Overwrite = False, as_json: Json = False, debug: Debug = False
) -> None:
    """Restore all that an export holds. Importing again changes nothing."""
    from ecowas_lc.cli.backups import import_file

    import_file(file, overwrite=overwrite, threads_alone=False, json=as_json)


@sessions.command("reindex")
def sessions_reindex(as_json: Json = False, debug: Debug = False) -> None:
    """Find histories that other programs wrote.

    Scans the server once, so that they are listed too.
    """
    from ecowas_lc.cli.sessions import reindex

    reindex(json=as_json)
