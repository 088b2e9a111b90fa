"""The screen shows one speaker at a time and whole words, and passes on no control sequence."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from ecowas_lc.agents.events import Routed, SpeakerDone, Token
from ecowas_lc.cli.live_answer import Prose, Screen
from ecowas_lc.cli.screen import labelled, shortened, wrapped
from ecowas_lc.cli.terminal import out

NAMES = {"energy": "Energy", "digital": "Digital"}


def terminal(width: int = 40) -> Console:
    return out(file=StringIO(), width=width, force_terminal=True, color_system=None)


def pipe() -> Console:
    return out(file=StringIO(), width=40)


def shown(console: Console) -> str:
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def test_the_first_to_speak_has_the_floor() -> None:
    """Tokens of two speakers never mix: the second's appear when the first has finished."""
    console = pipe()
    screen = Screen(NAMES, console)
    screen.show(Token("energy", "1", "Solar "))
    screen.show(Token("digital", "2", "Cables "))
    screen.show(Token("energy", "1", "first."))
    assert "Cables" not in shown(console)
    screen.show(SpeakerDone("energy", None))
    screen.show(Token("digital", "2", "first."))
    screen.show(SpeakerDone("digital", None))
    screen.done()
    assert shown(console) == "\n● Energy\n  Solar first.\n\n● Digital\n  Cables first.\n"


def test_words_are_shown_as_they_come() -> None:
    """The current speaker's words appear at once."""
    console = pipe()
    screen = Screen(NAMES, console)
    screen.show(Token("energy", "1", "Solar power "))
    assert shown(console).endswith("  Solar power")


def test_a_speaker_who_ended_while_waiting_is_heard_whole() -> None:
    """Text of another speaker meanwhile is kept and shown afterwards, whichever finishes first."""
    console = pipe()
    screen = Screen(NAMES, console)
    screen.show(Token("energy", "1", "Solar"))
    screen.show(Token("digital", "2", "Cables."))
    screen.show(SpeakerDone("digital", None))
    screen.show(SpeakerDone("energy", None))
    assert shown(console) == "\n● Energy\n  Solar\n\n● Digital\n  Cables.\n"


def test_what_is_broken_off_is_shown() -> None:
    """When an answer is interrupted, all of its text so far is on the screen."""
    console = pipe()
    screen = Screen(NAMES, console)
    screen.show(Token("energy", "1", "Solar pow"))
    screen.show(Token("digital", "2", "Cab"))
    screen.done()
    assert shown(console) == "\n● Energy\n  Solar pow\n\n● Digital\n  Cab\n"


def test_a_failure_is_told_after_the_speeches() -> None:
    """A group that could not answer is named with the reason."""
    console = pipe()
    screen = Screen(NAMES, console)
    screen.show(Token("energy", "1", "Solar."))
    screen.show(SpeakerDone("digital", {"status": "failed", "text": "", "reason": "The model is down."}))
    screen.show(SpeakerDone("energy", {"status": "answered", "text": "Solar."}))
    assert shown(console) == "\n● Energy\n  Solar.\n\n✗ Digital could not answer: The model is down.\n"


def test_a_note_on_an_answer_has_no_heading_of_its_own() -> None:
    """Text added under an answer's id appears below it."""
    console = pipe()
    screen = Screen(NAMES, console)
    screen.show(Token("energy", "1", "Solar."))
    screen.show(SpeakerDone("energy", None))
    screen.show(Token("energy", "1", "\n\nMissing: Digital."))
    screen.done()
    assert shown(console) == "\n● Energy\n  Solar.\n\n  Missing: Digital.\n"


def test_the_same_answers_again_are_no_synthesis() -> None:
    """If the synthesis only repeats the answers, a line says so instead of printing them twice."""
    console = pipe()
    screen = Screen(NAMES, console)
    for number, group in enumerate(NAMES):
        screen.show(Token(group, str(number), f"{group} speaks."))
        screen.show(SpeakerDone(group, None))
    screen.show(Token("synthesis", "s", "**Energy**\n\nenergy speaks.\n\n**Digital**\n\ndigital speaks."))
    screen.show(SpeakerDone("synthesis", None))
    assert shown(console).count("energy speaks.") == 1
    assert "shown separately" in shown(console)


def test_the_route_and_its_reason() -> None:
    """The asked groups are shown with how and why they were chosen; a line also says if there are none."""
    console = pipe()
    screen = Screen(NAMES, console)
    screen.show(Routed(("energy", "digital"), "lexical", "Words found: solar."))
    screen.show(Routed((), "lexical", "A greeting."))
    assert shown(console).splitlines() == [
        "Route  energy, digital",
        "Why    Words found: solar (lexical)",
        "Route  no group: the supervisor answers",
        "Why    A greeting (lexical)",
    ]


@pytest.mark.parametrize("bits", [["The power pool of West Africa."], list("The power pool of West Africa.")])
def test_words_are_not_broken(bits: list[str]) -> None:
    """On a terminal lines end between words, however the text arrives, and are indented."""
    console = terminal(14)
    prose = Prose(console)
    for bit in bits:
        prose.write(bit)
    prose.end()
    assert shown(console) == "  The power\n  pool of West\n  Africa.\n"


def test_a_pipe_gets_the_lines_as_they_are() -> None:
    """Without a terminal, no line is wrapped, coloured or reformatted."""
    console = pipe()
    prose = Prose(console)
    text = "A **long** line that goes well beyond the forty columns there are.\n\n- a list\n"
    prose.write(text)
    prose.end()
    assert shown(console) == "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())


def test_bold_on_a_terminal() -> None:
    """Markdown's bold is shown as such on a terminal, across words."""
    console = Console(file=StringIO(), width=40, force_terminal=True, color_system="standard", highlight=False)
    prose = Prose(console)
    prose.write("Now **both of** them.\n")
    prose.end()
    assert shown(console) == "  Now \x1b[1mboth\x1b[0m \x1b[1mof\x1b[0m them.\n"


def test_a_model_cannot_steer_the_terminal() -> None:
    """Control characters in an answer do not reach the terminal."""
    console = terminal()
    prose = Prose(console)
    prose.write("\x1b]0;owned\x07Hel\x1b[31mlo\x9b2J\r\n")
    prose.end()
    assert shown(console) == "  ]0;ownedHel[31mlo2J\n"


def test_wide_characters_count_twice() -> None:
    """Lines fit the terminal even if characters take two columns."""
    console = terminal(12)
    prose = Prose(console)
    prose.write("西非 电力 联营")
    prose.end()
    assert shown(console) == "  西非 电力\n  联营\n"


def test_one_line_is_one_line() -> None:
    """A shortened text keeps its indent, has no line break and fits."""
    assert shortened("  a: first\nsecond " + "x" * 80, terminal(20)) == "  a: first second x…"


def test_wrapping_keeps_paragraphs() -> None:
    """Commands that an error puts on separate lines stay on separate lines."""
    assert wrapped("Run:\n  pip install", terminal(40)) == "Run:\n  pip install"


def test_lines_are_as_wide_as_they_look() -> None:
    """Letters that take two columns count as two, whether lines are broken or cut."""
    wide = "会議の番号"
    assert wrapped(f"{wide} {wide} {wide}", terminal(24), "    ", "  ! ") == f"  ! {wide}\n    {wide}\n    {wide}"
    assert shortened(f"  a: {wide}", terminal(10)) == "  a: 会議…"
    assert wrapped("électricité partagée", terminal(20)) == "électricité partagée"


def test_a_label_stands_before_its_lines() -> None:
    """Text that does not fit continues below, under the text."""
    console = terminal(30)
    labelled("Checkpoint", "1f1e938c-6c83 (step 4, loop, now)", 12, console)
    assert shown(console) == "Checkpoint  1f1e938c-6c83\n            (step 4, loop,\n            now)\n"
