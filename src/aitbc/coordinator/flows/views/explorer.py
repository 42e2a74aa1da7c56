"""What the explorer shows of the ledger and the log. All of it is public: no keys, prompts, results, notes.

Lists go newest first and are read by key, so that a page costs the same however deep it lies.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import bindparam, literal_column, select

from aitbc.coordinator.chain import counters, queries
from aitbc.coordinator.chain.models import AccountActivity, Block, Leaf
from aitbc.coordinator.chain.queries import LeafRow, Span, Spans
from aitbc.coordinator.chain.search import FoundLeaf, by_prefix
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import AccountNotFound, InvalidRequest, TransactionNotFound
from aitbc.coordinator.flows.shared import hashes
from aitbc.coordinator.flows.shared.hashes import Named
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import Account, Transfer
from aitbc.coordinator.receipts import service as receipts
from aitbc.core.ids import is_id
from aitbc.core.log.leaf import PARAMETER, RECEIPT, TRANSFER
from aitbc.core.numbers import MAX_COUNT, read_count
from aitbc.core.transfer_ids import GRANT, JOB
from aitbc.core.wallet.address import AddressInvalid, canonical_address, looks_like_address

_l: Any = table_of(Leaf).c
_t: Any = table_of(Transfer).c
_a: Any = table_of(Account).c
_b: Any = table_of(Block).c
_s: Any = table_of(AccountActivity)

MAX_SEQ = (1 << 63) - 1
AT_ONCE = 20  # transfers that one query reads by their ids
MAX_FOUND = 10  # results of each kind that a search gives


class Row(NamedTuple):
    """A transfer with its leaf. `seq` is the order of appending."""

    seq: int
    leaf_index: int | None
    hash: bytes
    id: str
    kind: str
    debit_id: str
    credit_id: str
    amount_units: int
    ref: str
    created_at_ms: int


class Transaction(NamedTuple):
    """A transfer as everybody sees it, and the block that sealed it (None until one does)."""

    row: Row
    block: Span | None

    @property
    def job_id(self) -> str | None:
        """The job that the money is for. Other references are the parties' own business."""
        return self.row.ref if JOB.may_be(self.row.kind, self.row.ref) else None

    @property
    def reason(self) -> str | None:
        """Why the operator made money, which was said for everybody; a grant needs none."""
        return self.row.ref if self.row.kind == "mint" and not GRANT.fits(self.row.id) else None


class Address(NamedTuple):
    """An account as everybody sees it. Times in ms, from the blocks; None before its first sealed transfer."""

    id: str
    kind: str
    balance_units: int
    transactions: int
    first_seen_ms: int | None
    last_seen_ms: int | None


COLUMNS = (
    *(_l[name] for name in Row._fields[:3]),
    *(_t[name] for name in Row._fields[3:]),
)
_IS_TRANSFER = _l.kind == literal_column("0")  # written out as the partial index has it
# Which leaves first, and only then what they are: an offset must not read what it skips.
_page = (
    select(_l.seq)
    .where(_IS_TRANSFER, _l.seq < bindparam("before"))
    .order_by(_l.seq.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
    .subquery("page")
)
_page_of_block = (
    select(_l.seq)
    .where(_IS_TRANSFER, _l.leaf_index >= bindparam("first"), _l.leaf_index < bindparam("end"))
    .order_by(_l.leaf_index.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
    .subquery("page")
)
NEWEST = statement(
    select(*COLUMNS)
    .select_from(_page)
    .join(Leaf, _l.seq == _page.c.seq)
    .join(Transfer, _t.id == _l.ref_id)
    .order_by(_page.c.seq.desc()),
    Row,
)
OF_BLOCK = statement(
    select(*COLUMNS)
    .select_from(_page_of_block)
    .join(Leaf, _l.seq == _page_of_block.c.seq)
    .join(Transfer, _t.id == _l.ref_id)
    .order_by(_l.leaf_index.desc()),
    Row,
)
BY_ID = statement(
    select(*COLUMNS).join(Transfer, _t.id == _l.ref_id).where(_l.ref_id == bindparam("id")), Row
)
# Some at a time: a query for each costs a round trip of its own on PostgreSQL, one for all must be compiled anew.
BY_IDS = statement(
    select(*COLUMNS)
    .join(Transfer, _t.id == _l.ref_id)
    .where(_l.ref_id.in_([bindparam(f"id{number}") for number in range(AT_ONCE)])),
    Row,
)
# By what never changes: in an order of last activity, who becomes active moves past the page where he was due.
_newest = (
    select(_s)
    .where(
        _s.c.first_leaf <= bindparam("leaf"),
        (_s.c.first_leaf < bindparam("leaf")) | (_s.c.account_id < bindparam("account")),
    )
    .order_by(_s.c.first_leaf.desc(), _s.c.account_id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
    .subquery("page")
)


def _time_of(leaf: Any) -> Any:
    return select(_b.time_ms).where(_b.tree_size > leaf).order_by(_b.tree_size).limit(1).scalar_subquery()


NEWEST_ACCOUNTS = statement(
    select(
        _newest.c.account_id,
        _a.kind,
        _a.balance_units,
        _newest.c.transfers,
        _time_of(_newest.c.first_leaf),
        _time_of(_newest.c.last_leaf),
        _newest.c.first_leaf,
    )
    .join(Account, _a.id == _newest.c.account_id)
    .order_by(_newest.c.first_leaf.desc(), _newest.c.account_id.desc())
)
ACCOUNT = statement(select(_a.kind, _a.balance_units).where(_a.id == bindparam("account")))


class Page(NamedTuple):
    """Part of a list, and the cursor of what follows; None at its end."""

    items: list[Any]
    cursor: str | None


def transactions(tx: Tx, cursor: str | None, limit: int, offset: int) -> Page:
    """All transfers. Raises InvalidRequest for a cursor that is none."""
    before = MAX_SEQ if cursor is None else _number(cursor)
    rows: list[Row] = tx.all(NEWEST, before=before, limit=limit, offset=offset)
    return Page(_placed(tx, rows), _next(rows, limit, lambda row: row.seq))


def transactions_of_block(tx: Tx, block: Span, cursor: str | None, limit: int, offset: int) -> Page:
    """The transfers that one block sealed. Raises InvalidRequest for a cursor that is none."""
    end = block.tree_size if cursor is None else min(block.tree_size, _number(cursor))
    rows: list[Row] = tx.all(OF_BLOCK, first=block.first_leaf, end=end, limit=limit, offset=offset)
    return Page(_placed(tx, rows), _next(rows, limit, lambda row: row.leaf_index))


def transactions_of_address(tx: Tx, address: str, cursor: str | None, limit: int, offset: int) -> Page:
    """The transfers that an account paid or received."""
    wanted = limit + offset
    address = account_named(address)
    place: tuple[int, int] | None = None
    if cursor is not None:
        last: Row | None = None if "\0" in cursor else tx.one(BY_ID, id=cursor)
        if last is None:
            raise _bad_cursor()
        place = (last.created_at_ms, last.seq)
    ids = _ids_of(tx, address, wanted, place)
    page = ids[offset:wanted]
    found: dict[str, Row] = {}
    for first in range(0, len(page), AT_ONCE):
        part = page[first : first + AT_ONCE]
        part += part[-1:] * (AT_ONCE - len(part))
        some = tx.all(BY_IDS, **{f"id{number}": one for number, one in enumerate(part)})
        found.update((row.id, row) for row in some)
    rows = [found[one] for one in page if one in found]
    return Page(_placed(tx, rows), _next(rows, limit, lambda row: row.id))


def _ids_of(tx: Tx, address: str, limit: int, place: tuple[int, int] | None) -> list[str]:
    """The newest transfers of an account on either side, behind a place: each side has its index.

    Of one millisecond in the order of the log: an id's text says nothing of when it was.
    """
    found: set[tuple[int, int, str]] = set()
    for side in (_t.debit_id, _t.credit_id):
        query = select(_t.created_at_ms, _l.seq, _t.id).join(Leaf, _l.ref_id == _t.id).where(side == address)
        if place is not None:
            at_ms, seq = place
            earlier = (_t.created_at_ms < at_ms) | (_l.seq < seq)
            query = query.where(_t.created_at_ms <= at_ms, earlier)
        query = query.order_by(_t.created_at_ms.desc(), _l.seq.desc()).limit(limit)
        found.update((row.created_at_ms, row.seq, row.id) for row in tx.query(query))
    return [one for _, _, one in sorted(found, reverse=True)[:limit]]


def transaction(tx: Tx, name: str) -> Transaction:
    """One transfer by its id, by the hash that a wallet signed, or by its leaf's hash once it is sealed.

    Raises TransactionNotFound.
    """
    row: Row | None = tx.one(BY_ID, id=name)
    if row is None:
        named = hashes.named_by(tx, name)
        row = None if named is None or named.kind != TRANSFER else tx.one(BY_ID, id=named.ref_id)
    if row is None:
        raise TransactionNotFound(hash=name)
    return _placed(tx, [row])[0]


def address(tx: Tx, account_id: str) -> Address:
    """One account; a wallet's address in any case that its checksum allows. Raises AccountNotFound."""
    account_id = account_named(account_id)
    row = tx.one(ACCOUNT, account=account_id)
    if row is None:
        raise AccountNotFound(account_id=account_id)
    seen = counters.activity_of(tx, account_id)
    times: tuple[int | None, int | None] = (None, None)
    if seen is not None:
        first, last = Spans(tx).of(seen.first_leaf), Spans(tx).of(seen.last_leaf)
        times = (first and first.time_ms, last and last.time_ms)
    return Address(account_id, row.kind, int(row.balance_units), seen.transfers if seen else 0, *times)


def account_named(text: str) -> str:
    """The account id that an address stands for. A wrong checksum is left as it is: nobody has that account."""
    try:
        return canonical_address(text) if looks_like_address(text) else text
    except AddressInvalid:
        return text


def addresses(tx: Tx, cursor: str | None, limit: int, offset: int) -> Page:
    """Accounts that transfers name, last come first. Raises InvalidRequest for a cursor that is none."""
    leaf, _, account = (f"{MAX_SEQ}." if cursor is None else cursor).partition(".")
    rows = tx.all(NEWEST_ACCOUNTS, leaf=_number(leaf), account=account, limit=limit, offset=offset)
    following = f"{rows[-1].first_leaf}.{rows[-1].account_id}" if len(rows) == limit else None
    return Page([Address._make(row[: len(Address._fields)]) for row in rows], following)


SHOWN_AS = {TRANSFER: "transaction", RECEIPT: "receipt", PARAMETER: "block"}
"""What a leaf of a kind is shown as; those without a page of their own as the block that sealed them."""


class Found(NamedTuple):
    """Something that a search names: block, transaction, receipt or address, and its id."""

    type: str
    id: str


def search(tx: Tx, text: str) -> list[Found]:
    """What a height, a hash or 8 digits of its beginning, an address, or the id of a job, receipt or transfer
    names. A job is found as its receipt and its transfers."""
    wanted = text.strip()
    found: list[Found] = []
    height = read_count(wanted, MAX_COUNT - 1)
    if height is not None:
        found += [Found("block", str(row.height)) for row in queries.blocks(tx, height + 1, 1)]
        found = [one for one in found if one.id == str(height)]
    lower = wanted.lower()
    if queries.MIN_PREFIX <= len(lower) <= queries.HASH_DIGITS and set(lower) <= set("0123456789abcdef"):
        found += [Found("block", str(row.height)) for row in queries.blocks_by_hash(tx, lower, MAX_FOUND)]
        found += _leaves(tx, by_prefix(tx, lower, MAX_FOUND))
    named = hashes.named_by(tx, lower)
    if named is not None:
        found += _leaves(tx, [named])
    leaf = queries.leaf_of(tx, wanted)
    if leaf is not None:
        found += _leaves(tx, [leaf])
    if is_id(lower):
        found += _of_job(tx, lower)
    for account in dict.fromkeys((account_named(wanted), lower)):
        if tx.one(ACCOUNT, account=account) is not None:
            found.append(Found("address", account))
    return list(dict.fromkeys(found))


def _leaves(tx: Tx, rows: Iterable[FoundLeaf | LeafRow | Named]) -> list[Found]:
    """Leaves of kinds that are not shown are left out, and those that wait for the block that they are shown as."""
    found = []
    for row in rows:
        shown = SHOWN_AS.get(row.kind)
        if shown == "block":
            block = Spans(tx).of(row.leaf_index)
            found += [] if block is None else [Found(shown, str(block.height))]
        elif shown is not None:
            found.append(Found(shown, row.ref_id))
    return found


def _of_job(tx: Tx, job_id: str) -> list[Found]:
    job = jobs.get(tx, job_id)
    if job is None:
        return []
    receipt = receipts.of_job(tx, job_id)
    found = [] if receipt is None else [Found("receipt", receipt.id)]
    if job.hold_id:
        moved = [job.hold_id, *(str(line.id) for line in ledger.lines_of_hold(tx, job.hold_id))]
        # A manual payment has its id before it has its hold.
        found += [Found("transaction", one) for one in moved if queries.leaf_of(tx, one) is not None]
    return found


def _placed(tx: Tx, rows: list[Row]) -> list[Transaction]:
    spans = Spans(tx)
    return [Transaction(row, spans.of(row.leaf_index)) for row in rows]


def _next(rows: list[Row], limit: int, key: Any) -> str | None:
    return str(key(rows[-1])) if len(rows) == limit else None


def _number(text: str) -> int:
    number = read_count(text)
    if number is None:
        raise _bad_cursor()
    return number


def _bad_cursor() -> InvalidRequest:
    return InvalidRequest(
        "The request is not valid: cursor: must be an X-Next-Cursor",
        fields=[{"field": "cursor", "message": "must be an X-Next-Cursor"}],
    )
