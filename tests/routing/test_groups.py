"""The working groups as data, and which groups are valid."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from ecowas_lc.errors import InvalidIdError, InvalidInputError
from ecowas_lc.supervisor.routing.lexical import parse_term
from ecowas_lc.twg import (
    EVALUATION_SETS,
    TWG,
    default_groups,
    evaluation_set,
    example_questions,
    general_cues,
    prompt_examples,
    summit_description,
    validate_groups,
)

LONGEST_PROMPT = 1000  # characters; SmolLM2's vocabulary makes 197 tokens of 863, and the bound is 250 tokens


def test_there_are_the_six_groups_of_the_summit() -> None:
    """The ids are the ones that data, histories and graphs refer to, in their published order."""
    assert [group.id for group in default_groups()] == [
        "energy",
        "agriculture",
        "minerals",
        "digital",
        "protocol",
        "resource_mobilization",
    ]


@pytest.mark.parametrize("group", default_groups(), ids=lambda group: group.id)
def test_each_group_is_complete(group: TWG) -> None:
    """A group has a short prompt that forbids invention, a description, and terms in all languages."""
    assert group.name in group.prompt
    assert len(group.prompt) <= LONGEST_PROMPT
    assert "\n" not in group.prompt.replace("\n\n", ""), "small models would break their lines as it does"
    assert "never invent" in group.prompt
    assert "do not know" in group.prompt or "missing" in group.prompt or "to be confirmed" in group.prompt
    assert group.description
    assert set(group.terms) == {"en", "fr", "pt", "any"}
    assert all(len(group.terms[language]) >= 100 for language in ("en", "fr", "pt"))


def test_every_term_that_ships_can_be_read() -> None:
    """An error in a data file, such as a weight that is not a number, is found here and not by a user."""
    for group in default_groups():
        for terms in group.terms.values():
            for term in terms:
                parse_term(term)
    for terms in general_cues().values():
        for term in terms:
            parse_term(term)


def test_labelled_questions_name_only_known_groups() -> None:
    """Examples and evaluation sets use the groups' ids, and no example is also evaluated on."""
    ids = {group.id for group in default_groups()}
    evaluated = [question for name in EVALUATION_SETS for question in evaluation_set(name)]
    for question in (*example_questions(), *prompt_examples(), *evaluated):
        assert ids.issuperset(question.groups), question
        assert question.language in ("en", "fr", "pt")
    learnt = {question.question for question in (*example_questions(), *prompt_examples())}
    assert learnt.isdisjoint(question.question for question in evaluated)
    assert len({question.question for question in example_questions()}) == len(example_questions())


def test_the_summit_is_described_for_prompts() -> None:
    """The description has what a prompt needs: languages, pillars, deliverables and criteria."""
    for word in ("English", "French", "Portuguese", "Abuja", "Freetown", "Deal Room", "AfCEN"):
        assert word in summit_description()


def test_a_group_is_a_value() -> None:
    """Groups can be compared, hashed, pickled and changed by replacement; their terms are tuples."""
    group = TWG("energy", "Energy", "You are…", {"en": ["solar", "wind*"], "fr": "solaire"})
    assert group.terms == {"en": ("solar", "wind*"), "fr": ("solaire",)}
    assert pickle.loads(pickle.dumps(group)) == group
    assert hash(group) == hash(dataclasses.replace(group))
    assert dataclasses.replace(group, name="Power") != group


@pytest.mark.parametrize(
    "group_id",
    ["", "  ", None, 7, "supervisor", "synthesise", "__start__", "__end__", "__mine", "a|b", "a:b", " a", "a\nb"],
)
def test_an_id_that_no_node_can_have_is_refused(group_id: object) -> None:
    """An id must be a valid name of a graph node, and the error names the invalid one."""
    with pytest.raises(InvalidIdError, match="id"):
        validate_groups([TWG(group_id, "Name", "Prompt")])  # type: ignore[arg-type]


def test_ids_are_unique_and_may_be_reserved() -> None:
    """Two groups never share an id, and a graph can reserve ids."""
    group = TWG("energy", "Energy", "You are…")
    with pytest.raises(InvalidIdError, match="Two working groups have the id 'energy'"):
        validate_groups([group, group])
    with pytest.raises(InvalidIdError, match="'reports'"):
        validate_groups([dataclasses.replace(group, id="reports")], reserved={"reports"})


@pytest.mark.parametrize(
    "groups",
    [
        [],
        ["energy"],
        [TWG("energy", " ", "Prompt")],
        [TWG("energy", "Energy", "")],
        [TWG("energy", "Energy", "Prompt", description=None)],  # type: ignore[arg-type]
        [TWG("energy", "Energy", "Prompt", {"en": ["solar", ""]})],
        [TWG("energy", "Energy", "Prompt", {"en": [3]})],  # type: ignore[list-item]
        [TWG("energy", "Energy", "Prompt", ["solar"])],  # type: ignore[arg-type]
    ],
)
def test_groups_that_can_not_be_used_are_named(groups: list[TWG]) -> None:
    """A missing or wrong argument is an error of this package, before anything is built."""
    with pytest.raises(InvalidInputError):
        validate_groups(groups)


def test_any_printable_id_is_allowed() -> None:
    """Users choose ids freely: unicode, inner blanks, stars and dots are valid."""
    ids = ["énergie", "working group 2", "a*b", "x.y-z"]
    assert [group.id for group in validate_groups(TWG(name, name, "Prompt") for name in ids)] == ids
