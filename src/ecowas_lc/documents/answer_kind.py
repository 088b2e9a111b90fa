"""Whether a sentence gives the kind of thing that a question asks for: a figure, date, name, place or cause."""

from __future__ import annotations

import re

from ecowas_lc.documents.facts import Quantity, folded, is_negative, quantities_in, times_in
from ecowas_lc.documents.question import NUMBERED, ParsedQuestion
from ecowas_lc.documents.sources import Corpus
from ecowas_lc.documents.terms import (
    SAME_SENSE,
    best_likeness,
    content_words,
    is_empty,
    is_loose,
    is_person,
    is_thing,
    meanings,
    names_in,
    senses,
    words_of,
)

WEAK = 0.5
"""How far a sentence answers "why" if it has a purpose and no cause."""
NAMED = 0.6
"""How far a sentence answers "who" if it names only a place."""
_LABEL = re.compile(r"([^;:|]+):\s*$")
PENDING = re.compile(
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
_BY = re.compile(r"\b([^\W\d_]{4,}) (?:by|par|por|pel[oa]s?)\b", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:not|never|pas|jamais|não|nunca)(?: (?:yet|been|encore|été|ainda|foi|sido))* ([^\W\d_]+)"
    r"(?!.{0,40}\b(?:until|before|avant|antes|jusqu|até)\b)",
    re.IGNORECASE,
)
_PURPOSE = re.compile(r"\b(?i:for|to|pour|par|para|por|as)\b(?! [A-ZÀ-Ý])")
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
MEASURES = frozenset(
    [
        *("percent", "watt", "watt-hour", "volt", "bit/s", "metre", "hectare", "square metre", "litre"),
        *("second", "day", "month", "gram"),
    ]
)
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
LABELLED_AS_PLACE = re.compile(r"\W*(?:place|venue|location|lieu|local|lugar) ?:", re.IGNORECASE)


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


def gives_what_is_wanted(
    question: ParsedQuestion, text: str, language: str, itself: float, around: float, corpus: Corpus
) -> float:
    """Return whether a sentence gives the kind of thing that is asked for, from 0 (no) to 1."""
    if _UNANSWERED.search(text) and question.wanted != "yes or no":
        return 0.0
    text = _clause_about(question, text)
    asks_what_lacks = PENDING.search(question.text) is not None or is_negative(question.text)
    if PENDING.search(text) and question.wanted not in ("yes or no", "why") and not asks_what_lacks:
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
            return NAMED if _new_names(question, text) else 0.4
        case "where":
            return float(
                not is_negative(text)
                and (
                    bool(_new_names(question, text if " | " in text or ";" in text else _places_in(text)))
                    or bool(LABELLED_AS_PLACE.match(text) and _new_names(question, f"x {text.partition(':')[2]}"))
                    or _PLACE.search(text) is not None
                )
            )
        case "why":
            if _CAUSE.search(text) or _is_said_to_be_by(question, text):
                return 1.0
            has_purpose = _PURPOSE.search(text) and not (is_negative(text) or PENDING.search(text))
            return WEAK if max(itself, 0.9 * around) >= 0.8 and has_purpose else 0.0
        case _:
            return 1.0


def _is_denied(question: ParsedQuestion, text: str) -> bool:
    """Return whether a sentence denies what is asked: "has not opened", unless it says "not opened until May"."""
    return any(best_likeness(found[1], question.terms) >= SAME_SENSE for found in _DENIED.finditer(text))


def _places_in(text: str) -> str:
    """Return the parts of a text that begin with "at" or "in" and end with a name."""
    return " ".join(f"x {found[0]}" for found in _IN_A_PLACE.finditer(text))


def _is_said_to_be_by(question: ParsedQuestion, text: str) -> bool:
    """Return whether a participle of the question is followed by its agent: "was delayed by a landslide"."""
    return any(best_likeness(found[1], question.terms) >= SAME_SENSE for found in _BY.finditer(text))


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
        return 0.4 * any(q.family not in MEASURES and not label_of(text, q) for q in given)
    if question.asks_for_money and not question.families:
        given = [
            q
            for q in given
            if (
                q.family not in MEASURES
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
    if quantity.family in MEASURES:
        return best_likeness(quantity.text.split()[-1], (*question.terms, *question.kinds)) > 0
    counted = _counted(text, quantity, language)
    if (label := label_of(text, quantity)) and not counted:
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


def label_of(text: str, quantity: Quantity) -> list[str]:
    """Return the words of a cell's label in a row: "readiness: 38" counts no people. A year is no such label."""
    found = _LABEL.search(text[: quantity.start])
    return [word for word in words_of(found[1]) if not word[0].isdigit()] if found else []


def _clause_about(question: ParsedQuestion, text: str) -> str:
    """Return the clause of a sentence, between semicolons, that shares most with the question."""
    clauses = [clause for clause in text.split(";") if clause.strip()]
    if len(clauses) < 2 or not (PENDING.search(text) or is_negative(text)):
        return text
    asked = (*question.names, *question.terms)
    return max(clauses, key=lambda clause: sum(best_likeness(word, words_of(clause)) for word in asked))


def _new_names(question: ParsedQuestion, text: str) -> list[str]:
    """Return the names in a text that the question does not have; an unknown word at its start counts as one."""
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
