"""The effective context window: the number of tokens that the server really reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_ollama import ChatOllama

from ecowas_lc.errors import ConfigurationError, ModelNotFoundError, ModelServerUnavailableError
from ecowas_lc.llm import aeffective_context, chat_model, effective_context, within_context
from ecowas_lc.llm.served import forget_served_models
from ecowas_lc.settings import get_settings
from tests.fixtures.ollama_stub import OllamaStub, serving_stub
from tests.fixtures.scripted_model import ScriptedModel, by_speaker

Context = Callable[[BaseChatModel], int | None]


@pytest.fixture
def stub() -> Iterator[OllamaStub]:
    with serving_stub() as serving:
        yield serving


@pytest.fixture(params=["sync", "async"])
def context(request: pytest.FixtureRequest) -> Context:
    """Ask for a model's context in one of the two ways, and close the connections of the user's model."""

    def blocking(model: BaseChatModel) -> int | None:
        try:
            return effective_context(model)
        finally:
            if isinstance(model, ChatOllama):
                model._client.close()

    async def awaiting(model: BaseChatModel) -> int | None:
        try:
            return await aeffective_context(model)
        finally:
            if isinstance(model, ChatOllama):
                await model._async_client.close()

    return blocking if request.param == "sync" else lambda model: asyncio.run(awaiting(model))


def ollama(stub: OllamaStub, **options: Any) -> ChatOllama:
    return ChatOllama(base_url=stub.url, model="tiny", **options)


def test_what_the_caller_set_is_what_holds(stub: OllamaStub, context: Context) -> None:
    """``num_ctx`` on the model is sent with every call: Modelfile and server don't matter, nothing is loaded."""
    stub.parameters, stub.loaded_context = "num_ctx 8192", 16384
    assert context(ollama(stub, num_ctx=12345)) == 12345
    assert [path for path, _ in stub.requests] == ["/api/show"]


def test_the_models_file_comes_next(stub: OllamaStub, context: Context) -> None:
    """Without options, Ollama uses the ``num_ctx`` in the Modelfile."""
    stub.parameters = 'stop                           "<|im_end|>"\nnum_ctx                        8192'
    assert context(ollama(stub)) == 8192


def test_what_others_loaded_does_not_matter(stub: OllamaStub, context: Context) -> None:
    """Whatever context another client has loaded, ours is requested explicitly, and nothing is loaded."""
    for loaded in (2048, 16384, None):
        stub.loaded_context = loaded
        assert context(ollama(stub)) == 4096
    assert {path for path, _ in stub.requests} == {"/api/show"}


def test_the_environment_says_where_the_model_does_not(
    stub: OllamaStub, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OLLAMA_CONTEXT_LENGTH has Ollama's meaning: a default, overridden by the Modelfile and the caller."""
    monkeypatch.setenv("OLLAMA_CONTEXT_LENGTH", "16384")
    get_settings.cache_clear()
    try:
        assert context(ollama(stub)) == 16384
        assert context(ollama(stub, num_ctx=2048)) == 2048
        forget_served_models()
        stub.parameters = "num_ctx 8192"
        assert context(ollama(stub)) == 8192
    finally:
        get_settings.cache_clear()


def test_no_more_than_the_training(stub: OllamaStub, context: Context) -> None:
    """By default it is 4,096, or the model's own maximum if that is less."""
    stub.trained = 2048
    assert context(ollama(stub)) == 2048


def test_more_than_the_training_is_not_believed(stub: OllamaStub, context: Context) -> None:
    """A Modelfile, or a caller, may set more than the model supports: Ollama lowers it silently."""
    stub.parameters = "num_ctx 999999"
    assert context(ollama(stub)) == 32768
    assert context(ollama(stub, num_ctx=999999)) == 32768


def test_a_server_that_does_not_tell_leaves_what_was_asked_for(
    stub: OllamaStub, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every server with Ollama's protocol describes its models: then the requested context counts."""
    monkeypatch.setattr(stub, "answer", lambda path, body: (501, {"error": "not offered"}))
    assert context(ollama(stub, num_ctx=8192)) == 8192
    assert context(ollama(stub)) == 4096


def test_errors_have_names(stub: OllamaStub, context: Context) -> None:
    """A missing model and a missing server are reported as such."""
    with pytest.raises(ModelNotFoundError, match="ollama pull huge"):
        context(ChatOllama(base_url=stub.url, model="huge"))
    with pytest.raises(ModelServerUnavailableError, match="ollama serve"):
        context(ChatOllama(base_url="http://127.0.0.1:9", model="tiny"))


def test_other_models_say_in_their_profile(context: Context) -> None:
    """Models of other providers may state it; otherwise it is unknown."""
    model = ScriptedModel(script=by_speaker({}))
    assert context(model) is None
    assert context(model.model_copy(update={"profile": {"max_input_tokens": 32000}})) == 32000


def test_a_model_is_held_to_its_window(stub: OllamaStub) -> None:
    """The window is requested explicitly, and no answer is longer than its part; shorter limits are kept."""
    for options, num_predict in (({}, 1024), ({"num_predict": -1}, 1024), ({"num_predict": 9000}, 1024)):
        held = within_context(ollama(stub, **options), 4096, 1024)
        assert isinstance(held, ChatOllama)
        assert (held.num_ctx, held.num_predict) == (4096, num_predict)
    own = within_context(ollama(stub, num_ctx=4096, num_predict=50), 4096, 1024)
    assert isinstance(own, ChatOllama)
    assert own.num_predict == 50
    assert within_context(own, 4096, 1024) is own
    other = ScriptedModel(script=by_speaker({}))
    assert within_context(other, 4096, 1024) is other


def test_a_chat_model_may_be_given_by_name() -> None:
    """A name is a model on Ollama; a model is used unchanged; anything else is refused."""
    made = chat_model("llama3.2:3b")
    assert isinstance(made, ChatOllama)
    assert made.model == "llama3.2:3b"
    assert chat_model(made) is made
    for wrong in ("", 7):
        with pytest.raises(ConfigurationError):
            chat_model(wrong)  # type: ignore[arg-type]
