"""The token counter: on the safe side in every language, quick, and corrected by the server's counts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from ecowas_lc.llm.tokens import Calibration, Window, count_tokens, estimate, shorten

ENGLISH = "The working group on energy reviewed the progress of the regional power pool. "
YORUBA = "Ẹgbẹ́ iṣẹ́ lórí agbára ṣàyẹ̀wò ìlọsíwájú ẹgbẹ́ iná mànàmáná agbègbè náà. "

# text, and its number of tokens in SmolLM2's vocabulary, which was made for English
COUNTED = {
    "English": (ENGLISH * 2, 28),
    "digits": ("4821 93 7720 118 4402 99381 2210 7 65 12 9043 3381", 50),
    "a run of digits": ("48219377201184402993812210765129043338", 38),
    "Hausa": ("Kungiyar aiki kan makamashi ta duba ci gaban hadaddiyar kungiyar wutar lantarki ta yanki", 37),
    "Arabic": ("راجع فريق العمل المعني بالطاقة التقدم المحرز في تجمع الطاقة الإقليمي", 64),
    "emoji": ("⚡🔌🌍🌞💡🏭🚜🌾🛢️🪙", 34),
}


@pytest.mark.parametrize("language", COUNTED)
def test_rather_too_many_than_too_few(language: str) -> None:
    """The estimate is at least nine tenths of the truth, and no more than twice it."""
    text, truth = COUNTED[language]
    assert 0.9 * truth <= estimate(text).tokens <= 2.0 * truth


@given(st.text(max_size=300))
def test_no_text_has_more_tokens_than_bytes(text: str) -> None:
    """Whatever the text, the estimate is finite, not negative, and within its bytes."""
    assert 0 <= estimate(text).tokens <= len(text.encode("utf-8", "surrogatepass"))


@given(st.text(max_size=200), st.integers(1, 60))
def test_what_is_shortened_fits(text: str, tokens: int) -> None:
    """A shortened text takes no more than allowed, except for its mark."""
    cut = shorten(text, tokens)
    assert cut == text or estimate(cut).tokens <= tokens + 8


def test_it_is_quick() -> None:
    """Counting a prompt of a megabyte takes negligible time compared with the model."""
    text = f"{ENGLISH}{YORUBA}1,234.5 " * 6000
    begun = time.perf_counter()
    estimate(text)
    assert time.perf_counter() - begun < 10, "linear in the length: about 1 s on an idle core"


def test_messages_calls_and_pictures_count() -> None:
    """Parts that are not text count as well."""
    bare = count_tokens([HumanMessage("x")])
    call = {"name": "tariff", "args": {"country": "Ghana"}, "id": "1"}
    assert count_tokens([AIMessage("x", tool_calls=[call])]) > bare + 10
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    assert count_tokens([HumanMessage([{"type": "text", "text": "x"}, picture])]) > bare + 500
    assert count_tokens([]) == 0


def test_a_window_is_divided() -> None:
    """A quarter is reserved for the answer, at most 1,024 tokens; at most half if you set a length."""
    assert [Window.of(size).answer for size in (256, 4096, 32768)] == [64, 1024, 1024]
    assert Window.of(4096, 3000).answer == 2048
    assert Window.of(4096, 50).prompt == 4046


class TestCalibration:
    """The server's own counts correct the estimate, for each kind of text."""

    def test_more_at_once_and_less_after_a_while(self) -> None:
        """A count above the estimate is used at once; lower counts are believed only after several prompts."""
        prompt = [SystemMessage(ENGLISH * 20), HumanMessage("And?")]
        estimated = count_tokens(prompt)
        learnt = Calibration()
        assert learnt.count(prompt) == estimated
        learnt.learn(prompt, estimated // 2)
        assert learnt.count(prompt) == estimated
        for _ in range(3):
            learnt.learn(prompt, estimated // 2)
        assert learnt.count(prompt) < 0.6 * estimated
        learnt.learn(prompt, estimated * 2)
        assert learnt.count(prompt) > 1.9 * estimated

    def test_one_kind_of_text_says_nothing_about_another(self) -> None:
        """A low count for English does not lower Yoruba's estimate; a high one raises others until known."""
        english, yoruba = [HumanMessage(ENGLISH * 20)], [HumanMessage(YORUBA * 20)]
        learnt = Calibration()
        for _ in range(4):
            learnt.learn(english, count_tokens(english) // 2)
        assert learnt.count(yoruba) >= count_tokens(yoruba)
        learnt.learn(english, count_tokens(english) * 2)
        assert learnt.count(yoruba) > 1.9 * count_tokens(yoruba)

    def test_short_prompts_teach_nothing(self) -> None:
        """A short prompt is mostly the template's frame, so its count does not change the estimate for texts."""
        learnt = Calibration()
        for _ in range(5):
            learnt.learn([HumanMessage("Hi")], 300)
        assert learnt.count([HumanMessage(ENGLISH)]) == count_tokens([HumanMessage(ENGLISH)])

    def test_what_the_server_will_count(self) -> None:
        """Nothing is learnt before several prompts of a kind were counted."""
        prompt = [HumanMessage(ENGLISH * 20)]
        learnt = Calibration()
        assert learnt.expected(prompt) is None
        for told in (400, 420, 410):
            learnt.learn(prompt, told)
        expected = learnt.expected(prompt)
        assert expected is not None
        assert 390 <= expected <= 410
