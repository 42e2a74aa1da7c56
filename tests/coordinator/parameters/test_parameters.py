"""The network's parameters: defaults within bounds, and nothing outside them is ever taken."""

import pytest

from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.parameters.service import DEFINITIONS


def test_every_default_is_within_its_bounds() -> None:
    for name, definition in DEFINITIONS.items():
        assert definition.low <= definition.default <= definition.high, name
        assert definition.high < 2**63, f"{name} must fit its column"


@pytest.mark.parametrize("name", DEFINITIONS)
def test_both_bounds_are_taken_and_nothing_beyond_them(db: Database, name: str) -> None:
    low, high = DEFINITIONS[name].low, DEFINITIONS[name].high
    for value in (low, high, DEFINITIONS[name].default):
        db.write_sync(parameters.set_value, name, value)
        assert db.read_sync(parameters.get, name) == value
        assert db.read_sync(parameters.usual, name) == value
    for value in (low - 1, high + 1, -(2**62), 2**62):
        if low <= value <= high:
            continue
        with pytest.raises(InvalidRequest):
            db.write_sync(parameters.set_value, name, value)
        assert db.read_sync(parameters.get, name) == DEFINITIONS[name].default


def test_an_unknown_parameter_is_refused(db: Database) -> None:
    with pytest.raises(InvalidRequest):
        db.write_sync(parameters.set_value, "no_such_parameter", 1)
    assert {name: db.read_sync(parameters.get, name) for name in DEFINITIONS} == {
        name: d.default for name, d in DEFINITIONS.items()
    }
