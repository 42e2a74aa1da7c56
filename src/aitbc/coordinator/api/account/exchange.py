"""Payments with Bitcoin: /v1/exchange."""

from functools import partial

import orjson
import segno
from starlette.responses import Response

from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import IDEMPOTENT, NATIVE, PUBLIC, READ_ONE, errors
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import Client, ClientOrAdmin
from aitbc.coordinator.api.plumbing.once import Form, perform
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import exchange as schemas
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.exchange.outputs import OutputRow, credit_id
from aitbc.coordinator.exchange.states import MEDIUM_SAT, SMALL_SAT
from aitbc.coordinator.exchange.terms import MIN_SAT, Terms
from aitbc.coordinator.flows.acts import exchange as acts
from aitbc.coordinator.flows.acts.exchange import Wanted
from aitbc.coordinator.flows.views import exchange as views
from aitbc.coordinator.flows.views.exchange import TopupView
from aitbc.core.bitcoin import payment_uri
from aitbc.core.clock import rfc3339

router = Router(NATIVE, tags=["Exchange"])


@router.post(
    "/v1/exchange/create-payment",
    summary="Create a Bitcoin payment request",
    status_code=201,
    response_model=schemas.BitcoinPayment,
    responses=errors(400, 401, 403, 409, 413, 429, 503),
    openapi_extra=IDEMPOTENT,
)
async def create_payment(
    request: ApiRequest, principal: Client, body: schemas.CreateBitcoinPayment
) -> Response:
    """An address, or an amount, for this payment alone; what is paid to it is credited to the caller's account."""
    terms = request.runtime.exchange
    act = partial(_create, terms=terms, principal=principal, wanted=Wanted(body.amount, body.btc_amount))
    return await perform(request, principal, act, Form(201, partial(_body, terms)))


def _create(tx: Tx, terms: Terms, principal: Principal, wanted: Wanted) -> TopupView:
    return views.show(tx, terms, principal, acts.create(tx, terms, principal, wanted))


def _body(terms: Terms, view: TopupView) -> bytes:
    return orjson.dumps(payment_json(terms, view))


@router.get(
    "/v1/exchange/payment-status/{payment_id}",
    summary="Status of a Bitcoin payment",
    response_model=schemas.BitcoinPayment,
    responses=READ_ONE,
)
async def payment_status(request: ApiRequest, principal: ClientOrAdmin, payment_id: str) -> Response:
    """What arrived, how deep it is in the chain, and what was credited. For its owner and admins."""
    terms = request.runtime.exchange
    view = await request.runtime.db.read(views.show, terms, principal, payment_id)
    return reply(payment_json(terms, view))


@router.get(
    "/v1/exchange/rates", summary="Rate of Bitcoin payments", response_model=schemas.Rates, responses=PUBLIC
)
async def rates(request: ApiRequest) -> Response:
    """The rate now, the smallest and the largest payment, and how many blocks each needs."""
    terms = request.runtime.exchange
    watch = await request.runtime.db.read(views.looked)
    fresh = watch is not None and request.runtime.clock.now_ms() - watch.whole_ms <= terms.stale_ms
    small, medium, large = terms.confirmations
    found: schemas.Rates = {
        "btc_to_ait": ait(terms.rate_units),
        "open": terms.pays_to and terms.watched and fresh,
        "network": terms.chain or None,
        "min_btc": ait(MIN_SAT),
        "max_btc": ait(terms.max_sat),
        "lock_s": terms.lock_ms // 1000,
        "confirmations": [
            {"below_btc": ait(SMALL_SAT), "blocks": small},
            {"below_btc": ait(MEDIUM_SAT), "blocks": medium},
            {"below_btc": None, "blocks": large},
        ],
        "bitcoin_height": None if watch is None else watch.height,
        "looked_at": None if watch is None else rfc3339(watch.whole_ms),
    }
    return reply(found)


def payment_json(terms: Terms, view: TopupView) -> schemas.BitcoinPayment:
    """A payment as its owner sees it."""
    row = view.row
    uri = payment_uri(row.address, row.sat)
    return {
        "payment_id": row.id,
        "id": row.id,
        "status": row.state,
        "exception": row.exception,
        "amount": ait(row.ait_units),
        "btc_amount": ait(row.sat),
        "satoshi": row.sat,
        "rate": ait(row.rate_units),
        "network": terms.chain,
        "address": row.address,
        "address_index": None if row.key_index < 0 else row.key_index,
        "uri": uri,
        "qr": qr_svg(uri),
        "received_btc": ait(view.received_sat),
        "credited": ait(view.credited_units),
        "confirmations_needed": view.needed,
        "outputs": [_output_json(view, one) for one in view.outputs[: views.SHOWN]],
        "expires_at": rfc3339(row.expires_at_ms),
        "created_at": rfc3339(row.created_at_ms),
        "updated_at": rfc3339(row.updated_at_ms),
    }


def qr_svg(uri: str) -> str:
    """A QR code of the URI, for pages to show as it is."""
    return str(segno.make(uri, error="m", micro=False).svg_inline(scale=4))


def _output_json(view: TopupView, one: OutputRow) -> schemas.BitcoinOutput:
    txid, _, vout = one.id.partition(":")
    in_block = one.height >= 0
    return {
        "txid": txid,
        "vout": int(vout),
        "btc_amount": ait(one.sat),
        "satoshi": one.sat,
        "status": "gone" if one.gone else "block" if in_block else "mempool",
        "confirmations": view.tip_height - one.height + 1 if in_block else 0,
        "bitcoin_height": one.height if in_block else None,
        "bitcoin_hash": one.hash or None,
        "late": one.late == 1,
        "credited": 0 if one.reversed else ait(one.credited_units),
        "owed": ait(one.credited_units) if one.reversed and not one.forgiven else 0,
        "transfer_id": credit_id(one.id, one.events - 1) if one.events else None,
    }
