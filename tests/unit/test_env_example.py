"""``.env.example``: every setting, placeholders only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from ecowas_lc.settings import NOT_FROM_A_FILE, Settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
LINE = re.compile(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", re.MULTILINE)
PLACEHOLDERS = {
    "REDIS_URL": "redis://user:password@localhost:6379/0",
    "OLLAMA_HOST": "localhost:11434",
    "REDIS_USERNAME": "user",
    "REDIS_PASSWORD": "password",
    "REDIS_SSL_CA_CERTS": "/path/to/ca.pem",
    "REDIS_SSL_CERTFILE": "/path/to/client.pem",
    "REDIS_SSL_KEYFILE": "/path/to/client.key",
}


def variables() -> dict[str, str]:
    return dict(LINE.findall(EXAMPLE.read_text(encoding="utf-8")))


def test_it_names_every_setting_and_nothing_else() -> None:
    """Each variable in the file is a setting, and each setting is in the file, once; two only by name."""
    text = EXAMPLE.read_text(encoding="utf-8")
    known = {field.alias or name.upper() for name, field in Settings.model_fields.items()}
    assert sorted(name for name, _ in LINE.findall(text)) == sorted(known - NOT_FROM_A_FILE)
    assert all(name in text for name in NOT_FROM_A_FILE)


def test_it_changes_nothing_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied to ``.env`` unchanged it sets nothing."""
    assert dotenv_values(EXAMPLE) == {}


def test_it_holds_defaults_and_placeholders_alone() -> None:
    """Each value is the default, or an obvious placeholder for a secret; all of them are valid."""
    for name, text in variables().items():
        if name in PLACEHOLDERS:
            assert text == PLACEHOLDERS[name]
    given = Settings(_env_file=None, **{_field(name): text for name, text in variables().items()})
    default = Settings(_env_file=None)
    for name in variables().keys() - PLACEHOLDERS.keys():
        assert getattr(given, _field(name)) == getattr(default, _field(name)), name


def _field(variable: str) -> str:
    return next(name for name, field in Settings.model_fields.items() if (field.alias or name.upper()) == variable)
