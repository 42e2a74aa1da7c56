"""What is hardly ever so is taken for granted at first, and asked in time: the same answers as ever."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import bindparam, select, text

from aitbc.coordinator.database import Database, Tx, statement
from aitbc.coordinator.database.holding import HoldingTx
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import Account
from aitbc.coordinator.ledger.service import Hold
from aitbc.core.transfer_ids import REASON
from tests.coordinator.database.accounts import names, opens
from tests.coordinator.database.groups import shared, trips_of
from tests.support.flows import in_loop
from tests.support.transfers import id_of, job_of

_accounts: Any = Account.__table__  # type: ignore[attr-defined]
NAMED = statement(select(_accounts.c.id).where(_accounts.c.id == bindparam("name")))
POSTGRESQL = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def accounts(db: Database) -> None:
    def prepare(tx: Tx) -> None:
        ledger.open_system_accounts(tx)
        for name in ("a", "taken"):
            ledger.open_account(tx, name)
        ledger.mint(tx, id_of("m1"), "a", 100, REASON.of("to have some"))

    db.write_sync(prepare)


def held_of(name: str, units: int = 1) -> Hold:
    return Hold(id_of(name), "a", units, job_of())


def holds_unless(tx: Tx, name: str, hold_id: str = "h1") -> str:
    """Holds something unless an account of this name stands."""
    if not tx.none(NAMED, name=name):
        raise InvalidRequest("it stands")
    ledger.hold(tx, held_of(hold_id, 10))
    return hold_id


def held(db: Database) -> int:
    return db.read_sync(ledger.balance, "a").held_units


class Kinds:
    """How calls were run: holding back or plainly."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def call(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def run(tx: Tx, *args: Any) -> Any:
            self.kinds.append("held" if isinstance(tx, HoldingTx) else "plain")
            return fn(tx, *args)

        return run


def test_what_is_not_there_is_not_found(db: Database) -> None:
    assert db.write_sync(holds_unless, "nobody") == "h1"
    assert held(db) == 10


def test_what_is_there_is_found_and_nothing_of_the_guess_stays(db: Database) -> None:
    with pytest.raises(InvalidRequest):
        db.write_sync(holds_unless, "taken")
    assert held(db) == 0


def test_a_call_that_only_reads_hears_what_is_so(db: Database) -> None:
    assert db.write_sync(lambda tx: tx.none(NAMED, name="taken")) is False
    assert db.write_sync(lambda tx: tx.none(NAMED, name="nobody")) is True
    assert db.read_sync(lambda tx: tx.none(NAMED, name="taken")) is False


def test_in_a_savepoint_it_is_asked_at_once(db: Database) -> None:
    def call(tx: Tx) -> list[bool]:
        with tx.savepoint():
            return [tx.none(NAMED, name=name) for name in ("taken", "nobody")]

    assert db.write_sync(call) == [False, True]


def test_items_are_run_by_themselves_where_it_was_wrong(db: Database) -> None:
    def call(tx: Tx) -> list[Any]:
        return tx.each(["x", "taken", "y"], lambda name: holds_unless(tx, name, f"h-{name}"))

    done = db.write_sync(call)
    assert [done[0], done[2]] == ["h-x", "h-y"]
    assert isinstance(done[1], InvalidRequest)
    assert held(db) == 20


@POSTGRESQL
def test_it_costs_no_round_trip(db: Database) -> None:
    assert trips_of(db, holds_unless, "nobody")[1] == 1


@POSTGRESQL
def test_only_a_wrong_guess_runs_the_call_again(db: Database) -> None:
    kinds = Kinds()
    db.write_sync(kinds.call(holds_unless), "nobody")
    assert kinds.kinds == ["held"]
    with pytest.raises(InvalidRequest):
        db.write_sync(kinds.call(holds_unless), "taken", "h2")
    assert kinds.kinds == ["held", "held", "plain"]


@POSTGRESQL
@pytest.mark.parametrize("reads", [False, True], ids=["unsent", "sent"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_after_a_guess_is_the_one_that_the_facts_lead_to(
    db: Database, place: int, reads: bool
) -> None:
    """A call that failed by what it took for granted is run again; its neighbours feel nothing of it."""
    kinds = Kinds()

    def mistaken(tx: Tx) -> None:
        if not tx.none(NAMED, name="taken"):
            raise InvalidRequest("it stands")
        if reads:
            ledger.hold(tx, held_of("h9", 10))
            ledger.balance(tx, "a")
        raise RuntimeError("this cannot be")

    calls: list[Callable[[Tx], Any]] = [lambda tx: opens(tx, "b"), lambda tx: opens(tx, "c")]
    calls.insert(place, kinds.call(mistaken))
    done = in_loop(db, shared(db, *calls))
    assert isinstance(done.pop(place), InvalidRequest)
    assert done == ["b", "c"]
    assert kinds.kinds == ["held", "plain"]
    check = Database.open(db.backend.url, db.clock)  # type: ignore[union-attr]
    try:
        assert {"b", "c"} <= names(check)
        assert held(check) == 0
    finally:
        check.close()


@POSTGRESQL
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_wrong_guess_among_others_is_undone_alone(db: Database, place: int) -> None:
    calls: list[Callable[[Tx], Any]] = [
        lambda tx: holds_unless(tx, "x", "h-x"),
        lambda tx: holds_unless(tx, "y", "h-y"),
    ]
    calls.insert(place, lambda tx: holds_unless(tx, "taken", "h-z"))
    done = in_loop(db, shared(db, *calls))
    assert isinstance(done.pop(place), InvalidRequest)
    assert done == ["h-x", "h-y"]
    check = Database.open(db.backend.url, db.clock)  # type: ignore[union-attr]
    try:
        assert held(check) == 20
    finally:
        check.close()


@POSTGRESQL
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 16, 31, 40])
def test_rows_of_one_table_are_few_statements_and_all_there(db: Database, count: int) -> None:
    def call(tx: Tx) -> None:
        for number in range(count):
            ledger.hold(tx, held_of(f"n{number:02}"))

    db.write_sync(call)
    assert held(db) == count
    found = db.read_sync(lambda tx: [ledger.line(tx, id_of(f"n{number:02}")) for number in range(count)])
    assert [row.amount_units for row in found] == [1] * count


@POSTGRESQL
def test_one_of_several_rows_that_stood_already_is_found_by_the_plain_run(db: Database) -> None:
    db.write_sync(ledger.hold, held_of("n2"))
    kinds = Kinds()

    def call(tx: Tx) -> list[bool]:
        return [ledger.hold(tx, held_of(f"n{number}")) for number in range(4)]

    assert db.write_sync(kinds.call(call)) == [True, True, False, True]
    assert kinds.kinds == ["held", "plain"]
    assert held(db) == 4


@POSTGRESQL
def test_only_connections_that_write_plan_without_reading_whole_tables(db: Database) -> None:
    def setting(tx: Tx) -> str:
        return str(tx.query(text("SELECT current_setting('enable_seqscan') AS it"))[0].it)

    async def both() -> list[str]:
        return [await db.write(setting), await db.read(setting)]

    assert in_loop(db, both()) == ["off", "on"]
