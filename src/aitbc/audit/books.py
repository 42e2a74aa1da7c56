"""Balances and holds, recomputed transfer by transfer in the order of the log.

A hold comes before what settles it, because that was made in a later transaction. So only the holds that are
open need to be remembered, and memory does not grow with the history (about 200 bytes an account).
"""

from __future__ import annotations

from typing import NamedTuple

from aitbc.audit.findings import Wrong

MINT = "system:mint"
TREASURY = "system:treasury"
ESCROW = "system:escrow"
FEES_AWAITED = 20_000
"""Posts that are kept until their fee may have come. It comes in the same transaction, so soon after; on
PostgreSQL the transfers of other transactions may stand between."""


class Line(NamedTuple):
    """A transfer, as a row or a leaf states it."""

    id: str
    kind: str
    debit: str
    credit: str
    amount_units: int
    hold_id: str | None
    ref: str
    created_at_ms: int


class Settlement:
    """How a hold ended: what was paid out of it, to whom, and the fee."""

    __slots__ = (
        "credit",
        "end_id",
        "fee_units",
        "hold_id",
        "kind",
        "paid_units",
        "payer",
        "ref",
        "room_units",
    )

    def __init__(self, line: Line, held_units: int) -> None:
        self.end_id = line.id
        self.hold_id = line.hold_id or ""
        self.kind = line.kind
        self.payer = line.debit
        self.credit = line.credit
        self.ref = line.ref
        self.paid_units = line.amount_units if line.kind == "post" else 0
        self.fee_units = 0
        self.room_units = held_units - line.amount_units  # what a fee may still take

    @property
    def total_units(self) -> int:
        """What the payer paid: to the miner, and as the fee."""
        return self.paid_units + self.fee_units


class Books:
    """Applies transfers one after the other. `balances` and `held` are by account, in base units."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.transfers = 0
        self._open: dict[str, tuple[str, int]] = {}  # holds: account, units
        self._posted: dict[str, Settlement] = {}  # by hold, oldest first
        self._done: list[Settlement] = []

    def apply(self, line: Line) -> None:
        """Raises Wrong where the ledger's rules do not allow this transfer."""
        self.transfers += 1
        if type(line.amount_units) is not int or line.amount_units < 0:
            raise Wrong("transfer", line.id, "its amount is not a number of base units")
        kind = line.kind
        if (kind in ("post", "fee", "void")) != (line.hold_id is not None):
            raise Wrong("transfer", line.id, f"a {kind} that names a hold, or names none")
        if kind == "hold":
            self._hold(line)
        elif kind == "post":
            self._post(line)
        elif kind == "fee":
            self._fee(line)
        elif kind == "void":
            self._void(line)
        elif kind in ("mint", "transfer"):
            if kind == "mint" and line.debit != MINT:
                raise Wrong("transfer", line.id, f"a mint by {line.debit}")
            self._move(line)
        else:
            raise Wrong("transfer", line.id, f"its kind is {kind!r}")

    def settled(self, *, all_of_them: bool = False) -> list[Settlement]:
        """The settlements that are complete; each is given out once. `all_of_them`: no transfer follows."""
        spare = len(self._posted) if all_of_them else len(self._posted) - FEES_AWAITED
        for _ in range(max(0, spare)):
            hold_id = next(iter(self._posted))
            self._done.append(self._posted.pop(hold_id))
        done, self._done = self._done, []
        return done

    @property
    def open_holds(self) -> dict[str, tuple[str, int]]:
        """Account and base units of each hold that nothing has settled, by its id; a copy."""
        return dict(self._open)

    def close(self) -> None:
        """At the end of the log. Raises Wrong where an account has less than nothing, or than is held."""
        if total := sum(self.balances.values()):
            raise Wrong("ledger", "sum", f"all balances add up to {total} units instead of 0")
        for account, units in self.balances.items():
            if account != MINT and units < self.held.get(account, 0):
                what = f"{self.held.get(account, 0)} units are held of a balance of {units}"
                raise Wrong("account", account, what)
        for account, units in self.held.items():
            if units and account != MINT and account not in self.balances:
                raise Wrong("account", account, f"{units} units are held of a balance of 0")

    def _move(self, line: Line) -> None:
        balances = self.balances
        balances[line.debit] = balances.get(line.debit, 0) - line.amount_units
        balances[line.credit] = balances.get(line.credit, 0) + line.amount_units

    def _hold(self, line: Line) -> None:
        if line.credit != ESCROW:
            raise Wrong("transfer", line.id, f"a hold on the side of {line.credit}")
        if line.id in self._open or line.id in self._posted:
            raise Wrong("transfer", line.id, "the same hold stands in the log twice")
        self._open[line.id] = (line.debit, line.amount_units)
        self.held[line.debit] = self.held.get(line.debit, 0) + line.amount_units

    def _end(self, line: Line) -> int:
        """Takes the hold that the line ends out of the open ones; how much it held."""
        held = self._open.pop(line.hold_id or "", None)
        if held is None:
            what = f"it settles hold {line.hold_id}, which is not open: it never was, or was settled before"
            raise Wrong("transfer", line.id, what)
        account, units = held
        if account != line.debit:
            raise Wrong("transfer", line.id, f"it settles a hold of {account} for {line.debit}")
        self.held[account] -= units
        return units

    def _post(self, line: Line) -> None:
        units = self._end(line)
        if line.amount_units > units:
            raise Wrong("transfer", line.id, f"it pays {line.amount_units} units out of {units} held")
        self._posted[line.hold_id or ""] = Settlement(line, units)
        self._move(line)

    def _fee(self, line: Line) -> None:
        post = self._posted.get(line.hold_id or "")
        if post is None:
            raise Wrong(
                "transfer", line.id, f"a fee on hold {line.hold_id}, of which nothing was paid just now"
            )
        if post.payer != line.debit or post.ref != line.ref:
            raise Wrong("transfer", line.id, "a fee for another payer or purpose than its hold's")
        if line.credit != TREASURY:
            raise Wrong("transfer", line.id, f"a fee to {line.credit}")
        if line.amount_units > post.room_units:
            raise Wrong("transfer", line.id, "payment and fee are more than was held")
        post.room_units -= line.amount_units
        post.fee_units += line.amount_units
        self._move(line)

    def _void(self, line: Line) -> None:
        if line.credit != ESCROW:
            raise Wrong("transfer", line.id, f"a void on the side of {line.credit}")
        units = self._end(line)
        if line.amount_units != units:
            raise Wrong("transfer", line.id, f"it frees {line.amount_units} units of {units} held")
        self._done.append(Settlement(line, units))
