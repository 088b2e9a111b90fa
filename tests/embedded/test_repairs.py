"""Whatever dies, hangs or goes missing, the next use finds a server with all that was acknowledged."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from ecowas_lc.embedded import data_dir, keeper, probe, start_server, starting, stop_server, use_server
from ecowas_lc.embedded.starting import find_binary
from ecowas_lc.errors import EmbeddedServerError
from tests.embedded.conftest import Home
from tests.embedded.test_sharing import is_alive, servers_in
from tests.fixtures.servers import wait_until

Connect = Callable[[str], redis.Redis]

WRITER = """
import itertools, sys
import redis
from ecowas_lc.embedded import use_server
client = redis.Redis.from_url(use_server().url)
for number in itertools.count(1):
    client.rpush("numbers", number)
    print(number, flush=True)
"""


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the killed process is gone")


def test_acknowledged_writes_survive_sigkill_of_everything(home: Home, connect: Connect) -> None:
    """After SIGKILL of users, keeper and server in the middle of writes, no acknowledged write is lost."""
    use_server(home.settings)
    for _ in range(3):
        writer = home.run("-c", WRITER)
        assert writer.process.stdout is not None
        for _ in range(500):
            assert writer.process.stdout.readline()
        server, watcher = home.server_pid(), home.keeper_pid()
        for pid in (writer.process.pid, watcher, server):
            os.kill(pid, signal.SIGKILL)
        acknowledged = [int(line) for line in writer.process.stdout.read().split()]
        last = acknowledged[-1] if acknowledged else 500
        wait_until(lambda pid=server: not is_alive(pid), "the server is gone")
        client = connect(use_server(home.settings).url)
        stored = [int(number) for number in client.lrange("numbers", 0, -1)]
        assert stored[:last] == list(range(1, last + 1))
        assert len(stored) <= last + 1  # one may have been written and not yet acknowledged
        client.delete("numbers")


def test_dead_server_is_replaced(home: Home, connect: Connect) -> None:
    """If only the server was killed, the next use in the same process starts another, with the data."""
    first = use_server(home.settings)
    client = connect(first.url)
    client.set("a", "1")
    kill(first.pid)
    assert first.socket.exists(), "a killed server leaves its socket, which the next start must bear"
    second = use_server(home.settings)
    assert second.pid != first.pid
    assert connect(second.url).get("a") == b"1"
    assert servers_in(home.data_dir) == {second.pid}


def test_server_without_keeper_is_adopted(make_home: Callable[..., Home]) -> None:
    """If only the keeper was killed, the next use starts another keeper, which ends the server in time."""
    home = make_home(linger_seconds=0.3)
    first = home.user()
    pid = first.server()["pid"]
    keeper_pid = home.keeper_pid()
    kill(keeper_pid)
    second = home.user()
    assert second.server()["pid"] == pid
    assert home.keeper_pid() != keeper_pid
    first.leave()
    second.leave()
    home.wait_until_down()
    assert not servers_in(home.data_dir)


def test_adopted_server_that_dies_is_replaced(home: Home) -> None:
    """A keeper notices the end of a server that is not its child."""
    first = use_server(home.settings)
    kill(home.keeper_pid())
    assert use_server(home.settings).pid == first.pid
    kill(first.pid)
    assert use_server(home.settings).pid != first.pid


def test_server_without_keeper_is_stopped(home: Home) -> None:
    """Stopping does not need the keeper."""
    pid = start_server(home.settings).pid
    kill(home.keeper_pid())
    assert stop_server(home.settings) is True
    assert not is_alive(pid)


def test_keeper_that_is_told_to_end_ends_the_server(home: Home, connect: Connect) -> None:
    """SIGTERM to the keeper, as at the system's shutdown, ends the server in order."""
    server = use_server(home.settings)
    connect(server.url).set("a", "1")
    os.kill(home.keeper_pid(), signal.SIGTERM)
    home.wait_until_down()
    assert not server.socket.exists()
    assert connect(use_server(home.settings).url).get("a") == b"1"


def test_truncated_log_is_read_up_to_its_end(home: Home, connect: Connect) -> None:
    """A log whose last write was cut off yields all writes before it."""
    server = use_server(home.settings)
    connect(server.url).set("a", "1")
    stop_server(home.settings)
    [log] = home.data_dir.glob("appendonlydir/*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$5\r\nhal")
    client = connect(use_server(home.settings).url)
    assert client.get("a") == b"1"
    assert client.get("b") is None


def test_start_failure_quotes_the_log(home: Home) -> None:
    """If a server can't start, the error quotes its last output, and only that of this attempt."""
    use_server(home.settings)
    stop_server(home.settings)
    [log] = home.data_dir.glob("appendonlydir/*.incr.aof")
    log.write_bytes(b"nonsense" * 10)
    with pytest.raises(EmbeddedServerError, match="did not start") as caught:
        use_server(home.settings)
    assert "Bad file format reading the append only file" in str(caught.value)
    assert "bye bye" not in str(caught.value)
    assert log.read_bytes() == b"nonsense" * 10, "nothing is overwritten"


def test_removed_socket(home: Home, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose socket was removed is ended and replaced, and its data is kept."""
    first = use_server(home.settings)
    connect(first.url).set("a", "1")
    first.socket.unlink()
    monkeypatch.setattr(starting, "UNREACHABLE_SECONDS", 1.0)
    second = use_server(home.settings)
    assert servers_in(home.data_dir) == {second.pid} != {first.pid}
    assert connect(second.url).get("a") == b"1"


def test_removed_directory(home: Home) -> None:
    """If the data directory was removed, its server ends, and the next use starts a new one."""
    first = use_server(home.settings)
    shutil.rmtree(home.data_dir)
    second = use_server(home.settings)
    assert second.pid != first.pid
    wait_until(lambda: not is_alive(first.pid), "the server of the removed directory ends")
    assert use_server(home.settings) == second
    assert home.status().users == 1


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_hanging_server_is_an_error_and_never_doubled(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs causes an error in limited time; it is left running, and no second one is started."""
    first = use_server(home.settings)
    with stopped(first.pid), monkeypatch.context() as impatient:
        impatient.setattr(starting, "START_SECONDS", 0.5)
        impatient.setattr(probe, "ANSWER_SECONDS", 0.2)
        with pytest.raises(EmbeddedServerError, match=f"process {first.pid}.*does not answer.*server stop"):
            use_server(home.settings)
        status = home.status()
        assert (status.running, status.pid, status.uptime_seconds) == (True, first.pid, None)
        assert servers_in(home.data_dir) == {first.pid}
    wait_until(lambda: probe.probe(first.socket).state is probe.ServerState.READY, "it goes on")
    assert use_server(home.settings) == first


def test_hanging_server_is_stopped_by_force(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping ends even a server that does not react."""
    first = use_server(home.settings)
    with stopped(first.pid), monkeypatch.context() as impatient:
        impatient.setattr(keeper, "STOP_SECONDS", 0.3)
        impatient.setattr(probe, "ANSWER_SECONDS", 0.2)
        assert stop_server(home.settings) is True
    assert not servers_in(home.data_dir)
    assert use_server(home.settings).pid != first.pid


def test_process_that_hangs_while_starting(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that never releases the start lock causes an error within a limited time, not an endless wait."""
    home.data_dir.mkdir(mode=0o700)
    lock = keeper.open_lock(home.place.start_lock)
    try:
        assert keeper.try_lock(lock)
        with monkeypatch.context() as impatient:
            impatient.setattr(starting, "START_SECONDS", 0.2)
            with pytest.raises(EmbeddedServerError, match="Another process has been starting or stopping"):
                use_server(home.settings)
            with pytest.raises(EmbeddedServerError, match="Another process has been starting or stopping"):
                stop_server(home.settings)
    finally:
        os.close(lock)
    assert use_server(home.settings).pid


def test_stranger_at_the_socket(home: Home) -> None:
    """A foreign server at the socket is an error, and is left running."""
    home.data_dir.mkdir(mode=0o700)
    command = keeper.server_command(str(find_binary(None)), str(home.data_dir), str(home.place.socket))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as stranger:
        try:
            wait_until(
                lambda: probe.probe(home.place.socket).state is probe.ServerState.READY, "the stranger answers"
            )
            with pytest.raises(EmbeddedServerError, match=f"Process {stranger.pid} answers"):
                use_server(home.settings)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_loading_is_waited_for(home: Home, connect: Connect, tmp_path: Path) -> None:
    """While the server loads a long log, users wait instead of failing to start."""
    client = connect(use_server(home.settings).url)
    with client.pipeline(transaction=False) as pipeline:
        for number in range(2500):
            pipeline.set(f"key{number}", number)
        pipeline.execute()
    stop_server(home.settings)
    slow = tmp_path / "slow-server"  # Valkey's own delay for each command that it reads
    slow.write_text(f'#!/bin/sh\nexec {find_binary(None)} "$@" --key-load-delay 250\n')
    slow.chmod(0o755)
    home.binary = slow
    seen: set[probe.ServerState] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(probe.probe(home.place.socket).state)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        server = use_server(home.settings)
    finally:
        done.set()
        looking.join()
    assert probe.ServerState.LOADING in seen
    assert connect(server.url).dbsize() == 2500


def test_complaint_is_passed_on(home: Home, monkeypatch: pytest.MonkeyPatch, connect: Connect) -> None:
    """A server that only answers with errors fails to start, and the message contains its error."""
    server = use_server(home.settings)
    client = connect(server.url)
    client.config_set("requirepass", "secret")
    monkeypatch.setattr(starting, "START_SECONDS", 0.2)
    try:
        with pytest.raises(EmbeddedServerError, match="NOAUTH") as caught:
            use_server(home.settings)
        assert "secret" not in str(caught.value)
    finally:
        client.config_set("requirepass", "")


def test_log_is_bounded(home: Home) -> None:
    """A log that has grown large is emptied at the next start."""
    home.data_dir.mkdir(mode=0o700)
    home.place.log.write_bytes(b"x" * (starting.LOG_BYTES + 1))
    use_server(home.settings)
    assert 0 < home.place.log.stat().st_size < 100_000


def test_use_is_fast_when_it_runs(home: Home) -> None:
    """Using a running server again takes well under 5 ms."""
    use_server(home.settings)
    settings = home.settings
    best = min(_timed(lambda: use_server(settings)) for _ in range(50))
    assert best < 0.005


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def opened_by(pid: int | str) -> set[str]:
    """The files that a process has open: paths, and the kernel's names of pipes and sockets."""
    opened = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            opened.add(os.readlink(link))
    return opened


def test_server_inherits_its_own_lock_alone(home: Home) -> None:
    """Server and keeper hold none of their starter's files, and the server not even the users' lock."""
    reading, writing = os.pipe()
    with socket.socket() as listener, open(writing, "wb"), open(reading, "rb"):
        os.set_inheritable(writing, True)
        listener.set_inheritable(True)
        ours = {os.readlink(f"/proc/self/fd/{number}") for number in (writing, listener.fileno())}
        pid = use_server(home.settings).pid
        opened = opened_by(pid)
        assert not ours & (opened | opened_by(home.keeper_pid()))
    files = {Path(name).relative_to(home.data_dir).parts[0] for name in opened if name.startswith("/tmp")}
    assert files == {"server.lock", "server.log", "appendonlydir"}


def test_server_runs_as_promised(home: Home, connect: Connect) -> None:
    """No network, every write logged as readable commands before it is acknowledged, nothing evicted, no debug."""
    config = connect(use_server(home.settings).url).config_get("*")
    promised = {
        "port": "0",
        "unixsocketperm": "700",
        "appendonly": "yes",
        "appendfsync": "no",
        "aof-use-rdb-preamble": "no",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "dir": str(home.data_dir),
        "daemonize": "no",
        "protected-mode": "yes",
        "enable-debug-command": "no",
    }
    assert {name: config[name] for name in promised} == promised
    assert int(config["auto-aof-rewrite-percentage"]) > 0


def test_starters_locale_does_not_matter(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's locale is C, whatever its starter's is, installed or not."""
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")
    use_server(home.settings)
    assert "LOCALE" not in home.place.log.read_text()


def test_start_that_is_killed_is_tried_again(home: Home, tmp_path: Path) -> None:
    """A server that is killed while it starts, with its predecessor as it were, is started once more."""
    home.binary = tmp_path / "server"
    home.binary.write_text(f'#!/bin/sh\nmkdir {tmp_path}/once && kill -9 $$\nexec {find_binary(None)} "$@"\n')
    home.binary.chmod(0o755)
    assert use_server(home.settings).pid == home.status().pid


def test_blocked_signals_are_not_inherited(home: Home) -> None:
    """A starter whose thread blocks signals leaves a keeper that heeds them."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        use_server(home.settings)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    os.kill(home.keeper_pid(), signal.SIGTERM)
    home.wait_until_down()


def test_descriptor_closed_by_a_daemon(home: Home) -> None:
    """A process that closed all its descriptors, as daemons do, counts again at its next use."""
    use_server(home.settings)
    os.close(data_dir._seats[home.data_dir].descriptor)
    assert home.status().users == 0
    use_server(home.settings)
    assert home.status().users == 1


def test_descriptor_that_became_another_file(home: Home) -> None:
    """If another file has that descriptor's number by now, that file stays open."""
    use_server(home.settings)
    descriptor = data_dir._seats[home.data_dir].descriptor
    with open(os.devnull, "rb") as file:
        os.dup2(file.fileno(), descriptor)
    try:
        use_server(home.settings)
        assert home.status().users == 1
        assert os.path.samestat(os.fstat(descriptor), os.stat(os.devnull))
    finally:
        os.close(descriptor)


def test_program_that_embeds_python(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """If ``sys.executable`` is not Python, as under uWSGI, the keeper runs with the Python that belongs to it."""
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
    assert use_server(home.settings).pid == home.status().pid
    stop_server(home.settings)
    monkeypatch.setattr(sys, "exec_prefix", "/nonexistent")
    with pytest.raises(EmbeddedServerError, match="needs a Python interpreter"):
        use_server(home.settings)


def test_keeper_brings_the_log_to_the_disk(home: Home, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only data written to the log since the last check is flushed: a power cut loses at most a second."""
    client = connect(use_server(home.settings).url)
    client.set("a", "1")
    flushed: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.readlink(f"/proc/self/fd/{fd}")))
    watcher = object.__new__(keeper.Keeper)
    watcher._directory = str(home.data_dir)
    watcher._flushed = {}
    watcher._flush()
    log = next(name for name in flushed if name.endswith(".incr.aof"))
    flushed.clear()
    watcher._flush()
    assert flushed == []
    client.set("b", "2")
    watcher._flush()
    assert flushed == [log]


def test_a_process_is_signalled_only_if_it_has_the_lock_file_open(tmp_path: Path) -> None:
    """The number in a lock file may belong to another process by now, which must never be signalled."""
    descriptor = keeper.open_lock(str(tmp_path / "server.lock"))
    try:
        assert keeper.read_pid(descriptor) is None
        keeper.write_note(descriptor, str(os.getpid()))
        assert keeper.read_pid(descriptor) == os.getpid()
        assert keeper._has_open(os.getpid(), descriptor)
        if Path("/proc/self/fd").is_dir():
            assert not keeper._has_open(os.getppid(), descriptor)
            assert not keeper._has_open(2**30, descriptor)
        assert not keeper.wait_for(lambda: False, 0.01)
    finally:
        os.close(descriptor)
