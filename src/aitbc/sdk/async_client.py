"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from aitbc.sdk import exchange, governance, gpu_market, operations, payments, receipt_operations
from aitbc.sdk import gpus as rentals
from aitbc.sdk.http import describe, failure_of, httpx_arguments, httpx_options, make_policy, reply_of
from aitbc.sdk.transport import Flow, HttpReply, HttpRequest, Sleep, TryFailed, drive

P = ParamSpec("P")
T = TypeVar("T")


def _awaiting(
    operation: Callable[P, Flow[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(operation(*args, **kwargs))

    return describe(method, operation)


class AsyncClient:
    """`Client` for asyncio: the same operations, awaited. Use it in `async with`, or `await aclose()`.

    Progress callbacks are plain functions here too, called on the event loop.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        tries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = make_policy(url, api_key, timeout_s, tries)
        self._http = httpx.AsyncClient(**httpx_options(self._policy.url), transport=transport)
        self._sleep = sleep

    @property
    def url(self) -> str:
        """The coordinator's address."""
        return self._policy.url

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        tries = drive(flow, self._policy)
        try:
            effect = next(tries)
            while True:
                if isinstance(effect, Sleep):
                    await self._sleep(effect.seconds)
                    effect = tries.send(None)
                    continue
                try:
                    reply = await self._try(effect)
                except TryFailed as failure:
                    effect = tries.throw(failure)
                else:
                    effect = tries.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _try(self, request: HttpRequest) -> HttpReply:
        try:
            return reply_of(await self._http.request(**httpx_arguments(request)))
        except httpx.HTTPError as error:
            raise failure_of(error) from error

    submit = _awaiting(operations.submit)
    submit_chat = _awaiting(operations.submit_chat)
    embed = _awaiting(operations.embed)
    submit_job = _awaiting(operations.submit_job)
    run = _awaiting(operations.run)
    batch = _awaiting(operations.batch)
    job = _awaiting(operations.job)
    jobs = _awaiting(operations.jobs)
    cancel = _awaiting(operations.cancel)
    result = _awaiting(operations.result)
    wait = _awaiting(operations.wait)
    events = _awaiting(operations.events)
    explain = _awaiting(operations.explain)
    quote = _awaiting(operations.quote)
    miners = _awaiting(operations.miners)
    miner = _awaiting(operations.miner)
    balance = _awaiting(operations.balance)
    statement = _awaiting(operations.statement)
    payment = _awaiting(payments.payment)
    open_payment = _awaiting(payments.open_payment)
    release_payment = _awaiting(payments.release_payment)
    refund_payment = _awaiting(payments.refund_payment)
    propose = _awaiting(governance.propose)
    proposals = _awaiting(governance.proposals)
    proposal = _awaiting(governance.proposal)
    cancel_proposal = _awaiting(governance.cancel_proposal)
    vote = _awaiting(governance.vote)
    execute_proposal = _awaiting(governance.execute_proposal)
    voting_power = _awaiting(governance.voting_power)
    delegate = _awaiting(governance.delegate)
    delegations = _awaiting(governance.delegations)
    network_parameters = _awaiting(governance.network_parameters)
    register_gpu = _awaiting(rentals.register_gpu)
    gpus = _awaiting(rentals.gpus)
    gpu = _awaiting(rentals.gpu)
    book_gpu = _awaiting(rentals.book_gpu)
    new_gpu_key = _awaiting(rentals.new_gpu_key)
    release_gpu = _awaiting(rentals.release_gpu)
    gpu_order = _awaiting(rentals.gpu_order)
    gpu_orders = _awaiting(rentals.gpu_orders)
    review_gpu = _awaiting(gpu_market.review_gpu)
    gpu_reviews = _awaiting(gpu_market.gpu_reviews)
    gpu_pricing = _awaiting(gpu_market.gpu_pricing)
    rates = _awaiting(exchange.rates)
    create_bitcoin_payment = _awaiting(exchange.create_bitcoin_payment)
    bitcoin_payment = _awaiting(exchange.bitcoin_payment)
    wait_for_bitcoin = _awaiting(exchange.wait_for_bitcoin)
    receipts = _awaiting(receipt_operations.receipts)
    receipt = _awaiting(receipt_operations.receipt)
    job_receipts = _awaiting(receipt_operations.job_receipts)
    keys = _awaiting(receipt_operations.keys)
    verify_receipt = _awaiting(receipt_operations.verify_receipt)
    health = _awaiting(operations.health)
