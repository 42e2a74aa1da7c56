"""`benchmarks.chain` measures a log that is real."""

from pathlib import Path

from aitbc.coordinator.database import Database
from benchmarks import chain
from benchmarks.processes import CHAIN_ID
from tests.coordinator.chain.logs import Published
from tests.support.flows import CHAIN


def test_the_filled_log_is_sound_and_every_figure_is_measured(memory_folder: Path) -> None:
    assert CHAIN_ID == CHAIN
    found = chain.measure(memory_folder, large=1300, rounds=1, count=20)
    assert found.keys() == {target.name for target in chain.TARGETS}
    assert all(value > 0 for value in found.values())
    database = Database.open(f"sqlite:///{memory_folder / 'chain1.db'}")
    try:
        sound = Published(database, chain.KEY).look()
    finally:
        database.close()
    assert len(sound.hashes) == 1300 + 3 * chain.NEW_LEAVES
