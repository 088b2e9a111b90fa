"""Names of models and addresses, read as Ollama and its own client read them."""

from __future__ import annotations

import pytest
from ollama._client import _parse_host

from ecowas_lc.errors import ConfigurationError
from ecowas_lc.llm.names import canonical_name, is_loopback, is_same_model
from ecowas_lc.settings import address_from_host, load_settings


@pytest.mark.parametrize(
    "name",
    [
        "qwen2.5",
        "Qwen2.5",
        "qwen2.5:latest",
        "QWEN2.5:Latest",
        "library/qwen2.5",
        "Library/Qwen2.5:latest",
        "registry.ollama.ai/library/qwen2.5",
        "https://registry.ollama.ai/library/qwen2.5:latest",
        " qwen2.5 ",
    ],
)
def test_one_model_under_many_names(name: str) -> None:
    """Case, tag, namespace and registry are optional."""
    assert canonical_name(name) == "registry.ollama.ai/library/qwen2.5:latest"
    assert is_same_model(name, "qwen2.5")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("qwen2.5", "qwen2.5:3b"),
        ("qwen2.5", "me/qwen2.5"),
        ("hf.co/me/model", "me/model"),
        ("localhost:5000/me/tiny", "localhost:5001/me/tiny"),
        ("qwen2.5:3b", "qwen2.5:3"),
    ],
)
def test_other_models(one: str, other: str) -> None:
    """Another tag, namespace, registry or port is another model."""
    assert not is_same_model(one, other)
    assert is_same_model("localhost:5000/me/tiny", "LOCALHOST:5000/me/tiny:latest")


HOSTS = [
    "localhost",
    "localhost:1234",
    ":56789",
    "1.2.3.4",
    "1.2.3.4:56789",
    "http://1.2.3.4",
    "https://1.2.3.4",
    "https://1.2.3.4:56789",
    "example.com",
    "example.com:56789",
    "http://example.com",
    "https://example.com/",
    "example.com/path",
    "https://example.com:56789/path/",
    "[0001:002:003:0004::1]",
    "[0001:002:003:0004::1]:56789",
    "https://[0001:002:003:0004::1]:56789/path/",
]


@pytest.mark.parametrize("host", HOSTS)
def test_ollama_host_is_read_as_its_client_reads_it(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form that the client documents yields the same address, and the settings use it."""
    assert address_from_host(host) == _parse_host(host)
    monkeypatch.setenv("OLLAMA_HOST", host)
    settings = load_settings()
    assert settings.ollama_base_url == _parse_host(host)
    assert settings.ollama_is_set


def test_a_servers_own_host_is_this_machine() -> None:
    """A server can listen on 0.0.0.0, but clients can't connect to that everywhere."""
    assert address_from_host("0.0.0.0") == "http://127.0.0.1:11434"
    assert address_from_host("0.0.0.0:8080") == "http://127.0.0.1:8080"
    assert address_from_host("[::]") == "http://[::1]:11434"
    assert address_from_host('"localhost"') == "http://localhost:11434"


def test_ollama_base_url_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """OLLAMA_HOST counts only if OLLAMA_BASE_URL is not set; neither shows its password."""
    monkeypatch.setenv("OLLAMA_HOST", "someone:hunter2@two.example")
    assert load_settings().ollama_base_url == "http://someone:hunter2@two.example:11434"
    assert "hunter2" not in repr(load_settings())
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://one.example:1")
    assert load_settings().ollama_base_url == "http://one.example:1"
    monkeypatch.setenv("OLLAMA_BASE_URL", "")
    monkeypatch.setenv("OLLAMA_HOST", "")
    assert load_settings().ollama_base_url == "http://localhost:11434"
    monkeypatch.setenv("OLLAMA_HOST", "localhost:many")
    with pytest.raises(ConfigurationError, match="OLLAMA_HOST"):
        _ = load_settings().ollama_base_url


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("127.0.0.9", True),
        ("http://localhost:11434/v1", True),
        ("http://[::1]:1", True),
        ("http://ollama.localhost", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example", False),
        ("http://127.0.0.1.example", False),
    ],
)
def test_this_machine(address: str, expected: bool) -> None:
    """A server on this machine never needs a proxy; a name that only resembles one is another machine's."""
    assert is_loopback(address) is expected
