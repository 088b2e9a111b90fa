"""LangChain's standard unit tests for chat models.

``ChatOllama`` passes all but the one on ``ls_model_name``, which the guarded model passes too. Both
skip the features that neither has: settings from the environment, and serialisation by LangChain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from ecowas_lc import GuardedChatOllama


class TestGuardedChatOllama(ChatModelUnitTests):
    """The guarded model takes the place of ``ChatOllama`` wherever LangChain expects a chat model."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class under test."""
        return GuardedChatOllama

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Its arguments."""
        return {"model": "llama3.1"}

    @pytest.fixture
    def benchmark(self) -> Callable[..., Any]:
        """Stand in for pytest-benchmark's fixture, without measuring."""
        return lambda call, *arguments: call(*arguments)
