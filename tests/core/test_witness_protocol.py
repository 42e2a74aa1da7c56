from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.log.checkpoint import parse_checkpoint
from aitbc.core.log.note import parse_note
from aitbc.core.log.witness_protocol import MAX_HASHES, RequestInvalid, format_request, parse_request
from aitbc.core.signing import encode_b64

# The example of the C2SP text.
CHECKPOINT = (
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "\u2014 example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9n"
    "To+zyWE+xeMcTOAYQ8=\n"
    "\u2014 example.com/behind-the-sofa "
    "opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUX"
    "TS5Rovnzv++qbSzm9Q=\n"
)
REQUEST = (
    "old 20852014\n"
    "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
    "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
    "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n"
    "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
    "\n" + CHECKPOINT
)


def test_the_example() -> None:
    asked = parse_request(REQUEST)
    assert asked.old_size == 20852014
    assert [encode_b64(hashed) for hashed in asked.proof] == REQUEST.splitlines()[1:5]
    assert asked.checkpoint == CHECKPOINT
    note = parse_note(asked.checkpoint)
    assert len(note.signatures) == 2
    assert parse_checkpoint(note.text).size == 20852163
    assert format_request(*asked) == REQUEST


@pytest.mark.parametrize("old_size", [0, 1, 2**62])
@pytest.mark.parametrize("proof", [(), (bytes(32),), (bytes(32),) * MAX_HASHES])
def test_requests_both_ways(old_size: int, proof: tuple[bytes, ...]) -> None:
    assert parse_request(format_request(old_size, proof, CHECKPOINT)) == (old_size, proof, CHECKPOINT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "old 1",
        "old 1\n",
        "\n\n" + CHECKPOINT,
        REQUEST[1:],
        REQUEST.replace("old ", "old  "),
        REQUEST.replace("old ", "new "),
        REQUEST.replace("old 2", "old 02"),
        REQUEST.replace("old 20852014", "old -1"),
        REQUEST.replace("old 20852014", "old +1"),
        REQUEST.replace("old 20852014", "old 1_0"),
        REQUEST.replace("old 20852014", "old \u0661"),
        REQUEST.replace("old 20852014", "old"),
        REQUEST.replace("old 20852014", "old " + "9" * 5000),
        REQUEST.replace("pkaw=\n", "pkaw\n"),
        REQUEST.replace("pkaw=\n", "pkaw= \n"),
        REQUEST.replace("\n", "\r\n"),
        format_request(1, [bytes(31)], CHECKPOINT),
        format_request(1, [bytes(32)] * (MAX_HASHES + 1), CHECKPOINT),
    ],
)
def test_what_is_no_request(text: str) -> None:
    with pytest.raises(RequestInvalid):
        parse_request(text)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_reading_fails_in_one_way(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, 250))
    end = data.draw(st.integers(start, start + 4))
    odd = st.sampled_from("\n\u2014 +=A/0\x00\ud800\u2028\u0660é")
    text = REQUEST[:start] + data.draw(st.text(odd | st.characters(), max_size=4)) + REQUEST[end:]
    try:
        asked = parse_request(text)
    except RequestInvalid:
        return
    assert format_request(*asked) == text
