"""What a transfer of the ledger is called, and what it was for: each form of an id and of a reference, declared once.

The ledger takes nothing else (`TransferId`, `Reference`: texts that only come from here), and the audit names what has
none of these forms. A new kind is a declaration here and its entry in `IDS` or `REFERENCES`. The texts are in signed
leaves, so a form once used is never changed. They say nothing of the order: that is by time, and then by the log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from aitbc.core.ids import UUID_V7, new_id

TransferId = NewType("TransferId", str)
Reference = NewType("Reference", str)

MAX_ID_CHARS = 128
"""The most that any id has: the next page is asked for by it."""
MINER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
ACCOUNT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
ACCOUNT_NAME_SAYS = "An account's name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit."
MAX_REASON_CHARS = 200


@dataclass(frozen=True, slots=True)
class _Form:
    """`prefix` and, behind it, what `rest` matches whole, in transfers of these `kinds`.

    `rest` has a bound of its own. `says`: the rule in words, for whoever broke it.
    """

    prefix: str
    rest: re.Pattern[str]
    kinds: frozenset[str]
    says: str

    def fits(self, text: str) -> bool:
        return text.startswith(self.prefix) and self.rest.fullmatch(text, len(self.prefix)) is not None

    def may_be(self, kind: str, text: str) -> bool:
        """Whether a transfer of this kind may bear this text as of this form."""
        return kind in self.kinds and self.fits(text)

    def _made(self, rest: str) -> str:
        if self.rest.fullmatch(rest) is None:
            raise ValueError(self.says)
        return self.prefix + rest


class IdForm(_Form):
    """A form of ids. Those with a prefix are *named ids*: they say of what, which can so happen only once."""

    __slots__ = ()

    def of(self, rest: str) -> TransferId:
        """The id. ValueError: `rest` does not fit, with what the form `says`."""
        return TransferId(self._made(rest))


class ReferenceForm(_Form):
    """A form of references: what money is moved or held for."""

    __slots__ = ()

    def of(self, rest: str) -> Reference:
        """The reference. ValueError: `rest` does not fit, with what the form `says`."""
        return Reference(self._made(rest))


_MINT = frozenset({"mint"})
_WALLETS = frozenset({"transfer"})
_HOLDING = frozenset({"hold", "post", "fee", "void"})
_HEX_64 = re.compile(r"[0-9a-f]{64}", re.ASCII)

TIMED = IdForm("", UUID_V7, _MINT | _WALLETS | _HOLDING, "An id is a UUID of version 7.")
GRANT = IdForm("grant:", ACCOUNT_NAME, _MINT, ACCOUNT_NAME_SAYS)
MINTED = IdForm(
    "minted:",
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII),
    _MINT,
    "A reference is 1 to 64 of A-Z a-z 0-9 . _ : - and begins with a letter or digit.",
)
BITCOIN = IdForm(
    "btc:",
    re.compile(r"[0-9a-f]{64}:[0-9]{1,10}(?::[1-9][0-9]{0,8})?", re.ASCII),
    _MINT | _WALLETS,
    "A bitcoin output is TXID:INDEX, with the number of its credit or reversal behind it but for the first.",
)
PROPOSAL_SAYS = "A proposal's id is a UUID of version 7."
ALLOCATED = IdForm("allocated:", UUID_V7, _WALLETS, PROPOSAL_SAYS)
IDS = {"timed": TIMED, "grant": GRANT, "minted": MINTED, "bitcoin": BITCOIN, "allocated": ALLOCATED}
"""Every form that an id has: a time; and what happens once by its name, a grant, an operator's own number, a credit of
a bitcoin output and its reversal, what a proposal took out of the treasury."""

JOB = ReferenceForm("", UUID_V7, _HOLDING, "A job's id is a UUID of version 7.")
DEPOSIT = ReferenceForm(
    "deposit of miner ",
    MINER_ID,
    frozenset({"hold", "void"}),
    "A miner's id is 1 to 64 of A-Z a-z 0-9 . _ -",
)
BOOKED = ReferenceForm("booking ", UUID_V7, _HOLDING, "A booking's id is a UUID of version 7.")
PROPOSAL = ReferenceForm("proposal ", UUID_V7, frozenset({"hold", "post", "void", "transfer"}), PROPOSAL_SAYS)
SIGNED = ReferenceForm("", _HEX_64, _WALLETS, "A signed transaction's hash is 64 hex digits.")
SIGNED_FEE = ReferenceForm("fee:", _HEX_64, _WALLETS, SIGNED.says)
REASON = ReferenceForm(
    "",
    re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_REASON_CHARS}}}"),
    _MINT,
    f"A reason has 1 to {MAX_REASON_CHARS} characters; everybody can read it.",
)
TOPUP = ReferenceForm("topup:", UUID_V7, _MINT | _WALLETS, "A top-up's id is a UUID of version 7.")
REFERENCES = {
    "job": JOB,
    "deposit": DEPOSIT,
    "booking": BOOKED,
    "proposal": PROPOSAL,
    "signed": SIGNED,
    "signed_fee": SIGNED_FEE,
    "topup": TOPUP,
    "reason": REASON,
}
"""Every form that a reference has: a job, a miner, a booking, a proposal (its deposit, and what it allots), what a
wallet signed and the fee of that, a top-up with Bitcoin; and why money is made."""

GRANTED = REASON.of("devnet grant")


def new_transfer_id(now_ms: int) -> TransferId:
    """A new id of a time, as `new_id` makes them."""
    return TransferId(new_id(now_ms))


def stored_id(text: str) -> TransferId:
    """The id that a stored text is. ValueError: it is none."""
    for form in IDS.values():
        if form.fits(text):
            return TransferId(text)
    raise ValueError("not the id of a transfer")


def id_form(kind: str, text: str) -> IdForm | None:
    """The form that this id has; None where no transfer of this kind has such a one."""
    for form in IDS.values():
        if form.may_be(kind, text):
            return form
    return None


def reference_form(kind: str, text: str) -> ReferenceForm | None:
    """The form that this reference has; None where no transfer of this kind has such a one."""
    for form in REFERENCES.values():
        if form.may_be(kind, text):
            return form
    return None
