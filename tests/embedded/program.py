"""A process that uses the embedded server: it prints what it got, then waits for its end.

The environment names the server; or the arguments name a directory and a linger time, which saves importing
pydantic, most of a process's start.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from ecowas_lc.embedded import use_server

if len(sys.argv) > 1:
    directory, linger = sys.argv[1:]
    server = use_server(
        SimpleNamespace(data_dir=Path(directory), linger_seconds=float(linger), valkey_server=None)  # type: ignore[arg-type]
    )
else:
    server = use_server()
print(json.dumps({"socket": str(server.socket), "pid": server.pid, "url": server.url}), flush=True)
sys.stdin.read()
