"""An answer as it is heard, bit by bit, without the blanks around it."""

from __future__ import annotations


class Hearing:
    """Takes a text as it comes and gives it on so that all that was given, joined, is the text stripped."""

    def __init__(self) -> None:
        self.text = ""
        self._blanks = ""

    def take(self, text: str) -> str:
        """What can be given on now."""
        text = self._blanks + text
        if not self.text:
            text = text.lstrip()
        heard = text.rstrip()
        self._blanks = text[len(heard) :]
        self.text += heard
        return heard

    def rest_of(self, answer: str) -> str:
        """What is missing of the whole answer; nothing where something else was heard than was answered."""
        return answer[len(self.text) :] if answer.startswith(self.text) else ""
