"""How long a miner was here, and how long it was missing, read off its heartbeats.

Time between two signs of life counts as here. A miner that fell silent is missing from when that was noticed until it
is heard of again, counted in time in which a coordinator ran: an outage is nobody's fault. Who deregistered has said
that it goes, and is not missing.
"""

from typing import Any

from sqlalchemy import BigInteger, and_, bindparam, case, literal_column

from aitbc.coordinator.chain import counters
from aitbc.coordinator.database import Tx
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.miners.models import Miner
from aitbc.coordinator.miners.rows import MinerRow

MEMORY_MS = 30 * 86_400_000
"""Once so much is known, half of it is forgotten: what was long ago counts less."""
LONGEST_GAP_MS = 300_000
"""Signs of life further apart, of a miner that did not lapse, say nothing: nobody looked meanwhile."""

_m: Any = table_of(Miner).c
_seen: Any = bindparam("seen")
_ran: Any = bindparam("ran")
_known = _m.up_ms + _m.away_ms >= literal_column(str(MEMORY_MS))
_gap = _seen - _m.last_heartbeat_ms
_here = and_(
    _m.status != literal_column("'inactive'"),
    _gap > literal_column("0"),
    _gap <= literal_column(str(LONGEST_GAP_MS)),
)
_missing = and_(
    _m.status == literal_column("'inactive'"),
    _m.deregistered == literal_column("0"),
    _m.lapsed_at_ms > literal_column("0"),
    _ran > _m.lapsed_at_ms,
)
_up = case((_here, _m.up_ms + _gap), else_=_m.up_ms)
_away = case((_missing, _m.away_ms + _ran - _m.lapsed_at_ms), else_=_m.away_ms)

HEARD: dict[str, Any] = {
    "up_ms": case((_known, _up // literal_column("2", BigInteger)), else_=_up),
    "away_ms": case((_known, _away // literal_column("2", BigInteger)), else_=_away),
    "lapsed_at_ms": literal_column("0"),
}
"""What an UPDATE that notes a sign of life sets besides: parameters `seen` (ms) and `ran` (`ran_ms`)."""


def ran_ms(tx: Tx, miner: MinerRow | None) -> int:
    """How long coordinators have run, where that is needed: for a miner that comes back; else 0."""
    return counters.read(tx, counters.RAN).value if miner is not None and miner.status == "inactive" else 0


def away_now_ms(tx: Tx, miner: MinerRow) -> int:
    """How long it has been missing all told, this moment's silence included."""
    if miner.status != "inactive" or miner.deregistered or not miner.lapsed_at_ms:
        return miner.away_ms
    return miner.away_ms + max(0, counters.read(tx, counters.RAN).value - miner.lapsed_at_ms)
