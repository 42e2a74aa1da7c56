"""Whether receipts were paid, as far as the log alone tells."""

from __future__ import annotations

from collections.abc import Iterable

from aitbc.audit.books import Settlement
from aitbc.audit.findings import Wrong
from aitbc.core.receipt import ReceiptFields


class Paid:
    """Pairs receipts with what was paid for their jobs, in whatever order the log has the two.

    What waits for its other half is remembered: unpaid receipts, which are few, and payments out of holds
    that were for no job.
    """

    def __init__(self) -> None:
        self._receipts: dict[str, tuple[str, str, str, int, int]] = {}  # by job
        self._ended: dict[str, Settlement] = {}  # by job
        self.partial = 0

    @property
    def unpaid(self) -> int:
        """Receipts whose price was not paid, or only in part: payments that their payers steer by hand."""
        return len(self._receipts) + self.partial

    def issued(self, fields: ReceiptFields) -> None:
        """A receipt stands in the log. Raises Wrong."""
        if fields.job_id in self._receipts:
            raise Wrong("receipt", fields.receipt_id, f"job {fields.job_id} has another receipt")
        ended = self._ended.pop(fields.job_id, None)
        stated = (fields.receipt_id, fields.client, fields.provider, fields.price_units, fields.fee_units)
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
            elif ended.total_units:
                self._ended[ended.ref] = ended

    def _compare(self, stated: tuple[str, str, str, int, int], ended: Settlement) -> None:
        receipt_id, client, provider, price_units, fee_units = stated
        if ended.payer != client:
            raise Wrong("receipt", receipt_id, f"it names {client} as client, and {ended.payer} paid")
        if ended.kind == "void" or ended.total_units < price_units:
            self.partial += 1  # given back, whole or in part
        if ended.kind == "void":
            return
        if ended.total_units > price_units or ended.fee_units > fee_units:
            what = f"{ended.total_units} units with a fee of {ended.fee_units} were paid"
            raise Wrong("receipt", receipt_id, f"{what}, its price is {price_units} with {fee_units}")
        if ended.credit != provider:
            raise Wrong(
                "receipt", receipt_id, f"it names {provider} as provider, and {ended.credit} was paid"
            )
