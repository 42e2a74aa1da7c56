"""What leaves are of, kind by kind: how each is read, made into bytes again, and what follows from it.

A kind is a class here and an entry in `KINDS`; `audit.leaves` knows none of them by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from aitbc.audit.ballots import Ballots
from aitbc.audit.books import Books, Line
from aitbc.audit.credits import BitcoinBooks, Entry
from aitbc.audit.derived import Activity
from aitbc.audit.findings import Wrong
from aitbc.audit.parameters import Change
from aitbc.audit.receipts import ReceiptCheck
from aitbc.audit.registers import Fee
from aitbc.audit.rented import Ended, Rented
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
from aitbc.core.transfer_ids import BITCOIN, id_form, reference_form


class Auditing(NamedTuple):
    """What the kinds add to and are held to."""

    books: Books
    activity: Activity
    receipts: ReceiptCheck
    fee: Fee
    rented: Rented
    bitcoin: BitcoinBooks
    ballots: Ballots


class Kind(ABC):
    """One kind of leaf. `columns` of `table`, of which the first is never NULL; `noun` for findings.

    `ref` is SQL of what the leaf names a row by: its first column, where a kind does not say otherwise.
    `logged`: SQL that a row of the table has a leaf; all have where a kind does not say otherwise.
    """

    number: ClassVar[int]
    noun: ClassVar[str]
    table: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    ref: ClassVar[str]
    logged: ClassVar[str] = "1 = 1"

    def __init_subclass__(cls) -> None:
        if "ref" not in vars(cls):
            cls.ref = f"{cls.table}.{cls.columns[0]}"

    def __init__(self, auditing: Auditing) -> None:
        self._auditing = auditing

    @abstractmethod
    def encode(self, values: tuple[Any, ...]) -> bytes:
        """The leaf's bytes. TypeError, ValueError."""

    @abstractmethod
    def take(self, values: tuple[Any, ...], leaf_index: int | None) -> None:
        """What the row does, once it is what the log has. Raises Wrong."""


class TransferKind(Kind):
    number = TRANSFER
    noun = "transfer"
    table = "transfers"
    columns = ("id", "kind", "debit_id", "credit_id", "amount_units", "hold_id", "ref", "created_at_ms")

    def encode(self, values: tuple[Any, ...]) -> bytes:
        return transfer_leaf(*values)

    def take(self, values: tuple[Any, ...], leaf_index: int | None) -> None:
        line = Line(*values)
        self._auditing.books.apply(line)
        _check_forms(line)
        if BITCOIN.fits(line.id):
            self._auditing.bitcoin.move(line)
        if leaf_index is not None:
            self._auditing.activity.add(leaf_index, line.debit, line.credit)


class ReceiptKind(Kind):
    number = RECEIPT
    noun = "receipt"
    table = "receipts"
    columns = (
        "id",
        "body",
        "key_id",
        "signature",
        "created_at_ms",
        "job_id",
        "client_id",
        "provider_id",
        "miner_id",
        "model",
        "units",
        "price_units",
    )

    def encode(self, values: tuple[Any, ...]) -> bytes:
        return receipt_leaf(*values[1:4])

    def take(self, values: tuple[Any, ...], leaf_index: int | None) -> None:
        receipt_id, body, key_id, signature, issued_at_ms, *stored = values
        fields = self._auditing.receipts.check(receipt_id, body, key_id, signature)
        stated = [
            fields.job_id,
            fields.client,
            fields.provider,
            fields.miner_id,
            fields.model,
            fields.units,
            fields.price_units,
        ]
        if stored != stated or issued_at_ms // 1000 != fields.completed_at:
            raise Wrong("receipt", receipt_id, "its columns differ from what was signed")
        self._auditing.fee.check(receipt_id, fields.started_at, fields.price_units, fields.fee_units)


class BitcoinCreditKind(Kind):
    number = BITCOIN_CREDIT
    noun = "bitcoin_credit"
    table = "bitcoin_credits"
    columns = Entry._fields

    def encode(self, values: tuple[Any, ...]) -> bytes:
        return bitcoin_credit_leaf(*values)

    def take(self, values: tuple[Any, ...], leaf_index: int | None) -> None:
        self._auditing.bitcoin.take(Entry(*values))


def _check_forms(line: Line) -> None:
    """Here and not in the books: who audits from outside may know fewer forms than the network has. Raises Wrong."""
    if id_form(line.kind, line.id) is None:
        raise Wrong("transfer", line.id, f"no {line.kind} has such an id")
    if reference_form(line.kind, line.ref) is None:
        raise Wrong("transfer", line.id, f"it is for {line.ref!r}, which no {line.kind} is for")


class ParameterKind(Kind):
    number = PARAMETER
    noun = "parameter"
    table = "parameter_changes"
    columns = Change._fields
    ref = "CAST('parameter:' || CAST(parameter_changes.number AS TEXT) AS TEXT)"  # as its index has it

    def __init__(self, auditing: Auditing) -> None:
        super().__init__(auditing)
        self._last = 0

    def encode(self, values: tuple[Any, ...]) -> bytes:
        return parameter_leaf(*values)

    def take(self, values: tuple[Any, ...], leaf_index: int | None) -> None:
        """What it says was held to the changes before it when these were read; here that the log has their order."""
        if values[0] != self._last + 1:
            raise Wrong("parameter", values[0], f"in the log it comes after change {self._last}")
        self._last = values[0]


class BookingKind(Kind):
    number = BOOKING
    noun = "booking"
    table = "bookings"
    columns = (
        "id",
        "gpu_id",
        "miner_id",
        "booker_id",
        "owner_id",
        "start_ms",
        "end_ms",
        "hour_units",
        "fee_bps",
        "hold_id",
        "held_units",
        "used_ms",
        "price_units",
        "fee_units",
        "transfer_id",
        "detail",
        "ended_by",
        "ended_at_ms",
    )
    logged = "state <> 'active'"

    def encode(self, values: tuple[Any, ...]) -> bytes:
        return booking_leaf(*values)

    def take(self, values: tuple[Any, ...], leaf_index: int | None) -> None:
        self._auditing.rented.ended(Ended(*values))


class ProposalKind(Kind):
    number = PROPOSAL
    noun = "proposal"
    table = "proposal_events"
    columns = ("id", "event", "at_ms", "by", "body")

    def encode(self, values: tuple[Any, ...]) -> bytes:
        return proposal_leaf(*values)

    def take(self, values: tuple[Any, ...], leaf_index: int | None) -> None:
        self._auditing.ballots.event(*values)


class VoteKind(Kind):
    number = VOTE
    noun = "vote"
    table = "votes_cast"
    columns = ("id", "account_id", "by", "choice", "power_units", "at_ms")

    def encode(self, values: tuple[Any, ...]) -> bytes:
        return vote_leaf(*values)

    def take(self, values: tuple[Any, ...], leaf_index: int | None) -> None:
        self._auditing.ballots.vote(*values)


class DelegationKind(Kind):
    number = DELEGATION
    noun = "delegation"
    table = "delegations"
    columns = ("id", "delegator_id", "delegate_id", "at_ms")

    def encode(self, values: tuple[Any, ...]) -> bytes:
        return delegation_leaf(*values)

    def take(self, values: tuple[Any, ...], leaf_index: int | None) -> None:
        self._auditing.ballots.delegation(*values)


KINDS: tuple[type[Kind], ...] = (
    TransferKind,
    ReceiptKind,
    ParameterKind,
    BookingKind,
    ProposalKind,
    VoteKind,
    DelegationKind,
    BitcoinCreditKind,
)
