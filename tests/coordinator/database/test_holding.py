"""What PostgreSQL's calls hold back: read by whoever needs it, undone where it fails, never committed by half."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg
from sqlalchemy import bindparam, text, update

from aitbc.coordinator.database import Database, Tx, statement
from aitbc.coordinator.database.holding import HoldingTx
from aitbc.coordinator.database.pipe import Pipe
from aitbc.coordinator.errors import AitbcError, InsufficientFunds, InvalidRequest, StorageUnavailable
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import Account
from aitbc.coordinator.ledger.service import Hold
from aitbc.core.transfer_ids import REASON
from tests.coordinator.database.accounts import opens
from tests.coordinator.database.groups import end_backend, own_pid, shared, trips_of
from tests.support.flows import in_loop
from tests.support.transfers import id_of, job_of, names_of

pytestmark = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)

_accounts: Any = Account.__table__  # type: ignore[attr-defined]
WHY = REASON.of("to have some")
NAMES = ("m1", *(f"h{number}" for number in range(10)), *(f"h{number:02}" for number in range(50)))
RAISE = statement(
    update(_accounts)
    .where(_accounts.c.id == bindparam("key"))
    .values(balance_units=_accounts.c.balance_units + bindparam("units"))
)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups take all calls that wait, however slow this machine is at the moment."""
    monkeypatch.setattr("aitbc.coordinator.database.groups.BATCH_S", 0.3)


@pytest.fixture(autouse=True)
def accounts(db: Database) -> None:
    def prepare(tx: Tx) -> None:
        ledger.open_system_accounts(tx)
        ledger.open_account(tx, "a")
        ledger.open_account(tx, "b")
        ledger.mint(tx, id_of("m1"), "a", 100, WHY)

    db.write_sync(prepare)


class Runs:
    """How often calls ran, and how: holding back or plainly."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.hooks: list[str] = []

    def call(self, fn: Callable[..., Any], name: str = "") -> Callable[..., Any]:
        def run(tx: Tx, *args: Any) -> Any:
            self.kinds.append(name + ("held" if isinstance(tx, HoldingTx) else "plain"))
            tx.after_commit(self.hooks.append, name)
            return fn(tx, *args)

        return run


def holds(tx: Tx, name: str, account: str = "a", units: int = 10) -> str:
    ledger.hold(tx, Hold(id_of(name), account, units, job_of()))
    return name


def raises(tx: Tx, account: str, units: int = 1) -> int:
    return tx.expect(RAISE, key=account, units=units)


def rows(db: Database, sql: str) -> list[tuple[Any, ...]]:
    """Read by a connection of its own, for databases that are closed already."""
    with psycopg.connect(db.backend.url) as connection:  # type: ignore[union-attr]
        return connection.execute(sql.encode()).fetchall()


def balance(db: Database) -> tuple[int, int]:
    found = rows(db, "SELECT balance_units, held_units FROM accounts WHERE id = 'a'")[0]
    return found[0], found[1]


def transfers(db: Database) -> list[str]:
    return names_of((row[0] for row in rows(db, "SELECT id FROM transfers")), *NAMES)


def leaves(db: Database) -> list[str]:
    return names_of((row[0] for row in rows(db, "SELECT ref_id FROM leaves")), *NAMES)


def names(db: Database) -> set[str]:
    return {row[0] for row in rows(db, "SELECT id FROM accounts")}


def together(db: Database, *calls: Callable[[Tx], Any]) -> list[Any]:
    return in_loop(db, shared(db, *calls))


# --- one call ---------------------------------------------------------------------------------------------


def test_a_call_that_only_writes_is_one_round_trip(db: Database) -> None:
    assert trips_of(db, holds, "h1")[1] == 1
    assert balance(db) == (100, 10)
    assert transfers(db) == leaves(db) == ["h1", "m1"]


def test_what_reads_sees_what_was_held_back(db: Database) -> None:
    def reads(tx: Tx) -> list[tuple[int, int]]:
        found = []
        for number in range(3):
            holds(tx, f"h{number}")
            now = ledger.balance(tx, "a")
            found.append((now.balance_units, now.held_units))
        return found

    runs = Runs()
    assert db.write_sync(runs.call(reads)) == [(100, 10), (100, 20), (100, 30)]
    assert runs.kinds == ["held"]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (lambda tx: tx.query(text("SELECT balance_units FROM accounts WHERE id = 'a'"))[0][0], 101),
        (lambda tx: tx.one(ledger.SELECT_ACCOUNT, key="a").balance_units, 101),
        (lambda tx: tx.all(ledger.SELECT_ACCOUNT, key="a")[0].balance_units, 101),
        (lambda tx: tx.change(text("UPDATE accounts SET held_units = 1 WHERE balance_units = 101")), 1),
        (lambda tx: tx.run(ledger.DEBIT, key="a", units=101), 1),
    ],
    ids=["query", "one", "all", "change", "run"],
)
def test_every_kind_of_statement_sends_it_first(db: Database, how: Any, wanted: int) -> None:
    def call(tx: Tx) -> int:
        raises(tx, "a")
        return int(how(tx))

    assert db.write_sync(call) == wanted


def test_a_conflict_at_the_end_runs_the_call_again_plainly(db: Database) -> None:
    """The same answer as ever: what the flow makes of a guard that found no row."""
    runs = Runs()
    with pytest.raises(InsufficientFunds):
        db.write_sync(runs.call(holds), "h1", "a", 1000)
    assert runs.kinds == ["held", "plain"]
    assert not runs.hooks
    assert balance(db) == (100, 0)
    assert transfers(db) == leaves(db) == ["m1"]


def test_a_conflict_at_a_read_does_so_too(db: Database) -> None:
    def reads_after(tx: Tx) -> int:
        holds(tx, "h1", "a", 1000)
        return ledger.balance(tx, "a").held_units

    runs = Runs()
    with pytest.raises(InsufficientFunds):
        db.write_sync(runs.call(reads_after))
    assert runs.kinds == ["held", "plain"]


def test_a_row_that_stood_already_is_found_by_the_plain_run(db: Database) -> None:
    def again(tx: Tx) -> bool:
        return ledger.mint(tx, id_of("m1"), "a", 100, WHY)

    runs = Runs()
    assert db.write_sync(runs.call(again)) is False
    assert runs.kinds == ["held", "plain"]
    assert len(runs.hooks) == 1
    assert balance(db) == (100, 0)


def test_a_constraint_that_is_broken_is_raised_as_ever(db: Database) -> None:
    runs = Runs()
    with pytest.raises(pg.CheckViolation):
        db.write_sync(runs.call(raises), "a", -1000)
    assert runs.kinds == ["held", "plain"]


@pytest.mark.parametrize("key", ["nobody", "%"])
def test_a_count_that_is_not_one_is_never_committed(db: Database, key: str) -> None:
    """Nobody looks at what the flow was told: without the plain run's answer nothing of it stands."""

    def careless(tx: Tx) -> int:
        holds(tx, "h1")
        return raises(tx, key)

    runs = Runs()
    assert db.write_sync(runs.call(careless)) == 0, "the plain run said that nothing was there"
    assert runs.kinds == ["held", "plain"]


def test_two_rows_are_as_wrong_as_none(db: Database) -> None:
    every = statement(update(_accounts).values(balance_units=_accounts.c.balance_units + bindparam("units")))

    def call(tx: Tx) -> int:
        return tx.expect(every, units=0)

    runs = Runs()
    assert db.write_sync(runs.call(call)) > 2
    assert runs.kinds == ["held", "plain"]


def test_an_error_of_the_call_leaves_nothing_behind(db: Database) -> None:
    def fails(tx: Tx) -> None:
        holds(tx, "h1")
        raise InvalidRequest("no")

    runs = Runs()
    with pytest.raises(InvalidRequest):
        db.write_sync(runs.call(fails))
    assert runs.kinds == ["held"]
    assert db.write_sync(holds, "h2") == "h2"
    assert transfers(db) == ["h2", "m1"]


def test_text_that_postgresql_cannot_keep_is_refused_where_it_was_given(db: Database) -> None:
    with pytest.raises(psycopg.DataError):
        db.write_sync(holds, "h1", "a\0")
    assert transfers(db) == ["m1"]


def test_a_savepoint_holds_nothing_back(db: Database) -> None:
    def call(tx: Tx) -> str:
        holds(tx, "h1")
        try:
            with tx.savepoint():
                holds(tx, "h2", "a", 1000)
        except InsufficientFunds as error:
            return error.code
        return ""

    runs = Runs()
    assert db.write_sync(runs.call(call)) == InsufficientFunds.code
    assert runs.kinds == ["held"]
    assert transfers(db) == ["h1", "m1"]


@pytest.mark.parametrize("count", [3, 40])
def test_items_of_a_batch_hold_back_until_its_end(db: Database, count: int) -> None:
    def batch(tx: Tx, last: int) -> list[str | AitbcError]:
        holds(tx, "before")
        units = [1] * (count - 1) + [last]
        return tx.each(list(enumerate(units)), lambda one: holds(tx, f"h{one[0]:02}", "a", one[1]))

    runs = Runs()
    done = db.write_sync(runs.call(batch), 1000)
    assert [type(one) for one in done] == [*[str] * (count - 1), InsufficientFunds]
    assert runs.kinds == ["held"], "the batch alone is run again, not the call"
    assert balance(db) == (100, 10 + count - 1)
    assert len(transfers(db)) == 1 + 1 + count - 1


def test_a_batch_of_many_rows_is_whole(db: Database) -> None:
    wanted = [f"h{number:02}" for number in range(50)]
    assert db.write_sync(lambda tx: tx.each(wanted, lambda one: holds(tx, one, "a", 1))) == wanted
    assert transfers(db) == leaves(db) == [*wanted, "m1"]
    assert balance(db) == (100, 50)


# --- several calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 2, 4])
def test_one_that_meets_a_conflict_does_not_disturb_the_others(db: Database, place: int) -> None:
    runs = Runs()
    good = [runs.call(lambda tx, n=n: holds(tx, f"h{n}", "a", 1), f"{n} ") for n in range(4)]
    bad = runs.call(lambda tx: holds(tx, "no", "a", 1000), "bad ")
    calls = [*good[:place], bad, *good[place:]]
    found = together(db, *calls)
    assert [type(one) for one in found] == [InsufficientFunds if call is bad else str for call in calls]
    assert transfers(db) == ["h0", "h1", "h2", "h3", "m1"]
    assert balance(db) == (100, 4)
    assert [kind for kind in runs.kinds if kind.endswith("plain")] == ["bad plain"]


def test_a_conflict_found_by_the_next_call_is_the_earlier_ones(db: Database) -> None:
    """Its rows travel with the next call's read, which starts afresh and sees nothing of them."""
    runs = Runs()

    def reads(tx: Tx) -> int:
        return ledger.balance(tx, "a").held_units

    bad = runs.call(lambda tx: holds(tx, "no", "a", 1000), "bad ")
    found = together(db, runs.call(reads, "1 "), bad, runs.call(reads, "2 "))
    assert [type(one) for one in found] == [int, InsufficientFunds, int]
    assert runs.kinds == ["1 held", "bad held", "2 held", "bad plain", "2 held"]
    assert sorted(runs.hooks) == ["1 ", "2 "]


def test_calls_that_all_meet_conflicts_hear_so_each(db: Database) -> None:
    found = together(db, *(lambda tx, n=n: holds(tx, f"h{n}", "a", 1000 + n) for n in range(5)))
    assert [type(one) for one in found] == [InsufficientFunds] * 5
    assert transfers(db) == ["m1"]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 2, 1)])
def test_a_call_that_failed_after_it_wrote_is_undone_by_itself(db: Database, order: tuple[int, ...]) -> None:
    runs = Runs()

    def wrote(tx: Tx) -> None:
        opens(tx, "late")
        holds(tx, "late")
        raise InvalidRequest("no")

    calls = [
        runs.call(lambda tx: opens(tx, "x"), "x "),
        runs.call(wrote, "bad "),
        runs.call(lambda tx: holds(tx, "h1"), "h "),
    ]
    found = together(db, *(calls[number] for number in order))
    assert [type(one) for one in found] == [InvalidRequest if number == 1 else str for number in order]
    assert sorted(runs.kinds) == ["bad held", "h held", "x held"]
    assert sorted(runs.hooks) == ["h ", "x "]
    assert "late" not in names(db)
    assert "x" in names(db)
    assert transfers(db) == ["h1", "m1"]


def test_calls_that_wrote_nothing_end_without_a_commit(db: Database) -> None:
    sent: list[str] = []
    execute = Pipe.execute

    def watched(self: Pipe, sql: str, values: Any = (), /) -> Pipe:
        sent.append(sql)
        return execute(self, sql, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipe, "execute", watched)
        found = together(db, lambda tx: ledger.balance(tx, "a").held_units, lambda tx: 5)
    assert found == [0, 5]
    assert "COMMIT" not in sent


# --- failures on the way ----------------------------------------------------------------------------------


class Broken:
    """Makes the trip that carries `word` fail, before or after it; the connection is lost with it."""

    def __init__(self, patch: pytest.MonkeyPatch, word: str, error: Exception, *, after: bool) -> None:
        self.fired = 0
        trip = Pipe._trip

        def breaks(pipe: Pipe) -> Any:
            hit = not self.fired and any(word in one.sql for one in pipe._queue)
            if not hit:
                return trip(pipe)
            self.fired += 1
            if after:
                trip(pipe)
            pipe.close()
            raise error

        patch.setattr(Pipe, "_trip", breaks)


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_lost_with_the_commit_is_never_tried_again(
    db: Database, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """What was held back went with the COMMIT: nobody knows whether both were done."""
    runs = Runs()
    broken = Broken(monkeypatch, "COMMIT", psycopg.OperationalError("lost"), after=after)
    with pytest.raises(StorageUnavailable):
        db.write_sync(runs.call(holds), "h1")
    assert broken.fired == 1
    assert runs.kinds == ["held"]
    assert transfers(db) == (["h1", "m1"] if after else ["m1"])
    assert balance(db) == (100, 10 if after else 0)


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_lost_with_rows_before_the_commit_is_tried_again(
    db: Database, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    runs = Runs()

    def call(tx: Tx) -> int:
        holds(tx, "h1")
        return ledger.balance(tx, "a").held_units

    broken = Broken(monkeypatch, "INTO transfers", psycopg.OperationalError("lost"), after=after)
    assert db.write_sync(runs.call(call)) == 10
    assert broken.fired == 1
    assert runs.kinds == ["held", "held"]
    assert transfers(db) == leaves(db) == ["h1", "m1"]


def test_a_server_that_ends_the_connection_between_rows_and_commit(db: Database, database_url: str) -> None:
    """Unknown, so 503: a call that is acknowledged is there, one that is not may be."""
    cut: list[int] = []

    def call(tx: Tx) -> None:
        holds(tx, "h1")
        end_backend(database_url, own_pid(tx))
        cut.append(1)
        holds(tx, "h2")

    with pytest.raises(StorageUnavailable):
        db.write_sync(call)
    assert len(cut) == 1
    assert transfers(db) == ["m1"]


@pytest.mark.parametrize("after", [False, True])
def test_a_group_whose_connection_is_lost_between_its_calls(
    db: Database, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    def call(tx: Tx, name: str) -> int:
        found = ledger.balance(tx, "a").held_units
        holds(tx, name, "a", 1)
        return found

    broken = Broken(monkeypatch, "SAVEPOINT call", psycopg.OperationalError("lost"), after=after)
    found = together(db, *(lambda tx, n=n: call(tx, f"h{n}") for n in range(4)))
    assert broken.fired == 1
    assert len(found) == 4
    assert transfers(db) == ["h0", "h1", "h2", "h3", "m1"]
    assert balance(db) == (100, 4)


def test_a_conflict_that_the_database_sees_is_tried_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs()
    trip = Pipe._trip
    fired: list[int] = []

    def deadlocks(pipe: Pipe) -> Any:
        if not fired and any("INTO transfers" in one.sql for one in pipe._queue):
            fired.append(1)
            pipe.drop()
            raise pg.DeadlockDetected("again")
        return trip(pipe)

    monkeypatch.setattr(Pipe, "_trip", deadlocks)
    assert db.write_sync(runs.call(holds), "h1") == "h1"
    assert runs.kinds == ["held", "held"]
    assert len(runs.hooks) == 1
    assert transfers(db) == ["h1", "m1"]


def test_statements_that_the_server_forgot_are_prepared_again(db: Database) -> None:
    assert db.write_sync(holds, "h1") == "h1"
    db.write_sync(lambda tx: tx.change(text("DEALLOCATE ALL")))
    assert db.write_sync(holds, "h2") == "h2"
    assert transfers(db) == ["h1", "h2", "m1"]


# --- questions that are asked ahead -----------------------------------------------------------------------


def asks(tx: Tx, write: Callable[[Tx], Any] | None = None) -> tuple[list[Any], int]:
    """Both balances, the second asked ahead, with a change between; and how many round trips they took."""
    pipe = tx._cursor
    assert isinstance(pipe, Pipe)
    before = pipe.trips
    tx.ahead(ledger.SELECT_ACCOUNT, key="b")
    tx.ahead(ledger.SELECT_ACCOUNT, key="nobody")
    found = [tx.one(ledger.SELECT_ACCOUNT, key="a").balance_units]
    if write is not None:
        write(tx)
    found += [
        tx.one(ledger.SELECT_ACCOUNT, key="b").balance_units,
        tx.all(ledger.SELECT_ACCOUNT, key="nobody"),
    ]
    return found, pipe.trips - before


def test_what_is_asked_ahead_travels_along(db: Database) -> None:
    assert db.write_sync(asks) == ([100, 0, []], 1)


@pytest.mark.parametrize(
    "write",
    [
        lambda tx: raises(tx, "b", 5),
        lambda tx: tx.run(RAISE, key="b", units=5),
        lambda tx: tx.change(text("UPDATE accounts SET balance_units = 5 WHERE id = 'b'")),
    ],
    ids=["held", "run", "change"],
)
def test_what_was_asked_before_a_change_is_asked_again(db: Database, write: Any) -> None:
    assert db.write_sync(asks, write)[0] == [100, 5, []]


def test_an_answer_is_used_once(db: Database, database_url: str) -> None:
    def call(tx: Tx) -> list[int]:
        tx.ahead(ledger.SELECT_ACCOUNT, key="b")
        tx.one(ledger.SELECT_ACCOUNT, key="a")
        found = [tx.one(ledger.SELECT_ACCOUNT, key="b").held_units]
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("UPDATE accounts SET balance_units = 3, held_units = 3 WHERE id = 'b'")
        return [*found, tx.one(ledger.SELECT_ACCOUNT, key="b").held_units]

    assert db.write_sync(call) == [0, 3]


def test_what_is_asked_ahead_and_never_used_harms_nobody(db: Database) -> None:
    def call(tx: Tx) -> None:
        holds(tx, "h1")
        tx.ahead(ledger.SELECT_ACCOUNT, key="a")

    db.write_sync(call)
    assert transfers(db) == ["h1", "m1"]


def test_what_is_prepared_has_a_bound(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that depend on the request would fill the server's memory."""
    monkeypatch.setattr("aitbc.coordinator.database.pipe.MOST_PREPARED", 10)
    asked = "SELECT count(*) AS count FROM pg_prepared_statements"

    def look(tx: Tx, number: int) -> int:
        assert tx.query(text(f"SELECT {number} AS number"))[0].number == number
        return int(tx.query(text(asked))[0].count)

    def write(tx: Tx, number: int) -> None:
        ledger.hold(tx, Hold(id_of(f"hold {number}"), "a", 1, job_of()))
        look(tx, number)

    for number in range(40):
        db.write_sync(write, number)
        assert db.read_sync(look, number) <= 20
    assert db.read_sync(ledger.balance, "a").held_units == 40
