"""Follow-ups completed from an earlier question: "And in 2024?" repeats the question before it for another year.

Passages are found by words, and a follow-up leaves out the most important ones. What it states replaces the same
kind of part in the earlier question: a year its year, a name its name, a subject its subject.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from ecowas_lc.documents.evidence import Evidence, find_evidence
from ecowas_lc.documents.facts import MONTH_NAMES, folded, times_in
from ecowas_lc.documents.question import HEAD, QUESTION_WORDS, SENTENCE_END, ParsedQuestion, read_question
from ecowas_lc.documents.sources import Corpus, Source
from ecowas_lc.documents.terms import best_likeness, content_words, is_everyday, names_in

_MOST_TURNS = 50
_MOST_QUESTIONS = 20
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*•–]|\d{1,2}[.)])[ \t]+", re.MULTILINE)
_LINE_THAT_ASKS = re.compile(rf"\n\s*(?={QUESTION_WORDS})", re.IGNORECASE)
_ASKS = re.compile(rf"\W*{QUESTION_WORDS}", re.IGNORECASE)
_MAY_STATE = re.compile(
    r"\W*(?:when|where|who|which|quand|où|qui|quando|onde|quem|que)\b.*,", re.IGNORECASE | re.DOTALL
)
# After a comma, other question words mostly begin a relative clause.
_JOINT = re.compile(
    rf"(?:[,;]?\s+(?:and|et|e|&)\s+(?:(?:also|aussi|também)\s+)?(?={QUESTION_WORDS})"
    r"|[,;]\s+(?=(?:how|what|combien|quel(?:le)?s?|quant[oa]s?|qual|quais)\b))",
    re.IGNORECASE,
)
_LONGEST_PHRASE = 6
_LED = re.compile(
    r"^\W*(?:(?:and|but|or|so|then|et|mais|ou|alors|donc|e|mas|então)\b[\s,]*)?"
    r"(?:(?:what|how) about\b|qu['’]en est-il\b|quid\b|e? ?quanto (?=(?:a|à|ao|aos|às)\b))?\s*",
    re.IGNORECASE,
)
_PREPOSITIONS = (
    r"of|on|in|at|for|from|to|by|with|between|de|du|des|d['’]|au|aux|à|en|dans|pour|par|sur|entre|chez"
    r"|do|da|dos|das|em|no|na|nos|nas|para|por|pelo|pela|ao|aos|às|sobre"
)
_OPENS_WITH_PREPOSITION = re.compile(rf"^(?:{_PREPOSITIONS})(?:\b|(?<=['’]))", re.IGNORECASE)
_SUBJECT = re.compile(
    rf"(?<!\w)(?:(?:{_PREPOSITIONS})(?:\b|(?<=['’]))|(?:the|le|la|les|o|a|os|as|un|une|um|uma|an)\b|l['’])",
    re.IGNORECASE,
)
_COMPLEMENT = re.compile(rf"\w\s+(?:{_PREPOSITIONS})(?:\b|(?<=['’]))", re.IGNORECASE)
_PLACED = re.compile(
    r"\b(?:in|at|for|from|to|of|au|aux|à|en|dans|pour|de|du|em|no|na|nos|nas|para|do|da)\s+(?:(?:the|le|la|o|a)\s+)?$"
    r"|\b(?:l|d)['’]$",
    re.IGNORECASE,
)
_POINTS = re.compile(
    r"(?<![\w-])(?:it|they|them|its|their|theirs|(?:this|these|those) (?!is\b|are\b|was\b|were\b)\w+"
    r"|elle|elles|ils|eux|son|sa|ses|leurs?|celui-ci|celle-ci|ceux-ci|celles-ci|cela|ça"
    r"|ele|ela|eles|elas|dele|dela|deles|delas|nele|nela|isso|isto|disso|esse|essa|esses|essas)(?![\w'’-])",
    re.IGNORECASE,
)
# "Est-elle en service ?", "Qui l'exploite ?": nothing before these words names the subject.
_INVERTED = re.compile(r"(?<=\w)-(?:t-)?(?:il|elle|ils|elles)(?![\w'’-])(?<!y a-t-il)", re.IGNORECASE)
_OBJECT = re.compile(r"(?<=^qui )(?:l['’]|l[ae]s? (?=\w+\W*$))", re.IGNORECASE)
# Portuguese omits the pronoun: "Quando entrou em serviço?"
_WITHOUT_SUBJECT = re.compile(
    r"(?:quando|quanto|quem|onde|como|porqu[eê])\b(?!.*\b(?:o|a|os|as|à|às|aos?|d[oa]s?|n[oa]s?|pel[oa]s?|uma?)\b)"
    r"(?:\W+\w+){0,4}\W*$",
    re.IGNORECASE,
)
_POINTS_AT_NOTHING = re.compile(
    r"\b(?:(?:does|did|will|would) it (?:take|cost to)|(?:is|was) it (?:true|possible|correct)"
    r"|it is (?:true|possible))\b",
    re.IGNORECASE,
)
_TO_THE_ASSISTANT = re.compile(
    r"\b(?:you|your|me|tu|te|toi|vous|votre|vos|você|vocês|consegues|podes|podem)\b", re.IGNORECASE
)


def find_all_evidence(message: str, sources: Sequence[Source], corpus: Corpus) -> list[Evidence]:
    """Return what :func:`find_evidence` returns for each question of a message, in their order."""
    found: list[Evidence] = []
    questions = _questions_in(message)
    for question, complete in zip(questions, completed_questions(questions), strict=True):
        answers = find_evidence(read_question(complete, known_names=corpus.names), sources, corpus)
        if not answers and question != complete:  # perhaps it continues no other question
            read = read_question(question, known_names=corpus.names)
            answers = find_evidence(read, sources, corpus) if read.terms else []
        known = [one.sentence for one in found]
        found += [
            replace(one, answers_second=True) if known else one for one in answers if one.sentence not in known
        ]
    return found


def _questions_in(message: str) -> list[str]:
    """Return the questions of a message, each with the statements before it; all of it if it has only one.

    Question marks and list marks may be missing: a line or a sentence that begins with a question word asks, too.
    """
    questions = [""]
    lines = _LINE_THAT_ASKS.split(_LIST_MARK.sub("", message.strip()))
    for sentence in (sentence for line in lines for sentence in SENTENCE_END.split(line)):
        questions[-1] = f"{questions[-1]} {sentence}".lstrip()
        if len(questions) > _MOST_QUESTIONS:
            continue
        separated = _separated(questions[-1])
        if sentence.endswith("?") or _asks(sentence) or ("?" not in message and len(separated) > 1):
            questions[-1:] = [*separated, ""]
    *asked, rest = questions
    return [*asked[:-1], f"{asked[-1]} {rest}".rstrip()] if len(asked) > 1 else [message]


def _asks(sentence: str) -> bool:
    return _ASKS.match(sentence) is not None and _MAY_STATE.match(sentence) is None


def _separated(sentence: str) -> list[str]:
    """Split a sentence that joins questions with "and" or commas, except where one needs those before it."""
    found: list[str] = []
    joints = [*_JOINT.finditer(sentence)][:_MOST_QUESTIONS]
    begin = 0
    for joint, following in zip_longest(joints, joints[1:]):
        first = f"{sentence[begin : joint.start()]}?"
        if _is_complete(sentence[joint.end() : following.start() if following else len(sentence)], first):
            found.append(first)
            begin = joint.end()
    return [*found, sentence[begin:]]


def _is_complete(second: str, first: str) -> bool:
    """Return whether a question that is joined to another can be asked without it."""
    before, asked = read_question(first), read_question(second)
    if asked.names:
        is_complete = bool(asked.terms)
    else:  # "what is the tariff?" leaves out whose; and a word that both have may refer back
        is_complete = len(asked.terms) > (1 if _COMPLEMENT.search(second) else 2) and not any(
            best_likeness(word, before.terms) == 1.0 for word in asked.terms
        )
    is_about_something = not all(map(is_everyday, (*asked.terms, *asked.names)))
    return is_complete and is_about_something and not _pointer(second, asked)


def completed_questions(questions: Sequence[str]) -> list[str]:
    """Return the questions of a conversation, oldest first, each completed from the one before it."""
    found: list[str] = []
    for question in questions[-_MOST_TURNS:]:
        found.append(completed_question(question, _latest(found)))
    return [*questions[:-_MOST_TURNS], *found]


def completed_question(question: str, earlier: str) -> str:
    """Return a follow-up as a complete question; a question with its own subject is returned unchanged.

    Args:
        question: The question.
        earlier: The complete question that it may continue; empty if there is none.
    """
    if not earlier or _TO_THE_ASSISTANT.search(question):
        return question
    led = _LED.match(question)
    said = question[led.end() :].strip() if led else question.strip()
    is_led = bool(led and led[0].strip())
    names = names_in(f"a {said}") if is_led and len(said.split()) < _LONGEST_PHRASE else names_in(said)
    asked = read_question(said, known_names=names)
    month = _month_in(said) if not asked.times else ""
    if points := _pointer(said, asked):
        return _about_the_same(said, asked, earlier, points)
    if not asked.terms and not asked.kinds and asked.wanted == "anything":
        return _with_others(said, names, earlier, month) if names or asked.times or month else question
    if asked.wanted != "anything":
        bare = not asked.terms and not asked.names
        short = is_led and len(asked.terms) < 2 and not asked.names
        short = short or (_WITHOUT_SUBJECT.match(said) is not None and not asked.names)
        return _about_the_same(said, asked, earlier, None) if bare or short else question
    if not is_led or not said.endswith("?") or len(said.split()) > _LONGEST_PHRASE:
        return question
    subject = _subject_of(earlier)
    own = [word for word in asked.terms if word not in asked.names]
    if _OPENS_WITH_PREPOSITION.match(said) or any(
        best_likeness(word, content_words(subject)) == 1.0 for word in own
    ):
        return _with_another_subject(said, earlier, subject)
    return _about_the_same(said, asked, earlier, None)


def _latest(questions: Sequence[str]) -> str:
    """Return the last question that has a subject; thanks and greetings have none."""
    for question in reversed(questions):
        read = read_question(question)
        if "?" in question and (read.terms or read.names) and not _TO_THE_ASSISTANT.search(question):
            return question
    return ""


def _pointer(said: str, asked: ParsedQuestion) -> re.Match[str] | None:
    """Return the word that refers back, unless it refers to a name before it."""
    found = _INVERTED.search(said) or _OBJECT.search(said)
    if found is not None and not content_words(said[: found.start()]):
        return found
    found = _POINTS.search(said)
    if found is None or _POINTS_AT_NOTHING.search(said):
        return None
    return None if any(0 <= said.find(name) < found.start() for name in asked.names) else found


def _about_the_same(said: str, asked: ParsedQuestion, earlier: str, points: re.Match[str] | None) -> str:
    """Return another question about the subject of the earlier one."""
    subject = _subject_of(earlier)
    if asked.times or asked.wanted == "time":
        subject = _without_times(subject)
    if points is not None:
        said = f"{said[: points.start()]} {said[points.end() :]}"
    return _tidy(f"{said.rstrip(' ?')} {subject}?")


def _with_others(said: str, names: Sequence[str], earlier: str, month: str) -> str:
    """Return the earlier question for other names or another time."""
    whole = earlier.rstrip(" ?")
    left: list[str] = []
    old = times_in(whole)
    if month and old and old[0].year is not None:
        whole = f"{whole[: old[0].start]}{month} {old[0].year}{whole[old[0].end :]}"
    elif times := times_in(said):
        new = times[0]
        text = new.text
        if new.year is None and old and old[0].year is not None:
            text = f"{text} {old[0].year}"
        if old:
            whole = whole[: old[0].start] + text + whole[old[0].end :]
        else:
            left.append(said[max(0, said.rfind(" ", 0, max(0, new.start - 1))) : new.end].strip())
    if names:
        together = _spans(said, names)
        name = " ".join(said[start:end] for start, end in together)
        spans = _spans(whole, names_in(whole))
        placed = [span for span in spans if _PLACED.search(whole[: span[0]])]
        chosen = placed[-1] if placed else (spans[0] if len(spans) == 1 else None)
        if chosen is None:
            left.append(name)
        else:
            whole = whole[: chosen[0]] + name + whole[chosen[1] :]
    return _tidy(f"{' '.join([whole, *left])}?")


def _with_another_subject(said: str, earlier: str, subject: str) -> str:
    whole = earlier.rstrip(" ?")
    if (opens := _OPENS_WITH_PREPOSITION.match(subject)) and not _OPENS_WITH_PREPOSITION.match(said):
        said = f"{opens[0]} {said}"
    kept = whole[: len(whole) - len(subject)] if subject and whole.endswith(subject) else f"{whole} "
    times = "" if times_in(said) else " ".join(time.text for time in times_in(subject))
    return _tidy(f"{kept}{said.rstrip(' ?')} {times}?")


def _subject_of(earlier: str) -> str:
    """Return a question's subject: the text after its question words and the noun that they ask for."""
    whole = earlier.rstrip(" ?")
    head = HEAD.search(whole)
    begin = head.end() if head else len(whole.split(" ", 1)[0])
    found = _SUBJECT.search(whole, begin)
    return whole[found.start() :] if found else whole[begin:].strip()


def _without_times(text: str) -> str:
    for time in reversed(times_in(text)):
        before = re.sub(r"\s*\b(?:in|on|en|em|le|a|no|de)\s*$", " ", text[: time.start], flags=re.IGNORECASE)
        text = before + text[time.end :]
    return text


def _spans(text: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the positions of names in a text; adjacent names are merged."""
    wanted = {folded(name) for name in names}
    spans: list[tuple[int, int]] = []
    for word in re.finditer(r"[^\W_]+", text):
        if folded(word[0]) not in wanted:
            continue
        if spans and re.fullmatch(r"[\s-]+", text[spans[-1][1] : word.start()]):
            spans[-1] = (spans[-1][0], word.end())
        else:
            spans.append((word.start(), word.end()))
    return spans


def _month_in(said: str) -> str:
    return next((word for word in said.rstrip(" ?").split() if folded(word) in MONTH_NAMES), "")


def _tidy(text: str) -> str:
    return re.sub(r"\s+(?=\?$)", "", re.sub(r"\s+", " ", text)).strip()
