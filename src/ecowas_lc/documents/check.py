"""The check of answers: a sentence is kept only if a sentence of the passages supports it.

Figures, dates, names and units must occur in the source and belong to the same name there; negations and mere
plans must stay what they are; most of the wording must be the source's, phrase by phrase, in a sensible order. A
figure that was computed from others occurs in no source.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ecowas_lc._language import language_of
from ecowas_lc.documents.document import Sentence, sentences_of
from ecowas_lc.documents.evidence import gives_orders
from ecowas_lc.documents.facts import (
    Quantity,
    TimePoint,
    folded,
    is_negative,
    is_uncertain,
    quantities_in,
    times_in,
)
from ecowas_lc.documents.sources import Source
from ecowas_lc.documents.terms import (
    best_likeness,
    content_words,
    is_everyday,
    likeness,
    names_in,
    word_list,
    words_of,
)

ENOUGH_OF_THE_WORDING = 0.6
"""Share of a sentence's words that the source must contain; measured on the development questions."""
_FEWEST_WORDS = 2  # of a sentence without a figure, a date or a name: "The tariff has been" claims nothing

_AUXILIARIES = "is|are|was|were|do|does|did|has|have|had|will|would|can|could|should|must"
# A model that repeats the question often leaves out its mark.
_QUESTION = re.compile(
    rf"\W*(?:(?:what|who|whom|whose|where|when|why) (?:{_AUXILIARIES})\b"
    rf"|(?:which|what|how) (?!the\b|an?\b|it\b|they\b|we\b)(?:[\w'’-]+ ){{1,6}}?(?:{_AUXILIARIES})\b"
    r"|quel(?:le)?s? (?!que\b)|combien\b|qui (?:est|sont|était|a|ont)\b|qual (?!quer\b)|quais\b"
    r"|quant[oa]s? (?!a\b|ao|à)|quem (?:é|foi|são|tem|paga)\b)[^,]*$",
    re.IGNORECASE,
)

Reason = Literal["figure", "date", "name", "negation", "certainty", "wording", "no claim"]

_MARK = re.compile(r"\s*\[\d{1,3}\]")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_EMPHASIS = re.compile(r"\*\*|__|`|^#+\s*", re.MULTILINE)
_PARTS = re.compile(
    r"[;,]|\b(?:and|while|whereas|but|et|tandis que|contre|mais|e|enquanto|mas|against)\b", re.IGNORECASE
)
_SUBSET = re.compile(
    r"^(?:of (?:which|whom)|including|among them|dont|parmi|d[oa]s quais|incluindo|entre (?:os|as) quais)\b",
    re.IGNORECASE,
)
# Clauses that say why, when, what for, than what or on what condition: the source must have one of the same kind.
_RELATIONS = tuple(
    re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for words in (
        r"because|since(?! (?:the )?\d)|owing to|due to|caused|as a result|thanks to|therefore|so that|hence"
        r"|for (?:lack|want|fear)"
        r"|on account|which is why|following|after|once|parce qu\w*|car|puisqu\w*|en raison|à cause|grâce"
        r"|faute d\w*|afin|suite à"
        r"|c'est pourquoi|dû|due|du fait|après|porque|pois|já que|uma vez que|devido|graças|por (?:causa|falta"
        r"|razões|motivo|isso)"
        r"|em (?:consequência|virtude)|após|depois",
        r"when|while|before|until|till|as soon as|as long as|lorsqu\w*|quand|pendant qu\w*|avant|jusqu\w*"
        r"|dès qu\w*|tant qu\w*"
        r"|quando|enquanto|antes|até|assim que|logo que",
        r"in order to|so as to|intended|aimed?|aims|designed to|with a view|afin|en vue|dans le but|destinée?s?"
        r"|visant"
        r"|a fim|com o objetivo|com vista|destinad[oa]s?|visando",
        r"if|unless|provided|in case|subject to|si|à condition|sauf|sous réserve|se|desde que|a menos|caso|salvo",
        r"although|though|despite|in spite|even though|whereas|unlike|contrary|however|bien qu\w*|malgré"
        r"|alors qu\w*"
        r"|contrairement|quoiqu\w*|toutefois|embora|apesar|ao contrário|todavia|contudo",
        r"than|compared|versus|as (?:many|much|large|high|low) as|twice|double|half|times as|more|most|less"
        r"|fewer|least"
        r"|larger|largest|higher|highest|lower|lowest|smaller|smallest|longer|longest|better|best|worse|worst"
        r"|record"
        r"|plus|moins|davantage|meilleure?s?|pires?|fois|moitié|mais(?= (?:d[oe]|que|alt|baix|long|grand"
        r"|pequen))|menos|menor(?:es)?"
        r"|maior(?:es)?|melhor(?:es)?|pior(?:es)?|dobro|metade|vezes",
        r"only|solely|exclusively|merely|just|seulement|uniquement|exclusivement|apenas|somente|só|exclusivamente",
        r"all|every|always|tou(?:s|te|tes|t)|toujours|tod[oa]s?|sempre",
        r"at least|minimum|no less|au moins|au minimum|pelo menos|no mínimo",
        r"at most|up to|maximum|at the latest|no more|au plus|au maximum|jusqu\w*|no máximo|até|máximo",
        r"nearly|almost|about|around|roughly|approximately|presque|environ|près d\w+|quase|cerca|aproximadamente",
    )
)
_OBLIGATION = re.compile(
    r"\b(?:must|shall|ha(?:s|ve|d) to|required?|requires|obliged|obligatory|compulsory|mandatory|needs? to"
    r"|doi(?:t|vent)|exigée?s?"
    r"|exige|obligatoires?|obligée?s?|requi(?:s|se|ert)|tenue?s? de|devem?|exigid[oa]s?|obrigatóri[oa]s?"
    r"|obrigad[oa]s?"
    r"|t[êe]m (?:de|que)|requer\w*)\b",
    re.IGNORECASE,
)
_PERMISSION = re.compile(
    r"\b(?:may|might|can|could|allowed|permitted|entitled|free to|peu(?:t|vent)|pourrai\w+|autorisée?s?"
    r"|permis\w*|pode[mr]?|poderá\w*"
    r"|permitid[oa]s?|autorizad[oa]s?)\b(?!\s+\d)",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?:perhaps|probably|possibly|likely|presumably|apparently|reportedly|seems?|peut-être|probablement"
    r"|semble\w*|talvez"
    r"|provavelmente|possivelmente|parece\w*)\b",
    re.IGNORECASE,
)
_ADVERB = re.compile(r"(?:[a-z]{3,}ly|[a-z]{3,}mente|[a-zé]{2,}[aei]mment|[a-zé]{2,}[eé]ment)$")
_PHRASES = re.compile(
    r"[;,:()–—]|\s-\s|\b(?:and|but|or|nor|who|which|that|of|in|on|at|by|to|for|from|with|without|into|through"
    r"|over|under|during|near"
    r"|towards?|against|between|among|across|along|because|when|while|after|before|until|since|if|although"
    r"|despite|than|as"
    r"|et|mais|ou|qui|que|dont|de|du|des|en|dans|sur|sous|par|pour|avec|sans|chez|vers|contre|entre|parmi"
    r"|pendant|durant|depuis"
    r"|lorsque|quand|après|avant|car|puisque|afin|malgré|au|aux|à|e|do|da|dos|das|em|no|na|nos|nas|ao|aos|às"
    r"|por|pelo|pela"
    r"|pelos|pelas|para|com|sem|sobre|durante|desde|até|após|porque|quando|enquanto|pois|embora)\b|\b[dD]['’]",
    re.IGNORECASE,
)
_ENOUGH_OF_A_PHRASE = 0.5
_REUSED, _ENOUGH_FOLLOW, _NEAR = 0.75, 0.65, 3
"""Of a sentence with this share of words from the source, this share must follow each other there as closely."""
# Pairs of words that follow each other in no sentence.
_PAIRS = {
    "en": r"(?:the|an?)\s+(?:the|an?|of|in|on|to|and|or|is|are|was|were|by|for|from|with|at|has|have|will)"
    r"|(?:of|by|from|for|with|at|and)\s+(?:of|by|for|with|has|have|is|are|was|were|will)",
    "fr": r"(?:les?|la|une?|du|des)\s+(?:les?|la|une?|du|des|de|et|ou|est|sont|par|pour|avec|dans|sur|a|ont)"
    r"|(?:de|par|pour|avec|dans|sur)\s+(?:de|par|avec|est|sont|a|ont)",
    "pt": r"(?:os|as|uma?|dos|das|do|da)\s+(?:os|as|uma?|dos|das|do|da|de|e|ou|é|são|por|para|com|em|no|na|foi"
    r"|tem)"
    r"|(?:de|por|para|com|em)\s+(?:de|por|com|em|é|são|tem|foi)",
}
_GARBLED = {
    language: re.compile(
        rf"\b(?:{pair})\b|\b(\w{{3,}})\s+\1\b|\b(?:the|an?|of|and|to|in|is|from|by|for|with|le|la|les|et|du|de|en|os|uma?|d[ao]s?|em|para)\W*$",
        re.IGNORECASE,
    )
    for language, pair in _PAIRS.items()
}
_COMMA = "\ue000"
_LABELS = re.compile(r"[^\W\d_]{2,}|\b(?:19|20)\d\d\b")
_OPENING = re.compile(
    r"^(?:according to[^,]{0,80}, |as (?:stated|noted|mentioned)[^,]{0,80}, |the (?:document|passage"
    r"|text|note|report)s? (?:says?|states?) (?:that )?"
    r"|(?:selon|d'après)[^,]{0,80}, |(?:segundo|de acordo com|conforme)[^,]{0,80}, )",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Supported:
    """A sentence of the answer and the source that supports it."""

    text: str
    source: Source
    sentence: Sentence


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A sentence of the answer without support, and the first thing that the closest source lacks."""

    text: str
    reason: Reason


def check_answer(answer: str, sources: Sequence[Source]) -> list[Supported | Unsupported]:
    """Check each sentence of an answer against passages.

    Args:
        answer: The answer.
        sources: The passages.

    Returns:
        The sentences in order, each as :class:`Supported` or :class:`Unsupported`.
    """
    known = known_names(sources)
    return [check_sentence(text, sources, known) for text in answer_sentences(answer)]


def known_names(sources: Sequence[Source]) -> frozenset[str]:
    """Return the names inside sentences of the passages, to recognise them at the start of a sentence."""
    return frozenset(
        name for source in sources for sentence in source.passage.sentences for name in names_in(sentence.text)
    )


def answer_sentences(answer: str) -> Iterator[str]:
    """Return the sentences of an answer without marks, bullets and emphasis."""
    for line in _EMPHASIS.sub("", answer).splitlines():
        plain = _MARK.sub("", _BULLET.sub("", line)).strip()
        for start, end in sentences_of(plain):
            if re.search(r"\w", plain[start:end]):
                yield plain[start:end]


def last_boundary(text: str) -> int:
    """Return where the last sentence of a text that still grows begins; all before it is complete."""
    begin = text.rfind("\n") + 1
    line = text[begin:]
    bullet = _BULLET.match(line)
    offset = bullet.end() if bullet else 0
    starts = [start for start, _ in sentences_of(line[offset:])]
    return begin + offset + starts[-1] if len(starts) > 1 else begin


def check_sentence(text: str, sources: Sequence[Source], known: frozenset[str]) -> Supported | Unsupported:
    """Return the support of one sentence: of the sources that agree on every fact, the closest in wording."""
    claim = _Claim(text, known)
    if claim.says_nothing or text.rstrip().endswith("?") or _QUESTION.match(text):
        return Unsupported(text, "no claim")
    best: tuple[float, Supported] | None = None
    nearest: tuple[float, Reason] = (-1.0, "wording")
    for source in sources:
        for index, sentence in enumerate(source.passage.sentences):
            if gives_orders(sentence.in_words):
                continue
            wording = claim.wording(sentence.in_words)
            reason = claim.missing_in(source, index, wording)
            if reason is None and (best is None or wording > best[0]):
                best = (wording, Supported(text, source, sentence))
            elif reason is not None and wording > nearest[0]:
                nearest = (wording, reason)
    return best[1] if best else Unsupported(text, nearest[1])


class _Claim:
    """A sentence to be checked, parsed once."""

    def __init__(self, text: str, known: frozenset[str]) -> None:
        self.text = _OPENING.sub("", text)
        self.words = content_words(self.text)
        self.quantities = quantities_in(self.text)
        self.times = times_in(self.text)
        # "5025" in "2024-5025": a figure inside a longer word, which is read as neither quantity nor date.
        self.other_digits = frozenset(re.findall(r"\d+", _without_figures(self.text)))
        self.known = known
        self.names = names_in(self.text, known=known)
        self.is_negative = is_negative(self.text)
        self.is_uncertain = is_uncertain(self.text)
        self.plain = _plain(self.text)

    @property
    def says_nothing(self) -> bool:
        """Whether the sentence claims nothing, such as one that was cut off."""
        if not self.words:
            return True
        return len(self.words) < _FEWEST_WORDS and not (self.quantities or self.times or self.names)

    def wording(self, source: str) -> float:
        """Return the share of the claim's words that a sentence contains."""
        if self.plain and self.plain in _plain(source):
            return 1.0
        others = content_words(source)
        return sum(best_likeness(word, others) for word in self.words) / len(self.words)

    def missing_in(self, source: Source, index: int, wording: float) -> Reason | None:
        """Return what a sentence lacks to support the claim, or ``None`` if it lacks nothing."""
        sentence = source.passage.sentences[index]
        text = sentence.in_words
        if self.plain and self.plain in _plain(text):
            return None
        given = quantities_in(text)
        if not all(any(_is_same(own, other) for other in given) for own in self.quantities):
            return "figure"
        times = times_in(text)
        if not all(any(other.is_within(own) for other in times) for own in self.times):
            return "date"
        before = source.passage.sentences[index - 1].text if index else ""
        around = words_of(
            " ".join((text, before, source.passage.heading, source.document.title, source.document.issuer))
        )
        if not self.other_digits <= {digits for word in around for digits in re.findall(r"\d+", word)}:
            return "figure"
        if not all(any(likeness(name, word) >= 0.9 for word in around) for name in self.names):
            return "name"
        if not self._names_the_row(sentence):
            return "name"
        if not self._belongs(text):
            return "figure"
        if self.is_negative != is_negative(text):
            return "negation"
        if (is_uncertain(text) and not self.is_uncertain) or not self._has_the_mood_of(text):
            return "certainty"
        if wording < ENOUGH_OF_THE_WORDING or self._adds_to(text, around) or self._is_garbled(text):
            return "wording"
        return None

    def _names_the_row(self, sentence: Sentence) -> bool:
        """Return whether the claim says what a table's row is about: its first cell that has words or a year."""
        if not sentence.header:
            return True
        cells = [words_of(cell) for cell in sentence.text.split(" | ") if _LABELS.search(cell)]
        label = [word for word in cells[0] if folded(word) not in word_list("empty")] if cells else []
        own = words_of(self.text)
        return 2 * sum(best_likeness(word, own) for word in label) >= len(label)

    def _has_the_mood_of(self, text: str) -> bool:
        """Return whether obligation, permission and uncertainty are the same in the source."""
        must, may = _OBLIGATION.search(self.text), _PERMISSION.search(self.text)
        if must and not _OBLIGATION.search(text):
            return False
        if may and not _PERMISSION.search(text):
            return False
        if not must and not may and _PERMISSION.search(text) and not is_negative(text):
            return self.is_uncertain
        return not _HEDGED.search(self.text) or _HEDGED.search(text) is not None

    def _adds_to(self, text: str, around: Sequence[str]) -> bool:
        """Return whether a clause, a phrase or an adverb is not the source's: a cause, a place, an agent …"""
        if any(relation.search(self.text) and not relation.search(text) for relation in _RELATIONS):
            return True
        plain = [folded(word) for word in words_of(self.text)]
        if any(_ADVERB.search(word) and not best_likeness(word, around) for word in plain):
            return True
        first = True
        for phrase in _PHRASES.split(_without_figures(self.text)):
            words = content_words(phrase or "")
            if first:
                words = [word for word in words if not is_everyday(word)]
            if not words:
                continue
            first = False
            if sum(best_likeness(word, around) for word in words) < _ENOUGH_OF_A_PHRASE * len(words):
                return True
        return False

    def _is_garbled(self, text: str) -> bool:
        """Return whether the words are the source's in no sensible order."""
        if _GARBLED[language_of(self.text)].search(self.text):
            return True
        own, others = words_of(self.text), words_of(text)
        if any(
            word[0].isupper() and folded(word) in word_list("empty") and word not in others for word in own[1:]
        ):
            return True
        places: dict[str, list[int]] = {}
        for index, other in enumerate(others):
            places.setdefault(folded(other), []).append(index)
        found = [places.get(folded(word), []) for word in own]
        if sum(map(bool, found)) < _REUSED * len(found):  # the words are another language's, or a paraphrase
            return False
        pairs = list(itertools.pairwise(found))
        pairs = [(one, two) for one, two in pairs if one and two]
        follow = sum(any(0 < b - a <= _NEAR for a in one for b in two) for one, two in pairs)
        return follow < _ENOUGH_FOLLOW * len(pairs)

    def _belongs(self, text: str) -> bool:
        """Return whether each figure and date belongs to the same name, year and subset here as in the source."""
        parts = _parts_of(text)
        if len(parts) < 2:
            return True
        whole = self._holders_in(self.text)
        known = set().union(*(self._holders_in(part) for part in parts))
        for own_part in _parts_of(self.text) or [self.text]:
            wanted = (self._holders_in(own_part) or whole) & known
            facts: list[Quantity | TimePoint] = [*quantities_in(own_part), *times_in(own_part)]
            for fact in facts:
                holding = [part for part in parts if _holds(part, fact)]
                if not holding:
                    continue
                held = [self._holders_with(parts, part) for part in holding]
                if isinstance(fact, Quantity) and all(_divide(one, wanted) for one in held):
                    return False
                if isinstance(fact, TimePoint) and wanted and all(one and not one & wanted for one in held):
                    return False
                if all(_SUBSET.match(part) and not self._shares_words_with(part) for part in holding):
                    return False
        return True

    def _holders_in(self, text: str) -> set[str]:
        """Return the names and years to which a figure can belong."""
        years = {str(time.year) for time in times_in(text) if time.year is not None}
        return {folded(name) for name in names_in(text, known=self.known)} | years

    def _holders_with(self, parts: Sequence[str], part: str) -> set[str]:
        """Return the holders of a part; a part without any takes those of the previous part."""
        for candidate in reversed(parts[: parts.index(part) + 1]):
            if holders := self._holders_in(candidate):
                return holders
        return set()

    def _shares_words_with(self, part: str) -> bool:
        return any(best_likeness(word, self.words) > 0 for word in content_words(part))


def _divide(held: set[str], wanted: set[str]) -> bool:
    """Return whether a figure belongs to other names or years than claimed."""
    for kind in (str.isdigit, lambda text: not text.isdigit()):
        one, other = set(filter(kind, held)), set(filter(kind, wanted))
        if one and other and not one & other:
            return True
    return False


def _parts_of(text: str) -> list[str]:
    """Split a text at commas, semicolons and conjunctions, but not at a comma inside a figure."""
    kept = re.sub(r"(?<=\d),(?=\d)", _COMMA, text)
    return [part.strip().replace(_COMMA, ",") for part in _PARTS.split(kept) if part.strip()]


def _holds(part: str, fact: Quantity | TimePoint) -> bool:
    if isinstance(fact, Quantity):
        return any(_is_same(fact, other) for other in quantities_in(part))
    return any(other.is_within(fact) for other in times_in(part))


def _is_same(own: Quantity, other: Quantity) -> bool:
    """Return whether a figure of the answer equals the source's, including its unit."""
    return own.family == other.family and own.agrees_with(other)


def _without_figures(text: str) -> str:
    """Return a text without its figures and dates, which are compared as such."""
    facts: list[Quantity | TimePoint] = [*quantities_in(text), *times_in(text)]
    for found in sorted(facts, key=lambda one: -one.start):
        text = f"{text[: found.start]} {text[found.end :]}"
    return text


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", folded(text)))
