"""An agent's state: on the server, and in memory for as long as that can't be used."""

from __future__ import annotations

import threading
from typing import Any

from ecowas_lc.agents.keeping import Keeping
from ecowas_lc.agents.link import OUTAGES
from ecowas_lc.memory.documents import from_json, to_json
from ecowas_lc.supervisor.programs import Doing, Program


class KnownState:
    """An agent's state as JSON as far as this process knows, and whether the server lacks it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text: bytes | None = None
        self._waits = False

    def change(self, text: bytes) -> None:
        """Take a new state, not on the server yet."""
        with self._lock:
            self._text, self._waits = text, True

    def stored(self, text: bytes) -> None:
        """Take note that the server has this state."""
        with self._lock:
            self._waits = self._waits and self._text != text

    def learn(self, value: Any) -> None:
        """Take what the server has, unless a newer state waits for it."""
        with self._lock:
            if not self._waits:
                self._text = None if value is None else to_json(value, "state")

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
        if (text := self._known.waiting) is not None:
            self._keeping.memory.save_agent_state(self._agent_id, from_json(text, b"state"), self._keeping.ttl)
            self._known.stored(text)
