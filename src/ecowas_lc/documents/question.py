"""A parsed question: the kind of answer that it asks for, and the names, dates and figures that it is about."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ecowas_lc.documents.facts import Quantity, TimePoint, folded, quantities_in, ranks_in, times_in
from ecowas_lc.documents.terms import content_words, is_everyday, names_in, word_list
from ecowas_lc.search.words import words_of

AnswerKind = Literal["quantity", "time", "who", "where", "why", "yes or no", "anything"]

_TIME = re.compile(
    r"\b(?:when|what (?:date|year|day|month|time)|(?:in|on|by|at|from|until|till) (?:which|what) (?:date"
    r"|year|day|month|time)"
    r"|quand|en quelle année|quelle (?:est la |était la |sera la )?(?:date|année|heure|échéance)"
    r"|à quelle (?:date|heure)"
    r"|quel (?:jour|mois)|quando|em que (?:ano|data|dia|mês)|a que horas?|qual (?:é |foi "
    r"|será )?(?:a )?(?:data|hora)"
    r"|que (?:dia|data|ano))\b",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"\b(?:how (?:much|many|long|large|high|big|far|often|old|tall|deep|wide|great|heavy|fast)"
    r"|how (?!(?:did|do|does|is|are|was|were|will|would|has|have|had|can|could|must|should|to)\b)\w+"
    r"(?= (?:is|are|was|were)\b)"
    r"|what (?:share|percentage|proportion|quantity|amount|number)|combien|quel(?:le)? (?:part"
    r"|pourcentage|proportion|quantité|nombre)"
    r"|quant[oa]s?|que (?:parte|percentagem|quantidade|proporção|número)|qual (?:é |foi )?a (?:parte"
    r"|percentagem|proporção))\b",
    re.IGNORECASE,
)
_MEASURED = re.compile(
    r"\b(?:what|which|quel(?:le)?s?|qual|quais|jusqu)\b.{0,60}?\b(?:rate|price|tariff|charge|cost|capacity"
    r"|fine|penalty|duty|deposit|weight|height|depth|temperature|distance|salary|wage|toll|tax|interest|debt"
    r"|deficit"
    r"|amende|taux|droit|caution|poids|hauteur|profondeur|température|distance|salaire|péage|impôt|dette|déficit"
    r"|multa|peso|altura|profundidade|temperatura|distância|salário|portagem|imposto|dívida|défice|caução|direito"
    r"|value|royalty|grade|limit|number|volume"
    r"|length|share|score|loss(?:es)?|revenues?|target|budget|fees?|size|amount|percentage|population"
    r"|yield|output|production"
    r"|taux|prix|tarif|coût|capacité|valeur|redevance|teneur|limite|nombre|volume|longueur|pertes?"
    r"|recettes?|objectif|puissance"
    r"|commission|pourcentage|montant|superficie|population|rendement|durée|frais|plafond|part"
    r"|taxa|preço|tarifa|custo|capacidade|valor|teor|limite|número|volume|comprimento|perdas?|receitas?"
    r"|meta|potência"
    r"|pontuação|montante|superfície|população|rendimento|duração|prazo médio|percentagem|quota)\b",
    re.IGNORECASE,
)
_WHO = re.compile(
    r"\b(?:who|whom|whose|which (?:\w+ )?(?:company|firm|investor|bank|institution|organi[sz]ation"
    r"|agency|authority|ministry|operator"
    r"|contractor|partner|donor|lender|person|minister)|qui|(?:à|de|par|pour) qui"
    r"|quel(?:le)?s? (?:société|entreprise|banque|institution|agence|autorité|investisseur|opérateur"
    r"|partenaire|ministre)"
    r"|quem|que (?:empresa|banco|instituição|agência|autoridade|investidor|operador)|qual (?:é "
    r"|foi )?(?:a |o )?(?:empresa|banco"
    r"|investidor|instituição|agência))\b",
    re.IGNORECASE,
)
_WHERE = re.compile(
    r"\b(?:where|(?:in|at) (?:which|what) (?:hotel|city|town|room|place|venue|country|state|hall"
    r"|district|port|building)"
    r"|which (?:hotel|city|town|room|place|venue|country|state|hall|district|port)|où|(?:dans|à"
    r"|en) quel(?:le)? (?:hôtel|ville|salle|lieu"
    r"|pays|état|centre)|onde|em que (?:hotel|cidade|sala|lugar|local|país|estado|centro))\b",
    re.IGNORECASE,
)
_WHY = re.compile(
    r"\b(?:why|pourquoi|por que|porqu[eê]|for what reason|pour quelle raison|por que razão)\b", re.IGNORECASE
)
# "How long does … take" asks for a duration; neither word belongs to the subject.
_ASKED = re.compile(
    r"\bhow (?:long|large|high|big|far|often|old|tall|deep|wide|great|heavy|fast)\b"
    r"|\bhow (?!(?:many|much)\b)\w+(?= (?:is|are|was|were|will|would|has|have|had|did|do|does|can|must|should)\b)"
    r"|\btakes? on average\b|\btake\b",
    re.IGNORECASE,
)
HEAD = re.compile(
    r"\b(?:how (?:many|much)|what (?:is|was|are|were) the|combien (?:de |d['’])|quel(?:le)?s? (?:est"
    r"|était|sont|étaient|sera|seront|a été|ont été|fut|furent) (?:l[ae]s? |l['’])"
    r"|quant[oa]s? |qual (?:é|era|foi|será) [oa] |quais (?:são|eram|foram) [oa]s )",
    re.IGNORECASE,
)
_ENGLISH_HEAD = re.compile(
    r"\bhow (?:many|much) ((?:[^\W\d_][\w-]+ ){1,4}?)(?=(?:are|is|was|were|did|do|does|has|have|had|can|could"
    r"|may|must|will"
    r"|would|should|in|of|on|at|by|per|to|for|from|with|a|an|the|that|which|who)\b)",
    re.IGNORECASE,
)
_YES_OR_NO = re.compile(
    r"^\W*(?:did|do|does|is|are|was|were|has|have|had|can|could|will|would|should|est-ce|y a-t-il"
    r"|(?:\w+ )?\w+-t-(?:il|elle|on|ils|elles)"
    r"|is it true|il y a|il existe|é|foi|foram|tem|têm|há|houve|haverá|havia|existem?|pode|podem|será|serão|são"
    r"|está|estão|estava|participou|recebeu)\b",
    re.IGNORECASE,
)
_COUNT = re.compile(r"\b(?:how many|combien d(?:e\b|['’])|quant[oa]s\b)", re.IGNORECASE)
_SHARE = re.compile(
    r"\b(?:share|percentage|per cent|proportion|pourcentage|percentagem|porcentagem"
    r"|what part|quelle part|que parte)\b",
    re.IGNORECASE,
)
_MONEY = re.compile(
    r"\b(?:costs?|price|tariff|fees?|fine|penalty|budget|salary|wage|how much money|expens\w+|spent|paid|pays?"
    r"|earn\w*|fetch\w*|lend|lent|borrow\w*"
    r"|coût\w*|prix|tarif|frais|amende|salaire|montant|dépens\w+|pa(?:ie|ye)\w*|payé\w*|touch\w+|gagn\w+"
    r"|indemnité\w*|prêt\w*"
    r"|cust\w+|preço|tarifa|taxa|multa|salário|gast\w+|pag\w+|ganh\w+|auferem?|recebem?)\b",
    re.IGNORECASE,
)
_DIMENSIONS = tuple(
    (re.compile(rf"\b(?:{words})\b", re.IGNORECASE), frozenset(families))
    for words, families in (
        (r"area|surface|superfic\w+|superfície|área", ("hectare", "metre")),
        (
            r"length|distance|height|depth|width|longueur|hauteur|profondeur|largeur"
            r"|comprimento|distância|altura|profundidade|largura|how (?:tall|deep|wide|far|high)",
            ("metre", ""),
        ),
        (r"weight|poids|peso|how heavy", ("gram",)),
        (
            r"how long (?:is|was|are|were|will \w+ be)(?= (?:the|an?) (?:[\w-]+ ){0,3}"
            r"(?:line|road|railway|pipeline|bridge|cable|coast|border|river|canal|track|fence|wall|route|tunnel"
            r"|network))",
            ("metre",),
        ),
        (
            r"how long|duration|durée|duração|combien de temps|quanto tempo",
            ("metre", "second", "day", "month"),
        ),
    )
)
# "Circular 014", "n° 7": the number names a document or a part of one.
_NUMBERED = re.compile(
    r"(?:\b(?:circulars?|circulaire|note|nota|report|rapport|relat[óo]rio|decision|d[ée]cision|decisão|decree"
    r"|décret"
    r"|decreto|law|loi|lei|directive|diretiva|regulation|règlement|regulamento|article|artigo|annexe?|anexo"
    r"|chapter"
    r"|chapitre|capítulo|section|secção|table|tableau|tabela|page|página|resolution|résolution|resolução"
    r"|document|documento|permit|permis|licen[cs]e|lot|lote|number|numéro|número)|\bno\.|n[º°]|n\.º)\s*$",
    re.IGNORECASE,
)
# Words that name the kind of answer; a passage contains the answer and need not name its kind.
_KINDS = word_list("kinds")
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")
_EMPTY, _COURTESIES = word_list("empty"), word_list("courtesies")


@dataclass(frozen=True, slots=True)
class ParsedQuestion:
    """What a question asks for, and what an answer must agree with."""

    text: str
    wanted: AnswerKind
    names: tuple[str, ...]
    terms: tuple[str, ...]
    """Words of its subject, without names and words for the kind of answer."""
    kinds: tuple[str, ...]
    """Words for the kind of answer (value, number); they help to choose but are not required."""
    times: tuple[TimePoint, ...]
    quantities: tuple[Quantity, ...]
    """Figures that the question presupposes."""
    head: str = ""
    """What is counted or measured, if the question asks for a quantity."""
    counts: bool = False
    """Whether it asks how many."""
    asks_for_share: bool = False
    asks_for_money: bool = False
    ranks: frozenset[int] = frozenset()
    """Ordinals, from first to fourth."""
    families: frozenset[str] = frozenset()
    """The families of units that the answer can have; empty means any."""


def is_courtesy(text: str) -> bool:
    """Return whether a turn only thanks, greets or agrees: it asks documents for nothing."""
    words = {folded(word) for word in words_of(text) if len(word) > 1}
    return bool(words & _COURTESIES) and words <= _COURTESIES | _EMPTY and "?" not in text


def _without_courtesies(text: str) -> str:
    asking = [sentence for sentence in _SENTENCE_END.split(text) if not is_courtesy(sentence)]
    return " ".join(asking) or text


def read_question(text: str, *, known_names: Iterable[str] = ()) -> ParsedQuestion:
    """Parse a question; ``known_names`` are names in the documents, which are also recognised at its start."""
    text = _without_courtesies(text)
    names = names_in(text, known=known_names)
    plain_names = {folded(name) for name in names}
    asked = _ASKED.sub(" ", text)
    words = [word for word in content_words(asked) if folded(word) not in plain_names]
    wanted = _wanted(text)
    terms = tuple(word for word in words if folded(word) not in _KINDS)
    return ParsedQuestion(
        text=text,
        wanted=wanted,
        names=tuple(names),
        terms=terms,
        kinds=tuple(word for word in words if folded(word) in _KINDS),
        times=times_in(text),
        ranks=ranks_in(text),
        quantities=tuple(q for q in quantities_in(text) if not _NUMBERED.search(text[: q.start])),
        head=_head(text, terms) if wanted == "quantity" else "",
        counts=_COUNT.search(text) is not None,
        asks_for_share=_SHARE.search(text) is not None,
        asks_for_money=_MONEY.search(text) is not None,
        families=next((families for pattern, families in _DIMENSIONS if pattern.search(text)), frozenset()),
    )


def _wanted(text: str) -> AnswerKind:
    if _WHY.search(text):
        return "why"
    if _TIME.search(text):
        return "time"
    if _QUANTITY.search(text) or _MEASURED.search(text):
        return "quantity"
    if _WHERE.search(text):
        return "where"
    if _WHO.search(text):
        return "who"
    if _YES_OR_NO.search(text):
        return "yes or no"
    return "anything"


def _head(text: str, terms: tuple[str, ...]) -> str:
    """Return the noun after "how many" or "what is the", or ``""`` if there is none.

    In English the last noun of several is the one that is counted ("traffic accidents"), in French and Portuguese
    the first.
    """
    if english := _ENGLISH_HEAD.search(text):
        nouns = [term for term in content_words(english[1]) if term in terms and not is_everyday(term)]
        return nouns[-1] if nouns else ""
    found = HEAD.search(text)
    if found is None:
        return ""
    following = {folded(word) for word in content_words(" ".join(text[found.end() :].split()[:2]))}
    return next((term for term in terms if folded(term) in following and not is_everyday(term)), "")
