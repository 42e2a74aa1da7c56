"""Opening accounts is what the transactions of these tests do."""

from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.ledger import service as ledger


def names(db: Database) -> set[str]:
    return {row.id for row in db.read_sync(lambda tx: tx.query(text("SELECT id FROM accounts")))}


def opens(tx: Tx, name: str) -> str:
    ledger.open_account(tx, name)
    return name


def opens_and_fails(tx: Tx, name: str) -> str:
    ledger.open_account(tx, name)
    raise InvalidRequest("no")
