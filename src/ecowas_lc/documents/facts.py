"""Facts in a text that code can compare: quantities, dates, names and negation, in English, French and Portuguese.

Everything here is derived from the text, without a model. A figure that can be read in two ways (``1,200`` is more
than a thousand in English, and 1.2 in French) has two possible values, and two figures agree if they share one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from ecowas_lc._language import language_of

# A unit's family, and its size in the family's base unit.
_UNITS: dict[str, tuple[str, str]] = {
    "%": ("percent", "1"),
    "percent": ("percent", "1"),
    "per cent": ("percent", "1"),
    "pour cent": ("percent", "1"),
    "por cento": ("percent", "1"),
    "w": ("watt", "1"),
    "kw": ("watt", "1e3"),
    "mw": ("watt", "1e6"),
    "gw": ("watt", "1e9"),
    "kilowatt": ("watt", "1e3"),
    "megawatt": ("watt", "1e6"),
    "gigawatt": ("watt", "1e9"),
    "megawatts": ("watt", "1e6"),
    "mégawatts": ("watt", "1e6"),
    "wh": ("watt-hour", "1"),
    "kwh": ("watt-hour", "1e3"),
    "mwh": ("watt-hour", "1e6"),
    "gwh": ("watt-hour", "1e9"),
    "twh": ("watt-hour", "1e12"),
    "kv": ("volt", "1e3"),
    "bps": ("bit/s", "1"),
    **{
        f"{prefix}bit{ending}": ("bit/s", scale)
        for prefix, scale in (
            ("mega", "1e6"),
            ("méga", "1e6"),
            ("giga", "1e9"),
            ("tera", "1e12"),
            ("téra", "1e12"),
        )
        for ending in ("s per second", "s par seconde", "s por segundo")
    },
    "kbps": ("bit/s", "1e3"),
    "mbps": ("bit/s", "1e6"),
    "gbps": ("bit/s", "1e9"),
    "tbps": ("bit/s", "1e12"),
    "mm": ("metre", "1e-3"),
    "cm": ("metre", "1e-2"),
    "m": ("metre", "1"),
    "km": ("metre", "1e3"),
    "metres": ("metre", "1"),
    "kilometres": ("metre", "1e3"),
    "kilometers": ("metre", "1e3"),
    "kilomètres": ("metre", "1e3"),
    "quilómetros": ("metre", "1e3"),
    "quilômetros": ("metre", "1e3"),
    "g": ("gram", "1"),
    "kg": ("gram", "1e3"),
    "t": ("gram", "1e6"),
    "tonne": ("gram", "1e6"),
    "tonnes": ("gram", "1e6"),
    "tons": ("gram", "1e6"),
    "tonelada": ("gram", "1e6"),
    "toneladas": ("gram", "1e6"),
    "kilograms": ("gram", "1e3"),
    "kilogrammes": ("gram", "1e3"),
    "quilogramas": ("gram", "1e3"),
    "ha": ("hectare", "1"),
    "hectares": ("hectare", "1"),
    **dict.fromkeys(("m²", "m2", "square metres", "square meters"), ("square metre", "1")),
    **dict.fromkeys(("mètres carrés", "metros quadrados"), ("square metre", "1")),
    **dict.fromkeys(("km²", "km2", "square kilometres", "square kilometers"), ("square metre", "1e6")),
    **dict.fromkeys(
        ("kilomètres carrés", "quilómetros quadrados", "quilômetros quadrados"), ("square metre", "1e6")
    ),
    **dict.fromkeys(("m³", "m3", "cubic metres", "cubic meters"), ("litre", "1e3")),
    **dict.fromkeys(("mètres cubes", "metros cúbicos"), ("litre", "1e3")),
    **dict.fromkeys(("litre", "litres", "liters", "litro", "litros"), ("litre", "1")),
    "second": ("second", "1"),
    "seconds": ("second", "1"),
    "minute": ("second", "60"),
    "minutes": ("second", "60"),
    "minutos": ("second", "60"),
    "hour": ("second", "3600"),
    "hours": ("second", "3600"),
    "heure": ("second", "3600"),
    "heures": ("second", "3600"),
    "hora": ("second", "3600"),
    "horas": ("second", "3600"),
    "day": ("day", "1"),
    "days": ("day", "1"),
    "jour": ("day", "1"),
    "jours": ("day", "1"),
    "dia": ("day", "1"),
    "dias": ("day", "1"),
    "week": ("day", "7"),
    "weeks": ("day", "7"),
    "semaine": ("day", "7"),
    "semaines": ("day", "7"),
    "semana": ("day", "7"),
    "semanas": ("day", "7"),
    "month": ("month", "1"),
    "months": ("month", "1"),
    "mois": ("month", "1"),
    "mês": ("month", "1"),
    "meses": ("month", "1"),
    "year": ("month", "12"),
    "years": ("month", "12"),
    "an": ("month", "12"),
    "ans": ("month", "12"),
    "année": ("month", "12"),
    "années": ("month", "12"),
    "ano": ("month", "12"),
    "anos": ("month", "12"),
}
UNIT_NAMES = frozenset(_UNITS)
_SCALES: dict[str, str] = {
    "thousand": "1e3",
    "mille": "1e3",
    "mil": "1e3",
    "million": "1e6",
    "millions": "1e6",
    "milhão": "1e6",
    "milhões": "1e6",
    "mn": "1e6",
    "billion": "1e9",
    "billions": "1e9",
    "milliard": "1e9",
    "milliards": "1e9",
    "bn": "1e9",
    "bilhão": "1e9",
    "bilhões": "1e9",
    "trillion": "1e12",
    "trillions": "1e12",
}
# "one" and its translations are left out, because they are articles in two of the three languages.
_NUMBER_WORDS: dict[str, int] = {
    word: number
    for number, words in {
        2: "two deux dois duas",
        3: "three trois três",
        4: "four quatre quatro",
        5: "five cinq cinco",
        6: "six seis",
        7: "seven sept sete",
        8: "eight huit oito",
        9: "nine neuf nove",
        10: "ten dix dez",
        11: "eleven onze",
        12: "twelve douze doze dozen",
        13: "thirteen treize treze",
        14: "fourteen quatorze catorze",
        15: "fifteen quinze",
        16: "sixteen seize dezasseis dezesseis",
        17: "seventeen dix-sept dezassete dezessete",
        18: "eighteen dix-huit dezoito",
        19: "nineteen dix-neuf dezanove dezenove",
        20: "twenty vingt vinte",
        30: "thirty trente trinta",
        40: "forty quarante quarenta",
        50: "fifty cinquante cinquenta",
        60: "sixty soixante sessenta",
        70: "seventy soixante-dix setenta",
        80: "eighty quatre-vingts oitenta",
        90: "ninety quatre-vingt-dix noventa",
        100: "hundred cent cem",
    }.items()
    for word in words.split()
}
for _tens, _tens_number in [item for item in _NUMBER_WORDS.items() if 20 <= item[1] <= 90]:
    for _word, _number in [*_NUMBER_WORDS.items(), ("one", 1), ("un", 1), ("um", 1), ("uma", 1)]:
        if _number < 10:
            for _between in ("-", " e ", " et ", "-et-"):
                _NUMBER_WORDS[f"{_tens}{_between}{_word}"] = _tens_number + _number
_MONTHS: dict[str, int] = {
    name: number
    for number, names in enumerate(
        (
            "january jan janvier janeiro",
            "february feb février fevrier fevereiro",
            "march mar mars março marco",
            "april apr avril abril",
            "may mai maio",
            "june jun juin junho",
            "july jul juillet julho",
            "august aug août aout agosto",
            "september sep sept septembre setembro",
            "october oct octobre outubro",
            "november nov novembre novembro",
            "december dec décembre decembre dezembro",
        ),
        start=1,
    )
    for name in names.split()
}
MONTH_NAMES = frozenset(_MONTHS)
_ORDINALS: dict[str, int] = {
    word: number
    for number, words in {
        1: "first 1st premier première 1er primeiro primeira 1.º 1º",
        2: "second 2nd deuxième second seconde 2e segundo segunda 2.º 2º",
        3: "third 3rd troisième 3e terceiro terceira 3.º 3º",
        4: "fourth 4th quatrième 4e quarto quarta 4.º 4º",
    }.items()
    for word in words.split()
}
_SPACES = " \u00a0\u202f\u2009"
_NUMBER = rf"\d{{1,3}}(?:[{_SPACES}]\d{{3}})+(?:[.,]\d+)?|\d+(?:[.,]\d+)*"
_MONTH = "|".join(sorted(map(re.escape, _MONTHS), key=len, reverse=True))
_ORDINAL = "|".join(sorted(map(re.escape, _ORDINALS), key=len, reverse=True))
_YEAR = r"(?:19|20)\d\d"
_OF = r"(?:\s+(?:of|de|do|da|du|d'|d’|in|en|em))?\s*"
_DAY_OF = r"(?:\s+(?:of|de|do|da|du|d'|d’))?\s*"
_TIMES = re.compile(
    rf"""
    (?P<iso>\b(?P<iy>{_YEAR})-(?P<im>\d\d)-(?P<id>\d\d)\b)
    | \b(?<![^\W\d_][-–])(?:\d{{1,2}}(?:er|st|nd|rd|th|\.º|º)?(?:\s+(?:and|to|et|au|e|a|-|–)\s+|[-–]))?
      (?P<d>\d{{1,2}})(?:er|st|nd|rd|th|\.º|º)?{_DAY_OF}\b(?P<m>{_MONTH})\b\.?(?:{_OF},?\s*(?P<y>{_YEAR})\b)?
    | \b(?P<m2>{_MONTH})\b\.?\s+(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\b(?!\d)(?:,?\s+(?P<y2>{_YEAR})\b)?
    | \b(?P<m3>{_MONTH})\b\.?{_OF}\s*(?P<y3>{_YEAR})\b
    | \b(?P<o>{_ORDINAL})\s+(?P<part>quarter|trimestre|half|semestre)\b(?:{_OF}(?:l'année\s+)?(?P<y4>{_YEAR})\b)?
    | \bq(?P<o5>[1-4])\s*(?P<y5>{_YEAR})\b
    | \b(?P<y6>{_YEAR})\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_SCALE = "|".join(sorted(map(re.escape, _SCALES), key=len, reverse=True))
_WORDS_AS_NUMBERS = "|".join(sorted(map(re.escape, _NUMBER_WORDS), key=len, reverse=True))
_QUANTITY = re.compile(
    rf"(?<![\w.,-])(?:(?P<number>{_NUMBER})|(?P<word>{_WORDS_AS_NUMBERS})(?!\w))"
    rf"(?:[{_SPACES}]*(?P<scale>{_SCALE})\b)?"
    rf"(?:[{_SPACES}]*(?:(?:de|d'|d’|of|working|business|calendar|consecutive|full)\s+)?(?P<unit>{_UNIT})(?![\w]))?",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|nobody|nothing|isn't|aren't|wasn't|doesn't|didn't|hasn't"
    r"|ne|n'|n’|pas|aucun|aucune|jamais|sans|ni|rien"
    r"|não|nao|nunca|nenhum|nenhuma|sem|nem|nada)\b|\bn['’]",
    re.IGNORECASE,
)
_NO = re.compile(r"\bno\b", re.IGNORECASE)
_MODALITY = re.compile(
    r"\b(?:will|would|may|might|could|should|expected|planned|proposed|plans?|aims?|intends?|estimated"
    r"|sera|seront|serait|pourrait|devrait|devraient|doit|doivent|prévue?s?|envisagée?s?|estimée?s?|projetée?s?"
    r"|será|serão|seria|poderá|poderia|deverá|deve|devem|previst[oa]s?|planead[oa]s?|planejad[oa]s?"
    r"|estimad[oa]s?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A figure in a text, from ``start`` to ``end``."""

    values: frozenset[Decimal]
    """The possible values, in the base unit of the family."""
    family: str
    """``"percent"``, ``"watt"`` …; empty if no known unit follows."""
    text: str
    start: int
    end: int

    def agrees_with(self, other: Quantity) -> bool:
        """Return whether both may be the same quantity; one of them may lack its unit."""
        if self.family and other.family and self.family != other.family:
            return False
        return not self.values.isdisjoint(other.values)


@dataclass(frozen=True, slots=True)
class TimePoint:
    """A date or a part of one: a year, a month, a quarter, a day; ``None`` for what the text does not say."""

    year: int | None = None
    month: int | None = None
    day: int | None = None
    part: tuple[str, int] | None = None
    """``("quarter", 1)`` or ``("half", 2)``."""
    text: str = ""
    start: int = 0
    end: int = 0

    def agrees_with(self, other: TimePoint) -> bool:
        """Return whether year, month, day and part are equal as far as both state them."""
        pairs = (
            (self.year, other.year),
            (self.month, other.month),
            (self.day, other.day),
            (self.part, other.part),
        )
        return all(a is None or b is None or a == b for a, b in pairs)

    def is_within(self, other: TimePoint) -> bool:
        """Return whether it has the same year, month, day and part as ``other``, as far as ``other`` has them."""
        pairs = (
            (self.year, other.year),
            (self.month, other.month),
            (self.day, other.day),
            (self.part, other.part),
        )
        return all(b is None or a == b for a, b in pairs)


def month_of(word: str) -> int | None:
    """Return the number of the month that a word names, or ``None``."""
    return _MONTHS.get(folded(word))


def folded(text: str) -> str:
    """Return a text in lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


@lru_cache(maxsize=4096)
def times_in(text: str) -> tuple[TimePoint, ...]:
    """Return the dates in a text, in order."""
    return tuple(_times(text))


def _times(text: str) -> Iterator[TimePoint]:
    for match in _TIMES.finditer(text):
        group = match.groupdict()
        time = _time_of(group)
        if time is not None:
            yield replace(time, text=match[0], start=match.start(), end=match.end())


def _time_of(group: Mapping[str, str | None]) -> TimePoint | None:
    """Return the date of a match of ``_TIMES``, or ``None`` if there is no such day."""

    def number(*names: str) -> int | None:
        return next((int(found) for name in names if (found := group[name])), None)

    year = number("iy", "y", "y2", "y3", "y4", "y5", "y6")
    if group["iso"]:
        return TimePoint(year, number("im"), number("id"))
    if month := group["m"] or group["m2"]:
        day = number("d", "d2")
        return TimePoint(year, _MONTHS[month.lower()], day) if day is not None and 1 <= day <= 31 else None
    if month := group["m3"]:
        return TimePoint(year, _MONTHS[month.lower()])
    if ordinal := group["o"] or group["o5"]:
        count = int(ordinal) if ordinal.isdigit() else _ORDINALS[ordinal.lower()]
        is_half = (group["part"] or "").lower() in ("half", "semestre")
        return TimePoint(year, part=("half" if is_half else "quarter", count))
    return TimePoint(year)


@lru_cache(maxsize=4096)
def quantities_in(text: str) -> tuple[Quantity, ...]:
    """Return the figures in a text that are not dates, in order."""
    covered = [(time.start, time.end) for time in times_in(text)]
    found = []
    for match in _QUANTITY.finditer(text):
        if any(start <= match.start() < end for start, end in covered):
            continue
        scale = Decimal(_SCALES[match["scale"].lower()]) if match["scale"] else Decimal(1)
        family, factor = _UNITS[match["unit"].lower()] if match["unit"] else ("", "1")
        numbers = [Decimal(_NUMBER_WORDS[match["word"].lower()])] if match["word"] else _values(match["number"])
        values = frozenset((number * scale * Decimal(factor)).normalize() for number in numbers)
        if values:
            found.append(Quantity(values, family, match[0], match.start(), match.end()))
    return tuple(found)


_ACCORDING_TO = re.compile(r"segundo (?:[ao]s?|uma?|dados|fontes)\b", re.IGNORECASE)
_RANK = re.compile(rf"(?<!\w)(?P<o>{_ORDINAL})(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=4096)
def ranks_in(text: str) -> frozenset[int]:
    """Return the ordinals in a text, from first to fourth, that belong to no date."""
    covered = [(time.start, time.end) for time in times_in(text)]
    return frozenset(
        _ORDINALS[found["o"].lower()]
        for found in _RANK.finditer(text)
        if not any(start <= found.start() < end for start, end in covered)
        and not (found["o"].lower() == "segundo" and _ACCORDING_TO.match(text, found.start()))
    )


def _values(number: str) -> Iterable[Decimal]:
    """Return the possible values of a figure: a comma or point may separate decimals or thousands."""
    plain = re.sub(f"[{_SPACES}]", "", number)
    candidates = set()
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", plain) and not plain.startswith("0"):
        candidates.add(plain.replace(",", ""))
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?", plain) and not plain.startswith("0"):
        candidates.add(plain.replace(".", "").replace(",", "."))
    if re.fullmatch(r"\d+(?:[.,]\d+)?", plain):
        candidates.add(plain.replace(",", "."))
    for candidate in candidates:
        try:
            yield Decimal(candidate)
        except InvalidOperation:  # pragma: no cover - the patterns above admit decimals only
            continue


def is_negative(text: str) -> bool:
    """Return whether a text denies something; "no" in Portuguese, which means "in the", does not count."""
    found = {match[0].lower() for match in _NEGATION.finditer(text)}
    return bool(found - {"no"}) or ("no" in found and language_of(_NO.sub(" ", text)) != "pt")


def is_uncertain(text: str) -> bool:
    """Return whether a text is about something planned, expected or possible."""
    return _MODALITY.search(text) is not None
