"""Which server keeps the conversations, and that it answers before anything else is begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecowas_lc.settings import Settings

if TYPE_CHECKING:
    from ecowas_lc.storage.server import Server


def chosen_server(settings: Settings, *, wanted: bool = True) -> Server | None:
    """Return the settings' server, which answers; ``None`` where the settings or the user want none.

    Raises:
        ConfigurationError: the settings' address can't be used.
        StorageError: the server does not answer, or refuses.
    """
    if not (wanted and settings.agent_use_redis_memory):
        return None
    return answering_server(settings)


def answering_server(settings: Settings) -> Server:
    """Return the settings' server, which answers.

    Raises:
        ConfigurationError, StorageError: see :func:`chosen_server`.
    """
    from ecowas_lc.memory.stats import ping_op
    from ecowas_lc.storage.keys import Keys
    from ecowas_lc.storage.server import Server

    server = Server.from_settings(settings)
    server.run(ping_op(Keys(settings.prefix)))
    return server
