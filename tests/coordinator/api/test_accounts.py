"""API keys: making, checking, rotating, revoking, and their spending limits, on both engines."""

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.coordinator.api_keys import service, spending
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.config import load_settings
from aitbc.coordinator.config.lists import split_api_keys
from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import InvalidRequest, KeyLimitExceeded, KeyNotFound, Unauthorized
from aitbc.coordinator.flows.acts import onboarding
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.clock import ManualClock

DAY_S = 86_400


def test_a_new_key_says_who_holds_it(db: Database, make_key: Callable[..., service.NewKey]) -> None:
    made = make_key(role="miner", account="acme")
    assert made.key.startswith(f"aitbc_miner_{made.key_id}_")
    assert len(made.key_id) == 12
    assert len(made.key.split("_", 3)[3]) == 43
    principal = db.read_sync(service.authenticate, made.key)
    shown = service.hash_key(made.key)
    assert principal == Principal("acme", "miner", made.key_id, frozenset({"miner"}), secret_hash=shown)


def test_the_database_does_not_hold_the_secret(db: Database, make_key: Callable[..., service.NewKey]) -> None:
    made = make_key()
    stored = db.read_sync(lambda tx: tx.one(service._BY_ID, key_id=made.key_id))
    assert made.key.split("_", 3)[3] not in str(stored)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1],
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key.replace("aitbc_client", "aitbc_admin"),
        lambda key: key.upper(),
        lambda key: key + " ",
        lambda key: "",
        lambda key: "aitbc_client_" + "x" * 12 + "_" + "y" * 43,
        lambda key: "x" * 100_000,
        lambda key: "aitbc_client_\x00_y",
        lambda key: "aitbc_client_\ud800_\ud800",
    ],
)
def test_a_spoilt_key_is_refused(
    db: Database, make_key: Callable[..., service.NewKey], spoil: Callable[[str], str]
) -> None:
    with pytest.raises(Unauthorized):
        db.read_sync(service.authenticate, spoil(make_key().key))


def test_expired_and_revoked_keys_are_refused(
    db: Database, clock: ManualClock, make_key: Callable[..., service.NewKey]
) -> None:
    brief = make_key(expires_at_ms=clock.now_ms() + 1000)
    assert db.read_sync(service.authenticate, brief.key).expires_at_ms == clock.now_ms() + 1000
    clock.advance(1)
    with pytest.raises(Unauthorized):
        db.read_sync(service.authenticate, brief.key)
    made = make_key()
    db.write_sync(service.revoke_key, made.key_id)
    db.write_sync(service.revoke_key, made.key_id)
    with pytest.raises(Unauthorized):
        db.read_sync(service.authenticate, made.key)
    with pytest.raises(KeyNotFound):
        db.write_sync(service.revoke_key, "nosuchkey")


def test_rotation_keeps_the_id_and_the_old_secret_for_its_grace(
    db: Database, clock: ManualClock, make_key: Callable[..., service.NewKey]
) -> None:
    old = make_key(account="acme")
    new = db.write_sync(service.rotate_key, old.key_id, 60)
    assert (new.key_id, new.account) == (old.key_id, "acme")
    assert new.key != old.key
    assert db.read_sync(service.authenticate, old.key).expires_at_ms == clock.now_ms() + 60_000
    assert db.read_sync(service.authenticate, new.key).expires_at_ms is None
    clock.advance(60)
    with pytest.raises(Unauthorized):
        db.read_sync(service.authenticate, old.key)
    db.write_sync(service.revoke_key, old.key_id)
    with pytest.raises(Unauthorized):
        db.read_sync(service.authenticate, new.key)
    with pytest.raises(KeyNotFound):
        db.write_sync(service.rotate_key, old.key_id, 60)


def test_revoking_ends_an_old_secret_in_its_grace(
    db: Database, make_key: Callable[..., service.NewKey]
) -> None:
    old = make_key()
    db.write_sync(service.rotate_key, old.key_id, 60)
    db.write_sync(service.revoke_key, old.key_id)
    with pytest.raises(Unauthorized):
        db.read_sync(service.authenticate, old.key)


@pytest.mark.parametrize(
    "options",
    [
        {"role": "root"},
        {"limit_units": 5},
        {"limit_period": "day"},
        {"limit_units": -1, "limit_period": "day"},
        {"limit_units": 5, "limit_period": "year"},
        {"expires_at_ms": 1},
        {"label": "x" * 300},
        {"account": "Not An Account"},
        {"account": "system:mint"},
    ],
)
def test_a_bad_key_is_not_made(
    db: Database, make_key: Callable[..., service.NewKey], options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        make_key(**options)
    assert db.read_sync(service.list_keys) == []


def test_the_grant_is_paid_once(db: Database, make_key: Callable[..., service.NewKey]) -> None:
    make_key(account="acme")
    make_key(account="acme")
    assert db.read_sync(ledger.balance, "acme").balance_units == 1000 * 10**8
    assert [key.account_id for key in db.read_sync(service.list_keys, "acme")] == ["acme", "acme"]


def test_a_limit_cannot_be_passed_and_what_was_not_used_comes_back(
    db: Database, clock: ManualClock, make_key: Callable[..., service.NewKey]
) -> None:
    key_id = make_key(limit_units=100, limit_period="day").key_id
    start = db.write_sync(spending.reserve_spend, key_id, 70)
    assert start == clock.now_ms() // (DAY_S * 1000) * DAY_S * 1000
    with pytest.raises(KeyLimitExceeded):
        db.write_sync(spending.reserve_spend, key_id, 31)
    db.write_sync(spending.release_spend, key_id, start, 50)
    assert db.write_sync(spending.reserve_spend, key_id, 80) == start
    with pytest.raises(KeyLimitExceeded):
        db.write_sync(spending.reserve_spend, key_id, 1)


def test_a_new_period_starts_afresh_and_old_jobs_do_not_refill_it(
    db: Database, clock: ManualClock, make_key: Callable[..., service.NewKey]
) -> None:
    key_id = make_key(limit_units=100, limit_period="day").key_id
    start = db.write_sync(spending.reserve_spend, key_id, 100)
    clock.advance(DAY_S)
    later = db.write_sync(spending.reserve_spend, key_id, 100)
    assert later > start
    db.write_sync(spending.release_spend, key_id, start, 100)
    with pytest.raises(KeyLimitExceeded):
        db.write_sync(spending.reserve_spend, key_id, 1)


def test_a_clock_that_jumps_back_opens_no_new_period(
    db: Database, clock: ManualClock, make_key: Callable[..., service.NewKey]
) -> None:
    key_id = make_key(limit_units=100, limit_period="month").key_id
    db.write_sync(spending.reserve_spend, key_id, 100)
    clock.jump(-40 * DAY_S)
    with pytest.raises(KeyLimitExceeded):
        db.write_sync(spending.reserve_spend, key_id, 1)


def test_keys_without_a_limit_reserve_nothing(db: Database, make_key: Callable[..., service.NewKey]) -> None:
    assert db.write_sync(spending.reserve_spend, make_key().key_id, 10**15) == 0
    assert db.write_sync(spending.reserve_spend, "static-0123abcd", 10**15) == 0


@pytest.mark.parametrize(
    ("period", "at", "start"),
    [
        ("day", 1_767_225_600_000, 1_767_225_600_000),
        ("day", 1_767_225_599_999, 1_767_139_200_000),
        ("month", 1_769_903_999_999, 1_767_225_600_000),
        ("month", 1_769_904_000_000, 1_769_904_000_000),
    ],
)
def test_periods_are_utc_days_and_months(period: str, at: int, start: int) -> None:
    assert spending.period_start(period, at) == start


def test_static_keys() -> None:
    assert split_api_keys(" a, ,miner:b ,x:y,admin:,") == [
        ("", "a"),
        ("miner", "b"),
        ("", "x:y"),
        ("", "admin:"),
    ]
    settings = load_settings(api_keys="first-static-key,miner:second-static-key,admin:third-static-key")
    bare = service.static_principal(settings, "first-static-key")
    assert bare is not None
    assert bare.scopes == {"client", "miner"}
    assert bare.account_id.startswith("static-")
    assert len(bare.account_id) == len("static-") + 8
    miner = service.static_principal(settings, "second-static-key")
    assert miner is not None
    assert miner.scopes == {"miner"}
    admin = service.static_principal(settings, "third-static-key")
    assert admin is not None
    assert admin.is_admin
    assert len({bare.account_id, miner.account_id, admin.account_id}) == 3
    for wrong in (
        "",
        "key",
        "first-static-first-static-key",
        "miner:second-static-key",
        "first-static-key,miner:second-static-key",
    ):
        assert service.static_principal(settings, wrong) is None
    secret = load_settings(api_keys="first-static-key", secret_key="pepper of these tests")
    other = service.static_principal(secret, "first-static-key")
    assert other is not None
    assert other.account_id != bare.account_id


def test_static_accounts_are_opened_once_with_the_grant(db: Database) -> None:
    settings = load_settings(api_keys="first-static-key,miner:second-static-key", devnet_grant="5")
    for _ in range(2):
        db.write_sync(onboarding.ensure_static_accounts, settings)
    for principal in service.static_principals(settings):
        assert db.read_sync(ledger.balance, principal.account_id).balance_units == 5 * 10**8
    elsewhere = load_settings(api_keys="ninth-static-key", chain_id="ait-main")
    db.write_sync(onboarding.ensure_static_accounts, elsewhere)
    assert db.read_sync(ledger.balance, service.static_principals(elsewhere)[0].account_id).balance_units == 0
