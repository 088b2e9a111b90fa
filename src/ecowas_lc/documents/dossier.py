"""The dossier: documents of a community that does not exist, for the demonstration and for tests."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

DOSSIER = Path(str(files("ecowas_lc.twg") / "data" / "dossier"))
"""Eighteen documents in English, French and Portuguese. None of their states, institutions or figures exists."""
