"""A database from before networks had ids: its log keeps its origin, and its id is its own."""

import hashlib

import rfc8785
import sqlalchemy as sa
from alembic import command

from aitbc.coordinator.chain import founding, network
from aitbc.coordinator.database import Database
from aitbc.coordinator.schema import migrate
from aitbc.core.log.block import genesis
from aitbc.core.network import old_network_id
from aitbc.core.signing import PrivateKey, public_to_text, vkey

OLD, NEW = PrivateKey.from_seed(b"\x01" * 32), PrivateKey.from_seed(b"\x02" * 32)
CHAIN = "my-net"


def old_database(url: str, *keys: tuple[PrivateKey, int, str], chain_id: str = CHAIN) -> None:
    """As the version before left it: a genesis block, and keys named by the network."""
    first = genesis(chain_id)
    with migrate.open_connection(url, write=True) as connection:
        command.upgrade(migrate.alembic_config(connection), "0009")
        connection.execute(
            sa.text(
                f"INSERT INTO blocks VALUES (0, '{first.hash}', '{first.previous_hash}', {first.time_ms}, 0, 0,"
                f" '{first.root}', 0, 0, 0, 0, '', '', '')"
            )
        )
        for key, at_ms, name in keys:
            connection.execute(
                sa.text("INSERT INTO signing_keys VALUES (:id, :public, :vkey, :at, NULL)"),
                {
                    "id": key.key_id,
                    "public": public_to_text(key.public_bytes),
                    "vkey": vkey(name, key.public_bytes),
                    "at": at_ms,
                },
            )
    migrate.ensure_current(url, auto=True)


def network_of(url: str) -> network.NetworkRow | None:
    database = Database.open(url)
    try:
        return database.read_sync(network.read)
    finally:
        database.close()


def test_it_keeps_its_origin_and_gets_an_id_of_its_own(empty_database_url: str) -> None:
    # The second key was published under another CHAIN_ID, by mistake: the genesis block decides.
    old_database(empty_database_url, (NEW, 5, "aitbc/another"), (OLD, 3, f"aitbc/{CHAIN}"))
    found = network_of(empty_database_url)
    stated = {
        "version": "aitbc/old-network/v1",
        "genesis_hash": genesis(CHAIN).hash,
        "log_key": public_to_text(OLD.public_bytes),
    }
    expected = hashlib.sha256(rfc8785.dumps(stated)).hexdigest()
    assert found == network.NetworkRow(1, expected, CHAIN, f"aitbc/{CHAIN}", "")
    assert old_network_id(CHAIN, OLD.public_bytes) == expected != old_network_id(CHAIN, NEW.public_bytes)
    database = Database.open(empty_database_url)
    try:
        assert database.write_sync(founding.ensure, CHAIN, NEW, "https://example.com/log") == found
    finally:
        database.close()


def test_without_its_key_the_next_start_writes_the_row(empty_database_url: str) -> None:
    old_database(empty_database_url)
    assert network_of(empty_database_url) is None
    database = Database.open(empty_database_url)
    try:
        made = database.write_sync(founding.ensure, CHAIN, OLD, "https://example.com/log")
    finally:
        database.close()
    assert (made.network_id, made.origin) == (old_network_id(CHAIN, OLD.public_bytes), f"aitbc/{CHAIN}")
