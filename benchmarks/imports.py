"""What importing costs beyond the libraries that it imports: ``python -m benchmarks.imports``.

Each line names a public name. What its import loads that is not ours is imported alone in one process, and all of
it in another, in turn.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

NAMES = ("RedisSaver", "RedisChatMessageHistory", "RedisMemoryService", "build_supervisor", "*")
ROUNDS = 9

_LOADED = (
    "import sys; before = set(sys.modules); from ecowas_lc import {name}; print(*(set(sys.modules) - before))"
)


def foundation(name: str) -> str:
    """The statement that imports what ``name`` loads and is not ours, module by module."""
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED.format(name=name)], capture_output=True, text=True, check=True
    ).stdout.split()
    theirs = sorted(module for module in loaded if module.partition(".")[0] not in ("ecowas_lc", "__mp_main__"))
    return (
        f"import importlib, contextlib\nfor name in {theirs!r}:\n"
        "    with contextlib.suppress(ImportError): importlib.import_module(name)"
    )


def seconds(code: str) -> float:
    """The processor's time that an interpreter takes for ``code``, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print a line for each name: milliseconds of both, and their ratio."""
    empty = statistics.median(seconds("pass") for _ in range(ROUNDS))
    print(f"{'from ecowas_lc import':26} {'what it stands on':>18} {'ours':>8} {'ratio':>6}")
    for name in NAMES:
        ours, theirs = f"from ecowas_lc import {name}", foundation(name)
        pairs = [(seconds(theirs) - empty, seconds(ours) - empty) for _ in range(ROUNDS + 1)][1:]
        below, above = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:26} {1000 * below:15.0f} ms {1000 * above:5.0f} ms {above / below:6.2f}")


if __name__ == "__main__":
    main()
