"""A miner's session: what tells its registration from a later one, of another machine, under the same id."""

import secrets

from aitbc.coordinator.errors import MinerSessionReplaced
from aitbc.coordinator.miners.rows import MinerRow, MinerSpec

SESSION_BYTES = 18


def is_same_machine(known: MinerRow, spec: MinerSpec) -> bool:
    """Whether a registration may be of the machine that is registered: as far as both say, key and machine agree.

    Its own session proves it: so a miner's installation may change, as when its host is renamed. Its key not.
    """
    if spec.public_key != known.public_key:
        return False
    if spec.session_id and spec.session_id == known.session_id:
        return True
    return not (spec.installation_id and known.installation_id) or (
        spec.installation_id == known.installation_id
    )


def after(known: MinerRow | None, spec: MinerSpec) -> str:
    """The session that a registration gets: the one before, where it surely is the same machine's."""
    if known is not None and known.session_id and is_same_machine(known, spec):
        restarted = spec.installation_id and spec.installation_id == known.installation_id
        if restarted or spec.session_id == known.session_id:
            return known.session_id
    return secrets.token_urlsafe(SESSION_BYTES)


def hold(miner: MinerRow, session_id: str | None) -> None:
    """Raises MinerSessionReplaced where the caller's session is no longer the miner's. None: it names none."""
    if session_id is not None and session_id != miner.session_id:
        raise MinerSessionReplaced(miner_id=miner.id)
