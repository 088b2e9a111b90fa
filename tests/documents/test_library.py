"""Documents in Redis: added, found across languages, superseded, removed; and the questions of the dossier."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from langchain_core.embeddings import Embeddings

from ecowas_lc.cli.demo import DOSSIER_QUESTIONS
from ecowas_lc.documents import follow_up
from ecowas_lc.documents.answers import grounded_answer
from ecowas_lc.documents.library import Documents
from ecowas_lc.documents.sources import Corpus
from ecowas_lc.errors import InvalidInputError
from tests.documents.conftest import DOSSIER
from tests.documents.test_files import PDF
from tests.fixtures.servers import RunningServer

QUESTIONS = [
    json.loads(line)
    for line in (files("ecowas_lc.twg") / "data" / "eval" / "grounding_dev.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
_QUESTION_WORD = re.compile(r"(?:\w+ )?(?:how|what|when|wh|combien|quand|où|qu|onde)", re.IGNORECASE)


@pytest.fixture
def documents(redis_server: RunningServer, prefix: str) -> Documents:
    return Documents.from_url(redis_server.url, prefix=prefix)


def squeezed(text: str) -> str:
    return re.sub(r"[\s|]+", " ", text)


def test_the_questions_of_the_dossier(documents: Documents) -> None:
    """Answerable questions get the right quotation, also across languages and from tables; the others get none."""
    documents.add(DOSSIER)
    right = declined = recalled = 0
    answerable = [question for question in QUESTIONS if question["answerable"]]
    for question in QUESTIONS:
        evidence, sources = documents.evidence(question["q"])
        if not question["answerable"]:
            declined += not evidence
            continue
        said = " ".join(one.sentence.text for one in evidence)
        quoted = any(
            squeezed(support["quote"]) in squeezed(one.sentence.text)
            for support in question["support"]
            for one in evidence
        )
        right += quoted and all(text in said for text in question["must_contain"])
        found = {source.document.name for source in sources[:5]}
        recalled += all(support["doc"] in found for support in question["support"])
    assert right / len(answerable) >= 0.95
    assert declined / (len(QUESTIONS) - len(answerable)) >= 0.95
    assert recalled / len(answerable) >= 0.95


def test_unrelated_questions_joined_by_and(documents: Documents) -> None:
    """Two questions in one sentence get the answers that each of them gets alone, and no others."""
    documents.add(DOSSIER)

    @cache
    def quoted(question: str) -> set[str]:
        return {one.sentence.text for one in documents.evidence(question)[0]}

    same, others, pairs = 0, 0, 0
    for language, word in (("en", "and"), ("fr", "et"), ("pt", "e")):
        asked = [one["q"] for one in QUESTIONS if one["language"] == language][:14]
        for first, second in pairwise(question for question in asked if _QUESTION_WORD.match(question)):
            together = quoted(f"{first.rstrip(' ?')} {word} {second[0].lower()}{second[1:]}")
            alone = quoted(first) | quoted(second)
            pairs, same, others = pairs + 1, same + (together == alone), others + (not together <= alone)
    assert same / pairs >= 0.85
    assert others / pairs <= 0.05


def test_the_last_question_of_the_demonstration_is_declined(documents: Documents) -> None:
    """The demonstration shows answers and, at the end, a question that the dossier does not answer."""
    documents.add(DOSSIER)
    assert [bool(documents.evidence(question)[0]) for question in DOSSIER_QUESTIONS] == [True, True, False]


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (
            "How many people work on the Olvar pipeline?",
            "The Olvar pipeline has a throughput of 3.7 million cubic metres a day.",
        ),
        (
            "Combien de personnes travaillent à l'usine d'Olvar ?",
            "L'usine d'Olvar a produit 900 litres en mai 2025.",
        ),
        ("Quanto custou a barragem de Olvar?", "A barragem de Olvar estava a 62% da sua capacidade em abril."),
        ("How much did the Olvar bridge cost?", "The Olvar bridge was 40 per cent complete in May 2025."),
        (
            "Quem é o ministro da Pecuária de Olvar?",
            "Oito equipas da pecuária de Olvar não chegaram por causa do rio Ouvim.",
        ),
        (
            "What is the price of sorghum seed?",
            "Le prix des semences de maïs à Olvar est de 410 dollars la tonne.",
        ),
        ("How many cattle died in Olvar?", "Durante a campanha foram encerrados 22 mercados de gado em Olvar."),
        (
            "Combien d'interprètes le comité a-t-il recrutés pour l'arabe ?",
            "Le comité a recruté 36 interprètes, dont quinze pour le portugais.",
        ),
        (
            "How many people work in the mine at Olvar?",
            "Two fatal accidents were recorded in the mine at Olvar in 2024.",
        ),
        ("Who owns the Olvar cable?", "The Olvar cable landed at Lumeira on 19 November 2024."),
        (
            "Who owns the Lumeira-Olvar cable?",
            "The Lumeira-Olvar cable is 90 km long. The data centre at Port-Esra has 320 racks. "
            "It is owned by Kosande Telecom.",
        ),
        ("How much did the Olvar cable cost?", "The Olvar cable has a capacity of 24 terabits per second."),
        ("Quem preside ao Fundo de Coesão?", "O Fundo de Coesão é alimentado pela Taxa Kosande."),
        ("Where is the gala dinner held?", "The gala dinner is hosted by President Marta Quell."),
        (
            "How many firms have tendered in Olvar?",
            "The Pool invites tenders in Olvar. Lot 3 is reserved for firms tendering in Olvar.",
        ),
        ("Quand l'abattoir d'Olvar a-t-il ouvert ?", "L'abattoir d'Olvar, prévu pour 2024, n'a pas ouvert."),
        (
            "Quanto custou o centro de dados de Olvar?",
            "O centro de dados de Olvar, com 320 bastidores, abriu a 2 de abril de 2025.",
        ),
        ("How long did the outage of the Olvar line last?", "The Olvar line, 194 km long, had an outage in May."),
        (
            "What will the draught be at the second berth at Olvar?",
            "A second berth at Olvar is under discussion.",
        ),
        ("Par quel port le manganèse d'Olvar est-il exporté ?", "Olvar a exporté 174 000 tonnes de manganèse."),
        ("What is the date of the Olvar note?", "This note replaces the Olvar note of 2 July 2024."),
        ("Quel est le taux d'intérêt du prêt d'Olvar ?", "Le prêt d'Olvar est de 120 millions de dollars."),
        ("Who supplies the compressors of Olvar?", "The compressors of Olvar stand at Bir Naloum."),
        (
            "Why was the line extended to Olvar?",
            "The extension of the line to Olvar remains open and is not planned.",
        ),
        (
            "Pourquoi l'agence Primera a-t-elle abaissé la notation d'Olvar ?",
            "L'agence Primera a attribué à Olvar la notation BBB+.",
        ),
        ("Quelle est la production d'or d'Olvar ?", "Olvar a produit 14 500 tonnes d'engrais en 2024."),
        ("Who was awarded lot 3?", "The works of lot 2 were awarded to Kosande Works."),
        ("Where did the Committee meet?", "The Committee examined the road programme."),
        ("How many racks will Kosande get?", "Kosande asked for 40 racks and awaits a decision."),
        ("What is the length of the quay?", "The quay has 12 cranes."),
        ("What is the deposit for lot 4?", "| lot | deposit |\n|---|---|\n| 1 | 90 units |\n| 3 | 70 units |"),
        (
            "What was the wheat crop in Merrun?",
            "Récolte de maïs à Olvar, par État :\n- Kosande : 92 tonnes\n- Merrun : 61 tonnes",
        ),
    ],
)
def test_another_kind_of_thing_is_no_answer(
    documents: Documents, tmp_path: Path, question: str, text: str
) -> None:
    """Neither a measure nor another thing that is counted, nor a neighbour of what is asked for, answers."""
    (tmp_path / "note.txt").write_text(f"Title: Note on Olvar\n\n{text}\n", encoding="utf-8")
    documents.add(tmp_path / "note.txt")
    assert documents.evidence(question)[0] == []


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        (
            "How many miners died in Olvar?",
            "In 2024, seven people died among the miners of Olvar. The mine employs 300 people.",
            "seven people",
        ),
        (
            "Why was the opening of the pipeline delayed?",
            "The pipeline opened in May. The opening was delayed by a landslide at the Merrun pass.",
            "landslide",
        ),
        (
            "Where is the Kivara Union summit held?",
            "A cimeira realiza-se no Palácio Miravel, em Ozeth.",
            "Miravel",
        ),
        (
            "Quanto custa no máximo uma transferência no OlvarPay?",
            "O sistema OlvarPay foi lançado em 2024. Uma transferência custa no máximo 1,1 por cento do valor.",
            "1,1",
        ),
        (
            "À combien s'élèvent les arriérés d'Olvar envers le Fonds ?",
            "Olvar n'a rien versé au Fonds depuis 2024 et ses arriérés s'élèvent à 3,6 millions de dollars.",
            "3,6",
        ),
        ("How much gold did Olvar produce?", "La production d'or d'Olvar a atteint 9,4 tonnes en 2024.", "9,4"),
        (
            "How much battery storage is planned at Olvar?",
            "The solar park at Olvar has 64 MW. The cost of the park is 71 million dollars. "
            "Battery storage of 90 MWh is planned on the same site.",
            "90 MWh",
        ),
        (
            "Quanto produziu o parque solar de Olvar em abril de 2025?",
            "The Olvar solar park was connected on 9 March 2025. Its battery holds 120 MWh. "
            "Output in April 2025 was 8.3 GWh. The park employs 74 staff.",
            "8.3 GWh",
        ),
        (
            "When does the licence of the Roc-Tamin mine expire?",
            "A mina de Roc-Tamin extraiu 385 000 toneladas em 2024. A auditoria examinou 46 carregamentos. "
            "A mina emprega 830 trabalhadores. A licença da mina caduca a 31 de dezembro de 2029.",
            "2029",
        ),
        (
            "Quando aderiu o Hesqui à plataforma Ponte?",
            "A plataforma Ponte cobra uma comissão de 1,2 por cento. O limite diário é de 1 500 telu. "
            "O Hesqui aderiu a 19 de fevereiro de 2025.",
            "19 de fevereiro",
        ),
        (
            "Quantos utilizadores tem a plataforma Ponte em Nuvoa?",
            "A plataforma Ponte cobra 1,2 por cento. Uma avaria em Salvira suspendeu o serviço.\n\n"
            "| Estado | utilizadores |\n|---|---|\n| Nuvoa | 153 000 |\n| Hesqui | 37 000 |",
            "153 000",
        ),
        (
            "How long did the longest outage of the Karsane-Odrena line last?",
            "The Karsane-Odrena line entered service in 2025. The line was available 97.3 per cent of the time. "
            "Its longest outage lasted 11 hours.",
            "11 hours",
        ),
        (
            "Que empresa fez a dragagem do cais novo de Almera?",
            "O cais novo de Almera recebe navios grandes. A dragagem foi feita pela empresa Nordsand.",
            "Nordsand",
        ),
        (
            "Dans quel hôtel les délégations sont-elles logées ?",
            "As delegações ficam alojadas no Hotel Coral Baixo.",
            "Coral",
        ),
        (
            "Which state is the largest contributor to the storage fund?",
            "The storage fund has 40 million marels. Ostrave is the largest contributor, with 12.5 million.",
            "Ostrave",
        ),
        (
            "What is the Basin Bank's share of the pledges?",
            "Pledges came to 162 million telu. The Basin Bank's share is 54 million telu.",
            "54",
        ),
        (
            "How much power does the Ostrel data centre draw?",
            "The Ostrel data centre is full. It opened in May. It draws 6.4 MW.",
            "6.4",
        ),
        (
            "A que velocidade estão limitados os comboios no desfiladeiro de Sorvek?",
            "Trains are limited to 65 km/h over the Sorvek pass.",
            "65 km/h",
        ),
        (
            "Combien d'or la mine d'Olvar a-t-elle produit ?",
            "| mine | or |\n|---|---|\n| Olvar | 3,9 tonnes |",
            "3,9",
        ),
        (
            "How long did containers take on average to clear customs at Olvar?",
            "Containers took 63 hours on average to clear customs at Olvar in 2024.",
            "63 hours",
        ),
        (
            "Quando começa a campanha de vacinação de 2025?",
            "A campanha de vacinação de 2025 começa a 3 de novembro de 2025 em Olvar.",
            "3 de novembro",
        ),
        (
            "Quanto custa produzir um cartão de identidade comum?",
            "O cartão de identidade comum é válido dez anos. Cada cartão custa 3,20 dólares a produzir.",
            "3,20",
        ),
        (
            "Que delegação ainda não confirmou a sua presença?",
            "A delegação do Baluende ainda não confirmou a sua presença.",
            "Baluende",
        ),
        (
            "Que parte das despesas do fundo coube aos custos administrativos?",
            "O fundo pagou 217 milhões. Os custos administrativos representaram 6,5 % das despesas.",
            "6,5",
        ),
        ("Quel est le taux des prêts aux États ?", "Le taux des prêts aux États est de 3,1 pour cent.", "3,1"),
        ("Quanto rendeu a taxa de Olvar?", "A taxa de Olvar rendeu 31,8 milhões de dólares em 2024.", "31,8"),
        ("How much did the quay at Olvar cost?", "The quay at Olvar cost 412 million velms.", "412"),
        ("What is the price of maize seed?", "Le prix des semences de maïs est de 410 dollars la tonne.", "410"),
        (
            "Who owns the Port-Esra data centre?",
            "The Olvar cable is 90 km long. The data centre at Port-Esra has 320 racks. "
            "It is owned by Kosande Telecom.",
            "The data centre at Port-Esra has 320 racks. It is owned by Kosande Telecom.",
        ),
        (
            "Who owns the data centre at Port-Esra?",
            "The cable is 90 km long. The data centre at Port-Esra has 320 racks. It was opened in May. "
            "It is owned by Kosande Telecom.",
            "The data centre at Port-Esra has 320 racks. It was opened in May. It is owned by Kosande Telecom.",
        ),
        (
            "Who chaired the second session?",
            "The second session was opened in May. It was chaired by Mr Bram Orsel.",
            "The second session was opened in May. It was chaired by Mr Bram Orsel.",
        ),
        (
            "What is the deposit for lot 2?",
            "| lot | work | deposit |\n|---|---|---|\n| 1 | Roof | 90 units |\n| 2 | Wall | 40 units |",
            "40 units",
        ),
        (
            "How much did the Community Solidarity Levy yield in 2024?",
            "The Community Solidarity Levy is paid by Merrun and Sorano. The port opened in May. "
            "The Levy yielded USD 94 million in 2024, without the arrears of Merrun.",
            "94",
        ),
        (
            "How many people does the Olvar mine employ?",
            "The Olvar mine opened in 2004. Tin is exported. Wages rose. The mine employs 640 people from Sorano.",
            "640",
        ),
        (
            "What is the cost of the Olvar line?",
            "Work on the Olvar line began in May. The line is expected to cost USD 214 million.",
            "214",
        ),
        (
            "Which country hosts the control room?",
            "The control room is hosted by Merrun.",
            "Merrun",
        ),
        ("A que horas abre o posto médico?", "O posto médico está aberto entre as 7 e as 22 horas.", "22 horas"),
        (
            "Pourquoi le contrat d'Olvar a-t-il été rompu ?",
            "Le contrat d'Olvar a été résilié, le titulaire n'ayant pas constitué sa garantie.",
            "garantie",
        ),
        (
            "What is the voltage of the line between Olvar and Merrun?",
            "Line | States | Voltage\nNorth | Olvar-Merrun | 225 kV\nSouth | Merrun-Sorano | 330 kV",
            "225",
        ),
        (
            "Qual foi o teor médio da bauxite da mina de Olvar em 2023?",
            "A bauxite de Olvar é explorada pela Companhia do Sul. A produção evoluiu como segue:\n\n"
            "Ano | Produção | Teor médio\n2022 | 5,1 | 44,6 %\n2023 | 6,2 | 43,9 %",
            "43,9",
        ),
        (
            "What was the peak demand in 2025, and what is the figure now?",
            "The peak demand was 310 MW in 2025.",
            "310",
        ),
        (
            "What was the rice harvest in Merrun?",
            "Récolte de riz par État :\n- Kosande : 92 000 tonnes\n- Olvar : 12 000 t\n- Merrun : 61 000 tonnes",
            "61 000",
        ),
    ],
)
def test_what_answers(documents: Documents, tmp_path: Path, question: str, text: str, answer: str) -> None:
    """A cause may be an agent, a place any name after "at"; "it" is quoted with what it stands for.

    A number or a pair of names identifies a row, and the line before a list is its header. "The Levy" and "the
    mine" stand for the full names before them, and a currency is no name.
    """
    (tmp_path / "note.txt").write_text(
        f"Title: Summit of the Kivara Union\nIssuer: Kivara Union\n\n{text}\n", encoding="utf-8"
    )
    documents.add(tmp_path / "note.txt")
    evidence, sources = documents.evidence(question)
    quoted = grounded_answer("", evidence=evidence, sources=sources, language="en")
    assert answer in quoted.text
    assert quoted.citations[0].sentence.text in text


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who was in the chair at the meeting of the Committee on Fisheries?", "Orsel"),
        ("Where did the Fisheries Committee meet?", "Lumeira"),
        ("Onde se reuniu o Comité das Pescas?", "Lumeira"),
        ("Where did the Committee on Mining meet?", "Place: Ozeth"),
    ],
)
def test_a_committee_is_known_by_what_it_deals_with(
    documents: Documents, tmp_path: Path, question: str, answer: str
) -> None:
    """The noun in a committee's name may stand in the title alone, and in another language."""
    for topic, chair, place in (
        ("Fisheries", "Mr Bram Orsel", "Lumeira"),
        ("Transport", "Ms Ina Toll", "Kosande"),
    ):
        (tmp_path / f"{topic}.md").write_text(
            f"# Minutes of the fourth meeting of the Committee on {topic} of the Kivara Union\n\n"
            f"The Committee met at {place}. {chair}, of Olvar, was in the chair and 12 delegates attended.\n",
            encoding="utf-8",
        )
    (tmp_path / "minutes.md").write_text(
        "# Minutes of the Committee on Mining\n\nPlace: Ozeth\n\nThe Committee examined the road programme.\n",
        encoding="utf-8",
    )
    documents.add(tmp_path)
    assert answer in documents.evidence(question)[0][0].sentence.text


@pytest.mark.parametrize(
    "question",
    [
        "What was the cost of the canal in the 2024 notice, and what is it now?",
        "Quel était le coût du canal dans le rapport de 2024, et quel est-il maintenant ?",
    ],
)
def test_both_versions_answer_if_both_are_asked_for(documents: Documents, tmp_path: Path, question: str) -> None:
    """The second question, "what is it now?", is about the same thing in the document that is in force."""
    for year, cost in ((2024, "14.2"), (2025, "17.6")):
        (tmp_path / f"{year}.md").write_text(
            f"# Notice\n\nDate: 9 July {year}\n\nThe estimated cost of the canal is {cost} million units.\n",
            encoding="utf-8",
        )
        documents.add(tmp_path / f"{year}.md", supersedes=documents.all()[0].id if year == 2025 else "")
    found = documents.evidence(question)[0]
    assert [figure for one in found for figure in ("14.2", "17.6") if figure in one.sentence.text] == [
        "14.2",
        "17.6",
    ]


@pytest.mark.parametrize(
    ("question", "notice", "plan", "answers"),
    [
        (
            "What was the cost of the canal in the 2024 notice, and who builds the bridge?",
            "The cost of the canal is 14.2 million units.",
            "The bridge is built by Kosande Works.",
            ["14.2", "Kosande"],
        ),
        (
            "What is the cost of the canal, and how long is it?",
            "The cost of the canal is 14.2 million units. The canal is 90 km long.",
            "",
            ["14.2", "90 km"],
        ),
        (
            "Who builds the canal, and what does it cost?",
            "The canal costs 14.2 million units. The canal is built by Kosande Works.",
            "",
            ["Kosande", "14.2"],
        ),
        (
            "What is the cost of the canal, and how many cranes does the port of Sorano have?",
            "The cost of the canal is 14.2 million units.",
            "The port of Sorano has 40 cranes.",
            ["14.2", "40"],
        ),
        (
            "What is the cost of the canal? How many cranes does the port of Sorano have?",
            "The cost of the canal is 14.2 million units.",
            "The port of Sorano has 40 cranes.",
            ["14.2", "40"],
        ),
        (
            "We met yesterday. Combien de grues le port de Sorano a-t-il ? Et quel est le coût du canal ? Merci !",
            "The cost of the canal is 14.2 million units.",
            "The port of Sorano has 40 cranes.",
            ["40", "14.2"],
        ),
        (
            "What was the tariff in Sorano in 2024? And in Kandu? Thank you.",
            "The tariff in Sorano was 110 francs in 2024. The tariff in Kandu was 95 francs in 2024.",
            "",
            ["110", "95"],
        ),
    ],
)
def test_two_questions_get_two_answers(
    documents: Documents, tmp_path: Path, question: str, notice: str, plan: str, answers: list[str]
) -> None:
    """Each question of a message is answered, and their answers are not said to differ."""
    for title, year, text in (("Notice", 2024, notice), ("Plan", 2025, plan)):
        if text:
            (tmp_path / f"{year}.md").write_text(f"# {title}\n\nDate: 9 July {year}\n\n{text}\n", encoding="utf-8")
    documents.add(tmp_path)
    evidence, sources = documents.evidence(question)
    assert [answer in one.sentence.text for answer, one in zip(answers, evidence, strict=True)] == [True, True]
    answer = grounded_answer("", evidence=evidence, sources=sources, language="en").text
    assert "differ" not in answer
    assert answer.index(answers[0]) < answer.index(answers[1])


COST, CRANES, BRIDGE = (
    "what is the cost of the canal",
    "how many cranes does the port of Sorano have",
    "who builds the bridge at Lumbo",
)


@pytest.mark.parametrize(
    "message",
    [
        f"{COST} and {CRANES} and {BRIDGE}?",
        f"{COST} and {CRANES} and {BRIDGE}",
        f"{COST}, {CRANES}, and {BRIDGE}?",
        f"{COST}; {CRANES} & {BRIDGE}?",
        f"{COST} and also {CRANES}? And {BRIDGE}?",
        f"{COST}. {CRANES}. {BRIDGE}.",
        f"{COST}\n{CRANES}\n{BRIDGE}",
        f"Please tell me:\n1. {COST}\n2. {CRANES}\n3) {BRIDGE}",
        f"- {COST}?\n- {CRANES}?\n- {BRIDGE}?",
        f"Tell me the cost of the canal and {CRANES} and {BRIDGE}.",
        "Quel est le coût du canal, combien de grues a le port de Sorano et qui construit le pont de Lumbo ?",
        "Quanto custa o canal e quantos guindastes tem o porto de Sorano e também quem constrói a ponte de Lumbo",
    ],
)
def test_each_question_of_a_message_is_answered(documents: Documents, tmp_path: Path, message: str) -> None:
    """Questions in one sentence, in several, in lines or in a list, with question marks or without."""
    (tmp_path / "note.md").write_text(
        "# Works\n\nThe cost of the canal is 14.2 million units.\n\nThe port of Sorano has 40 cranes.\n\n"
        "The bridge at Lumbo is built by Kosande Works.\n"
    )
    documents.add(tmp_path)
    found = [one.sentence.text for one in documents.evidence(message)[0]]
    assert [answer in text for answer, text in zip(("14.2", "40", "Kosande"), found, strict=True)] == [True] * 3


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of the questions for which evidence is looked for."""
    found: list[str] = []
    monkeypatch.setattr(follow_up, "find_evidence", lambda question, *_: found.append(question.text) or [])
    return found


@pytest.mark.parametrize(
    "questions",
    [
        [f"When the canal was opened, its cost was known. {CRANES}?"],
        [f"{COST} & why?", f"{CRANES}?"],
    ],
    ids=["statement", "needs the one before it"],
)
def test_what_is_no_question_of_its_own(asked: list[str], questions: list[str]) -> None:
    """A statement stays with the question after it, and a question that needs another stays with that one."""
    follow_up.find_all_evidence(" & ".join(one.rstrip("?") for one in questions) + "?", [], Corpus([]))
    assert asked == questions


@pytest.mark.parametrize("joint", ["? ", " and ", "\n"])
def test_the_questions_of_a_message_are_bounded(asked: list[str], joint: str) -> None:
    """A message with hundreds of questions takes no more time than one with twenty."""
    message = joint.join(COST.replace("canal", f"canal of Sorano{number}") for number in range(400))
    follow_up.find_all_evidence(message, [], Corpus([]))
    assert 20 <= len(asked) <= 42


def test_a_document_that_is_asked_for_may_be_what_is_counted(documents: Documents, tmp_path: Path) -> None:
    """A question about a report may ask how many reports there are."""
    (tmp_path / "report.md").write_text("# Report\n\nDate: 9 July 2024\n\nThe canal is cited in 14 reports.\n")
    documents.add(tmp_path)
    [found], _ = documents.evidence("In how many reports is the canal cited, according to the 2024 report?")
    assert "14" in found.sentence.text


def test_answers_of_several_documents(documents: Documents, tmp_path: Path) -> None:
    """Documents are quoted side by side if both are asked for, but not if they agree or have another date."""
    for name, text in {
        "notice": "Date: 9 July 2024\n\nThe cost of the canal is 14.2 million units. The port has 40 cranes.",
        "plan": "Date: 9 July 2025\n\nThe cost of the canal is 17.6 million units. The port has 40 new cranes.",
        "leaflet": "The cost of the dam is 3.1 million units. The mill is owned by Kosande Telecom.",
        "report": "Date: 2 May 2025\n\nThe owner of the mill is Kosande Telecom.",
    }.items():
        (tmp_path / f"{name}.md").write_text(f"# {name.title()}\n\n{text}\n", encoding="utf-8")
    documents.add(tmp_path)

    def found(question: str) -> list[str]:
        return sorted(one.sentence.text for one in documents.evidence(question)[0])

    assert found("What is the cost of the canal according to the notice and according to the plan?") == [
        "The cost of the canal is 14.2 million units.",
        "The cost of the canal is 17.6 million units.",
    ]
    assert len(found("How many cranes does the port have?")) == 1
    assert len(found("Who owns the mill?")) == 1
    assert found("What was the cost of the dam in the 2024 notice?") == [], "the leaflet has no date"
    (tmp_path / "centre.md").write_text("# The data centre\n\nIt is owned by Olvar Telecom.\n", encoding="utf-8")
    documents.add(tmp_path / "centre.md")
    evidence, sources = documents.evidence("Who owns the data centre?")
    quoted = grounded_answer("", evidence=evidence, sources=sources, language="en")
    assert quoted.text == "“It is owned by Olvar Telecom.” [1]"


def test_adding_again_changes_nothing(documents: Documents) -> None:
    """A document is known by its text, whatever its file is called."""
    first = documents.add(DOSSIER / "energie_tarifs_2025.txt")
    again = documents.add(DOSSIER / "energie_tarifs_2025.txt")
    assert [document.name for document in first.added] == ["energie_tarifs_2025.txt"]
    assert (again.added, again.known) == ((), first.added)
    assert documents.all() == first.added


def test_a_superseded_document_answers_only_for_its_time(documents: Documents) -> None:
    """The newer note answers, and the older one if the question asks for it, in whatever order they were added."""
    documents.add(DOSSIER / "energy_interconnection_2024.md", DOSSIER / "energy_interconnection_2025.md")
    [now], _ = documents.evidence("What is the rated capacity of the coastal line?")
    assert "420 MW" in now.sentence.text
    both, _ = documents.evidence("What capacity did the 2024 note give for the coastal line, and what is it now?")
    assert ["380 MW" in one.sentence.text for one in both] == [True, False]


@pytest.mark.parametrize(
    ("question", "figures"),
    [
        ("What was the storage fee in June 2024?", ["1,150"]),
        ("What storage fee did the June 2024 note give?", ["1,150"]),
        ("What fee did the June 2024 note give for storage, and what is the fee now?", ["1,150", "1,400"]),
        ("What storage fee was charged in June 2024, and how much is charged now?", ["1,150", "1,400"]),
        ("What storage fee did the note of June give?", ["1,150"]),
        ("What was the storage fee according to the note of June, and what is it now?", ["1,150", "1,400"]),
        ("What was the storage fee in June 2024, and what is it from May 2025?", ["1,150", "1,400"]),
        ("What was the storage fee in May 2024?", []),
    ],
)
def test_the_month_of_a_document_asks_for_it(
    documents: Documents, tmp_path: Path, question: str, figures: list[str]
) -> None:
    """What it says without a date holds for its month, and "now" is in the document that supersedes it."""
    (tmp_path / "old.md").write_text(
        "# Note\n\nDate: 4 June 2024\n\nThe States keep the grain reserve.\nThe storage fee is 1,150 velms.\n"
    )
    (tmp_path / "new.md").write_text(
        "# Note\n\nDate: 9 May 2025\n\nThe States keep the grain reserve.\nThe storage fee is 1,400 velms.\n"
    )
    (tmp_path / "other.md").write_text("# Hotels\n\nDate: 9 May 2025\n\nThe luggage storage fee is 3 velms.\n")
    [old] = documents.add(tmp_path / "old.md").added
    documents.add(tmp_path / "new.md", supersedes=old.id)
    documents.add(tmp_path / "other.md")
    found, _ = documents.evidence(question)
    assert [
        figure for one in found for figure in ("1,150", "1,400", "3 velms") if figure in one.sentence.text
    ] == (figures)


def test_removing_a_document_removes_it_from_every_answer(documents: Documents) -> None:
    """After a removal, no search or answer uses the document, and the one that it replaced is valid again."""
    report = documents.add(DOSSIER / "energy_interconnection_2024.md", DOSSIER / "energy_interconnection_2025.md")
    documents.remove(report.added[1].id)
    assert [source.document.name for source in documents.search("coastal line capacity")] == [
        "energy_interconnection_2024.md"
    ]
    [one], _ = documents.evidence("What is the rated capacity of the coastal line?")
    assert "380 MW" in one.sentence.text
    with pytest.raises(InvalidInputError, match="no document"):
        documents.remove(report.added[1].id)


def test_a_page_and_a_text_are_read(documents: Documents, tmp_path: Path) -> None:
    """A page of a document has its text; a page or a document that does not exist is an error that says so."""
    (tmp_path / "wells.pdf").write_bytes(PDF)
    [paged] = documents.add(tmp_path / "wells.pdf").added
    assert documents.page(paged.id, 1) in documents.text(paged.id)
    with pytest.raises(InvalidInputError, match=f"no text on page 99.*1 to {paged.pages}"):
        documents.page(paged.id, 99)
    note = tmp_path / "note.md"
    note.write_text("Title\n=====\n\nSome text.\n\nPart\n----\n\n* one\n* two\n", encoding="utf-8")
    [plain] = documents.add(note).added
    with pytest.raises(InvalidInputError, match="has no pages"):
        documents.page(plain.id, 1)
    with pytest.raises(InvalidInputError, match="no document"):
        documents.add(note, supersedes="0000")


def test_embeddings_get_the_texts_of_passages(redis_server: RunningServer, prefix: str, tmp_path: Path) -> None:
    """With embeddings, passages are found by meaning too; a model is given their text and nothing else."""

    class Listening(Embeddings):
        def __init__(self) -> None:
            self.texts: list[str] = []

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            self.texts += texts
            return [[1.0, 0.0] for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    listening = Listening()
    documents = Documents.from_url(redis_server.url, prefix=prefix, embeddings=listening)
    note = tmp_path / "note.md"
    note.write_text("# Note\n\nThe tariff review begins in Kosande.\n", encoding="utf-8")
    documents.add(note)
    assert [source.document.name for source in documents.search("something else")] == ["note.md"]
    assert listening.texts[-1] == "something else"
    assert all(text.isprintable() or "\n" in text for text in listening.texts)
    assert any(text.rstrip().endswith("The tariff review begins in Kosande.") for text in listening.texts)
    assert prefix in repr(documents)


def test_an_interrupted_import_is_resumed(redis_server: RunningServer, prefix: str, tmp_path: Path) -> None:
    """After an interruption, finished documents are not embedded again, and no half document is found."""

    class Interrupted(Embeddings):
        def __init__(self) -> None:
            self.texts: list[str] = []
            self.stop = True

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            if self.stop and any("Senovar" in text for text in texts):
                raise KeyboardInterrupt
            self.texts += texts
            return [[1.0, 0.0] for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return [1.0, 0.0]

    embeddings = Interrupted()
    documents = Documents.from_url(redis_server.url, prefix=prefix, embeddings=embeddings)
    for number, state in enumerate(("Kosande", "Talvera", "Senovar", "Mirabu")):
        text = f"# Note {number}\n\nThe tariff review begins in {state}.\n"
        (tmp_path / f"{number}.md").write_text(text, encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        documents.add(tmp_path)
    assert sorted(document.name for document in documents.all()) == ["0.md", "1.md"]
    assert {source.document.name for source in documents.search("tariff review in Senovar")} == {"0.md", "1.md"}
    embeddings.stop = False
    report = documents.add(tmp_path)
    assert [document.name for document in report.known] == ["0.md", "1.md"]
    assert [document.name for document in report.added] == ["2.md", "3.md"]
    states = [text.split()[-1] for text in embeddings.texts]
    assert states == ["Kosande.", "Talvera.", "Senovar.", "Mirabu."]


def test_groups_see_their_documents(documents: Documents, tmp_path: Path) -> None:
    """A group finds its own documents and those for every group, and no other's."""
    note = tmp_path / "note.md"
    note.write_text("# Note\n\nThe tariff review begins on 4 May 2026 in Kosande.\n", encoding="utf-8")
    documents.add(note)
    documents.add(DOSSIER / "digital_cables_2025.md")
    assert {source.document.name for source in documents.search("tariff cable", group="energy")} == {"note.md"}
    assert {source.document.name for source in documents.search("tariff cable", group="digital")} == {
        "note.md",
        "digital_cables_2025.md",
    }


def test_an_answer_is_checked_quoted_or_declined(documents: Documents) -> None:
    """Unsupported sentences are removed; if none remains, the documents are quoted or the answer is declined."""
    documents.add(DOSSIER)
    question = "How many tonnes of cereals did the regional reserve hold at the end of June 2025?"
    evidence, sources = documents.evidence(question, group="agriculture")
    said = "The physical reserve held 52,300 tonnes of cereals on 30 June 2025. It will soon hold 90,000 tonnes."
    answer = grounded_answer(said, evidence=evidence, sources=sources, language="en")
    assert answer.text == "The physical reserve held 52,300 tonnes of cereals on 30 June 2025. [1]"
    assert [one.reason for one in answer.removed] == ["figure"]
    [span] = answer.citations
    assert answer.text[span.start : span.end] == said[: span.end]
    [annotation] = answer.as_message().content_blocks[0]["annotations"]
    assert annotation["type"] == "citation"
    assert "52,300" in annotation["cited_text"]

    nonsense = grounded_answer("The reserve is empty.", evidence=evidence, sources=sources, language="fr")
    assert nonsense.quoted
    assert "52,300" in nonsense.text
    assert "(en anglais)" in nonsense.text

    evidence, sources = documents.evidence("Combien de têtes de bétail transhument chaque année ?")
    declined = grounded_answer("Environ 4 millions.", evidence=evidence, sources=sources, language="fr")
    assert declined.declined
    assert declined.text.startswith("Les documents ne le disent pas.")
    assert "4 millions" not in declined.text


def test_a_replaced_document_that_is_added_later_is_superseded(documents: Documents, tmp_path: Path) -> None:
    """Which of two documents counts does not depend on which was added first."""
    newer, older = tmp_path / "a.md", tmp_path / "b.md"
    newer.write_text(
        "# Circular\n\nDate: 1 April 2025\n\nThis circular cancels the circular of 3 May 2022.\n\n"
        "A berth costs 42 talers.\n"
    )
    older.write_text("# Circular\n\nDate: 3 May 2022\n\nA berth costs 36 talers.\n")
    for path in (newer, older):
        documents.add(path)
    evidence, sources = documents.evidence("How much does a berth cost?")
    assert {source.document.name for source in sources if source.superseded} == {"b.md"}
    assert ["42 talers" in one.sentence.text for one in evidence] == [True]


def test_words_of_another_language_are_found_that_no_glossary_lists(documents: Documents, tmp_path: Path) -> None:
    """Words that share a sense in the wordnets find passages of another language and answer from them."""
    (tmp_path / "a.txt").write_text("O lamantim tem 312 quilos.\n\nQuem conduzir sem capacete paga 40 talers.\n")
    (tmp_path / "b.txt").write_text("The council met in May.\n\nThe library has 900 books.\n")
    documents.add(tmp_path)
    assert documents.search("helmet")[0].document.name == "a.txt"


def test_documents_that_differ_are_both_quoted(documents: Documents) -> None:
    """If two documents give different figures, both are shown with their dates."""
    documents.add(DOSSIER / "minerals_lithium_2025.md", DOSSIER / "minerais_transparencia_2024.txt")
    evidence, sources = documents.evidence("What is the royalty on lithium concentrate in Talvera?")
    answer = grounded_answer("", evidence=evidence, sources=sources, language="en")
    assert answer.text.startswith("The documents differ:")
    assert "6 per cent" in answer.text
    assert "5 por cento" in answer.text
    assert "2024-11-22" in answer.text


def test_files_that_can_not_be_read_are_named(documents: Documents, tmp_path: Path) -> None:
    """A bad file is named with the reason, and the others are added."""
    (tmp_path / "latin.txt").write_bytes("Les réserves".encode("latin-1"))
    (tmp_path / "empty.md").write_text("# Title only\n", encoding="utf-8")
    (tmp_path / "fake.pdf").write_bytes(b"%PDF-1.4 nothing")
    (tmp_path / "fake.docx").write_bytes(b"PK nothing")
    (tmp_path / "good.txt").write_text("The mill of Esra grinds 40 tonnes a day.\n", encoding="utf-8")
    (tmp_path / "ignored.bin").write_bytes(b"x")
    report = documents.add(tmp_path)
    assert [document.name for document in report.added] == ["good.txt"]
    assert {skipped.name for skipped in report.skipped} == {"latin.txt", "empty.md", "fake.pdf", "fake.docx"}
    with pytest.raises(InvalidInputError, match="no file or folder"):
        documents.add(tmp_path / "nowhere")
