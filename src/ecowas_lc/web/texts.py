"""The page's texts in English, French and Portuguese, and the choice of the language."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = ("en", "fr", "pt")
"""The languages of the page. The first is the default."""

_PLURAL = {"one", "other"}
_WIDE_SIGNS = re.compile(r" (?=[?!:;»%])|(?<=«) ")  # French puts a no-break space there
_MONTHS = {
    "en": ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    "fr": ["janv.", "févr.", "mars", "avril", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc."],
    "pt": ["jan.", "fev.", "mar.", "abr.", "mai.", "jun.", "jul.", "ago.", "set.", "out.", "nov.", "dez."],
}
_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


@dataclass(frozen=True)
class PageTime:
    """A point in time as a page shows it: machine-readable, in full, and relative to now."""

    iso: str
    exact: str
    ago: str


@dataclass(frozen=True)
class Texts:
    """The texts of one language. Call it with a text's name to get the text with its placeholders filled."""

    language: str
    _texts: Mapping[str, str | Mapping[str, str]]

    def __call__(self, name: str, **gaps: Any) -> str:
        """Return a text.

        Args:
            name: The text's name, such as ``"chat.send"``.
            gaps: The value for each ``{name}`` in the text; ``n`` also chooses between singular and plural.

        Raises:
            KeyError: The text does not exist.
        """
        text = self._texts[name]
        if not isinstance(text, str):
            text = text["one" if self._is_one(gaps["n"]) else "other"]
        if not gaps:
            return text
        shown = {key: self.number(value) if isinstance(value, int) else value for key, value in gaps.items()}
        return text.format(**shown)

    def has(self, name: str) -> bool:
        """Return whether a text exists."""
        return name in self._texts

    def names(self) -> Iterator[str]:
        """Return the names of all texts."""
        return iter(self._texts)

    def raw(self, name: str) -> str | Mapping[str, str]:
        """Return a text with its placeholders, or both forms of it."""
        return self._texts[name]

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number in the language's notation."""
        text = f"{value:,.{digits}f}"
        if self.language == "en":
            return text
        return text.replace(",", "\u202f").replace(".", ",")

    def lasts(self, seconds: float | None) -> str:
        """Return how long something is kept; ``None`` means that it never expires."""
        if seconds is None:
            return self("common.never")
        for length, unit in _UNITS:
            if seconds >= length:
                return self(f"time.lasts_{unit}", n=int(seconds // length))
        return self("time.lasts_seconds", n=0)

    def moment(self, at: datetime | None, now: datetime | None = None) -> PageTime | None:
        """Return a point in time as a page shows it."""
        if at is None:
            return None
        at = at.astimezone(UTC)
        seconds = ((now or datetime.now(UTC)) - at).total_seconds()
        ago = self("time.now")
        if seconds >= 5:
            length, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
            ago = self(f"time.{unit}", n=int(seconds // length))
        return PageTime(at.isoformat(timespec="seconds"), self.exact(at), ago)

    def exact(self, at: datetime) -> str:
        """Return a date and time in UTC."""
        at = at.astimezone(UTC)
        return f"{at.day} {_MONTHS[self.language][at.month - 1]} {at.year}, {at:%H:%M} UTC"

    def _is_one(self, n: float) -> bool:
        return n in (0, 1) if self.language == "fr" else n == 1


@cache
def texts_of(language: str) -> Texts:
    """Return the texts of a language."""
    stored = tomllib.loads(files("ecowas_lc.web").joinpath(f"languages/{language}.toml").read_text("utf-8"))
    return Texts(language, dict(_flat(stored, language)))


def _flat(stored: Mapping[str, Any], language: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in stored.items():
        if isinstance(value, str):
            yield prefix + name, _spaced(value, language)
        elif value.keys() == _PLURAL:
            yield prefix + name, {form: _spaced(text, language) for form, text in value.items()}
        else:
            yield from _flat(value, language, f"{prefix}{name}.")


def _spaced(text: str, language: str) -> str:
    return _WIDE_SIGNS.sub("\u00a0", text) if language == "fr" else text


def wanted_language(accepted: str, chosen: str | None = None) -> str:
    """Return the language to answer in.

    Args:
        accepted: The browser's ``Accept-Language`` header.
        chosen: The language that the reader chose, which takes precedence.
    """
    if chosen in LANGUAGES:
        return str(chosen)
    weighed: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted[:1000].split(",")):
        tag, _, rest = part.strip().partition(";")
        language = tag.strip().lower().split("-")[0]
        if language not in LANGUAGES:
            continue
        weighed.append((-_weight(rest), place, language))
    best = min(weighed, default=(0.0, 0, LANGUAGES[0]))
    return best[2] if best[0] < 0 or not weighed else LANGUAGES[0]


def _weight(rest: str) -> float:
    name, _, value = rest.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
