"""How long starting takes: imports, the command, the embedded server: ``python -m benchmarks.starting``."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from benchmarks import part
from benchmarks.places import place
from benchmarks.report import Bound, Report, Table, figure
from benchmarks.work import seconds

PYTHON = [sys.executable, "-c"]
COMMAND = str(Path(sys.executable).parent / "ecowas-lc")
FIRST_USE = """
import time
from ecowas_lc import RedisSaver
begun = time.perf_counter()
with RedisSaver.from_settings() as saver:
    saver.get_tuple({"configurable": {"thread_id": "t"}})
print(time.perf_counter() - begun)
"""

PROGRAMS = {
    "python, nothing imported": [*PYTHON, "pass"],
    "import ecowas_lc": [*PYTHON, "import ecowas_lc"],
    "from ecowas_lc import RedisChatMessageHistory": [*PYTHON, "from ecowas_lc import RedisChatMessageHistory"],
    "from ecowas_lc import RedisSaver": [*PYTHON, "from ecowas_lc import RedisSaver"],
    "from langgraph.checkpoint.memory import InMemorySaver": [
        *PYTHON,
        "from langgraph.checkpoint.memory import InMemorySaver",
    ],
    "from langgraph.graph import StateGraph": [*PYTHON, "from langgraph.graph import StateGraph"],
    "ecowas-lc --version": [COMMAND, "--version"],
    "ecowas-lc --help": [COMMAND, "--help"],
}
# What a program with a graph on Redis needs in any case, and then a first call of RedisSaver. The processor
# time of that call is taken in the same process: the difference of two starts of a second would be mostly noise.
THEIRS = """
import sys
import redis, redis.asyncio
from langgraph.graph import StateGraph
redis.Redis.from_url(sys.argv[1]).ping()
"""
OURS = f"""{THEIRS}
import time
begun = time.process_time()
from ecowas_lc import RedisSaver
RedisSaver.from_url(sys.argv[1]).get_tuple({{"configurable": {{"thread_id": "t"}}}})
print(1000 * (time.process_time() - begun))
"""
THEIR_CALL, OUR_CALL = "StateGraph, redis, and a PING", "StateGraph, redis, and a first call of RedisSaver"
MOST_BEYOND_THEIRS = 25  # milliseconds
# What is installed is compiled: source that never may be would be compiled at each start.
_COMPILES = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(command: list[str], env: dict[str, str] = _COMPILES) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


def embedded(folder: Path) -> tuple[float, float]:
    """Milliseconds to the first answer where no server runs, and where one does."""
    env = {name: value for name, value in _COMPILES.items() if not name.startswith(("REDIS_", "ECOWAS_LC_"))}
    env |= {"ECOWAS_LC_DATA_DIR": str(folder), "ECOWAS_LC_LINGER_SECONDS": "20"}
    try:
        cold, warm = (1000 * float(run([*PYTHON, FIRST_USE], env)) for _ in range(2))
    finally:
        with suppress(subprocess.CalledProcessError):
            run([COMMAND, "server", "stop"], env)
    return cold, warm


def measure(options: part.Options) -> Report:
    rounds = options.rounds or (1 if options.quick else 7)
    taken: dict[str, list[float]] = {}
    beyond: list[float] = []
    with place("redis") as url:
        calls = {THEIR_CALL: [*PYTHON, THEIRS, url], OUR_CALL: [*PYTHON, OURS, url]}
        for number in range(rounds + 1):
            for what, command in (PROGRAMS | calls).items():
                milliseconds = 1000 * seconds(lambda command=command: run(command))
                if number:  # the first round fills the disk's cache, and compiles
                    taken.setdefault(what, []).append(milliseconds)
            beyond += [float(run(calls[OUR_CALL])) for _ in range(2)]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="ecowas-lc-bench-", dir="/tmp") as folder:
            cold, warm = embedded(Path(folder) / "data")
        taken.setdefault("embedded server, first answer: cold", []).append(cold)
        taken.setdefault("embedded server, first answer: already running", []).append(warm)
    rows = [
        [what, figure(statistics.median(each)), figure(min(each)), figure(max(each))]
        for what, each in taken.items()
    ]
    note = (
        "Each start is a new process, after one run that warmed the disk cache; the server's data folder is new."
    )
    columns = ["", "median, ms", "least", "most"]
    bound = Bound(
        "import and first call of RedisSaver, beyond langgraph and redis: CPU time",
        MOST_BEYOND_THEIRS,
        statistics.median(beyond),
        " ms",
    )
    return Report(tables=[Table("Time from start to finish", columns, rows, note)], bounds=[bound])


if __name__ == "__main__":
    part.main(measure, part.parser(__doc__))
