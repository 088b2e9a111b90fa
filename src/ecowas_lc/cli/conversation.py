"""A conversation with the supervisor graph, one question after the other; a listener is told what happens."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from ecowas_lc.cli.screen import LONGEST_ID
from ecowas_lc.errors import EmptyQuestionError, InvalidIdError, InvalidInputError, UnknownGroupError
from ecowas_lc.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from ecowas_lc.documents import Documents
    from ecowas_lc.storage.server import Server
    from ecowas_lc.supervisor import Decision, Report
    from ecowas_lc.supervisor.routing import RouteDecision

SUPERVISOR, SYNTHESIS = "supervisor", "synthesis"


class Listener(Protocol):
    """Is told what happens while a question is answered."""

    def routed(self, decision: Decision) -> None:
        """The groups have been chosen."""

    def said(self, speaker: str, message_id: str, text: str) -> None:
        """A group, the supervisor or the synthesis has said a bit more of a message."""

    def finished(self, speaker: str, report: Report | None) -> None:
        """A speaker has come to its end; a group with its report."""


@dataclass(frozen=True)
class Turn:
    """A question answered."""

    question: str
    answer: str
    speaker: str
    decision: Decision
    reports: dict[str, Report]
    session: str
    citations: tuple[dict[str, Any], ...] = ()
    """What the marks of the answer stand for: number, document's id and title, page, and the cited text."""

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` shows."""
        return {
            "session": self.session,
            "question": self.question,
            "groups": list(self.decision["groups"]),
            "source": self.decision["source"],
            "reason": self.decision["reason"],
            "reports": {
                group: {key: report[key] for key in ("status", "text", "reason") if key in report}
                for group, report in self.reports.items()
            },
            "answer": self.answer,
            **({"citations": list(self.citations)} if self.citations else {}),
        }


class Conversation:
    """One session of the supervisor graph, from blocking code; a context manager.

    With a ``server``, thread and histories are kept there, else in this process. ``agents`` names the groups to
    ask whatever the question is. Without ``keep_history`` each question stands for itself.

    Raises:
        InvalidIdError: the session's id is empty.
        UnknownGroupError: there is no such group.
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
        from ecowas_lc.supervisor import build_supervisor

        self.session = checked_session(session)
        self.agents = checked_groups(agents)
        self.keeps_history = keep_history
        self._settings = settings
        self._stored = server is not None and keep_history
        self._saver = _saver(server, settings) if server is not None and keep_history else _in_memory()
        self._runner = asyncio.Runner()
        self.graph: CompiledStateGraph[Any, Any, Any, Any] = build_supervisor(
            model,
            router=_Fixed(self.agents) if self.agents else settings.router,
            checkpointer=self._saver,
            history_factory=_histories(server, settings) if server is not None and keep_history else None,
            max_parallel=max_parallel,
            on_busy="queue",
            documents=_documents(server, settings) if server is not None else None,
        )
        self._server = server

    @property
    def _config(self) -> Any:
        return {"configurable": {"thread_id": self.session if self.keeps_history else uuid.uuid4().hex}}

    def ask(self, question: str, listener: Listener) -> Turn:
        """Ask, and wait for the answer.

        Ctrl-C ends the answer: what had been said by then is kept in the thread, and KeyboardInterrupt raised.

        Raises:
            EmptyQuestionError: there is no text in the question.
            ModelError, StorageError, SupervisorError: see :func:`build_supervisor`.
        """
        question = checked_question(question)
        config, partial = self._config, _Partial()
        try:
            return self._runner.run(self._ask(question, listener, config, partial))
        except KeyboardInterrupt:
            if partial.text and self.keeps_history:
                self._runner.run(self._keep(config, partial))
            raise

    async def _ask(self, question: str, listener: Listener, config: Any, partial: _Partial) -> Turn:
        speakers: dict[str, str] = {}
        values: dict[str, Any] = {}
        stream: Any = self.graph.astream(
            {"messages": [("user", question)]},
            config,
            stream_mode=["updates", "messages", "values"],
            durability="sync",  # a step is stored before the next one begins, whatever ends the process
        )
        async for mode, part in stream:
            if mode == "values":
                values = part
            elif mode == "messages":
                chunk, metadata = part
                if not chunk.text:
                    continue
                own = metadata.get("twg") or _NODES.get(metadata["langgraph_node"], SUPERVISOR)
                speaker = speakers.setdefault(chunk.id, own)  # a note on an answer comes from another node
                partial.add(speaker, chunk.text)
                listener.said(speaker, chunk.id, chunk.text)
            else:
                _tell(part, listener)
        final = values["messages"][-1]
        return Turn(
            question=question,
            answer=final.text,
            speaker=str(final.name or SUPERVISOR),
            decision=values["decision"],
            reports=dict(values.get("reports") or {}),
            session=self.session,
            citations=citations_of(final),
        )

    async def _keep(self, config: Any, partial: _Partial) -> None:
        from langchain_core.messages import AIMessage

        message = AIMessage(partial.text, name=partial.speaker, id=str(uuid.uuid4()))
        await self.graph.aupdate_state(config, {"messages": [message]}, as_node="record")

    def messages(self) -> list[tuple[str, str]]:
        """The session's messages so far, as (speaker, text)."""
        state = self._runner.run(self.graph.aget_state(self._config))
        return [(str(m.name or m.type), m.text) for m in state.values.get("messages", [])]

    def reset(self) -> None:
        """Forget the session: its thread, its histories and its data."""
        self._runner.run(self._saver.adelete_thread(self.session))
        if self._server is not None and self._stored:
            from ecowas_lc.memory import RedisMemoryService

            RedisMemoryService(server=self._server, prefix=self._settings.prefix).clear_session(self.session)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self._runner.close()


_NODES = {"synthesise": SYNTHESIS, "supervisor": SUPERVISOR}


class _Partial:
    """What has been said of an answer that may be broken off: the synthesis, else the groups in their order."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def add(self, speaker: str, text: str) -> None:
        self._said[speaker] = self._said.get(speaker, "") + text

    @property
    def speaker(self) -> str:
        only = next(iter(self._said)) if len(self._said) == 1 else SUPERVISOR
        return SUPERVISOR if only == SYNTHESIS else only

    @property
    def text(self) -> str:
        if SYNTHESIS in self._said:
            return f"{self._said[SYNTHESIS].strip()} […]"
        if len(self._said) == 1:
            return f"{next(iter(self._said.values())).strip()} […]"
        return "\n\n".join(f"{speaker}: {text.strip()} […]" for speaker, text in self._said.items())


class _Fixed:
    """A router that always chooses the groups that the user named."""

    def __init__(self, groups: tuple[str, ...]) -> None:
        self._groups = groups

    def route(self, question: str) -> RouteDecision:
        from ecowas_lc.supervisor.routing import RouteDecision

        return RouteDecision(self._groups, "asked", "you named " + ("it" if len(self._groups) == 1 else "them"))

    async def aroute(self, question: str) -> RouteDecision:
        return self.route(question)


def new_session() -> str:
    """Return an id for a new session: when it began, and a little chance."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def checked_session(session: str) -> str:
    """Return a session's id.

    Raises:
        InvalidIdError: it is empty.
    """
    if not session.strip():
        raise InvalidIdError("The session id is empty. Use at least one character, or omit --session.")
    return session


def checked_new_session(session: str) -> str:
    """Return the id of a session that may be made: it stands in tables, commands and addresses.

    Raises:
        InvalidIdError: it is empty, or longer than 200 characters.
    """
    if len(session) > LONGEST_ID:
        raise InvalidIdError(f"The id has {len(session)} characters. Use {LONGEST_ID} at most.")
    return checked_session(session)


def checked_question(question: str) -> str:
    """Return the question.

    Raises:
        EmptyQuestionError: it holds no text.
        InvalidInputError: it is not UTF-8.
    """
    if not question.strip():
        raise EmptyQuestionError("The question is empty. Ask something in English, French or Portuguese.")
    try:
        question.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("The question is not UTF-8 text. Set your terminal and locale to UTF-8.") from None
    return question.strip()


def checked_groups(groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups' ids, each once.

    Raises:
        UnknownGroupError: there is no such group.
    """
    from ecowas_lc.twg import default_groups

    known = [group.id for group in default_groups()]
    for group in groups:
        if group not in known:
            raise UnknownGroupError(f"There is no working group {group!r}. Available: {', '.join(known)}.")
    return tuple(dict.fromkeys(groups))


def _saver(server: Server, settings: Settings) -> BaseCheckpointSaver[Any]:
    from ecowas_lc.checkpoint import RedisSaver

    return RedisSaver(server=server, prefix=settings.prefix, default_ttl=settings.redis_memory_ttl)


def _documents(server: Server, settings: Settings) -> Documents | None:
    """Return the prefix's documents; ``None`` where there are none, or the extra that searches them is missing."""
    from importlib.util import find_spec

    if find_spec("snowballstemmer") is None or find_spec("numpy") is None:
        return None
    from ecowas_lc.documents import Documents

    documents = Documents.from_server(server, prefix=settings.prefix)
    return documents if documents.all() else None


def citations_of(message: Any) -> tuple[dict[str, Any], ...]:
    """Return what the marks of an answer stand for, in their order."""
    found = {}
    for block in message.content_blocks:
        for note in block.get("annotations") or ():
            extras = note["extras"]
            found[extras["number"]] = {
                "number": extras["number"],
                "document": extras["document"],
                "title": note["title"],
                "page": extras.get("page"),
                "cited_text": note["cited_text"],
            }
    return tuple(found[number] for number in sorted(found))


def _in_memory() -> BaseCheckpointSaver[Any]:
    from langgraph.checkpoint.memory import InMemorySaver

    return InMemorySaver()


def _histories(server: Server, settings: Settings) -> Any:
    from ecowas_lc.history import history_factory

    return history_factory(server=server, prefix=settings.prefix)


def _tell(update: dict[str, Any], listener: Listener) -> None:
    for node, change in update.items():
        if node == "route":
            listener.routed(change["decision"])
        elif node in _NODES:
            listener.finished(_NODES[node], None)
        else:
            for group, report in ((change or {}).get("reports") or {}).items():
                listener.finished(group, report)
