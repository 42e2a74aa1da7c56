"""Ratings by their formula."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.rating import PRIOR_MILLIS, rating_millis

STARS = st.lists(st.integers(1, 5), max_size=200)


@pytest.mark.parametrize(
    ("stars", "reviews", "millis"),
    [(0, 0, 3_500), (5, 1, 3_750), (1, 1, 3_083), (500, 100, 4_928), (100, 100, 1_119), (25, 5, 4_250)],
)
def test_known_ratings(stars: int, reviews: int, millis: int) -> None:
    assert rating_millis(stars, reviews) == millis


@given(STARS)
def test_a_rating_lies_between_the_prior_and_the_mean(stars: list[int]) -> None:
    rating = rating_millis(sum(stars), len(stars))
    mean = 1000 * sum(stars) / len(stars) if stars else PRIOR_MILLIS
    assert min(mean, PRIOR_MILLIS) - 1 < rating <= max(mean, PRIOR_MILLIS)


@given(STARS, st.integers(1, 5))
def test_a_better_review_raises_it_and_a_worse_one_lowers_it(stars: list[int], one: int) -> None:
    before, after = rating_millis(sum(stars), len(stars)), rating_millis(sum(stars) + one, len(stars) + 1)
    if 1000 * one >= before + 1:
        assert after >= before
    else:
        assert after <= before


@pytest.mark.parametrize(("stars", "reviews"), [(1, 0), (0, 1), (6, 1), (-1, 0), (9, 10), (0, -1)])
def test_sums_that_no_reviews_have(stars: int, reviews: int) -> None:
    with pytest.raises(ValueError, match="stars"):
        rating_millis(stars, reviews)
