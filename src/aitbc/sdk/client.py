"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import httpx

from aitbc.sdk import exchange, governance, gpu_market, operations, payments, receipt_operations
from aitbc.sdk import gpus as rentals
from aitbc.sdk.http import describe, failure_of, httpx_arguments, httpx_options, make_policy, reply_of
from aitbc.sdk.transport import Flow, HttpReply, HttpRequest, Sleep, TryFailed, drive

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(operation: Callable[P, Flow[T]]) -> Callable[Concatenate[Client, P], T]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(operation(*args, **kwargs))

    return describe(method, operation)


class Client:
    """A coordinator, as an account sees it. Close it, or use it in `with`. Safe to share between threads.

    `url` and `api_key` default to AITBC_URL and AITBC_API_KEY. A call waits `timeout_s` seconds for an answer
    and makes up to `tries` tries: after a failed connection, a 429 (as Retry-After says) or a 502, 503 or
    504. All tries of a call that creates carry one Idempotency-Key, so that it creates once.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        tries: int = 4,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._policy = make_policy(url, api_key, timeout_s, tries)
        self._http = httpx.Client(**httpx_options(self._policy.url), transport=transport)
        self._sleep = sleep

    @property
    def url(self) -> str:
        """The coordinator's address."""
        return self._policy.url

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        tries = drive(flow, self._policy)
        try:
            effect = next(tries)
            while True:
                if isinstance(effect, Sleep):
                    self._sleep(effect.seconds)
                    effect = tries.send(None)
                    continue
                try:
                    reply = self._try(effect)
                except TryFailed as failure:
                    effect = tries.throw(failure)
                else:
                    effect = tries.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _try(self, request: HttpRequest) -> HttpReply:
        try:
            return reply_of(self._http.request(**httpx_arguments(request)))
        except httpx.HTTPError as error:
            raise failure_of(error) from error

    submit = _blocking(operations.submit)
    submit_chat = _blocking(operations.submit_chat)
    embed = _blocking(operations.embed)
    submit_job = _blocking(operations.submit_job)
    run = _blocking(operations.run)
    batch = _blocking(operations.batch)
    job = _blocking(operations.job)
    jobs = _blocking(operations.jobs)
    cancel = _blocking(operations.cancel)
    result = _blocking(operations.result)
    wait = _blocking(operations.wait)
    events = _blocking(operations.events)
    explain = _blocking(operations.explain)
    quote = _blocking(operations.quote)
    miners = _blocking(operations.miners)
    miner = _blocking(operations.miner)
    balance = _blocking(operations.balance)
    statement = _blocking(operations.statement)
    payment = _blocking(payments.payment)
    open_payment = _blocking(payments.open_payment)
    release_payment = _blocking(payments.release_payment)
    refund_payment = _blocking(payments.refund_payment)
    propose = _blocking(governance.propose)
    proposals = _blocking(governance.proposals)
    proposal = _blocking(governance.proposal)
    cancel_proposal = _blocking(governance.cancel_proposal)
    vote = _blocking(governance.vote)
    execute_proposal = _blocking(governance.execute_proposal)
    voting_power = _blocking(governance.voting_power)
    delegate = _blocking(governance.delegate)
    delegations = _blocking(governance.delegations)
    network_parameters = _blocking(governance.network_parameters)
    register_gpu = _blocking(rentals.register_gpu)
    gpus = _blocking(rentals.gpus)
    gpu = _blocking(rentals.gpu)
    book_gpu = _blocking(rentals.book_gpu)
    new_gpu_key = _blocking(rentals.new_gpu_key)
    release_gpu = _blocking(rentals.release_gpu)
    gpu_order = _blocking(rentals.gpu_order)
    gpu_orders = _blocking(rentals.gpu_orders)
    review_gpu = _blocking(gpu_market.review_gpu)
    gpu_reviews = _blocking(gpu_market.gpu_reviews)
    gpu_pricing = _blocking(gpu_market.gpu_pricing)
    rates = _blocking(exchange.rates)
    create_bitcoin_payment = _blocking(exchange.create_bitcoin_payment)
    bitcoin_payment = _blocking(exchange.bitcoin_payment)
    wait_for_bitcoin = _blocking(exchange.wait_for_bitcoin)
    receipts = _blocking(receipt_operations.receipts)
    receipt = _blocking(receipt_operations.receipt)
    job_receipts = _blocking(receipt_operations.job_receipts)
    keys = _blocking(receipt_operations.keys)
    verify_receipt = _blocking(receipt_operations.verify_receipt)
    health = _blocking(operations.health)
