"""Whether a credential that was good when its request came in still is: for what waits, and what leases."""

from collections.abc import Iterable

from aitbc.coordinator.api_keys import service as accounts
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import CredentialEnded
from aitbc.coordinator.users import service as users


def require(tx: Tx, principal: Principal) -> None:
    """In the transaction that gives something out. Raises CredentialEnded for a key that has ended meanwhile."""
    if principal.secret_hash and not accounts.is_good(tx, principal):
        raise CredentialEnded()


def ended(tx: Tx, principals: Iterable[Principal]) -> set[Principal]:
    """Those whose key or session was revoked, rotated away or has expired. Static keys never are."""
    found = set(principals)
    sessions = {one for one in found if one.role == "user"}
    keys = {one for one in found if one.secret_hash}
    good = users.open_sessions(tx, [one.key_id for one in sessions])
    return {one for one in sessions if one.key_id not in good} | accounts.ended(tx, keys)
