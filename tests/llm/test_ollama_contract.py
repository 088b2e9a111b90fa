"""A real Ollama's recorded answers, replayed: status, content type, keys, reasons, errors and counts agree.

``recorded/`` holds requests with the exact answers of Ollama 0.32 and 0.24, both with SmolLM2-135M-Instruct. The
texts that the model writes, times, sizes and digests differ from run to run and are not compared.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecowas_lc.local_model import LocalModel

pytestmark = pytest.mark.llm

RECORDED = Path(__file__).parent / "recorded"
REAL = os.environ.get("TEST_OLLAMA_URL")

# Prompts that a window of 4,096 tokens cuts, recorded with 0.32: 2,050, 2,050 and 4,023 tokens to read.
CUT = ("chat too long one message", "chat too long stream", "chat too long history")

# --- the deliberate differences: why, and what differs in which exchanges ---
Differences = dict[str, set[str]]

SAYS_WHAT_IT_IS: Differences = {"GET /": {"body"}, "version": {"keys"}}
LICENSED: Differences = {  # show prints the weights' licence; Ollama has none for a model created from a file
    name: {"keys"} for name in ("show", "show name=", "show UPPER", "show registry name")
}
OTHER_WORDS: Differences = {  # Go's and llama.cpp's own messages about unreadable input
    name: {"error"}
    for name in (
        "chat not json",
        "chat json array",
        "chat content list",
        "chat schema bad",
        "chat schema bad $ref",
    )
}
NOT_OFFERED: Differences = {
    "generate": {"status"},
    "generate stream": {"status"},
    "embed": {"error"},
    "v1 chat": {"status"},
    "v1 models": {"status"},
}
STARTED_AFRESH: Differences = {"ps before": {"keys"}}  # the recorded server had the model loaded already
REFUSES_TO_CUT: Differences = {"chat small num_ctx": {"status"}, **{name: {"status"} for name in CUT}}
ENDS_AT_THE_WINDOW: Differences = {"chat generation past num_ctx": {"eval_count"}}

EVERYWHERE = {**SAYS_WHAT_IT_IS, **LICENSED, **OTHER_WORDS, **NOT_OFFERED}
SINCE_0_24: Differences = {  # in which 0.32, which the local server follows, differs from 0.24
    "tags": {"keys"},
    "origin localhost": {"keys"},
    "chat too long truncate false": {"error"},
    "chat too long truncate+shift false": {"error"},
    "chat schema bad": {"status"},
    "chat schema bad $ref": {"status"},
    "chat images": {"status"},
    "chat small num_ctx": {"prompt_eval_count"},
    "chat past num_ctx shift false": {"eval_count"},
    "chat stop reason": {"keys"},  # 0.24 leaves out how long an answer took that took no time
    "embed": {"status"},
}
BY_VERSION = {"0.32": {**EVERYWHERE, **STARTED_AFRESH}, "0.24": {**EVERYWHERE, **SINCE_0_24}}
BY_MANNER = {"kind_model": {**REFUSES_TO_CUT, **ENDS_AT_THE_WINDOW}, "awkward_model": {}}


def exchanges(version: str) -> list[dict[str, Any]]:
    recorded = json.loads((RECORDED / f"exchanges-{version}.json").read_text())["exchanges"]
    answered = [exchange for exchange in recorded if isinstance(exchange["status"], int)]
    # Three of 169 got no answer: 0.24 read beyond its window until the client gave up.
    assert {"0.32": (85, 85), "0.24": (84, 81)}[version] == (len(recorded), len(answered))
    return answered


def keys_of(value: Any) -> Any:
    """The shape of an answer: its keys, all the way down; of a list that of its first entry."""
    if isinstance(value, dict):
        return {key: keys_of(v) for key, v in value.items() if not key.startswith("tokenizer.")}
    if isinstance(value, list):
        return [keys_of(value[0])] if value else []
    return None


def read(body: Any) -> tuple[Any, Any]:
    """The first and the last object of an answer; the same object if it is not a stream."""
    if isinstance(body, str) and body.startswith("{"):
        lines = [json.loads(line) for line in body.splitlines() if line]
        return lines[0], lines[-1]
    return body, body


def send(client: httpx.Client, request: dict[str, Any]) -> httpx.Response:
    body = request["body"]
    content = body if isinstance(body, str) else json.dumps(body) if body is not None else ""
    return client.request(
        request["method"],
        request["path"],
        headers=request["headers"] or {"Content-Type": "application/json"},
        content=content if request["method"] == "POST" else None,
    )


def differences(answer: httpx.Response, exchange: dict[str, Any]) -> set[str]:
    """The differences from the recorded answer."""
    if answer.status_code != exchange["status"]:
        return {"status"}
    expected, got = read(exchange["body"]), read(answer.text)
    differs = {
        "content type": answer.headers.get("content-type") != exchange["content_type"],
        "keys": [keys_of(part) for part in got] != [keys_of(part) for part in expected],
    }
    if isinstance(expected[1], str):
        differs["body"] = isinstance(got[1], str) and got[1] != expected[1]
    elif isinstance(expected[1], dict):
        last = got[1] if isinstance(got[1], dict) else {}
        compared = ["error", "prompt_eval_count", "capabilities", "parameters", "template"]
        if expected[1].get("done_reason") in ("load", "unload"):  # the model's own choice otherwise
            compared.append("done_reason")
        if "past num_ctx" in exchange["name"]:
            compared.append("eval_count")
        differs |= {name: name in expected[1] and last.get(name) != expected[1][name] for name in compared}
    return {name for name, does in differs.items() if does}


@pytest.mark.timeout(600)
@pytest.mark.skipif(REAL is not None, reason="compares the local model's server with the recorded ones")
@pytest.mark.parametrize("manner", ["kind_model", "awkward_model"])
def test_the_local_server_answers_as_ollama_did(request: pytest.FixtureRequest, manner: str) -> None:
    """Every recorded exchange agrees, but for the differences that are named above, and those do differ."""
    model: LocalModel = request.getfixturevalue(manner)
    older = {exchange["name"]: exchange for exchange in exchanges("0.24")}
    found: dict[str, Differences] = {"0.32": {}, "0.24": {}}
    with httpx.Client(base_url=model.base_url, timeout=280) as client:
        client.post("/api/chat", json={"model": model.model, "keep_alive": 0})  # other tests may have loaded it
        for exchange in exchanges("0.32"):
            name = exchange["name"]
            answer = send(client, exchange["request"])
            for version, recorded in (("0.32", exchange), ("0.24", older.get(name))):
                if recorded is not None and (differing := differences(answer, recorded)):
                    found[version][name] = differing
    for version in found:
        recorded_then = {exchange["name"] for exchange in exchanges(version)}
        named = {**BY_VERSION[version], **BY_MANNER[manner]}
        assert found[version] == {name: named[name] for name in named.keys() & recorded_then}, version


@pytest.mark.skipif(REAL is None, reason="needs TEST_OLLAMA_URL: a real Ollama with smollm2:135m")
def test_a_real_ollama_still_answers_as_recorded() -> None:
    """No status or content type of the newer recording has changed; a newer Ollama's changes belong here."""
    assert REAL is not None
    with httpx.Client(base_url=REAL, timeout=300) as client:
        is_ours = "server" in client.get("/api/version").json()
        client.post("/api/chat", json={"model": "smollm2:135m", "keep_alive": 0})
        found = {
            exchange["name"]: differing
            for exchange in exchanges("0.32")
            if (differing := differences(send(client, exchange["request"]), exchange) & {"status", "content type"})
        }
    assert found == {name: differs for name, differs in NOT_OFFERED.items() if is_ours and "status" in differs}
