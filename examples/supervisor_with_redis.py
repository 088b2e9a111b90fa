"""A supervisor session that survives its process.

    python examples/supervisor_with_redis.py
    python examples/supervisor_with_redis.py --session SESSION "And who pays for it?"

You need a model (OLLAMA_BASE_URL and OLLAMA_MODEL; without Ollama, `ecowas-lc local-model serve` runs a small one)
and the Redis server of your settings. Without arguments, the program asks two questions and then starts a second
process, which continues the session. With --session it continues that session. Keys start with
`supervisor-example:`, unless you set ECOWAS_LC_PREFIX.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import uuid

from ecowas_lc import EcowasError, SupervisorAgent, create_supervisor, make_chat_model

os.environ.setdefault("ECOWAS_LC_PREFIX", "supervisor-example")

FIRST = ["How can the power pool bring electricity to villages?", "Thank you! What is the summit for?"]
LONGEST_ANSWER = 200  # tokens
LATER = "What did I ask you first?"


def ask(supervisor: SupervisorAgent, question: str) -> None:
    print(f"\n> {question}")
    for text in supervisor.stream(question):
        print(text, end="", flush=True)
    decision = supervisor.get_supervisor_status()["last_decision"]
    print(f"\n  [{', '.join(decision['groups']) or 'the supervisor itself'}: {decision['reason']}]")


def main() -> int:
    parser = argparse.ArgumentParser(description="A supervisor session that survives its process.")
    parser.add_argument("--session", help="the session to continue")
    parser.add_argument("question", nargs="*")
    arguments = parser.parse_args()
    session = arguments.session or f"example-{uuid.uuid4().hex[:8]}"
    try:
        model = make_chat_model(num_predict=LONGEST_ANSWER)
        supervisor = create_supervisor(session_id=session, use_redis=True, memory_ttl=3600, model=model)
        known = len(supervisor.history)
        info = supervisor.get_session_info()
        print(f"Session {session}, kept in {info['backend']}, {known} messages so far.")
        for question in arguments.question or ([LATER] if known else FIRST):
            ask(supervisor, question)
    except EcowasError as error:
        print(f"\n{error}")
        return 1
    if arguments.session:
        return 0
    print("\n--- a second process goes on ---", flush=True)
    return subprocess.run([sys.executable, __file__, "--session", session], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
