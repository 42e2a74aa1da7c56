"""Whether receipts were paid, as far as the log alone tells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aitbc.audit.books import Settlement
from aitbc.audit.findings import Wrong
from aitbc.core.clock import rfc3339
from aitbc.core.receipt import ReceiptFields
from aitbc.core.transfer_ids import PROPOSAL

LATE_S = 86_400
"""How long after its time a manual payment may be released: coordinators are down now and then."""


class Stated(NamedTuple):
    """What a receipt says about its payment. `payment` is '' where it does not say how (version 1)."""

    receipt_id: str
    client: str
    provider: str
    price_units: int
    fee_units: int
    payment: str
    release_after: int | None


class Paid:
    """Pairs receipts with what was paid for their jobs, in whatever order the log has the two.

    An automatic payment stands in the log with its receipt, exactly as the receipt says: `price` less `fee` to the
    provider, `fee` to the treasury. One by hand comes later, in full, in part or not at all. What waits for its
    other half is remembered: unpaid receipts, which are few, and payments out of holds that were for no job.
    """

    def __init__(self) -> None:
        self._receipts: dict[str, Stated] = {}  # by job
        self._ended: dict[str, Settlement] = {}  # by job
        self.partial = 0

    @property
    def unpaid(self) -> int:
        """Receipts whose price was not paid, or only in part: payments that their payers steer by hand."""
        return len(self._receipts) + self.partial

    @property
    def without_receipt(self) -> int:
        """Payments out of a job's hold that no receipt stands for."""
        return len(self._ended)

    def issued(self, fields: ReceiptFields) -> None:
        """A receipt stands in the log. Raises Wrong."""
        if fields.job_id in self._receipts:
            raise Wrong("receipt", fields.receipt_id, f"job {fields.job_id} has another receipt")
        stated = Stated(
            fields.receipt_id,
            fields.client,
            fields.provider,
            fields.price_units,
            fields.fee_units,
            fields.payment,
            fields.release_after,
        )
        ended = self._ended.pop(fields.job_id, None)
        if ended is not None:
            self._compare(stated, ended)
        elif fields.price_units:
            self._receipts[fields.job_id] = stated

    def settled(self, settlements: Iterable[Settlement]) -> None:
        """Holds were settled. Raises Wrong."""
        for ended in settlements:
            stated = self._receipts.pop(ended.ref, None)
            if stated is not None:
                self._compare(stated, ended)
            elif ended.total_units and not PROPOSAL.fits(ended.ref):
                self._ended[ended.ref] = ended

    def close(self, newest_ms: int) -> None:
        """The log ends here, its last transfer is of `newest_ms`. Raises Wrong where a promise was not kept."""
        for stated in self._receipts.values():
            if stated.payment == "auto":
                what = f"its price of {stated.price_units} units was to be paid with it, and nothing was"
                raise Wrong("receipt", stated.receipt_id, what)
            after = stated.release_after
            if after is not None and newest_ms > (after + LATE_S) * 1000:
                what = f"its payment was to be released by itself at {rfc3339(after * 1000)}, and was not"
                raise Wrong("receipt", stated.receipt_id, what)

    def _compare(self, stated: Stated, ended: Settlement) -> None:
        receipt_id, price_units, fee_units = stated.receipt_id, stated.price_units, stated.fee_units
        if ended.payer != stated.client:
            what = f"it names {stated.client} as client, and {ended.payer} paid"
            raise Wrong("receipt", receipt_id, what)
        paid = f"{ended.total_units} units with a fee of {ended.fee_units} were paid"
        said = f"its price is {price_units} with {fee_units}"
        full = ended.kind == "post" and (ended.total_units, ended.fee_units) == (price_units, fee_units)
        if stated.payment == "auto" and not full:
            raise Wrong("receipt", receipt_id, f"{paid}, {said}, to be paid with it")
        if not full:
            self.partial += 1  # given back, whole or in part
        if ended.kind == "void":
            return
        # Of a part the fee is the same part, rounded down.
        if ended.total_units > price_units or ended.fee_units > fee_units:
            raise Wrong("receipt", receipt_id, f"{paid}, {said}")
        if stated.payment and ended.fee_units != fee_units * ended.total_units // max(1, price_units):
            raise Wrong("receipt", receipt_id, f"{paid}, {said}: the fee is not its part")
        if ended.credit != stated.provider:
            what = f"it names {stated.provider} as provider, and {ended.credit} was paid"
            raise Wrong("receipt", receipt_id, what)
