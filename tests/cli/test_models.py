"""The choice of the model that answers, and its announcement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ecowas_lc.cli.models import chosen_model
from ecowas_lc.errors import ModelNotFoundError, ModelServerUnavailableError
from ecowas_lc.local_model import MODEL_NAME, SERVER_NAME, LocalModel
from ecowas_lc.settings import Settings
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.servers import closed_port


def settings(url: str, model: str, *chosen: str) -> Settings:
    """Settings as if ``url`` and ``model`` were the defaults, but for those of the names that were chosen."""
    found = Settings(_env_file=None, ollama_base_url=url, ollama_model=model)
    found.__pydantic_fields_set__.difference_update({"ollama_base_url", "ollama_model"}.difference(chosen))
    return found


def nobody() -> str:
    return f"http://127.0.0.1:{closed_port()}"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the local model was started; a fake one, since only the choice is looked at."""
    starts: list[int] = []

    @contextmanager
    def running() -> Iterator[LocalModel]:
        starts.append(1)
        yield LocalModel("http://127.0.0.1:9", MODEL_NAME, 1)

    monkeypatch.setattr("ecowas_lc.local_model.running_local_model", running)
    monkeypatch.setattr("ecowas_lc.local_model.is_available", lambda: True)
    return starts


def test_ollama_at_its_default_address_is_tried_first(stub: OllamaStub, started: list[int]) -> None:
    """If Ollama has the model at its default address, it answers without any message."""
    with chosen_model(settings(stub.url, "tiny")) as model:
        assert (model.name, model.base_url, model.is_local, model.note) == ("tiny", stub.url, False, "")
    assert started == []


def test_the_local_model_where_there_is_no_ollama(started: list[int]) -> None:
    """If nothing answers at the default address, the local model does, and one line says so."""
    with chosen_model(settings(nobody(), "tiny")) as model:
        assert (model.name, model.base_url, model.is_local) == (MODEL_NAME, "http://127.0.0.1:9", True)
    assert started == [1]
    assert "\n" not in model.note
    assert "its answers are weak" in model.note
    assert "ollama pull qwen2.5:3b" in model.note


def test_an_address_that_was_set_is_never_replaced(started: list[int]) -> None:
    """If you name a server and it does not answer, that is an error."""
    with (
        pytest.raises(ModelServerUnavailableError, match="ollama serve"),
        chosen_model(settings(nobody(), "tiny", "ollama_base_url")),
    ):
        pass
    assert started == []


def test_a_model_that_is_not_pulled_is_an_error(stub: OllamaStub, started: list[int]) -> None:
    """If Ollama runs, one command pulls the model: no weaker one replaces it."""
    with pytest.raises(ModelNotFoundError, match="ollama pull big"), chosen_model(settings(stub.url, "big")):
        pass
    assert started == []


def test_the_demo_goes_on_with_the_local_model(stub: OllamaStub, started: list[int]) -> None:
    """The demo uses the local model if Ollama lacks the default one, unless the user chose the model."""
    with chosen_model(settings(stub.url, "big"), for_demo=True) as model:
        assert model.is_local
    assert "lacks big" in model.note
    with (
        pytest.raises(ModelNotFoundError),
        chosen_model(settings(stub.url, "big", "ollama_model"), for_demo=True),
    ):
        pass


def test_a_served_local_model_is_used(stub: OllamaStub, started: list[int]) -> None:
    """``local-model serve`` in another terminal is enough: its model is used although the default is another."""
    stub.models = [MODEL_NAME]
    stub.version = {"version": "0.1.0", "server": SERVER_NAME}
    for chosen in ((), ("ollama_base_url",)):
        with chosen_model(settings(stub.url, "qwen2.5:0.5b", *chosen)) as model:
            assert (model.name, model.base_url, model.is_local) == (MODEL_NAME, stub.url, True)
    assert started == []


def test_how_to_get_the_local_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the local model is not installed either, the error gives both solutions."""
    monkeypatch.setattr("ecowas_lc.local_model.is_available", lambda: False)
    with (
        pytest.raises(ModelServerUnavailableError, match=r"`ollama serve`.*`ecowas-lc local-model install`"),
        chosen_model(settings(nobody(), "tiny")),
    ):
        pass


def test_no_password_is_shown(stub: OllamaStub, started: list[int]) -> None:
    """A password in the address reaches only the server, whichever model answers."""
    address = stub.url.replace("//", "//someone:hunter2@")
    stub.models = ["tiny", MODEL_NAME]
    for name in stub.models:
        with chosen_model(settings(address, name, "ollama_base_url", "ollama_model")) as model:
            assert model.base_url == stub.url
    stub.models = ["tiny"]
    with chosen_model(settings(address, "big"), for_demo=True) as model:
        assert "hunter2" not in model.note


def test_a_real_ollama_may_have_the_small_model_too(stub: OllamaStub, started: list[int]) -> None:
    """The model by that name on a real Ollama answers with the settings that were asked for."""
    stub.models = [MODEL_NAME]
    chosen = settings(stub.url, MODEL_NAME, "ollama_base_url", "ollama_model")
    with chosen_model(chosen) as model:
        assert (model.is_local, model.note) == (False, "")
        assert getattr(model.chat, "temperature") == chosen.llm_temperature  # noqa: B009
    with (
        pytest.raises(ModelNotFoundError),
        chosen_model(settings(stub.url, "big")),
    ):  # nor does it replace the model
        pass


@pytest.mark.parametrize("name", ["TINY", "tiny:latest", "library/tiny", "registry.ollama.ai/library/Tiny:latest"])
def test_a_model_by_any_of_its_names(stub: OllamaStub, started: list[int], name: str) -> None:
    """Ollama accepts several names for a model; none of them is reported as missing."""
    stub.models = ["tiny:latest", name]
    with chosen_model(settings(stub.url, name, "ollama_model")) as model:
        assert model.name == name
    assert started == []
