"""The commands: their names, options and help. What they do is imported when one is called.

Nothing here may import langchain, langgraph, redis or pydantic: ``--help`` must be quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecowas_lc._version import __version__
from ecowas_lc.cli.options import Agents, Debug, Form, Json, Session, commands
from ecowas_lc.cli.outcome import EXIT_CODES
from ecowas_lc.cli.server_commands import local_model, server
from ecowas_lc.cli.session_commands import sessions
from ecowas_lc.cli.thread_commands import threads

app = commands(
    "Ask the working groups of the ECOWAS summit, on a local model; conversations live in Redis or Valkey.",
    name="ecowas-lc",
    epilog=EXIT_CODES,
    add_completion=False,
    pretty_exceptions_enable=False,
)
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
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="In English, French or Portuguese.", show_default=False)
    ],
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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
    debug: Debug = False,
) -> None:
    """Talk with the groups, line by line.

    From a terminal or a pipe. The words info, reset, help and quit, alone on a line, are commands.
    """
    from ecowas_lc.cli.chat import chat as talk

    talk(session, agents or (), use_redis=not no_redis, keep_history=not no_history, as_json=as_json)


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", help="Where the picture of the graph goes.")
    ] = Path(),
    debug: Debug = False,
) -> None:
    """Show the main job, from a question to a picture.

    Two questions, and a second process that still knows the conversation.
    """
    from ecowas_lc.cli.demo import demonstrate

    demonstrate(folder)


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Check the settings, Redis and the model.

    Names each problem with the command that mends it. The exit code is 1 where something is broken.
    """
    from ecowas_lc.cli.doctor import examine

    examine(as_json=as_json)


@app.command()
def stats(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show them again and again, until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, max=3600, help="How often, with --watch.")
    ] = 2.0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show how much the server holds.

    Memory, keys, agents, sessions, histories and threads.
    """
    from ecowas_lc.cli.stats import show_stats

    show_stats(watch=watch, every=every, json=as_json)


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
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the supervisor graph."""
    from ecowas_lc.cli.graph import show_graph

    show_graph(output, form.value, route or (), as_json=as_json)


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
