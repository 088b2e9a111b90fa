"""Options that several commands share, and the end of a command: its exit code and its error message."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from ecowas_lc.errors import (
    ConfigurationError,
    EcowasError,
    IncompleteWarning,
    InvalidInputError,
    MissingExtraError,
    UnknownSettingWarning,
)

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

EXIT_CODES = (
    "Exit codes: 0 success; 1 failure (a server or model is down, a check found a problem, something was left "
    "out); 2 invalid arguments or settings; 130 interrupted with Ctrl-C."
)

_debugging = False


def show_tracebacks(wanted: bool) -> None:
    """If ``wanted``, show tracebacks and the package's log from now on, as ``--debug`` does."""
    global _debugging  # noqa: PLW0603  # a switch of the whole process
    if not wanted:
        return
    _debugging = True
    import logging

    from ecowas_lc.cli.terminal import clean

    class Cleaned(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return clean(super().format(record))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Cleaned("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("ecowas_lc").setLevel(logging.DEBUG)


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run ``app`` and return its exit code, without raising."""
    incomplete: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", IncompleteWarning)
        warnings.showwarning = partial(_show_warning, warnings.showwarning, incomplete)
        code = _run(app, arguments)
    return FAILED if incomplete and code == OK else code


def _show_warning(
    show_others: Callable[..., None],
    incomplete: list[str],
    message: Warning | str,
    category: type[Warning],
    *where: Any,
    **more: Any,
) -> None:
    if issubclass(category, IncompleteWarning):
        incomplete.append(str(message))
        _complain(str(message))
    elif issubclass(category, UnknownSettingWarning):
        _complain(str(message))
    else:
        from ecowas_lc.cli.terminal import clean

        show_others(clean(str(message)), category, *where, **more)


def _run(app: typer.Typer, arguments: Sequence[str] | None) -> int:
    try:
        # standalone mode would print errors in a frame over several lines
        code = typer.main.get_command(app)(arguments, prog_name="ecowas-lc", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except typer.Abort:  # older versions of typer raise it for Ctrl-C; otherwise, a question was answered with no
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed the pipe; flushing the rest at exit must not raise either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return explain(error)
    return code if isinstance(code, int) else OK


def explain(error: Exception) -> int:
    """Print an error on standard error, and return its exit code."""
    if _debugging:
        from ecowas_lc.cli.terminal import write_error

        write_error("".join(traceback.format_exception(error)))
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # errors of any version of typer
        message, code = str(error.format_message()).replace("Value error, ", "").strip(), int(error.exit_code)
        message = message if message.endswith((".", "?", "!")) else f"{message}."
        context = getattr(error, "ctx", None)
        hint = f" See `{context.command_path} --help`." if context is not None else ""
        _complain(f"{message}{hint}" if "\n" not in message else message)
        return code
    if isinstance(error, EcowasError):
        _complain(str(error))
        usable = isinstance(error, MissingExtraError) or not isinstance(
            error, ConfigurationError | InvalidInputError
        )
        return FAILED if usable else BAD_INPUT
    if not _debugging:
        what = f"{type(error).__name__}: {error}".rstrip(". ")
        _complain(f"Unexpected {what}. Run the command with --debug for details.")
    return FAILED


def _complain(message: str) -> None:
    from ecowas_lc.cli.screen import wrapped
    from ecowas_lc.cli.terminal import err, write_error

    write_error(f"{wrapped(message, err())}\n")


def on_server(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--url`` and ``--prefix`` to a command, which override the settings' server and prefix."""
    signature = inspect.signature(command, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in (("url", Url), ("prefix", Prefix))
    ]

    @wraps(command)
    def choosing(*, url: str | None, prefix: str | None, **arguments: Any) -> None:
        chosen: dict[str, Any] = {}
        if url is not None:
            if not url.strip():
                raise InvalidInputError("--url is empty. Pass an address such as redis://localhost:6379/0.")
            if arguments.get("no_redis"):
                raise InvalidInputError("--no-redis and --url contradict each other. Pass one of them.")
            chosen.update(redis_url=url, agent_use_redis_memory=True)
        if prefix is not None:
            chosen["prefix"] = prefix
        if not chosen:
            command(**arguments)
            return
        from ecowas_lc.settings import choose_settings

        choose_settings(**chosen)
        try:
            command(**arguments)
        finally:
            choose_settings()

    choosing.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *more]
    )
    return choosing


class _OnServer(typer.Typer):
    """A group of commands about what a server stores."""

    def command(self, name: str | None = None, **options: Any) -> Callable[..., Any]:
        """Add a command to the group, with the options of :func:`on_server`."""
        add = super().command(name, **options)
        return lambda function: add(on_server(function))


def commands(about: str, *, stored: bool = False, **more: Any) -> typer.Typer:
    """Return a group of commands; if it is about ``stored`` data, its commands take ``--url`` and ``--prefix``.

    The help is plain text, because typer's boxes make a switch look as if it took a value.
    """
    return (_OnServer if stored else typer.Typer)(
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
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="URL of the server. Default: REDIS_URL, which can also hold the password.",
        show_default=False,
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix", metavar="PREFIX", help="Prefix of the keys. Default: ECOWAS_LC_PREFIX.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Session = Annotated[
    str | None,
    typer.Option("--session", metavar="ID", help="Continue this session; default: a new one.", show_default=False),
]
Agents = Annotated[
    list[str] | None,
    typer.Option(
        "--agent",
        metavar="GROUP",
        help="Ask this group, whatever the question is. Repeatable.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, help="Maximum number to show.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write (.gz: compressed). Default: stdout.",
        show_default=False,
    ),
]
ImportFile = Annotated[
    str, typer.Argument(metavar="FILE", help="File written by export; - reads standard input.", show_default=False)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing data that differs. Default: keep it.")
]
LongestLine = Annotated[
    int,
    typer.Option(metavar="MIB", min=1, max=4096, help="Refuse lines longer than this, in MiB."),
]
SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="Session id.", show_default=False)]
ThreadArgument = Annotated[
    str, typer.Argument(metavar="THREAD", help="Thread id (the session's id).", show_default=False)
]


class Form(StrEnum):
    """The output format of a graph."""

    ASCII = "ascii"
    MERMAID = "mermaid"
