"""Payments: /v1/payments and a job's payment."""

from functools import partial
from typing import Any

import orjson
from starlette.responses import Response

from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import CHANGE, CREATE, IDEMPOTENT, NATIVE, READ_ONE
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import AnyKey, Client
from aitbc.coordinator.api.plumbing.once import Form, perform
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import payments as schemas
from aitbc.coordinator.chain.proofs import Place
from aitbc.coordinator.flows.acts import payment
from aitbc.coordinator.flows.acts.payment import PaymentReceipt, PaymentView
from aitbc.core.clock import rfc3339

router = Router(NATIVE, tags=["Payments"])


def payment_json(view: PaymentView) -> schemas.Payment:
    """A payment as its parties see it."""
    priced = (
        view.receipt_id != "" or view.price_units > 0
    )  # a run that was cancelled has a price, and no receipt
    return {
        "payment_id": view.id,
        "id": view.id,
        "job_id": view.job_id,
        "mode": view.mode,
        "status": view.status,
        "payer": view.payer_id,
        "payee": view.payee_id or None,
        "amount": ait(view.amount_units),
        "price": ait(view.price_units) if priced else None,
        "fee": ait(view.fee_units) if priced else None,
        "refunded": ait(view.refunded_units),
        "transfer_id": view.transfer_id or None,
        "receipt_id": view.receipt_id or None,
        "release_after": rfc3339(view.release_after_ms) if view.release_after_ms else None,
        "created_at": rfc3339(view.created_at_ms),
        "updated_at": rfc3339(view.updated_at_ms),
    }


@router.post(
    "/v1/payments",
    summary="Create the payment (escrow) for a job",
    status_code=201,
    response_model=schemas.Payment,
    responses={**CREATE, **READ_ONE},
    openapi_extra=IDEMPOTENT,
)
async def create_payment(request: ApiRequest, principal: Client, body: schemas.CreatePayment) -> Response:
    """Opens the escrow of a job submitted with payment "manual"; it is dispatched from then on."""
    act = partial(payment.open_escrow, principal=principal, job_id=body.job_id)
    return await perform(request, principal, act, Form(201, _body))


def _body(view: PaymentView) -> bytes:
    return orjson.dumps(payment_json(view))


@router.get(
    "/v1/payments/{payment_id}", summary="Payment details", response_model=schemas.Payment, responses=READ_ONE
)
async def get_payment(request: ApiRequest, principal: AnyKey, payment_id: str) -> Response:
    """For its payer, its payee and admins."""
    return reply(payment_json(await request.runtime.db.read(payment.show, principal, payment_id)))


@router.get(
    "/v1/jobs/{job_id}/payment",
    summary="Payment of a job",
    response_model=schemas.Payment,
    responses=READ_ONE,
)
async def job_payment(request: ApiRequest, principal: AnyKey, job_id: str) -> Response:
    """Every job has one: ordinary jobs are paid by themselves."""
    return reply(payment_json(await request.runtime.db.read(payment.of_job, principal, job_id)))


@router.post(
    "/v1/payments/{payment_id}/release",
    summary="Release escrow to the miner",
    response_model=schemas.Payment,
    responses=CHANGE,
)
async def release_payment(request: ApiRequest, principal: AnyKey, payment_id: str) -> Response:
    """The payer pays the completed job's price; what was held beyond it is free again."""
    return reply(payment_json(await request.runtime.db.write(payment.release, principal, payment_id)))


@router.post(
    "/v1/payments/{payment_id}/refund",
    summary="Refund to the payer",
    response_model=schemas.Payment,
    responses=CHANGE,
)
async def refund_payment(
    request: ApiRequest, principal: AnyKey, payment_id: str, body: schemas.RefundPayment
) -> Response:
    """The payee gives back the price or a part of it; the payer once the job can no longer complete."""
    view = await request.runtime.db.write(payment.refund, principal, payment_id, body.amount)
    return reply(payment_json(view))


@router.get(
    "/v1/payments/{payment_id}/receipt",
    summary="Receipt of a payment",
    response_model=schemas.PaymentReceipt,
    responses=READ_ONE,
)
async def payment_receipt(request: ApiRequest, principal: AnyKey, payment_id: str) -> Response:
    """The ledger's lines, their blocks, and a proof that the payment is in the log."""
    return reply(_receipt_json(await request.runtime.read_log(payment.receipt, principal, payment_id)))


def _receipt_json(found: PaymentReceipt) -> schemas.PaymentReceipt:
    shown = [_line_json(line, place) for line, place in found.lines]
    last = next((line for line in shown if line["id"] == found.payment.transfer_id), None)
    return {
        "payment": payment_json(found.payment),
        "receipt_id": found.payment.receipt_id or None,
        "transfers": shown,
        "transaction_hash": None if last is None else last["hash"],
        "block": None if last is None else last["block"],
        "proof": found.proof,
    }


def _line_json(line: Any, place: Place | None) -> schemas.LedgerLine:
    return {
        "id": line.id,
        "kind": line.kind,
        "from": line.debit_id,
        "to": line.credit_id,
        "amount": ait(line.amount_units),
        "hold_id": line.hold_id,
        "ref": line.ref,
        "created_at": rfc3339(line.created_at_ms),
        "hash": None if place is None else place.hash,
        "leaf_index": None if place is None else place.leaf_index,
        "block": None if place is None else place.height,
    }
