"""What the tests of models share; the model itself is ``local_model`` in ``tests.fixtures.local_model``."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from ecowas_lc.local_model import LocalModel


@pytest.fixture
def http(local_model: LocalModel) -> Iterator[httpx.Client]:
    """A plain HTTP client of the local model."""
    with httpx.Client(base_url=local_model.base_url, timeout=60) as client:
        yield client
