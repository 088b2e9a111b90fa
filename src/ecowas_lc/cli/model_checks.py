"""What ``doctor`` asks of Ollama and the model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from ecowas_lc.cli.findings import Finding, broken, note, ok, warning
from ecowas_lc.cli.models import ChosenModel, chosen_model
from ecowas_lc.errors import ModelError, ModelNotFoundError, ModelServerUnavailableError
from ecowas_lc.settings import Settings

AREA = "Model"
_ENOUGH_CONTEXT = 4096
_SCHEMA = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}


def examine_model(settings: Settings) -> Iterator[Finding]:
    """Yield what is found about the model that answers; stops where nothing more can be asked."""
    try:
        with chosen_model(settings) as model:
            yield from _examine(model, settings)
    except ModelNotFoundError as error:
        yield broken(AREA, "model", str(error), f"ollama pull {settings.ollama_model}")
    except ModelServerUnavailableError as error:
        yield broken(AREA, "reachable", str(error), "ollama serve")
    except ModelError as error:
        yield broken(AREA, "reachable", str(error))


def _examine(model: ChosenModel, settings: Settings) -> Iterator[Finding]:
    from ecowas_lc.llm import effective_context, named_errors

    chat: Any = model.chat
    client = chat._client  # ollama's own client: the one that answers will be asked with
    if model.note:
        yield warning(
            AREA,
            "reachable",
            f"no Ollama at {settings.ollama_base_url}; the small local model stands in",
            "ollama serve, then: ollama pull qwen2.5:3b",
        )
    else:
        yield ok(AREA, "reachable", f"{model.base_url}, version {_version(client)}")
    yield ok(AREA, "model", f"{model.name} is there")
    with named_errors(chat):
        capabilities = client.show(model.name).capabilities or []
    if "tools" in capabilities:
        yield ok(AREA, "tools", "can call tools")
    else:
        yield note(AREA, "tools", "can't call tools: groups with tools answer without", "ollama pull llama3.2:3b")
    context = effective_context(model.chat) or 0
    if context < _ENOUGH_CONTEXT:
        yield warning(
            AREA,
            "context",
            f"{context} tokens: longer conversations are summarised early",
            "OLLAMA_CONTEXT_LENGTH=8192 ollama serve",
        )
    else:
        yield ok(AREA, "context", f"{context} tokens (effective num_ctx)")
    yield from _structured(model, client)


def _structured(model: ChosenModel, client: Any) -> Iterator[Finding]:
    """Ask for a very short answer in a given form."""
    from ecowas_lc.llm import named_errors

    begun = time.monotonic()
    with named_errors(model.chat):
        parts = client.chat(
            model=model.name,
            messages=[{"role": "user", "content": "Are you ready? Answer in JSON."}],
            format=_SCHEMA,
            options={"num_predict": 32, "temperature": 0},
            think=False,
            stream=True,
        )
        text = "".join(part.message.content or "" for part in parts)
    seconds = time.monotonic() - begun
    try:
        kept_form = isinstance(json.loads(text)["ready"], bool)
    except (ValueError, KeyError, TypeError):
        kept_form = False
    if kept_form:
        yield ok(AREA, "structured output", f"keeps to a JSON schema; answered in {seconds:.1f} s")
    else:
        yield warning(
            AREA,
            "structured output",
            "does not keep to a JSON schema: syntheses are prose alone",
            "ollama pull qwen2.5:3b",
        )


def _version(client: Any) -> str:
    try:
        return str(client._client.get("/api/version").json()["version"])
    except Exception:  # of no consequence: some servers don't tell
        return "unknown"
