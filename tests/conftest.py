"""Fixtures for every test; each family of them is a module of ``tests.fixtures``."""

from __future__ import annotations

pytest_plugins = ["tests.fixtures.faults", "tests.fixtures.local_model", "tests.fixtures.servers"]
