"""The measured benefit of a model where the cheap routers are unsure, which decides whether it is asked."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_data_path

from ecowas_lc.twg import TWG

log = logging.getLogger(__name__)


_OLD_NAMES = {"beside": "cheap_router"}  # of fields, in files that earlier versions wrote


@dataclass(frozen=True, slots=True)
class ModelMeasurement:
    """The accuracy of a model, and of the cheap routers, on the questions where those routers were unsure.

    ``groups`` is a digest of the groups that were measured with, and ``cheap_router`` names what the cheap router
    compares: words, or words and the meaning by some embeddings.
    """

    model: str
    groups: str
    cheap_router: str
    asked: int
    model_right: int
    cheap_right: int

    @property
    def is_better(self) -> bool:
        """Whether the model got more questions entirely right than the cheap routers, by more than chance.

        The lead must exceed one standard deviation of two equally good routers: about the square root of the
        number of questions asked, which chance exceeds about once in six measurements.
        """
        return self.asked > 0 and self.model_right - self.cheap_right >= math.sqrt(self.asked)


def groups_digest(groups: Sequence[TWG]) -> str:
    """Return a digest that identifies a set of groups as far as routing depends on it."""
    known = json.dumps([[group.id, group.description, dict(group.terms)] for group in groups], sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def measurements_file() -> Path:
    """Return the file in the user's data directory to which ``ecowas-lc eval --model`` writes measurements."""
    return user_data_path("ecowas-lc", appauthor=False) / "routing" / "models.json"


def load_measurement(
    model: str, groups: str, cheap_router: str, file: Path | None = None
) -> ModelMeasurement | None:
    """Return the measurement of this model with these groups, or ``None``; an unreadable file counts as empty."""
    for measured in _load(file or measurements_file()):
        if (measured.model, measured.groups, measured.cheap_router) == (model, groups, cheap_router):
            return measured
    return None


def save_measurement(measured: ModelMeasurement, file: Path | None = None) -> Path:
    """Write a measurement, replacing an older one of the same kind, and return the file.

    Raises:
        OSError: The file cannot be written.
    """
    path = file or measurements_file()
    key = (measured.model, measured.groups, measured.cheap_router)
    others = [old for old in _load(path) if (old.model, old.groups, old.cheap_router) != key]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps([asdict(row) for row in [*others, measured]], indent=2), encoding="utf-8")
    part.replace(path)
    return path


def _load(path: Path) -> list[ModelMeasurement]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [ModelMeasurement(**{_OLD_NAMES.get(name, name): row[name] for name in row}) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        log.warning("The measurements of models can't be read from %s: %s", path, error)
        return []
