"""A question goes in, the right groups answer, the conversation survives: real processes, server and model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import House
from tests.fixtures.servers import DEADLINE_SECONDS

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]

SOLAR = "How can the West African Power Pool cut losses on its interconnection lines?"
MONEY = "How can guarantees bring investors to solar mini-grids?"

RESUME = """
import json, sys
from ecowas_lc import RedisSaver, build_supervisor, history_factory, make_chat_model
with RedisSaver.from_settings() as saver:
    graph = build_supervisor(
        make_chat_model(num_predict=32), checkpointer=saver, history_factory=history_factory(), router="lexical"
    )
    config = {"configurable": {"thread_id": sys.argv[1]}}
    before = graph.get_state(config)
    result = graph.invoke(None, config)
    print(json.dumps({
        "waiting": list(before.next),
        "messages": [(m.type, m.text) for m in result["messages"]],
        "reports": {group: report["status"] for group, report in result["reports"].items()},
    }))
"""


def test_two_processes_one_conversation(house: House) -> None:
    """Two questions asked by two processes are one conversation, and redis-cli reads it as JSON."""
    answers = []
    for question in (SOLAR, MONEY):
        done = house.ecowas("ask", question, "--session", "abuja", "--json")
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    first, second = answers
    assert first["groups"] == ["energy"]
    assert sorted(second["groups"]) == ["energy", "resource_mobilization"]
    assert first["answer"].strip()
    assert first["reason"].strip()
    assert {report["status"] for report in second["reports"].values()} == {"answered"}

    rows = [
        json.loads(line)
        for line in house.redis_cli("LRANGE", "ecowas:history:energy:abuja", "0", "-1").splitlines()
    ]
    assert [(row["role"], row["content"]) for row in rows] == [
        ("user", SOLAR),
        ("assistant", first["answer"]),
        ("user", MONEY),
        ("assistant", second["reports"]["energy"]["text"]),
    ]
    thread = json.loads(house.ecowas("sessions", "show", "abuja", "--json").stdout)
    assert [message["text"] for message in thread["messages"]] == [SOLAR, first["answer"], MONEY, second["answer"]]


def test_the_demo(bare_house: House) -> None:
    """With nothing set the demo finds or starts a model, asks twice, reads back from another process, draws."""
    done = bare_house.ecowas("demo", "--output", "pictures")
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert f"Question 1: {SOLAR}" in said
    assert "Route  energy\n" in said
    assert f"Question 2: {MONEY}" in said
    assert re.search(r"Route  (energy, resource_mobilization|resource_mobilization, energy)\n", said)
    assert said.count("\nWhy    ") == 2
    assert said.count("● Energy & Infrastructure") == 2
    assert "● Resource Mobilization" in said
    assert "● Synthesis" in said

    asked_by = re.search(r"^Process +(\d+)$", said, re.MULTILINE)
    read_by = re.search(r"^Read by +process (\d+)$", said, re.MULTILINE)
    assert asked_by is not None
    assert read_by is not None
    assert asked_by[1] != read_by[1]
    assert "Conversation: 4 messages" in said
    assert "History of energy: 4 messages" in said
    assert "History of resource_mobilization: 2 messages" in said

    pictures = [Path(path) for path in re.findall(r"^Picture +(.+)$", said, re.MULTILINE)]
    assert [path.suffix for path in pictures] == [".png", ".svg"]
    assert all(path.stat().st_size > 5000 for path in pictures)
    assert str(bare_house.folder) in str(pictures[0])

    look = re.search(r"^Look +redis-cli -s (\S+) LRANGE (\S+) 0 -1$", said, re.MULTILINE)
    assert look is not None
    assert look[1] == str(bare_house.socket)
    assert json.loads(bare_house.redis_cli("LRANGE", look[2], "0", "0"))["content"] == SOLAR


def test_a_killed_process_is_resumed(house: House) -> None:
    """Another process finishes a run whose process was killed in mid-answer; no message is stored twice."""
    asking = house.begin("ask", MONEY, "--session", "killed")
    try:
        assert asking.stdout is not None
        for line in asking.stdout:
            if line.startswith("●"):
                break
        asking.kill()
    finally:
        asking.kill()
        asking.wait(DEADLINE_SECONDS)
        if asking.stdout is not None:
            asking.stdout.close()
    assert asking.returncode == -9, "it was killed before its end"

    done = house.python("-c", RESUME, "killed")
    assert done.returncode == 0, done.stderr
    resumed = json.loads(done.stdout)
    assert resumed["waiting"], "there was something left to do"
    assert resumed["reports"] == {"energy": "answered", "resource_mobilization": "answered"}
    [question, answer] = resumed["messages"]
    assert question == ["human", MONEY]
    assert answer[0] == "ai"
    for group in ("energy", "resource_mobilization", "supervisor"):
        rows = house.redis_cli("LRANGE", f"ecowas:history:{group}:killed", "0", "-1").splitlines()
        assert [json.loads(row)["role"] for row in rows] == ["user", "assistant"]


def test_the_doctor_finds_all_well(house: House) -> None:
    """With only what is installed here, nothing is broken."""
    done = house.ecowas("doctor", "--json")
    assert done.returncode == 0, done.stdout
    states = {(f["area"], f["what"]): f["state"] for f in json.loads(done.stdout)["findings"]}
    assert {state for (area, _), state in states.items() if area == "Redis"} == {"ok"}
    assert states["Model", "structured output"] == "ok"
