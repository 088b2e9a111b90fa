"""Rows in columns: ids whole at any width, words broken between words."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from ecowas_lc.cli.screen import show_rows
from tests.cli.test_screen import pipe, shown, terminal

UUID = "2f191daa-3913-40ea-901a-8153a74ec700"
LONG = f"tenant/ecowas:user/42/{UUID}/{UUID}"
PLENARY = "réunion-de-l-énergie-à-Ouagadougou-première-séance-plénière"
WIDE = "会議のセッション番号一二三四五六七八九十"
ROWS = [
    (name, messages, "3 min ago", "24 h")
    for name, messages in (("quickstart", "2"), (UUID, "14"), (LONG, "4"), (PLENARY, "6"), (WIDE, "8"))
]
HEADINGS = ("session", "messages", "active", "expires in")
AGENTS = "agriculture, digital, energy, minerals, protocol, resource_mobilization, supervisor"


@pytest.mark.parametrize("width", [40, 50, 80, 100, 200])
def test_nothing_is_broken_at_any_width(width: int) -> None:
    """Each id is whole on one line, and nothing else is wider than the terminal, whatever the script."""
    console = terminal(width)
    show_rows(HEADINGS, ROWS, ("agents", [AGENTS] * len(ROWS)), console)
    lines = shown(console).splitlines()
    for name, *_ in ROWS:
        assert sum(line == name or line.startswith(f"{name}  ") for line in lines) == 1
    ids = {name for name, *_ in ROWS}
    assert all(cell_len(line) <= width for line in lines if line not in ids)
    said = " ".join(shown(console).split())
    assert said.count("resource_mobilization") == said.count("agriculture") == len(ROWS)


def test_a_screen_of_80_columns() -> None:
    """A long id stays whole in its row; text that no longer fits is printed below it."""
    console = terminal(80)
    show_rows(HEADINGS, ROWS[:3], ("agents", ["energy", AGENTS, "energy"]), console)
    assert shown(console).splitlines() == [
        "session                               messages  active     expires in",
        "quickstart                            2         3 min ago  24 h",
        "    energy",
        f"{UUID}  14        3 min ago  24 h",
        "    agriculture, digital, energy, minerals, protocol, resource_mobilization,",
        "    supervisor",
        LONG,
        "                                      4         3 min ago  24 h",
        "    energy",
    ]


def test_words_stand_beside_what_is_short() -> None:
    """If there is room, the text ends the row and wraps under its heading."""
    console = terminal(72)
    show_rows(HEADINGS, ROWS[:1], ("agents", [AGENTS]), console)
    assert shown(console).splitlines() == [
        "session     messages  active     expires in  agents",
        "quickstart  2         3 min ago  24 h        agriculture, digital,",
        "                                             energy, minerals, protocol,",
        "                                             resource_mobilization,",
        "                                             supervisor",
    ]


def test_columns_stand_under_each_other() -> None:
    """Wide characters do not shift the columns."""
    console = terminal(80)
    show_rows(HEADINGS, [ROWS[0], ROWS[4]], console=console)
    lines = shown(console).splitlines()
    assert len({cell_len(line.partition("3 min ago")[0]) for line in lines[1:]}) == 1


def test_in_a_pipe_a_row_is_a_line() -> None:
    """Piped output has one line for each session, with all its fields."""
    console = pipe()
    show_rows(HEADINGS, ROWS, ("agents", [AGENTS] * len(ROWS)), console)
    lines = shown(console).splitlines()
    assert [line.split()[0] for line in lines] == ["session", *(name for name, *_ in ROWS)]
    assert all(line.endswith(AGENTS) for line in lines[1:])
