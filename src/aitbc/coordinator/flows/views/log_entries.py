"""The log's entries as outsiders read them: the bytes of leaves, rebuilt from the rows that they came from."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy import text as sql

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.chain import proofs
from aitbc.coordinator.chain.models import Leaf
from aitbc.coordinator.chain.sealer import head
from aitbc.coordinator.database import Statement, Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import NotFound, ReceiptNotFound
from aitbc.coordinator.exchange.models import BitcoinCredit
from aitbc.coordinator.flows.shared import own_jobs, rentals
from aitbc.coordinator.governance.models import Delegation, ProposalEvent, VoteCast
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.ledger.models import Transfer
from aitbc.coordinator.marketplace.models import Booking
from aitbc.coordinator.parameters.models import REF, ParameterChange
from aitbc.coordinator.receipts import service as receipts
from aitbc.coordinator.receipts.models import Receipt
from aitbc.coordinator.receipts.service import ReceiptRow
from aitbc.core.log import tiles
from aitbc.core.log.leaf import (
    BITCOIN_CREDIT,
    BOOKING,
    DELEGATION,
    PARAMETER,
    PROPOSAL,
    RECEIPT,
    TRANSFER,
    VOTE,
    bitcoin_credit_leaf,
    booking_leaf,
    delegation_leaf,
    parameter_leaf,
    proposal_leaf,
    receipt_leaf,
    transfer_leaf,
    vote_leaf,
)

_l: Any = table_of(Leaf).c
_t: Any = table_of(Transfer).c
_r: Any = table_of(Receipt).c
_b: Any = table_of(Booking).c
_v: Any = table_of(VoteCast).c
_d: Any = table_of(Delegation).c
_range = (_l.leaf_index >= bindparam("first"), _l.leaf_index < bindparam("end"))

TRANSFERS_IN = statement(
    select(
        _l.leaf_index,
        _t.id,
        _t.kind,
        _t.debit_id,
        _t.credit_id,
        _t.amount_units,
        _t.hold_id,
        _t.ref,
        _t.created_at_ms,
    )
    .join(Transfer, _t.id == _l.ref_id)
    .where(_l.kind == TRANSFER, *_range)
)
RECEIPTS_IN = statement(
    select(_l.leaf_index, _r.body, _r.key_id, _r.signature)
    .join(Receipt, _r.id == _l.ref_id)
    .where(_l.kind == RECEIPT, *_range)
)
BOOKINGS_IN = statement(
    select(_l.leaf_index, *(_b[name] for name in rentals.LEAF_COLUMNS))
    .join(Booking, _b.id == _l.ref_id)
    .where(_l.kind == BOOKING, *_range)
)
CHANGES_IN = statement(
    select(_l.leaf_index, *table_of(ParameterChange).columns)
    .join(ParameterChange, sql(REF) == _l.ref_id)
    .where(_l.kind == PARAMETER, *_range)
)
BITCOIN_CREDITS_IN = statement(
    select(_l.leaf_index, *table_of(BitcoinCredit).columns)
    .join(BitcoinCredit, table_of(BitcoinCredit).c.id == _l.ref_id)
    .where(_l.kind == BITCOIN_CREDIT, *_range)
)
PROPOSALS_IN = statement(
    select(_l.leaf_index, *table_of(ProposalEvent).columns)
    .join(ProposalEvent, table_of(ProposalEvent).c.id == _l.ref_id)
    .where(_l.kind == PROPOSAL, *_range)
)
VOTES_IN = statement(
    select(
        _l.leaf_index, *(_v[name] for name in ("id", "account_id", "by", "choice", "power_units", "at_ms"))
    )
    .join(VoteCast, _v.id == _l.ref_id)
    .where(_l.kind == VOTE, *_range)
)
DELEGATIONS_IN = statement(
    select(_l.leaf_index, *(_d[name] for name in ("id", "delegator_id", "delegate_id", "at_ms")))
    .join(Delegation, _d.id == _l.ref_id)
    .where(_l.kind == DELEGATION, *_range)
)
ENTRIES: dict[int, tuple[Statement, Callable[..., bytes]]] = {
    TRANSFER: (TRANSFERS_IN, transfer_leaf),
    RECEIPT: (RECEIPTS_IN, receipt_leaf),
    PARAMETER: (CHANGES_IN, parameter_leaf),
    BOOKING: (BOOKINGS_IN, booking_leaf),
    BITCOIN_CREDIT: (BITCOIN_CREDITS_IN, bitcoin_credit_leaf),
    PROPOSAL: (PROPOSALS_IN, proposal_leaf),
    VOTE: (VOTES_IN, vote_leaf),
    DELEGATION: (DELEGATIONS_IN, delegation_leaf),
}
"""By kind: the leaves of a range with what their bytes are made of, and what makes them."""


def leaves(tx: Tx, first: int, end: int) -> list[bytes]:
    """The bytes of sealed leaves first .. end - 1, in order. Raises NotFound where one is not there."""
    found: dict[int, bytes] = {}
    for rows, encode in ENTRIES.values():
        for row in tx.all(rows, first=first, end=end):
            found[int(row[0])] = encode(*row[1:])
    if len(found) != end - first:
        raise NotFound()
    return [found[index] for index in range(first, end)]


def entry_bundle(tx: Tx, index: int, width: int) -> bytes:
    """A C2SP entry bundle: each entry after its length in two bytes. Raises NotFound beyond the tree."""
    last = head(tx)
    if tiles.width_in(0 if last is None else last.tree_size, 0, index) < width:
        raise NotFound()
    first = index * tiles.WIDTH
    return b"".join(len(data).to_bytes(2, "big") + data for data in leaves(tx, first, first + width))


def tile_bytes(tx: Tx, path: str) -> bytes:
    """What lies under `tile/` at this path: a hash tile or an entry bundle. Raises NotFound."""
    try:
        level, index, width = tiles.parse_tile_path(path)
    except ValueError:
        raise NotFound() from None
    if index >= 1 << 55:
        raise NotFound()
    if level == tiles.ENTRIES:
        return entry_bundle(tx, index, width)
    return proofs.tile(tx, level, index, width)


def receipt_proof(tx: Tx, receipt_id: str, retry_after_s: float) -> str:
    """The receipt's tlog-proof. Raises ReceiptNotFound, NotSealed."""
    if receipts.get(tx, receipt_id) is None:
        raise ReceiptNotFound(receipt_id=receipt_id)
    return proofs.proof_of(tx, receipt_id, retry_after_s)


def proven_receipt(tx: Tx, receipt_id: str) -> tuple[ReceiptRow, str | None]:
    """A receipt and its proof, None while it is not sealed. Raises ReceiptNotFound."""
    row = receipts.get(tx, receipt_id)
    if row is None:
        raise ReceiptNotFound(receipt_id=receipt_id)
    return row, proofs.proof_if_sealed(tx, receipt_id)


class JobReceipt(NamedTuple):
    """A job's receipt, the result that it covers (None once that is erased), and its proof once it is sealed."""

    row: ReceiptRow
    result_text: str | None
    proof: str | None


def receipt_of_job(tx: Tx, principal: Principal, job_id: str) -> JobReceipt | None:
    """The receipt of one's own job, None before it is completed. Raises JobNotFound."""
    own_jobs.owned(tx, principal, job_id)
    row = receipts.of_job(tx, job_id)
    if row is None:
        return None
    return JobReceipt(row, job_texts.result_text(tx, job_id), proofs.proof_if_sealed(tx, row.id))
