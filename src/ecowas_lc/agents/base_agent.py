"""The base agent: it answers and remembers; its id determines its persona and its model."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage

from ecowas_lc.agents.transcript import Keeping, as_dicts
from ecowas_lc.agents.turn import AskedOrRouted, Hearing
from ecowas_lc.documents.follow_up import completed_questions
from ecowas_lc.effects import Program, arun, run
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.llm import chat_model, make_chat_model, named_errors
from ecowas_lc.llm.answer_checks import cut_mark, empty_answer
from ecowas_lc.llm.reasoning_apart import reasoning_apart
from ecowas_lc.llm.tokens import count_tokens
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.supervisor.concurrency import Slots
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.grounding import Grounding, Readable, cited_message, grounded_report
from ecowas_lc.supervisor.prompts import supervisor_prompt
from ecowas_lc.supervisor.routing.decision import checked_question
from ecowas_lc.supervisor.state import SUPERVISOR
from ecowas_lc.supervisor.trimming import exchanges
from ecowas_lc.twg import default_groups, summit_description


@dataclass(frozen=True, slots=True)
class Persona:
    """A speaker's name and system prompt."""

    name: str
    prompt: str


def persona_of(agent_id: str, prompt: str | None = None) -> Persona:
    """Return the persona of a working group, of the supervisor, or of a plain assistant.

    Args:
        agent_id: A working group's id, ``"supervisor"``, or any other text for a plain assistant.
        prompt: A system prompt that replaces the persona's own.

    Raises:
        InvalidInputError: ``prompt`` is blank.
    """
    if prompt is not None and (not isinstance(prompt, str) or not prompt.strip()):
        raise InvalidInputError("The prompt of an agent is empty. Describe its role, or leave prompt= out.")
    group = next((group for group in default_groups() if group.id == agent_id), None)
    if group is not None:
        return Persona(group.name, prompt or group.prompt)
    if agent_id == SUPERVISOR:
        return Persona("Supervisor", prompt or supervisor_prompt(default_groups()))
    return Persona(agent_id, prompt or _assistant_prompt(agent_id))


def model_of(model: BaseChatModel | str | None, settings: Settings) -> BaseChatModel:
    """Return the given chat model, or the Ollama model with this name (``None``: the settings' model).

    Raises:
        ConfigurationError: ``model`` is not a chat model, or its name is empty.
    """
    if model is None:
        return make_chat_model(settings)
    if isinstance(model, str) and model.strip():
        return make_chat_model(settings, model=model)
    return chat_model(model)


def context_of(model: BaseChatModel) -> Context:
    """Return the context for talking to a model without groups: its window, and prompts that fit."""
    return Context(
        model=model,
        groups={},
        router=AskedOrRouted(None),
        tools={},
        history_factory=None,
        held=frozenset(),
        slots=Slots(None),
        group_timeout=None,
        max_hops=1,
        max_repeats=1,
        counter=count_tokens,
    )


def _assistant_prompt(agent_id: str) -> str:
    return (
        f"You are {agent_id}, an assistant to those who prepare a summit.\n\n{summit_description()}\n\n"
        "Answer briefly and in the language of the question. Say when you do not know; never invent "
        "commitments, figures or declarations of member states."
    )


class BaseAgent:
    """An agent that answers as one of the working groups, or in a persona of your own, within one session.

    With ``use_redis=True``, the history is loaded from Redis when the agent is created, stored after each answer,
    and its time to live is renewed each time. An exchange is stored only when it is complete: a question that the
    model could not answer leaves no trace. While Redis is unavailable, the agent keeps working from memory: it
    logs one warning, and ``get_session_info()["backend"]`` is ``"memory"``. When Redis answers again, the backlog
    is written once and in order, even if the agent no longer exists. Only the end of the process loses the
    backlog.

    Creating an agent with ``use_redis=True`` reads from Redis and blocks: in asyncio code, create it in a thread.

    Args:
        agent_id: A working group's id, such as ``"energy"``, or any other text.
        keep_history: Whether to remember the session's last ``max_history`` messages. If false, each question
            is answered without the earlier ones. Always on with ``use_redis=True``.
        max_history: Number of messages to remember.
        session_id: The session to join. Generated if omitted.
        use_redis: Whether to keep the history on the Redis server that the settings name.
        memory_ttl: Seconds after which an idle history expires. Default: ``REDIS_MEMORY_TTL``, which never
            shortens a longer remaining time.
        prompt: The system prompt to use instead of the persona's own.
        model: A chat model, or the name of a model on Ollama. Defaults to the settings' model.
        memory: A memory service whose server, prefix and default time to live replace those of the settings.
        settings: The settings to use. Defaults to those of the environment.
        documents: :class:`~ecowas_lc.Documents` or a LangChain retriever that answers are based on.

    Raises:
        InvalidIdError: An id is empty or not text.
        InvalidInputError: ``max_history`` or ``memory_ttl`` is not a positive whole number, or ``prompt`` is
            blank.
        ConfigurationError: The settings or an argument are not usable.
        WrongTypeError, CorruptDataError: The key for the history holds data of another program.
    """

    def __init__(
        self,
        agent_id: str,
        keep_history: bool = False,
        max_history: int = 10,
        session_id: str | None = None,
        use_redis: bool = False,
        memory_ttl: int | None = None,
        *,
        prompt: str | None = None,
        model: BaseChatModel | str | None = None,
        memory: RedisMemoryService | None = None,
        settings: Settings | None = None,
        documents: Readable | None = None,
    ) -> None:
        self.settings = settings or get_settings()
        self.agent_id = agent_id
        self.session_id = uuid.uuid4().hex if session_id is None else session_id
        self.keep_history = keep_history or use_redis
        self.max_history = max_history
        self.use_redis = use_redis
        self._keeping = Keeping(self.settings, use_redis=use_redis, ttl=memory_ttl, memory=memory)
        self._transcript = self._keeping.transcript(agent_id, self.session_id, max_history)
        self._persona = persona_of(agent_id, prompt)
        self._model = model_of(model, self.settings)
        self._grounding = None if documents is None else Grounding(documents, "strict")
        if use_redis:
            run(self._transcript.read(), {})

    @cached_property
    def _context(self) -> Context:
        return context_of(self._model)

    @property
    def name(self) -> str:
        """The agent's name: that of its group, or its id."""
        return self._persona.name

    @property
    def history(self) -> list[dict[str, Any]]:
        """The last ``max_history`` messages as ``{"role": …, "content": …}``, oldest first."""
        return as_dicts(run(self._remembered(), {}))

    async def aget_history(self) -> list[dict[str, Any]]:
        """Return what :attr:`history` returns, without blocking the event loop."""
        return as_dicts(await arun(self._remembered(), {}))

    def _remembered(self) -> Program[list[BaseMessage]]:
        return (yield from self._transcript.read()) if self.keep_history else []

    def chat(self, prompt: str) -> str:
        """Return the answer to a question.

        Args:
            prompt: The question.

        Returns:
            The answer. It ends with ``[…]`` if the model reached its token limit.

        Raises:
            EmptyQuestionError: ``prompt`` contains no text.
            ModelError: The model could not answer; the message says how to fix it.
        """
        return "".join(self.stream(prompt))

    async def achat(self, prompt: str) -> str:
        """Return what :meth:`chat` returns, without blocking the event loop."""
        return "".join([text async for text in self.astream(prompt)])

    def stream(self, prompt: str) -> Iterator[str]:
        """Stream the answer to a question as the model writes it.

        The exchange is remembered only if you read the stream to its end.

        Args:
            prompt: The question.

        Returns:
            The pieces of the answer.

        Raises:
            EmptyQuestionError, ModelError: As for :meth:`chat`.
        """
        return self._stream(checked_question(prompt))

    def astream(self, prompt: str) -> AsyncIterator[str]:
        """Stream what :meth:`stream` streams, without blocking the event loop."""
        return self._astream(checked_question(prompt))

    def _stream(self, text: str) -> Iterator[str]:
        if self._grounding is not None:
            yield run(self._from_documents(self._grounding, text), {})
            return
        exchange = run(self._asked(text), {})
        with named_errors(self._model):
            for chunk in reasoning_apart(exchange.model).stream(exchange.prompt):
                if heard := exchange.hear(chunk):
                    yield heard
        if mark := exchange.hear_end():
            yield mark
        run(self._answered(exchange), {})

    async def _astream(self, text: str) -> AsyncGenerator[str]:
        if self._grounding is not None:
            yield await arun(self._from_documents(self._grounding, text), {})
            return
        exchange = await arun(self._asked(text), {})
        with named_errors(self._model):
            stream: Any = reasoning_apart(exchange.model).astream(exchange.prompt)
            async with aclosing(stream):
                async for chunk in stream:
                    if heard := exchange.hear(chunk):
                        yield heard
        if mark := exchange.hear_end():
            yield mark
        await arun(self._answered(exchange), {})

    def _from_documents(self, grounding: Grounding, text: str) -> Program[str]:
        question = HumanMessage(text, id=str(uuid.uuid4()))
        asked = [one.text for one in (yield from self._remembered()) if isinstance(one, HumanMessage)]
        in_full = completed_questions([*asked, text])[-1]
        report = yield from grounded_report(
            self._context, grounding, self.agent_id, self._persona.prompt, question, quiet=True, in_full=in_full
        )
        if self.keep_history:
            answer = cited_message(report, report["text"], id=report["message_id"], name=self.agent_id)
            yield from self._transcript.append([question, answer])
        return report["text"]

    def _asked(self, text: str) -> Program[_Exchange]:
        question = HumanMessage(text, id=str(uuid.uuid4()))
        past = yield from self._remembered()
        window = yield from self._context.window()
        prompt = self._context.prompt(window, self._persona.prompt, [question], exchanges(past))
        return _Exchange(question, self._context.speaker(window), prompt)

    def _answered(self, exchange: _Exchange) -> Program[None]:
        text = exchange.hearing.text
        if not text:
            raise empty_answer(f"The agent {self.agent_id}", exchange.whole)
        if isinstance(exchange.whole, AIMessageChunk):
            self._context.learn(exchange.prompt, AIMessage(text, usage_metadata=exchange.whole.usage_metadata))
        if self.keep_history:
            answer = AIMessage(text, id=str(uuid.uuid4()), name=self.agent_id)
            yield from self._transcript.append([exchange.question, answer])

    def reset_history(self) -> None:
        """Delete the session's history, including the copy in Redis."""
        run(self._forget(), {})

    async def areset_history(self) -> None:
        """Do what :meth:`reset_history` does, without blocking the event loop."""
        await arun(self._forget(), {})

    def _forget(self) -> Program[None]:
        yield from self._transcript.clear()

    def get_session_info(self) -> dict[str, Any]:
        """Return information about the session.

        Returns:
            ``agent_id`` and ``session_id``; ``history_length`` in messages; ``backend``: ``"redis"``, or
            ``"memory"`` if Redis is not used or unavailable; ``ttl``: seconds until the history expires, or
            ``None`` if it does not expire or does not exist; ``first_activity`` and ``last_activity`` as ISO 8601
            in UTC, or ``None``.
        """
        return run(self._session_info(), {})

    async def aget_session_info(self) -> dict[str, Any]:
        """Return what :meth:`get_session_info` returns, without blocking the event loop."""
        return await arun(self._session_info(), {})

    def _session_info(self) -> Program[dict[str, Any]]:
        info = yield from self._transcript.info()
        return {"agent_id": self.agent_id, "session_id": self.session_id, **info}

    def get_agent_info(self) -> dict[str, Any]:
        """Return the agent's name and options together with what :meth:`get_session_info` returns."""
        return run(self._agent_info(), {})

    async def aget_agent_info(self) -> dict[str, Any]:
        """Return what :meth:`get_agent_info` returns, without blocking the event loop."""
        return await arun(self._agent_info(), {})

    def _agent_info(self) -> Program[dict[str, Any]]:
        info = yield from self._session_info()
        return {
            "name": self.name,
            "model": str(getattr(self._model, "model", None) or type(self._model).__name__),
            "keep_history": self.keep_history,
            "max_history": self.max_history,
            "use_redis": self.use_redis,
            "memory_ttl": self._keeping.ttl,
            **info,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.agent_id!r}, session_id={self.session_id!r})"


@dataclass(slots=True)
class _Exchange:
    """A question that is being answered."""

    question: HumanMessage
    model: BaseChatModel
    prompt: list[BaseMessage]
    hearing: Hearing = field(default_factory=Hearing)
    whole: Any = None

    def hear(self, chunk: Any) -> str:
        self.whole = chunk if self.whole is None else self.whole + chunk
        return self.hearing.take(chunk.text)

    def hear_end(self) -> str:
        return self.hearing.take(cut_mark(self.whole))
