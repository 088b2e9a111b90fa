"""Quick test: does the Redis server of your settings answer?

    python examples/test_redis_connection.py

The exit code is 0 if it does and 1 if not. `ecowas-lc doctor` checks more.
"""

from __future__ import annotations

import sys

from ecowas_lc import EcowasError, create_redis_memory_from_config, test_redis_connection


def main() -> int:
    try:
        with create_redis_memory_from_config() as memory:
            print(f"Asking {memory.server.where} …")
            if not test_redis_connection():
                print("No answer. Start Redis, or set REDIS_URL to a server that runs.")
                return 1
            stats = memory.get_memory_stats()
    except EcowasError as error:
        print(error)
        return 1
    print(
        f"It answers: {stats['used_memory']} used, {stats['total_keys']} keys, {stats['sessions']} sessions here."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
