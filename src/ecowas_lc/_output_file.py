"""Files that are written for other programs or people: complete, or not at all."""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, ENXIO
from pathlib import Path
from typing import IO

_DESCRIPTOR = re.compile(r"/(?:proc/(?:self|thread-self|\d+)(?:/task/\d+)?/fd|dev/fd)/(\d+)")
_MOST_LINKS = 40  # the limit of Linux
_PIPE_SECONDS = 10.0  # to wait for a reader of a named pipe


@contextmanager
def output_file(path: str | Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing; a regular file is replaced when the block ends without an error.

    Until then, and if anything fails (a full disk, Ctrl-C), the old file stays unchanged. Links are followed, so a
    link remains a link. Devices, pipes and this process's own descriptors (``/dev/stdout``) are written to
    directly, and never replaced.

    Args:
        path: The file, whose folder must exist.
        private: Make the file readable only by its owner; if not, it keeps its mode, or gets the default one.

    Raises:
        OSError: The file can't be written, or a named pipe has no reader.
    """
    target = _followed(Path(path))
    if (number := _descriptor(target)) is not None:
        with os.fdopen(os.dup(number), "wb") as file:
            yield file
        return
    mode = _mode_of(target)
    if mode is not None and not stat.S_ISREG(mode):
        with _pipe(target) if stat.S_ISFIFO(mode) else target.open("wb") as file:  # open() reports a folder
            yield file
        return
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), str(target))
    with _replacing(target, 0o600 if private else None, mode) as file:
        yield file


def _pipe(path: Path) -> IO[bytes]:
    """Open a named pipe as soon as it has a reader; waiting without a limit would look like a hanging program."""
    end = time.monotonic() + _PIPE_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != ENXIO:
                raise
            if time.monotonic() > end:
                raise OSError(ENXIO, "nobody reads this pipe", str(path)) from error
            time.sleep(0.05)
        else:
            os.set_blocking(descriptor, True)
            return os.fdopen(descriptor, "wb")


@contextmanager
def _replacing(target: Path, wanted: int | None, mode: int | None) -> Iterator[IO[bytes]]:
    # in the same folder, so that it can replace the file in one step
    name = target.with_name(f".ecowas-lc-{secrets.token_hex(8)}")
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if wanted is None else wanted)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if wanted is None and mode is not None:
                os.fchmod(descriptor, stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(descriptor)
        name.replace(target)
    finally:
        name.unlink(missing_ok=True)


def _followed(path: Path) -> Path:
    """Return the end of a chain of links, whether it exists or not; links in ``/proc`` are kept.

    Links in ``/proc`` name open files.
    """
    for _ in range(_MOST_LINKS):
        if _DESCRIPTOR.fullmatch(os.path.abspath(path)) or not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return path


def _descriptor(path: Path) -> int | None:
    """Return the number of this process's own descriptor that a path names; ``None`` for other paths."""
    found = _DESCRIPTOR.fullmatch(os.path.abspath(path))
    others = re.match(r"/proc/(\d+)", str(path))
    if found is None or (others and int(others[1]) != os.getpid()):
        return None
    return int(found[1])


def _mode_of(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
