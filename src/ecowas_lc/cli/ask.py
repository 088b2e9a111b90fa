"""``ecowas-lc ask``: answers one question."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ecowas_lc.cli.conversation import (
    Conversation,
    as_json_of,
    checked_groups,
    checked_new_session,
    checked_question,
    new_session,
)
from ecowas_lc.cli.live_answer import Screen, show_sources, silence
from ecowas_lc.cli.models import chosen_model
from ecowas_lc.cli.piped_input import piped_text
from ecowas_lc.cli.screen import program, remark
from ecowas_lc.cli.store import chosen_server
from ecowas_lc.cli.terminal import one_line, show_json
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
