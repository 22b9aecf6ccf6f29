"""Text that is given out token by token is the text of the whole, up to the first stop text."""

from functools import cache
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recipes.serving.text import TextStream
from tests.recipes.tiny import DEMO_BASE

TEXTS = st.text(st.sampled_from('abcé€😀 ,{}"\n'), max_size=40)


@cache
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DEMO_BASE)


def streamed(ids: list[int], stop: tuple[str, ...] = ()) -> tuple[str, bool]:
    stream, text = TextStream(tokenizer(), stop), ""
    for token in ids:
        text += stream.push(token)
        if stream.is_stopped:
            break
    return text + stream.finish(), stream.is_stopped


@given(st.lists(st.integers(6, 2047), max_size=30))
def test_any_tokens_give_the_text_of_the_whole(ids: list[int]) -> None:
    """Also where they break characters in two, or end within one."""
    assert streamed(ids)[0] == tokenizer().decode(ids, skip_special_tokens=True)


@given(TEXTS, st.lists(st.text('abé€,{"', min_size=1, max_size=3), min_size=1, max_size=3))
def test_nothing_of_a_stop_text_is_given_out(text: str, stop: list[str]) -> None:
    ids = tokenizer().encode(text, add_special_tokens=False)
    whole = tokenizer().decode(ids, skip_special_tokens=True)
    places = [whole.find(one) for one in stop if one in whole]
    told, stopped = streamed(ids, tuple(stop))
    assert stopped == bool(places)
    assert told == (whole[: min(places)] if places else whole)
