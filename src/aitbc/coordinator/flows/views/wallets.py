"""What the chain says of an address: what it has, which transfer's turn it is, and what one costs."""

from typing import NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import AccountNotFound
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.users import service as users
from aitbc.core.wallet.address import canonical_address, looks_like_address


class Wallet(NamedTuple):
    """`nonce` is that of its last transfer, 0 before the first."""

    account: str
    balance_units: int
    nonce: int
    min_fee_units: int


def wallet(tx: Tx, address: str) -> Wallet:
    """A wallet, with nothing where nobody ever paid it, or any other account.

    Raises AccountNotFound; AddressInvalid for what looks like an address and has a wrong checksum.
    """
    is_wallet = looks_like_address(address)
    account = canonical_address(address) if is_wallet else address
    try:
        units = ledger.balance(tx, account).balance_units
    except AccountNotFound:
        if not is_wallet:
            raise
        units = 0
    user = users.get(tx, account)
    nonce = 0 if user is None else user.nonce
    return Wallet(account, units, nonce, parameters.get(tx, "min_transaction_fee"))
