"""A wallet's user together with the account of the same id."""

from typing import NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import UserNotFound
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.service import Balance
from aitbc.coordinator.users import service as users
from aitbc.coordinator.users.service import UserRow


class Profile(NamedTuple):
    """Who it is, and its money."""

    user: UserRow
    money: Balance


def profile(tx: Tx, user_id: str) -> Profile:
    """Raises UserNotFound."""
    user = users.get(tx, user_id)
    if user is None:
        raise UserNotFound(user_id=user_id)
    return Profile(user, ledger.balance(tx, user_id))
