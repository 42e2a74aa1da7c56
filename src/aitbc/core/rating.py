"""What reviews come to: a prior-weighted mean, so that one review of five stars is not above a hundred of 4.9."""

PRIOR_MILLIS = 3_500
"""The rating without reviews, in thousandths of a star."""
PRIOR_REVIEWS = 5
"""How many reviews of PRIOR_MILLIS every GPU is taken to have had."""

FEWEST_STARS = 1
MOST_STARS = 5


def rating_millis(stars: int, reviews: int) -> int:
    """The rating in thousandths of a star, rounded down: `stars` is the sum over so many reviews.

        (1000 x stars + PRIOR_REVIEWS x PRIOR_MILLIS) / (reviews + PRIOR_REVIEWS)

    ValueError: a sum that so many reviews cannot have.
    """
    if not FEWEST_STARS * reviews <= stars <= MOST_STARS * reviews:
        raise ValueError(f"{reviews} reviews do not have {stars} stars")
    return (1000 * stars + PRIOR_REVIEWS * PRIOR_MILLIS) // (reviews + PRIOR_REVIEWS)
