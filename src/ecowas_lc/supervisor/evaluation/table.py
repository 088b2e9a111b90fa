"""Reports as a plain text table."""

from __future__ import annotations

from collections.abc import Mapping

from ecowas_lc.supervisor.evaluation.dialogues import MOVES, DialogueReport
from ecowas_lc.supervisor.evaluation.report import RouterReport


def format_table(reports: Mapping[str, RouterReport]) -> str:
    """Return the figures per router, language and group as text; scores are shares from 0 to 1."""
    groups = dict.fromkeys(group for report in reports.values() for group in report.by_group)
    languages = dict.fromkeys(language for report in reports.values() for language in report.by_language)
    rows = [["", *reports]]
    rows.append(["questions", *(str(report.n) for report in reports.values())])
    rows.append(["micro-F1", *(f"{report.micro_f1:.3f}" for report in reports.values())])
    rows.append(["exact set", *(f"{report.exact_set:.3f}" for report in reports.values())])
    rows.append(["ms a question", *(f"{report.ms_per_question:.2f}" for report in reports.values())])
    for language in languages:
        scores = [report.by_language[language] for report in reports.values()]
        rows.append(
            [
                f"{language or 'no language'} (F1 / exact)",
                *(f"{s.micro_f1:.3f} / {s.exact_set:.3f}" for s in scores),
            ]
        )
    for group in groups:
        cells = [report.by_group.get(group) for report in reports.values()]
        rows.append(
            [
                f"{group} (F1, +added -missed)",
                *(f"{cell.f1:.3f} +{cell.added} -{cell.missed}" if cell else "" for cell in cells),
            ]
        )
    return _aligned(rows)


def format_dialogues(reports: Mapping[str, DialogueReport]) -> str:
    """Return the figures on dialogues per router and language as text, including changes of subject."""
    languages = dict.fromkeys(language for report in reports.values() for language in report.by_language)
    rows = [["", *reports]]
    rows.append(["turns", *(str(report.n) for report in reports.values())])
    rows.append(["exact set", *(f"{report.exact_set:.3f}" for report in reports.values())])
    rows.append(["exact set in context", *(f"{report.exact_in_context:.3f}" for report in reports.values())])
    rows.append(["micro-F1", *(f"{report.micro_f1:.3f}" for report in reports.values())])
    for language in languages:
        scores = [report.by_language[language] for report in reports.values()]
        rows.append(
            [
                f"{language or 'no language'} (exact / in context)",
                *(f"{score.exact_set:.3f} / {score.exact_in_context:.3f}" for score in scores),
            ]
        )
    parts = [_aligned(rows)]
    for name, report in reports.items():
        table = [[f"{name}: expected, chosen", *MOVES]]
        table += [[expected, *(str(report.moves[expected][chosen]) for chosen in MOVES)] for expected in MOVES]
        parts.append(_aligned(table))
    return "\n\n".join(parts)


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
