"""Receipts: written in the transaction that completes the job, read by anyone."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select, update

from aitbc.coordinator.chain import service as chain
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.receipts.models import Receipt, SigningKey
from aitbc.core import receipt as documents
from aitbc.core.log.leaf import RECEIPT, receipt_leaf
from aitbc.core.signing import PrivateKey, encode_b64, public_to_text, vkey

_receipts: Any = table_of(Receipt)
_keys: Any = table_of(SigningKey)


class ReceiptRow(NamedTuple):
    """Every column of `receipts`, in the table's order."""

    id: str
    job_id: str
    client_id: str
    provider_id: str
    miner_id: str
    model: str
    units: int
    price_units: int
    created_at_ms: int
    body: str
    key_id: str
    signature: str


COLUMNS = list(_receipts.columns)
if ReceiptRow._fields != tuple(column.name for column in COLUMNS):
    raise RuntimeError("ReceiptRow and the receipts table have drifted apart")

INSERT_RECEIPT = insert_into(Receipt)
SELECT_RECEIPT = statement(select(*COLUMNS).where(_receipts.c.id == bindparam("receipt")), ReceiptRow)
SELECT_OF_JOB = statement(select(*COLUMNS).where(_receipts.c.job_id == bindparam("job")), ReceiptRow)
SELECT_KEYS = statement(select(_keys).order_by(_keys.c.valid_from_ms, _keys.c.id))
NEWEST = statement(select(_receipts.c.created_at_ms).order_by(_receipts.c.id.desc()).limit(1))
RETIRE = statement(
    update(SigningKey).where(_keys.c.id == bindparam("key")).values(valid_to_ms=bindparam("at"))
)
REVIVE = statement(
    update(SigningKey)
    .where(_keys.c.id == bindparam("key"), _keys.c.valid_to_ms.is_not(None))
    .values(valid_to_ms=None)
)
INSERT_KEY = insert_into(SigningKey, on_conflict_ignore=True)


def issue(tx: Tx, fields: documents.ReceiptFields, body: bytes, signature: documents.Signature) -> ReceiptRow:
    """Writes the receipt of one job: `signature` is over `body`, the fields' signed bytes.

    The database refuses a second one for the same job.
    """
    row = ReceiptRow(
        id=fields.receipt_id,
        job_id=fields.job_id,
        client_id=fields.client,
        provider_id=fields.provider,
        miner_id=fields.miner_id,
        model=fields.model,
        units=fields.units,
        price_units=fields.price_units,
        created_at_ms=tx.now_ms,
        body=body.decode(),
        key_id=signature.key_id,
        signature=encode_b64(signature.sig),
    )
    tx.add(INSERT_RECEIPT, row)
    chain.append(tx, RECEIPT, row.id, receipt_leaf(row.body, row.key_id, row.signature))
    return row


def get(tx: Tx, receipt_id: str) -> ReceiptRow | None:
    row: ReceiptRow | None = tx.one(SELECT_RECEIPT, receipt=receipt_id)
    return row


def of_job(tx: Tx, job_id: str) -> ReceiptRow | None:
    row: ReceiptRow | None = tx.one(SELECT_OF_JOB, job=job_id)
    return row


LOOKED_AT = 2_000  # receipts that a page of several filters looks through


class ReceiptPage(NamedTuple):
    """Receipts, newest first, and where the next page begins (None: there is none).

    A page of several filters may be short, or empty, and yet have a next one: it looks so far and no further.
    """

    rows: list[ReceiptRow]
    next_before: str | None


def find(
    tx: Tx,
    *,
    client: str | None = None,
    provider: str | None = None,
    miner_id: str | None = None,
    model: str | None = None,
    job_id: str | None = None,
    before_id: str | None = None,
    limit: int = 20,
    offset: int = 0,
) -> ReceiptPage:
    """Receipts that match all filters given; `before_id` continues below that receipt.

    What a page costs does not depend on how many receipts there are: the first filter has an index, and what
    that finds is held to the others, LOOKED_AT at a time.
    """
    given = [
        (column, value)
        for column, value in (
            (_receipts.c.job_id, job_id),
            (_receipts.c.client_id, client),
            (_receipts.c.miner_id, miner_id),
            (_receipts.c.provider_id, provider),
            (_receipts.c.model, model),
        )
        if value is not None
    ]
    first = select(*COLUMNS).order_by(_receipts.c.id.desc())
    if given:
        first = first.where(given[0][0] == given[0][1])
    if before_id is not None:
        first = first.where(_receipts.c.id < before_id)
    if len(given) < 2:
        rows = [ReceiptRow._make(row) for row in tx.query(first.limit(limit).offset(offset))]
        return ReceiptPage(rows, rows[-1].id if len(rows) == limit else None)
    looked = first.limit(LOOKED_AT).subquery()
    matching = select(looked).where(*(looked.c[column.name] == value for column, value in given[1:]))
    page = matching.order_by(looked.c.id.desc()).limit(limit).offset(offset)
    rows = [ReceiptRow._make(row) for row in tx.query(page)]
    if len(rows) == limit:
        return ReceiptPage(rows, rows[-1].id)
    (seen,) = tx.query(select(func.count().label("count"), func.min(looked.c.id).label("last")))
    return ReceiptPage(rows, str(seen.last) if seen.count == LOOKED_AT else None)


def publish_key(tx: Tx, key: PrivateKey, name: str) -> None:
    """Makes sure that the coordinator's public key is listed."""
    tx.run(
        INSERT_KEY,
        id=key.key_id,
        public_key=public_to_text(key.public_bytes),
        vkey=vkey(name, key.public_bytes),
        valid_from_ms=tx.now_ms,
        valid_to_ms=None,
    )


def retire_other_keys(tx: Tx, key: PrivateKey, signed_ms: int) -> list[str]:
    """Says of all keys but this one that they sign no more; the ids of those that did until now.

    A key's validity ends behind what it signed last: `signed_ms` is the time of the newest block. A key that comes
    back is valid again, from its first day on.
    """
    tx.run(REVIVE, key=key.key_id)
    newest = tx.one(NEWEST)
    at_ms = max(tx.now_ms, signed_ms + 1, 0 if newest is None else int(newest.created_at_ms) + 1)
    retired = [row.id for row in keys(tx) if row.id != key.key_id and row.valid_to_ms is None]
    for one in retired:
        tx.run(RETIRE, key=one, at=at_ms)
    return retired


def keys(tx: Tx) -> list[Any]:
    """Every key that ever signed here, oldest first."""
    return tx.all(SELECT_KEYS)
