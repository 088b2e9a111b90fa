"""Which run has a thread: for a while, so that one that died keeps nobody out for long."""

from __future__ import annotations

from dataclasses import dataclass

from ecowas_lc.checkpoint.place import thread_id_of
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import Op, call, load_script
from ecowas_lc.storage.server import Server

_LEASE = load_script("thread_lease")


def hold_op(keys: Keys, thread_id: str, holder: str, seconds: float) -> Op[bool]:
    """Take a thread for a holder, or renew its time; return whether the holder has it now."""
    if not holder or seconds <= 0:
        raise InvalidInputError("A thread is held by somebody with a name, for more than 0 seconds.")
    [taken] = yield (call(_LEASE, (_key(keys, thread_id),), "take", holder, max(1, round(1000 * seconds))),)
    return bool(taken)


def release_op(keys: Keys, thread_id: str, holder: str) -> Op[None]:
    """Let go of a thread, where the holder has it."""
    yield (call(_LEASE, (_key(keys, thread_id),), "drop", holder, 0),)


def _key(keys: Keys, thread_id: str) -> bytes:
    return keys.thread(thread_id) + b":run"


@dataclass(frozen=True, slots=True)
class ThreadLeases:
    """Threads taken for a run of yours.

    Programs that ask first run a thread one after the other, in whatever process they are. It keeps nobody from
    reading or writing a thread who does not ask.
    """

    server: Server
    keys: Keys

    def hold(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Take a thread, or renew the time that you have it.

        Args:
            thread_id: the thread.
            holder: a name of your run that no other has.
            seconds: how long the thread is yours unless you renew it: what a killed process leaves behind.

        Returns:
            Whether it is yours.
        """
        return self.server.run(hold_op(self.keys, thread_id_of(thread_id), holder, seconds))

    async def ahold(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Take a thread: see :meth:`hold`."""
        return await self.server.arun(hold_op(self.keys, thread_id_of(thread_id), holder, seconds))

    def release(self, thread_id: str, holder: str) -> None:
        """Let others have the thread; one that is not the holder's stays as it is."""
        self.server.run(release_op(self.keys, thread_id_of(thread_id), holder))

    async def arelease(self, thread_id: str, holder: str) -> None:
        """Let others have the thread: see :meth:`release`."""
        await self.server.arun(release_op(self.keys, thread_id_of(thread_id), holder))
