"""LangChain's standard integration tests of chat models, on the small real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests

from ecowas_lc import GuardedChatOllama
from ecowas_lc.local_model import LocalModel

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]


class TestGuardedChatOllama(ChatModelIntegrationTests):
    """``ChatOllama`` passes the same tests here; the model calls no tools."""

    served: LocalModel

    @pytest.fixture(autouse=True)
    def _served(self, awkward_model: LocalModel) -> None:
        type(self).served = awkward_model

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return GuardedChatOllama

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "base_url": self.served.base_url,
            "model": self.served.model,
            "num_predict": 8,
            "temperature": 0,
            "client_kwargs": {"limits": httpx.Limits(max_keepalive_connections=0)},
        }

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False  # it works, and takes half a minute

    @pytest.fixture
    def benchmark(self) -> Callable[..., Any]:
        """Stand in for pytest-benchmark's fixture, without measuring."""
        return lambda call, *arguments: call(*arguments)

    @pytest.fixture
    def vcr(self) -> None:
        """The fixtures of the tests of recorded answers, which are off."""
