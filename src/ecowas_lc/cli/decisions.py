"""``ecowas-lc threads resume``: decides on a request that waits in a thread, and resumes the run."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ecowas_lc.checkpoint.listing import waiting_in
from ecowas_lc.checkpoint.viewing import plain
from ecowas_lc.cli.conversation import checked_session
from ecowas_lc.cli.live_answer import Prose, show_sources
from ecowas_lc.cli.models import chosen_model
from ecowas_lc.cli.screen import counted, labelled, program, remark, say
from ecowas_lc.cli.store import Store, opened_store
from ecowas_lc.cli.terminal import err, one_line, out, piped_text, show_json
from ecowas_lc.errors import ConfigurationError, EcowasError, InvalidInputError

if TYPE_CHECKING:
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.types import Interrupt

_LEAVE = "leave"


@dataclass(frozen=True)
class Choice:
    """The decision that the options state; empty if the user is to be asked."""

    approve: bool = False
    edit: str | None = None
    reject: bool = False
    reason: str | None = None
    answer: str | None = None

    def checked(self) -> Choice | None:
        """Return the choice, or ``None`` if the options state none.

        Raises:
            InvalidInputError: The options contradict each other.
        """
        made = [self.approve, self.edit is not None, self.reject, self.answer is not None]
        if sum(made) > 1:
            raise InvalidInputError("Pass only one of --approve, --edit, --reject and --answer.")
        if self.reason is not None and not self.reject:
            raise InvalidInputError("--reason requires --reject.")
        if self.edit is not None and not self.edit.strip():
            raise InvalidInputError("--edit has no text. Pass the new text, or --reject.")
        return self if any(made) else None


def resume_thread(thread: str, choice: Choice, request: str | None, graph_name: str | None, *, json: bool) -> None:
    """Decide on a request that waits in a thread. Without a choice, show each request and ask the user.

    Raises:
        EcowasError: There is no such thread, nothing waits in it, or the decision is not accepted.
    """
    thread = checked_session(thread)
    chosen = choice.checked()
    if chosen is not None and chosen.edit == "-":
        if sys.stdin.isatty():
            raise InvalidInputError(
                "--edit - reads the text from a pipe, and there is none. Pass the text itself."
            )
        chosen = Choice(edit=piped_text()).checked()
    if chosen is None and (json or not sys.stdin.isatty()):
        raise ConfigurationError(
            "Not a terminal, so I can't ask for your decision. Pass --approve, --edit TEXT, --reject or "
            "--answer TEXT."
        )
    with opened_store() as store:
        store.check_thread(thread)
        config: Any = {"configurable": {"thread_id": thread}}
        found = _readable(store, thread)
        waiting = _wanted(waiting_in(found.pending_writes or ()), thread, request, alone=chosen is not None)
        decisions: dict[str, Any] = {}
        for one in waiting:
            decision = _decision(one, chosen) if chosen is not None else _asked(thread, one)
            if decision != _LEAVE:
                decisions[one.id] = decision
        if not decisions:
            remark("Nothing was decided.")
            return
        with _graph(store, found, graph_name) as graph:
            result = asyncio.run(_resumed(graph, thread, config, decisions))
    _show(thread, result, decisions, json=json)


def _readable(store: Store, thread: str) -> CheckpointTuple:
    from ecowas_lc.checkpoint import RedisSaver

    saver = RedisSaver(server=store.server, prefix=store.settings.prefix)
    found = saver.get_tuple({"configurable": {"thread_id": thread}})
    if found is None:  # pragma: no cover - the thread was deleted since it was looked up
        raise EcowasError(f"Thread {thread!r} has no request that waits for a decision.")
    return found


def _wanted(waiting: Sequence[Interrupt], thread: str, request: str | None, *, alone: bool) -> list[Interrupt]:
    if not waiting:
        raise EcowasError(
            f"Thread {thread!r} has no request that waits for a decision. To list those that do: "
            f"`{program()} threads waiting`."
        )
    if request is not None:
        found = [one for one in waiting if request in (one.id, _field(one, "draft"))]
        if not found:
            raise EcowasError(f"Thread {thread!r} has no waiting request {request!r}. It has: {_listed(waiting)}.")
        return found
    if alone and len(waiting) > 1:
        raise InvalidInputError(
            f"{len(waiting)} requests wait in thread {thread!r}. Name one with --request: {_listed(waiting)}."
        )
    return list(waiting)


def _listed(waiting: Sequence[Interrupt]) -> str:
    return ", ".join(f"{one.id} ({one_line(str(_field(one, 'group') or 'a tool'))})" for one in waiting)


def _field(one: Interrupt, name: str) -> Any:
    return one.value.get(name) if isinstance(one.value, Mapping) else None


def _decision(one: Interrupt, choice: Choice) -> Any:
    """Return the decision on a request that corresponds to a choice.

    Raises:
        InvalidInputError: The request does not accept such a decision.
    """
    if _field(one, "type") == "release":
        if choice.answer is not None:
            raise InvalidInputError("An answer waits to be released. Pass --approve, --edit TEXT or --reject.")
        bound = {key: _field(one, key) for key in ("draft", "digest") if _field(one, key)}
        if choice.approve:
            return {"action": "approve", **bound}
        if choice.edit is not None:
            return {"action": "edit", "text": choice.edit, **bound}
        return {"action": "reject", **({"reason": choice.reason} if choice.reason else {}), **bound}
    if calls := _held_calls(one):
        if not (choice.approve or choice.reject):
            raise InvalidInputError("A tool call waits for approval. Pass --approve, or --reject --reason TEXT.")
        told = (
            {"type": "approve"} if choice.approve else {"type": "reject", "message": choice.reason or "Rejected."}
        )
        return {"decisions": [told for _ in calls]}
    if choice.answer is not None:
        return choice.answer
    if choice.edit is not None:
        raise InvalidInputError("A tool waits, and its request can't be edited here. Pass --answer TEXT.")
    return choice.approve


def _held_calls(one: Interrupt) -> Sequence[Any]:
    """Return the tool calls that LangChain's human-in-the-loop middleware holds; empty for any other request."""
    calls = _field(one, "action_requests")
    return calls if isinstance(calls, Sequence) and not isinstance(calls, str) else ()


def _asked(thread: str, one: Interrupt) -> Any:
    """Show a request and return the user's decision on it, or ``leave`` to let it wait."""
    console = err()
    is_draft = _field(one, "type") == "release"
    console.print()
    labelled("Thread", one_line(thread), 10, console)
    labelled("Request", one.id, 10, console)
    if not is_draft:
        value = plain(one.value)
        labelled("Asked", value if isinstance(value, str) else str(value), 10, console)
        if _held_calls(one):
            return _approved_or_not(one)
        said = _typed("Answer (nothing: leave it waiting): ")
        return said or _LEAVE
    labelled("Group", str(_field(one, "name") or _field(one, "group")), 10, console)
    labelled("Question", str(_field(one, "question")), 10, console)
    if concerns := _field(one, "concerns"):
        labelled("Concerns", ", ".join(map(str, concerns)), 10, console)
    console.print(Text("Answer", style="dim"))
    prose = Prose(console)
    prose.write(str(_field(one, "answer")))
    prose.end()
    return _approved_or_not(one, str(_field(one, "answer")))


def _approved_or_not(one: Interrupt, text: str | None = None) -> Any:
    """Ask for a decision on a draft with this ``text``, which can be edited, or on a tool call (``None``)."""
    edit = "" if text is None else "[e]dit, "
    while True:
        match _typed(f"[a]pprove, {edit}[r]eject, or nothing to leave it waiting: ").lower():
            case "a" | "approve":
                return _decision(one, Choice(approve=True))
            case "e" | "edit" if text is not None:
                if new := _edited(text):
                    return _decision(one, Choice(edit=new))
                remark("The text was not changed, so nothing was decided.")
            case "r" | "reject":
                return _decision(one, Choice(reject=True, reason=_typed("Reason (may be left out): ") or None))
            case "":
                return _LEAVE


def _typed(question: str) -> str:
    err().out(question, end="")
    try:
        return input().strip()
    except EOFError:  # Ctrl-D
        err().print()
        return ""


def _edited(text: str) -> str | None:
    """Return the text as edited by the user, in an editor or as typed; ``None`` if it is empty or unchanged."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if editor is None:
        remark("Type the new text. A line with only a dot ends it.")
        lines: list[str] = []
        while (line := _line()) not in (None, "."):
            lines.append(str(line))
        new = "\n".join(lines).strip()
        return new if new and new != text.strip() else None
    with tempfile.TemporaryDirectory(prefix="ecowas-lc-") as folder:  # readable only by its owner
        file = Path(folder, "answer.md")
        file.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)  # noqa: S603  # the user's own editor
        except (OSError, subprocess.CalledProcessError) as error:
            raise EcowasError(f"The editor {editor!r} failed: {error}. Set EDITOR, or pass --edit TEXT.") from None
        new = file.read_text(encoding="utf-8").strip()
    return new if new and new != text.strip() else None


def _line() -> str | None:
    try:
        return input()
    except EOFError:
        return None


@contextmanager
def _graph(store: Store, found: CheckpointTuple, name: str | None) -> Iterator[Any]:
    """Yield the graph to resume: the one that is named, else the supervisor with every answer held for review."""
    from ecowas_lc.checkpoint import RedisSaver
    from ecowas_lc.cli.conversation import _documents, item_store
    from ecowas_lc.history import history_factory
    from ecowas_lc.llm import make_chat_model
    from ecowas_lc.supervisor import build_supervisor

    settings = store.settings
    saver = RedisSaver(server=store.server, prefix=settings.prefix, default_ttl=settings.redis_memory_ttl)
    if name is not None:
        graph = _imported(name)
        parts = {"checkpointer": graph.checkpointer or saver}
        if getattr(graph, "store", None) is None:
            parts["store"] = item_store(store.server, settings)
        yield graph.copy(parts)
        return
    decided = found.checkpoint["channel_values"].get("decision")
    groups = decided.get("groups", ()) if isinstance(decided, Mapping) else ()
    # Only combining several answers needs a model.
    model: Any = chosen_model(settings) if len(groups) > 1 else nullcontext()
    with model as chosen:
        yield build_supervisor(
            chosen.chat if chosen is not None else make_chat_model(settings),
            router=settings.router,
            checkpointer=saver,
            history_factory=history_factory(server=store.server, prefix=settings.prefix),
            interrupt_before_release="all",
            on_busy="refuse",
            documents=_documents(store.server, settings),
            store=item_store(store.server, settings),
        )


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise InvalidInputError(f"--graph {name!r} can't be used. Write MODULE:NAME, such as my_app.graphs:graph.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(f"--graph {name!r} can't be loaded: {error}.") from None
    finally:
        sys.path.remove(str(Path.cwd()))
    graph = found if hasattr(found, "aget_state") or not callable(found) else found()
    if not hasattr(graph, "aget_state"):
        raise InvalidInputError(f"--graph {name!r} is neither a compiled graph nor a function that returns one.")
    return graph


async def _resumed(graph: Any, thread: str, config: Any, decisions: Mapping[str, Any]) -> Any:
    from langgraph.types import Command

    state = await graph.aget_state(config)
    known = {one.id for one in state.interrupts}
    if not decisions.keys() <= known:
        raise EcowasError(
            f"The thread {thread!r} waits in a graph of another application, which the summit's supervisor can't "
            "continue. Name that graph: --graph MODULE:NAME"
        )
    try:
        await graph.ainvoke(Command(resume=dict(decisions)), config, durability="sync")
        return await graph.aget_state(config)
    finally:
        close = getattr(graph.checkpointer, "aclose", None)
        if close is not None:
            await close()


def _show(thread: str, state: Any, decisions: Mapping[str, Any], *, json: bool) -> None:
    from langchain_core.messages import BaseMessage

    from ecowas_lc.agents.turn import citations_of

    left = [one.id for one in state.interrupts]
    messages = state.values.get("messages") if isinstance(state.values, Mapping) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    ended = not left and not state.next and isinstance(last, BaseMessage)
    if json:
        shown: dict[str, Any] = {"thread": thread, "decided": list(decisions), "waiting": left}
        if ended:
            assert isinstance(last, BaseMessage)
            citations = citations_of(last)
            shown |= {"answer": last.text, **({"citations": list(citations)} if citations else {})}
        show_json(shown)
        return
    say(f"{counted(len(decisions), 'request')} decided in thread {one_line(thread)}.")
    if left:
        remark(f"{counted(len(left), 'request')} still waiting: {', '.join(left)}.")
    elif ended:
        assert isinstance(last, BaseMessage)
        console = out()
        console.print(Text(f"\n● {one_line(str(last.name or 'answer'))}", style="bold"))
        prose = Prose(console)
        prose.write(last.text)
        prose.end()
        show_sources(citations_of(last))
