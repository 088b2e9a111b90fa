"""The Analytics and System pages."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ecowas_lc.storage.keys import Keys
from ecowas_lc.web import charts, views
from ecowas_lc.web.access import organisations_op
from ecowas_lc.web.analytics import figures_op
from ecowas_lc.web.reader import Reader
from ecowas_lc.web.texts import Texts

if TYPE_CHECKING:
    pass

_MOST_DAYS = 400


@dataclass(frozen=True)
class Period:
    """The figures of a period: its days, and each day's figures by organisation."""

    first: date
    last: date
    organisation: str
    days: list[dict[str, Any]]
    by_organisation: dict[str, list[dict[str, Any]]]


async def period_of(one: Reader, first: str, last: str, organisation: str) -> Period:
    """Return the figures of a period (default: the last 30 days) for one organisation, or for all visible ones.

    Users under the service's own prefix see the figures of every organisation, because figures hold no content.
    """
    today = datetime.now(UTC).date()
    end = min(_date(last) or today, today)
    begin = min(_date(first) or end - timedelta(days=29), end)
    back = min((today - begin).days + 1, _MOST_DAYS)
    names = [one.by.prefix]
    if one.by.prefix == one.web.settings.prefix:
        names = sorted(await one.web.server.arun(organisations_op(one.web.access.keys)))
    found: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        figures = await one.web.server.arun(figures_op(Keys(name), back))
        found[name] = [each for each in figures if begin.isoformat() <= each["day"] <= end.isoformat()]
    chosen = organisation if organisation in found else ""
    days = found[chosen] if chosen else _by_day(found.values())
    return Period(begin, end, chosen, days, found)


def _by_day(organisations: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the sums of each day, oldest first. Days that can't be read are missing."""
    found: dict[str, list[dict[str, Any]]] = {}
    for days in organisations:
        for each in days:
            found.setdefault(each["day"], []).append(each)
    return [_added(found[day]) for day in sorted(found)]


def _added(days: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of several organisations' figures for one day."""
    total: dict[str, Any] = {"day": days[0]["day"]}
    for day in days:
        for name, value in day.items():
            if isinstance(value, dict):
                counts = total.setdefault(name, {})
                for key, count in value.items():
                    counts[key] = counts.get(key, 0) + count
            elif name != "day":
                total[name] = total.get(name, 0) + value
    return total


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


async def analytics_of(one: Reader, first: str, last: str, organisation: str) -> dict[str, Any]:
    """Return the charts and tables of a period."""
    texts, speakers = one.texts, one.speakers
    period = await period_of(one, first, last, organisation)
    begin, end, days = period.first, period.last, period.days
    several = len(period.by_organisation) > 1
    questions, declined = (sum(each[name] for each in days) for name in ("questions", "declined"))
    frame: dict[str, Any] = {
        "csv": one.url(
            "/analytics.csv",
            **{"from": begin.isoformat(), "to": end.isoformat(), "organisation": period.organisation or None},
        ),
        "filters": {"first": begin.isoformat(), "last": end.isoformat(), "organisation": period.organisation},
        "organisations": list(period.by_organisation) if several else [],
        "tiles": [],
        "charts": [],
    }
    if not questions:
        return frame
    durations = views.summed(days, "durations")

    def bound(share: float) -> str:
        found = views.percentile(durations, share)
        if found is None:
            return "–"
        return _bound(texts, found)

    frame["tiles"] = [
        {"value": texts.number(questions), "label": texts("analytics.questions")},
        {"value": texts.number(sum(each["sessions"] for each in days)), "label": texts("analytics.sessions")},
        {"value": bound(0.5), "label": texts("analytics.median")},
        {"value": bound(0.9), "label": texts("analytics.slowest")},
        {"value": f"{texts.number(100 * declined / questions)}\u00a0%", "label": texts("analytics.declined_rate")},
    ]
    by_day = [
        charts.Bar(_short_day(each["day"]), (max(each["questions"] - each["declined"], 0), each["declined"]))
        for each in days
    ]
    title = texts("analytics.by_day")
    day_chart = {
        "anchor": "by-day",
        "title": title,
        "svg": charts.columns(by_day, title=title),
        "legend": [
            {"css": "answered", "text": texts("analytics.answered")},
            {"css": "declined", "text": texts("analytics.declined")},
        ],
        "heads": [texts("analytics.day"), texts("analytics.questions"), texts("analytics.declined")],
        "rows": [
            [each["day"], texts.number(each["questions"]), texts.number(each["declined"])]
            for each in reversed(days)
            if each["questions"]
        ],
    }
    by_group = _ranked(views.summed(days, "groups"))
    by_language = _ranked(views.summed(days, "languages"))
    times = sorted(durations.items(), key=lambda pair: float("inf") if pair[0] == "more" else float(pair[0]))
    frame["charts"] = [
        [day_chart],
        [
            _row_chart(
                texts,
                "group",
                [(speakers[name].name, count, speakers[name].css) for name, count in by_group],
            ),
            _row_chart(
                texts,
                "language",
                [
                    (
                        texts(f"languages.{name}" if texts.has(f"languages.{name}") else "languages.other"),
                        count,
                        "",
                    )
                    for name, count in by_language
                ],
            ),
        ],
        [
            _row_chart(
                texts,
                "duration",
                [
                    (
                        texts("analytics.more_than", n="300")
                        if name == "more"
                        else texts("analytics.up_to", n=name),
                        count,
                        "",
                    )
                    for name, count in times
                ],
            )
        ],
    ]
    if several and not period.organisation:
        sums = {name: sum(each["questions"] for each in own) for name, own in period.by_organisation.items()}
        frame["charts"][-1].append(_row_chart(texts, "organisation", [(*pair, "") for pair in _ranked(sums)]))
    return frame


def _bound(texts: Texts, name: str) -> str:
    return texts("analytics.more_than", n="300") if name == "more" else texts("analytics.up_to", n=name)


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _short_day(day: str) -> str:
    _, month, number = day.split("-")
    return f"{int(number)}.{int(month)}."


def _row_chart(texts: Texts, name: str, found: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    title = texts("analytics.durations" if name == "duration" else f"analytics.by_{name}")
    return {
        "anchor": f"by-{name}",
        "title": title,
        "svg": charts.rows(
            [charts.Bar(label, (count,), css) for label, count, css in found],
            title=title,
            figures=[texts.number(count) for _, count, _ in found],
        ),
        "legend": [],
        "heads": [texts(f"analytics.{name}"), texts("analytics.questions")],
        "rows": [[label, texts.number(count)] for label, count, _ in found],
    }


def csv_of(by_organisation: Mapping[str, Sequence[Mapping[str, Any]]], organisation: str = "") -> str:
    """Return the figures as CSV, with one line for each day and organisation."""
    chosen = {name: days for name, days in by_organisation.items() if organisation in ("", name)}
    every = [day for days in chosen.values() for day in days]
    groups = sorted({name for day in every for name in day["groups"]})
    languages = sorted({name for day in every for name in day["languages"]})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    heads = ["organisation", "day", "sessions", "questions", "declined", "mean_seconds"]
    writer.writerow([*heads, *(f"group {name}" for name in groups), *(f"language {name}" for name in languages)])
    for name, days in chosen.items():
        # so that a spreadsheet does not read a prefix as a formula
        shown = f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
        for day in days:
            answered = sum(day["durations"].values())
            mean = f"{day['milliseconds'] / 1000 / answered:.3f}" if answered else ""
            figures = [day["day"], day["sessions"], day["questions"], day["declined"], mean]
            counts = [day["groups"].get(group, 0) for group in groups]
            spoken = [day["languages"].get(language, 0) for language in languages]
            writer.writerow([shown, *figures, *counts, *spoken])
    return out.getvalue()


def system_of(one: Reader, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of the service and the findings of ``ecowas-lc doctor``."""
    texts = one.texts
    model = found["model"]
    areas: dict[str, list[dict[str, str]]] = {}
    if model["answers"] is not None:
        state = "ok" if model["answers"] else "broken"
        said = ": ".join(filter(None, (model["name"], model.get("note")))) or "model"
        areas["model"] = [_finding(texts, "server", state, said)]
    for check in found.get("checks") or ():
        fix = str(check.get("fix") or "")
        found_here = _finding(texts, str(check["what"]), str(check["state"]), str(check["text"]), fix)
        areas.setdefault(str(check["area"]).lower(), []).append(found_here)
    states = [each["state"] for findings in areas.values() for each in findings]
    worst = "broken" if "broken" in states else "warning" if "warning" in states else "ok"
    memory = found["memory"]
    tiles = [{"value": str(found["version"]), "label": texts("system.service")}]
    if "error" in memory:
        areas.setdefault("redis", []).append(_finding(texts, "memory", "broken", str(memory["error"])))
        worst = "broken"
    else:
        tiles += [
            {"value": _figure(texts, name, memory[name]), "label": texts(f"system.{name}")}
            for name in ("used_memory_bytes", "total_keys", "sessions", "agents")
            if isinstance(memory.get(name), int)
        ]
    tiles.append({"value": texts.number(int(found["runs"])), "label": texts("system.runs")})
    return {
        "worst": worst,
        "attention": sum(state in ("warning", "broken") for state in states) + ("error" in memory),
        "tiles": tiles,
        "areas": [
            {
                "title": texts(f"area.{area}") if texts.has(f"area.{area}") else area,
                "findings": findings,
            }
            for area, findings in areas.items()
        ],
    }


def _finding(texts: Texts, what: str, state: str, text: str, fix: str = "") -> dict[str, Any]:
    name = f"check.{what.replace(' ', '_')}"
    is_known = texts.has(name)
    return {
        "what": texts(name) if is_known else what,
        "lang": texts.language if is_known else "en",
        "state": state,
        "text": text,
        "fix": fix,
    }


def _figure(texts: Texts, name: str, value: int) -> str:
    if name != "used_memory_bytes":
        return texts.number(value)
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{texts.number(value / size, 1)}\u00a0{unit}"
    return f"{value}\u00a0B"
