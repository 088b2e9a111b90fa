"""InMemorySaver that also sends RedisSaver's commands: the time if encoding, decoding and comparing cost nothing.

A thread's commands are recorded once, from RedisSaver, and repeated for other threads under their ids. The
server does the same work, but the client only replaces the id, sends and parses. It uses plain sockets in threads,
and one connection for all tasks in asyncio, without redis-py, retries, timeouts and checks. What RedisSaver takes
more than this is its own; what this takes more than InMemorySaver is the server, the network and langgraph's
threads.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import hiredis
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.storage.fast_path import DirectClient

Recorded = list[tuple[list[Any], list[int]]]
"""The commands of one thread, each with the places of the words that contain the thread's id."""

_RECORDING = b"thread-that-is-recorded"
_NOTHING: Any = object()
_recorded: dict[str, Recorded] = {}
_script: Recorded = []


def rehearse(url: str, name: str, work: Callable[[Any, str], object]) -> None:
    """Make the next threads repeat the commands of ``work(saver, thread_id)``, which runs once for each name."""
    global _script  # noqa: PLW0603 - a worker does one task at a time
    if name not in _recorded:
        _recorded[name] = _record(url, work)
    _script = _recorded[name]


def _record(url: str, work: Callable[[Any, str], object]) -> Recorded:
    commands: Recorded = []
    lock = threading.Lock()
    thread = _RECORDING.decode()

    def recording(client: Any, *words: Any, **options: Any) -> Any:
        raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        with lock:
            commands.append((raw, [place for place, word in enumerate(raw) if _RECORDING in word]))
        return execute(client, *words, **options)

    execute = DirectClient.execute_command
    with RedisSaver.from_url(url) as saver:
        DirectClient.execute_command = recording  # type: ignore[method-assign]
        try:
            work(saver, thread)
        finally:
            DirectClient.execute_command = execute  # type: ignore[method-assign]
        saver.delete_thread(thread)
    return commands


class ReplayingSaver(InMemorySaver):
    """InMemorySaver each of whose calls also sends a command of RedisSaver to the server at ``url``."""

    def __init__(self, url: str) -> None:
        super().__init__()
        parts = urlsplit(url)
        self._address = parts.hostname or "127.0.0.1", parts.port or 6379
        self._idle: list[tuple[socket.socket, Any]] = []
        self._line: _Line | None = None
        self._sent: dict[str, int] = {}  # commands by thread
        self._real = RedisSaver.from_url(url)

    def _next(self, config: Any) -> bytes:
        thread = config["configurable"]["thread_id"]
        number = self._sent.get(thread, 0)
        self._sent[thread] = number + 1
        words, places = _script[number]
        if places:
            words, own = words.copy(), thread.encode()
            for place in places:
                words[place] = words[place].replace(_RECORDING, own)
        return hiredis.pack_command(tuple(words))

    def _exchange(self, config: Any) -> None:
        try:
            connection, reader = self._idle.pop()
        except IndexError:
            connection = socket.create_connection(self._address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = hiredis.Reader(notEnoughData=_NOTHING)
        connection.sendall(self._next(config))
        while reader.gets() is _NOTHING:
            reader.feed(connection.recv(65_536))
        self._idle.append((connection, reader))

    async def _aexchange(self, config: Any) -> None:
        assert self._line is not None
        await self._line.ask(self._next(config))

    async def connect(self) -> None:
        """Open the connection that all tasks share."""
        loop = asyncio.get_running_loop()
        _, self._line = await loop.create_connection(_Line, *self._address)

    def get_tuple(self, config: Any) -> Any:
        self._exchange(config)
        return super().get_tuple(config)

    def put(self, config: Any, *arguments: Any) -> Any:
        self._exchange(config)
        return super().put(config, *arguments)

    def put_writes(self, config: Any, *arguments: Any) -> None:
        self._exchange(config)
        super().put_writes(config, *arguments)

    def delete_thread(self, thread_id: str) -> None:
        super().delete_thread(thread_id)
        self._sent.pop(thread_id, None)
        self._real.delete_thread(thread_id)

    async def aget_tuple(self, config: Any) -> Any:
        await self._aexchange(config)
        return super().get_tuple(config)

    async def aput(self, config: Any, *arguments: Any) -> Any:
        await self._aexchange(config)
        return super().put(config, *arguments)

    async def aput_writes(self, config: Any, *arguments: Any) -> None:
        await self._aexchange(config)
        super().put_writes(config, *arguments)

    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.delete_thread, thread_id)

    def close(self) -> None:
        """Close all connections."""
        self._real.close()
        for connection, _ in self._idle:
            connection.close()
        if self._line is not None:
            self._line.transport.close()


class _Line(asyncio.Protocol):
    """One connection; replies come in the order of the commands."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._waiting: deque[asyncio.Future[Any]] = deque()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, command: bytes) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.transport.write(command)
        return future

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not _NOTHING:
            self._waiting.popleft().set_result(reply)
