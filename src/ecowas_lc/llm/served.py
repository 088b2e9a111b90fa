"""What this process knows of a model on a server: its facts, what it counts, and the line before it."""

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
from ecowas_lc.llm.line import Line, line_for
from ecowas_lc.llm.names import canonical_name
from ecowas_lc.llm.tokens import Calibration
from ecowas_lc.settings import get_settings

DEFAULT_CONTEXT = 4096
"""The context that is asked for where nothing else says one: what Ollama allots without a large graphics card."""

HEEDS_TRUNCATE_SINCE = (0, 24)
"""The oldest Ollama that was tried; it refuses a prompt that does not fit when it is asked not to cut it."""

Asking = Generator[tuple[str, dict[str, Any]], Any, "Facts"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of a model.

    Args:
        trained: tokens of context that it was trained for, where known.
        own_context: ``num_ctx`` of its Modelfile, where that sets one.
        described: whether the server describes its models at all.
    """

    trained: int | None = None
    own_context: int | None = None
    described: bool = True

    def context(self, asked: int | None = None) -> int:
        """Return the context that requests ask for by name: the server gives it, whatever others loaded."""
        length = asked or self.own_context or default_context() or DEFAULT_CONTEXT
        return min(length, self.trained) if self.trained else length


@dataclass(slots=True)
class ServedModel:
    """One model on one server; the same object for all of this process's requests to it."""

    address: str
    name: str
    calibration: Calibration = field(default_factory=Calibration)
    facts: Facts | None = None
    heeds_truncate: bool | None = None

    @property
    def line(self) -> Line:
        """The line of this process's requests."""
        return line_for(self.address, canonical_name(self.name), _parallel())

    def ask_facts(self) -> Asking:
        """Find the facts by calls to Ollama's client: yields (method, arguments), receives replies or errors.

        Raises:
            ModelServerUnavailableError, ModelNotFoundError, ModelTimeoutError: there is nothing to know.
        """
        if self.facts is not None:
            return self.facts
        try:
            shown = yield "show", {"model": self.name}
        except (ModelServerUnavailableError, ModelNotFoundError, ModelTimeoutError):
            raise
        except ModelError:  # some servers with Ollama's protocol don't describe their models
            self.facts = Facts(described=False)
        else:
            own = _parameter(shown.parameters or "", "num_ctx")
            self.facts = Facts(_trained_length(shown.modelinfo or {}), own)
        return self.facts

    def forget(self) -> None:
        """Ask again next time: the model may have been removed, or made afresh."""
        self.facts = None


_served: dict[tuple[str, str], ServedModel] = {}
_served_lock = forks.Lock()


def served_model(address: str, name: str) -> ServedModel:
    """Return what this process knows of a model on a server."""
    place = address.rstrip("/"), canonical_name(name)
    with _served_lock:
        return _served.setdefault(place, ServedModel(address.rstrip("/"), name))


def forget_served_models() -> None:
    """Begin afresh, as in a new process."""
    with _served_lock:
        _served.clear()


def default_context() -> int | None:
    """Return the context that ``OLLAMA_CONTEXT_LENGTH`` asks for, ``None`` where it says nothing."""
    try:
        return get_settings().ollama_context_length or None
    except ConfigurationError:  # settings that can't be read must not stop a model that needs none
        return None


def _parallel() -> int | None:
    try:
        return get_settings().ollama_num_parallel or None
    except ConfigurationError:
        return None


def version_heeds_truncate(version: Mapping[str, Any]) -> bool:
    """Return whether a server refuses what does not fit when asked not to cut it, by its ``/api/version``."""
    if version.get("server"):  # the local model's
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
    """Read one whole number from the lines of a model file's parameters ("num_ctx    8192")."""
    for line in parameters.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit() and int(words[1]) > 0:
            return int(words[1])
    return None
