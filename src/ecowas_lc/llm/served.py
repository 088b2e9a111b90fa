"""What this process knows of a model on a server: its facts, its token counts, and its queue."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ecowas_lc import forks
from ecowas_lc.errors import (
    ConfigurationError,
    ModelError,
    ModelNotFoundError,
    ModelServerUnavailableError,
    ModelTimeoutError,
)
from ecowas_lc.llm.names import canonical_name
from ecowas_lc.llm.request_queue import RequestQueue, line_for
from ecowas_lc.llm.tokens import Calibration
from ecowas_lc.settings import get_settings

DEFAULT_CONTEXT = 4096
"""The default context in tokens: what Ollama allots on machines without a large graphics card."""

HEEDS_TRUNCATE_SINCE = (0, 24)
"""The oldest Ollama version that was tested to reject a prompt that does not fit, if asked not to cut it."""

Lookup = Generator[tuple[str, dict[str, Any]], Any, "Facts"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts that a server reports about a model.

    Args:
        trained: Tokens of context that the model was trained for, if known.
        own_context: ``num_ctx`` of its Modelfile, if set.
        described: Whether the server describes its models at all.
    """

    trained: int | None = None
    own_context: int | None = None
    described: bool = True

    def context(self, asked: int | None = None) -> int:
        """Return the context in tokens that requests ask for; the server provides it, whatever others loaded."""
        length = asked or self.own_context or default_context() or DEFAULT_CONTEXT
        return min(length, self.trained) if self.trained else length


@dataclass(slots=True)
class ServedModel:
    """One model on one server; this process uses the same object for all requests to it."""

    address: str
    name: str
    calibration: Calibration = field(default_factory=Calibration)
    facts: Facts | None = None
    heeds_truncate: bool | None = None

    @property
    def line(self) -> RequestQueue:
        """The queue of this process's requests."""
        return line_for(self.address, canonical_name(self.name), _parallel())

    def ask_facts(self) -> Lookup:
        """Fetch the facts through Ollama's client.

        The generator yields (method, arguments) and receives replies or errors.

        Raises:
            ModelServerUnavailableError, ModelNotFoundError, ModelTimeoutError: The facts are not available.
        """
        if self.facts is not None:
            return self.facts
        try:
            shown = yield "show", {"model": self.name}
        except (ModelServerUnavailableError, ModelNotFoundError, ModelTimeoutError):
            raise
        except ModelError:  # some servers with Ollama's protocol do not describe their models
            self.facts = Facts(described=False)
        else:
            own = _parameter(shown.parameters or "", "num_ctx")
            self.facts = Facts(_trained_length(shown.modelinfo or {}), own)
        return self.facts

    def forget(self) -> None:
        """Discard the facts so that they are fetched again: the model may have been removed or rebuilt."""
        self.facts = None


_served: dict[tuple[str, str], ServedModel] = {}
_served_lock = forks.Lock()


def served_model(address: str, name: str) -> ServedModel:
    """Return what this process knows of a model on a server."""
    place = address.rstrip("/"), canonical_name(name)
    with _served_lock:
        return _served.setdefault(place, ServedModel(address.rstrip("/"), name))


def forget_served_models() -> None:
    """Discard everything that is known, as in a new process."""
    with _served_lock:
        _served.clear()


def default_context() -> int | None:
    """Return the context that ``OLLAMA_CONTEXT_LENGTH`` sets, or ``None`` if it is not set."""
    try:
        return get_settings().ollama_context_length or None
    except ConfigurationError:  # invalid settings must not stop a model that needs none of them
        return None


def _parallel() -> int | None:
    try:
        return get_settings().ollama_num_parallel or None
    except ConfigurationError:
        return None


def version_heeds_truncate(version: Mapping[str, Any]) -> bool:
    """Return whether a server with this ``/api/version`` rejects prompts that do not fit, if asked to."""
    if version.get("server"):  # the local model's server
        return True
    numbers = str(version.get("version", "")).split("-")[0].split(".")
    try:
        return tuple(int(number) for number in numbers[:2]) >= HEEDS_TRUNCATE_SINCE
    except ValueError:
        return False


def _trained_length(model_info: Mapping[str, Any]) -> int | None:
    found = [v for k, v in model_info.items() if k.endswith(".context_length") and isinstance(v, int) and v > 0]
    return min(found) if found else None


def _parameter(parameters: str, name: str) -> int | None:
    """Return a whole number from a Modelfile's parameter lines (such as "num_ctx    8192")."""
    for line in parameters.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit() and int(words[1]) > 0:
            return int(words[1])
    return None
