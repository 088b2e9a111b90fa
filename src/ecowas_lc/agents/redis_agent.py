"""An agent whose session and state live in Redis, and in memory while the server can't be used."""

from __future__ import annotations

import time
from typing import Any

from langchain_core.language_models import BaseChatModel

from ecowas_lc import forks
from ecowas_lc.agents.base import BaseAgent
from ecowas_lc.agents.outage import OUTAGES
from ecowas_lc.agents.transcript import Keeping
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.memory.histories import cleared_since_op
from ecowas_lc.memory.json_values import check_ttl, from_json, to_json
from ecowas_lc.settings import Settings


class KnownState:
    """An agent's state as JSON as far as this process knows, and whether the server lacks it."""

    def __init__(self) -> None:
        self._lock = forks.Lock()
        self._text: bytes | None = None
        self._waits = False
        self._at = time.monotonic()
        forks.register(self)

    def forget_parent(self) -> None:
        """Leave what waits to the parent, which stores it."""
        self._waits = False

    def change(self, text: bytes) -> None:
        """Take a new state, not on the server yet."""
        with self._lock:
            self._text, self._waits, self._at = text, True, time.monotonic()

    def stored(self, text: bytes) -> None:
        """Take note that the server has this state."""
        with self._lock:
            self._waits = self._waits and self._text != text

    def learn(self, value: Any) -> None:
        """Take what the server has, unless a newer state waits for it."""
        with self._lock:
            if not self._waits:
                self._text = None if value is None else to_json(value, "state")

    def forget(self, text: bytes) -> None:
        """Give up a state that waits, unless there is a newer one."""
        with self._lock:
            if self._text == text:
                self._text, self._waits = None, False

    @property
    def age(self) -> float:
        """How many seconds ago the state was saved."""
        return time.monotonic() - self._at

    @property
    def waiting(self) -> bytes | None:
        """What the server lacks."""
        return self._text if self._waits else None

    @property
    def value(self) -> Any:
        """The state; ``None`` where there is none."""
        return None if self._text is None else from_json(self._text, b"state")


class StateKeeper:
    """Saves and loads one agent's state."""

    def __init__(self, keeping: Keeping, agent_id: str) -> None:
        self._keeping = keeping
        self._agent_id = agent_id
        self._key = ("state", agent_id)
        self._known = keeping.link.shared(self._key, KnownState) if keeping.link else KnownState()

    def save(self, state: Any) -> Program[None]:
        """Keep a state in the place of the one before; it is kept whatever becomes of the server meanwhile."""
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
        """The state: the server's, or while it can't be used the one known here."""
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
            self._known.forget(waiting)  # all of the agent was removed after the state was saved
        else:
            self._keeping.memory.save_agent_state(self._agent_id, from_json(waiting, b"state"), self._keeping.ttl)
            self._known.stored(waiting)


class RedisAgent(BaseAgent):
    """A :class:`BaseAgent` in a session that outlives the process, with a state of its own.

    A second agent with the same ids, in whatever process, goes on with the conversation. Without
    ``keep_history`` nothing of it is kept, and ``use_redis`` is for the state alone; without ``use_redis`` all
    of it is in this process. The other arguments and the errors are those of :class:`BaseAgent`.
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
        self.keep_history = keep_history  # here it is on unless refused, so that a refusal counts
        self._state = StateKeeper(self._keeping, agent_id)

    def save_state(self, state: Any) -> None:
        """Keep the agent's state, any JSON-able value, in the place of the one before; sessions share it.

        It lives ``memory_ttl`` seconds, or the default time. While Redis can't be used it is kept in memory, and
        the last one saved is stored later.

        Raises:
            NotSerializableError: a value that would not come back from JSON the same; nothing is kept of it.
        """
        run(self._state.save(state), {})

    async def asave_state(self, state: Any) -> None:
        """Do what :meth:`save_state` does, without blocking the event loop."""
        await arun(self._state.save(state), {})

    def load_state(self) -> Any:
        """The agent's state; ``None`` if there is none."""
        return run(self._state.load(), {})

    async def aload_state(self) -> Any:
        """What :meth:`load_state` gives, without blocking the event loop."""
        return await arun(self._state.load(), {})

    def extend_session(self, ttl: int | None = None) -> bool:
        """Renew the session's history and data for ``ttl`` seconds (default: ``memory_ttl``, or the default time).

        Whether there was anything to renew; ``False`` as well while Redis is not used or can't be.

        Raises:
            InvalidInputError: ``ttl`` is not a whole number of seconds from 1 on.
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
