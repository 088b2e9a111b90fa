"""Stored values of any kind as plain data, for people and JSON."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from ecowas_lc.checkpoint.viewing import plain


class Level(enum.Enum):
    """A value of an application."""

    HIGH = 3


class Model(BaseModel):
    """A value of an application."""

    a: Any


@dataclass
class Point:
    """A value of an application."""

    x: Any


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Level.HIGH, 3),
        (Model(a=Level.HIGH), {"class": "Model", "a": 3}),
        (Point(b"ab"), {"class": "Point", "x": {"bytes": 2}}),
        (float("nan"), "nan"),
        (complex(1, 2), "(1+2j)"),
    ],
)
def test_each_kind_has_a_plain_form(value: Any, shown: Any) -> None:
    """It is JSON, names classes, and has the size of bytes only."""
    assert plain(value) == shown
    json.dumps(plain(value))
