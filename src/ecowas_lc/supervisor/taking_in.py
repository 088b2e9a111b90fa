"""What a thread imports from the session's histories: once, so that afterwards only the thread is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig

from ecowas_lc.effects import Doing, Program
from ecowas_lc.supervisor.histories import NEW, HistoryFactory, is_written_by, old_answer_id, read, session_of
from ecowas_lc.supervisor.state import SUPERVISOR, own_answer
from ecowas_lc.supervisor.trimming import Exchange, exchanges

State = Mapping[str, Any]


def taken_in(state: State) -> list[BaseMessage]:
    """Return all messages that the thread has imported from histories."""
    earlier = state.get("earlier") or {}
    groups = (earlier.get("groups") or {}).values()
    return [*(earlier.get("messages") or []), *(message for messages in groups for message in messages)]


def take_in_transcript(
    factory: HistoryFactory, groups: Sequence[str], state: State, config: RunnableConfig, update: dict[str, Any]
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
    factory: HistoryFactory, groups: Sequence[str], state: State, config: RunnableConfig, update: dict[str, Any]
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
