"""Settings from the environment and ``.env``. This is the only module that reads their values."""

from __future__ import annotations

import ipaddress
import logging
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ecowas_lc._connection_settings import DEFAULTS, ENV_FILE, LONGEST_TIMEOUT, LONGEST_TTL, MOST_CONNECTIONS
from ecowas_lc._secret import login_in, safe_url
from ecowas_lc.errors import ConfigurationError, UnknownSettingWarning

log = logging.getLogger(__name__)

PREFIX = "ECOWAS_LC_"
NOT_FROM_A_FILE = frozenset({"ECOWAS_LC_DATA_DIR", "ECOWAS_LC_VALKEY_SERVER"})
"""Settings that ``.env`` may not set: which program to run, and where to write files on this machine.

The file is read from the working directory, which may hold files from an untrusted source.
"""

# Similarity of two names, 0 to 1. ECOWAS_DB_URL, which the organisation of that name may use, scores 0.67.
_ALIKE, _ALIKE_OF_OURS = 0.78, 0.5

# Variables that Kubernetes and Docker add to each container for a service called "redis": REDIS_PORT and others.
# For a service called "ecowas-lc" they start with our own prefix.
_SERVICE_LINK = re.compile(r"\s*(?:tcp|udp|sctp)://", re.IGNORECASE)
_SERVICE_NAME = re.compile(
    r".+_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?|NAME|ENV_\w+)"
)

ROLES = ("staff", "reviewer", "operator", "admin")
"""The roles that a user of the service may have."""

_HEADER = re.compile(r"[A-Za-z0-9-]+")

_UNITS = {
    "ms": 0.001, "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "mins": 60,
    "minute": 60, "minutes": 60, "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600, "d": 86400,
    "day": 86400, "days": 86400, "w": 604800, "week": 604800, "weeks": 604800,
}  # fmt: skip
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def _in_seconds(value: Any) -> Any:
    """Return the seconds of a duration such as ``2m`` or ``1h30m``; leave values without a unit to pydantic."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    parts = _DURATION.findall(text)
    if not parts or "".join(_DURATION.split(text)[::3]) or any(unit not in _UNITS for _, unit in parts):
        try:
            float(text)
        except ValueError:
            raise ValueError("must be seconds, or a duration such as 500ms, 90s, 2m, 1h30m or 1d") from None
        return value
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts), 6)


def duration_seconds(text: str) -> float:
    """Return the seconds of a duration such as ``500ms``, ``90s``, ``1h30m`` or ``30d``; without a unit, seconds.

    Raises:
        ConfigurationError: The text is not a duration.
    """
    try:
        seconds = float(_in_seconds(text))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(
            f"{text!r} is not a duration. Use seconds, or a unit: 500ms, 90s, 2m, 1h30m, 1d or 2w."
        )
    return seconds


Seconds = Annotated[float, BeforeValidator(_in_seconds), Field(le=LONGEST_TIMEOUT)]
WholeSeconds = Annotated[int, BeforeValidator(_in_seconds), Field(le=LONGEST_TTL)]


class _Told(str):
    """A value from the environment or from ``.env``, and which of the two it came from."""

    place: str

    def __new__(cls, text: str, place: str) -> Self:
        told = super().__new__(cls, text)
        told.place = place
        return told


@dataclass
class _Problem:
    """Why a setting's value can't be used, and whether that is already logged."""

    text: str
    is_service_link: bool
    is_said: bool = field(default=False, compare=False)

    def warn(self, text: str) -> None:
        """Log the problem, once for all copies of the settings."""
        if not self.is_said:
            self.is_said = True
            log.warning("%s", text)


def _unquoted(key: str, text: str | None) -> str | None:
    """Return a value without the quotes that ``docker run --env-file`` keeps; a password may have its own."""
    quoted = text and key != "redis_password" and re.fullmatch(r"""\s*(["'])(.*)\1\s*""", text, re.DOTALL)
    return quoted[2] if quoted else text


class Settings(BaseSettings):
    """The settings from the environment and from ``.env`` in the working directory; the environment has priority.

    If ``REDIS_URL`` is set, ``REDIS_HOST`` and the other parts are not read. Durations are in seconds, or have a
    unit: ``500ms``, ``90s``, ``2m``, ``1h30m``, ``1d``. Our own names start with ``ECOWAS_LC_``; the others are
    names that applications already use. An :class:`UnknownSettingWarning` warns about a name with our prefix that
    sets nothing, and about a name that ``.env`` may not set.

    Each value is validated when it is used: reading an attribute whose value can't be used raises
    :class:`ConfigurationError`, and other attributes are not affected. ``Settings()`` raises pydantic's error for
    an invalid argument; :func:`get_settings` raises :class:`ConfigurationError`.
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
    redis_max_connections: int = Field(default=DEFAULTS.redis_max_connections, ge=1, le=MOST_CONNECTIONS)
    redis_memory_ttl: WholeSeconds = Field(default=86400, ge=1)
    redis_socket_timeout: Seconds = Field(default=DEFAULTS.redis_socket_timeout, gt=0)
    redis_connect_timeout: Seconds = Field(default=DEFAULTS.redis_connect_timeout, gt=0)
    redis_ssl_ca_certs: Path | None = DEFAULTS.redis_ssl_ca_certs
    redis_ssl_certfile: Path | None = DEFAULTS.redis_ssl_certfile
    redis_ssl_keyfile: Path | None = DEFAULTS.redis_ssl_keyfile

    agent_use_redis_memory: bool = True
    agent_max_history: int = Field(default=10, ge=1)
    supervisor_max_history: int = Field(default=20, ge=1)

    ollama_base_url: str = "http://localhost:11434"
    ollama_host: str | None = None
    ollama_model: str = "qwen2.5:0.5b"
    ollama_context_length: int = Field(default=0, ge=0)  # 0: the model's own, or Ollama's default
    ollama_num_parallel: int = Field(default=0, ge=0)  # 0: determined automatically
    llm_temperature: float = Field(default=0.7, ge=0, le=2)
    llm_timeout: Seconds = Field(default=120.0, gt=0)

    prefix: str = Field(default="ecowas", min_length=1, alias="ECOWAS_LC_PREFIX")
    data_dir: Path | None = Field(default=None, alias="ECOWAS_LC_DATA_DIR")
    valkey_server: Path | None = Field(default=None, alias="ECOWAS_LC_VALKEY_SERVER")
    wait_replicas: int = Field(default=DEFAULTS.wait_replicas, ge=0, alias="ECOWAS_LC_WAIT_REPLICAS")
    linger_seconds: Seconds = Field(default=60.0, ge=0, alias="ECOWAS_LC_LINGER_SECONDS")
    router: str = Field(default="hybrid", alias="ECOWAS_LC_ROUTER")
    telemetry_content: bool = Field(default=False, alias="ECOWAS_LC_TELEMETRY_CONTENT")

    web_proxies: str = Field(default="", alias="ECOWAS_LC_WEB_PROXIES")
    web_proxy_header: str = Field(default="X-Forwarded-User", alias="ECOWAS_LC_WEB_PROXY_HEADER")
    web_proxy_role: str = Field(default="", alias="ECOWAS_LC_WEB_PROXY_ROLE")
    web_held_groups: str = Field(default="", alias="ECOWAS_LC_WEB_HELD_GROUPS")
    web_requests_per_minute: int = Field(default=1200, ge=1, alias="ECOWAS_LC_WEB_REQUESTS_PER_MINUTE")
    web_questions_per_minute: int = Field(default=60, ge=1, alias="ECOWAS_LC_WEB_QUESTIONS_PER_MINUTE")

    _problems: dict[str, _Problem] = PrivateAttr(default_factory=dict)
    _is_lenient: bool = PrivateAttr(default=False)

    @field_validator("redis_host", "ollama_base_url", "ollama_model", mode="after")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank")
        return value.strip()

    @field_validator("ollama_base_url", mode="after")
    @classmethod
    def _is_http(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")  # without a scheme, as in localhost:11434, it is http
        if separator and scheme.lower() not in ("http", "https"):
            raise ValueError("must start with http:// or https://")
        login_in(value)
        return value

    @field_validator("web_proxies", mode="after")
    @classmethod
    def _names_networks(cls, value: str) -> str:
        for word in filter(None, map(str.strip, value.split(","))):
            try:
                ip_network(word)
            except ValueError:
                raise ValueError(
                    "must be addresses or networks, separated by commas: 127.0.0.1,10.0.0.0/24"
                ) from None
        return value

    @field_validator("web_proxy_header", mode="after")
    @classmethod
    def _is_a_header(cls, value: str) -> str:
        if not _HEADER.fullmatch(value):
            raise ValueError("must be the name of a header")
        return value

    @field_validator("web_proxy_role", mode="after")
    @classmethod
    def _is_a_role(cls, value: str) -> str:
        if value and value not in ROLES:
            raise ValueError(f"must be empty or one of {', '.join(ROLES)}")
        return value

    @field_validator("web_held_groups", mode="after")
    @classmethod
    def _names_groups(cls, value: str) -> str:
        if any(len(word.split()) > 1 for word in value.split(",")):
            raise ValueError("must be groups' ids, separated by commas, or all")
        return value

    @field_validator("ollama_host", mode="after")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                address = address_from_host(value)
            except ValueError:
                address = ""
            if not address:  # not raised in the try block: that error may quote a password that contains a slash
                raise ValueError("has a host or port that can't be read")
            cls._is_http(address)
        return value

    @model_validator(mode="after")
    def _host_in_place_of_the_url(self) -> Self:
        if self.ollama_host is not None and "ollama_base_url" not in self.model_fields_set:
            # through __dict__, as the settings are frozen
            self.__dict__["ollama_base_url"] = address_from_host(self.ollama_host)
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            is_address = name in ("ollama_base_url", "ollama_host") and value is not None
            yield name, safe_url(value) if is_address else value

    @model_validator(mode="wrap")
    @classmethod
    def _validated_where_used(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            if not isinstance(data, dict):
                raise
            problems = {
                str(problem["loc"][0]): problem["msg"].removeprefix("Value error, ")
                for problem in error.errors(include_input=False, include_url=False, include_context=False)
                if problem["loc"] and isinstance(data.get(problem["loc"][0]), _Told)
            }
        found = handler({key: value for key, value in data.items() if key not in problems})
        names = {field.alias or name: name for name, field in cls.model_fields.items()}
        for key, what in problems.items():
            name, told = names[key], data[key]
            # Without an address the host is used, and neither may silently become the default.
            spoilt = {name}
            if name == "ollama_host" and "ollama_base_url" not in data:
                spoilt.add("ollama_base_url")
            is_link = name == "redis_port" and _SERVICE_LINK.match(told) is not None
            variable = _variable(name)
            text = (
                f"{variable} in {told.place} is a service link, which Kubernetes and Docker set for a service of "
                f"that name. It is ignored: unset it, or set {variable} to a port."
                if is_link
                else f"{variable} in {told.place} can't be used: {what}. Fix it there, or unset it."
            )
            for each in spoilt:
                found._problems[each] = _Problem(text, is_link)
                del found.__dict__[each]  # so that reading the attribute calls __getattr__
            if not is_link:
                found.__pydantic_fields_set__.add(name)
        return found

    if not TYPE_CHECKING:  # else mypy would not notice misspelt attributes

        def __getattr__(self, name: str) -> Any:
            problem = (self.__pydantic_private__ or {}).get("_problems", {}).get(name)
            if problem is None:
                return super().__getattr__(name)
            if not (problem.is_service_link or self._is_lenient):
                raise ConfigurationError(problem.text)
            default = type(self).model_fields[name].get_default(call_default_factory=True)
            problem.warn(
                problem.text if problem.is_service_link else f"{problem.text} Until then it is {default}."
            )
            return default

    @property
    def problems(self) -> list[str]:
        """Return what is wrong with each unusable value; reading its attribute raises the same message."""
        texts = (problem.text for problem in self._problems.values() if not problem.is_service_link)
        return list(dict.fromkeys(texts))

    def lenient(self) -> Settings:
        """Return settings for a call that names its own server: a value that can't be used counts as not set.

        When such a value is read, a warning is logged once.
        """
        if not self._problems:
            return self
        found = self.model_copy()
        found._is_lenient = True
        return found

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of the values, as pydantic requires. Warns about names there that set nothing."""
        names = {_variable(name): field.alias or name for name, field in cls.model_fields.items()}
        of_a_file = {name: key for name, key in names.items() if name not in NOT_FROM_A_FILE}
        sources: list[PydanticBaseSettingsSource] = [init_settings]
        for source, place, allowed in (
            (env_settings, "the environment", names),
            (dotenv_settings, ENV_FILE, of_a_file),
        ):
            assert isinstance(source, EnvSettingsSource)
            for name in sorted(map(str.upper, source.env_vars)):
                if name not in allowed and (problem := _problem_of(name, list(names))):
                    warnings.warn(f"{name} in {place} {problem}", UnknownSettingWarning, stacklevel=1)
            # Each under its exact name: pydantic would also take PREFIX, which is not ours.
            found = ((key, _unquoted(key, source.env_vars.get(name.lower()))) for name, key in allowed.items())
            told = {key: _Told(text, place) for key, text in found if text}
            sources.append(InitSettingsSource(settings_cls, told))
        return (*sources, file_secret_settings)

    @property
    def redis_source(self) -> Literal["url", "parts", "default"]:
        """Which settings the address comes from: ``REDIS_URL``, ``REDIS_HOST`` and its parts, or the default."""
        if self.redis_url is not None and self.redis_url.get_secret_value():
            return "url"
        return "parts" if "redis_host" in self.model_fields_set else "default"

    @property
    def ollama_is_set(self) -> bool:
        """Whether the user named a model server, so that no other may be used instead."""
        return "ollama_base_url" in self.model_fields_set or "ollama_host" in self.model_fields_set


def _variable(name: str) -> str:
    """Return the name of the variable that sets a field."""
    return Settings.model_fields[name].alias or name.upper()


def _problem_of(name: str, settings: list[str]) -> str:
    """Return what is wrong with a name that no setting has; ``""`` if the name is not meant for this package."""
    if name in NOT_FROM_A_FILE:
        return (
            "is ignored: for security, a file in the working directory can't choose which program runs or where "
            "files are written. Set it in the environment."
        )
    if not name.startswith("ECOWAS") or _SERVICE_NAME.fullmatch(name):
        return ""
    is_ours = name.startswith(PREFIX)
    known = {setting.removeprefix(PREFIX): setting for setting in settings}
    rest = name.removeprefix(PREFIX).removeprefix("ECOWAS").strip("_")
    nearest = get_close_matches(rest, known, n=1, cutoff=_ALIKE_OF_OURS if is_ours else _ALIKE)
    if nearest:
        return f"sets nothing: no setting has this name. Did you mean {known[nearest[0]]}?"
    if is_ours:
        names = ", ".join(setting for setting in settings if setting.startswith(PREFIX))
        return f"sets nothing: no setting has this name. Available: {names}."
    return ""


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and ``.env`` again; ``overrides`` (by field name) have priority over both.

    Args:
        **overrides: Values by field name.

    Returns:
        New settings.

    Raises:
        ConfigurationError: An override can't be used or ``.env`` can't be read; the message names the variable and
            never shows its value.
    """
    env_file = Path(ENV_FILE)
    if env_file.exists() and not env_file.is_file():  # pydantic-settings would silently skip it
        raise ConfigurationError(f"{env_file.absolute()} can't be read: it is not a file. Move it away.")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise ConfigurationError(
            f"The settings can't be used: {problems}. Fix the values that you passed."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"{env_file.absolute()} can't be read: {reason}. Fix it, or move it away."
        ) from None


_chosen: dict[str, Any] = {}


def choose_settings(**overrides: Any) -> None:
    """Make the whole process use ``overrides`` (by field name), such as command-line options; none: use none."""
    _chosen.clear()
    _chosen.update(overrides)
    get_settings.cache_clear()


@cache
def get_settings() -> Settings:
    """Return the process's settings, which are read once. Call ``get_settings.cache_clear()`` to read them again.

    Raises:
        ConfigurationError: An override can't be used or ``.env`` can't be read; see :func:`load_settings`.
    """
    return load_settings(**_chosen)


def usable_settings() -> Settings:
    """Return the process's settings for a call that names its own server and so needs no valid setting.

    A value that can't be used or read counts as not set, and a warning is logged once.
    """
    try:
        return get_settings().lenient()
    except ConfigurationError as error:
        _warn_of_file(str(error))
        return Settings(_env_file=None).lenient()  # type: ignore[call-arg]


@cache
def _warn_of_file(why: str) -> None:
    log.warning("%s Until then, only the environment is used.", why)


def address_from_host(host: str) -> str:
    """Return the address that ``OLLAMA_HOST`` names, parsed as Ollama's own client does.

    Scheme and port are optional (``http``; 11434, or the scheme's default port if a scheme is given). ``0.0.0.0``
    and ``[::]``, which a server listens on but a client can't connect to, mean this machine.
    """
    text = host.strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    default = {"http": 80, "https": 443}.get(scheme.lower(), 11434) if separator else 11434
    parts = urlsplit(f"{scheme}://{rest}")
    name = parts.hostname or "127.0.0.1"
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        if address.is_unspecified:
            name = "127.0.0.1" if address.version == 4 else "::1"
        name = f"[{name}]" if ":" in name else name
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    path = f"/{path}" if (path := parts.path.strip("/")) else ""
    return f"{scheme}://{login}{name}:{parts.port or default}{path}"
