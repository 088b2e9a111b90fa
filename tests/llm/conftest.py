"""Fixtures for tests of models: ``local_model`` is in turn the kind and the awkward one, or a real Ollama."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from ecowas_lc.local_model import LocalModel


@pytest.fixture
def local_model(any_local_model: LocalModel) -> LocalModel:
    """The local model in each of its manners."""
    return any_local_model


@pytest.fixture
def http(local_model: LocalModel) -> Iterator[httpx.Client]:
    """A plain HTTP client of the local model."""
    with httpx.Client(base_url=local_model.base_url, timeout=60) as client:
        yield client
