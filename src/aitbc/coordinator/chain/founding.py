"""Founding a network: its id, the log's origin and the genesis block, once for each database."""

import secrets

from aitbc.coordinator.chain import network, sealer
from aitbc.coordinator.chain.network import NetworkRow
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import WrongNetwork
from aitbc.core.log.block import genesis, origin_of
from aitbc.core.log.note import Verifier
from aitbc.core.network import SALT_BYTES, Founding, new_origin, old_network_id
from aitbc.core.signing import PrivateKey


def ensure(
    tx: Tx, chain_id: str, key: PrivateKey, log_url: str = "", first_log_key: bytes | None = None
) -> NetworkRow:
    """The network of this database, which is founded where there is none.

    `key` signs the log; `log_url` is the URL prefix that a new log is served under, '' where nobody else can
    reach it; `first_log_key` is the first key that was ever published here, which old networks are told apart by.
    Raises WrongNetwork where the database is another network's than `chain_id`.
    """
    block = sealer.block_zero(tx)  # first: who sees another coordinator's block sees its network, too
    found = network.read(tx)
    if found is None:
        if block is None:
            found, founding_hash = _new(chain_id, key, log_url)
            sealer.write_genesis(tx, genesis(chain_id, founding_hash))
        elif block.hash == genesis(chain_id).hash:
            found = _old(chain_id, first_log_key or key.public_bytes)
        else:
            raise WrongNetwork(database="of another name", configured=chain_id)
        if not network.keep(tx, found):  # of two coordinators that start at once, one founds it
            found = network.of(tx)
    if found.chain_id != chain_id:
        raise WrongNetwork(database=found.chain_id, configured=chain_id)
    return found


def _new(chain_id: str, key: PrivateKey, log_url: str) -> tuple[NetworkRow, str]:
    salt = secrets.token_hex(SALT_BYTES)
    origin = new_origin(chain_id, salt, log_url)
    made = Founding(chain_id, origin, Verifier(origin, key.public_bytes).vkey, salt)
    return NetworkRow(1, made.network_id, chain_id, origin, made.encode().decode()), made.hash


def _old(chain_id: str, first_log_key: bytes) -> NetworkRow:
    """From before foundings: all of one name share one genesis block and one origin."""
    return NetworkRow(1, old_network_id(chain_id, first_log_key), chain_id, origin_of(chain_id), "")
