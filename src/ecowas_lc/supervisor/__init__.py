"""The supervisor: finds the working groups a question concerns, asks them, brings their answers together."""

from __future__ import annotations
