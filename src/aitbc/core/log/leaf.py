"""The bytes of the log's leaves. docs/formats/block.md gives them with vectors.

Written on the hot path, so put together by hand; a property test holds them to RFC 8785.
"""

from __future__ import annotations

# The C function behind json.dumps(text, ensure_ascii=False); RFC 8785 writes strings in the same way.
from json.encoder import encode_basestring as _quote
from typing import NamedTuple

TRANSFER = 0
RECEIPT = 1
PARAMETER = 2
BOOKING = 3
BITCOIN_CREDIT = 7
PROPOSAL = 4
VOTE = 5
DELEGATION = 6


class LeafKind(NamedTuple):
    """What a leaf can be of: its number in the database, its name in blocks' contents, the `type` of its bytes.

    A number and a name are given once and never again to something else.
    """

    number: int
    name: str
    type: str


KINDS = {
    kind.number: kind
    for kind in (
        LeafKind(TRANSFER, "transfers", "aitbc/transfer/v1"),
        LeafKind(RECEIPT, "receipts", "aitbc/receipt-leaf/v1"),
        LeafKind(PARAMETER, "parameters", "aitbc/parameter/v1"),
        LeafKind(BOOKING, "bookings", "aitbc/booking/v1"),
        LeafKind(BITCOIN_CREDIT, "bitcoin_credits", "aitbc/bitcoin-credit/v1"),
        LeafKind(PROPOSAL, "proposals", "aitbc/proposal/v1"),
        LeafKind(VOTE, "votes", "aitbc/vote/v1"),
        LeafKind(DELEGATION, "delegations", "aitbc/delegation/v1"),
    )
}
"""Every kind that this program appends. Who reads logs may meet others, and counts them."""


def transfer_leaf(
    transfer_id: str,
    kind: str,
    debit: str,
    credit: str,
    amount_units: int,
    hold_id: str | None,
    ref: str,
    created_at_ms: int,
) -> bytes:
    """RFC 8785 of {amount_units, created_at_ms, credit, debit, hold_id, id, kind, ref, type}.

    `amount_units` is written as a string; which chain it is stands in the origin of every checkpoint.
    ValueError: a text with a lone surrogate, which has no UTF-8.
    """
    hold = "null" if hold_id is None else _quote(hold_id)
    return (
        f'{{"amount_units":"{amount_units}","created_at_ms":{created_at_ms},"credit":{_quote(credit)},'
        f'"debit":{_quote(debit)},"hold_id":{hold},"id":{_quote(transfer_id)},"kind":{_quote(kind)},'
        f'"ref":{_quote(ref)},"type":"aitbc/transfer/v1"}}'
    ).encode()


def receipt_leaf(signed_text: str, key_id: str, signature: str) -> bytes:
    """RFC 8785 of {body, signature, type}: `signed_text` is the receipt's canonical text as it was signed.

    `key_id` is hex, `signature` base64.
    """
    return (
        f'{{"body":{signed_text},"signature":{{"alg":"Ed25519","key_id":"{key_id}","sig":"{signature}"}},'
        '"type":"aitbc/receipt-leaf/v1"}'
    ).encode()


def parameter_leaf(
    number: int,
    name: str,
    value_before: int | None,
    value_after: int,
    effective_at_ms: int,
    by: str,
    reason: str,
) -> bytes:
    """RFC 8785 of {by, effective_at_ms, name, number, reason, type, value_after, value_before}: a changed parameter.

    Values are written as strings; `value_before` None: what it was before is not known.
    ValueError: a text with a lone surrogate, which has no UTF-8.
    """
    before = "null" if value_before is None else f'"{value_before}"'
    return (
        f'{{"by":{_quote(by)},"effective_at_ms":{effective_at_ms},"name":{_quote(name)},"number":{number},'
        f'"reason":{_quote(reason)},"type":"aitbc/parameter/v1","value_after":"{value_after}",'
        f'"value_before":{before}}}'
    ).encode()


def booking_leaf(
    booking_id: str,
    gpu_id: str,
    miner_id: str,
    booker: str,
    owner: str,
    start_ms: int,
    end_ms: int,
    hour_units: int,
    fee_bps: int,
    hold_id: str,
    held_units: int,
    used_ms: int,
    price_units: int,
    fee_units: int,
    transfer_id: str,
    outcome: str,
    ended_by: str,
    ended_at_ms: int,
) -> bytes:
    """RFC 8785 of a booking of a GPU that has ended; amounts are written as strings, times are ms.

    `outcome` is ran_out, released, cancelled or no_show; `ended_by` booker, owner, admin or coordinator.
    """
    return (
        f'{{"booker":{_quote(booker)},"end_ms":{end_ms},"ended_at_ms":{ended_at_ms},"ended_by":{_quote(ended_by)},'
        f'"fee_bps":{fee_bps},"fee_units":"{fee_units}","gpu_id":{_quote(gpu_id)},"held_units":"{held_units}",'
        f'"hold_id":{_quote(hold_id)},"hour_units":"{hour_units}","id":{_quote(booking_id)},'
        f'"miner_id":{_quote(miner_id)},"outcome":{_quote(outcome)},"owner":{_quote(owner)},'
        f'"price_units":"{price_units}","start_ms":{start_ms},"transfer_id":{_quote(transfer_id)},'
        f'"type":"aitbc/booking/v1","used_ms":{used_ms}}}'
    ).encode()


def bitcoin_credit_leaf(
    entry_id: str,
    kind: str,
    outpoint: str,
    topup_id: str,
    account: str,
    sat: int,
    rate_units: int,
    units: int,
    short_units: int,
    block_height: int,
    block_hash: str,
    created_at_ms: int,
) -> bytes:
    """RFC 8785 of {account, block_hash, block_height, created_at_ms, id, kind, outpoint, rate_units, sat, short_units,
    topup, type, units}: amounts and the rate as strings; the transfer's id stands behind `entry:` in `id`.
    """
    return (
        f'{{"account":{_quote(account)},"block_hash":"{block_hash}","block_height":{block_height},'
        f'"created_at_ms":{created_at_ms},"id":{_quote(entry_id)},"kind":{_quote(kind)},'
        f'"outpoint":{_quote(outpoint)},"rate_units":"{rate_units}","sat":"{sat}","short_units":"{short_units}",'
        f'"topup":{_quote(topup_id)},"type":"aitbc/bitcoin-credit/v1","units":"{units}"}}'
    ).encode()


def proposal_leaf(event_id: str, event: str, at_ms: int, by: str, body: str) -> bytes:
    """RFC 8785 of {at_ms, body, by, event, id, type}: something that happened to a proposal.

    `event_id` is `proposal:<proposal>:<number>`; `body` the RFC 8785 text of an object: what was proposed, or how it
    ended. ValueError: a text with a lone surrogate, which has no UTF-8.
    """
    return (
        f'{{"at_ms":{at_ms},"body":{body},"by":{_quote(by)},"event":{_quote(event)},"id":{_quote(event_id)},'
        '"type":"aitbc/proposal/v1"}'
    ).encode()


def vote_leaf(vote_id: str, account: str, by: str, choice: str, power_units: int, at_ms: int) -> bytes:
    """RFC 8785 of {account, at_ms, by, choice, id, power_units, type}: one account's vote.

    `vote_id` is `vote:<proposal>:<number>`; `by` is who cast it, the account itself or its delegate; `power_units` is
    written as a string. ValueError as above.
    """
    return (
        f'{{"account":{_quote(account)},"at_ms":{at_ms},"by":{_quote(by)},"choice":{_quote(choice)},'
        f'"id":{_quote(vote_id)},"power_units":"{power_units}","type":"aitbc/vote/v1"}}'
    ).encode()


def delegation_leaf(delegation_id: str, delegator: str, delegate: str, at_ms: int) -> bytes:
    """RFC 8785 of {at_ms, delegate, delegator, id, type}: whom an account lets vote for it; '' nobody any more.

    `delegation_id` is `delegation:<number>:<delegator>`. ValueError as above.
    """
    return (
        f'{{"at_ms":{at_ms},"delegate":{_quote(delegate)},"delegator":{_quote(delegator)},'
        f'"id":{_quote(delegation_id)},"type":"aitbc/delegation/v1"}}'
    ).encode()
