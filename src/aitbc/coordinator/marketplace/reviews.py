"""Reviews in the database: one of a booking. Whoever writes one has its GPU's row locked, which keeps their sum."""

from typing import Any

from sqlalchemy import bindparam, select, update

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.marketplace.models import Gpu, Review
from aitbc.coordinator.marketplace.rows import REVIEW_COLUMNS, GpuRow, ReviewRow
from aitbc.core.ids import new_id
from aitbc.core.rating import rating_millis

EDITABLE_MS = 7 * 86_400_000
"""How long its author may change a review."""

_r: Any = table_of(Review).c
_g: Any = table_of(Gpu).c

INSERT_REVIEW = insert_into(Review)
OF_BOOKING = statement(select(*REVIEW_COLUMNS).where(_r.booking_id == bindparam("booking")), ReviewRow)
CHANGE = statement(
    update(Review)
    .where(_r.id == bindparam("review"))
    .values(stars=bindparam("rating"), text=bindparam("words"), updated_at_ms=bindparam("now"))
)
COUNT = statement(
    update(Gpu)
    .where(_g.id == bindparam("gpu"))
    .values(
        reviews=_g.reviews + bindparam("more"),
        stars=_g.stars + bindparam("more_stars"),
        rating_millis=bindparam("millis"),
    )
)


def of_booking(tx: Tx, booking_id: str) -> ReviewRow | None:
    row: ReviewRow | None = tx.one(OF_BOOKING, booking=booking_id)
    return row


def add(tx: Tx, gpu: GpuRow, booking_id: str, author_id: str, stars: int, text: str) -> ReviewRow:
    """Writes a booking's first review and counts it. `gpu` is locked."""
    row = ReviewRow(new_id(tx.now_ms), gpu.id, booking_id, author_id, stars, tx.now_ms, tx.now_ms, text)
    tx.run(INSERT_REVIEW, **row._asdict())
    _count(tx, gpu, 1, stars)
    return row


def change(tx: Tx, gpu: GpuRow, review: ReviewRow, stars: int, text: str) -> ReviewRow:
    """Writes another rating and text in the place of the review's. `gpu` is locked."""
    now_ms = max(tx.now_ms, review.created_at_ms)
    tx.run(CHANGE, review=review.id, rating=stars, words=text, now=now_ms)
    _count(tx, gpu, 0, stars - review.stars)
    return review._replace(stars=stars, text=text, updated_at_ms=now_ms)


def _count(tx: Tx, gpu: GpuRow, more: int, more_stars: int) -> None:
    millis = rating_millis(gpu.stars + more_stars, gpu.reviews + more)
    tx.run(COUNT, gpu=gpu.id, more=more, more_stars=more_stars, millis=millis)


def page(tx: Tx, gpu_id: str, before_id: str | None, limit: int) -> list[ReviewRow]:
    """Reviews of the GPU, newest first; those before `before_id` where it is given."""
    look = select(*REVIEW_COLUMNS).where(_r.gpu_id == gpu_id)
    if before_id is not None:
        look = look.where(_r.id < before_id)
    return [ReviewRow._make(row) for row in tx.query(look.order_by(_r.id.desc()).limit(limit))]
