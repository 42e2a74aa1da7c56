"""Which network this database is: written once, with its genesis block (`chain.founding`), never changed."""

from typing import Any, NamedTuple

import orjson
from sqlalchemy import select

from aitbc.coordinator.chain.models import Network
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of


class NetworkRow(NamedTuple):
    """Every column of `network`, in the table's order."""

    id: int
    network_id: str
    chain_id: str
    origin: str
    founding: str

    def founding_json(self) -> dict[str, Any] | None:
        """The founding's document; None for a network from before foundings."""
        return orjson.loads(self.founding) if self.founding else None


COLUMNS = list(table_of(Network).columns)
if NetworkRow._fields != tuple(column.name for column in COLUMNS):
    raise RuntimeError("NetworkRow and the network table have drifted apart")

SELECT = statement(select(*COLUMNS), NetworkRow)
INSERT = insert_into(Network, on_conflict_ignore=True)


def read(tx: Tx) -> NetworkRow | None:
    """The network of this database; None before it is founded."""
    row: NetworkRow | None = tx.one(SELECT)
    return row


def of(tx: Tx) -> NetworkRow:
    """The network of this database. RuntimeError before it is founded: `aitbc serve` does so at its start."""
    row = read(tx)
    if row is None:
        raise RuntimeError("this database is of no network yet")
    return row


def keep(tx: Tx, row: NetworkRow) -> bool:
    """Writes the row. False where another coordinator did meanwhile."""
    return tx.run(INSERT, **row._asdict()) == 1
