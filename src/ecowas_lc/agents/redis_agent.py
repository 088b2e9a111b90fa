"""An agent whose session and state are kept in Redis, and in memory while Redis is unavailable."""

from __future__ import annotations

import time
from typing import Any

from langchain_core.language_models import BaseChatModel

from ecowas_lc import forks
from ecowas_lc.agents.base_agent import BaseAgent
from ecowas_lc.agents.outage import OUTAGES
from ecowas_lc.agents.transcript import Keeping
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.memory.histories import cleared_since_op
from ecowas_lc.memory.json_values import check_ttl, from_json, to_json
from ecowas_lc.settings import Settings


class KnownState:
    """An agent's state as JSON, as known to this process, and whether the server still lacks it."""

    def __init__(self) -> None:
        self._lock = forks.Lock()
        self._text: bytes | None = None
        self._waits = False
        self._at = time.monotonic()
        forks.register(self)

    def forget_parent(self) -> None:
        """Discard the waiting state after a fork: the parent stores it."""
        self._waits = False

    def change(self, text: bytes) -> None:
        """Set a new state that is not on the server yet."""
        with self._lock:
            self._text, self._waits, self._at = text, True, time.monotonic()

    def stored(self, text: bytes) -> None:
        """Note that the server has this state."""
        with self._lock:
            self._waits = self._waits and self._text != text

    def learn(self, value: Any) -> None:
        """Set the state to the server's, unless a newer one is waiting to be stored."""
        with self._lock:
            if not self._waits:
                self._text = None if value is None else to_json(value, "state")

    def forget(self, text: bytes) -> None:
        """Drop a waiting state, unless there is a newer one."""
        with self._lock:
            if self._text == text:
                self._text, self._waits = None, False

    @property
    def age(self) -> float:
        """Seconds since the state was saved."""
        return time.monotonic() - self._at

    @property
    def waiting(self) -> bytes | None:
        """The state that the server lacks, or ``None``."""
        return self._text if self._waits else None

    @property
    def value(self) -> Any:
        """The state, or ``None`` if there is none."""
        return None if self._text is None else from_json(self._text, b"state")


class StateKeeper:
    """Saves and loads one agent's state."""

    def __init__(self, keeping: Keeping, agent_id: str) -> None:
        self._keeping = keeping
        self._agent_id = agent_id
        self._key = ("state", agent_id)
        self._known = keeping.link.shared(self._key, KnownState) if keeping.link else KnownState()

    def save(self, state: Any) -> Program[None]:
        """Replace the saved state. The new one is kept even if the server becomes unavailable."""
        text = to_json(state, "state")
        self._known.change(text)
        link = self._keeping.link
        if link is None:
            return
        if link.is_up:
            try:
                yield from self._storing(text)
            except OUTAGES as error:
                link.failed(error)
        if self._known.waiting is not None:
            link.hold(self._key, self._replay)

    def load(self) -> Program[Any]:
        """Return the server's state, or the one known here while the server is unavailable."""
        link = self._keeping.link
        if link is not None and link.is_up:
            services = self._keeping.memory, self._keeping.async_memory
            try:
                if (text := self._known.waiting) is not None:
                    yield from self._storing(text)
                value = yield Doing(
                    lambda _: services[0].get_agent_state(self._agent_id),
                    lambda _: services[1].get_agent_state(self._agent_id),
                )
            except OUTAGES as error:
                link.failed(error)
            else:
                self._known.learn(value)
        return self._known.value

    def _storing(self, text: bytes) -> Program[None]:
        memory, async_memory = self._keeping.memory, self._keeping.async_memory
        value = from_json(text, b"state")
        yield Doing(
            lambda _: memory.save_agent_state(self._agent_id, value, self._keeping.ttl),
            lambda _: async_memory.save_agent_state(self._agent_id, value, self._keeping.ttl),
        )
        self._known.stored(text)

    def _replay(self) -> None:
        waiting, age = self._known.waiting, self._known.age
        if waiting is None:
            return
        programs = self._keeping.memory._programs
        since = self._keeping.memory.server.run(cleared_since_op(programs.keys.cleared_agent(self._agent_id)))
        if since is not None and since <= age:
            self._known.forget(waiting)  # all data of the agent was removed after this state was saved
        else:
            self._keeping.memory.save_agent_state(self._agent_id, from_json(waiting, b"state"), self._keeping.ttl)
            self._known.stored(waiting)


class RedisAgent(BaseAgent):
    """A :class:`BaseAgent` whose session outlives the process, and which can save a state.

    A second agent with the same ids, in any process, continues the conversation.

    Args:
        agent_id: A working group's id, such as ``"energy"``, or any other text.
        keep_history: Whether to keep the conversation. If false, ``use_redis`` applies to the state only.
        max_history: Number of messages to remember.
        session_id: The session to join. Generated if omitted.
        use_redis: Whether to use Redis. If false, everything is kept in this process.
        memory_ttl: Seconds after which an idle session and the state expire.
        prompt: The system prompt to use instead of the persona's own.
        model: A chat model, or the name of a model on Ollama. Defaults to the settings' model.
        memory: A memory service whose server, prefix and default time to live replace those of the settings.
        settings: The settings to use. Defaults to those of the environment.

    Raises:
        InvalidIdError, InvalidInputError, ConfigurationError, WrongTypeError, CorruptDataError: As for
            :class:`BaseAgent`.
    """

    def __init__(
        self,
        agent_id: str,
        session_id: str,
        keep_history: bool = True,
        max_history: int = 10,
        use_redis: bool = True,
        memory_ttl: int | None = None,
        *,
        prompt: str | None = None,
        model: BaseChatModel | str | None = None,
        memory: RedisMemoryService | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(
            agent_id,
            keep_history,
            max_history,
            session_id,
            use_redis,
            memory_ttl,
            prompt=prompt,
            model=model,
            memory=memory,
            settings=settings,
        )
        self.keep_history = keep_history  # BaseAgent turns it on with use_redis; here False wins
        self._state = StateKeeper(self._keeping, agent_id)

    def save_state(self, state: Any) -> None:
        """Save the agent's state, replacing the previous one. All sessions of the agent share it.

        The state expires after ``memory_ttl`` seconds, or the default time. While Redis is unavailable, the state
        is kept in memory, and the last one saved is stored later.

        Args:
            state: Any value that JSON can represent.

        Raises:
            NotSerializableError: JSON would not return the same value; nothing is saved.
        """
        run(self._state.save(state), {})

    async def asave_state(self, state: Any) -> None:
        """Do what :meth:`save_state` does, without blocking the event loop."""
        await arun(self._state.save(state), {})

    def load_state(self) -> Any:
        """Return the agent's state, or ``None`` if there is none."""
        return run(self._state.load(), {})

    async def aload_state(self) -> Any:
        """Return what :meth:`load_state` returns, without blocking the event loop."""
        return await arun(self._state.load(), {})

    def extend_session(self, ttl: int | None = None) -> bool:
        """Renew the time to live of the session's history and data.

        Args:
            ttl: Seconds to live from now. Defaults to ``memory_ttl``, or the default time.

        Returns:
            Whether there was anything to renew; also false while Redis is not used or unavailable.

        Raises:
            InvalidInputError: ``ttl`` is not a positive whole number of seconds.
        """
        return run(self._extended(ttl), {})

    async def aextend_session(self, ttl: int | None = None) -> bool:
        """Do what :meth:`extend_session` does, without blocking the event loop."""
        return await arun(self._extended(ttl), {})

    def _extended(self, ttl: int | None) -> Program[bool]:
        seconds = self._keeping.ttl if ttl is None else check_ttl(ttl)
        link = self._keeping.link
        if link is None or not link.is_up:
            return False
        memory, async_memory = self._keeping.memory, self._keeping.async_memory
        try:
            renewed: bool = yield Doing(
                lambda _: memory.extend_ttl(self.agent_id, self.session_id, seconds),
                lambda _: async_memory.extend_ttl(self.agent_id, self.session_id, seconds),
            )
        except OUTAGES as error:
            link.failed(error)
            return False
        return renewed
