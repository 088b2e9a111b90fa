"""A conversation with the supervisor graph from the command line, one question after another."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from ecowas_lc.cli.screen import LONGEST_ID
from ecowas_lc.errors import EmptyQuestionError, InvalidIdError, InvalidInputError, UnknownGroupError
from ecowas_lc.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from ecowas_lc.agents.events import Event, Finished
    from ecowas_lc.agents.session import Session
    from ecowas_lc.agents.turn import Turn
    from ecowas_lc.documents import Documents
    from ecowas_lc.effects import Program
    from ecowas_lc.storage.server import Server
    from ecowas_lc.store import RedisStore
    from ecowas_lc.supervisor.supervisor_graph import SupervisorGraph

T = TypeVar("T")
SUPERVISOR, SYNTHESIS = "supervisor", "synthesis"


class Conversation:
    """One session of the supervisor graph, for blocking code; a context manager.

    With a ``server``, the thread and the histories are kept there, else in this process; while the server is
    unavailable, the conversation continues in memory. ``agents`` names the groups to ask for every question.
    Without ``keep_history``, each question is answered without the earlier ones.

    Raises:
        InvalidIdError: The session's id is empty.
        UnknownGroupError: There is no such group.
    """

    def __init__(
        self,
        session: str,
        model: BaseChatModel,
        *,
        settings: Settings,
        server: Server | None = None,
        agents: Sequence[str] = (),
        keep_history: bool = True,
        max_parallel: int | None = None,
    ) -> None:
        from ecowas_lc.agents.registry import Registry
        from ecowas_lc.agents.session import Session
        from ecowas_lc.agents.transcript import Keeping
        from ecowas_lc.twg import default_groups

        self.session = checked_session(session)
        self.agents = checked_groups(agents)
        self._server = server
        self._keeping = Keeping.on(server if keep_history else None, settings)
        self._runner = asyncio.Runner()
        self._session = Session(
            session,
            self._keeping,
            self._keeping.transcript(SUPERVISOR, session, None) if keep_history else None,
            Registry(default_groups(), settings.router, model, auto_register=True),
            model,
            group_limit=None,
            durability="sync",  # a step is stored before the next one starts, even if the process is killed
            max_parallel=max_parallel,
            documents=_documents(server, settings) if server is not None else None,
            store=item_store(server, settings) if server is not None else None,
        )

    @property
    def graph(self) -> SupervisorGraph:
        """The compiled graph that answers."""
        return self._session.graph

    def ask(self, question: str | None, show: Callable[[Event], None]) -> Finished:
        """Ask a question and wait for the answer; ``None`` resumes an answer that was stopped.

        Ctrl-C ends the answer: the text so far is kept in the thread, and KeyboardInterrupt is raised. SIGTERM
        lets the current step finish.

        Args:
            question: The question.
            show: Called with each event.

        Raises:
            EmptyQuestionError: The question contains no text.
            TurnStoppedError: A signal stopped the turn.
            ModelError, StorageError, SupervisorError: As for :func:`build_supervisor`.
        """
        from ecowas_lc.agents.turn import Turn

        if question is not None:
            question = checked_question(question)
        elif not self.is_unfinished():
            raise InvalidInputError("No answer of this session was stopped. Type a question.")
        turn = Turn(question, self.session, self.agents or None)
        try:
            return self._runner.run(self._ask(turn, show))
        except KeyboardInterrupt:
            self._do(self._session.broken_off(turn))
            raise

    async def _ask(self, turn: Turn, show: Callable[[Event], None]) -> Finished:
        with _drained_by_sigterm(self._session):
            async with aclosing(self._session.aevents(turn)) as events:
                async for event in events:
                    show(event)
        assert turn.finished is not None  # no group is held for review here
        return turn.finished

    def is_unfinished(self) -> bool:
        """Whether the session's last question has no complete answer."""
        messages = self._do(self._session.messages())
        return bool(messages) and messages[-1].type == "human"

    def messages(self) -> list[tuple[str, str]]:
        """The session's messages so far, as (speaker, text)."""
        return [(str(m.name or m.type), m.text) for m in self._do(self._session.messages())]

    def reset(self) -> None:
        """Delete the session: its thread, its histories and its data."""
        self._do(self._session.forget(wholly=True))

    def _do(self, program: Program[T]) -> T:
        from ecowas_lc.effects import arun

        return self._runner.run(arun(program, {}))

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        if self._keeping.link is not None:
            self._keeping.link.try_once_more()
        if self._server is not None:
            self._server.close()
        self._runner.close()


@contextmanager
def _drained_by_sigterm(session: Session) -> Iterator[None]:
    """Make SIGTERM stop the session's turn between two steps; a second SIGTERM ends the process at once."""
    loop = asyncio.get_running_loop()

    def drain() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        session.drain("SIGTERM")

    try:
        loop.add_signal_handler(signal.SIGTERM, drain)
    except (NotImplementedError, ValueError, RuntimeError):  # on Windows, or not in the main thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def as_json_of(session: str, turn: Finished) -> dict[str, Any]:
    """Return a turn in the form that ``--json`` prints."""
    return {
        "session": session,
        "question": turn.question,
        "groups": list(turn.groups),
        "source": turn.source,
        "reason": turn.reason,
        "reports": {
            group: {key: report[key] for key in ("status", "text", "reason") if key in report}
            for group, report in turn.reports.items()
        },
        "answer": turn.answer,
        **({"citations": list(turn.citations)} if turn.citations else {}),
    }


def new_session() -> str:
    """Return an id for a new session: its start time and some random characters."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def checked_session(session: str) -> str:
    """Return a session's id after checking it.

    Raises:
        InvalidIdError: The id is empty.
    """
    if not session.strip():
        raise InvalidIdError("The session id is empty. Use at least one character, or omit --session.")
    return session


def checked_new_session(session: str) -> str:
    """Return the id for a new session after checking that it fits tables, commands and addresses.

    Raises:
        InvalidIdError: The id is empty, or longer than 200 characters.
    """
    if len(session) > LONGEST_ID:
        raise InvalidIdError(f"The id has {len(session)} characters. Use {LONGEST_ID} at most.")
    return checked_session(session)


def checked_question(question: str) -> str:
    """Return the question after checking it.

    Raises:
        EmptyQuestionError: The question contains no text.
        InvalidInputError: The question is not UTF-8.
    """
    if not question.strip():
        raise EmptyQuestionError("The question is empty. Ask something in English, French or Portuguese.")
    try:
        question.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("The question is not UTF-8 text. Set your terminal and locale to UTF-8.") from None
    return question.strip()


def checked_groups(groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups' ids without duplicates.

    Raises:
        UnknownGroupError: There is no such group.
    """
    from ecowas_lc.twg import default_groups

    known = [group.id for group in default_groups()]
    for group in groups:
        if group not in known:
            raise UnknownGroupError(f"There is no working group {group!r}. Available: {', '.join(known)}.")
    return tuple(dict.fromkeys(groups))


def item_store(server: Server, settings: Settings) -> RedisStore:
    """Return the prefix's long-term memory, which graphs of groups and tools find as ``runtime.store``."""
    from ecowas_lc.store import RedisStore
    from ecowas_lc.store.indexing import offline_index

    return RedisStore(server=server, prefix=settings.prefix, index=offline_index())


def _documents(server: Server, settings: Settings) -> Documents | None:
    """Return the prefix's documents, or ``None`` if there are none or the extra that searches them is missing."""
    from importlib.util import find_spec

    if find_spec("snowballstemmer") is None or find_spec("numpy") is None:
        return None
    from ecowas_lc.documents import Documents

    documents = Documents.from_server(server, prefix=settings.prefix)
    return documents if documents.all() else None
