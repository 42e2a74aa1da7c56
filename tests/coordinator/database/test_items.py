"""`Tx.each`: items of a batch succeed or fail by themselves, on both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import AitbcError, InvalidRequest
from aitbc.coordinator.ledger import service as ledger


def names(db: Database) -> set[str]:
    return {row.id for row in db.read_sync(lambda tx: tx.query(text("SELECT id FROM accounts")))}


def shown(done: list[Any]) -> list[str]:
    return [one.code if isinstance(one, AitbcError) else one for one in done]


def opener(tx: Tx, runs: list[str]) -> Callable[[str], str]:
    """Opens an account of the item's name; `early…` fails before it wrote anything, `late…` after."""

    def act(name: str) -> str:
        runs.append(name)
        tx.signal(("item", name))
        if name.startswith("early"):
            raise InvalidRequest("no")
        ledger.open_account(tx, name)
        if name.startswith("late"):
            raise InvalidRequest("no")
        return name

    return act


@pytest.mark.parametrize(
    ("items", "runs"),
    [
        ([], 0),
        (["a", "b"], 2),
        (["a", "early", "b"], 3),
        (["a", "late", "b"], 2 + 3),
        (["late1", "a", "early", "late2", "b"], 1 + 5),
    ],
)
def test_items_fail_by_themselves(db: Database, items: list[str], runs: int) -> None:
    ran: list[str] = []
    heard: list[Any] = []

    def batch(tx: Tx) -> list[str | AitbcError]:
        done = tx.each(items, opener(tx, ran))
        heard.extend(tx.signals)
        return done

    good = [name for name in items if not name.startswith(("early", "late"))]
    assert shown(db.write_sync(batch)) == [name if name in good else "INVALID_REQUEST" for name in items]
    assert names(db) == set(good)
    assert heard == [("item", name) for name in good]
    assert len(ran) == runs


def test_errors_passed_in_stay_where_they_are(db: Database) -> None:
    wrong = InvalidRequest("no")
    done = db.write_sync(lambda tx: tx.each([wrong, "a"], opener(tx, [])))
    assert done == [wrong, "a"]
    assert names(db) == {"a"}


def test_any_other_error_ends_the_batch(db: Database) -> None:
    def act(name: str) -> str:
        raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError):
        db.write_sync(lambda tx: tx.each(["a"], act))
    assert db.write_sync(lambda tx: tx.each(["b"], opener(tx, []))) == ["b"]
    assert names(db) == {"b"}


def test_a_failed_item_leaves_what_the_transaction_did_before(db: Database) -> None:
    def batch(tx: Tx) -> list[str | AitbcError]:
        ledger.open_account(tx, "before")
        return tx.each(["late", "a"], opener(tx, []))

    assert shown(db.write_sync(batch)) == ["INVALID_REQUEST", "a"]
    assert names(db) == {"before", "a"}
