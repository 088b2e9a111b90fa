"""The dossier: documents of a fictional community, for the demo and for tests."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

DOSSIER = Path(str(files("ecowas_lc.twg") / "data" / "dossier"))
"""Eighteen documents in English, French and Portuguese. Their states, institutions and figures are fictional."""
