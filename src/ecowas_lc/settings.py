"""Settings from the environment and ``.env``: the only place that reads either."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ecowas_lc._ollama_host import address_from_host
from ecowas_lc._secret import login_in, safe_url
from ecowas_lc.errors import ConfigurationError, UnknownSettingWarning

ENV_FILE = ".env"
PREFIX = "ECOWAS_LC_"
# How alike two names are, of 1. ECOWAS_DB_URL, which may be of an organisation with that name, is 0.67 like ours.
_ALIKE, _ALIKE_OF_OURS = 0.78, 0.5


class Settings(BaseSettings):
    """What the environment and ``.env`` in the working directory say; the environment wins.

    ``REDIS_URL`` wins over ``REDIS_HOST`` and the other parts. Durations are in seconds. Names that are
    ours start with ``ECOWAS_LC_``; the others are the ones that applications already have. One that starts
    so and is none of them, or nearly is one, is told of in an :class:`UnknownSettingWarning`.
    ``Settings()`` raises pydantic's error; :func:`get_settings` raises :class:`ConfigurationError`.
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # a mistyped REDIS_URL must not print its password
    )

    redis_url: SecretStr | None = None
    redis_host: str = "localhost"
    redis_port: int = Field(default=6379, ge=1, le=65535)
    redis_db: int = Field(default=0, ge=0)
    redis_username: str | None = None
    redis_password: SecretStr | None = None
    redis_max_connections: int = Field(default=10, ge=1)
    redis_memory_ttl: int = Field(default=86400, ge=1)
    redis_socket_timeout: float = Field(default=10.0, gt=0)
    redis_connect_timeout: float = Field(default=5.0, gt=0)
    redis_ssl_ca_certs: Path | None = None
    redis_ssl_certfile: Path | None = None
    redis_ssl_keyfile: Path | None = None

    agent_use_redis_memory: bool = True
    agent_max_history: int = Field(default=10, ge=1)
    supervisor_max_history: int = Field(default=20, ge=1)

    ollama_base_url: str = "http://localhost:11434"
    ollama_host: str | None = None
    ollama_model: str = "qwen2.5:0.5b"
    ollama_context_length: int = Field(default=0, ge=0)  # 0: the model's own, or Ollama's default
    ollama_num_parallel: int = Field(default=0, ge=0)  # 0: found out
    llm_temperature: float = Field(default=0.7, ge=0, le=2)
    llm_timeout: float = Field(default=120.0, gt=0)

    prefix: str = Field(default="ecowas", min_length=1, alias="ECOWAS_LC_PREFIX")
    data_dir: Path | None = Field(default=None, alias="ECOWAS_LC_DATA_DIR")
    valkey_server: Path | None = Field(default=None, alias="ECOWAS_LC_VALKEY_SERVER")
    wait_replicas: int = Field(default=0, ge=0, alias="ECOWAS_LC_WAIT_REPLICAS")
    linger_seconds: float = Field(default=60.0, ge=0, alias="ECOWAS_LC_LINGER_SECONDS")
    router: str = Field(default="hybrid", alias="ECOWAS_LC_ROUTER")

    @field_validator("redis_host", "ollama_base_url", "ollama_model", mode="after")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank")
        return value.strip()

    @field_validator("ollama_base_url", mode="after")
    @classmethod
    def _is_http(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")  # without one, as in localhost:11434, it is http
        if separator and scheme.lower() not in ("http", "https"):
            raise ValueError("must start with http:// or https://")
        login_in(value)
        return value

    @model_validator(mode="after")
    def _host_in_place_of_the_url(self) -> Self:
        if self.ollama_host is not None and "ollama_base_url" not in self.model_fields_set:
            # through __dict__, as the settings are frozen
            self.__dict__["ollama_base_url"] = self._is_http(address_from_host(self.ollama_host))
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            is_address = name in ("ollama_base_url", "ollama_host") and value is not None
            yield name, safe_url(value) if is_address else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Pydantic's own hook: where the values come from. Warns of names there that set nothing."""
        known = [field.alias or name.upper() for name, field in cls.model_fields.items()]
        for source, place in ((env_settings, "the environment"), (dotenv_settings, ENV_FILE)):
            assert isinstance(source, EnvSettingsSource)
            for name in sorted(map(str.upper, source.env_vars)):
                if name not in known and (problem := _problem_of(name, known)):
                    warnings.warn(f"{name} in {place} {problem}", UnknownSettingWarning, stacklevel=1)
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    @property
    def redis_source(self) -> Literal["url", "parts", "default"]:
        """Where the address comes from: ``REDIS_URL``, ``REDIS_HOST`` and its parts, or neither is set."""
        if self.redis_url is not None and self.redis_url.get_secret_value():
            return "url"
        return "parts" if "redis_host" in self.model_fields_set else "default"

    @property
    def ollama_is_set(self) -> bool:
        """Whether the user named a model server, so that no other may be put in its place."""
        return "ollama_base_url" in self.model_fields_set or self.ollama_host is not None


def _problem_of(name: str, settings: list[str]) -> str:
    """Return what is wrong with a name that no setting has; ``""`` where it is not meant for us."""
    if not name.startswith("ECOWAS"):
        return ""
    is_ours = name.startswith(PREFIX)
    known = {setting.removeprefix(PREFIX): setting for setting in settings}
    rest = name.removeprefix(PREFIX).removeprefix("ECOWAS").strip("_")
    nearest = get_close_matches(rest, known, n=1, cutoff=_ALIKE_OF_OURS if is_ours else _ALIKE)
    if nearest:
        return f"sets nothing: no setting has this name. Did you mean {known[nearest[0]]}?"
    if is_ours:
        names = ", ".join(setting for setting in settings if setting.startswith(PREFIX))
        return f"sets nothing: no setting has this name. There are: {names}."
    return ""


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and ``.env`` afresh, ``overrides`` (by field name) winning over both.

    Raises:
        ConfigurationError: a value can't be used or ``.env`` can't be read; the message names the variable
            and never shows what it holds.
    """
    env_file = Path(ENV_FILE)
    if env_file.exists() and not env_file.is_file():  # pydantic-settings would pass over it in silence
        raise ConfigurationError(f"{env_file.absolute()} can't be read: it is not a file. Move it away.")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise ConfigurationError(
            f"The settings can't be used: {problems}. Mend the environment or .env."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"{env_file.absolute()} can't be read: {reason}. Mend it, or move it away."
        ) from None


@cache
def get_settings() -> Settings:
    """The process's settings, read once. ``get_settings.cache_clear()`` makes the next call read again.

    Raises:
        ConfigurationError: see :func:`load_settings`.
    """
    return load_settings()
