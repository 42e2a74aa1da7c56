"""The conversation with a coordinator, without any I/O: what to send, when to try again, what comes back.

A *flow* is a generator that yields `Call`s (one API operation), `Sleep`s and `Now`s and returns its result.
`drive` turns a flow into single HTTP tries (`HttpRequest` out, `HttpReply` or an exception in), adding
retries. The two clients only perform those tries; so they cannot differ in anything else.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import uuid4

from aitbc.core.canonical import loads_strict
from aitbc.sdk.errors import AitbcClientError, ApiError, CoordinatorUnreachable, UnexpectedAnswer, api_error

T = TypeVar("T")

RETRY_STATUSES = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class HttpRequest:
    """One HTTP try. `path` begins with a slash; `timeout_s` is for the whole read of the answer."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    body: bytes | None
    timeout_s: float


@dataclass(frozen=True)
class HttpReply:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TryFailed(Exception):
    """No answer to a try; whether the coordinator saw it is unknown."""


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Now:
    """Ask for the monotonic time, in seconds."""


@dataclass(frozen=True)
class Answer:
    """A successful answer: `data` is its JSON, fractions as Decimal."""

    status: int
    data: Any
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One API operation. `parse` makes its result.

    Every call may be sent again although a try may have been received: it reads, or carries an
    Idempotency-Key (`creates`; one key for all tries), or its flow knows what a second one meets. `wait_s`:
    how long the coordinator may hold the answer back (a long poll), added to the timeout. `headers` are sent
    beside the client's own.
    """

    method: str
    path: str
    parse: Callable[[Answer], T]
    query: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    creates: bool = False
    idempotency_key: str | None = None
    wait_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """How a client talks: its key, how long it waits for an answer, how often it tries again.

    A try that failed is repeated after `base_delay_s`, doubling up to `max_delay_s`, with jitter, at most
    `tries` tries in all. A Retry-After is obeyed up to `max_retry_after_s`; a longer one is raised at once.
    """

    url: str
    api_key: str | None = None
    timeout_s: float = 30.0
    tries: int = 4
    base_delay_s: float = 0.25
    max_delay_s: float = 4.0
    max_retry_after_s: float = 30.0
    user_agent: str = "aitbc-python"
    random: Callable[[], float] = random.random
    monotonic: Callable[[], float] = time.monotonic


Flow = Generator["Call[Any] | Sleep | Now", Any, T]
Tries = Generator["HttpRequest | Sleep", Any, T]


def send(call: Call[T]) -> Flow[T]:
    """The flow of a single call, typed."""
    result: T = yield call
    return result


def drive(flow: Flow[T], policy: Policy) -> Tries[T]:
    """Run `flow`, one HTTP try at a time. Errors are thrown into the flow, which may handle them."""
    try:
        effect = next(flow)
        while True:
            if isinstance(effect, Sleep):
                yield effect
                effect = flow.send(None)
                continue
            if isinstance(effect, Now):
                effect = flow.send(policy.monotonic())
                continue
            try:
                result = yield from _perform(effect, policy)
            except AitbcClientError as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value


def _perform(call: Call[T], policy: Policy) -> Tries[T]:
    """One call, tried until it is answered or has had its tries."""
    request = _build(call, policy)
    for attempt in range(1, policy.tries + 1):
        last = attempt >= policy.tries
        try:
            reply: HttpReply = yield request
        except TryFailed as failure:
            if last:
                raise CoordinatorUnreachable(policy.url, str(failure)) from failure
            yield Sleep(_backoff(policy, attempt))
            continue
        if reply.status not in RETRY_STATUSES or last:
            return _parsed(call, reply, policy)
        retry_after_s = _retry_after_s(reply)
        if retry_after_s is not None and retry_after_s > policy.max_retry_after_s:
            return _parsed(call, reply, policy)
        yield Sleep(_backoff(policy, attempt) if retry_after_s is None else retry_after_s)
    raise AssertionError("the last try returns or raises")


def _parsed(call: Call[T], reply: HttpReply, policy: Policy) -> T:
    try:
        return call.parse(_answer(reply))
    except UnexpectedAnswer as error:
        what = f"{policy.url} does not answer as an AITBC coordinator: {error.message}"
        raise UnexpectedAnswer(what, {"url": policy.url, **error.details}, error.request_id) from error


def _build(call: Call[Any], policy: Policy) -> HttpRequest:
    headers = {"accept": "application/json", "user-agent": policy.user_agent}
    if policy.api_key:
        headers["x-api-key"] = policy.api_key
    body = None
    if call.body is not None:
        body = encode(call.body)
        headers["content-type"] = "application/json"
    if call.creates:
        headers["idempotency-key"] = call.idempotency_key or str(uuid4())
    headers.update(call.headers)
    query = tuple((name, _text(value)) for name, value in call.query.items() if value is not None)
    return HttpRequest(call.method, call.path, query, headers, body, policy.timeout_s + call.wait_s)


def encode(value: object) -> bytes:
    """JSON of a request body. Raises ValueError on NaN, infinities and text that is not Unicode."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _backoff(policy: Policy, attempt: int) -> float:
    full = min(policy.max_delay_s, policy.base_delay_s * 2.0 ** (attempt - 1))
    return full * (0.5 + policy.random() / 2)


def _retry_after_s(reply: HttpReply) -> float | None:
    """Seconds of a Retry-After header; None where there is none, or it is a date (which we never send)."""
    try:
        seconds = float(reply.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e9 else None


def _answer(reply: HttpReply) -> Answer:
    """The JSON of a 2xx answer; raises the typed error of any other."""
    request_id = reply.headers.get("x-request-id")
    try:
        data = loads_strict(reply.body, decimals=True) if reply.body else None
    except ValueError as error:
        if reply.status >= 500:
            reason = f"the server, or a proxy before it, answered {reply.status}"
            raise api_error(reply.status, f"HTTP_{reply.status}", reason, None, request_id) from error
        raise UnexpectedAnswer(
            f"the answer ({reply.status}) is not JSON",
            {"status": reply.status},
            request_id,
        ) from error
    if 200 <= reply.status < 300:
        return Answer(reply.status, data, reply.headers)
    raise _error(reply, data, request_id)


def _error(reply: HttpReply, data: Any, request_id: str | None) -> ApiError | UnexpectedAnswer:
    body = data.get("error") if isinstance(data, dict) else None
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        return UnexpectedAnswer(
            f"an error answer ({reply.status}) of a form that this API does not have",
            {"status": reply.status},
            request_id,
        )
    details = body.get("details")
    return api_error(
        reply.status,
        body["code"],
        str(body.get("message") or body["code"]),
        details if isinstance(details, dict) else None,
        data.get("request_id") or request_id,
        _retry_after_s(reply),
    )
