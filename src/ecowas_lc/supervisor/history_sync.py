"""A session's histories: what the thread has imported from them once, and how its branch is written to them.

The thread is the source of truth for its conversation. Its histories show the current branch to people and other
programs: after each turn, every speaker's history matches the branch, and messages that other programs appended
stay in place. Answers that a thread wrote are recognised by their ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID, uuid5

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from ecowas_lc.effects import Doing, Program
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.supervisor.state import SUPERVISOR, digest_of, own_answer
from ecowas_lc.supervisor.trimming import Exchange, exchanges

_NAMESPACE = UUID("5f6f4f0e-6a53-4d0e-9a86-6d0f0a4c2b71")
_MARK = 12  # hexadecimal digits of an answer's id that identify the thread and speaker
NEW = "new"
"""Stands in for the digest of a branch without turns whose histories are known to be in sync."""
_NEWEST = 8
"""Number of the newest messages that are read to check whether a history is where the thread left it."""


class History(Protocol):
    """The parts of a ``BaseChatMessageHistory`` that are used.

    With ``appends_once = True``, the history itself skips repeated ids. The following are used if present:
    ``latest(count)`` and ``alatest(count)`` return the last messages (``None``: all) regardless of the history's
    window; ``replace_messages`` and ``areplace_messages`` replace all messages in one step; ``max_history`` is the
    number of messages that it keeps.
    """

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages, oldest first."""
        ...

    async def aget_messages(self) -> list[BaseMessage]:
        """Return the messages, oldest first."""
        ...

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages."""
        ...

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages."""
        ...

    def clear(self) -> None:
        """Remove all messages."""
        ...

    async def aclear(self) -> None:
        """Remove all messages."""
        ...


OpenHistory = Callable[[str, str], Any]
"""``factory(agent_id, session_id)`` returns a :class:`History`."""


def session_of(config: RunnableConfig) -> str:
    """Return the session of a run: the id of its thread.

    Raises:
        ConfigurationError: The run has no thread.
    """
    thread = config.get("configurable", {}).get("thread_id")
    if thread is None or not str(thread).strip():
        raise ConfigurationError(
            "Histories are kept by session, and this run has none. "
            "Pass config={'configurable': {'thread_id': 'your-session'}}."
        )
    return str(thread)


# --- ids of answers ---


def old_answer_id(question_id: str | None, speaker: str) -> str:
    """Return the id that earlier versions gave to a speaker's answer."""
    return str(uuid5(_NAMESPACE, f"{question_id}\n{speaker}"))


def answer_id(session: str, question_id: str | None, speaker: str) -> str:
    """Return the stable id under which a thread writes a speaker's answer to its history."""
    rest = uuid5(_NAMESPACE, f"{session}\n{question_id}\n{speaker}").hex
    return str(UUID(_mark(session, speaker) + rest[_MARK:]))


def is_written_by(session: str, speaker: str, message: BaseMessage) -> bool:
    """Return whether a thread wrote this answer to the speaker's history."""
    return (message.id or "").replace("-", "").startswith(_mark(session, speaker))


def _mark(session: str, speaker: str) -> str:
    text = f"{len(session)}\n{session}\n{speaker}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK]


# --- a branch as its speakers tell it ---


def branch_of(messages: Iterable[BaseMessage], session: str, speaker: str) -> list[BaseMessage]:
    """Return a speaker's history of a branch: the questions to this speaker and the answers."""
    told: list[BaseMessage] = []
    for exchange in exchanges(messages):
        question, final = exchange[0], exchange[-1]
        text = final.text if speaker == SUPERVISOR else own_answer(final, speaker)
        if text is not None:
            name = final.name if speaker == SUPERVISOR else speaker
            told += [question, AIMessage(text, id=answer_id(session, question.id, speaker), name=name)]
    return told


@dataclass(frozen=True, slots=True)
class Authorship:
    """Determines which messages of a speaker's history the thread wrote.

    ``taken`` are the ids of messages that it imported from histories and therefore did not write; ``asked`` are
    the ids of questions that an older version wrote to the supervisor's history.
    """

    session: str
    taken: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()

    def answer_is_ours(self, speaker: str, question: BaseMessage | None, answer: BaseMessage) -> bool:
        """Return whether the thread wrote this answer to this question."""
        if not isinstance(answer, AIMessage) or answer.id in self.taken:
            return False
        if is_written_by(self.session, speaker, answer):
            return True
        if question is None or answer.id != old_answer_id(question.id, speaker):
            return False
        return speaker == SUPERVISOR or question.id in self.asked


def brought_up(
    stored: Sequence[BaseMessage], branch: Sequence[BaseMessage], speaker: str, wrote: Authorship
) -> list[BaseMessage]:
    """Return a history updated to a branch: what the thread wrote is replaced, the rest stays in its place."""
    if stored and not any(message.id for message in stored):
        return _brought_up_by_text(stored, branch)
    place = {message.id: index for index, message in enumerate(branch)}
    result: list[BaseMessage] = []
    begun = 0
    for index, message in enumerate(stored):
        before = stored[index - 1] if index else None
        after = stored[index + 1] if index + 1 < len(stored) else None
        found = place.get(message.id) if message.id not in wrote.taken else None
        if found is None and before is not None and wrote.answer_is_ours(speaker, before, message):
            found = place.get(answer_id(wrote.session, before.id, speaker), -1)  # an older version's id
        elif found is None and wrote.answer_is_ours(speaker, None, message):
            found = -1
        elif found is None and isinstance(message, HumanMessage) and after is not None:
            found = -1 if wrote.answer_is_ours(speaker, message, after) else None
        if found is None:
            result.append(message)
        elif found >= begun:
            if result or begun:  # else the branch's earlier messages were trimmed off the history
                result += branch[begun:found]
            result.append(branch[found])
            begun = found + 1
    return [*result, *branch[begun:]]


def _is_of_others(stored: Sequence[BaseMessage], branch: Sequence[BaseMessage]) -> bool:
    """Return whether a history that keeps ids holds only messages without ids, appended by other programs."""
    return not any(message.id for message in stored) and not any(
        _same([one], [other]) for one in stored for other in branch
    )


def _brought_up_by_text(stored: Sequence[BaseMessage], branch: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Update a history without ids: append if its end matches the branch's beginning, else rewrite it."""
    for begin in range(len(stored)):
        if _same(stored[begin:], branch[: len(stored) - begin]):
            return [*stored[:begin], *branch]
    return list(branch)


def _same(one: Sequence[BaseMessage], other: Sequence[BaseMessage]) -> bool:
    return len(one) == len(other) and all(
        a.type == b.type and a.text == b.text and (a.id == b.id or a.id is None or b.id is None)
        for a, b in zip(one, other, strict=True)
    )


# --- reading and writing ---


def read(factory: OpenHistory | None, agent_id: str, config: RunnableConfig) -> Program[list[BaseMessage]]:
    """Return the messages of one speaker's history in the run's session; empty without a factory."""
    if factory is None:
        return []
    history = factory(agent_id, session_of(config))
    messages: list[BaseMessage] = yield _reading(history)
    return list(messages)


def written(
    factory: OpenHistory,
    speakers: Sequence[str],
    config: RunnableConfig,
    before: Sequence[BaseMessage],
    turn: Sequence[BaseMessage],
    synced: str,
    taken: Iterable[BaseMessage] = (),
) -> Program[str]:
    """Update the speakers' histories to a branch that ends with this turn, and return the branch's digest.

    If the histories are still as the last update left them, the turn is appended; otherwise each one is compared.

    Args:
        factory: Returns a speaker's history.
        speakers: The speakers, the supervisor first: other runs read its history to decide whether to compare.
        config: The run's config.
        before: The branch without the turn.
        turn: The messages of the turn.
        synced: The digest of the last update.
        taken: What the thread imported from histories.
    """
    session = session_of(config)
    whole = [*before, *turn]
    done = digest_of(whole)
    wrote = Authorship(session, frozenset(message.id for message in taken if message.id))
    if synced == NEW if not before else synced == digest_of(before):
        stands = not before
        if before:
            newest: list[BaseMessage] = yield _newest(factory(SUPERVISOR, session), _NEWEST)
            stands = _stands(newest, branch_of(before, session, SUPERVISOR), wrote)
        if stands:
            for speaker in speakers:
                if told := branch_of(turn, session, speaker):
                    yield from _appended_once(factory(speaker, session), told)
            return done
    yield from synchronised(factory, speakers, config, whole, taken)
    return done


def _stands(newest: Sequence[BaseMessage], branch: Sequence[BaseMessage], wrote: Authorship) -> bool:
    """Return whether the supervisor's history, as far as the thread wrote it, ends like the branch."""
    if newest and not any(message.id for message in newest):
        count = len(branch[-2:])
        return _same(newest[len(newest) - count :], branch[-2:])
    ours = [
        message
        for before, message in zip([None, *newest], newest, strict=False)
        if wrote.answer_is_ours(SUPERVISOR, before, message)
    ]
    return _same(ours[-1:], branch[-1:])


def synchronised(
    factory: OpenHistory,
    speakers: Sequence[str],
    config: RunnableConfig,
    messages: Sequence[BaseMessage],
    taken: Iterable[BaseMessage] = (),
) -> Program[None]:
    """Make each speaker's history match the branch, in one step if the history supports it."""
    session = session_of(config)
    wrote = Authorship(session, frozenset(message.id for message in taken if message.id))
    for speaker in speakers:
        history = factory(speaker, session)
        stored: list[BaseMessage] = yield _newest(history, None)
        if speaker == SUPERVISOR:
            wrote = replace(wrote, asked=frozenset(m.id for m in stored if m.id and isinstance(m, HumanMessage)))
        branch = branch_of(messages, session, speaker)
        if getattr(history, "appends_once", False) and _is_of_others(stored, branch):
            wanted = [*stored, *branch]
        else:
            wanted = brought_up(stored, branch, speaker, wrote)
        if (most := getattr(history, "max_history", None)) is not None:
            wanted = wanted[-most:]
        if _same(stored, wanted):
            continue
        if _same(stored, wanted[: len(stored)]):
            yield _adding(history, wanted[len(stored) :])
        elif hasattr(history, "replace_messages"):
            yield _replacing(history, wanted)
        else:
            yield _clearing(history)
            if wanted:
                yield _adding(history, wanted)


def _appended_once(history: History, messages: Sequence[BaseMessage]) -> Program[None]:
    """Append messages, skipping those that an interrupted run has already appended."""
    if not getattr(history, "appends_once", False):
        messages = _missing((yield _reading(history)), messages)
    if messages:
        yield _adding(history, messages)


def _missing(stored: Sequence[BaseMessage], new: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the new messages that are not stored yet.

    If the history keeps no ids, messages at its end with equal text count as stored.
    """
    ids = {message.id for message in stored if message.id is not None}
    if ids or not stored:
        return [message for message in new if message.id not in ids]
    for overlap in range(min(len(stored), len(new)), 0, -1):
        if _same(stored[-overlap:], new[:overlap]):
            return list(new[overlap:])
    return list(new)


def _reading(history: Any) -> Doing:
    return Doing(lambda _: history.messages, lambda _: history.aget_messages())


def _newest(history: Any, count: int | None) -> Doing:
    if hasattr(history, "latest"):
        return Doing(lambda _: history.latest(count), lambda _: history.alatest(count))
    return _reading(history)


def _adding(history: Any, messages: Sequence[BaseMessage]) -> Doing:
    return Doing(lambda _: history.add_messages(messages), lambda _: history.aadd_messages(messages))


def _clearing(history: Any) -> Doing:
    return Doing(lambda _: history.clear(), lambda _: history.aclear())


def _replacing(history: Any, messages: Sequence[BaseMessage]) -> Doing:
    return Doing(lambda _: history.replace_messages(messages), lambda _: history.areplace_messages(messages))


State = Mapping[str, Any]


def taken_in(state: State) -> list[BaseMessage]:
    """Return all messages that the thread has imported from histories."""
    earlier = state.get("earlier") or {}
    groups = (earlier.get("groups") or {}).values()
    return [*(earlier.get("messages") or []), *(message for messages in groups for message in messages)]


def take_in_transcript(
    factory: OpenHistory, groups: Sequence[str], state: State, config: RunnableConfig, update: dict[str, Any]
) -> Program[None]:
    """Import the conversation of the session from before this thread started, with all speakers' parts.

    A thread that existed before and restarts from its beginning because of a fork does not import what it wrote
    itself.
    """
    if state.get("taken") or state.get("earlier") or len(state["messages"]) != 1:
        return
    transcript = yield from read(factory, SUPERVISOR, config)
    question = state["messages"][-1]
    found = exchanges(transcript)
    told = [exchange for exchange in found if exchange[0].id != question.id]
    update["taken"] = [SUPERVISOR]
    if transcript and not (yield from _is_new(config)):
        session = session_of(config)
        told = [exchange for exchange in told if not _is_the_threads(exchange, session, SUPERVISOR)]
    elif len(told) == len(found):
        update["synced"] = NEW
    if not told:
        return
    own: dict[str, list[Exchange]] = {}
    for group in groups:
        own[group] = exchanges((yield from read(factory, group, config)))
    known = {_key(exchange) for exchange in told}
    update["earlier"] = {
        "messages": [message for exchange in told for message in _with_own_answers(exchange, own)],
        "groups": {
            group: [message for exchange in listed if _key(exchange) not in known for message in exchange]
            for group, listed in own.items()
        },
    }
    update["taken"] = [SUPERVISOR, *groups]


def take_in_groups(
    factory: OpenHistory, groups: Sequence[str], state: State, config: RunnableConfig, update: dict[str, Any]
) -> Program[None]:
    """Import what groups said outside of the thread, and what an older version kept only in histories."""
    taken = list(state.get("taken") or [])
    session = session_of(config)
    for group in groups:
        if group in taken:
            continue
        listed = exchanges((yield from read(factory, group, config)))
        taken.append(group)
        update["taken"] = taken
        finals = {_key(exchange): exchange[-1] for exchange in exchanges(state["messages"])}
        alone: list[BaseMessage] = []
        for exchange in listed:
            final = finals.get(_key(exchange))
            if final is not None:
                _attach(final, group, exchange[-1].text, update)
            elif not _is_the_threads(exchange, session, group):
                alone += exchange
        if alone:
            earlier = dict(update.get("earlier") or state.get("earlier") or {})
            earlier["groups"] = {**(earlier.get("groups") or {}), group: alone}
            update["earlier"] = earlier


def _attach(final: BaseMessage, group: str, text: str, update: dict[str, Any]) -> None:
    """Attach a group's own answer to a final answer of an older version."""
    changed = update.setdefault("messages", [])
    final = next((message for message in changed if message.id == final.id), final)
    if own_answer(final, group) is not None:
        return
    told = {**(final.response_metadata.get("answers") or {}), group: text}
    metadata = {**final.response_metadata, "answers": told}
    changed[:] = [message for message in changed if message.id != final.id]
    changed.append(final.model_copy(update={"response_metadata": metadata}))


def _with_own_answers(exchange: Exchange, own: Mapping[str, Sequence[Exchange]]) -> Exchange:
    answers = {
        group: found[-1].text for group, listed in own.items() for found in listed if _key(found) == _key(exchange)
    }
    final = exchange[-1]
    answers = {group: text for group, text in answers.items() if own_answer(final, group) != text}
    if not answers:
        return exchange
    return [*exchange[:-1], final.model_copy(update={"response_metadata": {"answers": answers}})]


def _is_the_threads(exchange: Exchange, session: str, speaker: str) -> bool:
    question, answer = exchange[0], exchange[-1]
    if not isinstance(answer, AIMessage):
        return False
    if is_written_by(session, speaker, answer):
        return True
    return answer.id is not None and answer.id == old_answer_id(question.id, speaker)


def _is_new(config: RunnableConfig) -> Program[bool]:
    """Return whether this run created its thread."""
    place = config.get("configurable", {})
    saver = place.get("__pregel_checkpointer")
    if saver is None or isinstance(saver, bool):
        return True
    if int((config.get("metadata") or {}).get("langgraph_step", 1)) > 1:
        return False
    namespace = str(place.get("checkpoint_ns", "")).rpartition("|")[0]
    where: RunnableConfig = {"configurable": {"thread_id": place.get("thread_id"), "checkpoint_ns": namespace}}
    head = yield Doing(lambda _: saver.get_tuple(where), lambda _: saver.aget_tuple(where))
    return head is None or int(head.metadata.get("step", 0)) <= 0


def _key(exchange: Exchange) -> str:
    """Return a key for an exchange: its question's id, or its text if the history keeps no ids."""
    question = exchange[0]
    return question.id or f"text:{question.text}"
