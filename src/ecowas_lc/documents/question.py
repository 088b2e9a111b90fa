"""A parsed question: the kind of answer that it asks for, and the names, dates and figures that it is about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ecowas_lc._language import language_of
from ecowas_lc.documents.facts import Quantity, TimePoint, folded, quantities_in, ranks_in, times_in
from ecowas_lc.documents.terms import (
    content_words,
    is_action,
    is_everyday,
    is_institution,
    names_in,
    senses,
    word_list,
)
from ecowas_lc.search.words import words_of

AnswerKind = Literal["quantity", "time", "who", "where", "why", "yes or no", "anything"]

_TIME = re.compile(
    r"\b(?:when|(?:what|which) (?:date|year|day|month|time)s?"
    r"|quand|en quelle année|quelles? (?:est la |était la |sera la )?(?:date|année|heure|échéance)s?"
    r"|à quelle (?:date|heure)"
    r"|quels? (?:jours?|mois)|quando|em que (?:ano|data|dia|mês|meses)s?|a que horas?|qual (?:é |foi "
    r"|será )?(?:a )?(?:data|hora)"
    r"|que (?:dia|data|ano)s?)\b",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"\b(?:how (?:much|many|long|large|high|big|far|often|old|tall|deep|wide|great|heavy|fast)"
    r"|how (?!(?:did|do|does|is|are|was|were|will|would|has|have|had|can|could|must|should|to)\b)\w+"
    r"(?= (?:is|are|was|were)\b)"
    r"|what (?:share|percentage|proportion|quantity|amount|number)|combien|quel(?:le)? (?:part"
    r"|pourcentage|proportion|quantité|nombre)"
    r"|quel(?:le)? (?:montant|somme)|quant[oa]s?|que (?:parte|percentagem|quantidade|proporção|número"
    r"|montante|valor|verba)|qual (?:é |foi )?a (?:parte"
    r"|percentagem|proporção))\b",
    re.IGNORECASE,
)
_MEASURED = re.compile(
    r"\b(?:what|which|quel(?:le)?s?|qual|quais|jusqu)\b.{0,60}?\b(?:pay|pays|paid|bilan|toll|rate|price"
    r"|tariff|charge|cost|capacity"
    r"|fine|penalty|duty|deposit|weight|height|depth|temperature|distance|salary|wage|toll|tax|interest|debt"
    r"|deficit"
    r"|amende|taux|droit|caution|poids|hauteur|profondeur|température|distance|salaire|péage|impôt|dette|déficit"
    r"|multa|peso|altura|profundidade|temperatura|distância|salário|portagem|imposto|dívida|défice|caução|direito"
    r"|draught|speed|vitesse|velocidade|tirant d'eau|calado|orçamento"
    r"|value|royalty|grade|limit|number|volume|bills?|factures?|faturas?"
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
    r"(?<!est-ce )\b(?:who|whom|whose"
    r"|(?:which|quels?|que|qual|quais) (?:countr(?:y|ies)|(?:member )?states?|pays|États?|país(?:es)?|estados?)"
    r"|(?:what|which|quel|qual) (?:is|was|est|était|é|foi) (?:the |le "
    r"|o )?(?:name|nom|nome)\b|which (?:\w+ )?(?:company|firm|investor|bank|institution|organi[sz]ation"
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
    r"\b(?:where|(?:in|at|through|via|from|to) (?:which|what) (?:hotel|city|town|room|place|venue|country|state"
    r"|hall|district|port|building)"
    r"|which (?:hotel|city|town|room|place|venue|hall|district|port)|où|(?:dans|à"
    r"|en|par|vers|de) quel(?:le)? (?:hôtel|ville|salle|lieu|pays|état|centre|port|bâtiment|palais|gare|district)"
    r"|onde|(?:em|por|para|de) (?:que|qual) (?:hotel|cidade|sala|lugar|local|país|estado|centro|porto|edifício"
    r"|palácio|distrito)|em qual)\b",
    re.IGNORECASE,
)
_WHY = re.compile(
    r"\b(?:why|pourquoi|por que|porqu[eê]|for what reason|pour quelle raison|por que razão"
    r"|what (?:made|makes|explains)|how (?:do|does|did) .{0,60}\bexplain|comment .{0,60}\bexpliqu\w+"
    r"|como .{0,60}\bexplica\w*"
    r"|what (?:has |had )?(?:caused|led to|triggered)|(?:qu'est-ce )?qu[ei] a (?:provoqué|causé|entraîné"
    r"|déclenché)"
    r"|(?:o que|que) (?:causou|provocou|levou a|originou)"
    r"|(?:what|quelles?|qual|quais) (?:is|was|were|est|était|sont|é|foi|são|foram) (?:the|la|les"
    r"|[ao]s?) caus\w+)\b",
    re.IGNORECASE,
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
_OWNER = re.compile(r"\s*(?:[^\W\d_][\w-]* ){0,5}[^\W\d_][\w-]*(?:['’]s|s['’])\s+")
# "And now?" asks about the present, whatever time the question before it names.
NOW = re.compile(
    r"\b(?:now|today|currently|current|latest|at present|maintenant|aujourd'hui|actuellement|actuel\w*"
    r"|agora|hoje|atual\w*|actual\w*)\b",
    re.IGNORECASE,
)
_ENGLISH_HEAD = re.compile(
    r"\bhow (?:many|much) ((?:[^\W\d_][\w-]+ ){1,4}?)(?=(?:are|is|was|were|did|do|does|has|have|had|can|could"
    r"|may|must|will"
    r"|would|should|in|of|on|at|by|per|to|for|from|with|a|an|the|that|which|who)\b)",
    re.IGNORECASE,
)
_PEOPLE = re.compile(r"\b(?:how many (?:people|persons)|combien de personnes|quantas pessoas)\b", re.IGNORECASE)
_ASKS_FOR: tuple[tuple[re.Pattern[str], AnswerKind], ...] = (
    (_WHY, "why"),
    (_TIME, "time"),
    (_QUANTITY, "quantity"),
    (_MEASURED, "quantity"),
    (_WHERE, "where"),
    (_WHO, "who"),
)
QUESTION_WORDS = (
    r"(?:(?:up to|until|since|from|by|in|on|at|for|jusqu'à|depuis|à|en|dans|de|par|até|desde|em|a|por)\s+)?"
    r"(?:how|what|when|where|who|which|why|combien|quand|où|quel(?:le)?s?|qui|pourquoi|quando"
    r"|onde|quant[oa]s?|qual|quais|quem|que|porqu[eê])\b"
)
# "… , and until when?": a second question about the same thing.
_SECOND = re.compile(rf",?\s+(?:and|et|e)\s+(?={QUESTION_WORDS})", re.IGNORECASE)
_BOTH = re.compile(
    r"\b(?:(?=according to\b.{3,60}\band according to)|(?=(?:selon|d'après)\b.{3,60}\bet (?:selon|d'après))"
    r"|(?=segundo\b.{3,60}\be segundo)|(?=by the\b.{3,60}\band by the)"
    r"|compare|comparez|comparem|different (?:totals|figures|numbers|amounts)"
    r"|(?:the )?two (?:figures|totals|numbers)"
    r"|(?:les )?deux chiffres|(?:os )?dois (?:números|valores)|chiffres différents|números diferentes"
    r"|respectively|respectivement|respectivamente|(?:what|how many|how much) do(?:es)? each \w+|each (?:say|give)"
    r"|que dit chacune?|chacune? (?:dit|donne)\w*|o que diz cada uma?|cada uma? (?:diz|indica)"
    r"|(?:do|does|did) (?=[^?]{3,60}\band\b[^?]{3,60}\b(?:say|give|report|state|indicate|announce|quote|show)s?\b)"
    r"|(?:indiquent|donnent|annoncent|rapportent) (?=[^?]{3,60}\bet\b)"
    r"|(?:indicam|dão|apontam|anunciam|referem) (?=[^?]{3,60}\be\b)"
    r"|(?:do|does|did) not agree|disagree|differ|ne sont pas d'accord|divergent|diffèrent|divergem|discordam"
    r"|(?:the )?(?:two|both) (?:versions?|notes?|editions?|reports?|documents?|sources?)(?: of the \w+)?"
    r"|(?:les )?deux (?:versions?|notes?|éditions?|rapports?|documents?|sources?)"
    r"|(?:as )?(?:duas|dois) (?:vers\w+|notas?|edi\w+|relatórios?|documentos?|fontes?)"
    r"|how (?:has|have|did) (?=.{0,80}\bchanged?\b)|changed? (?=between|from)|a-t-(?:il|elle) (?:changé|évolué)"
    r"|mudou (?=entre|de)|evoluiu)\b",
    re.IGNORECASE,
)
_HOW = re.compile(r"\bhow (full|old|fast|steep|wet|dry|hot|cold|thick|loud|strong|common)\b", re.IGNORECASE)
_SAYERS = re.compile(
    r"\b(?:according to|selon|d'après|segundo)\b[^,?]*?(?=[,?]|\b(?:and|et|e)\b|$)"
    r"|\bby the\b[^,?]{3,60}\band by the\b[^,?]*",
    re.IGNORECASE,
)
# "…, and what is it now?" asks for the same thing at another time.
_THE_SAME = re.compile(
    r"^\W*(?:(?:what|how much) (?:is|was) (?:it|this|that|the (?:figure|number|amount|value))"
    r"|(?:quel(?:le)?|combien) (?:est|était)(?:-(?:il|elle|ce)| le (?:chiffre|montant|nombre)| la valeur)"
    r"|(?:qual|quanto) (?:é|era|foi|está)(?: o (?:valor|montante|número))?)"
    r"(?: (?:now|today|currently|at present|maintenant|aujourd'hui|actuellement|agora|hoje|atualmente))?\W*$",
    re.IGNORECASE,
)
# "Committee on Agriculture", "Comité dos Minerais", "Finance Committee"
_TOPIC = re.compile(
    r"\b([A-ZÀ-Ý][\w-]+) (?:(?:on|for|of|des|du|d[aeo]s?|de la|aux)(?: the)? |(?:de l|d|à l)['’])"
    r"((?:[A-ZÀ-Ý][\w-]+(?:,? (?:and |et |e |of |de |d[ao]s? )?)?)+)"
)
_TOPIC_FIRST = re.compile(r"\b((?:[A-ZÀ-Ý][\w-]+ )+)(?=([A-ZÀ-Ý][\w-]+)\b)")
_YES_OR_NO = re.compile(
    r"^\W*(?:did|do|does|is|are|was|were|has|have|had|can|could|will|would|should|est-ce|y a-t-il"
    r"|(?:\w+ )?\w+-t-(?:il|elle|on|ils|elles)"
    r"|is it true|il y a|il existe|é|foi|foram|tem|têm|há|houve|haverá|havia|existem?|pode|podem|será|serão|são"
    r"|está|estão|estava|participou|recebeu)\b",
    re.IGNORECASE,
)
_COUNT = re.compile(r"\b(?:how many|combien d(?:e\b|['’])|quant[oa]s\b)", re.IGNORECASE)
_MASS = re.compile(r"\bcombien d(?:e |['’])[^\W\d_]*[^\W\d_sxz](?= |\W)", re.IGNORECASE)
_SHARE = re.compile(
    r"\b(?:share|percentage|per cent|proportion|pourcentage|percentagem|porcentagem"
    r"|what part|quelle part|que parte)\b",
    re.IGNORECASE,
)
_MONEY = re.compile(
    r"\b(?:bills?|factures?|faturas?"
    r"|costs?|price|tariff|fees?|fine|penalty|budget|salary|wage|how much money|expens\w+|spent|paid|pays?"
    r"|earn\w*|fetch\w*|lend|lent|borrow\w*|bring\w* in|brought in"
    r"|orçamento|coût\w*|prix|tarif|frais|amende|salaire|montant|dépens\w+|pa(?:ie|ye)\w*|payé\w*|touch\w+|gagn\w+"
    r"|indemnité\w*|prêt\w*"
    r"|cust(?:[aeo]|as|os|am|ou|ar|aram|ará|arão|ava|avam)|preço|tarifa|taxa|multa|salário|gast\w+|pag\w+|ganh\w+|auferem?|recebem?)\b",
    re.IGNORECASE,
)
_DIMENSIONS = tuple(
    (re.compile(rf"\b(?:{words})\b", re.IGNORECASE), frozenset(families))
    for words, families in (
        (r"area|surface|superfic\w+|superfície|área", ("hectare", "square metre", "metre")),
        (
            r"length|distance|height|depth|width|longueur|hauteur|profondeur|largeur"
            r"|comprimento|distância|altura|profundidade|largura|how (?:tall|deep|wide|far)"
            r"|how high (?:is|are|was|were) (?:the|an?) (?:[\w-]+ ){0,2}"
            r"(?:dam|tower|mast|wall|bridge|fence|hill|mountain)",
            ("metre", ""),
        ),
        (r"weight|poids|peso|how heavy(?!.{0,40}\b(?:fine|penalt|tax|sentence))", ("gram",)),
        (
            r"how long (?:is|was|are|were|will \w+ be)(?= (?:the|an?) (?:[\w-]+ ){0,3}"
            r"(?:line|road|railway|pipeline|bridge|cable|coast|border|river|canal|track|fence|wall|route|tunnel"
            r"|network))",
            ("metre",),
        ),
        (
            r"how long (?:did|does|do|will|would|has|have|had|can|may|must)\b"
            r"(?=.{0,60}\b(?:last|take|wait|stay|run|need)\w*)"
            r"|duration|durée|duração|combien de temps|quanto tempo",
            ("second", "day", "month"),
        ),
        (r"how long", ("metre", "second", "day", "month")),
    )
)
# "Circular 014", "n° 7": the number names a document or a part of one.
NUMBERED = re.compile(
    r"(?:\b(?:circulars?|circulaire|note|nota|report|rapport|relat[óo]rio|decision|d[ée]cision|decisão|decree"
    r"|décret"
    r"|decreto|law|loi|lei|directive|diretiva|regulation|règlement|regulamento|article|artigo|annexe?|anexo"
    r"|chapter"
    r"|chapitre|capítulo|section|secção|table|tableau|tabela|page|página|resolution|résolution|resolução"
    r"|document|documento|permit|permis|licen[cs]e|lot|lote|number|numéro|número|phase|fase|zone|zona|stage|étape"
    r"|etapa|tranche|batch|berth|quai|cais|annex|axis|axe|eixo|component|composante|componente|category|catégorie"
    r"|categoria|block|bloc|bloco|well|puits|poço|gate|room|salle|sala|point|ponto)|\bno\.|n[º°]|n\.º)\s*$",
    re.IGNORECASE,
)
# Words that name the kind of answer; a passage contains the answer and need not name its kind.
_KINDS = word_list("kinds")
_NO_KINDS_IN_ENGLISH = frozenset(["pays", "data"])
"""French for a country, and Portuguese for a date."""
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")
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
    counts_people: bool = False
    """Whether it asks how many people, so that an answer may count any persons."""
    asks_for_share: bool = False
    asks_for_money: bool = False
    ranks: frozenset[int] = frozenset()
    """Ordinals, from first to fourth."""
    families: frozenset[str] = frozenset()
    """The families of units that the answer can have; empty means any."""
    asks_for_both: bool = False
    """Whether it asks what each of several documents says."""
    then: ParsedQuestion | None = None
    """A second question in the same sentence, as a complete question."""


def is_courtesy(text: str) -> bool:
    """Return whether a turn only thanks, greets or agrees: it asks documents for nothing."""
    words = {folded(word) for word in words_of(text) if len(word) > 1}
    return bool(words & _COURTESIES) and words <= _COURTESIES | _EMPTY and "?" not in text


def _without_courtesies(text: str) -> str:
    asking = [sentence for sentence in SENTENCE_END.split(text) if not is_courtesy(sentence)]
    return " ".join(asking) or text


def read_question(text: str, *, known_names: Iterable[str] = ()) -> ParsedQuestion:
    """Parse a question; ``known_names`` are names in the documents, which are also recognised at its start.

    A second question in the same sentence ("and until when?") is parsed too, as a question about the same thing.
    """
    text = _without_courtesies(text)
    known = list(known_names)
    second = _SECOND.search(text)
    if second is None:
        return _read_one(text, text, known)
    first = _read_one(text[: second.start()], text, known)
    if _THE_SAME.search(text[second.end() :]):
        return replace(first, then=replace(first, text=text[second.end() :], times=()))
    other = _read_one(text[second.end() :], text[second.end() :], known)
    complete = replace(
        other,
        names=tuple(dict.fromkeys([*first.names, *other.names])),
        terms=tuple(dict.fromkeys([*first.terms, *other.terms])),
        times=other.times or (() if NOW.search(text[second.end() :]) else first.times),
        ranks=first.ranks | other.ranks,
    )
    return replace(first, then=complete)


def _read_one(asked: str, text: str, known_names: Sequence[str]) -> ParsedQuestion:
    """Parse the part of a text that asks one question."""
    topics = _topics_in(asked)
    asks_for_both = _BOTH.search(asked) is not None
    said = _SAYERS.sub(" ", _BOTH.sub(" ", asked)) if asks_for_both else asked
    names = [name for name in names_in(said, known=known_names) if folded(name) not in topics]
    plain_names = {folded(name) for name in names}
    subject = _ASKED.sub(" ", said)
    if _SHARE.search(subject):
        subject = re.sub(r"\b(?:que parte|quelle part|what part)\b", " ", subject, flags=re.IGNORECASE)
    words = [word for word in content_words(subject) if folded(word) not in plain_names]
    wanted = _wanted(asked)
    if asks_for_both and wanted == "anything":
        wanted = "quantity"
    kinds = _KINDS - _NO_KINDS_IN_ENGLISH if language_of(text) == "en" else _KINDS
    terms = tuple(word for word in words if folded(word) not in kinds)
    if asks_for_both:  # those who say it, and that they say it, are no part of the subject
        terms = tuple(word for word in terms if not (is_institution(word) or is_everyday(word))) or terms
    head = _head(asked, terms) if wanted == "quantity" else ""
    counts = _COUNT.search(asked) is not None
    families = next((families for pattern, families in _DIMENSIONS if pattern.search(asked)), frozenset())
    if counts and _MASS.search(asked):  # "combien d'or", not "combien de mines"
        counts = False
    if counts and head:  # "combien de fois un poids lourd …" asks for no weight
        families = frozenset()
    return ParsedQuestion(
        text=text,
        wanted=wanted,
        names=tuple(names),
        terms=terms,
        kinds=(*(word for word in words if folded(word) in kinds), *_HOW.findall(asked)),
        times=times_in(asked),
        ranks=ranks_in(asked),
        quantities=tuple(q for q in quantities_in(asked) if not NUMBERED.search(asked[: q.start])),
        head=head,
        counts=counts and not families,
        counts_people=_PEOPLE.search(asked) is not None,
        asks_for_share=_SHARE.search(asked) is not None,
        asks_for_money=_MONEY.search(asked) is not None,
        families=families,
        asks_for_both=asks_for_both,
    )


def _topics_in(text: str) -> set[str]:
    """Return the nouns in institutions' names ("Committee on Fisheries"), which other languages translate."""
    topics = [found[2] for found in _TOPIC.finditer(text) if is_institution(found[1])]
    topics += [found[1] for found in _TOPIC_FIRST.finditer(text) if is_institution(found[2])]
    return {folded(word) for topic in topics for word in words_of(topic) if senses(word)}


def _wanted(text: str) -> AnswerKind:
    """Return the kind of answer for which the first of a text's question words asks."""
    found = [(match.start(), kind) for pattern, kind in _ASKS_FOR if (match := pattern.search(text))]
    if found:
        return min(found, key=lambda one: one[0])[1]
    return "yes or no" if _YES_OR_NO.search(text) else "anything"


def _head(text: str, terms: tuple[str, ...]) -> str:
    """Return the noun after "how many" or "what is the", or ``""`` if there is none.

    In English the last noun of several is the one that is counted ("traffic accidents"), in French and Portuguese
    the first.
    """
    if english := _ENGLISH_HEAD.search(text):
        nouns = [term for term in content_words(english[1]) if term in terms and not is_everyday(term)]
        nouns = [noun for noun in nouns if not is_action(noun)] or nouns
        return nouns[-1] if nouns else ""
    found = HEAD.search(text)
    if found is None:
        return ""
    rest = text[found.end() :]
    if owner := _OWNER.match(rest):
        rest = rest[owner.end() :]
    following = [folded(word) for word in content_words(" ".join(rest.split()[:2]))]
    if following and following[0] in _KINDS:
        return ""
    named = [term for term in terms if folded(term) in following and not is_everyday(term)]
    return named[-1 if owner else 0] if named else ""
