"""The embedded server's parts where no server reacts: locks that stay held, sockets that end, logs that lack."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecowas_lc.embedded import data_dir, keeper, starting
from ecowas_lc.embedded.probe import ServerState, probe
from ecowas_lc.errors import EmbeddedServerError


@pytest.fixture
def place(tmp_path: Path) -> Any:
    """The paths of a server that never ran."""
    names = ("start_lock", "server_lock", "keeper_lock", "users_lock", "log", "socket")
    return SimpleNamespace(data_dir=tmp_path, **{name: tmp_path / name for name in names})


@contextlib.contextmanager
def held(lock: Path) -> Iterator[int]:
    """Hold a lock as another process would."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def test_a_server_that_does_not_end_is_named(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever holds the lock and reacts to no signal is reported with its process id."""
    monkeypatch.setattr(keeper, "STOP_SECONDS", 0.01)
    with held(place.server_lock) as descriptor:
        assert keeper.read_pid(descriptor) is None
        keeper.write_note(descriptor, "999999999")
        assert (keeper.read_pid(descriptor), starting.noted_pid(place)) == (999999999, 999999999)
        with pytest.raises(EmbeddedServerError, match=r"process 999999999\) did not exit"):
            starting.stop(place)
    assert starting.noted_pid(place) is None
    assert not keeper._has_open(999999999, 0)
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    assert keeper._has_open(999999999, 0)


def test_who_waits_for_a_start_is_let_in(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for another's start goes on once the server runs, and does not start one itself."""
    with held(place.start_lock), held(place.keeper_lock):
        monkeypatch.setattr(starting, "probe", lambda _: SimpleNamespace(state=ServerState.READY))
        assert starting._repair(place, None) is None
        monkeypatch.setattr(starting, "probe", lambda _: SimpleNamespace(state=ServerState.ABSENT))
        waiting = starting.hold_start_lock(place, 0.01, unless_running=True)
        with pytest.raises(EmbeddedServerError, match="Another process has been starting"), waiting:
            pass


def test_a_keeper_that_starts_nothing_is_ended(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed after its time; the error has the end of its log, or says that there is none."""
    assert "left no log" in str(starting._not_started(place, None))
    script = place.data_dir / "slow.py"
    script.write_text("print('I wait.', flush=True)\nimport time\ntime.sleep(60)\n")
    monkeypatch.setattr(starting, "START_SECONDS", 0.5)
    monkeypatch.setattr(starting.keeper, "__file__", str(script))
    with pytest.raises(EmbeddedServerError, match="did not start"):
        starting._start_keeper(place, None)
    monkeypatch.setattr(starting, "START_SECONDS", 0.01)
    with held(place.server_lock), pytest.raises(EmbeddedServerError, match="I wait"):
        starting._repair(place, None)
    monkeypatch.setattr(starting.sys, "executable", "")
    monkeypatch.setattr(starting.sys, "exec_prefix", str(place.data_dir))
    with pytest.raises(EmbeddedServerError, match="needs a Python interpreter"):
        starting._interpreter()


def test_users_of_a_server_that_is_being_stopped(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for a while only; one that stays registers its new time, and an inherited lock is left alone."""
    monkeypatch.setattr(data_dir, "_PATIENCE_SECONDS", 0.01)
    assert data_dir.count(place) == 0
    with held(place.users_lock), pytest.raises(EmbeddedServerError, match="is being stopped but has not exited"):
        data_dir.register(place, 60.0)
    data_dir.register(place, 60.0)
    try:
        data_dir.register(place, 30.0)
        assert data_dir._seats[place.data_dir].linger_seconds == 30.0
        assert data_dir.count(place) == 1
    finally:
        seat = data_dir._seats.pop(place.data_dir)
        data_dir._leave(seat)
        data_dir._leave(seat)


@pytest.mark.parametrize(
    ("reply", "state"), [(b"", ServerState.ABSENT), (b"+PONG\r\n", ServerState.READY), (None, ServerState.SILENT)]
)
def test_a_socket_that_ends_or_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: bytes | None, state: ServerState
) -> None:
    """A server that disconnects is not there, half an answer counts as far as it goes, and silence has a limit."""
    monkeypatch.setattr("ecowas_lc.embedded.probe.ANSWER_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(1)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                if reply is None:
                    connection.recv(100)
                else:
                    connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        assert probe(tmp_path / "socket").state is state
        thread.join(10)


def test_a_server_whose_queue_is_full_is_silent(tmp_path: Path) -> None:
    """A server that accepts no more connections is reported as running but not answering."""
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(str(place))
        listening.listen(0)
        first.connect(str(place))
        assert probe(place).state is ServerState.SILENT


def test_a_data_directory_that_is_replaced_while_it_is_entered(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new directory's lock is acquired; without the kernel's lock table, users are not counted."""
    real, looks = data_dir._file_at, []

    def file_at(path: Path) -> Any:
        looks.append(path)
        return None if len(looks) == 1 else real(path)

    monkeypatch.setattr(data_dir, "_file_at", file_at)
    data_dir.register(place, 60.0)
    assert len(looks) == 2
    assert data_dir.count(place) == 1
    with monkeypatch.context() as patched:
        patched.setattr(data_dir, "open", raising(PermissionError()), raising=False)
        assert data_dir.count(place) is None
    data_dir._leave(data_dir._seats.pop(place.data_dir))


def raising(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail
