"""InMemorySaver whose calls each wait for a server: what any saver takes that stores somewhere else.

Its round trips do nothing: no redis-py, no script, one connection a call, a request of a checkpoint's size and a
reply of four bytes. What it takes more than InMemorySaver is the network and langgraph's threads, which start
anew while others wait. What RedisSaver takes more than this one is its own.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

from langgraph.checkpoint.memory import InMemorySaver

REQUEST_BYTES = 700  # as much as RedisSaver sends in one of a turn's eight calls
_REQUEST = b"*2\r\n$6\r\nSTRLEN\r\n$%d\r\n%b\r\n" % (REQUEST_BYTES, b"k" * REQUEST_BYTES)
_REPLY = b":0\r\n"


class RoundTripSaver(InMemorySaver):
    """InMemorySaver with one round trip to the server at ``url`` for each read and write."""

    def __init__(self, url: str) -> None:
        super().__init__()
        parts = urlsplit(url)
        self._address = parts.hostname or "127.0.0.1", parts.port or 6379
        self._idle: list[socket.socket] = []
        self._idle_streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def _round_trip(self) -> None:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = socket.create_connection(self._address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_REQUEST)
        assert connection.recv(len(_REPLY)) == _REPLY
        self._idle.append(connection)

    async def _around_trip(self) -> None:
        reader, writer = self._idle_streams.pop() if self._idle_streams else await self._connected()
        writer.write(_REQUEST)
        assert await reader.readexactly(len(_REPLY)) == _REPLY
        self._idle_streams.append((reader, writer))

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._address)

    def get_tuple(self, config: Any) -> Any:
        self._round_trip()
        return super().get_tuple(config)

    def put(self, *arguments: Any) -> Any:
        self._round_trip()
        return super().put(*arguments)

    def put_writes(self, *arguments: Any) -> None:
        self._round_trip()
        super().put_writes(*arguments)

    async def aget_tuple(self, config: Any) -> Any:
        await self._around_trip()
        return super().get_tuple(config)

    async def aput(self, *arguments: Any) -> Any:
        await self._around_trip()
        return super().put(*arguments)

    async def aput_writes(self, *arguments: Any) -> None:
        await self._around_trip()
        super().put_writes(*arguments)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()

    async def aclose(self) -> None:
        for _, writer in self._idle_streams:
            writer.close()
            await writer.wait_closed()
