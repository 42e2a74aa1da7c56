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
    it, and `again` the whole answer from what was kept: whoever repeats a request sends it along.
    """

    status: int
    body: Callable[[T], bytes]
    kept: Callable[[T], bytes] | None = None
    again: Callable[[bytes], bytes] = _as_it_is
    media_type: str = "application/json"

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
    answer = await request.runtime.db.write(once, key, act, form.keep)
    headers = REPLAYED if answer.replayed else None
    return Response(form.again(answer.body), answer.status, headers, form.media_type)
