"""Which network a database or a coordinator is, held to its genesis block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from aitbc.audit.findings import Wrong
from aitbc.core.canonical import loads_strict
from aitbc.core.log.block import NO_HASH, BlockHeader, genesis, origin_of
from aitbc.core.log.note import Verifier
from aitbc.core.network import Founding, FoundingInvalid, old_network_id


class Network(NamedTuple):
    """What the network's founding comes to: `genesis` is its block 0, `network_id` (hex) what transfers name."""

    chain_id: str
    network_id: str
    origin: str
    genesis: BlockHeader
    first_log_key: bytes


def stored_network(rows: Sequence[Any], chain_id: str, log_keys: Sequence[bytes]) -> Network:
    """The network of a database's rows. `log_keys` are all that are listed, the oldest first. Raises Wrong."""
    if not rows:  # nothing has begun; a block would be one too many (`blocks.Chain`)
        return Network(chain_id, "", origin_of(chain_id), genesis(chain_id), b"")
    if len(rows) > 1:
        raise Wrong("network", chain_id, f"the database is of {len(rows)} networks")
    row = rows[0]
    if not log_keys:
        raise Wrong("network", chain_id, "no signing key is listed")
    if row.chain_id != chain_id:
        raise Wrong("network", row.chain_id, f"the settings name {chain_id}")
    if row.founding:
        network = founded(loads_strict(row.founding.encode()), chain_id)
    else:
        network = Network(
            chain_id,
            old_network_id(chain_id, log_keys[0]),
            origin_of(chain_id),
            genesis(chain_id),
            log_keys[0],
        )
    if row.origin != network.origin:
        raise Wrong("network", chain_id, f"its log's origin is not {network.origin}")
    if row.network_id != network.network_id:
        raise Wrong("network", chain_id, "its id does not follow from its founding")
    if network.first_log_key not in log_keys:
        raise Wrong("network", chain_id, "the key that its log was founded with is not listed")
    return network


def founded(document: object, chain_id: str) -> Network:
    """The network of a founding's document. Raises Wrong."""
    try:
        founding = Founding.from_json(document)
    except FoundingInvalid as error:
        raise Wrong("network", chain_id, f"its founding: {error}") from None
    if founding.chain_id != chain_id:
        raise Wrong("network", founding.chain_id, f"it is not {chain_id}")
    first = genesis(chain_id, founding.hash)
    return Network(
        chain_id, first.hash, founding.origin, first, Verifier.parse(founding.log_key).public_bytes
    )


def is_old(header: BlockHeader) -> bool:
    """Whether a genesis block is from before foundings."""
    return header.previous_hash == NO_HASH
