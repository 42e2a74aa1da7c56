"""Counting in the background: what accounts did in the log, and how many jobs there ever were.

Each count is a draft (read beside all writers) and its writing, which fails where another coordinator was
first. Both cost as much as there is new; nothing is counted twice.
"""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, literal_column, select

from aitbc.coordinator.chain import counters, witnessing
from aitbc.coordinator.chain.counters import Activity, Count
from aitbc.coordinator.chain.models import Leaf
from aitbc.coordinator.chain.sealer import BlockRow, head
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import BlockNotFound
from aitbc.coordinator.jobs.models import Job
from aitbc.coordinator.ledger.models import Transfer
from aitbc.coordinator.miners import queries as miner_queries
from aitbc.core.ids import floor_id

_l: Any = table_of(Leaf).c
_t: Any = table_of(Transfer).c
_j: Any = table_of(Job).c

LEAVES = 4096  # leaves that one round takes in
JOBS = 20_000  # jobs that one round counts
SETTLED_MS = 10_000  # jobs younger than this are counted as they are: one with a smaller id may yet commit
MAX_UNSETTLED = 20_000  # the most of them that a reader counts

PAIRS_IN = statement(
    select(
        _t.debit_id,
        _t.credit_id,
        func.count().label("transfers"),
        func.min(_l.leaf_index).label("first_leaf"),
        func.max(_l.leaf_index).label("last_leaf"),
    )
    .join(Transfer, _t.id == _l.ref_id)
    .where(
        _l.kind == literal_column("0"),
        _l.leaf_index >= bindparam("first"),
        _l.leaf_index < bindparam("end"),
    )
    .group_by(_t.debit_id, _t.credit_id)
)
_settled = (
    select(_j.id)
    .where(_j.id > bindparam("mark"), _j.id < bindparam("floor"))
    .order_by(_j.id)
    .limit(JOBS)
    .subquery()
)
SETTLED_JOBS = statement(select(func.count().label("count"), func.max(_settled.c.id).label("mark")))
_unsettled = select(_j.id).where(_j.id > bindparam("mark")).limit(MAX_UNSETTLED).subquery()
UNSETTLED_JOBS = statement(select(func.count(_unsettled.c.id).label("count")))


class ActivityDraft(NamedTuple):
    """Leaves before.value .. end - 1, by account; `new_accounts` of them were not in the log before."""

    before: Count
    end: int
    seen: list[Activity]
    new_accounts: int
    more: bool


def draft_activity(tx: Tx) -> ActivityDraft | None:
    """What sealed leaves say of accounts that is not taken in yet; None where nothing is new."""
    before = counters.read(tx, counters.ACTIVITY)
    last = head(tx)
    size = 0 if last is None else last.tree_size
    if before.value >= size:
        return None
    end = min(size, before.value + LEAVES)
    seen: dict[str, Activity] = {}
    for row in tx.all(PAIRS_IN, first=before.value, end=end):
        for account in {row.debit_id, row.credit_id}:
            was = seen.get(account)
            seen[account] = Activity(
                account,
                int(row.transfers) + (was.transfers if was else 0),
                min(row.first_leaf, was.first_leaf) if was else int(row.first_leaf),
                max(row.last_leaf, was.last_leaf) if was else int(row.last_leaf),
            )
    new = sum(
        1
        for account in seen
        if not account.startswith(counters.SYSTEM_PREFIX) and counters.activity_of(tx, account) is None
    )
    return ActivityDraft(before, end, sorted(seen.values()), new, end < size)


def write_activity(tx: Tx, made: ActivityDraft) -> bool:
    """Takes the draft in. False, with nothing written, where another coordinator did it meanwhile."""
    if not counters.advance(tx, counters.ACTIVITY, made.before, made.end - made.before.value):
        return False
    counters.grow_activity(tx, made.seen)
    counters.add(tx, counters.ACCOUNTS, made.new_accounts)
    return True


class JobsDraft(NamedTuple):
    """So many more jobs, up to the id `mark`."""

    before: Count
    jobs: int
    mark: str
    more: bool


def draft_jobs(tx: Tx) -> JobsDraft | None:
    """The settled jobs that are not counted yet; None where there are none."""
    before = counters.read(tx, counters.JOBS)
    floor = floor_id(max(0, tx.now_ms - SETTLED_MS))
    found = tx.one(SETTLED_JOBS, mark=before.mark, floor=floor)
    if not found.count:
        return None
    return JobsDraft(before, int(found.count), str(found.mark), found.count == JOBS)


def write_jobs(tx: Tx, made: JobsDraft) -> bool:
    """Counts them. False, with nothing written, where another coordinator did it meanwhile."""
    return counters.advance(tx, counters.JOBS, made.before, made.jobs, made.mark)


def total_jobs(tx: Tx) -> int:
    """How many jobs were ever submitted: the counted ones, and those of the last seconds as they are."""
    counted = counters.read(tx, counters.JOBS)
    return counted.value + int(tx.one(UNSETTLED_JOBS, mark=counted.mark).count)


class Numbers(NamedTuple):
    """What is known of the network at one moment: its newest block and what there ever was."""

    head: BlockRow
    final_height: int | None
    jobs: int
    active_miners: int
    accounts: int


def numbers(tx: Tx, quorum: int) -> Numbers:
    """Kept numbers: they cost the same however much there is. Raises BlockNotFound before the first block."""
    last = head(tx)
    if last is None:
        raise BlockNotFound(height=0)
    return Numbers(
        last,
        witnessing.final_height(tx, quorum),
        total_jobs(tx),
        miner_queries.count_by_status(tx).get("active", 0),
        counters.read(tx, counters.ACCOUNTS).value,
    )
