"""Credits of Bitcoin outputs, recomputed: each from its output and rate, and each with its one transfer."""

from __future__ import annotations

from typing import NamedTuple

from aitbc.audit.books import MINT, Line
from aitbc.audit.findings import Wrong
from aitbc.core.bitcoin import CREDITED, ENTRY, REVERSED, units_of
from aitbc.core.transfer_ids import BITCOIN, TOPUP


class Entry(NamedTuple):
    """A credit or reversal, as a row or a leaf states it."""

    id: str
    kind: str
    outpoint: str
    topup_id: str
    account_id: str
    sat: int
    rate_units: int
    units: int
    short_units: int
    block_height: int
    block_hash: str
    created_at_ms: int


class Standing(NamedTuple):
    """What the entries of an output come to: how many there were, and what is with the account."""

    events: int
    units: int
    last: Entry


class BitcoinBooks:
    """Takes the entries in the order of the log, each after its transfer."""

    def __init__(self) -> None:
        self.outputs: dict[str, Standing] = {}
        self._transfers: dict[str, Line] = {}

    def move(self, line: Line) -> None:
        """A transfer that bears an output's name."""
        if line.id in self._transfers:
            raise Wrong("transfer", line.id, "it stands in the log twice")
        self._transfers[line.id] = line

    def take(self, entry: Entry) -> None:
        """Raises Wrong where the output and its rate do not come to this, or the transfer moved something else."""
        before = self.outputs.get(entry.outpoint)
        events = 0 if before is None else before.events
        standing = 0 if before is None else before.units
        name = entry.outpoint if events == 0 else f"{entry.outpoint}:{events}"
        if entry.id != f"{ENTRY}{BITCOIN.prefix}{name}" or not BITCOIN.fits(BITCOIN.prefix + name):
            raise Wrong(
                "bitcoin_credit", entry.id, f"its output had {events} credits and reversals before it"
            )
        if entry.kind != (REVERSED if events % 2 else CREDITED):
            raise Wrong(
                "bitcoin_credit", entry.id, f"it is a {entry.kind}, after {events} credits and reversals"
            )
        if before is not None:
            _check_same(before.last, entry)
        if entry.kind == CREDITED:
            whole = units_of(entry.sat, entry.rate_units)
            if (entry.units, entry.short_units) != (whole - standing, 0):
                raise Wrong(
                    "bitcoin_credit", entry.id, f"{entry.sat} satoshi are {whole} units, {standing} stood"
                )
            standing = whole
        else:
            if entry.units + entry.short_units != standing:
                raise Wrong("bitcoin_credit", entry.id, f"{standing} units were to be taken back")
            standing = entry.short_units
        self._check_transfer(entry)
        self.outputs[entry.outpoint] = Standing(events + 1, standing, entry)

    def close(self) -> None:
        """At the end of the log. Raises Wrong where money moved in an output's name without an entry."""
        for line in self._transfers.values():
            raise Wrong("transfer", line.id, "the log does not say which bitcoin output it is for")

    def _check_transfer(self, entry: Entry) -> None:
        line = self._transfers.pop(entry.id.removeprefix(ENTRY), None)
        if line is None:
            raise Wrong("bitcoin_credit", entry.id, "nothing was moved for it")
        ref = TOPUP.prefix + entry.topup_id
        if entry.kind == CREDITED:
            meant = ("mint", MINT, entry.account_id, entry.units, ref, entry.created_at_ms)
        else:
            meant = ("transfer", entry.account_id, MINT, entry.units, ref, entry.created_at_ms)
        moved = (line.kind, line.debit, line.credit, line.amount_units, line.ref, line.created_at_ms)
        if moved != meant:
            raise Wrong("transfer", line.id, "it moved something else than its bitcoin output is worth")


def _check_same(last: Entry, entry: Entry) -> None:
    """What is the same in all entries of an output; a reversal has its credit's block."""
    same = ("topup_id", "account_id", "sat", "rate_units")
    if entry.kind == REVERSED:
        same += ("block_height", "block_hash")  # type: ignore[assignment]
    for field in same:
        if getattr(entry, field) != getattr(last, field):
            raise Wrong("bitcoin_credit", entry.id, f"its {field} is another than in {last.id}")
