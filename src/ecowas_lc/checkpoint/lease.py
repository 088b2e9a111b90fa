"""Leases on threads: a run holds a thread for a limited time, so a crashed run does not block others for long."""

from __future__ import annotations

from dataclasses import dataclass

from ecowas_lc.checkpoint.configs import thread_id_of
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import Op, call, load_script
from ecowas_lc.storage.server import Server

_LEASE = load_script("thread_lease")


def hold_op(keys: Keys, thread_id: str, holder: str, seconds: float) -> Op[bool]:
    """Lease a thread to a holder, or renew the lease; return whether the holder has it now."""
    if not holder or seconds <= 0:
        raise InvalidInputError("holder must not be empty, and seconds must be above 0.")
    [taken] = yield (call(_LEASE, (_key(keys, thread_id),), "take", holder, max(1, round(1000 * seconds))),)
    return bool(taken)


def release_op(keys: Keys, thread_id: str, holder: str) -> Op[None]:
    """Release a thread if the holder has it."""
    yield (call(_LEASE, (_key(keys, thread_id),), "drop", holder, 0),)


def _key(keys: Keys, thread_id: str) -> bytes:
    return keys.thread(thread_id) + b":run"


@dataclass(frozen=True, slots=True)
class ThreadLeases:
    """Leases on threads for runs.

    Programs that take a lease first run a thread one after the other, in any number of processes. A lease does not
    stop programs that read or write a thread without asking for it.
    """

    server: Server
    keys: Keys

    def hold(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Lease a thread, or renew your lease.

        Args:
            thread_id: The thread's id.
            holder: A name for your run that no other run has.
            seconds: How long the lease lasts unless you renew it. After a crash, others wait for this time at
                most.

        Returns:
            Whether you have the lease.
        """
        return self.server.run(hold_op(self.keys, thread_id_of(thread_id), holder, seconds))

    async def ahold(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Lease a thread, or renew your lease; see :meth:`hold`."""
        return await self.server.arun(hold_op(self.keys, thread_id_of(thread_id), holder, seconds))

    def release(self, thread_id: str, holder: str) -> None:
        """Release a thread; a thread that another holder has leased stays leased.

        Args:
            thread_id: The thread's id.
            holder: The name of your run.
        """
        self.server.run(release_op(self.keys, thread_id_of(thread_id), holder))

    async def arelease(self, thread_id: str, holder: str) -> None:
        """Release a thread; see :meth:`release`."""
        await self.server.arun(release_op(self.keys, thread_id_of(thread_id), holder))
