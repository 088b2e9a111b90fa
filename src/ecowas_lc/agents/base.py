"""An agent that answers and remembers; its persona and its model follow from its id."""

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
from ecowas_lc.effects import Program, arun, run
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.llm import chat_model, make_chat_model, named_errors, reasoning_apart
from ecowas_lc.llm.tokens import count_tokens
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.supervisor.answers import cut_mark, empty_answer
from ecowas_lc.supervisor.concurrency import Slots
from ecowas_lc.supervisor.context import Context
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
    """The working group with this id; else the supervisor; else an assistant. ``prompt`` replaces its own.

    Raises:
        InvalidInputError: ``prompt`` is blank.
    """
    if prompt is not None and (not isinstance(prompt, str) or not prompt.strip()):
        raise InvalidInputError("The prompt of an agent is empty. Say who it is, or leave prompt= out.")
    group = next((group for group in default_groups() if group.id == agent_id), None)
    if group is not None:
        return Persona(group.name, prompt or group.prompt)
    if agent_id == SUPERVISOR:
        return Persona("Supervisor", prompt or supervisor_prompt(default_groups()))
    return Persona(agent_id, prompt or _assistant_prompt(agent_id))


def model_of(model: BaseChatModel | str | None, settings: Settings) -> BaseChatModel:
    """A chat model as it is, or the one on Ollama with this name (``None``: the settings').

    Raises:
        ConfigurationError: it is not a chat model, or its name is empty.
    """
    if model is None:
        return make_chat_model(settings)
    if isinstance(model, str) and model.strip():
        return make_chat_model(settings, model=model)
    return chat_model(model)


def context_of(model: BaseChatModel) -> Context:
    """What is needed to speak with a model alone: its window, and prompts that fit."""
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
    """An agent that answers as one of the working groups (or as whom ``prompt`` says), in one session.

    ``agent_id`` is a group's id, such as ``"energy"``, or any other text. With ``keep_history`` it remembers
    the last ``max_history`` messages of the session; without, each question stands for itself. ``session_id``
    is made up where none is given.

    With ``use_redis`` the history is kept on the server that the settings name, whatever ``keep_history``
    says: it is loaded on creation, stored after each answer, and renewed for ``memory_ttl`` seconds each time
    (default: at least the settings' ``REDIS_MEMORY_TTL``). An exchange is stored when it is complete; a question
    that the model could not answer leaves no trace. While Redis can't be used the agent goes on in memory: the log
    has one warning, ``get_session_info()["backend"]`` is ``"memory"``, and what was said meanwhile is stored, once
    and in order, when Redis answers again, whether or not the agent still exists by then. Only the end of the
    process loses it.

    ``model`` is a chat model or a model's name on Ollama (default: the settings' model), ``memory`` a memory
    service whose server, prefix and default time to live are used instead of the settings'. Creating an agent
    reads from Redis, blocking: in asyncio code, create it in a thread.

    Raises:
        InvalidIdError: an id that is empty or not text.
        InvalidInputError: ``max_history`` or ``memory_ttl`` is not a whole number from 1 on, or ``prompt`` is
            blank.
        ConfigurationError: the settings or an argument can't be used.
        WrongTypeError, CorruptDataError: another program's data is where the history should be.
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
        if use_redis:
            run(self._transcript.read(), {})

    @cached_property
    def _context(self) -> Context:
        return context_of(self._model)

    @property
    def name(self) -> str:
        """The agent's name: its group's, or its id."""
        return self._persona.name

    @property
    def history(self) -> list[dict[str, Any]]:
        """The last ``max_history`` messages as ``{"role": …, "content": …}``, oldest first."""
        return as_dicts(run(self._remembered(), {}))

    async def aget_history(self) -> list[dict[str, Any]]:
        """What :attr:`history` is, without blocking the event loop."""
        return as_dicts(await arun(self._remembered(), {}))

    def _remembered(self) -> Program[list[BaseMessage]]:
        return (yield from self._transcript.read()) if self.keep_history else []

    def chat(self, prompt: str) -> str:
        """The answer to ``prompt``; ``[…]`` ends one that the model had no room to end.

        Raises:
            EmptyQuestionError: there is no text in it.
            ModelError: the model could not answer; the message says what mends it.
        """
        return "".join(self.stream(prompt))

    async def achat(self, prompt: str) -> str:
        """What :meth:`chat` gives, without blocking the event loop."""
        return "".join([text async for text in self.astream(prompt)])

    def stream(self, prompt: str) -> Iterator[str]:
        """The answer to ``prompt`` as the model writes it. One that is not heard to its end is not remembered.

        Raises:
            EmptyQuestionError, ModelError: see :meth:`chat`.
        """
        return self._stream(checked_question(prompt))

    def astream(self, prompt: str) -> AsyncIterator[str]:
        """What :meth:`stream` gives, without blocking the event loop."""
        return self._astream(checked_question(prompt))

    def _stream(self, text: str) -> Iterator[str]:
        exchange = run(self._asked(text), {})
        with named_errors(self._model):
            for chunk in reasoning_apart(exchange.model).stream(exchange.prompt):
                if heard := exchange.hear(chunk):
                    yield heard
        if mark := exchange.hear_end():
            yield mark
        run(self._answered(exchange), {})

    async def _astream(self, text: str) -> AsyncGenerator[str]:
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
        """Forget the session's history, on the server too."""
        run(self._forget(), {})

    async def areset_history(self) -> None:
        """Do what :meth:`reset_history` does, without blocking the event loop."""
        await arun(self._forget(), {})

    def _forget(self) -> Program[None]:
        yield from self._transcript.clear()

    def get_session_info(self) -> dict[str, Any]:
        """What is known of the session.

        ``agent_id``, ``session_id``; ``history_length`` in messages; ``backend``: ``"redis"``, or ``"memory"``
        where Redis is not used or can't be; ``ttl``: the seconds that the history has left (``None``: it does not
        expire, or does not exist); ``first_activity`` and ``last_activity`` as ISO 8601 in UTC, or ``None``.
        """
        return run(self._session_info(), {})

    async def aget_session_info(self) -> dict[str, Any]:
        """What :meth:`get_session_info` gives, without blocking the event loop."""
        return await arun(self._session_info(), {})

    def _session_info(self) -> Program[dict[str, Any]]:
        info = yield from self._transcript.info()
        return {"agent_id": self.agent_id, "session_id": self.session_id, **info}

    def get_agent_info(self) -> dict[str, Any]:
        """Who the agent is, how it was made, and what :meth:`get_session_info` says."""
        return run(self._agent_info(), {})

    async def aget_agent_info(self) -> dict[str, Any]:
        """What :meth:`get_agent_info` gives, without blocking the event loop."""
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
    """A question on its way to becoming an answer."""

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
