"""Accounts, transfers and holds: what each does, what each refuses, and that a refusal changes nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import AccountNotFound, AitbcError, InsufficientFunds, TransferConflict
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import ESCROW, MINT, TREASURY
from aitbc.coordinator.ledger.service import Balance, Hold, Payout
from aitbc.core.ids import id_time_ms
from aitbc.core.money import MAX_UNITS
from aitbc.core.transfer_ids import REASON
from tests.support.flows import check_books
from tests.support.transfers import id_of, job_of, signed_of


def hold_of(name: str, account: str, units: int, job: str = "job") -> Hold:
    return Hold(id_of(name), account, units, job_of(job))


class Books:
    """The ledger, one transaction for each call."""

    def __init__(self, db: Database) -> None:
        self.db = db
        db.write_sync(ledger.open_system_accounts)
        for name in ("alice", "bob"):
            db.write_sync(ledger.open_account, name)
        self.mint("grant", "alice", 1000)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.db.write_sync(getattr(ledger, name), *args, **kwargs)

    def mint(self, name: str, account: str, units: int, ref: str = "why") -> Any:
        return self.db.write_sync(ledger.mint, id_of(name), account, units, REASON.of(ref))

    def transfer(self, name: str, debit: str, credit: str, units: int, ref: str = "rent") -> Any:
        return self.db.write_sync(ledger.transfer, id_of(name), debit, credit, units, ref=signed_of(ref))

    def hold(self, name: str, account: str, units: int, job: str = "job") -> Any:
        return self.db.write_sync(ledger.hold, hold_of(name, account, units, job))

    def void(self, name: str, account: str, units: int, job: str = "job") -> Any:
        return self.db.write_sync(ledger.void, hold_of(name, account, units, job))

    def post(self, name: str, account: str, units: int, payouts: list[Payout], job: str = "job") -> Any:
        return self.db.write_sync(ledger.post, hold_of(name, account, units, job), payouts)

    def units(self, *accounts: str) -> list[tuple[int, int]]:
        """(balance, held) of each account."""
        found = [self.balance(account) for account in accounts]
        return [(one.balance_units, one.held_units) for one in found]

    def lines(self) -> list[tuple[str, ...]]:
        """(kind, debit, credit, units) of every transfer, in order."""
        rows = self.db.read_sync(
            lambda tx: tx.query(
                text("SELECT kind, debit_id, credit_id, amount_units FROM transfers ORDER BY id")
            )
        )
        return sorted(tuple(row) for row in rows)

    def check(self) -> None:
        check_books(self.db)

    def refuses(self, error: type[AitbcError], act: Callable[[], Any]) -> AitbcError:
        """The call raises `error` and nothing has changed."""
        before = self.units("alice", "bob", MINT, TREASURY, ESCROW), self.lines()
        with pytest.raises(error) as raised:
            act()
        assert (self.units("alice", "bob", MINT, TREASURY, ESCROW), self.lines()) == before
        self.check()
        return raised.value


@pytest.fixture
def books(db: Database) -> Books:
    return Books(db)


def test_accounts_open_once(books: Books) -> None:
    assert books.open_account("carol") is True
    assert books.open_account("carol") is False
    assert books.balance("carol") == Balance("carol", 0, 0)
    with pytest.raises(AccountNotFound):
        books.balance("nobody")


def test_minted_money_is_owed_by_the_mint(books: Books) -> None:
    assert books.units("alice", MINT) == [(1000, 0), (-1000, 0)]
    assert books.mint("grant", "alice", 1000) is False
    assert books.units("alice", MINT) == [(1000, 0), (-1000, 0)]
    books.check()


def test_a_transfer_moves_what_is_available(books: Books) -> None:
    assert books.transfer("t1", "alice", "bob", 300) is True
    assert books.units("alice", "bob") == [(700, 0), (300, 0)]
    assert books.transfer("t2", "bob", "alice", 300) is True
    assert books.transfer("t3", "alice", "alice", 1000) is True
    assert books.transfer("t4", "alice", "bob", 0) is True
    assert books.units("alice", "bob") == [(1000, 0), (0, 0)]
    books.check()


def test_a_transfer_is_done_once_by_its_id(books: Books) -> None:
    assert books.transfer("t", "alice", "bob", 300, ref="rent") is True
    assert books.transfer("t", "alice", "bob", 300, ref="rent") is False
    assert books.units("alice", "bob") == [(700, 0), (300, 0)]
    for other in (
        lambda: books.transfer("t", "alice", "bob", 301, ref="rent"),
        lambda: books.transfer("t", "bob", "alice", 300, ref="rent"),
        lambda: books.transfer("t", "alice", "bob", 300, ref="food"),
        lambda: books.mint("t", "bob", 300, ref="rent"),
        lambda: books.hold("t", "alice", 300, "rent"),
    ):
        books.refuses(TransferConflict, other)


def test_nobody_but_the_mint_goes_below_zero(books: Books) -> None:
    error = books.refuses(InsufficientFunds, lambda: books.transfer("t", "alice", "bob", 1001))
    numbers = {"needed": 0.00001001, "available": 0.00001, "balance": 0.00001, "held": 0}
    assert error.details == numbers
    assert error.message == (
        "This needs 0.00001001 AIT and the account has 0.00001 AIT available: 0.00001 AIT, of which 0 AIT are held."
    )
    books.refuses(InsufficientFunds, lambda: books.transfer("t", TREASURY, "bob", 1))
    error = books.refuses(AccountNotFound, lambda: books.hold("t", "nobody", 1))
    assert error.details == {"account_id": "nobody"}
    books.refuses(InsufficientFunds, lambda: books.hold("h", "bob", 1))
    books.hold("h", "alice", 600)
    books.refuses(InsufficientFunds, lambda: books.transfer("t", "alice", "bob", 401))
    books.refuses(InsufficientFunds, lambda: books.hold("h2", "alice", 401))
    assert books.transfer("t", "alice", "bob", 400) is True


def test_strangers_are_refused(books: Books) -> None:
    for act in (
        lambda: books.hold("h", "nobody", 1),
        lambda: books.transfer("t", "alice", "nobody", 1),
        lambda: books.transfer("t", "nobody", "alice", 1),
        lambda: books.mint("t", "nobody", 1),
    ):
        error = books.refuses(AccountNotFound, act)
        assert error.details == {"account_id": "nobody"}


def test_a_stranger_among_several_transfers_of_a_call(books: Books) -> None:
    """Their lines are written together, so that the stranger's may come before what asks for its account."""

    def act(tx: Tx, last: str) -> None:
        ledger.open_account(tx, "carol")
        for number, name in enumerate(("bob", "carol", last)):
            ledger.transfer(tx, id_of(f"t{number}"), "alice", name, 10, ref=signed_of())

    books.refuses(AccountNotFound, lambda: books.db.write_sync(act, "nobody"))
    books.db.write_sync(act, "bob")
    assert books.units("alice", "bob", "carol") == [(970, 0), (20, 0), (10, 0)]


@pytest.mark.parametrize("paid", [400, 90, 0])
def test_a_payee_without_an_account(books: Books, paid: int) -> None:
    """Whether or not anything is paid, alone and among other calls that share its transaction."""
    books.hold("h", "alice", 400)
    books.hold("other", "alice", 100)

    def act() -> None:
        books.post("h", "alice", 400, [Payout("nobody", paid, "post"), Payout(TREASURY, 400 - paid, "fee")])

    assert books.refuses(AccountNotFound, act).details == {"account_id": "nobody"}

    def together(tx: Tx) -> list[Any]:
        pays = (("h", 400, "nobody"), ("other", 100, "bob"))
        return tx.each(
            pays,
            lambda one: ledger.post(
                tx, hold_of(one[0], "alice", one[1]), [Payout(one[2], min(paid, one[1]), "post")]
            ),
        )

    refused, done = books.db.write_sync(together)
    assert isinstance(refused, AccountNotFound)
    assert books.line(done).credit_id == "bob"
    books.void("h", "alice", 400)
    books.check()


def test_a_fee_to_an_account_that_is_not_there(books: Books) -> None:
    books.hold("h", "alice", 400)
    shares = [Payout("bob", 90, "post"), Payout("nobody", 10, "fee")]
    error = books.refuses(AccountNotFound, lambda: books.post("h", "alice", 400, shares))
    assert error.details == {"account_id": "nobody"}


def test_amounts_have_a_range(books: Books) -> None:
    for units in (-1, MAX_UNITS + 1):
        books.refuses(TransferConflict, lambda units=units: books.mint("t", "bob", units))
    books.refuses(TransferConflict, lambda: books.transfer("t", "alice", "bob", -5))
    books.refuses(TransferConflict, lambda: books.hold("h", "alice", -5))  # where nothing is held yet
    books.hold("h", "alice", 10)
    books.refuses(TransferConflict, lambda: books.hold("h2", "alice", -5))


# --- holds ------------------------------------------------------------------------------------------------


def test_a_hold_reserves_and_a_void_gives_back(books: Books) -> None:
    assert books.hold("h", "alice", 400, "job") is True
    assert books.units("alice") == [(1000, 400)]
    assert books.balance("alice").available_units == 600
    books.check()
    books.void("h", "alice", 400, "job")
    assert books.units("alice", ESCROW) == [(1000, 0), (0, 0)]
    books.check()


def test_a_hold_is_made_once_by_its_id(books: Books) -> None:
    assert books.hold("h", "alice", 600) is True
    assert books.hold("h", "alice", 600) is False
    assert books.units("alice") == [(1000, 600)]
    assert books.hold("h", "alice", 600) is False, "also where another one would not fit"
    books.refuses(TransferConflict, lambda: books.hold("h", "alice", 100))
    books.refuses(TransferConflict, lambda: books.hold("h", "alice", 700))
    books.void("h", "alice", 600)
    assert books.hold("h", "alice", 600) is False, "a settled hold does not come back"
    assert books.units("alice") == [(1000, 0)]
    books.check()


def test_a_post_pays_its_parts_and_frees_the_rest(books: Books) -> None:
    books.hold("h", "alice", 400, "job")
    books.post("h", "alice", 400, [Payout("bob", 90, "post"), Payout(TREASURY, 10, "fee")], "job")
    assert books.units("alice", "bob", TREASURY) == [(900, 0), (90, 0), (10, 0)]
    assert books.lines() == [
        ("fee", "alice", TREASURY, 10),
        ("hold", "alice", ESCROW, 400),
        ("mint", MINT, "alice", 1000),
        ("post", "alice", "bob", 90),
    ]
    books.check()


@pytest.mark.parametrize("parts", [(0, 0), (400, 0), (0, 400), (1, 0)])
def test_a_post_of_any_size_within_its_hold(books: Books, parts: tuple[int, int]) -> None:
    """A price of zero leaves its line, so that the hold counts as settled; a fee of zero leaves none."""
    books.hold("h", "alice", 400)
    books.post("h", "alice", 400, [Payout("bob", parts[0], "post"), Payout(TREASURY, parts[1], "fee")])
    assert books.units("alice", "bob", TREASURY) == [(1000 - sum(parts), 0), (parts[0], 0), (parts[1], 0)]
    kinds = [line[0] for line in books.lines()]
    assert kinds.count("post") == 1
    assert kinds.count("fee") == (1 if parts[1] else 0)
    books.check()


def test_paying_oneself_is_fine(books: Books) -> None:
    books.hold("h", "alice", 400)
    books.post("h", "alice", 400, [Payout("alice", 90, "post"), Payout(TREASURY, 10, "fee")])
    assert books.units("alice", TREASURY) == [(990, 0), (10, 0)]
    books.check()


def test_a_post_stays_within_its_hold(books: Books) -> None:
    books.hold("h", "alice", 400)
    for parts in ([401], [400, 1], [-1], [500, -100]):
        payouts = [Payout("bob", units, "post" if n == 0 else "fee") for n, units in enumerate(parts)]
        books.refuses(TransferConflict, lambda payouts=payouts: books.post("h", "alice", 400, payouts))


@pytest.mark.parametrize("first", ["post", "void"])
def test_a_hold_is_settled_once(books: Books, first: str) -> None:
    def pay() -> Any:
        return books.post("h", "alice", 400, [Payout("bob", 100, "post"), Payout(TREASURY, 5, "fee")])

    def free() -> Any:
        return books.void("h", "alice", 400)

    books.hold("h", "alice", 400)
    books.hold("other", "alice", 400)  # so that it is not the lack of held money that refuses
    (pay if first == "post" else free)()
    books.refuses(TransferConflict, pay)
    books.refuses(TransferConflict, free)


def test_more_than_is_held_cannot_be_settled(books: Books) -> None:
    books.hold("h", "alice", 400)
    books.refuses(TransferConflict, lambda: books.void("h", "alice", 401))
    books.refuses(TransferConflict, lambda: books.post("h", "alice", 401, [Payout("bob", 401, "post")]))


@pytest.mark.parametrize(
    ("hold_id", "account", "units", "ref"),
    [
        ("h", "bob", 400, "job"),  # another's
        ("h", "alice", 399, "job"),  # for another amount, less or more
        ("h", "alice", 401, "job"),
        ("h", "alice", 400, "another job"),
        ("t", "alice", 400, "job"),  # a transfer
        ("never", "alice", 400, "job"),
    ],
)
def test_what_is_said_of_a_hold_is_held_to_its_line(
    books: Books, hold_id: str, account: str, units: int, ref: str
) -> None:
    """Both accounts have other money held, so that it is not the lack of it that refuses."""
    books.mint("m", "bob", 1000)
    books.transfer("t", "alice", "bob", 100)
    books.hold("h", "alice", 400, "job")
    books.hold("other", "alice", 450)
    books.hold("bobs", "bob", 800, "job")
    books.refuses(TransferConflict, lambda: books.void(hold_id, account, units, ref))
    books.refuses(
        TransferConflict, lambda: books.post(hold_id, account, units, [Payout("bob", 9, "post")], ref)
    )
    books.post("h", "alice", 400, [Payout("bob", 9, "post")], "job")


def test_a_hold_is_settled_in_the_call_that_made_it(books: Books) -> None:
    made = hold_of("h", "alice", 400)

    def act(tx: Tx, said: Hold) -> None:
        ledger.hold(tx, made)
        ledger.post(tx, said, [Payout("bob", 90, "post")])

    books.refuses(TransferConflict, lambda: books.db.write_sync(act, made._replace(units=300)))
    books.refuses(TransferConflict, lambda: books.db.write_sync(act, made._replace(account_id="bob")))
    books.db.write_sync(act, made)
    assert books.units("alice", "bob") == [(910, 0), (90, 0)]


def test_a_hold_knows_the_lines_that_settled_it(books: Books) -> None:
    """Its own, among other holds of the same account at the same time."""
    for hold in ("free", "open", "paid", "void"):
        books.hold(hold, "alice", 100)
    voided = books.void("void", "alice", 100)
    free = books.post("free", "alice", 100, [Payout("bob", 50, "post"), Payout(TREASURY, 0, "fee")])
    paid = books.post("paid", "alice", 100, [Payout("bob", 90, "post"), Payout(TREASURY, 10, "fee")])
    found = {
        hold: [(line.kind, line.amount_units) for line in books.lines_of_hold(id_of(hold))]
        for hold in ("free", "open", "paid", "void", "unknown")
    }
    assert found == {
        "free": [("post", 50)],
        "open": [],
        "paid": [("post", 90), ("fee", 10)],
        "void": [("void", 100)],
        "unknown": [],
    }
    assert [books.lines_of_hold(id_of(hold))[0].id for hold in ("void", "free", "paid")] == [
        voided,
        free,
        paid,
    ]


def test_several_shares_of_a_hold(books: Books) -> None:
    """The first is the post, whatever it calls itself; a share of nothing leaves no line, and those behind it do."""
    books.hold("h", "alice", 100)
    shares = [Payout("bob", 50, "fee"), Payout(TREASURY, 0, "fee"), Payout(TREASURY, 7, "fee")]
    post = books.post("h", "alice", 100, shares)
    assert [line for line in books.lines() if line[0] in ("post", "fee")] == [
        ("fee", "alice", TREASURY, 7),
        ("post", "alice", "bob", 50),
    ]
    assert books.units("alice", "bob", TREASURY) == [(943, 0), (50, 0), (7, 0)]
    assert books.lines_of_hold(id_of("h"))[0].id == post
    books.check()


def test_a_line_has_the_reference_that_was_given(books: Books) -> None:
    books.mint("why", "bob", 5, "a reason")
    books.transfer("with", "alice", "bob", 1)
    for hold in ("h", "i"):
        books.hold(hold, "alice", 100, hold)
    ends = [
        books.void("h", "alice", 100, "h"),
        books.post("i", "alice", 100, [Payout("bob", 50, "post")], "i"),
    ]
    ids = [*(id_of(name) for name in ("why", "with", "h", "i")), *ends]
    wanted = ["a reason", signed_of("rent"), job_of("h"), job_of("i"), job_of("h"), job_of("i")]
    assert [books.line(one).ref for one in ids] == wanted
    for act in (
        lambda: books.transfer("less", "alice", "bob", -1),
        lambda: books.hold("less", "alice", -1),
    ):
        assert books.refuses(TransferConflict, act).details == {"transfer_id": id_of("less")}


def test_ids_bear_the_time_at_which_they_were_booked(books: Books) -> None:
    """By which statements, and a fee behind its post, are found."""
    for hold in ("h", "i"):
        books.hold(hold, "alice", 100)

    def settled(tx: Tx) -> tuple[list[int], list[int]]:
        tx.books.closed_ms = tx.now_ms + 5_000
        void, voided_ms = ledger.void(tx, hold_of("i", "alice", 100)), tx.booked_ms
        tx.books.closed_ms = tx.now_ms + 9_000  # later than that: ids of one process never go back
        post = ledger.post(
            tx, hold_of("h", "alice", 100), [Payout("bob", 50, "post"), Payout(TREASURY, 5, "fee")]
        )
        lines = [*ledger.lines_of_hold(tx, id_of("i")), *ledger.lines_of_hold(tx, id_of("h"))]
        assert [line.id for line in lines if line.kind != "fee"] == [void, post]
        assert [line.created_at_ms for line in lines] == [voided_ms, tx.booked_ms, tx.booked_ms]
        return [id_time_ms(line.id) for line in lines], [voided_ms, tx.booked_ms, tx.booked_ms]

    times, booked = books.db.write_sync(settled)
    assert times == booked


def test_the_accounts_after_a_name(books: Books) -> None:
    books.open_account("aaron")
    books.hold("h", "alice", 400)
    assert books.accounts("aaron", 2) == [Balance("alice", 1000, 400), Balance("bob", 0, 0)]
    assert [one.account_id for one in books.accounts("", 3)] == ["aaron", "alice", "bob"]


# --- races ------------------------------------------------------------------------------------------------


def race(count: int, act: Callable[[int], Any]) -> list[Any]:
    """`act(n)` in as many threads; errors of ours in place of results."""

    def attempt(n: int) -> Any:
        try:
            return act(n)
        except AitbcError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(attempt, range(count)))


def test_racing_transfers_and_holds_cannot_spend_a_unit_twice(books: Books) -> None:
    done = race(
        40,
        lambda n: (
            books.transfer(f"t{n}", "alice", "bob", 100) if n % 2 else books.hold(f"h{n}", "alice", 100)
        ),
    )
    assert sum(1 for answer in done if answer is True) == 10
    assert {type(answer) for answer in done if answer is not True} == {InsufficientFunds}
    balance = books.balance("alice")
    assert balance.available_units == 0
    books.check()


def test_the_same_transfer_raced_is_done_once(books: Books) -> None:
    done = race(12, lambda n: books.transfer("t", "alice", "bob", 100))
    assert sorted(done) == [False] * 11 + [True]
    assert books.units("alice", "bob") == [(900, 0), (100, 0)]
    done = race(12, lambda n: books.hold("h", "alice", 100))
    assert sorted(done) == [False] * 11 + [True]
    assert books.units("alice") == [(900, 100)]
    books.check()


def test_racing_settlements_settle_once(books: Books) -> None:
    books.hold("h", "alice", 100)
    books.hold("other", "alice", 900)
    done = race(
        12,
        lambda n: (
            books.void("h", "alice", 100)
            if n % 2
            else books.post("h", "alice", 100, [Payout("bob", 60, "post")])
        ),
    )
    assert sum(1 for answer in done if not isinstance(answer, AitbcError)) == 1
    assert books.balance("alice").held_units == 900
    books.check()


# --- the database's own rules -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE accounts SET balance_units = -1 WHERE id = 'alice'",
        "UPDATE accounts SET held_units = 1001 WHERE id = 'alice'",
        "UPDATE accounts SET held_units = -1 WHERE id = 'alice'",
        "UPDATE accounts SET kind = 'saint' WHERE id = 'alice'",
        "INSERT INTO accounts (id, kind, balance_units, held_units, created_at_ms)"
        " VALUES ('alice', 'user', 0, 0, 0)",
        "INSERT INTO transfers (id, kind, debit_id, credit_id, amount_units, hold_id, ref, created_at_ms)"
        " VALUES ('x', 'transfer', 'alice', 'bob', -1, NULL, '', 0)",
        "INSERT INTO transfers (id, kind, debit_id, credit_id, amount_units, hold_id, ref, created_at_ms)"
        " VALUES ('x', 'gift', 'alice', 'bob', 1, NULL, '', 0)",
        "INSERT INTO transfers (id, kind, debit_id, credit_id, amount_units, hold_id, ref, created_at_ms)"
        " VALUES ('x', 'post', 'alice', 'bob', 1, NULL, '', 0)",
        "INSERT INTO transfers (id, kind, debit_id, credit_id, amount_units, hold_id, ref, created_at_ms)"
        " VALUES ('x', 'transfer', 'alice', 'bob', 1, 'h', '', 0)",
        "UPDATE transfers SET amount_units = 999 WHERE kind = 'mint'",
        "DELETE FROM transfers WHERE kind = 'mint'",
    ],
)
def test_the_database_itself_refuses(books: Books, change: str) -> None:
    with pytest.raises(Exception, match=r"(?i)constraint|append-only"):
        books.db.write_sync(lambda tx: tx.change(text(change)))
    books.check()
