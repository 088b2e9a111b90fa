"""The operations of the service for a signed-in user. The API and the pages call the same methods.

Each method takes the principal and checks ownership: staff have their own sessions, and reviewers have the drafts
of their groups. Objects of other users are reported as not found.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from ecowas_lc._extras import install_command
from ecowas_lc._language import language_of
from ecowas_lc._version import __version__
from ecowas_lc.checkpoint.listing import ThreadRow
from ecowas_lc.errors import (
    DecisionPendingError,
    EcowasError,
    EmptyQuestionError,
    InvalidIdError,
    InvalidInputError,
    MissingExtraError,
    NotWaitingError,
    StorageError,
)
from ecowas_lc.memory import SessionInfo
from ecowas_lc.memory.json_values import from_json, lifetime_seconds
from ecowas_lc.memory.sessions import forget_runs_op
from ecowas_lc.memory.states import Values
from ecowas_lc.storage.left_out import UNREADABLE, readable_ids
from ecowas_lc.storage.ops import Op, command
from ecowas_lc.supervisor.approval import check_decision
from ecowas_lc.supervisor.double_texting import OnBusy
from ecowas_lc.supervisor.nodes import ROUTE
from ecowas_lc.web import analytics, audit
from ecowas_lc.web.access import checked_groups_of
from ecowas_lc.web.organisation import Organisation
from ecowas_lc.web.principals import Principal, Role
from ecowas_lc.web.problems import BusyError, NotAllowedError, NotFoundError
from ecowas_lc.web.run_driver import Driver
from ecowas_lc.web.run_events import message_as_json
from ecowas_lc.web.runs import Busy, Run, RunEvent, is_event_id, is_run_id

Data = dict[str, Any]
Health = Callable[[], Any]

LONGEST_ID = 200
LONGEST_QUESTION = 20_000
_OWNER, _TITLE = "user_id", "title"
_TITLE_CHARACTERS = 120
_MOST_THREADS = 500
_AT_ONCE = 500


class Service:
    """The operations on one organisation's data, in this process."""

    def __init__(
        self,
        organisation: Organisation,
        *,
        on_busy: OnBusy = "refuse",
        lease_seconds: float = 6.0,
        model_name: str = "",
        model_note: str = "",
        model_health: Health | None = None,
        checks: Callable[[], Sequence[Data]] | None = None,
    ) -> None:
        self.organisation = organisation
        self.driver = Driver(organisation, lease_seconds=lease_seconds, on_end=self._count)
        self.on_busy: OnBusy = on_busy
        self.model_name, self.model_note = model_name, model_note
        self._model_health = model_health
        self._checks = checks
        self._values = Values(organisation.keys, organisation.settings.redis_memory_ttl)

    # --- runs ---

    async def ask(
        self,
        by: Principal,
        question: str,
        *,
        session: str | None = None,
        groups: Sequence[str] = (),
        on_busy: OnBusy | None = None,
    ) -> Run:
        """Start to answer a question. The run continues even if no client follows it.

        Args:
            by: The user who asks.
            question: The question.
            session: The session to continue; ``None`` starts a new one.
            groups: The groups to ask, whatever the question is about. If empty, the router chooses them.
            on_busy: What to do if another run of the session is under way: ``"refuse"`` or ``"queue"``.

        Returns:
            The run.

        Raises:
            InvalidInputError: The question, the session's id or a group is not valid.
            NotAllowedError: The user may not ask one of the groups.
            NotFoundError: The session belongs to another user.
            BusyError: Another run of the session is under way.
            DecisionPendingError: A draft of the session waits for a reviewer.
        """
        question = checked_question(question)
        session = new_session() if session is None else checked_session(session)
        self._check_groups(by, groups)
        await self._own(by, session, make=True, title=question)
        await self._none_waits(session)
        given = {"question": question, "question_id": str(uuid4()), **self._whom(by, groups)}
        await self.note(by, "ask", session=session)
        return await self._start(by, session, "ask", given, on_busy)

    async def run(self, by: Principal, run_id: str) -> Run:
        """Return a run and its status.

        Raises:
            NotFoundError: The run does not exist, or belongs to another user.
        """
        found: Run | None = None
        if is_run_id(run_id):
            found = await self.organisation.run(self.driver.programs.find_op(run_id))
        if found is None or not (found.by == by.name or by.is_admin):
            raise NotFoundError("There is no such run, or it is no longer stored.")
        return found

    async def runs(self, by: Principal, session: str) -> list[Run]:
        """Return a session's running and queued runs."""
        await self._own(by, checked_session(session))
        found: list[Run] = await self.organisation.run(self.driver.programs.of_session_op(session))
        return found

    def events(self, run: Run, after: str = "0-0") -> AsyncGenerator[RunEvent | None]:
        """Yield a run's events after an id, as they happen, and ``None`` after each pause.

        Raises:
            InvalidInputError: The id is not an event's id.
            NotFoundError: The events are no longer stored.
        """
        if not is_event_id(after):
            raise InvalidInputError(f"{after[:40]!r} is not the id of an event. Send the last one that you got.")
        return self.driver.follow(run, after)

    async def finished(self, by: Principal, run: Run, seconds: float) -> Run:
        """Wait for a run to end, at most for this many seconds, and return its status then."""
        try:
            async with asyncio.timeout(seconds), aclosing(self.events(run)) as events:
                async for _ in events:
                    pass
        except TimeoutError:
            pass
        found: Run | None = await self.organisation.run(self.driver.programs.find_op(run.id))
        return found or run

    async def cancel(self, by: Principal, run_id: str) -> str:
        """Cancel a run and return ``"cancelled"`` or its status. The text written so far stays in its thread."""
        run = await self.run(by, run_id)
        how = await self.driver.cancel(run)
        await self.note(by, "cancel", session=run.session, detail=run.id)
        return how

    async def _start(self, by: Principal, session: str, kind: str, given: Data, on_busy: OnBusy | None) -> Run:
        run = Run(uuid4().hex, session, kind, by.name, given=given, began=time.time())
        busy: Busy | None = await self.driver.start(run, on_busy or self.on_busy)
        if busy is not None:
            raise BusyError(
                "Another question of this session is being answered. Wait for its answer, cancel it, or send "
                'on_busy="queue".',
                busy.run_id,
            )
        return run

    def _whom(self, by: Principal, groups: Sequence[str]) -> Data:
        found: Data = {"groups": list(dict.fromkeys(groups))} if groups else {}
        if by.groups is not None:
            found["allowed"] = sorted(by.groups)
        return found

    def _check_groups(self, by: Principal, groups: Sequence[str]) -> None:
        checked_groups_of(groups, self.organisation.groups)
        if not by.may_use(groups):
            raise NotAllowedError(f"You may ask: {', '.join(sorted(by.groups or ())) or 'no group'}.")

    async def _none_waits(self, session: str) -> None:
        if not self.organisation.held:
            return
        state = await self._state(session)
        if state.interrupts:
            raise DecisionPendingError(
                "An answer in this session still waits for a reviewer. Ask again when it is released, or in a new "
                "session."
            )

    # --- sessions ---

    async def sessions(
        self,
        by: Principal,
        *,
        search: str = "",
        active_seconds: float | None = None,
        idle_seconds: float | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> Data:
        """Return sessions, most recently active first, and their total number.

        Args:
            by: The user whose sessions to return; for an admin, all sessions of the organisation.
            search: Return only sessions with this text in their id, title or owner.
            active_seconds: Return only sessions active within this many seconds.
            idle_seconds: Return only sessions idle for at least this many seconds.
            limit: The maximum number of sessions to return.
            offset: The number of sessions to skip.
        """
        infos = await self.organisation.memory.get_session_infos()
        found: dict[str, list[SessionInfo]] = {}
        for info in infos:
            found.setdefault(info.session_id, []).append(info)
        threads = {row.id: row for row in await self.organisation.saver.athreads(limit=_MOST_THREADS)}
        for thread in threads:  # a session without its first answer has no history yet
            found.setdefault(thread, [])
        abouts = await self.organisation.run(self._about_op(list(found)))
        now, needle = datetime.now(UTC), search.casefold().strip()
        rows = []
        for session, each in found.items():
            owner, title = abouts[session]
            if not (by.is_admin or owner == by.name):
                continue
            row = _session_as_json(session, each, owner, title, threads.get(session))
            if needle and needle not in f"{session}\n{title}\n{owner}".casefold():
                continue
            latest = datetime.fromisoformat(row["last_activity"]) if row["last_activity"] else None
            idle = (now - latest).total_seconds() if latest else float("inf")
            if active_seconds is not None and idle > active_seconds:
                continue
            if idle_seconds is not None and idle < idle_seconds:
                continue
            rows.append(row)
        rows.sort(key=lambda row: row["last_activity"] or "", reverse=True)
        return {"sessions": rows[offset : offset + limit], "total": len(rows)}

    async def session(self, by: Principal, session: str, *, limit: int = 100, before: int | None = None) -> Data:
        """Return a session: its last ``limit`` messages (before the message ``before``), open runs and drafts."""
        await self._own(by, checked_session(session))
        state = await self._state(session)
        messages: list[BaseMessage] = state.values.get("messages") or []
        end = len(messages) if before is None else max(0, min(before, len(messages)))
        start = max(0, end - limit)
        runs = await self.organisation.run(self.driver.programs.of_session_op(session))
        [about] = (await self.organisation.run(self._about_op([session]))).values()
        ttl = await self.organisation.saver.attl(session)
        return {
            "session": session,
            "owner": about[0],
            "title": about[1],
            "messages": [message_as_json(message) for message in messages[start:end]],
            "first": start,
            "total": len(messages),
            "runs": [run.as_json() for run in runs],
            "waiting": _waiting_of(state),
            "ttl_seconds": None if ttl == -1 else ttl,
        }

    async def extend(self, by: Principal, sessions: Sequence[str], ttl_seconds: int | None = None) -> list[str]:
        """Extend the time to live of sessions, and return those that existed."""
        found = []
        for session in await self._all_own(by, sessions):
            agents = await self.organisation.memory.get_all_agents_for_session(session)
            renewed = [await self.organisation.memory.extend_ttl(agent, session, ttl_seconds) for agent in agents]
            if await self._touch(session, ttl_seconds) or any(renewed):
                found.append(session)
                await self.note(by, "extend", session=session, detail=f"{ttl_seconds or 'default'} s")
        return found

    async def clear(self, by: Principal, sessions: Sequence[str]) -> list[str]:
        """Delete sessions with their threads, histories, data and runs, and return those that existed."""
        found = []
        for session in await self._all_own(by, sessions):
            for run in await self.organisation.run(self.driver.programs.of_session_op(session)):
                with suppress(*UNREADABLE):  # other data of the session is removed all the same
                    await self.driver.cancel(run)
            await self.organisation.run(forget_runs_op(self.organisation.keys, session))
            await self.organisation.saver.adelete_thread(session)
            await self.organisation.memory.clear_session(session)
            await self.note(by, "clear", session=session)
            found.append(session)
        return found

    async def _touch(self, session: str, ttl_seconds: int | None) -> bool:
        from ecowas_lc.checkpoint import RedisSaver

        organisation = self.organisation
        saver = RedisSaver(
            server=organisation.server,
            prefix=organisation.prefix,
            ttl=ttl_seconds,
            default_ttl=organisation.settings.redis_memory_ttl,
        )
        return await saver.atouch(session)

    async def _all_own(self, by: Principal, sessions: Sequence[str]) -> list[str]:
        names = list(dict.fromkeys(checked_session(session) for session in sessions))
        for session in names:
            await self._own(by, session)
        return names

    def _about_op(self, sessions: Sequence[str]) -> Op[dict[str, tuple[str, str]]]:
        """Return the owner and the title of each session; empty if not stored."""
        keys, found = self.organisation.keys, {}
        for first in range(0, len(sessions), _AT_ONCE):
            some = sessions[first : first + _AT_ONCE]
            wanted = [keys.session_data(session, name) for session in some for name in (_OWNER, _TITLE)]
            bodies = yield tuple(command("GET", key, optional=True) for key in wanted)
            texts = [_text(body, key) for body, key in zip(bodies, wanted, strict=True)]
            for place, session in enumerate(some):
                found[session] = texts[2 * place], texts[2 * place + 1]
        return found

    async def _own(self, by: Principal, session: str, *, make: bool = False, title: str = "") -> None:
        """Check that a session exists and that the user may use it.

        Raises:
            NotFoundError: The session does not exist, or belongs to another user.
        """
        [(owner, _)] = (await self.organisation.run(self._about_op([session]))).values()
        exists = bool(owner) or await self._exists(session)
        if make:
            lifetime = lifetime_seconds(None, self.organisation.settings.redis_memory_ttl)
            if not exists:
                op = self._values.put_data_op(session, _OWNER, by.name, lifetime, only_if_absent=True)
                if not await self.organisation.run(op):
                    await self._own(by, session)
                    return
                about = self._values.put_data_op(session, _TITLE, title[:_TITLE_CHARACTERS], lifetime)
                await self.organisation.run(about)
                await self.organisation.run(analytics.count_op(self.organisation.keys, {"sessions": 1}))
                return
            if owner == by.name:  # renews the owner's expiry
                await self.organisation.run(self._values.put_data_op(session, _OWNER, owner, lifetime))
                return
        if exists and (by.is_admin or owner == by.name):
            return
        raise NotFoundError(f"There is no session {session!r}, or it is not yours.")

    async def _exists(self, session: str) -> bool:
        if await self.organisation.saver.attl(session) != -1:
            return True
        return bool(await self.organisation.memory.get_all_agents_for_session(session))

    # --- threads ---

    async def threads(self, by: Principal, *, limit: int = 50, offset: int = 0) -> Data:
        """Return threads, most recently written first: id, owner, title, and time to live."""
        keys = self.organisation.keys

        def op() -> Op[list[str]]:
            [members] = yield (command("ZREVRANGE", keys.threads(), 0, -1),)
            return readable_ids(members, "threads")

        names = await self.organisation.run(op())
        abouts = await self.organisation.run(self._about_op(names))
        own = [name for name in names if by.is_admin or abouts[name][0] == by.name]
        rows = []
        for name in own[offset : offset + limit]:
            ttl = await self.organisation.saver.attl(name)
            if ttl != -1:
                rows.append(
                    {"thread": name, "owner": abouts[name][0], "title": abouts[name][1], "ttl_seconds": ttl}
                )
        return {"threads": rows, "total": len(own)}

    async def timeline(self, by: Principal, thread: str, *, limit: int = 50, before: str | None = None) -> Data:
        """Return a thread's checkpoints, newest first, optionally only those before one."""
        await self._own(by, checked_session(thread))
        start: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
        options: Data = {"limit": limit}
        if before is not None:
            options["before"] = self._at(thread, before)
        graph = await self.organisation.graph()
        rows: list[Data] = []
        async for state in graph.aget_state_history(start, **options):
            rows.append(_step(state))
            await asyncio.sleep(
                0
            )  # decoding the state of a long thread takes 20 ms: other readers go on meanwhile
        if before is None and rows:
            head = rows[0]["checkpoint"]
        else:
            head = (await self._state(thread)).config["configurable"].get("checkpoint_id")
        return {"thread": thread, "head": head, "steps": rows}

    async def state(self, by: Principal, thread: str, checkpoint: str | None = None) -> Data:
        """Return a thread's state at a checkpoint (default: the latest). Waiting drafts are left out."""
        await self._own(by, checked_session(thread))
        return _view(await self._known_state(thread, checkpoint))

    async def diff(self, by: Principal, thread: str, before: str | None = None, after: str | None = None) -> Data:
        """Return the changes between two checkpoints (default: the changes of the last step)."""
        await self._own(by, checked_session(thread))
        newer = await self._known_state(thread, after)
        if before is None and newer.parent_config is not None:
            before = newer.parent_config["configurable"]["checkpoint_id"]
        older = _view(await self._known_state(thread, before)) if before is not None else {}
        return _difference(older, _view(newer))

    async def fork(self, by: Principal, thread: str, checkpoint: str) -> Data:
        """Continue from an earlier checkpoint: the next question is asked there. Later checkpoints stay stored."""
        await self._own(by, checked_session(thread))
        await self._idle(thread)
        await self._known_state(thread, checkpoint)
        graph = await self.organisation.graph()
        await self.note(by, "fork", session=thread, detail=checkpoint)
        made = await graph.aupdate_state(self._at(thread, checkpoint), None, as_node="__copy__")
        await graph.async_histories(self._head(thread))
        return {"thread": thread, "checkpoint": made["configurable"]["checkpoint_id"]}

    async def regenerate(
        self, by: Principal, thread: str, message: str | None = None, *, on_busy: OnBusy | None = None
    ) -> Run:
        """Answer a question again (default: the last one), named by its own id or its answer's.

        Raises:
            NotFoundError: The thread has no such message.
        """
        await self._own(by, checked_session(thread))
        await self._none_waits(thread)
        given = await self._before_question(thread, message)
        await self.note(by, "regenerate", session=thread, detail=given["question_id"])
        return await self._start(by, thread, "regenerate", {**given, **self._whom(by, ())}, on_busy)

    async def edit(
        self, by: Principal, thread: str, message: str, question: str, *, on_busy: OnBusy | None = None
    ) -> Run:
        """Ask an edited question. The original and everything after it are kept on a separate branch.

        Raises:
            NotFoundError: The thread has no such question.
        """
        question = checked_question(question)
        await self._own(by, checked_session(thread))
        await self._none_waits(thread)
        given = await self._before_question(thread, message)
        await self.note(by, "edit", session=thread, detail=given["question_id"])
        given |= {"question": question, **self._whom(by, ())}
        return await self._start(by, thread, "edit", given, on_busy)

    async def _before_question(self, thread: str, message: str | None) -> Data:
        """Return the checkpoint at which a question is not answered yet, and the thread's current checkpoint."""
        state = await self._state(thread)
        messages: list[BaseMessage] = state.values.get("messages") or []
        place = next((at for at, each in enumerate(messages) if each.id == message), None)
        if message is None:
            place = len(messages) - 1 if messages else None
        while place is not None and place >= 0 and not isinstance(messages[place], HumanMessage):
            place -= 1
        if place is None or place < 0:
            raise NotFoundError("The thread has no such message on its current branch.")
        question = messages[place]
        graph = await self.organisation.graph()
        async for step in graph.aget_state_history(self._head(thread)):
            held = step.values.get("messages") or []
            if step.next == (ROUTE,) and held and held[-1].id == question.id and held[-1].text == question.text:
                return {
                    "checkpoint": step.config["configurable"]["checkpoint_id"],
                    "head": state.config["configurable"]["checkpoint_id"],
                    "question": question.text,
                    "question_id": question.id,
                }
        raise NotFoundError(
            "The checkpoint before this question is no longer stored. Ask it again as a new question."
        )

    async def _idle(self, session: str) -> None:
        runs = await self.organisation.run(self.driver.programs.of_session_op(session))
        if runs:
            raise BusyError(
                "A question of this session is being answered. Wait for its answer, or cancel it.", runs[0].id
            )

    def _head(self, thread: str) -> RunnableConfig:
        return {"configurable": {"thread_id": thread}}

    def _at(self, thread: str, checkpoint: str) -> RunnableConfig:
        return {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": checkpoint}}

    async def _state(self, thread: str) -> StateSnapshot:
        graph = await self.organisation.graph()
        return await graph.aget_state(self._head(thread))

    async def _known_state(self, thread: str, checkpoint: str | None) -> StateSnapshot:
        if checkpoint is None:
            return await self._state(thread)
        if not checkpoint or len(checkpoint) > LONGEST_ID:
            raise NotFoundError(f"The thread {thread!r} has no such checkpoint.")
        graph = await self.organisation.graph()
        state = await graph.aget_state(self._at(thread, checkpoint))
        if state.metadata is None:
            raise NotFoundError(f"The thread {thread!r} has no checkpoint {checkpoint!r}.")
        return state

    # --- approvals ---

    async def approvals(self, by: Principal) -> list[Data]:
        """Return the drafts that wait for the user's decision, with their texts."""
        found: list[Data] = []
        if not self.organisation.held:
            return found
        for row in await self.organisation.saver.awaiting(limit=_MOST_THREADS):
            for one in row.waiting:
                request = one.value if isinstance(one.value, Mapping) else {}
                if request.get("type") == "release" and self._may_decide(by, request):
                    found.append({"session": row.id, "request": one.id, **request})
        return found

    async def decide(self, by: Principal, session: str, draft: str, decision: Mapping[str, Any]) -> Run:
        """Decide on a draft: ``{"action": "approve" | "edit" | "reject", "text": …, "reason": …}``.

        Raises:
            NotWaitingError: The draft is no longer waiting. Nothing was released.
            InvalidDecisionError: The decision is not valid.
            NotFoundError: The user may not decide on this draft.
        """
        state = await self._state(checked_session(session))
        for one in state.interrupts:
            request = one.value if isinstance(one.value, Mapping) else {}
            if request.get("draft") != draft:
                continue
            if not self._may_decide(by, request):
                break
            bound = {**decision, "draft": draft}
            check_decision(request, bound)
            run = await self._start(by, session, "decide", {"request": one.id, "decision": bound}, "refuse")
            await self.note(by, str(decision.get("action")), session=session, draft=draft)
            return run
        raise NotWaitingError(
            f"The draft {draft[:LONGEST_ID]!r} does not wait for your decision. Nothing was released. Look at "
            "what waits now."
        )

    def _may_decide(self, by: Principal, request: Mapping[str, Any]) -> bool:
        group = str(request.get("group") or "")
        concerned = request.get("concerns") or [group]
        return by.may_use([str(each) for each in concerned])

    # --- documents ---

    async def documents(self, by: Principal) -> list[Data]:
        """Return the documents that answers can cite and that the user's groups may read."""
        library = self.organisation.documents
        if library is None:
            return []
        return [_document(each) for each in await asyncio.to_thread(library.all) if _readable(by, each)]

    async def document(self, by: Principal, document_id: str) -> Data:
        """Return a document with its text."""
        library = self._library()
        found = {each.id: each for each in await asyncio.to_thread(library.all)}.get(document_id)
        if found is None or not _readable(by, found):
            raise NotFoundError(f"There is no document {document_id[:LONGEST_ID]!r}.")
        return {**_document(found), "text": await asyncio.to_thread(library.text, document_id)}

    async def search_documents(
        self, by: Principal, query: str, *, group: str | None = None, limit: int = 5
    ) -> list[Data]:
        """Return the passages that match best."""
        if group is not None:
            self._check_groups(by, [group])
        if not query.strip():
            raise InvalidInputError("The query is empty. Send some words.")
        library = self.organisation.documents
        if library is None:
            return []
        sources = await library.asearch(query, group=group, limit=limit)
        return [
            {**_document(each.document), "page": each.passage.page, "passage": each.passage.text}
            for each in sources
            if _readable(by, each.document)
        ]

    async def add_document(
        self, by: Principal, name: str, content: bytes, *, groups: Sequence[str] = (), **about: Any
    ) -> Data:
        """Add a document from its content. ``about`` holds the metadata that the file does not contain.

        Raises:
            InvalidInputError: The content can't be read as a document.
        """
        library = self._library()
        checked_groups_of(groups, self.organisation.groups)
        safe = Path(name.replace("\\", "/")).name.replace("\x00", "") or "document.txt"
        if safe.startswith(".") or len(safe.encode("utf-8", "replace")) > 200:
            raise InvalidInputError("The file's name can't be used. Give it a shorter one, with an extension.")

        def add() -> Any:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, safe)
                path.write_bytes(content)
                return library.add(path, groups=groups, **about)

        report = await asyncio.to_thread(add)
        if report.skipped:
            raise InvalidInputError(report.skipped[0].reason)
        self.organisation.documents_changed()
        [found] = report.added or report.known
        await self.note(by, "add document", detail=f"{found.id} {safe}")
        return _document(found)

    async def remove_document(self, by: Principal, document_id: str) -> None:
        """Remove a document. Later answers don't use it."""
        library = self._library()
        if document_id not in {each.id for each in await asyncio.to_thread(library.all)}:
            raise NotFoundError(f"There is no document {document_id[:LONGEST_ID]!r}.")
        await asyncio.to_thread(library.remove, document_id)
        self.organisation.documents_changed()
        await self.note(by, "remove document", detail=document_id)

    def _library(self) -> Any:
        library = self.organisation.documents
        if library is None:
            raise MissingExtraError(
                "Documents need the extras documents and search. Run: " + install_command("documents", "search")
            )
        return library

    # --- figures ---

    async def analytics(self, by: Principal, days: int = 30) -> list[Data]:
        """Return daily figures for the last ``days`` days."""
        found: list[Data] = await self.organisation.run(analytics.figures_op(self.organisation.keys, days))
        return found

    async def system(self, by: Principal, *, checks: bool = False) -> Data:
        """Return the state of the server, the memory and the model, and, if requested, the findings of doctor."""
        server = self.organisation.server
        found: Data = {
            "version": __version__,
            "prefix": self.organisation.prefix,
            "server": server.where,
            "runs": self.driver.running,
            "draining": self.driver.is_draining,
            "model": {"name": self.model_name, "note": self.model_note},
        }
        try:
            found["memory"] = await self.organisation.memory.get_memory_stats()
        except StorageError as error:
            found["memory"] = {"error": str(error)}
        found["model"]["answers"] = await self.model_answers()
        if checks and self._checks is not None:
            found["checks"] = await asyncio.to_thread(self._checks)
        return found

    async def model_answers(self) -> bool | None:
        """Return whether the model's server answers, or ``None`` if it can't be checked."""
        return None if self._model_health is None else bool(await self._model_health())

    async def audit_lines(self, by: Principal, *, limit: int = 100, before: str | None = None) -> list[Data]:
        """Return the audit log, newest first."""
        if before is not None and not is_event_id_of_stream(before):
            raise InvalidInputError(f"{before[:40]!r} is not the id of a line. Send one that you got.")
        lines = await self.organisation.run(audit.lines_op(self.organisation.keys, limit, before))
        return [line.as_json() for line in lines]

    async def note(self, by: Principal, what: str, **on: str) -> None:
        """Add a line to the audit log."""
        await self.organisation.run(audit.note_op(self.organisation.keys, by.name, by.how, what, **on))

    async def _count(self, run: Run, status: str, events: Sequence[Data], seconds: float) -> None:
        """Count a run that has ended."""
        counted: dict[str, int] = {f"ended:{status}": 1}
        if run.kind == "ask":
            counted["questions"] = 1
            counted[f"language:{language_of(str(run.given.get('question', '')))}"] = 1
        for event in events:
            if event.get("type") == "route" and run.kind != "decide":
                for group in event.get("groups") or ["supervisor"]:
                    counted[f"group:{group}"] = 1
            if event.get("type") == "answer" and any(
                report.get("declined") for report in (event.get("reports") or {}).values()
            ):
                counted["declined"] = 1
        if status in ("done", "waiting"):
            counted["milliseconds"] = round(1000 * seconds)
            counted[analytics.bucket_of(seconds)] = 1
        await self.organisation.run(analytics.count_op(self.organisation.keys, counted))


# --- validation ---


def new_session() -> str:
    """Return an id for a new session: the current time and a random part."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:8]}"


def checked_session(session: str) -> str:
    """Return a valid session id.

    Raises:
        InvalidIdError: The id is empty, too long, or not allowed in an address.
    """
    if not session.strip() or len(session) > LONGEST_ID:
        raise InvalidIdError(f"A session's id has 1 to {LONGEST_ID} characters.")
    try:
        session.encode()
    except UnicodeEncodeError:
        raise InvalidIdError("The session's id is not UTF-8 text.") from None
    return session


def checked_question(question: str) -> str:
    """Return a valid question.

    Raises:
        EmptyQuestionError: The question has no text.
        InvalidInputError: The question is too long, or not UTF-8.
    """
    if not question.strip():
        raise EmptyQuestionError("The question is empty. Ask something in English, French or Portuguese.")
    if len(question) > LONGEST_QUESTION:
        raise InvalidInputError(f"The question is longer than {LONGEST_QUESTION} characters. Shorten it.")
    try:
        question.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("The question is not UTF-8 text.") from None
    return question.strip()


def is_event_id_of_stream(text: str) -> bool:
    """Return whether this has the form of the id of an audit line."""
    milliseconds, _, number = text.partition("-")
    return all(part.isascii() and part.isdecimal() and len(part) < 19 for part in (milliseconds, number))


# --- views ---


def _text(body: Any, key: bytes) -> str:
    if body is None or isinstance(body, Exception):
        return ""
    try:
        found = from_json(body, key)
    except EcowasError:
        return ""
    return found if isinstance(found, str) else ""


def _session_as_json(
    session: str, infos: Sequence[SessionInfo], owner: str, title: str, thread: ThreadRow | None
) -> Data:
    times = [info.last_activity for info in infos if info.last_activity]
    if not times and thread is not None and thread.last_activity is not None:
        times = [thread.last_activity]
    first = min((info.first_activity for info in infos if info.first_activity), default=None)
    ttls = [info.ttl_seconds for info in infos if info.ttl_seconds is not None]
    if not infos and thread is not None and thread.ttl is not None:
        ttls = [int(thread.ttl)]
    return {
        "session": session,
        "owner": owner,
        "title": title,
        "agents": {info.agent_id: info.messages for info in infos},
        "first_activity": first.isoformat() if first else None,
        "last_activity": max(times).astimezone(UTC).isoformat() if times else None,
        "ttl_seconds": min(ttls, default=None),
        "waiting": len(thread.waiting) if thread is not None else 0,
    }


def _waiting_of(state: StateSnapshot) -> list[Data]:
    found = []
    for one in state.interrupts:
        request = one.value if isinstance(one.value, Mapping) else {}
        found.append({"draft": str(request.get("draft") or one.id), "group": str(request.get("group") or "")})
    return found


def _step(state: StateSnapshot) -> Data:
    messages = state.values.get("messages") or []
    last = messages[-1] if messages else None
    parent = (state.parent_config or {}).get("configurable", {}).get("checkpoint_id")
    return {
        "checkpoint": state.config["configurable"]["checkpoint_id"],
        "parent": parent,
        "step": (state.metadata or {}).get("step"),
        "source": (state.metadata or {}).get("source"),
        "at": state.created_at,
        "next": list(state.next),
        "messages": len(messages),
        "last": message_as_json(last)["text"][:200] if last is not None else "",
        "speaker": message_as_json(last)["speaker"] if last is not None else "",
        "groups": list((state.values.get("decision") or {}).get("groups") or []),
        "waiting": _waiting_of(state),
    }


_OF_A_REPORT = ("status", "reason", "text", "declined", "released", "tools", "citations", "left_out", "error")


def _view(state: StateSnapshot) -> Data:
    values = state.values
    return {
        "checkpoint": state.config["configurable"].get("checkpoint_id"),
        "parent": (state.parent_config or {}).get("configurable", {}).get("checkpoint_id"),
        "step": (state.metadata or {}).get("step"),
        "source": (state.metadata or {}).get("source"),
        "at": state.created_at,
        "next": list(state.next),
        "messages": [message_as_json(message) for message in values.get("messages") or []],
        "decision": values.get("decision"),
        "reports": {
            group: {key: report[key] for key in _OF_A_REPORT if key in report}
            for group, report in (values.get("reports") or {}).items()
        },
        "synthesis": values.get("synthesis") or None,
        "summary": (values.get("summary") or {}).get("text") or None,
        "waiting": _waiting_of(state),
    }


def _difference(older: Data, newer: Data) -> Data:
    known = {message["id"]: message for message in older.get("messages") or []}
    now = {message["id"]: message for message in newer["messages"]}
    changed = {
        key: {"before": older.get(key), "after": newer[key]}
        for key in ("next", "decision", "reports", "synthesis", "summary", "waiting")
        if older.get(key) != newer[key]
    }
    return {
        "before": older.get("checkpoint"),
        "after": newer["checkpoint"],
        "added": [message for key, message in now.items() if key not in known],
        "removed": [message for key, message in known.items() if key not in now],
        "replaced": [
            {"before": known[key], "after": message}
            for key, message in now.items()
            if key in known and known[key] != message
        ],
        "changed": changed,
    }


def _document(document: Any) -> Data:
    return {
        "document": document.id,
        "name": document.name,
        "title": document.title,
        "issuer": document.issuer,
        "date": document.date.isoformat() if document.date else None,
        "language": document.language,
        "groups": list(document.groups),
        "supersedes": list(document.supersedes),
        "pages": document.pages,
    }


def _readable(by: Principal, document: Any) -> bool:
    return by.groups is None or not document.groups or bool(by.groups.intersection(document.groups))


ReviewDecision = Literal["approve", "edit", "reject"]
__all__ = ["Collection", "ReviewDecision", "Role", "Service", "checked_question", "checked_session", "new_session"]
