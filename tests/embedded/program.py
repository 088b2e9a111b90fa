"""A process that uses the embedded server its environment names: says what it got, then waits to be ended."""

from __future__ import annotations

import json
import sys

from ecowas_lc.embedded import use_server

server = use_server()
print(json.dumps({"socket": str(server.socket), "pid": server.pid, "url": server.url}), flush=True)
sys.stdin.read()
