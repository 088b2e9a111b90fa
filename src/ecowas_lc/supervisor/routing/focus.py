"""The question within a text: the asking part of a pasted e-mail, without what it excludes.

The work is bounded: only the beginning and end of a long text are read, and only a few sentences are compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ecowas_lc.supervisor.routing.text import level

MOST_READ = 3_000
"""Characters that are read at either end of a text; a question is usually at the beginning or the end."""

MOST_ASKED = 700
"""Maximum number of characters of a text that are compared: about a hundred words."""

_LONG = 320  # characters; a shorter text is treated as one question
_SHORT = 260
_ALONE = 8  # words of a question that needs no context, unless it refers back

_SENTENCE = re.compile(r"(?<=[.!?…])\s+|\n+")
_CLAUSE = re.compile(r"(?<=[.!?;:,…])\s+|\s+[-–—]+\s*|\n+|(?=\b(?:but|mais|mas)\b)")

_WANTED = re.compile(
    r"""\?\s*$|\b(?:
    (?:my|our|the|a|one|this)\ (?:only\ )?(?:question|request|problem|concern|doubt|thing|issue)s?|
    (?:i|we)\ (?:would\ |also\ |just\ |only\ )?(?:need|want|like)\ |could\ (?:you|i|we)|can\ (?:you|we|i)|
    may\ we|wants?\ to\ know|asks?|wonder\w*|whether|tell\ (?:me|us)|let\ me\ (?:know|have)|
    (?:ma|notre|la|une|seule)\ (?:question|demande|requete|preoccupation)|
    (?:mon|notre|un)\ (?:souci|probleme|doute)|
    (?:je|nous)\ (?:voudr\w+|souhait\w+|cherch\w+|veux|voulons|demand\w+)|j'aimerais|pouvez|
    pourriez|est[\ -]ce\ qu|savoir|dites[\ -]moi|qui\ tracasse|
    (?:a|minha|nossa|uma)\ (?:duvida|questao|pergunta|pedido)|(?:outro|um|o)\ (?:problema|pedido)|
    (?:eu\ )?(?:queria|gostaria|preciso|precisamos|procuro|pretendo)|pode[mr]?\ |saber|digam?[\ -]me|
    o\ que\ interessa
    )""",
    re.VERBOSE,
)
_TURN = re.compile(
    r"""\b(?:
    only\ (?:this|thing|one)|the\ only|one\ thing|now\ (?:to|what|my|our)|my\ (?:question|request|problem)|
    what\ (?:i|we)\ (?:would\ |really\ |actually\ )?(?:need|want)|however|the\ point\ is|
    the\ reason\ i|but\ (?:my|our|here)|what\ (?:remains|is\ left|worries|bothers|puzzles)|
    here\ is\ (?:my|our|the)|
    ma\ question|une\ seule\ (?:question|chose)|j'en\ viens|par\ contre|en\ revanche|
    (?:un|mon|notre)\ (?:souci|probleme)|la\ raison|l'objet|ce\ qui\ (?:me|nous|reste)|
    il\ (?:me|nous)\ reste|reste\ (?:une|la|le|un)\ |autre\ chose\b|
    a\ minha\ duvida|agora\ (?:temos|o|a|vem)|escrevo|outra\ (?:razao|coisa)|
    o\ que\ (?:interessa|falta|me\ preocupa|nos\ preocupa)|
    a\ questao\ e|
    so\ preciso|queria|o\ problema|a\ minha\ (?:pergunta|questao)
    )""",
    re.VERBOSE,
)
_SETTLED = re.compile(
    r"""\b(?:
    thank|sorry|apolog|nothing\ to\ do|none\ of\ (?:that|this)|not\ for\ you|can\ wait|no\ (?:news|rush|hurry)|
    is\ fine|are\ fine|went\ (?:well|through)|(?:is|are|been|have)\ (?:sorted|settled|solved|ordered)|
    was\ pleased|please\ (?:do\ not|don't|leave)|already|
    merci|desole|rien\ ne\ presse|inutile|pas\ d'urgence|deja|peut\ attendre|en\ regle|regle[es]?\b|
    s'est\ bien|bien\ recu|
    obrigad|desculp|nao\ ha\ pressa|nao\ se\ preocup|ja\ (?:seguiu|mandou|esta|chegou)|
    (?:ficou|esta)\ resolv|resolveu-se|esta\ bem|
    nao\ tenho\ comentarios|pode\ esperar
    )""",
    re.VERBOSE,
)
_POINTS_BACK = re.compile(r"\b(?:this|that|those|these|ca|cela|ceci|isso|isto|disso|disto|lhes|them)\b")

# A clause that says what the question is not about, up to the clause's end.
_START = (
    r"^(?:\W|(?:ok|okay|so|and|but|please|pls|now|let'?s|alors|bon|et|mais|maintenant|entao|bem|e|mas|agora)\b)*"
)
_DISMISSED = re.compile(
    rf"""(?:
    {_START}(?:
        (?:it'?s\ |this\ is\ |i'?m\ )?not\ (?:about|asking|talking|interested|the\b)|
        (?:leave|put|set)\ (?:\S+\ ){{0,4}}?aside\b|leave\ (?:\S+\ ){{0,4}}?out\b|
        (?:leave|drop|skip|forget|ignore|remove)\ (?:about\ )?(?:the|that|those|all|any|out|aside)\b|
        never\ ?mind\ \w|
        (?:laiss|oubli|ignor|enlev|retir|abandonn)(?:e|ez|ons|er)\b(?!-)|(?:mets|mettons|mettez)\ de\ cote|
        (?:pas|ni)\ (?:besoin|question|interesse)|(?:pas|nada)\ d(?:e\ |')|
        (?:i'?m|we'?re|i\ am|we\ are)\ not\ (?:after|looking|here|interested|asking|talking)|
        (?:n|nao)\ (?:e|se\ trata)\ (?:sobre|de)|(?:n|nao)\ (?:preciso|quero|falo|pergunto)|
        (?:esquec|ignor|tir|retir)(?:e|a|am|emos|amos|er|ar)\b|deix(?:a|e|emos|em|ar)\ (?!d)|
        (?:poe|ponham)\ de\ lado|tirando\b
    )|
    \b(?:i|we)\ (?:really\ )?(?:do\ ?n['o]?t|dont)\ (?:really\ )?(?:need|want|care|mean)|
    {_START}(?:do\ ?n['o]?t|dont)\ (?:need|want|care|mean)|\bno\ need\ (?:of|for|to)|
    \bnothing\ to\ do\ with|\bwithout\ (?:talking|going\ into|the\ \S+\ (?:part|side|bit))|\bapart\ from|
    \b(?:je|on|nous)\ (?:ne\ |n')?(?:parle|parlons|demande|demandons|veux|voulons)\ (?:pas|ni)|
    \bsans\ (?:parler|le\ volet|la\ partie)|\bhormis|
    \brien\ a\ voir\ avec|\bil\ ne\ s'agit\ pas|^c'?\ ?(?:e?st\ )?pas\ (?:sur|pour|une\ question)|
    \bsem\ (?:ser|falar|a\ parte)|\bnada\ a\ ver\ com
    )""",
    re.VERBOSE,
)
_ONLY = re.compile(r"\b(?:only|just|juste|seulement|uniquement|so quero|so preciso|apenas|je veux|instead)\b")


TextSpan = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Focus:
    """The asking parts of a text and the parts that it excludes, as positions in the text; both may be empty."""

    text: str
    asked: tuple[TextSpan, ...]
    dismissed: tuple[TextSpan, ...]

    @property
    def question(self) -> str:
        """The asking parts as one text."""
        return " ".join(self.text[start:end] for start, end in self.asked)


def focus(text: str) -> Focus:
    """Return what a text asks, in at most :data:`MOST_ASKED` characters, and what it excludes."""
    read = [(0, len(text))]
    plain = ""
    if len(text) > 2 * MOST_READ:
        read = [(0, MOST_READ), (len(text) - MOST_READ, len(text))]
        plain = level(text[:MOST_READ]).ljust(len(text) - MOST_READ)
    plain = (plain + level(text[len(plain) :])).replace("’", "'")
    if len(text) > _LONG:
        read = _asking_part(plain, [part for span in read for part in _split(_SENTENCE, plain, span)])
    asked: list[TextSpan] = []
    dismissed: list[TextSpan] = []
    for start, end in (clause for span in read for clause in _split(_CLAUSE, plain, span)):
        found = _DISMISSED.search(plain[start:end])
        if found is None:
            asked.append((start, end))
            continue
        begin = start + found.start()
        only = _ONLY.search(plain, start + found.end(), end)
        dismissed.append((begin, only.start() if only else end))
        around = [(start, begin), (only.start(), end)] if only else [(start, begin)]
        asked += [span for span in around if len(plain[slice(*span)].split()) > 1]
    asked.sort()
    return Focus(text, tuple(_joined(asked, plain)), tuple(dismissed))


def clauses(text: str, spans: tuple[TextSpan, ...]) -> list[TextSpan]:
    """Return the clauses of parts of a text."""
    plain = level(text)
    return [clause for span in spans for clause in _split(_CLAUSE, plain, span)]


def _asking_part(plain: str, sentences: list[TextSpan]) -> list[TextSpan]:
    """Return the sentences of a long text that ask, with those that they refer back to."""
    said = [plain[start:end] for start, end in sentences]
    settled = [_SETTLED.search(sentence) is not None for sentence in said]
    questions = [place for place, sentence in enumerate(said) if sentence.endswith("?")]
    wanted = questions or [
        place for place, sentence in enumerate(said) if _WANTED.search(sentence) and not settled[place]
    ]
    if not wanted:
        return _ends(sentences)
    last = wanted[-1]
    if questions:  # the request may continue after the last question
        last = max([last, *(p for p in range(last + 1, len(said)) if _TURN.search(said[p]) and not settled[p])])
    turns = [place for place in range(last + 1) if _TURN.search(said[place]) and not settled[place]]
    alone = len(said[last].split()) >= _ALONE and not _POINTS_BACK.search(said[last])
    first = turns[-1] if turns else last if alone else max(0, last - 2)
    first = min([first, *(place for place in wanted if place >= last - 2)])
    chosen = [place for place in range(first, last + 1) if place == last or not settled[place]]
    if sum(len(said[place]) for place in chosen) < _SHORT and any(
        _POINTS_BACK.search(said[place]) for place in chosen
    ):
        chosen = [place for place in range(max(0, first - 3), first) if not settled[place]] + chosen
    part: list[TextSpan] = []
    room = MOST_ASKED
    for place in reversed(chosen):
        start, end = sentences[place]
        part.append((max(start, end - room), end))
        room -= end - start + 1  # parts are joined by a space
        if room <= 0:
            break
    return part[::-1]


def _ends(sentences: list[TextSpan]) -> list[TextSpan]:
    start, end = sentences[0][0], sentences[-1][1]
    half = MOST_ASKED // 2
    return [(start, end)] if end - start <= MOST_ASKED else [(start, start + half - 1), (end - half, end)]


def _split(border: re.Pattern[str], plain: str, span: TextSpan) -> list[TextSpan]:
    """Return the parts of a span between borders, without surrounding white space."""
    start, stop = span
    parts: list[TextSpan] = []
    for found in [*border.finditer(plain, start, stop), None]:
        end = found.start() if found else stop
        part = plain[start:end]
        if part.strip():
            parts.append((start + len(part) - len(part.lstrip()), start + len(part.rstrip())))
        if found:
            start = found.end()
    return parts


def _joined(spans: list[TextSpan], plain: str) -> list[TextSpan]:
    """Merge spans that are separated only by white space."""
    joined: list[TextSpan] = []
    for start, end in spans:
        if joined and not plain[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
