"""Evidence: the sentences of the passages that answer a question, if any.

A sentence answers if it is about the names, dates and figures of the question, gives the kind of thing that is
asked for, and shares enough of the question's words. Code decides all of this, so it holds whatever model answers
later.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ecowas_lc._embeddings import offline_installed
from ecowas_lc._language import language_of
from ecowas_lc.documents.document import Document, Passage, Sentence, sentences_of
from ecowas_lc.documents.facts import (
    MONTH_NAMES,
    UNIT_NAMES,
    Quantity,
    TimePoint,
    folded,
    is_negative,
    month_of,
    quantities_in,
    ranks_in,
    times_in,
)
from ecowas_lc.documents.question import NOW, NUMBERED, ParsedQuestion
from ecowas_lc.documents.terms import (
    best_likeness,
    content_words,
    is_action,
    is_empty,
    is_everyday,
    is_institution,
    is_light,
    is_loose,
    is_person,
    is_thing,
    is_verb,
    likeness,
    meanings,
    names_in,
    senses,
    word_list,
    words_of,
)
from ecowas_lc.documents.word_vectors import likenesses_by_vector, similarities_to

if TYPE_CHECKING:
    from langchain_core.documents import Document as LangChainDocument


_ENOUGH = -0.7
"""Minimum score of a sentence that answers, in logits."""
_ENOUGH_OF_ONE = -3.0
"""The same in a document that the question asks for, or next to another answer if it asks for both sides."""
_ENOUGH_OF_SUCCESSOR = -5.0
"""The same in a document that supersedes the one that answered."""
_ALSO_ANSWERS = 6.0
"""How far below the best score a sentence of another document may be and still count as contradicting it."""
_ANSWERS_AS_WELL = 1.5
"""The same for a sentence that lacks most of the question's words."""
_BY_ITSELF = 0.3
_BY_ITSELF_WITHOUT_NAME = 0.6
"""Share of the words that the sentence itself needs if a name occurs only in the sentence before."""
_FROM_BEFORE, _FROM_BEFORE_POINTED_AT = 0.6, 0.9
"""Weight of a word that occurs only in the sentences before; more if the sentence begins with "it", "its"."""
_HEAD_ELSEWHERE = 0.8
"""How far a sentence counts what is asked for if its word stands elsewhere than after the figure."""
_ENOUGH_WORDS, _FROM_AROUND, _WITHOUT_HEAD, _UNHEARD_OF = 0.6, 0.7, 0.2, 0.2
_WEAK = 0.5
"""How far a sentence answers "why" if it has a purpose and no cause."""
_NAMED = 0.6
"""How far a sentence answers "who" if it names only a place."""
_LOOKED_AT = 12
"""Number of sentences compared by meaning; each one must be embedded."""
_WITH_SENSE = 0.85
_HALF = 0.5
_LACKS = 0.5
"""Confidence below which a noun of the question counts as missing."""
_OTHER_LANGUAGE = 0.03
"""How much closer the vectors of texts in one language are than those of translations."""

# Measured by logistic regression on the sentences of the development questions (scripts/grounding_weights.py).
_WEIGHTS = {
    "enough_words": 0.81,
    "itself": 2.53,
    "around": 1.36,
    "firm": -1.33,
    "firm_around": -0.89,
    "no_firm": -0.49,
    "worst": -1.29,
    "worst_same": 0.00,
    "by_words": 1.62,
    "around_by_words": 0.30,
    "worst_by_words": -1.55,
    "worst_by_words_same": -0.40,
    "everyday": 1.14,
    "worst_loose": -1.85,
    "worst_loose_same": 0.00,
    "absent_same": -3.34,
    "absent_loose": -1.11,
    "other_names": -5.00,
    "name_before": 2.02,
    "gives": 4.43,
    "pending": -1.24,
    "negative": 0.70,
    "no_head": -1.08,
    "not_counted": 0.00,
    "head_absent": -1.29,
    "kind": 2.17,
    "row": -3.25,
    "label": 3.59,
    "unnamed": -2.14,
    "uncounted": -0.13,
    "other_subject": -0.17,
    "lacks": 0.00,
    "lacks_same": 0.00,
    "lacks_known": -0.86,
    "lacks_elsewhere": -1.32,
    "lacks_itself": -0.02,
    "lacks_verb": -0.28,
    "who_lacks_verb": -2.71,
    "time_lacks_verb": -1.53,
    "another_in_place": -1.28,
    "name_only": -0.50,
    "cross": 1.57,
    "rank": 1.02,
    "no_rank": -1.60,
    "counts_other": -0.76,
    "few_words": -2.43,
    "quantity": -0.52,
    "who": 1.16,
    "why": 1.58,
    "time": -0.21,
    "where": -0.11,
    "anything": -0.84,
    "yes_or_no": -1.08,
    "length": -1.76,
    "similarity": 0.41,
    "above_mean": 1.66,
    "below_best": 6.55,
    "bias": -4.88,
}
# The weights without the extra ``semantic``.
_WEIGHTS_BY_WORDS = {
    "enough_words": 0.07,
    "itself": 8.22,
    "around": 3.27,
    "firm": 1.06,
    "firm_around": 1.55,
    "no_firm": 2.18,
    "worst": 0.00,
    "worst_same": -0.96,
    "everyday": 1.57,
    "worst_loose": -1.77,
    "worst_loose_same": -1.27,
    "absent_same": 0.00,
    "absent_loose": -0.54,
    "other_names": -5.38,
    "name_before": -1.00,
    "gives": 3.44,
    "pending": -0.08,
    "negative": 0.22,
    "no_head": -0.88,
    "not_counted": 0.00,
    "head_absent": 0.00,
    "kind": 2.87,
    "row": -1.24,
    "label": 0.00,
    "unnamed": -1.93,
    "uncounted": -1.14,
    "other_subject": -0.91,
    "lacks": 0.00,
    "lacks_same": 0.00,
    "lacks_known": -2.33,
    "lacks_elsewhere": -6.56,
    "lacks_itself": -0.16,
    "lacks_verb": -0.51,
    "who_lacks_verb": -3.53,
    "time_lacks_verb": -0.71,
    "another_in_place": -0.96,
    "name_only": -0.48,
    "cross": 1.24,
    "rank": 1.36,
    "no_rank": -1.44,
    "counts_other": 0.00,
    "few_words": -3.56,
    "quantity": -0.53,
    "who": 1.24,
    "why": 2.79,
    "time": -0.77,
    "where": -0.41,
    "anything": -1.16,
    "yes_or_no": -1.19,
    "length": -2.80,
    "bias": -6.95,
}

_LABELLED = re.compile(r"\W*[^\W\d_a-z][\w' -]{1,40} ?:")
"""The beginning of a line of a list: "Tamble: 310 lorries a day"."""
_LABEL = re.compile(r"([^;:|]+):\s*$")
_LIGHT_WEIGHT = 0.25
_VERB_WEIGHT = 0.5
"""Weight of a verb; documents often use another verb for the same thing."""

_ORDER = re.compile(
    r"\b(?:ignore|disregard|forget|override|ignorez|oubliez|n[ée]gligez|ignora|ignorem|desconsidere"
    r"|esque[çc]a)\b"
    r".{0,80}\b(?:instructions?|above|before|previous|prior|rules?|prompts?|consignes?"
    r"|pr[ée]c[ée]dent\w*|ci-dessus|r[èe]gles?"
    r"|instru[çc][õo]es|acima|anterior\w*|regras?)\b"
    r"|\b(?:answer|respond|reply|say|state|tell|r[ée]pondez|dites|responda|diga)\b.{0,30}\b(?:that|with"
    r"|only|que|com|par|seulement|apenas)\b"
    r".{0,120}\b(?:instructions?|user|assistant|model|utilisateur|assistante|mod[èe]le|modelo)\b"
    r"|\b(?:you are|vous êtes|voc[êe] é) (?:now|an? assistant|maintenant|un assistant|agora|um assistente)\b",
    re.IGNORECASE,
)
_PENDING = re.compile(
    r"\b(?:not yet|yet to|yet been|no longer available|no data|no figures?|no information"
    r"|not (?:been )?(?:published|available|known"
    r"|decided|selected|designated|approved)"
    r"|(?:is|are|est|sont|está|estão) (?:still |encore |toujours |ainda )?"
    r"(?:under (?:discussion|study|consideration)|being discussed|à l'étude"
    r"|en discussion|em (?:discussão|estudo|análise))"
    r"|pas encore|aucune (?:donnée|information)|aucun chiffre|ne publie|n'est pas connu\w*|reste à"
    r"|ainda não|não (?:publica|dispõe|há dados|foi (?:ainda )?(?:definid|aprovad|escolhid)\w*)|sem dados)\b",
    re.IGNORECASE,
)
_UNANSWERED = re.compile(
    r"\b(?:no (?:reply|answer|response|decision)|aucune (?:réponse|décision)|sans réponse|sem (?:resposta|decisão)"
    r"|aguarda-se|on attend|is awaited|are awaited"
    r"|await(?:s|ing)? (?:an? |the )?(?:decision|reply|approval)|attend(?:ent)? (?:une |la |l['’])?"
    r"(?:décision|accord|réponse)"
    r"|aguardam? (?:uma |a )?(?:decisão|aprovação|resposta))\b",
    re.IGNORECASE,
)
_NONE = re.compile(r"\b(?:no|zero|aucune?|nul(?:le)?|nenhuma?|qualquer)\s+([^\W\d_]+)", re.IGNORECASE)
_CAUSE = re.compile(
    r"\b(?:because|owing|caused|as a result|on account|thanks to|for (?:lack|want) of|for fear|in order to"
    r"|(?:due|according) to(?! \d)|(?:after|following|since|once)(?! (?:the )?\d)"
    r"|not having|having (?:failed|refused|missed)|n['’]ayant|n['’]étant|não tendo|por não"
    r"|à cause|en raison|faute d[e']|grâce|afin|suite à|parce|puisque|car|dû|due?s? à|du fait"
    r"|après(?! (?:le )?\d)|à défaut"
    r"|porque|devido|após(?! (?:o )?\d)|por (?:causa|falta|razões|motivo|atraso)|em (?:consequência|virtude)"
    r"|graças|a fim|alegando|uma vez que|já que|attributed to|blamed on|(?<!\ba )(?<!\bont )attribué\w*"
    r"|imputé\w*|atribuíd\w+"
    r"|depois d[aeo]s?(?! \d))\b",
    re.IGNORECASE,
)
# "at the meeting": where something is done, not what is done.
_AT_AN_EVENT = re.compile(
    r"\b(?:(?:at|during) (?:the|this|its)|(?:lors|au cours) (?:de|du|de la|des)|durante [ao]s?|à la|à cette"
    r"|n[ao]s?) (?:\w+ )?$",
    re.IGNORECASE,
)
_IN_MILLIONS = re.compile(
    r"\b(?:mi(?:lli|lh)[oõ]\w*|billions?|milliards?|mil) (?:d[e'’] ?)?([^\W\d_]{3,})", re.IGNORECASE
)
_NUMBERED_THING = re.compile(r"\b([^\W\d_]{3,})(?:: | )(\d{1,3})(?![\d.,:/%]*\d|\w)(?=\W|$)")
_OF = re.compile(
    r"\b(?=([^\W\d_A-Z]{3,})(?: [^\W\d_A-Z]{4,})? (?:(?:of|for|de|du|des|d[aeo]s?|pour|para)"
    r"(?: the| la| les| [ao]s?)? |d['’]|de l['’])([^\W\d_A-Z]{3,}))"
)
_SIDE_BY_SIDE = re.compile(r"\b(?=([^\W\d_A-Z]{3,}) ([^\W\d_A-Z]{3,})\b)")
_BY = re.compile(r"\b([^\W\d_]{4,}) (?:by|par|por|pel[oa]s?)\b", re.IGNORECASE)
_WHO_DOES = re.compile(r"\W*(?:who|qui|quem)(?: est-ce qui| é que)? (?:l['’]|s['’])?([^\W\d_]{4,})", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:not|never|pas|jamais|não|nunca)(?: (?:yet|been|encore|été|ainda|foi|sido))* ([^\W\d_]+)"
    r"(?!.{0,40}\b(?:until|before|avant|antes|jusqu|até)\b)",
    re.IGNORECASE,
)
# "La société en détient 55 pour cent": of what the sentence before is about.
_OF_IT = re.compile(r"\b(?:en|y) ([^\W\d_]+)", re.IGNORECASE)
_PURPOSE = re.compile(r"\b(?i:for|to|pour|par|para|por|as)\b(?! [A-ZÀ-Ý])")
_POINTS_BACK = re.compile(
    r"^\W*(?:it|its|they|their|this|these|that|he|she|his|her|il|elle|ils|elles|son|sa|ses|leur|leurs|ce"
    r"|cette|ces|cela|celle|celui"
    r"|ele|ela|eles|elas|seu|sua|seus|suas|este|esta|isto|esse|essa)\b",
    re.IGNORECASE,
)
_DEFINITE = re.compile(
    r"\b(?:(?:the|this|that|le|la|les|ce|cette|du|au|[oa]s?|este|esta|d[oa]s?|n[oa]s?)\s+"
    r"|l['’])([^\W\d_]{3,})\b",
    re.IGNORECASE,
)
_BEGINS_DEFINITE = re.compile(r"\W*(?:(?:[Tt]he|[Ll][ae]s?|[AO]s?)\s+|[Ll]['’])([a-zà-ÿ-]{3,})\b")
_THE_NAMED = re.compile(
    r"\b(?:[Tt]he|[Ll][ae]|[AaOo]|[Dd][ao]|[Nn][ao]|[Dd]u|[Aa]u)\s+([A-ZÀ-Ý][\w-]+)\b(?! (?:[A-ZÀ-Ý]))"
)
_OF_A_DOCUMENT = re.compile(
    r"\b(?:note|notice|decision|décision|decisão|decree|décret|decreto|letter|lettre|carta|avis|aviso|ata|communiqué|comunicado|briefing|bulletin|memo|guide|boletim|report|document|circular|edition|version|rapport|circulaire|nota|relat[óo]rio|documento"
    r"|edi[çc][ãa]o|vers[ãa]o)s?\b",
    re.IGNORECASE,
)
_REPLACES = re.compile(r"\b(?:replac|supersed|cancel|remplac|annul|substitu|revog|anul)\w+", re.IGNORECASE)
# A sentence that has only this to say: "This note replaces the note of 2 July 2024."
_REPLACES_ANOTHER = re.compile(
    r"\W*(?:this|the present|cette|la présente|le présent|ce|esta|este|[ao] presente)\s+[\w-]+\s+"
    r"(?:(?:replac|supersed|cancel|remplac|annul|substitu|revog|anul)\w+)\b[^,;:]*$",
    re.IGNORECASE,
)
_A_DOCUMENT_OF = re.compile(
    rf"{_OF_A_DOCUMENT.pattern} (?:of |from |dated |de |d['’]|du |do )([^\W\d_]+)", re.IGNORECASE
)
# "after 1 April", "up to July": the answer may name another date.
_OPEN_TIME = re.compile(
    r"\b(?:after|since|before|until|up to|by the end of|après|depuis|avant|jusqu'(?:à|en|au)|fin"
    r"|depois d[eao]|desde|antes d[eao]"
    r"|até)\s+(?:le |the |o |a |end of |fin )?$",
    re.IGNORECASE,
)
_AT_A_PLACE = re.compile(
    r"\b(?:at|in|near|à|en|em|n[ao]s?|de|du|of|d[ao]s?|[Rr]iver|[Ll]ake|[Mm]ount|[Ff]leuve|[Rr]ivière|[Ll]ac|[Mm]ont|[Rr]io"
    r"|[Ll]ago|[Mm]onte) (?=[A-ZÀ-Ý])[\w-]+(?: [A-ZÀ-Ý][\w-]+)*"
    r"|(?<=\w) [A-ZÀ-Ý][\w-]+ (?:River|Lake|Valley|district|province)\b"
)
_IN_A_PLACE = re.compile(
    r"\b(?:at|in|near|to|from|between|through|inside|outside|à|au|aux|en|dans|chez|vers|entre|près|em"
    r"|n[ao]s?|ao|até|para|num|numa|junto)\s+"
    r"(?:[a-zà-ÿ'’-]+\s+){0,3}(?:[a-zà-ÿ]+['’])?[A-ZÀ-Ý][\w'’-]*(?:\s+(?:d[aeo]s?\s+|de la\s+)?[A-ZÀ-Ý][\w'’-]*)*"
)
_RATE = re.compile(
    r"\b(?:taux|fees?|rates?|tariffs?|levy|levies|tax\w*|dut(?:y|ies)|fines?|penalt\w+|interest|tarifs?|frais|amendes?"
    r"|prélèvement|intérêts?|droits?|taxas?|tarifas?|multas?|impostos?|juros?|direitos?)\b",
    re.IGNORECASE,
)
_ASKS_FOR_A_RATE = re.compile(r"\b(?:taux|interest rate|rate of|taxa de juro|coupon|cup[ãa]o)s?\b", re.IGNORECASE)
_COSTS = re.compile(r"\b(?:costs?|co[ûu]te(?:nt)?|custam?)\b", re.IGNORECASE)
_JOINED = re.compile(r"\w+(?:[-–]\w+)+")
_MEASURES = frozenset(
    [
        *("percent", "watt", "watt-hour", "volt", "bit/s", "metre", "hectare", "square metre", "litre"),
        *("second", "day", "month", "gram"),
    ]
)
_MEASURED_IN = {
    "watt": ("power",),
    "watt-hour": ("energy", "electricity"),
    "volt": ("voltage",),
    "bit/s": ("bandwidth",),
    "metre": ("length", "distance"),
    "hectare": ("area",),
    "square metre": ("area",),
    "litre": ("volume",),
    "gram": ("weight",),
    **dict.fromkeys(("second", "day", "month"), ("duration",)),
}
"""Words for what a unit measures: "draws 6.4 MW" says how much power."""
_SPEED = re.compile(r"\d ?(?:km|m|mi)/(?:h|s)\b|\bkm/h\b|\bknots?\b|\bn[œo]+euds?\b|\bnós\b", re.IGNORECASE)
_ANYBODY = frozenset(["people", "persons", "individuals", "personnes", "individus", "pessoas", "individuos"])
_DURATION = re.compile(
    r"\b(?:how (?:long|old|often)|duration|durée|duração|time|temps|tempo|age|âge|idade|deadline|délai|prazo"
    r"|notice"
    r"|préavis|years?|months?|days?|hours?|minutes?|weeks?|ans?|années?|mois|jours?|heures?|semaines?"
    r"|anos?|meses|mês|dias?|horas?|minutos?|semanas?|term|mandate?o?|period|période|período|limite?)\b",
    re.IGNORECASE,
)
_TIME_OF_DAY = re.compile(
    r"\b\d{1,2}[:h]\d{2}\b|(?:\b(?:at|from|until|till|to|and|et|e)|à|às?|as|das|de|jusqu'à|até(?: às)?) \d{1,2} ?"
    r"(?:h|heures?|horas?"
    r"|o'clock)\b|\b\d{1,2} ?[ap]\.?m\b|\b(?:noon|midnight|midi|minuit|meio-dia|meia-noite)\b",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"\b(?:in|at|on|to|near|dans|à|aux?|en|sur|n[ao]s?|em|aos?) (?:[\w'’-]+ ){0,3}"
    r"(?:floor|hall|room|terminal|street|road|centre|center|étage|salle|rue|piso|andar|sala|rua|avenida)\b",
    re.IGNORECASE,
)
_COMPARED = re.compile(
    r"\b(?:against|compared|up from|down from|than|contre|face à|contra|do que|acima|abaixo)\b", re.IGNORECASE
)
_MEETING = ("meeting", "held", "réunion", "reunião")
"""Words for what a line such as "Place: …" says."""
_LABELLED_AS_PLACE = re.compile(r"\W*(?:place|venue|location|lieu|local|lugar) ?:", re.IGNORECASE)


# Words between a figure and the noun that it counts, and words that end the phrase with that noun.
_BEFORE_NOUN = re.compile(
    r"\s*(?:(?:de|of|more|new|other|additional|plus|mais|nouveaux|nouvelles|autres|nov[oa]s|outr[oa]s"
    r"|head|heads|t[êe]tes|cabeças|cases|cas|casos|bags|sacs|sacos|pairs|paires|pares"
    r"|millions?|milhões|milliers|milhares|thousand|dozen)\s+|d['’])",
    re.IGNORECASE,
)
_NOUN_ENDS = re.compile(
    r"[,;:.|()–—]|\b(?:de|d[aeo]s?|du|des|of|in|on|at|by|for|from|to|with|per|and|or|who|which|that|as|until|since"
    r"|during|is|are|was|were|has|have|had|will|et|ou|à|au|aux|en|dans|par|pour|sur|avec|qui|que|dont|est|sont"
    r"|ont|a|e|em|n[ao]s?|por|para|com|são|foi|foram|tem|têm|against|compared|contre|contra|depuis|desde"
    r"|jusqu|até)\b|\bd['’]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Source:
    """A passage with its document, as found by a search."""

    document: Document
    passage: Passage
    similarity: float = 0.0
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence that answers, with its source and a confidence (in logits)."""

    source: Source
    sentence: Sentence
    score: float
    has_most_words: bool = True
    """Whether it contains most of the question's words, rather than being chosen only by its meaning."""
    answers_second: bool = False
    """Whether it answers a question other than the first, so that it contradicts no other answer."""


class Corpus:
    """Frequencies of words and names over the given passages."""

    def __init__(self, sources: Iterable[Source]) -> None:
        sources = list(sources)
        texts = {
            f"{source.passage.document}/{source.passage.number}": source.passage.for_search for source in sources
        }
        self._words = [frozenset(map(folded, words_of(text))) for text in texts.values()]
        named = (names_in(" \n ".join(s.text for s in source.passage.sentences)) for source in sources)
        self._named = [frozenset(map(folded, names)) for names in named]
        self.names = frozenset().union(*self._named)
        self.currencies = frozenset(
            folded(found[1]) for text in texts.values() for found in _IN_MILLIONS.finditer(text)
        )
        """Words that follow "million", which includes the names of currencies."""
        titles = {source.document.id: f"{source.document.title} {source.document.issuer}" for source in sources}
        self._titles = [frozenset(map(folded, words_of(title))) for title in titles.values()]

    def weight(self, term: str) -> float:
        """Return a word's weight; rarer words weigh more."""
        having = sum(best_likeness(term, words) > 0 for words in self._words)
        rarity = math.log(1 + len(self._words) / (1 + having)) + 0.5
        if is_everyday(term):
            return _LIGHT_WEIGHT * rarity
        return _VERB_WEIGHT * rarity if is_verb(term) else rarity

    def has_not(self, term: str) -> bool:
        """Return whether a word occurs in no passage."""
        return not any(best_likeness(term, words) for words in self._words)

    def is_everywhere(self, name: str) -> bool:
        """Return whether most documents have a name in title or issuer, as they have the name of their union."""
        name = folded(name)
        return 2 * sum(name in words for words in self._titles) > len(self._titles)

    def is_common(self, name: str) -> bool:
        """Return whether a name occurs in several passages, as names of states do."""
        return sum(name in names for names in self._named) > 1


def find_evidence(
    question: ParsedQuestion, sources: Sequence[Source], corpus: Corpus, *, most: int = 3
) -> list[Evidence]:
    """Return the sentences that answer a question, best first; several if sources differ on a figure.

    An empty list means that the passages do not answer it.
    """
    asked_of = _documents_asked_for(question, sources)
    if asked_of:
        plain = _without_documents(question, asked_of)
        found = [
            evidence
            for time in asked_of
            for evidence in _answers(
                plain, [s for s in sources if _is_dated(s.document, time)], corpus, enough=_ENOUGH_OF_ONE
            )[:1]
        ]
        quoted = {evidence.source.document.id for evidence in found}
        current = [source for source in sources if not source.superseded]
        successors = [source for source in current if quoted & {*source.document.supersedes}]
        then = question.then
        is_another = then is not None and (then.terms, then.wanted) != (question.terms, question.wanted)
        if then is not None or NOW.search(question.text):
            rest = _without_documents(then, asked_of) if then is not None and is_another else plain
            enough = _ENOUGH_OF_SUCCESSOR if successors else _ENOUGH_OF_ONE
            second = _answers(rest, successors or current, corpus, enough=enough)[:1]
            found += [
                replace(one, answers_second=is_another)
                for one in second
                if all(one.sentence != other.sentence for other in found)
            ]
        return found[:most]
    if question.asks_for_both:
        question = _without_names_of_issuers(question, sources, corpus)
        in_force = list(sources)
    else:
        in_force = current_sources(question, sources)
    answers = _answers(question, in_force, corpus, enough=_ENOUGH_OF_ONE)
    if answers and answers[0].score < _ENOUGH:
        answers = []
    if not answers and question.times:  # a fact about a past date is in a document of that date
        older = [source for source in sources if source.superseded]
        answers = [one for one in _answers(question, older, corpus) if times_in(one.sentence.in_words)]
    if not answers:
        return []
    best = answers[0]
    kept = [best]
    for other in answers[1:]:
        below = best.score - other.score
        close = below <= (_ALSO_ANSWERS if other.has_most_words else _ANSWERS_AS_WELL)
        if close and _contradicts(other, kept, question):
            kept.append(other)
    if question.then is not None:
        second = _answers(question.then, current_sources(question.then, sources), corpus)[:1]
        same = replace(question, text=question.then.text, times=question.then.times, then=None)
        is_another = question.then != same  # otherwise it asks for the same thing at another time
        kept += [
            replace(one, answers_second=is_another)
            for one in second
            if all(one.sentence != other.sentence for other in kept)
        ]
    return kept[:most]


def _without_documents(question: ParsedQuestion, asked_of: Sequence[TimePoint]) -> ParsedQuestion:
    """Return a question without the words and dates that say of which documents it is asked."""
    terms = tuple(
        word for word in question.terms if not (_OF_A_DOCUMENT.match(word) or NOW.match(word) or is_light(word))
    )
    times = tuple(time for time in question.times if time not in asked_of)
    return replace(question, times=times, terms=terms, head=question.head if question.head in terms else "")


def _without_names_of_issuers(
    question: ParsedQuestion, sources: Iterable[Source], corpus: Corpus
) -> ParsedQuestion:
    """Return a question about several documents without the names of those who issued them."""
    issuers = {folded(word) for source in sources for word in words_of(source.document.issuer)}
    return replace(
        question,
        names=tuple(
            name for name in question.names if folded(name) not in issuers or corpus.is_common(folded(name))
        ),
    )


def current_sources(question: ParsedQuestion, sources: Iterable[Source]) -> list[Source]:
    """Return the passages of documents that are in force, or were at the time of the question."""
    return [one for one in sources if not one.superseded or _is_of_its_time(question, one.document)]


def gives_orders(text: str) -> bool:
    """Return whether a sentence gives a model instructions ("ignore the above") instead of stating something."""
    return _ORDER.search(text) is not None


def _documents_asked_for(question: ParsedQuestion, sources: Iterable[Source]) -> list[TimePoint]:
    """Return the dates by which a question refers to documents: "in the 2024 note", "the note of February"."""
    found = []
    for time in question.times:
        around = question.text[max(0, time.start - 18) : time.end + 12]
        if time.year is not None and _OF_A_DOCUMENT.search(around):
            found.append(time)
    if not found:
        months = [month_of(named[1]) for named in _A_DOCUMENT_OF.finditer(question.text)]
        dated = [TimePoint(None, month) for month in months if month is not None]
        found = [time for time in dated if any(_is_dated(source.document, time) for source in sources)]
    return found


def _is_dated(document: Document, time: TimePoint) -> bool:
    if document.date is None:
        return False
    return TimePoint(document.date.year, document.date.month, document.date.day).is_within(time)


def _is_of_its_time(question: ParsedQuestion, document: Document) -> bool:
    return document.date is not None and any(time.year == document.date.year for time in question.times)


def _answers(
    question: ParsedQuestion, sources: Sequence[Source], corpus: Corpus, *, enough: float = _ENOUGH
) -> list[Evidence]:
    """Return the sentences that answer, best first."""
    candidates = _candidates(question, sources, corpus)
    if not candidates:
        return []
    weights = _WEIGHTS_BY_WORDS
    if offline_installed():
        _compare_by_meaning(question, candidates)
        weights = _WEIGHTS
    found = []
    left_open = -math.inf
    for candidate in candidates:
        features = candidate.features()
        score = sum(weights[name] * value for name, value in features.items() if name in weights) + weights["bias"]
        if candidate.gives and not candidate.gives_another_thing():
            found.append(
                Evidence(
                    candidate.source,
                    candidate.sentence,
                    score + 0.1 * candidate.source.similarity,
                    bool(features["enough_words"]),
                )
            )
        elif _PENDING.search(candidate.text) or is_negative(candidate.text):
            left_open = max(left_open, score + weights["gives"] - weights["pending"] * features["pending"])
    # A closer sentence says that the matter is open or denied: the documents do not answer.
    found = [one for one in found if one.score >= max(enough, left_open)]
    return sorted(found, key=lambda evidence: -evidence.score)


@dataclass(slots=True)
class _Candidate:
    """A sentence that may answer, and what it shares with the question."""

    question: ParsedQuestion
    source: Source
    sentence: Sentence
    text: str
    weights: Mapping[str, float]
    itself: dict[str, float]
    """Confidence that the sentence contains each word of the question."""
    around: dict[str, float]
    """The same confidence including the heading, the title and the sentences before."""
    itself_by_words: Mapping[str, float]
    around_by_words: Mapping[str, float]
    """Both without word vectors."""
    anywhere: dict[str, float]
    """The confidence that any passage contains each word."""
    context: str
    continued: str
    """The text, with the sentences before it if it begins with "it" or "its"."""
    needed: float | None
    gives: float = 0.0
    """Whether it gives the kind of thing that is asked for: 1, or less if uncertain."""
    label: float = 0.0
    """The share of a row's first cell that the question has."""
    similarity: float = 0.0
    same_language: bool = False
    """Whether the document is in the question's language, so that a missing word is not due to translation."""
    above_mean: float = 0.0
    below_best: float = 0.0

    def share(self, shares: Mapping[str, float]) -> float:
        """Return the share of the question that is covered, by weight."""
        total = sum(self.weights.values()) or 1.0
        return sum(weight * shares[word] for word, weight in self.weights.items()) / total

    def has_enough_words(self) -> bool:
        """Return whether the sentence has most of the words other than names, and some of them itself."""
        words = [word for word in self.weights if word not in self.question.names]
        total = sum(self.weights[word] for word in words)
        if not total or self.needed is None:
            return False
        itself = sum(self.weights[word] * self.itself[word] for word in words) / total
        around = sum(self.weights[word] * self.around[word] for word in words) / total
        lacks_head = bool(self.question.head) and not self.itself.get(self.question.head, 0.0)
        covered = (
            itself
            + _FROM_AROUND * (around - itself)
            - _WITHOUT_HEAD * lacks_head
            - _UNHEARD_OF
            * any(not self.anywhere[word] for word in words if not is_loose(word) and not is_everyday(word))
        )
        return itself >= self.needed and covered >= _ENOUGH_WORDS

    def features(self) -> dict[str, float]:
        """Return the features to which the weights apply."""
        question = self.question
        total = sum(self.weights.values()) or 1.0
        itself = self.share(self.itself)
        lacks_head = 1 - self.itself.get(question.head, 0.0) if question.head else 0.0
        own = words_of(self.text)
        other = [word for word in self.weights if word not in question.names]
        everyday = [word for word in other if is_everyday(word)]
        loose = [word for word in other if is_loose(word) and not is_everyday(word)]
        firm = [word for word in other if not is_loose(word) and not is_everyday(word)]
        worst = self._worst(firm)
        absent = max((self.weights[word] * (1 - self.anywhere[word]) for word in firm), default=0.0) / total
        absent_loose = max((self.weights[word] * (1 - self.anywhere[word]) for word in loose), default=0.0) / total
        firm_itself = self._share_of(firm, self.itself)
        other_subject = not self.sentence.header and self._is_about_something_else(firm)
        nouns = [word for word in firm if not is_institution(word)]
        lacking = [word for word in nouns if self.around[word] < _LACKS]
        known = [
            word for word in nouns if self.around_by_words[word] < _LACKS and (meanings(word) or senses(word))
        ]
        lacks_verb = self._lacks_verb()
        alone = bool(question.names and firm) and not any(self.itself[word] >= _LACKS for word in (*firm, *loose))
        return {
            "enough_words": float(self.has_enough_words()),
            "itself": itself,
            "around": self.share(self.around) - itself,
            "firm": firm_itself,
            "firm_around": self._share_of(firm, self.around) - firm_itself,
            "no_firm": float(not firm),
            "worst": worst,
            "worst_same": self.same_language * worst,
            "by_words": self.share(self.itself_by_words),
            "around_by_words": self.share(self.around_by_words) - self.share(self.itself_by_words),
            "worst_by_words": self._worst(firm, self.around_by_words),
            "worst_by_words_same": self.same_language * self._worst(firm, self.around_by_words),
            "everyday": self._share_of(everyday, self.itself),
            "worst_loose": self._worst(loose),
            "worst_loose_same": self.same_language * self._worst(loose),
            "absent_same": self.same_language * absent,
            "absent_loose": absent_loose,
            "other_names": float(
                self.needed is None or (bool(question.names) and other_subject and question.wanted != "who")
            ),
            "name_before": float(self.needed == _BY_ITSELF_WITHOUT_NAME),
            "gives": self.gives,
            "pending": float(_PENDING.search(self.text) is not None),
            "negative": float(is_negative(self.text)),
            "no_head": lacks_head,
            "not_counted": lacks_head * question.counts,
            "head_absent": question.counts * (1 - self.anywhere[question.head]) if question.head else 0.0,
            "kind": _mean(best_likeness(kind, own) for kind in question.kinds),
            "row": float(bool(self.sentence.header)),
            "label": self.label,
            "unnamed": float(question.wanted == "who" and self.gives < _NAMED),
            "uncounted": float(question.counts and self.gives < 1),
            "other_subject": float(other_subject),
            "lacks": min(2.0, len(lacking)),
            "lacks_same": self.same_language * min(2.0, len(lacking)),
            "lacks_known": min(2.0, len(known)),
            "lacks_elsewhere": float(any(self.anywhere[word] for word in lacking)),
            "lacks_itself": min(2.0, sum(self.itself[word] < _LACKS for word in nouns)),
            "lacks_verb": lacks_verb,
            "who_lacks_verb": float(question.wanted == "who") * lacks_verb,
            "time_lacks_verb": float(question.wanted == "time") * lacks_verb,
            "another_in_place": self._has_another_in_its_place(nouns),
            "name_only": float(alone and not _POINTS_BACK.match(self.text)),
            "cross": float(not self.same_language),
            "rank": float(bool(question.ranks & ranks_in(self.text))),
            "no_rank": self._lacks_rank(),
            "counts_other": self._counts_another_thing(),
            "few_words": 1 / max(1, len(self.weights)),
            "quantity": float(question.wanted == "quantity"),
            "who": float(question.wanted == "who"),
            "why": float(question.wanted == "why"),
            "time": float(question.wanted == "time"),
            "where": float(question.wanted == "where"),
            "anything": float(question.wanted == "anything"),
            "yes_or_no": float(question.wanted == "yes or no"),
            "length": min(2.0, len(own) / 30),
            "similarity": 10 * self.similarity - 8.5 if self.similarity else 0.0,
            "above_mean": 10 * self.above_mean,
            "below_best": 10 * self.below_best,
        }

    def gives_another_thing(self) -> bool:
        """Return whether it gives something doubtful, and lacks what is counted or done in the question."""
        question, head = self.question, self.question.head
        if question.wanted == "who":
            return self.gives <= _NAMED and self._lacks_verb() > _HALF
        if question.wanted == "why":
            return self.gives <= _WEAK and self._lacks_verb() > _HALF
        if question.counts and head and not question.counts_people:
            return self.gives <= _HALF and max(self.itself[head], self.around[head]) < _HALF
        return False

    def _lacks_rank(self) -> float:
        """Return 1 if the sentence lacks the ordinal of the question, less if the sentence before has it."""
        ranks = self.question.ranks
        if not ranks or ranks_in(self.text):
            return 0.0
        return _HALF if ranks & ranks_in(self.context) else 1.0

    def _lacks_verb(self) -> float:
        """Return how far the sentence lacks what is done in the question: "Who *owns* the cable?"."""
        asked = self.question.text
        asker = _WHO_DOES.match(asked)
        verb = next(
            (
                word
                for word in self.question.terms
                if (asker and word == asker[1])
                or (is_action(word) and not _AT_AN_EVENT.search(asked[: max(0, asked.find(word))]))
            ),
            None,
        )
        return 1 - self.itself[verb] if verb else 0.0

    def _has_another_in_its_place(self, nouns: Iterable[str]) -> float:
        """Return 1 if another noun stands where the question has one: "seed of maize" for "sorghum seed"."""
        lacking = [word for word in nouns if self.itself_by_words[word] < _LACKS]
        if not lacking:
            return 0.0
        asked = [
            (head, part)
            for head, part in _parts(self.question.text)
            if any(likeness(part, w) == 1 for w in lacking)
        ]
        given = _parts(self.text)
        return float(
            any(
                best_likeness(head, [other]) >= _WITH_SENSE and is_loose(part) == is_loose(instead)
                for head, part in asked
                for other, instead in given
                if not best_likeness(instead, [*self.question.terms, *self.question.kinds])
            )
        )

    def _counts_another_thing(self) -> float:
        """Return the confidence that the figures count something other than what is asked for."""
        head = self.question.head
        given = [quantity for quantity in quantities_in(self.text) if quantity.family not in _MEASURES]
        if not (self.question.counts and head and given):
            return 0.0
        alike = _HEAD_ELSEWHERE * best_likeness(head, words_of(self.text))
        for quantity in given:
            counted = content_words(self.text[quantity.end :][:60])[:2] + _label_of(self.text, quantity)
            if not counted:
                return 0.0
            alike = max(alike, best_likeness(head, counted))
        return 1 - alike

    def _is_about_something_else(self, firm: Iterable[str]) -> bool:
        """Return whether a sentence begins with another thing than the question's, and has none of its nouns."""
        if any(self.itself[word] for word in (*firm, *self.question.names)) or _POINTS_BACK.match(self.text):
            return False
        first = next(iter(content_words(self.text)), "")
        known = (*self.question.terms, *self.question.kinds)
        return bool(first) and not (is_everyday(first) or best_likeness(first, known))

    def _share_of(self, words: Sequence[str], shares: Mapping[str, float]) -> float:
        total = sum(self.weights[word] for word in words)
        return sum(self.weights[word] * shares[word] for word in words) / total if total else 0.0

    def _worst(self, words: Sequence[str], shares: Mapping[str, float] | None = None) -> float:
        """Return the largest weight that is missing among some words, as a share of the question."""
        total = sum(self.weights.values()) or 1.0
        shares = self.around if shares is None else shares
        return max((self.weights[word] * (1 - shares[word]) for word in words), default=0.0) / total


def _parts(text: str) -> list[tuple[str, str]]:
    """Return the nouns of a text, each with what specifies it: price of maize, maize price, ligne côtière."""
    found = [(match[1], match[2]) for match in _OF.finditer(text)]
    for match in _SIDE_BY_SIDE.finditer(text):
        found += [(match[1], match[2]), (match[2], match[1])]
    verbs = word_list("irregular")
    return [pair for pair in found if not any(is_empty(word) or folded(word) in verbs for word in pair)]


def _candidates(question: ParsedQuestion, sources: Sequence[Source], corpus: Corpus) -> list[_Candidate]:
    """Return the sentences that agree with the question's dates and figures and share most with it."""
    asked = list(dict.fromkeys([*question.names, *question.terms]))
    weights = {word: corpus.weight(word) for word in asked}
    anywhere = {word: float(not corpus.has_not(word)) for word in asked}
    language = language_of(question.text)
    found = []
    for source in sources:
        around = " \n ".join((source.passage.heading, source.document.title, source.document.issuer))
        words_around = words_of(around)
        for index, sentence in enumerate(source.passage.sentences):
            text = sentence.in_words
            if gives_orders(text) or text.rstrip().endswith((",", ":")) or _only_replaces(text, question):
                continue
            earlier = source.passage.sentences[:index]
            announced = _announced(earlier)
            listed = words_of(announced) if _LABELLED.match(text) else []
            if sentence.header and not announced and not times_in(text):
                announced = next((said for one in earlier if times_in(said := _first_part(one))), "")
            if not announced and not sentence.header and not times_in(text):
                announced = next((one.text for one in reversed(earlier) if not one.header), "")
            if not _is_of_the_time(question, text, source, announced):
                continue
            own_quantities = quantities_in(text)
            if any(not any(q.agrees_with(own) for own in own_quantities) for q in question.quantities):
                continue
            before = _text_before(source.passage.sentences, index, corpus)
            near = f"{around} {before}" if _POINTS_BACK.match(text) else around
            if _has_another_rank(question, text) or _has_another_number(question, text, near):
                continue
            own = words_of(text)
            words_before = words_of(" ".join([before, *_about_the_others(question, own, earlier)]))
            own += [word for quantity in own_quantities for word in _MEASURED_IN.get(quantity.family, ())]
            if _SPEED.search(text):
                own.append("speed")
            if question.wanted == "where" and _LABELLED_AS_PLACE.match(text):
                own = [*own, *_MEETING]
            itself = {word: best_likeness(word, own) for word in asked}
            from_before = _FROM_BEFORE_POINTED_AT if _POINTS_BACK.match(text) else _FROM_BEFORE
            shares = {
                word: max(
                    share,
                    best_likeness(word, [*words_around, *listed]),
                    from_before * best_likeness(word, words_before),
                )
                for word, share in itself.items()
            }
            needed = _share_needed(question, sentence, before, around, earlier, corpus)
            found.append(
                _Candidate(
                    question,
                    source,
                    sentence,
                    text,
                    weights,
                    itself,
                    shares,
                    dict(itself),
                    dict(shares),
                    dict(anywhere),
                    f"{around} \n {before}",
                    f"{before} {text}" if _POINTS_BACK.match(text) else text,
                    needed,
                    same_language=source.document.language == language,
                )
            )
    for one in found:
        one.gives = _gives_what_is_wanted(
            question, one.text, one.source.document.language, one.share(one.itself), one.share(one.around), corpus
        )

    def first_look(one: _Candidate) -> float:
        itself = one.share(one.itself)
        covered = itself + 0.6 * (one.share(one.around) - itself)
        return covered - (one.needed is None) + 0.3 * (one.gives > 0)

    return sorted(found, key=lambda one: -first_look(one))[:_LOOKED_AT]


def _first_part(sentence: Sentence) -> str:
    """Return a sentence up to what it compares with: "412 tonnes in 2024, against 390 in 2023"."""
    return "" if sentence.header else _COMPARED.split(sentence.text, maxsplit=1)[0]


def _about_the_others(question: ParsedQuestion, own: Sequence[str], earlier: Iterable[Sentence]) -> list[str]:
    """Return the earlier sentences about those names of a question that a sentence with another of them lacks."""
    lacking = [name for name in question.names if best_likeness(name, own) < _WITH_SENSE]
    if len(lacking) == len(question.names):
        return []
    texts = (one.text for one in earlier if not one.header)
    return [text for text in texts if any(best_likeness(name, words_of(text)) >= _WITH_SENSE for name in lacking)]


def _only_replaces(text: str, question: ParsedQuestion) -> bool:
    """Return whether a sentence says no more than which document another replaces, and nobody asks for that."""
    return _REPLACES_ANOTHER.match(text) is not None and _REPLACES.search(question.text) is None


def _text_before(sentences: Sequence[Sentence], index: int, corpus: Corpus) -> str:
    """Return the sentences that a sentence continues: two, or back to the one that its pronoun stands for.

    Sentences that name nothing continue the one before them.
    """
    before = [one for one in sentences[:index] if not one.header]
    first = max(0, len(before) - 2)
    while first and not _names_something(before[first].text, corpus):
        first -= 1
    if _POINTS_BACK.match(sentences[index].in_words):
        first = max(0, len(before) - 1)
        while first and _POINTS_BACK.match(before[first].text):
            first -= 1
    return " ".join(one.text for one in before[first:])


def with_antecedent(evidence: Evidence) -> Evidence:
    """Return evidence that begins with "it" or "their" with the sentences back to what that stands for."""
    passage, sentence = evidence.source.passage, evidence.sentence
    if not _POINTS_BACK.match(sentence.text) or sentence not in passage.sentences:
        return evidence
    first = index = passage.sentences.index(sentence)
    while first and not passage.sentences[first - 1].header and _POINTS_BACK.match(passage.sentences[first].text):
        first -= 1
    if first == index:
        return evidence
    start = passage.sentences[first].start
    text = " ".join(passage.text[start - passage.start : sentence.end - passage.start].split())
    return replace(evidence, sentence=Sentence(text, start, sentence.end))


def _compare_by_meaning(question: ParsedQuestion, candidates: Sequence[_Candidate]) -> None:
    """Add scores from embeddings for words outside the glossary and for whole sentences."""
    asked = [word for word in candidates[0].weights if word not in question.names]
    missing = [word for word in asked if any(one.around[word] < _WITH_SENSE for one in candidates)]
    own = [_vector_words(one.text) for one in candidates]
    around = [_vector_words(one.context) for one in candidates]
    others = sorted({word for words in (*own, *around) for word in words})
    if missing and others:
        alike = likenesses_by_vector(missing, others)
        column = {word: index for index, word in enumerate(others)}
        for one, words, words_around in zip(candidates, own, around, strict=True):
            for row, word in enumerate(missing):
                in_it = max((float(alike[row, column[other]]) for other in words), default=0.0)
                near = max((float(alike[row, column[other]]) for other in words_around), default=0.0)
                one.itself[word] = max(one.itself[word], in_it)
                one.around[word] = max(one.around[word], in_it, _FROM_BEFORE * near)
    known = [*question.names, *question.terms, *question.kinds, *(str(time.year) for time in question.times)]
    for one in candidates:
        if one.sentence.header:
            numbered = any(_numbers_of_the_same(question, one.text.split(";")[0]))
            first, *others = one.sentence.text.split(" | ")
            one.label = 1.0 if numbered else _how_known(first, known)
            if any(_names_all(question.names, cell) for cell in others):
                one.label = 1.0
    for word in asked:
        anywhere = max(candidates[0].anywhere[word], *(one.around[word] for one in candidates))
        for one in candidates:
            one.anywhere[word] = anywhere
    similarities = similarities_to(
        question.text,
        [
            "\n".join((one.source.document.title, one.source.passage.heading.split(" > ")[-1], one.continued))
            for one in candidates
        ],
    )
    similarities = [
        similarity if one.same_language else similarity + _OTHER_LANGUAGE
        for one, similarity in zip(candidates, similarities, strict=True)
    ]
    mean, best = sum(similarities) / len(similarities), max(similarities)
    for one, similarity in zip(candidates, similarities, strict=True):
        one.similarity, one.above_mean, one.below_best = similarity, similarity - mean, similarity - best


def _has_another_rank(question: ParsedQuestion, text: str) -> bool:
    """Return whether a sentence says "second" of what the question calls "first"."""
    given = ranks_in(text)
    return bool(question.ranks and given and not question.ranks & given)


def _numbered_things(text: str, *, at_the_start: bool = False) -> list[tuple[str, int]]:
    """Return the things that a text names by a number: "lot 2", or a cell "2" under the header "lot"."""
    return [
        (found[1], int(found[2]))
        for found in _NUMBERED_THING.finditer(text)
        if NUMBERED.search(f"{found[1]} ")
        and (not at_the_start or not text[: found.start()].rpartition(";")[2].strip())
    ]


def _numbers_of_the_same(question: ParsedQuestion, text: str) -> list[bool]:
    """Return whether each number with which a sentence or row begins is the one in the question."""
    return [
        number == other
        for thing, number in _numbered_things(question.text)
        for name, other in _numbered_things(text, at_the_start=True)
        if likeness(thing, name) >= _WITH_SENSE
    ]


def _has_another_number(question: ParsedQuestion, text: str, around: str) -> bool:
    """Return whether a sentence is about lot 3, and nothing around it is about the lot of the question."""
    given = _numbered_things(text)
    return any(
        any(likeness(thing, name) >= _WITH_SENSE for name, _ in given)
        and number not in (other for _, other in given)
        and re.search(rf"\b0*{number}\b", around) is None
        for thing, number in _numbered_things(question.text)
    )


def _how_known(cell: str, known: Sequence[str]) -> float:
    """Return the share of a cell's words, without units, that a question has."""
    words = words_of(re.sub(r"\(.*?\)", " ", cell))
    words = [word for word in words if not is_empty(word)]
    others = [word.lower() for word in known if not word[0].isdigit()]
    alike = likenesses_by_vector([word.lower() for word in words], others)
    close = alike.max(axis=1) if alike.size else [0.0] * len(words)
    return _mean(max(best_likeness(word, known), float(near)) for word, near in zip(words, close, strict=True))


def _names_all(names: Sequence[str], cell: str) -> bool:
    """Return whether a cell is a pair or list of the question's names: "Kosande-Senovar"."""
    return len(names) > 1 and all(best_likeness(name, words_of(cell)) == 1.0 for name in names)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _vector_words(text: str) -> list[str]:
    return sorted({word.lower() for word in content_words(text) if len(word) > 2})


def _gives_what_is_wanted(
    question: ParsedQuestion, text: str, language: str, itself: float, around: float, corpus: Corpus
) -> float:
    """Return whether a sentence gives the kind of thing that is asked for, from 0 (no) to 1."""
    if _UNANSWERED.search(text) and question.wanted != "yes or no":
        return 0.0
    text = _clause_about(question, text)
    asks_what_lacks = _PENDING.search(question.text) is not None or is_negative(question.text)
    if _PENDING.search(text) and question.wanted not in ("yes or no", "why") and not asks_what_lacks:
        return 0.0
    match question.wanted:
        case "quantity":
            return _gives_quantity(question, text, language, corpus)
        case "time":
            if _is_denied(question, text):
                return 0.0
            dated = any(not any(own.is_within(time) for own in question.times) for time in times_in(text))
            return float(dated or _TIME_OF_DAY.search(text) is not None)
        case "who":
            if _new_names(question, _AT_A_PLACE.sub("", text)):
                return 0.7 if is_negative(text) else 1.0
            if is_negative(text) and not _new_names(question, text):
                return 0.0
            return _NAMED if _new_names(question, text) else 0.4
        case "where":
            return float(
                not is_negative(text)
                and (
                    bool(_new_names(question, text if " | " in text or ";" in text else _places_in(text)))
                    or bool(_LABELLED_AS_PLACE.match(text) and _new_names(question, f"x {text.partition(':')[2]}"))
                    or _PLACE.search(text) is not None
                )
            )
        case "why":
            if _CAUSE.search(text) or _is_said_to_be_by(question, text):
                return 1.0
            has_purpose = _PURPOSE.search(text) and not (is_negative(text) or _PENDING.search(text))
            return _WEAK if max(itself, 0.9 * around) >= 0.8 and has_purpose else 0.0
        case _:
            return 1.0


def _is_denied(question: ParsedQuestion, text: str) -> bool:
    """Return whether a sentence denies what is asked: "has not opened", unless it says "not opened until May"."""
    return any(best_likeness(found[1], question.terms) >= _WITH_SENSE for found in _DENIED.finditer(text))


def _places_in(text: str) -> str:
    """Return the parts of a text that begin with "at" or "in" and end with a name."""
    return " ".join(f"x {found[0]}" for found in _IN_A_PLACE.finditer(text))


def _is_said_to_be_by(question: ParsedQuestion, text: str) -> bool:
    """Return whether a participle of the question is followed by its agent: "was delayed by a landslide"."""
    return any(best_likeness(found[1], question.terms) >= _WITH_SENSE for found in _BY.finditer(text))


def _gives_quantity(question: ParsedQuestion, text: str, language: str, corpus: Corpus) -> float:
    given = [
        q
        for q in quantities_in(text)
        if not any(q.agrees_with(own) for own in question.quantities)
        and (q.family or not NUMBERED.search(text[: q.start]))
    ]
    if is_negative(text) and any(best_likeness(found[1], question.terms) > 0 for found in _NONE.finditer(text)):
        return 1.0
    if _ASKS_FOR_A_RATE.search(question.text) and not (
        _RATE.search(text) or any(q.family == "percent" for q in given)
    ):
        return 0.0
    if question.asks_for_share:
        is_called_share = any(best_likeness(kind, words_of(text)) == 1.0 for kind in question.kinds)
        return 1.0 if is_called_share or any(q.family == "percent" for q in given) else 0.4 * bool(given)
    if question.families:
        given = [q for q in given if q.family in question.families and (q.family or not _counts_a_noun(text, q))]
    if question.counts:
        if any(_is_counted(question, text, q, language) for q in given):
            return 1.0
        if question.counts_people:
            given = [q for q in given if not _counted(text, q, language)]
        return 0.4 * any(q.family not in _MEASURES and not _label_of(text, q) for q in given)
    if question.asks_for_money and not question.families:
        given = [
            q
            for q in given
            if (
                q.family not in _MEASURES
                or (q.family == "percent" and (_RATE.search(question.text) or _COSTS.search(text)))
            )
            and (q.family or not (q.text.isalpha() or _counts_things(text, q, corpus)))
        ]
    elif not question.families and not question.counts and not _DURATION.search(question.text):
        given = [q for q in given if q.family not in ("second", "day", "month")]
    return float(bool(given))


def _counts_a_noun(text: str, quantity: Quantity) -> bool:
    """Return whether a figure without a unit is followed by what it counts."""
    return re.match(r"\s*[^\W\d_]{3,}", text[quantity.end :]) is not None


def _counts_things(text: str, quantity: Quantity, corpus: Corpus) -> bool:
    """Return whether a figure is followed by the name of a thing, and not of a currency."""
    found = re.match(r"\s*([^\W\d_]{3,})", text[quantity.end :])
    return found is not None and folded(found[1]) not in corpus.currencies and is_thing(found[1])


def _is_counted(question: ParsedQuestion, text: str, quantity: Quantity, language: str) -> bool:
    """Return whether a figure counts what is asked for: whether its noun is a word of the question."""
    if quantity.family in _MEASURES:
        return best_likeness(quantity.text.split()[-1], (*question.terms, *question.kinds)) > 0
    counted = _counted(text, quantity, language)
    if (label := _label_of(text, quantity)) and not counted:
        return any(best_likeness(word, (*question.terms, *question.kinds)) for word in label)
    if not counted:
        return not question.counts_people
    if question.counts_people:
        return any(is_person(word) for word in counted)
    if is_person(question.head) and not _ANYBODY.isdisjoint(map(folded, counted)):
        return best_likeness(question.head, words_of(text)) > 0
    return any(best_likeness(word, [question.head] if question.head else question.terms) > 0 for word in counted)


def _counted(text: str, quantity: Quantity, language: str) -> list[str]:
    """Return the words for what a figure counts: "22 cattle markets" and "22 marchés de bétail" count no cattle.

    The noun stands last in English, and first in French and Portuguese, where adjectives may follow it.
    """
    start = quantity.end
    while leading := _BEFORE_NOUN.match(text, start):
        start = leading.end()
    end = _NOUN_ENDS.search(text, start)
    words = [word for word in content_words(text[start : end.start() if end else None][:60]) if len(word) > 2][:4]
    if language == "en" and words and not is_loose(words[-1]):
        words = words[-1:]
    return words_of(text[quantity.end : start]) + words


def _label_of(text: str, quantity: Quantity) -> list[str]:
    """Return the words of a cell's label in a row: "readiness: 38" counts no people. A year is no such label."""
    found = _LABEL.search(text[: quantity.start])
    return [word for word in words_of(found[1]) if not word[0].isdigit()] if found else []


def _clause_about(question: ParsedQuestion, text: str) -> str:
    """Return the clause of a sentence, between semicolons, that shares most with the question."""
    clauses = [clause for clause in text.split(";") if clause.strip()]
    if len(clauses) < 2 or not (_PENDING.search(text) or is_negative(text)):
        return text
    asked = (*question.names, *question.terms)
    return max(clauses, key=lambda clause: sum(best_likeness(word, words_of(clause)) for word in asked))


def _new_names(question: ParsedQuestion, text: str) -> list[str]:
    """Return the names in a text that the question does not have; a strange word at its start is a name, too."""
    asked = {folded(name) for name in question.names}
    first = next(iter(words_of(text)), "")
    known = [first] if not (senses(first) or meanings(first) or is_empty(first)) else []
    # "the Senovar-Bracosta line" names one thing, which a question about Bracosta asks about.
    text = _JOINED.sub(lambda found: " " if asked & set(map(folded, words_of(found[0]))) else found[0], text)
    return [
        name
        for name in names_in(text, known=known)
        if folded(name) not in asked and best_likeness(name, question.terms) == 0 and not name.isupper()
    ]


def _share_needed(
    question: ParsedQuestion,
    sentence: Sentence,
    before: str,
    around: str,
    earlier: Sequence[Sentence],
    corpus: Corpus,
) -> float | None:
    """Return the share of the question that a sentence must contain; ``None`` if it is about other names."""
    text = sentence.in_words
    own = words_of(text)
    needed = _BY_ITSELF
    has_a_name = any(likeness(name, word) >= _WITH_SENSE for name in question.names for word in own)
    names_others = bool(
        {folded(name) for name in names_in(text, known=corpus.names)} - set(map(folded, question.names))
    )
    for name in question.names:
        if any(likeness(name, word) >= _WITH_SENSE for word in own):
            continue
        stands_before = any(likeness(name, word) >= _WITH_SENSE for word in words_of(before))
        if stands_before and _POINTS_BACK.match(text):
            continue
        stands_around = any(likeness(name, word) >= _WITH_SENSE for word in words_of(around))
        if _has_short_form(question, name, text) and (
            stands_around or any(best_likeness(name, words_of(one.text)) == 1.0 for one in earlier)
        ):
            continue
        if has_a_name and not names_others:  # "Nuvoa | 153,000" in a note about Ponte
            goes_on = any(likeness(name, word) >= _WITH_SENSE for one in earlier for word in words_of(one.text))
        elif sentence.header:
            goes_on = stands_before and not names_in(sentence.text, known=corpus.names)
        else:
            takes_up = _takes_up(text, before, corpus) or (
                question.wanted == "who" and _begins_with_its_noun(text, corpus)
            )
            subject = before if _POINTS_BACK.match(text) else text
            goes_on = (stands_before and takes_up) or _is_the_named(subject, name, earlier)
        if not stands_around and not goes_on:
            return None
        if not stands_around:
            needed = _BY_ITSELF_WITHOUT_NAME
        if corpus.is_everywhere(name):
            continue
        asked = {folded(other) for other in question.names}
        rivals = {folded(other) for other in names_in(text, known=corpus.names)} - asked
        if any(corpus.is_common(rival) for rival in rivals):
            return None
    return needed


def _is_the_named(text: str, name: str, earlier: Sequence[Sentence]) -> bool:
    """Return whether a sentence begins with "the mine", and the last mine before it has the name."""
    begins = _BEGINS_DEFINITE.match(text)
    if begins is None:
        return False
    for sentence in reversed(earlier):
        words = words_of(sentence.text)
        if best_likeness(begins[1], words) == 1.0:
            if best_likeness(name, words) >= _WITH_SENSE:
                return True
            if names_in(f"a {sentence.text}"):
                return False
    return False


def _has_short_form(question: ParsedQuestion, name: str, text: str) -> bool:
    """Return whether a sentence says "the Levy" for "Community Solidarity Levy"."""
    return any(
        found[1] in question.names
        and re.search(rf"\b{re.escape(name)} (?:(?:d[aeo]s?|of) )?{found[1]}\b", question.text)
        for found in _THE_NAMED.finditer(text)
    )


def _takes_up(text: str, before: str, corpus: Corpus) -> bool:
    """Return whether a sentence continues the one before: it names nothing, or repeats its noun."""
    first = next(iter(words_of(text)), "")
    if _LABELLED.match(text) or (first[:1].isupper() and folded(first) in corpus.names):
        return False
    if not _names_something(text, corpus) or any(is_verb(found[1]) for found in _OF_IT.finditer(text)):
        return True
    earlier = content_words(before)
    return any(best_likeness(found[1], earlier) > 0 for found in _DEFINITE.finditer(text) if found[1].islower())


def _begins_with_its_noun(text: str, corpus: Corpus) -> bool:
    """Return whether a sentence begins with a noun as "The dredging", and has at most new names after it."""
    return _BEGINS_DEFINITE.match(text) is not None and not any(
        corpus.is_common(folded(name)) for name in names_in(text, known=corpus.names)
    )


def _names_something(text: str, corpus: Corpus) -> bool:
    """Return whether a sentence has a capitalised word other than its first, months and units."""
    first, *others = words_of(text) or [""]
    return folded(first) in corpus.names or any(
        word[0].isupper() and folded(word) not in MONTH_NAMES and word.lower() not in UNIT_NAMES for word in others
    )


def _announced(before: Sequence[Sentence]) -> str:
    """Return the last sentence with a colon at its end, which announces the lines of a list."""
    return next((one.text for one in reversed(before) if one.text.rstrip().endswith(":")), "")


def _is_of_the_time(question: ParsedQuestion, text: str, source: Source, announced: str) -> bool:
    own = times_in(text)
    around = (*times_in(source.document.title), *times_in(source.passage.heading), *times_in(announced))
    date = source.document.date
    for asked in question.times:
        if _OPEN_TIME.search(question.text[: asked.start]):
            continue
        if any(_answers_time(time, asked) for time in own):
            continue
        if own and not any(
            time.year is None or time.part or (asked.year is not None and time.year == asked.year) for time in own
        ):
            return False
        if any(_answers_time(time, asked) for time in around):
            continue
        if own or asked.part is not None or asked.day is not None or asked.year is None or date is None:
            return False
        if not TimePoint(date.year, date.month, date.day).is_within(asked):
            return False
    return True


def _answers_time(given: TimePoint, asked: TimePoint) -> bool:
    if asked.part is not None and given.part != asked.part:
        return False
    if asked.month is not None and given.month != asked.month:
        return False
    return given.agrees_with(asked) and (asked.year is None or given.year is not None or asked.day is not None)


def _contradicts(other: Evidence, kept: Sequence[Evidence], question: ParsedQuestion) -> bool:
    """Return whether another document's sentence gives a different figure or date for the same thing."""
    if question.wanted not in ("quantity", "time"):
        return False
    read: Callable[[str], Sequence[object]] = quantities_in if question.wanted == "quantity" else times_in
    for evidence in kept:
        if evidence.source.document.id == other.source.document.id:
            return False
        for one in read(evidence.sentence.in_words):
            for two in read(other.sentence.in_words):
                if one.agrees_with(two):  # type: ignore[attr-defined]
                    return False
    return True


def sources_of(found: Iterable[LangChainDocument], language_of: Callable[[str], str]) -> list[Source]:
    """Return retrieved documents as passages; ``source``, ``title`` and ``page`` of their metadata are kept."""
    return [_source_of(number, document, language_of) for number, document in enumerate(found)]


def _source_of(number: int, found: LangChainDocument, language_of: Callable[[str], str]) -> Source:
    text = found.page_content
    name = str(found.metadata.get("source") or found.metadata.get("title") or found.id or "document")
    identity = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    page = found.metadata.get("page")
    sentences = tuple(Sentence(text[start:end], start, end) for start, end in sentences_of(text))
    return Source(
        Document(identity, name, str(found.metadata.get("title") or name), language=language_of(text)),
        Passage(
            document=identity,
            number=number,
            text=text,
            start=0,
            end=len(text),
            page=page if isinstance(page, int) else None,
            sentences=sentences,
        ),
    )
