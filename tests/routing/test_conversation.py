"""Follow-ups: the groups that a turn concerns after earlier questions."""

from __future__ import annotations

import pytest

from ecowas_lc import PastTurn, RouteDecision, get_router
from ecowas_lc.supervisor.evaluation import evaluate_dialogues, evaluation_dialogues
from ecowas_lc.supervisor.routing import ConversationRouter
from ecowas_lc.supervisor.routing.embedding import OfflineEmbeddings
from ecowas_lc.supervisor.routing.hybrid import HybridRouter
from ecowas_lc.supervisor.routing.turns import links
from ecowas_lc.twg import default_groups

from .own_groups import HEALTH
from .scripted import Scripted

TARIFFS = PastTurn("What does a kilowatt-hour cost in Senegal?", ("energy",))
LITHIUM = PastTurn("Which lithium mines are open in Mali?", ("minerals",))
BADGES = PastTurn("Where do we fetch the badges?", ("protocol",))
PUMPS = PastTurn("Do solar pumps pay for rice growers?", ("energy", "agriculture"))
THANKS = PastTurn("Thanks a lot!", ())

STAYS = [
    "And in Ghana?",
    "Et au Togo ?",
    "E em Cabo Verde?",
    "and last year",
    "only for households please",
    "seulement les femmes",
    "Are you sure?",
    "tu es sûr de ça ?",
    "tem a certeza?",
    "in French please",
    "plus court stp",
    "qual é a fonte?",
    "which of the two is higher",
    "who decides that",
    "c'est pour quand",
]


@pytest.fixture(scope="module")
def hybrid() -> ConversationRouter:
    return HybridRouter()


@pytest.fixture(params=["lexical", "hybrid", "semantic"], scope="module")
def router(request: pytest.FixtureRequest) -> ConversationRouter:
    return get_router(request.param)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the offline embeddings are asked for."""
    texts: list[str] = []
    own = OfflineEmbeddings.embed_query

    def counted(self: OfflineEmbeddings, text: str) -> list[float]:
        texts.append(text)
        return own(self, text)

    monkeypatch.setattr(OfflineEmbeddings, "embed_query", counted)
    return texts


@pytest.mark.parametrize("question", STAYS)
@pytest.mark.parametrize("before", [TARIFFS, PUMPS], ids=["one group", "two groups"])
def test_a_follow_up_stays_with_its_groups(router: ConversationRouter, question: str, before: PastTurn) -> None:
    """Swaps of place or time, narrowing, and requests about the answer name no subject: they keep the groups."""
    decision = router.route(question, conversation=[LITHIUM, before])
    assert set(decision.groups) == set(before.groups)
    assert decision.taken_over is not None
    assert (decision.taken_over.turn, decision.taken_over.question) == (1, before.question)
    assert set(decision.taken_over.groups) == set(before.groups)


@pytest.mark.parametrize("question", ["Merci beaucoup !", "thanks, have a nice day", "obrigado, está claro"])
def test_thanks_concern_nobody_and_the_next_turn_goes_on(router: ConversationRouter, question: str) -> None:
    """Small talk goes to the supervisor, and the subject continues after it."""
    assert router.route(question, conversation=[TARIFFS]).groups == ()
    after = router.route("and in Ghana?", conversation=[TARIFFS, PastTurn(question, ())])
    assert after.groups == ("energy",)
    assert after.taken_over is not None
    assert after.taken_over.turn == 0


@pytest.mark.parametrize(
    "question",
    [
        "different topic: where do we fetch the badges?",
        "autre sujet : où retire-t-on les badges ?",
        "mudando de assunto, onde se levantam os crachás?",
    ],
)
def test_an_announced_subject_leaves_the_groups_before(router: ConversationRouter, question: str) -> None:
    """An announced change of subject counts as one."""
    decision = router.route(question, conversation=[TARIFFS])
    assert decision.groups == ("protocol",)
    assert decision.taken_over is None


@pytest.mark.parametrize(
    ("question", "added"),
    [
        ("and could rice farmers use it for their irrigation?", "agriculture"),
        ("et qui finance ça, quel bailleur ?", "resource_mobilization"),
        ("e isso funciona também para as minas de ouro?", "minerals"),
    ],
)
def test_a_second_subject_joins_the_first(router: ConversationRouter, question: str, added: str) -> None:
    """A turn that links its own subject to the one before needs both groups."""
    decision = router.route(question, conversation=[TARIFFS])
    assert set(decision.groups) == {"energy", added}


@pytest.mark.parametrize(
    ("question", "group"),
    [
        ("Which mines dig for lithium?", "minerals"),
        ("How are smallholder farmers paid for their harvest?", "agriculture"),
        ("Quelles mines extraient du lithium ?", "minerals"),
        ("Quais minas extraem lítio hoje?", "minerals"),
    ],
)
def test_a_question_of_its_own_leaves_the_subject_before(
    router: ConversationRouter, question: str, group: str
) -> None:
    """A complete question on another subject, without a link to earlier turns, concerns only its own group."""
    decision = router.route(question, conversation=[TARIFFS])
    assert decision.groups == (group,)
    assert decision.taken_over is None


@pytest.mark.parametrize(
    ("text", "own", "linked"),
    [
        ("how are farmers paid for their harvest?", ["farmers"], False),
        ("who pays for their irrigation?", ["irrigation"], True),
        ("could rice farmers use it for their irrigation?", ["rice"], True),
        ("can cattle breeders pay with?", ["cattle"], True),
        ("les éleveurs peuvent vendre leurs bêtes avec ?", ["éleveurs"], True),
        ("which mines dig for lithium?", ["mines"], False),
        ("?!", [], False),
    ],
)
def test_what_links_a_turn_to_the_one_before(text: str, own: list[str], linked: bool) -> None:
    """Pronouns and stranded prepositions link; a possessive after the turn's own noun belongs to it."""
    assert links(text, own=own) is linked


def test_logistics_about_a_subject_are_protocols_alone(router: ConversationRouter) -> None:
    """The time and place of a discussion do not concern those who discuss."""
    assert router.route("in which room is the session on it?", conversation=[LITHIUM]).groups == ("protocol",)


def test_one_goes_back_to_a_subject_by_its_name_or_place(router: ConversationRouter) -> None:
    """The groups are those of the turn that introduced the subject."""
    asked = [LITHIUM, PastTurn("who pays for that?", ("minerals", "resource_mobilization")), BADGES]
    named = router.route("ok back to the lithium: is it refined here?", conversation=asked)
    assert named.groups == ("minerals",)
    assert named.taken_over is not None
    assert named.taken_over.turn == 0
    assert router.route("revenons au premier sujet", conversation=asked).groups == ("minerals",)
    before = router.route("voltando ao tema anterior", conversation=[TARIFFS, LITHIUM, BADGES])
    assert before.groups == ("minerals",)


def test_a_part_is_left_out(router: ConversationRouter) -> None:
    """A group that the turn excludes is dropped, and the others stay."""
    asked = [PastTurn("Who lends for solar irrigation?", ("energy", "agriculture", "resource_mobilization"))]
    decision = router.route("leave the financing aside. and without batteries?", conversation=asked)
    assert set(decision.groups) == {"energy", "agriculture"}


@pytest.mark.parametrize(
    "question",
    ["Summarise our whole conversation", "fais un résumé de toute notre discussion", "resume a conversa toda"],
)
def test_a_summary_of_the_conversation_is_the_supervisors(router: ConversationRouter, question: str) -> None:
    """No single group knows everything; questions about the summary concern the supervisor as well."""
    asked = [TARIFFS, LITHIUM]
    assert router.route(question, conversation=asked).groups == ()
    assert router.route("shorter please", conversation=[*asked, PastTurn(question, ())]).groups == ()


def test_a_conversation_without_a_subject_changes_nothing(router: ConversationRouter) -> None:
    """A question stands on its own after a greeting, and after groups that no longer exist."""
    for before in ([THANKS], [PastTurn("What about ships?", ("maritime",))]):
        alone = router.route("Which solar plants are late?")
        after = router.route("Which solar plants are late?", conversation=before)
        assert after.groups == alone.groups == ("energy",)
        assert after.taken_over is None


def test_groups_of_ones_own_are_followed_too() -> None:
    """A question about none of the summit's six subjects goes to no group."""
    router = get_router("lexical", groups=[*default_groups(), HEALTH])
    asked = [PastTurn("Which vaccines are in stock?", ("health",))]
    assert router.route("and in Ghana?", conversation=asked).groups == ("health",)
    assert set(router.route("and do the farmers get them too?", conversation=asked).groups) == {
        "health",
        "agriculture",
    }


@pytest.mark.parametrize("question", ["And in Ghana?", "Merci beaucoup", "plus court svp"])
def test_no_embedding_where_words_decide(hybrid: ConversationRouter, embedded: list[str], question: str) -> None:
    """A turn whose words leave no doubt needs no embedding."""
    hybrid.route(question, conversation=[TARIFFS])
    assert embedded == []


@pytest.mark.parametrize(
    "question",
    [
        "could they use drones for it",
        "ok not yours. in naira then?",
        "tá. voltando, e p as empresas?",
        "back to the text, add something on bias. and on jobs. and on schools.",
        "malaria vaccines, do you have that?",
    ],
)
def test_a_follow_up_costs_at_most_twice_a_question(
    hybrid: ConversationRouter, embedded: list[str], question: str
) -> None:
    """A question needs one embedding, a turn at most two, however many turns there were before."""
    hybrid.route("Which solar plants are late?")
    assert len(embedded) == 1
    embedded.clear()
    hybrid.route(question, conversation=[LITHIUM, TARIFFS] * 40)
    assert 1 <= len(embedded) <= 2


@pytest.mark.parametrize("question", ["And in Ghana?", "ok. back to the lithium: who refines it?", "who funds it"])
async def test_awaiting_decides_the_same(router: ConversationRouter, question: str) -> None:
    """Sync and async calls run one program."""
    asked = [LITHIUM, BADGES]
    assert await router.aroute(question, conversation=asked) == router.route(question, conversation=asked)


def test_a_decision_says_what_it_rests_on(router: ConversationRouter) -> None:
    """The decision holds scores by group, the words as written in the question, and a sentence built from them."""
    question = "Et les BARRAGES du Niger, qui les finance ?"
    decision = router.route(question, conversation=[PUMPS])
    assert set(decision.scores) == {group.id for group in default_groups()}
    assert all(0 <= score <= 1 for score in decision.scores.values())
    assert ("BARRAGES", "energy") in {(word.text, word.group) for word in decision.words}
    assert all(question[word.start : word.end] == word.text for word in decision.words)
    assert decision.reason.startswith("In this conversation, ")
    taken = router.route("And in Ghana?", conversation=[TARIFFS])
    assert taken.reason.startswith("In this conversation, it continues what was asked before: energy from ")
    assert "()" not in taken.reason, "no words are claimed that are not there"


def test_the_nearest_question_is_named(hybrid: ConversationRouter) -> None:
    """Embeddings compare with labelled questions; the nearest one is part of the evidence."""
    decision = hybrid.route("Which solar plants are late?")
    assert decision.nearest
    assert repr(decision.nearest) in decision.reason


def test_the_model_is_shown_the_conversation() -> None:
    """A model reads the last turns with their groups, and its choice is distinguished from the words'."""
    model = Scripted(sayings=['{"groups": ["minerals"]}'])
    decision = get_router("model", model=model).route("and in Ghana?", conversation=[TARIFFS, LITHIUM])
    said = [str(message.content) for message in model.calls[0]]
    assert said[-5:-1] == [
        f"Question: {TARIFFS.question}",
        '{"groups": ["energy"]}',
        f"Question: {LITHIUM.question}",
        '{"groups": ["minerals"]}',
    ]
    assert decision.taken_over is not None
    assert decision.taken_over.turn == 1
    broken = get_router("model", model=Scripted(sayings=["no idea"]))
    assert broken.route("and in Ghana?", conversation=[TARIFFS]).groups == ("energy",)


def test_failing_embeddings_leave_the_conversation_to_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follow-up is routed without embeddings."""

    def fail(self: OfflineEmbeddings, text: str) -> list[float]:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(OfflineEmbeddings, "embed_query", fail)
    decision: RouteDecision = HybridRouter().route("could they use drones for it", conversation=[TARIFFS])
    assert decision.source == "lexical"
    assert "energy" in decision.groups


BEFORE = [
    PastTurn("Which solar tariffs does the power pool charge?", ("energy",)),
    PastTurn("Quel barrage alimente Ouagadougou ?", ("energy",)),
    PastTurn("Quantos painéis tem a central da Praia?", ("energy",)),
]
UNANNOUNCED = {
    "Which broadband cables reach Freetown?": "digital",
    "How many tonnes of zircon left Grande Côte in 2023?": "minerals",
    "Quelles variétés de niébé résistent au striga ?": "agriculture",
    "Pourquoi la mine de Perkoa est-elle fermée ?": "minerals",
    "Onde fica o jazigo de fosfatos mais rico?": "minerals",
    "Quantos agricultores cultivam arroz em Bafatá?": "agriculture",
}


@pytest.mark.parametrize("before", BEFORE, ids=["en", "fr", "pt"])
@pytest.mark.parametrize("question", UNANNOUNCED)
def test_a_whole_question_leaves_the_subject_without_saying_so(question: str, before: PastTurn) -> None:
    """A turn that begins as a question, names its subject and refers to nothing earlier concerns one group."""
    for router in (get_router("lexical"), get_router("hybrid")):
        assert router.route(question, conversation=[before]).groups == (UNANNOUNCED[question],)


def test_an_article_of_one_language_points_to_nothing_in_another() -> None:
    """ "Lá" at the end of a turn points to a place that was named; the French article "la" does not."""
    assert links("e os agricultores de lá")
    assert not links("quelles données la carte biométrique contient")


@pytest.mark.parametrize(
    ("name", "source", "exact", "in_context"),
    [
        ("lexical", "validation", 0.88, 0.92),
        ("hybrid", "validation", 0.92, 0.95),
        ("lexical", "blind", 0.86, 0.9),
        ("hybrid", "blind", 0.9, 0.94),
    ],
)
def test_figures_on_dialogues(name: str, source: str, exact: float, in_context: float) -> None:
    """The documented figures hold, within a small margin; examples inspected since then are marked."""
    report = evaluate_dialogues(get_router(name), evaluation_dialogues(source))
    assert report.exact_set >= exact, report.mistakes
    assert report.exact_in_context >= in_context, report.mistakes
