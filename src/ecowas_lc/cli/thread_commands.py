"""The commands ``ecowas-lc threads``: options and help; see :mod:`ecowas_lc.cli.app`."""

from __future__ import annotations

from typing import Annotated

import typer

from ecowas_lc.cli.options import Debug, ImportFile, Json, Limit, Output, Overwrite, ThreadArgument, Yes, commands

threads = commands("The checkpoints of each conversation.")

Namespace = Annotated[
    str,
    typer.Option("--namespace", metavar="NS", help="Of a subgraph; the main graph's without.", show_default=False),
]


@threads.command("list")
def threads_list(limit: Limit = 20, as_json: Json = False, debug: Debug = False) -> None:
    """List the threads that live, most recently written first."""
    from ecowas_lc.cli.threads import list_threads

    list_threads(limit, json=as_json)


@threads.command("history")
def threads_history(
    thread: ThreadArgument, limit: Limit = 20, as_json: Json = False, debug: Debug = False
) -> None:
    """Show a thread's checkpoints, newest first."""
    from ecowas_lc.cli.threads import show_history

    show_history(thread, limit, json=as_json)


@threads.command("show")
def threads_show(
    thread: ThreadArgument,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", metavar="ID", help="This one instead of the latest.", show_default=False),
    ] = None,
    namespace: Namespace = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a checkpoint holds.

    Its values, and what waits to be done or answered.
    """
    from ecowas_lc.cli.thread_views import show_checkpoint

    show_checkpoint(thread, checkpoint, namespace, json=as_json)


@threads.command("diff")
def threads_diff(
    thread: ThreadArgument,
    before: Annotated[
        str | None,
        typer.Argument(metavar="BEFORE", help="A checkpoint; else AFTER's parent.", show_default=False),
    ] = None,
    after: Annotated[
        str | None, typer.Argument(metavar="AFTER", help="A checkpoint; else the latest.", show_default=False)
    ] = None,
    namespace: Namespace = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what changed from one checkpoint to another.

    Without any, what the last step changed.
    """
    from ecowas_lc.cli.thread_views import show_difference

    show_difference(thread, before, after, namespace, json=as_json)


@threads.command("copy")
def threads_copy(
    thread: ThreadArgument,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The copy's id.", show_default=False)],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy a thread whole, under an id that is not taken."""
    from ecowas_lc.cli.thread_upkeep import copy_thread

    copy_thread(thread, target, json=as_json)


@threads.command("prune")
def threads_prune(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="THREAD", help="Their ids.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every thread there is.")] = False,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=1, help="So many of the newest, of each namespace.")
    ] = 1,
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove old checkpoints.

    What interrupted runs and delta channels need stays.
    """
    from ecowas_lc.cli.thread_upkeep import prune_threads

    prune_threads(names or (), every=every, keep=keep, yes=yes, json=as_json)


@threads.command("delete")
def threads_delete(thread: ThreadArgument, yes: Yes = False, as_json: Json = False, debug: Debug = False) -> None:
    """Remove a thread and all its checkpoints."""
    from ecowas_lc.cli.thread_upkeep import delete_thread

    delete_thread(thread, yes=yes, json=as_json)


@threads.command("export")
def threads_export(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="THREAD", help="Only these; without, every one.", show_default=False),
    ] = None,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write threads as JSON Lines."""
    from ecowas_lc.cli.backups import export_threads

    export_threads(names or (), output, json=as_json)


@threads.command("import")
def threads_import(
    file: ImportFile, overwrite: Overwrite = False, as_json: Json = False, debug: Debug = False
) -> None:
    """Restore the threads of an export alone. Importing again changes nothing."""
    from ecowas_lc.cli.backups import import_file

    import_file(file, overwrite=overwrite, threads_alone=True, json=as_json)
