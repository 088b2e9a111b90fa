"""The memory service in six examples; no model is needed.

    python examples/redis_memory_example.py

It uses the server of your settings (REDIS_URL, REDIS_HOST, or the embedded server), writes under the prefix
`ecowas-example`, and removes its data at the end.
"""

from __future__ import annotations

import sys

from ecowas_lc import EcowasError, RedisMemoryService, create_redis_memory_from_config


def history(memory: RedisMemoryService) -> None:
    print("1. A conversation's history")
    memory.save_conversation_history(
        "energy",
        "alice",
        [
            {"role": "user", "content": "What is the West African Power Pool?"},
            {"role": "assistant", "content": "A body of ECOWAS that interconnects national power grids."},
        ],
    )
    for message in memory.get_conversation_history("energy", "alice"):
        print(f"   {message['role']}: {message['content']}")
    memory.clear_conversation_history("energy", "alice")
    print(f"   cleared: {memory.get_conversation_history('energy', 'alice')}")


def append_and_trim(memory: RedisMemoryService) -> None:
    print("2. Appending, and keeping the last three")
    for number in range(1, 6):
        length = memory.append_to_history(
            "energy", "alice", {"role": "user", "content": f"message {number}"}, max_history=3
        )
        print(f"   message {number}: {length} kept")
    print(f"   {[message['content'] for message in memory.get_conversation_history('energy', 'alice')]}")


def agent_state(memory: RedisMemoryService) -> None:
    print("3. An agent's state: any JSON-able value")
    memory.save_agent_state("energy", {"step": "drafting", "countries": ["Ghana", "Togo"], "round": 2})
    print(f"   {memory.get_agent_state('energy')}")
    print(f"   no state: {memory.get_agent_state('digital')}")


def session_data(memory: RedisMemoryService) -> None:
    print("4. Data of a session, whichever agent speaks")
    memory.set_session_data("alice", "language", "fr")
    memory.set_session_data("alice", "filters", {"pillar": "energy transition", "bankable": True})
    print(f"   {memory.get_session_data('alice', 'language')}, {memory.get_session_data('alice', 'filters')}")


def several_sessions(memory: RedisMemoryService) -> None:
    print("5. Several sessions of one agent")
    for session in ("bob", "chidi", "awa"):
        memory.append_to_history("energy", session, {"role": "user", "content": f"I am {session}."})
    print(f"   most recently active first: {memory.get_all_sessions_for_agent('energy')}")
    for session in ("chidi", "awa"):
        [message] = memory.get_conversation_history("energy", session)
        print(f"   {session}: {message['content']}")


def ttl_and_stats(memory: RedisMemoryService) -> None:
    print("6. How long it lives, and what the server holds")
    memory.append_to_history("energy", "short", {"role": "user", "content": "for a minute"}, ttl=60)
    memory.extend_ttl("energy", "short", ttl=3600)
    info = memory.get_session_info("energy", "short")
    assert info is not None
    print(f"   the session has {info.messages} message and lives {info.ttl_seconds:.0f} s more")
    stats = memory.get_memory_stats()
    print(
        f"   {stats['used_memory']} used; {stats['sessions']} sessions, {stats['agents']} agents under this prefix"
    )
    print(f"   healthy: {memory.health_check()}")


def main() -> int:
    try:
        with create_redis_memory_from_config() as configured:
            memory = RedisMemoryService(server=configured.server, prefix="ecowas-example")
            try:
                for example in (
                    history,
                    append_and_trim,
                    agent_state,
                    session_data,
                    several_sessions,
                    ttl_and_stats,
                ):
                    example(memory)
            finally:
                for session in ("alice", "bob", "chidi", "awa", "short"):
                    memory.clear_session(session)
                memory.clear_all_agent_data("energy")
    except EcowasError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
