"""Options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ecowas_lc.cli.outcome import show_tracebacks


def commands(about: str, **more: Any) -> typer.Typer:
    """Return a group of commands. Its help is plain text: in typer's boxes a switch seems to take a value."""
    return typer.Typer(
        help=about,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **more,
    )


Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Show tracebacks and the package's log.",
        callback=show_tracebacks,
        is_eager=True,
        expose_value=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Session = Annotated[
    str | None,
    typer.Option(
        "--session", metavar="ID", help="Go on with this session; left out, begin one.", show_default=False
    ),
]
Agents = Annotated[
    list[str] | None,
    typer.Option(
        "--agent",
        metavar="GROUP",
        help="Ask this working group, whatever the question is. May be repeated.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before something is removed.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, help="At most so many.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Where to; compressed if it ends in .gz.", show_default=False
    ),
]
ImportFile = Annotated[
    str, typer.Argument(metavar="FILE", help="What export wrote; - for standard input.", show_default=False)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there with other contents; left as it is without.")
]
SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="Its id.", show_default=False)]
ThreadArgument = Annotated[
    str, typer.Argument(metavar="THREAD", help="Its id: the session's.", show_default=False)
]


class Form(StrEnum):
    """How a graph is printed."""

    ASCII = "ascii"
    MERMAID = "mermaid"
