"""Text of others is made fit to be stored and shown, whatever it is."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.text import REPLACEMENT, clean


def test_what_is_unfit_is_replaced_and_the_rest_stays() -> None:
    assert clean("cannot render \x00", 99) == f"cannot render {REPLACEMENT}"
    assert clean("\x1b[31mred\ud800\x7f\x9b", 99) == f"{REPLACEMENT}[31mred" + REPLACEMENT * 3
    assert clean("zwölf\n\tGPUs\r\n🦙", 99) == "zwölf\n\tGPUs\r\n🦙"
    assert clean("abcdef", 3) == "abc"


@given(st.text(st.characters(codec=None, exclude_categories=())), st.integers(0, 40))
def test_any_text_can_be_stored(text: str, most: int) -> None:
    cleaned = clean(text, most)
    assert cleaned.encode("utf-8").decode() == cleaned
    assert len(cleaned) <= most
    assert all(unicodedata.category(one) != "Cc" or one in "\t\n\r" for one in cleaned)
