"""Acts that a caller may repeat under one Idempotency-Key, in any dialect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.responses import Response

from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts.idempotency import once
from aitbc.coordinator.idempotency.service import Answer

T = TypeVar("T")

REPLAYED = {"Idempotency-Replayed": "true"}


def _as_it_is(body: bytes) -> bytes:
    return body


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How a dialect answers with what an act gave.

    `body` makes the answer. `kept` makes what of it is kept under an Idempotency-Key, where that is not all of
    it, and `again` the whole answer from what was kept: whoever repeats a request sends it along. `secret`: what is
    not kept is shown with the first answer alone.
    """

    status: int
    body: Callable[[T], bytes]
    kept: Callable[[T], bytes] | None = None
    again: Callable[[bytes], bytes] = _as_it_is
    media_type: str = "application/json"
    secret: bool = False

    def keep(self, value: T) -> Answer:
        return Answer(self.status, (self.kept or self.body)(value))


async def perform(
    request: ApiRequest, principal: Principal, act: Callable[[Tx], T], form: Form[T]
) -> Response:
    """Runs `act` in one transaction, at most once per Idempotency-Key, and answers in this form."""
    key = request.idempotency_key(principal)
    if key is None:
        value = await request.runtime.db.write(act)
        return Response(form.body(value), form.status, media_type=form.media_type)
    made: list[T] = []

    def noted(tx: Tx) -> T:
        made[:] = [act(tx)]  # it may be run again
        return made[0]

    answer = await request.runtime.db.write(once, key, noted, form.keep)
    if form.secret and not answer.replayed:
        return Response(form.body(made[0]), form.status, media_type=form.media_type)
    headers = REPLAYED if answer.replayed else None
    return Response(form.again(answer.body), answer.status, headers, form.media_type)
