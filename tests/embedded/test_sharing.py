"""All processes share one server while any of them uses it."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from ecowas_lc.embedded import server_status, start_server, stop_server, use_server
from tests.embedded.conftest import PROGRAM, Home
from tests.fixtures.servers import wait_until

Connect = Callable[[str], redis.Redis]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while its entry is read
        return False


def servers_in(data_dir: Path) -> set[int]:
    """The ids of all server processes of this directory."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            is_server = entry.name.isdigit() and (entry / "comm").read_text().startswith("valkey")
            if is_server and bytes(data_dir) in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
    return found


def test_twelve_processes_at_once_get_one_server(home: Home) -> None:
    """Twelve processes that start together all get the same server, and no other one runs."""
    users = [home.run(PROGRAM) for _ in range(12)]
    pids = {user.server()["pid"] for user in users}
    assert len(pids) == 1
    assert servers_in(home.data_dir) == pids
    assert home.status().users == 12


def test_stays_while_used_then_lingers(make_home: Callable[..., Home]) -> None:
    """The server stays for as long as a user lives, then for the linger time, then it ends."""
    home = make_home(linger_seconds=0.5)
    user = home.user()
    pid = user.server()["pid"]
    end = time.monotonic() + 1.0
    wait_until(lambda: not home.status().running or time.monotonic() > end, "twice the linger time passes")
    assert home.status().pid == pid
    before = time.monotonic()  # its end is noticed late on a busy machine
    user.leave()
    home.wait_until_down()
    assert time.monotonic() - before >= 0.5
    assert not is_alive(pid)


def test_killed_user_no_longer_counts(make_home: Callable[..., Home]) -> None:
    """A user that was SIGKILLed keeps the server no longer than one that exited; other users still keep it."""
    home = make_home(linger_seconds=0.2)
    first, second = home.user(), home.user()
    pid = first.server()["pid"]
    second.server()
    first.kill()
    wait_until(lambda: home.status().users == 1, "the killed user is gone")
    end = time.monotonic() + 1.0
    wait_until(lambda: not home.status().running or time.monotonic() > end, "the linger time passes")
    assert home.status().pid == pid
    second.kill()
    home.wait_until_down()


SHORT_VISITS = """
import os, time
from ecowas_lc.embedded import use_server
from ecowas_lc.settings import get_settings
get_settings()
for visit in range(6):
    if not os.fork():
        print(use_server().pid, flush=True)
        os._exit(0)
    os.wait()
    time.sleep(0.4)
"""


def test_short_visits_renew_the_linger_time(make_home: Callable[..., Home]) -> None:
    """Users that start and exit between two checks of the keeper restart the linger time."""
    home = make_home(linger_seconds=1.8)
    visits = home.run("-c", SHORT_VISITS)
    assert visits.process.stdout is not None
    pids = visits.process.stdout.read().split()
    assert len(pids) == 6
    assert len(set(pids)) == 1
    home.wait_until_down()


def test_last_arrival_brings_the_linger_time(make_home: Callable[..., Home]) -> None:
    """The linger time that counts is the one of the user who came last."""
    patient, hasty = make_home(linger_seconds=300), make_home(linger_seconds=0)
    patient.user().leave()
    assert patient.status().running
    hasty.user().leave()
    hasty.wait_until_down()


def test_kept_until_stopped(make_home: Callable[..., Home], connect: Connect) -> None:
    """A server started to stay outlives its users and the linger time, and keeps its data when stopped."""
    home = make_home(linger_seconds=0)
    starter = home.run("-c", "from ecowas_lc.embedded import start_server; start_server()")
    assert starter.process.wait(30) == 0
    end = time.monotonic() + 1.0
    wait_until(lambda: not home.status().running or time.monotonic() > end, "the linger time passes")
    status = home.status()
    assert (status.running, status.kept, status.users) == (True, True, 0)
    assert status.uptime_seconds is not None
    user = home.user()
    url = user.server()["url"]
    connect(url).set("a", "1")
    assert status.pid is not None
    assert stop_server(home.settings) is True
    assert not is_alive(status.pid)
    status = home.status()
    assert (status.running, status.kept, status.pid) == (False, False, None)
    assert stop_server(home.settings) is False
    assert connect(use_server(home.settings).url).get("a") == b"1"
    assert not home.status().kept


def test_kept_outlives_a_crash(home: Home) -> None:
    """The server that takes a crashed one's place is kept if that one was."""
    os.kill(start_server(home.settings).pid, signal.SIGKILL)
    home.wait_until_down()
    use_server(home.settings)
    assert home.status().kept


def test_stopping_needs_no_server(home: Home) -> None:
    """Without a server, or so much as a directory, there is nothing to stop and nothing is created."""
    assert stop_server(home.settings) is False
    status = server_status(home.settings)
    assert (status.running, status.kept, status.pid, status.users) == (False, False, None, 0)
    assert status.uptime_seconds is None
    assert not home.data_dir.exists()


def test_ctrl_c_leaves_it_running(home: Home) -> None:
    """Ctrl-C in the terminal of the process that started it, and that terminal's end, leave it running."""
    controller, terminal = pty.openpty()
    try:
        program = (
            "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            "import runpy; runpy.run_path(sys.argv.pop())"
        )
        user = home.run("-c", program, PROGRAM, stdin=terminal, start_new_session=True, stderr=terminal)
        os.close(terminal)
        pid = user.server()["pid"]
        keeper_pid = home.keeper_pid()
        os.write(controller, b"\x03")
        assert user.process.wait(30) == -signal.SIGINT
    finally:
        os.close(controller)
    assert home.status().pid == pid
    assert is_alive(keeper_pid)


def test_threads_share_one_start(home: Home) -> None:
    """Threads that start at once share one server, and the process counts as one user."""
    pids: list[int] = []
    threads = [threading.Thread(target=lambda: pids.append(use_server(home.settings).pid)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 8
    assert len(set(pids)) == 1
    assert home.status().users == 1


FORKING = """
import os, sys
from ecowas_lc.embedded import use_server
parent = use_server()
child = os.fork()
if not child:
    if sys.argv[1] == "use":
        assert use_server() == parent
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("way", ["use", "inherit"])
def test_forked_child_is_a_user(make_home: Callable[..., Home], way: str) -> None:
    """A child by fork holds the server after its parent's end, whether or not it has asked for it again."""
    home = make_home(linger_seconds=0.1)
    user = home.run("-c", FORKING, way)
    assert user.process.stdout is not None
    assert user.process.stdout.readline() == "ready\n"
    assert user.process.wait(30) == -signal.SIGKILL
    end = time.monotonic() + 0.7
    wait_until(lambda: time.monotonic() > end or not home.status().running, "the linger time passes")
    assert home.status().users == 1
    assert user.process.stdin is not None
    user.process.stdin.close()
    home.wait_until_down()


FORK_IN_THREADS = """
import os, threading
from ecowas_lc.embedded import stop_server, use_server
def ask():
    for _ in range(200):
        use_server()
asking = [threading.Thread(target=ask) for _ in range(3)]
for thread in asking: thread.start()
for turn in range(10):
    child = os.fork()
    if not child:
        use_server()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    if turn == 5:
        stop_server()
for thread in asking: thread.join()
"""


def test_fork_while_threads_ask(home: Home) -> None:
    """A child forked while other threads ask for the server, start it or stop it, is never left locked out."""
    assert home.run("-W", "ignore", "-c", FORK_IN_THREADS).process.wait(60) == 0


FORK_AND_ASK = """
import asyncio, os
from ecowas_lc import AsyncRedisMemoryService, RedisMemoryService
from tests.fixtures.forked import WAYS, busy_threads
memory = RedisMemoryService.from_settings()
async def awaited():
    async with AsyncRedisMemoryService.from_settings() as there:
        return len(await there.get_conversation_history("a", "s"))
def work():
    memory.append_to_history("a", "s", {"role": "user", "content": "?"})
    return len(memory.get_conversation_history("a", "s")), asyncio.run(awaited())
assert work() == (1, 1)
def ask():
    with RedisMemoryService.from_settings() as other: other.get_all_agents()
with busy_threads(ask, 2):
    for count, (way, forked) in enumerate(WAYS.items(), 2):
        assert forked(work) == (count, count), way
"""


def test_every_thread_of_a_forked_child_uses_it(home: Home) -> None:
    """A child's threads, its worker threads and its own children use the server as its parent does."""
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    assert home.run("-W", "ignore", "-c", path + FORK_AND_ASK).process.wait(100) == 0


VISITS = """
import os, random, socket, time
from ecowas_lc.embedded import use_server
from ecowas_lc.settings import get_settings
get_settings()
random.seed(7)
servers = []
for visit in range(1, 25):
    reading, writing = os.pipe()
    if not os.fork():
        server = use_server()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(server.socket))
            connection.sendall(b"INCR visits\\r\\n")
            reply = connection.recv(100)
        os.write(writing, b"%d %s" % (server.pid, reply))
        os._exit(0)
    os.wait()
    pid, reply = os.read(reading, 100).split()
    assert reply == b":%d" % visit, reply
    servers.append(pid)
    os.close(reading); os.close(writing)
    time.sleep(random.uniform(0, 0.15))
print(len(set(servers)), flush=True)
"""


def test_arrival_at_the_moment_of_shutdown(make_home: Callable[..., Home]) -> None:
    """Users who arrive while the server is being ended get a working one, with all that was written."""
    home = make_home(linger_seconds=0)
    visits = home.run("-c", VISITS)
    assert visits.process.stdout is not None
    servers = visits.process.stdout.read()
    assert visits.process.wait(60) == 0
    assert int(servers) > 1, "the visits never met a shutdown"
    home.wait_until_down()
