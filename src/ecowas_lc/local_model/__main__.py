"""The child process of :func:`~ecowas_lc.local_model.running_local_model`; not a command for people.

It writes its base URL to standard output once it answers, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading

from ecowas_lc.errors import EcowasError
from ecowas_lc.local_model.process import serve


def main() -> None:
    """Serve until the parent process is gone; exit with code 2 if the model can't be served."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--awkward", action="store_true")
    arguments = parser.parse_args()

    announcements = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of native code belongs in the log

    def announce(base_url: str) -> None:
        with announcements:
            announcements.write(f"{base_url}\n")

    threading.Thread(target=_end_with_parent, daemon=True, name="parent-watch").start()
    try:
        serve(port=arguments.port, threads=arguments.threads, awkward=arguments.awkward, on_ready=announce)
    except EcowasError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def _end_with_parent() -> None:
    os.read(0, 1)  # returns only at the end of input: the parent never writes
    os._exit(0)  # there is nothing to save, and an orderly stop could wait for a slow client


if __name__ == "__main__":
    main()
