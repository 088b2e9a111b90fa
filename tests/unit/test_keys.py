"""Key names: exact for ordinary ids, injective for any."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from ecowas_lc.errors import ConfigurationError, InvalidIdError
from ecowas_lc.storage.keys import Keys, decode_id, encode_id, wait_key

KEYS = Keys()
IDS = st.text(st.characters(), min_size=1) | st.text("a:%{}*?3A\n\0", min_size=1, max_size=6)


def test_published_keys_are_their_text() -> None:
    """For ordinary ids, the keys are exactly the published ones."""
    assert KEYS.history("energy", "Session-1_é") == "ecowas:history:energy:Session-1_é".encode()
    assert KEYS.state("energy") == b"ecowas:state:energy"
    assert KEYS.session_data("s", "topic") == b"ecowas:session:s:topic"


@given(IDS)
def test_ids_come_back(id_: str) -> None:
    """Any text, lone surrogates included, is encoded to something that decodes to it, without separators."""
    encoded = encode_id(id_, "id")
    assert decode_id(encoded) == id_
    assert not set(encoded) & set(b":{}\n\0")


@given(st.tuples(IDS, IDS), st.tuples(IDS, IDS))
def test_no_two_ids_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Two pairs of ids have the same key only if they are the same pair: 'a:b'+'c' never meets 'a'+'b:c'."""
    assert (KEYS.history(*one) == KEYS.history(*other)) == (one == other)
    assert (KEYS.session_data(*one) == KEYS.session_data(*other)) == (one == other)
    assert (KEYS.thread(one[0]) == KEYS.thread(other[0])) == (one[0] == other[0])


@given(IDS, IDS)
def test_kinds_of_keys_never_meet(one: str, other: str) -> None:
    """Keys of different kinds are different, whatever the ids."""
    keys = [
        KEYS.history(one, other),
        KEYS.history_meta(one, other),
        KEYS.state(one),
        KEYS.session_data(one, other),
        KEYS.sessions_of_agent(one),
        KEYS.agents_of_session(one),
        KEYS.data_of_session(one),
        KEYS.agents(),
        KEYS.threads(),
        KEYS.run(one),
        KEYS.thread(one),
    ]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(b"ecowas:") for key in keys)


@given(IDS, IDS)
def test_what_belongs_together_shares_a_slot(agent: str, session: str) -> None:
    """On a cluster, a history's companion keys are in the slot of the untagged history key."""
    assert key_slot(KEYS.history(agent, session)) == key_slot(KEYS.history_meta(agent, session))


@pytest.mark.parametrize("bad", ["", None, 7, b"bytes"])
def test_unusable_ids_are_named(bad: Any) -> None:
    """An id that is empty or not text is an error that is a ValueError too."""
    with pytest.raises(InvalidIdError, match="session id") as caught:
        KEYS.history("a", bad)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("bad", ["", "a:b", "a*", "a b", "{a}", "a%", "[a]", "a\\", "a\n"])
def test_prefix_must_be_safe_in_an_acl(bad: str) -> None:
    """A prefix with a character that means something in a key or in an ACL pattern is refused."""
    with pytest.raises(ConfigurationError, match="prefix"):
        Keys(bad)


@given(IDS, IDS)
def test_what_is_waited_for_lies_beside(one: str, other: str) -> None:
    """The key that a WAIT waits for is in the slot of what was written, and under its prefix."""
    for key in (KEYS.history(one, other), KEYS.history_meta(one, other), KEYS.thread(one), KEYS.state(one)):
        beside = wait_key(key)
        assert key_slot(beside) == key_slot(key)
        assert beside.startswith(b"ecowas:wait:")
