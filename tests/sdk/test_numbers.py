"""Numbers in what a coordinator answers: strangers run coordinators, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.miner.answers import json_object, seconds
from aitbc.sdk.answers import read_page
from aitbc.sdk.errors import AitbcClientError, UnexpectedAnswer
from aitbc.sdk.fields import Fields
from aitbc.sdk.http import HttpReply
from aitbc.sdk.transport import Answer, _answer

BEYOND = ["1e1000000", "-1e-99999999999999999999", "9" * 5000, "NaN", "[" * 70 + "1" + "]" * 70]


@pytest.mark.parametrize("number", BEYOND, ids=lambda text: text[:8])
def test_an_answer_of_numbers_beyond_bounds_is_no_answer(number: str) -> None:
    body = f'{{"price_held": {number}}}'.encode()
    for status, headers in ((200, {}), (500, {"retry-after": number}), (402, {})):
        with pytest.raises(AitbcClientError):
            _answer(HttpReply(status, headers, body))
    assert json_object(body) is None


@pytest.mark.parametrize("total", ["9" * 5000, "٣", "-1", "1e3", ""])
def test_a_total_that_is_no_count_is_none(total: str) -> None:
    parse: Callable[[Answer], Any] = read_page(str)
    assert parse(Answer(200, [], {"x-total-count": total})).total is None
    assert parse(Answer(200, [], {"x-total-count": "12"})).total == 12


def test_what_no_double_holds_is_said_to_be_wrong() -> None:
    data = _answer(HttpReply(200, {}, b'{"expected_wait_s": 1e999, "price": 1e999}')).data
    with pytest.raises(UnexpectedAnswer):
        Fields("quote", data).opt_number("expected_wait_s")
    assert Fields("quote", data).money("price").adjusted() == 999


def test_a_miner_is_not_told_to_wait_for_ever() -> None:
    for told in (10**300, 1e308, True, -1, "60", None):
        assert seconds(told, 15.0) in (15.0, 1.0)
