"""The service under load: open streams, questions a second, lost events, memory: ``python -m benchmarks.serving``.

One process serves on one core; the client has another one. A stub model answers at once, so that what is measured
is the service: its gate, its runs in Redis, the graph and its checkpoints, and the events to the readers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.fixtures.servers import running_server, wait_until

from benchmarks import part
from benchmarks.report import Bound, Report, Table, figure
from benchmarks.served import said
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.server import Server
from ecowas_lc.web.access import add_key_op
from ecowas_lc.web.principals import checked_principal

RATE, STREAMS = 15.0, 300
FIRST_EVENT_MS = 300.0
GROWTH = 1.1  # of the memory, from a third of the time to its end
LONGEST_SECONDS = 60.0


@dataclass
class Reader:
    """One question and what came of it."""

    question: str
    asked_at: float = 0.0
    first_at: float | None = None
    token_at: float | None = None
    done_at: float | None = None
    ids: list[tuple[int, int]] = field(default_factory=list)
    text: str = ""
    answer: str = ""
    kinds: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether each event came once, in order, and the answer is what the model said."""
        expected = said(self.question)
        once = self.kinds.count("answer") == self.kinds.count("done") == self.kinds.count("begun") == 1
        return once and self.ids == sorted(set(self.ids)) and self.text == self.answer == expected

    def take(self, kind: str, place: str, data: dict[str, object]) -> None:
        now = time.perf_counter()
        self.first_at = self.first_at or now
        self.kinds.append(kind)
        attempt, _, number = place.partition("-")
        self.ids.append((int(attempt), int(number)))
        if kind == "token":
            self.token_at = self.token_at or now
            self.text += str(data["text"])
        elif kind == "answer":
            self.answer = str(data["message"]["text"])  # type: ignore[index]
        elif kind == "done":
            self.done_at = now


@dataclass
class Client:
    """Asks over plain sockets, which cost the client's core little."""

    host: str
    port: int
    key: str

    async def ask(self, reader: Reader, session: str) -> None:
        """Ask and read the stream to its end."""
        body = json.dumps({"question": reader.question, "session": session}).encode()
        head = (
            f"POST /api/chat/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader.asked_at = time.perf_counter()
        stream, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(head.encode() + body)
            status = await stream.readline()
            assert b" 200 " in status, status + await stream.read(2000)
            while (await stream.readline()).strip():
                pass
            async for kind, place, data in _events(stream):
                reader.take(kind, place, data)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _events(stream: asyncio.StreamReader) -> AsyncIterator[tuple[str, str, dict[str, object]]]:
    text = ""
    while size := int((await stream.readline()).strip() or b"0", 16):
        text += (await stream.readexactly(size + 2))[:-2].decode()
        while "\n\n" in text:
            event, _, text = text.partition("\n\n")
            fields = dict(line.partition(": ")[::2] for line in event.splitlines() if not line.startswith(":"))
            if "data" in fields and "id" in fields:
                yield fields.get("event", "message"), fields["id"], json.loads(fields["data"])


@dataclass(frozen=True)
class Load:
    """What a rate did to the service."""

    rate: float
    first_ms: list[float]
    token_ms: list[float]
    lost: int

    def p(self, share: float) -> float:
        """Return a percentile of the time to the first event."""
        return _quantile(self.first_ms, share)


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] if ordered else float("inf")


async def asking(client: Client, rate: float, seconds: float, name: str) -> Load:
    """Ask at a rate that does not depend on the answers, and wait for all of them."""
    readers = [Reader(f"Which solar plants? {name}q{number}") for number in range(round(rate * seconds))]
    tasks: list[asyncio.Task[None]] = []
    begun = time.perf_counter()
    for number, reader in enumerate(readers):
        await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(client.ask(reader, f"{name}-{number}")))
    _, late = await asyncio.wait(tasks, timeout=LONGEST_SECONDS)
    for task in late:
        task.cancel()
    failed = sum(isinstance(each, BaseException) for each in await asyncio.gather(*tasks, return_exceptions=True))
    whole = [reader for reader in readers if reader.is_whole]
    assert failed <= len(readers) - len(whole)
    never = [1000 * LONGEST_SECONDS] * sum(reader.first_at is None for reader in readers)
    return Load(
        rate,
        [1000 * (each.first_at - each.asked_at) for each in readers if each.first_at] + never,
        [1000 * (each.token_at - each.asked_at) for each in readers if each.token_at],
        len(readers) - len(whole),
    )


@dataclass(frozen=True)
class Found:
    """What was measured: the loads, the memory, streams that lack something, the profile, and processor time.

    ``idle`` is in seconds a second, with the streams open and no questions; ``question_seconds`` for one question.
    """

    steady: Load
    steps: list[Load]
    memory: list[float]
    lost: int
    shares: dict[str, float]
    idle: float
    question_seconds: float


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def busy(pid: int, seconds: float) -> float:
    """The processor time that a process takes in a second."""
    before, since = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - since)


def memory_mb(pid: int) -> float:
    """The memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [each for each in status.splitlines() if each.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@contextmanager
def served(url: str, folder: Path, until: float, cpu: int | None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service in a process, and its address."""
    options = {"url": url, "folder": str(folder), "until": until, "cpu": cpu}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.served", json.dumps(options)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, (folder / "log").read_text()[-2000:]
        yield process, address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


async def profiled(process: subprocess.Popen[str], folder: Path) -> dict[str, float]:
    """End the profile that was begun, and give the shares of the time."""
    process.send_signal(signal.SIGUSR2)
    shares = folder / "shares"
    await asyncio.to_thread(wait_until, shares.exists, "the profile")
    found: dict[str, float] = json.loads(shares.read_text())
    shares.unlink()
    return found


async def loaded(
    client: Client,
    process: subprocess.Popen[str],
    options: part.Options,
    seconds: float,
    until: float,
    folder: Path,
) -> Found:
    """Put the load on, the steady one and then more and more."""
    slow = [Reader(f"Which plants are slow? s{number}") for number in range(options.streams)]
    streams = []
    for number, reader in enumerate(slow):
        streams.append(asyncio.create_task(client.ask(reader, f"slow-{number}")))
        await asyncio.sleep(0.05)
    deadline = time.monotonic() + LONGEST_SECONDS
    while not all(reader.first_at for reader in slow):
        if time.monotonic() > deadline or any(task.done() and task.exception() for task in streams):
            began = sum(reader.first_at is not None for reader in slow)
            raise SystemExit(f"Only {began} of {len(slow)} streams began within {LONGEST_SECONDS:.0f} s.")
        await asyncio.sleep(0.1)

    memory: list[float] = []
    idle = await busy(process.pid, seconds / 6)

    async def watch() -> None:
        while True:
            memory.append(memory_mb(process.pid))
            await asyncio.sleep(seconds / 30)

    watching = asyncio.create_task(watch())
    await asking(client, options.rate, seconds / 6, "warm")
    memory.clear()
    if options.no_ramp:
        process.send_signal(signal.SIGUSR1)
    spent, since = cpu_seconds(process.pid), time.monotonic()
    steady = await asking(client, options.rate, seconds, "steady")
    work = cpu_seconds(process.pid) - spent - idle * (time.monotonic() - since)
    watching.cancel()
    steps: list[Load] = []
    shares = await profiled(process, folder) if options.no_ramp else {}
    rate = options.rate
    while not options.no_ramp and time.time() < until - 2 * seconds / 3:
        rate *= 1.25
        process.send_signal(signal.SIGUSR1)
        steps.append(await asking(client, rate, seconds / 4, f"r{round(rate)}"))
        shares = await profiled(process, folder)
        if steps[-1].p(0.99) > FIRST_EVENT_MS:
            break
    await asyncio.wait(streams, timeout=max(1.0, until - time.time()) + LONGEST_SECONDS)
    lost = sum(not reader.is_whole for reader in slow)
    for task in streams:
        task.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    return Found(steady, steps, memory, lost, shares, idle, work / len(steady.first_ms))


def measure(options: part.Options) -> Report:
    """Serve, ask, and say what was reached."""
    seconds = options.seconds or (10.0 if options.quick else 40.0)
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with tempfile.TemporaryDirectory(prefix="ecowas-lc-bench-") as name, running_server("valkey") as redis:
        folder = Path(name)
        # the streams stay open until everything else has been measured
        until = time.time() + 0.05 * options.streams + seconds * (1.5 if options.no_ramp else 3.5) + 15
        server = Server.from_url(redis.url)
        key = server.run(add_key_op(Keys("bench"), checked_principal("bench", ["staff"], "bench", None)))
        server.close()
        with served(redis.url, folder, until, cpus[0] if len(cpus) > 1 else None) as (process, address):
            if len(cpus) > 1:
                os.sched_setaffinity(0, {cpus[1]})
            parts = urlsplit(address)
            client = Client(str(parts.hostname), int(parts.port or 0), key)
            found = asyncio.run(loaded(client, process, options, seconds, until, folder))
        if (folder / "serving.txt").exists():
            (part.RESULTS / "serving.txt").write_text((folder / "serving.txt").read_text(), encoding="utf-8")
    return _report(options, found)


def _report(options: part.Options, found: Found) -> Report:
    report = Report()
    steady, steps, memory, shares = found.steady, found.steps, found.memory, found.shares
    rows = [
        [
            f"{load.rate:.0f}",
            *(figure(load.p(share)) for share in (0.5, 0.95, 0.99)),
            figure(_quantile(load.token_ms, 0.99)),
            str(load.lost),
        ]
        for load in (steady, *steps)
    ]
    columns = [
        "questions a second",
        "first event, p50 ms",
        "p95",
        "p99",
        "first token, p99 ms",
        "incomplete answers",
    ]
    report.tables.append(Table(f"With {options.streams} open streams", columns, rows))
    report.tables.append(
        Table(
            "Processor time of the service",
            ["for", "milliseconds"],
            [
                ["a question, from the request to its last event", figure(1000 * found.question_seconds)],
                [f"{options.streams} open streams, each second", figure(1000 * found.idle)],
            ],
            "Counted by the kernel, so that it does not depend on what else runs.",
        )
    )
    good = [load.rate for load in (steady, *steps) if load.p(0.99) <= FIRST_EVENT_MS and not load.lost]
    if shares:
        highest = f"{max(good):.0f}" if good else f"below {steady.rate:.0f}"
        saturated = "" if (steps or [steady])[-1].p(0.99) > FIRST_EVENT_MS else " or more"
        total = sum(shares.values()) or 1.0
        report.tables.append(
            Table(
                f"Saturates at {highest} questions a second{saturated}: where the time goes",
                ["whose code", "share"],
                [
                    [whose, f"{100 * taken / total:.0f} %"]
                    for whose, taken in shares.items()
                    if taken > 0.01 * total
                ],
                "Sampled during the last row of the table above; the whole profile is in build/bench/serving.txt.",
            )
        )
    third = len(memory) // 3
    before, after = statistics.median(memory[third : 2 * third]), statistics.median(memory[2 * third :])
    report.bounds += [
        Bound(f"first event at {steady.rate:.0f} questions a second, p99", FIRST_EVENT_MS, steady.p(0.99), " ms"),
        Bound("answers and streams that lack an event, or have one twice", 0, steady.lost + found.lost),
        Bound("memory at the end against before", GROWTH, after / before, " ×"),
    ]
    return report


if __name__ == "__main__":
    arguments = part.parser(__doc__)
    arguments.add_argument("--streams", type=int, default=STREAMS, help=f"open streams (default {STREAMS})")
    arguments.add_argument("--rate", type=float, default=RATE, help=f"questions a second (default {RATE:.0f})")
    arguments.add_argument("--seconds", type=float, help="length of the steady part (default 60; 10 with --quick)")
    arguments.add_argument("--no-ramp", action="store_true", help="don't look for the rate at which it saturates")
    part.main(measure, arguments)
