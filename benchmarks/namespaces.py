"""A new process's first search where a server holds very many namespaces: ``python -m benchmarks.namespaces``.

It is not a part of ``make bench``: 100,000 namespaces of 100 items take minutes to write and 5 GB of memory. A
script on the server writes the others' items, in the documented format but with vectors of two numbers, since a
search of one namespace never reads them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from zlib import crc32

import redis
from tests.fixtures.servers import running_server

from benchmarks.stores import fill, index_for, vectors
from ecowas_lc import RedisStore

ITEMS = 100
_OTHERS = """
local head, version = KEYS[1], tonumber(ARGV[1])
for i = 3, #ARGV do
  local ids, log = {}, {}
  for n = 1, tonumber(ARGV[2]) do
    local id = ARGV[i] .. ':k' .. n
    redis.call('HSET', head .. ':item:' .. id, 'h', '1 ' .. version .. ' ' .. version .. ' 0',
      'v', '{"text":"note"}', 'q', 'sssspq', 'f', 'ffffffff')
    ids[#ids + 1], ids[#ids + 2] = 0, id
    log[#log + 1], log[#log + 2] = version, id
  end
  redis.call('ZADD', head .. ':ids', unpack(ids))
  redis.call('ZADD', head .. ':log', unpack(log))
  redis.call('ZADD', head .. ':namespaces', 0, ARGV[i])
end
"""
_READER = """
import json, sys, time
from benchmarks.stores import flushes_of, index_for
from ecowas_lc import RedisStore

store = RedisStore.from_url(sys.argv[1], index=index_for())
store.get(("nothing",), "here")  # connects
found = []
begun, busy = time.perf_counter(), time.process_time()
flushes = flushes_of(lambda: found.extend(store.search(("memories", sys.argv[2]), query="q1", limit=10)))
seconds, busy = time.perf_counter() - begun, time.process_time() - busy
print(json.dumps([1000 * seconds, 1000 * busy, flushes, len(found)]))
"""


def write_others(client: redis.Redis, namespaces: int) -> None:
    """Write this number of namespaces with ``ITEMS`` items each."""
    by_bucket = defaultdict(list)
    for number in range(namespaces):
        namespace = f"memories:other{number}:"
        by_bucket[crc32(namespace.encode()) % 256].append(namespace)
    script = client.register_script(_OTHERS)
    now = 1_700_000_000_000_000
    for bucket, members in by_bucket.items():
        head = f"ecowas:items:{{store:{bucket}}}"
        client.hsetnx(head, "format", "1")
        for start in range(0, len(members), 20):
            script(keys=[head], args=[now, ITEMS, *members[start : start + 20]])


def measure(namespaces: int, rounds: int) -> tuple[list[tuple[float, float]], int]:
    """Return the milliseconds and CPU milliseconds of each first search, and the most flushes that one sent."""
    rows = vectors(ITEMS)
    with running_server("redis") as server:
        with RedisStore.from_url(server.url, index=index_for(rows)) as store:
            store.setup()
            for number in range(rounds):
                fill(store, ITEMS, ("memories", f"user{number}"))
        with redis.Redis(port=server.port, socket_timeout=600) as client:
            write_others(client, namespaces)
            print(f"{client.dbsize():,} keys, {client.info('memory')['used_memory'] / 1e9:.1f} GB")
        taken, flushes = [], 0
        for number in range(rounds):
            command = [sys.executable, "-W", "ignore", "-c", _READER, server.url, f"user{number}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
            milliseconds, busy, sent, hits = json.loads(done.stdout)
            assert hits == 10
            taken.append((milliseconds, busy))
            flushes = max(flushes, sent)
    return taken, flushes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespaces", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9, help="how many new processes search (9)")
    options = parser.parse_args()
    taken, flushes = measure(options.namespaces, options.rounds)
    median = statistics.median(wall for wall, _ in taken)
    cpu = statistics.median(busy for _, busy in taken)
    print(
        f"{options.namespaces:,} namespaces of {ITEMS} items: a new process's first search takes "
        f"{median:.1f} ms (slowest {max(taken)[0]:.1f}, bound 20), {cpu:.1f} ms of them CPU "
        f"of the process, and {flushes} flushes (bound 3)"
    )
    sys.exit(median > 20 or flushes > 3)


if __name__ == "__main__":
    main()
