"""The log's entries as an outsider reads them: each in its one spelling, and what they do in the log's order."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple

from aitbc.audit.ballots import Ballots
from aitbc.audit.books import Books, Line, Settlement
from aitbc.audit.credits import BitcoinBooks, Entry
from aitbc.audit.findings import Report, Wrong
from aitbc.audit.paid import Paid
from aitbc.audit.parameters import FEE, Change, History, explains, listed
from aitbc.audit.receipts import ReceiptCheck
from aitbc.audit.rented import Rented, read_booking
from aitbc.core.canonical import encode, loads_strict
from aitbc.core.log.leaf import (
    BITCOIN_CREDIT,
    BOOKING,
    DELEGATION,
    KINDS,
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
from aitbc.core.transfer_ids import BITCOIN

_NUMBERS = {kind.type: number for number, kind in KINDS.items()}
_PLACES = {number: place for place, number in enumerate(KINDS)}
_TYPE = re.compile(r"aitbc/[a-z][a-z0-9-]{0,31}/v[1-9][0-9]{0,3}", re.ASCII)
_UNITS = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_VALUE = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_OF_A_RECEIPT = 4  # numbers that are kept of one whose fee is not explained yet


class _Ballot(NamedTuple):
    """A kind of governance: how its entry is read, written again, and taken."""

    read: Callable[[dict[str, Any]], tuple[Any, ...]]
    leaf: Callable[..., bytes]
    take: Callable[..., None]


def _read_event(document: dict[str, Any]) -> tuple[Any, ...]:
    body = encode(document["body"]).decode()
    return (*_texts(document, "id", "event"), _time(document), *_texts(document, "by"), body)


def _read_vote(document: dict[str, Any]) -> tuple[Any, ...]:
    units = document["power_units"]
    if not isinstance(units, str) or _UNITS.fullmatch(units) is None:
        raise ValueError("power_units is not a decimal integer")
    return (*_texts(document, "id", "account", "by", "choice"), int(units), _time(document))


def _read_delegation(document: dict[str, Any]) -> tuple[Any, ...]:
    return (*_texts(document, "id", "delegator", "delegate"), _time(document))


def _texts(document: dict[str, Any], *names: str) -> tuple[str, ...]:
    found = tuple(document[name] for name in names)
    if any(type(text) is not str for text in found):
        raise ValueError("a member is not a string")
    return found


def _time(document: dict[str, Any]) -> int:
    at_ms = document["at_ms"]
    if type(at_ms) is not int:
        raise ValueError("at_ms is not an integer")
    return at_ms


BALLOTS = {
    PROPOSAL: _Ballot(_read_event, proposal_leaf, Ballots.event),
    VOTE: _Ballot(_read_vote, vote_leaf, Ballots.vote),
    DELEGATION: _Ballot(_read_delegation, delegation_leaf, Ballots.delegation),
}
"""What decides is held to its own rules; with how much power is for those who have the ledger by accounts."""


class Entries:
    """Takes the entries one by one.

    `seen`: how many were of each kind, in the order of `KINDS`, then of all others. `unrented`: payments for bookings
    that were not there at the end.
    """

    def __init__(self, receipts: ReceiptCheck, report: Report) -> None:
        self.books = Books()
        self.bitcoin = BitcoinBooks()
        self.paid = Paid()
        self.unrented = 0
        self._rented = Rented()
        self.ballots = Ballots()
        self.seen = [0] * (len(KINDS) + 1)
        self._receipts = receipts
        self._report = report
        self._history = History(unknown=0)
        self._newest_ms = 0
        # What was set before parameters had a history comes later in the log than what was done under it.
        self._unexplained = array("q")

    def take(self, index: int, data: bytes) -> None:
        """One leaf's bytes. Raises Wrong."""
        try:
            document = loads_strict(data)
            kind = document.get("type") if isinstance(document, dict) else None
            number = _NUMBERS.get(kind) if isinstance(kind, str) else None
            if number is None and not (isinstance(kind, str) and _TYPE.fullmatch(kind)):
                raise Wrong("leaf", index, f"its type is {str(kind)[:64]!r}")
            if number == TRANSFER:
                line = _read_transfer(document)
                same = transfer_leaf(*line) == data
            elif number == RECEIPT:
                body, signature = data[8 : data.rindex(b',"signature":')].decode(), document["signature"]
                same = receipt_leaf(body, signature["key_id"], signature["sig"]) == data
            elif number == PARAMETER:
                change = _read_change(document)
                same = parameter_leaf(*change) == data
            elif number == BOOKING:
                booking = read_booking(document)
                same = booking_leaf(*booking) == data
            elif number == BITCOIN_CREDIT:
                credit = _read_credit(document)
                same = bitcoin_credit_leaf(*credit) == data
            elif number in BALLOTS:
                values = BALLOTS[number].read(document)
                same = BALLOTS[number].leaf(*values) == data
            else:  # what it does, others know
                same = encode(document) == data
        except (KeyError, TypeError, ValueError) as error:
            raise Wrong("leaf", index, f"it cannot be read: {error}") from None
        if not same:
            raise Wrong("leaf", index, "it is not in canonical form")
        self.seen[-1 if number is None else _PLACES[number]] += 1
        self._report.count("others" if number is None else KINDS[number].name)
        if number == TRANSFER:
            self._newest_ms = line.created_at_ms
            self.books.apply(line)
            if BITCOIN.fits(line.id):
                self.bitcoin.move(line)
            self._settled(self.books.settled())
        elif number == RECEIPT:
            receipt_id = str(document["body"].get("receipt_id"))
            fields = self._receipts.check(receipt_id, body, signature["key_id"], signature["sig"])
            self.paid.issued(fields)
            self._hold_to_history(index, fields.started_at * 1000, fields.price_units, fields.fee_units)
        elif number == PARAMETER:
            self._history.take(change)
        elif number == BITCOIN_CREDIT:
            self.bitcoin.take(credit)
        elif number in BALLOTS:
            BALLOTS[number].take(self.ballots, *values)
        elif number == BOOKING:
            self._rented.ended(booking)

    def _settled(self, ended: list[Settlement]) -> None:
        """Holds were settled: of bookings, or of jobs."""
        self.paid.settled([one for one in ended if not self._rented.settled(one)])

    def _hold_to_history(self, index: int, started_at_ms: int, price_units: int, fee_units: int) -> None:
        if not explains(self._history.around(FEE, started_at_ms), price_units, fee_units):
            self._unexplained.extend((index, started_at_ms, price_units, fee_units))

    def close(self) -> None:
        """After the last entry. Raises Wrong."""
        self._settled(self.books.settled(all_of_them=True))
        self.unrented = self._rented.close(whole=False)
        self.paid.close(self._newest_ms)
        for at in range(0, len(self._unexplained), _OF_A_RECEIPT):
            index, started_at_ms, price_units, fee_units = self._unexplained[at : at + _OF_A_RECEIPT]
            shares = self._history.around(FEE, started_at_ms)
            if not explains(shares, price_units, fee_units):
                what = f"the receipt's fee of {fee_units} units is not {listed(shares)} basis points of its price"
                raise Wrong("leaf", index, what)
        self.books.close()
        self.bitcoin.close()
        if self._history.unknown:
            self._report.not_checked.append(
                f"{self._history.unknown} changes of parameters that are not known here, but for their order"
            )


def _read_transfer(document: dict[str, Any]) -> Line:
    units = document["amount_units"]
    if not isinstance(units, str) or _UNITS.fullmatch(units) is None:
        raise ValueError("amount_units is not a decimal integer")
    texts = {name: document[name] for name in ("id", "kind", "debit", "credit", "ref")}
    hold_id, created_at_ms = document["hold_id"], document["created_at_ms"]
    if any(type(text) is not str for text in texts.values()) or not isinstance(hold_id, str | None):
        raise ValueError("a member is not a string")
    if type(created_at_ms) is not int:
        raise ValueError("created_at_ms is not an integer")
    return Line(**texts, amount_units=int(units), hold_id=hold_id, created_at_ms=created_at_ms)


def _read_credit(document: dict[str, Any]) -> Entry:
    numbers = {}
    for name in ("sat", "rate_units", "units", "short_units"):
        if not isinstance(document[name], str) or _UNITS.fullmatch(document[name]) is None:
            raise ValueError(f"{name} is not a decimal integer")
        numbers[name] = int(document[name])
    texts = {name: document[name] for name in ("id", "kind", "outpoint", "block_hash")}
    texts |= {"topup_id": document["topup"], "account_id": document["account"]}
    whole = {name: document[name] for name in ("block_height", "created_at_ms")}
    if any(type(text) is not str for text in texts.values()) or any(
        type(n) is not int for n in whole.values()
    ):
        raise ValueError("a member is of another type")
    known: dict[str, Any] = {**texts, **numbers, **whole}
    return Entry(**known)


def _read_change(document: dict[str, Any]) -> Change:
    before, after = document["value_before"], document["value_after"]
    for value in (after, *(() if before is None else (before,))):
        if not isinstance(value, str) or _VALUE.fullmatch(value) is None:
            raise ValueError("a value is not a decimal integer")
    known = {name: document[name] for name in Change._fields}
    return Change(
        **known | {"value_before": None if before is None else int(before), "value_after": int(after)}
    )
