"""``ecowas-lc ask`` and ``chat``: answer one question, or one after another from a terminal or a pipe."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence

import typer
from rich.console import Console

from ecowas_lc.cli.conversation import (
    Conversation,
    as_json_of,
    checked_groups,
    checked_new_session,
    checked_question,
    new_session,
)
from ecowas_lc.cli.live_answer import Screen, show_sources, silence
from ecowas_lc.cli.models import ChosenModel, chosen_model
from ecowas_lc.cli.options import FAILED, explain
from ecowas_lc.cli.screen import counted, labelled, program, remark, wrapped
from ecowas_lc.cli.store import chosen_server
from ecowas_lc.cli.terminal import err, one_line, out, piped_lines, piped_text, show_json
from ecowas_lc.errors import EcowasError, StorageError, TurnStoppedError
from ecowas_lc.settings import get_settings


def ask_once(question: str | None, session: str | None, agents: Sequence[str], *, as_json: bool) -> None:
    """Ask one question in a session, and show the answer."""
    question = checked_question(piped_text() if question in (None, "-") else question)
    session = checked_new_session(session) if session is not None else new_session()
    groups = checked_groups(agents)
    settings = get_settings()
    server = chosen_server(settings)  # first, so that no model is started in vain
    with (
        chosen_model(settings) as model,
        Conversation(session, model.chat, settings=settings, server=server, agents=groups) as conversation,
    ):
        if model.note:
            remark(model.note)
        if as_json:
            show_json(as_json_of(session, conversation.ask(question, silence)))
            return
        from ecowas_lc.twg import default_groups

        screen = Screen({group.id: group.name for group in default_groups()})
        try:
            turn = conversation.ask(question, screen.show)
        finally:
            screen.done()
        show_sources(turn.citations)
    if server is None:
        remark("\nNot stored: AGENT_USE_REDIS_MEMORY is false.")
    else:
        remark(
            f"\nSession {one_line(session)}. "
            f'Continue with: {program()} ask --session {shlex.quote(one_line(session))} "…"'
        )


_COMMANDS = {
    "info": "show the session, where it is stored, and who answers",
    "reset": "delete this session's conversation",
    "continue": "continue a question whose answer was stopped",
    "help": "show this text",
    "quit": "exit (or press Ctrl-D); Ctrl-C stops an answer, stores what was said, and exits",
}


def chat(
    session: str | None, agents: Sequence[str], *, use_redis: bool, keep_history: bool, as_json: bool
) -> None:
    """Answer each line until ``quit`` or the end of input."""
    session = checked_new_session(session) if session is not None else new_session()
    groups = checked_groups(agents)
    settings = get_settings()
    server = chosen_server(settings, wanted=use_redis and keep_history)
    with (
        chosen_model(settings) as model,
        Conversation(
            session, model.chat, settings=settings, server=server, agents=groups, keep_history=keep_history
        ) as conversation,
    ):
        place = server.where if server is not None else "only in this process's memory"
        if not keep_history:
            place = "nowhere: each question is independent"
        if model.note:
            remark(model.note)
        known = len(conversation.messages()) // 2 if keep_history else 0
        so_far = f", {counted(known, 'question')} so far" if known else ""
        if keep_history and conversation.is_unfinished():
            so_far += ", the last answer was stopped (`continue` resumes it)"
        remark(f"Session {one_line(session)}{so_far}. Type a question. `help` lists the commands, `quit` exits.")
        all_answered = True
        for line in _lines():
            match line.lower().removeprefix("/"):
                case "quit" | "exit":
                    break
                case "help":
                    _show_help(err() if as_json else out())
                case "info":
                    _show_info(conversation, model, place, as_json=as_json)
                case "reset":
                    conversation.reset()
                    if as_json:
                        show_json({"session": session, "reset": True}, on_one_line=True)
                    else:
                        out().print("Deleted. This session starts again.")
                case word:
                    question = None if word == "continue" else line
                    answer = _answer_as_json if as_json else _answer
                    all_answered &= answer(conversation, question)
    if not (all_answered or sys.stdin.isatty()):
        raise typer.Exit(FAILED)


def _lines() -> Iterator[str]:
    """Yield the user's lines, without blank ones."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in piped_lines() if line.strip())
        return
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # gives input() its line editing

    while True:
        try:
            line = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt) as ending:
            err().print()
            if isinstance(ending, KeyboardInterrupt):
                raise
            return
        if line:
            yield line


def _answer(conversation: Conversation, question: str | None) -> bool:
    """Answer a question (``None``: resume the last one); return whether that succeeded."""
    from ecowas_lc.twg import default_groups

    screen = Screen({group.id: group.name for group in default_groups()})
    try:
        turn = conversation.ask(question, screen.show)
    except (StorageError, TurnStoppedError):
        raise
    except EcowasError as error:  # the next question may succeed
        screen.done()
        explain(error)
        return False
    finally:
        screen.done()
    show_sources(turn.citations)
    return True


def _answer_as_json(conversation: Conversation, question: str | None) -> bool:
    """Answer a question with one line of JSON; return whether that succeeded."""
    try:
        shown = as_json_of(conversation.session, conversation.ask(question, silence))
    except (StorageError, TurnStoppedError):
        raise
    except EcowasError as error:
        shown = {"session": conversation.session, "question": question or "continue", "error": str(error)}
    show_json(shown, on_one_line=True)
    return "error" not in shown


def _show_help(console: Console) -> None:
    about = "Type a question in English, French or Portuguese, or one of these commands:"
    console.print(wrapped(about, console))
    for word, what in _COMMANDS.items():
        labelled(f"  {word}", what, 12, console)


def _show_info(conversation: Conversation, model: ChosenModel, place: str, *, as_json: bool) -> None:
    asked = sum(speaker == "human" for speaker, _ in conversation.messages())
    if as_json:
        found = {"session": conversation.session, "kept": place, "questions": asked, "groups": conversation.agents}
        show_json({**found, "model": model.name, "base_url": model.base_url}, on_one_line=True)
        return
    rows = {
        "Session": one_line(conversation.session),
        "Kept": place,
        "Questions": str(asked),
        "Groups": ", ".join(conversation.agents) or "chosen for each question",
        "Model": f"{model.name} at {model.base_url}",
    }
    for label, text in rows.items():
        labelled(label, text, 11)
