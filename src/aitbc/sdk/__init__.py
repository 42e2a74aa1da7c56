"""The Python client of an AITBC coordinator.

>>> from aitbc.sdk import Client
>>> with Client("http://127.0.0.1:8000", api_key) as client:
...     job = client.run("What is a receipt?")
...     print(job.text, job.price)
...     assert client.verify_receipt(job.receipt_id).ok
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aitbc.sdk.client import Client
from aitbc.sdk.errors import (
    AitbcClientError,
    ApiError,
    AuthenticationError,
    Conflict,
    CoordinatorUnreachable,
    InvalidRequest,
    JobFailed,
    NotFound,
    PaymentRequired,
    PermissionDenied,
    RateLimited,
    ServerError,
    UnexpectedAnswer,
    WaitTimeout,
)
from aitbc.sdk.exchange import BitcoinOutput, BitcoinPayment, Rates
from aitbc.sdk.governance import Delegation, Delegations, Parameter, Proposal, VoteCast, VotingPower
from aitbc.sdk.gpu_market import GpuPricing, GpuReview, GpuReviewPage
from aitbc.sdk.gpus import GpuOffer, GpuPage, Order, OrderPage
from aitbc.sdk.job_models import BatchItem, Explanation, Job, JobEvent, JobWarning
from aitbc.sdk.models import Balance, Gpu, Health, Miner, MinerModel, Page, PriceRange, Quote, Receipt
from aitbc.sdk.payments import Payment
from aitbc.sdk.requests import JobBody, JobOptions, chat_job, embedding_job, prompt_job
from aitbc.sdk.statement_models import Movement, Statement

if TYPE_CHECKING:
    from aitbc.sdk.async_client import AsyncClient

__all__ = [
    "AitbcClientError",
    "ApiError",
    "AsyncClient",
    "AuthenticationError",
    "Balance",
    "BatchItem",
    "BitcoinOutput",
    "BitcoinPayment",
    "Client",
    "Conflict",
    "CoordinatorUnreachable",
    "Delegation",
    "Delegations",
    "Explanation",
    "Gpu",
    "GpuOffer",
    "GpuPage",
    "GpuPricing",
    "GpuReview",
    "GpuReviewPage",
    "Health",
    "InvalidRequest",
    "Job",
    "JobBody",
    "JobEvent",
    "JobFailed",
    "JobOptions",
    "JobWarning",
    "Miner",
    "MinerModel",
    "Movement",
    "NotFound",
    "Order",
    "OrderPage",
    "Page",
    "Parameter",
    "Payment",
    "PaymentRequired",
    "PermissionDenied",
    "PriceRange",
    "Proposal",
    "Quote",
    "RateLimited",
    "Rates",
    "Receipt",
    "ServerError",
    "Statement",
    "UnexpectedAnswer",
    "VoteCast",
    "VotingPower",
    "WaitTimeout",
    "chat_job",
    "embedding_job",
    "prompt_job",
]


def __getattr__(name: str) -> object:
    # asyncio takes as long to import as all the rest, and a command line needs the blocking client only.
    if name == "AsyncClient":
        from aitbc.sdk.async_client import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
