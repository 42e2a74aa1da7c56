"""Logging in: only with one's own signature, over one's own text, once, in time, here."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import (
    AitbcError,
    ChallengeExpired,
    ChallengeInvalid,
    ChallengeUsed,
    InvalidRequest,
    LoginSignatureInvalid,
    SessionNotFound,
    Unauthorized,
)
from aitbc.coordinator.flows.acts import login
from aitbc.coordinator.flows.acts.login import Challenge, Terms
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.users import service as users
from aitbc.coordinator.users.evm import GROUP_ORDER
from aitbc.coordinator.users.models import Challenge as ChallengeTable
from aitbc.coordinator.users.models import Session as SessionTable
from aitbc.coordinator.users.service import NewSession
from aitbc.core.clock import ManualClock
from aitbc.core.signing import encode_b64
from tests.coordinator.users.support import EvmWallet, NativeWallet, Wallet
from tests.support.flows import database_url, memory_folder

__all__ = ["database_url", "memory_folder"]

TERMS = Terms("127.0.0.1:8000", "http://127.0.0.1:8000", "ait-devnet", b"a secret of 32 random bytes here")
GRANT = 5_000


class Door:
    """A coordinator's login, over one database."""

    def __init__(self, db: Database, clock: ManualClock) -> None:
        self.db = db
        self.clock = clock

    def ask(self, wallet: Wallet, terms: Terms = TERMS) -> Challenge:
        return login.challenge(terms, self.clock.now_ms(), wallet.account)

    def enter(
        self,
        wallet: Wallet,
        message: str,
        signature: str | None = None,
        public_key: str | None = None,
        terms: Terms = TERMS,
    ) -> NewSession:
        proven = login.prove(
            terms,
            self.clock.now_ms(),
            wallet.account,
            message,
            wallet.sign(message) if signature is None else signature,
            public_key or wallet.public_key,
        )
        logged_in = self.db.write_sync(login.log_in, proven, GRANT)
        assert logged_in is not None
        return logged_in.session

    def refused(self, kind: type[AitbcError], *args: Any, **options: Any) -> None:
        with pytest.raises(kind) as error:
            self.enter(*args, **options)
        assert type(error.value) is kind
        assert self.count(SessionTable) == 0

    def count(self, model: Any) -> int:
        return len(self.db.read_sync(lambda tx: tx.query(model.__table__.select())))


@pytest.fixture
def door(db: Database, clock: ManualClock) -> Iterator[Door]:
    db.write_sync(ledger.open_system_accounts)
    yield Door(db, clock)


WALLETS = pytest.mark.parametrize("wallet", [NativeWallet(), EvmWallet()], ids=["native", "evm"])


@WALLETS
def test_a_login_opens_the_account_once_and_a_session_each_time(door: Door, wallet: Wallet) -> None:
    first = door.enter(wallet, door.ask(wallet).message)
    second = door.enter(wallet, door.ask(wallet).message)
    assert first.token != second.token
    assert len(first.token) >= 43
    assert door.db.read_sync(ledger.balance, wallet.account).balance_units == GRANT
    user = door.db.read_sync(users.get, wallet.account)
    assert user is not None
    assert (user.public_key or None) == wallet.public_key
    assert {door.db.read_sync(users.authenticate, made.token).id for made in (first, second)} == {
        first.id,
        second.id,
    }
    stored = door.db.read_sync(lambda tx: tx.query(SessionTable.__table__.select()))  # type: ignore[attr-defined]
    assert not [row for row in stored if first.token in str(row) or second.token in str(row)]


@WALLETS
def test_the_text_names_domain_address_and_network(door: Door, wallet: Wallet) -> None:
    asked = door.ask(wallet)
    lines = asked.message.split("\n")
    assert lines[0].startswith("127.0.0.1:8000 wants you to sign in with your ")
    assert lines[1] == wallet.address
    assert f"Chain ID: {'1' if wallet.public_key is None else 'ait-devnet'}" in lines
    assert door.ask(wallet).nonce != asked.nonce


@WALLETS
def test_a_challenge_is_good_once(door: Door, wallet: Wallet) -> None:
    asked = door.ask(wallet)
    made = door.enter(wallet, asked.message)
    door.db.write_sync(users.revoke_session, wallet.account, made.id)
    with pytest.raises(ChallengeUsed):
        door.enter(wallet, asked.message)


@WALLETS
def test_a_challenge_is_good_for_five_minutes(door: Door, wallet: Wallet) -> None:
    asked = door.ask(wallet)
    door.clock.advance(300)
    door.refused(ChallengeExpired, wallet, asked.message)
    late = door.ask(wallet)
    door.clock.advance(299.9)
    assert door.enter(wallet, late.message).token


@WALLETS
def test_a_race_with_one_challenge_is_won_once(door: Door, wallet: Wallet) -> None:
    asked = door.ask(wallet)

    def attempt(_number: int) -> str:
        try:
            return door.enter(wallet, asked.message).id
        except ChallengeUsed as error:
            return error.code

    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(attempt, range(10)))
    assert outcomes.count("CHALLENGE_USED") == 9
    assert door.count(SessionTable) == 1
    assert door.db.read_sync(ledger.balance, wallet.account).balance_units == GRANT


def test_expired_challenges_and_sessions_are_forgotten(door: Door) -> None:
    wallet = NativeWallet()
    door.enter(wallet, door.ask(wallet).message)
    door.clock.advance(86_401)
    door.enter(wallet, door.ask(wallet).message)
    door.db.write_sync(users.forget)
    assert door.count(ChallengeTable) == 1
    assert door.count(SessionTable) == 1


@pytest.mark.parametrize(
    ("wallet", "other"),
    [(NativeWallet(), NativeWallet(2)), (EvmWallet(), EvmWallet(2))],
    ids=["native", "evm"],
)
def test_nobody_gets_in_with_anothers_signature(door: Door, wallet: Wallet, other: Wallet) -> None:
    asked = door.ask(wallet)
    door.refused(LoginSignatureInvalid, wallet, asked.message, other.sign(asked.message))
    door.refused(LoginSignatureInvalid, wallet, asked.message, other.sign(asked.message), other.public_key)
    # A text of somebody else's, or one signed for another address.
    door.refused(ChallengeInvalid, other, asked.message)
    theirs = door.ask(other)
    door.refused(LoginSignatureInvalid, wallet, asked.message, wallet.sign(theirs.message))
    assert door.enter(wallet, asked.message).token


@WALLETS
def test_a_text_of_another_domain_is_refused(door: Door, wallet: Wallet) -> None:
    elsewhere = Terms("evil.example", "http://evil.example", "ait-devnet", TERMS.secret)
    asked = door.ask(wallet, elsewhere)
    door.refused(ChallengeInvalid, wallet, asked.message)
    ours = door.ask(wallet)
    door.refused(ChallengeInvalid, wallet, ours.message.replace("127.0.0.1:8000", "evil.example"))
    door.refused(ChallengeInvalid, wallet, ours.message.replace("http:", "https:"))


@WALLETS
def test_a_text_that_was_never_given_is_refused(door: Door, wallet: Wallet) -> None:
    asked = door.ask(wallet)
    for wrong in (
        "",
        "log me in",
        asked.message[:-1],
        asked.message + "\n",
        asked.message.replace(asked.nonce, "0" * 32),
        asked.message.replace("2026-01-01T00:05:00", "2036-01-01T00:05:00"),
        asked.message.replace("costs nothing", "costs a lot"),
        asked.message.replace("Chain ID: ", "Chain ID: 7"),
    ):
        door.refused(ChallengeInvalid, wallet, wrong)


def test_evm_signatures_have_one_form(door: Door) -> None:
    wallet = EvmWallet()
    asked = door.ask(wallet)
    data = bytes.fromhex(wallet.sign(asked.message)[2:])
    s = GROUP_ORDER - int.from_bytes(data[32:64], "big")
    high = data[:32] + s.to_bytes(32, "big") + bytes([55 - data[64]])
    wrong_id = data[:64] + bytes([55 - data[64]])
    for signature in (high, wrong_id, data[:64] + b"\x05", data[:64], data + b"\x00", b""):
        door.refused(LoginSignatureInvalid, wallet, asked.message, "0x" + signature.hex())
    door.refused(LoginSignatureInvalid, wallet, asked.message, encode_b64(data))
    plain_id = "0x" + (data[:64] + bytes([data[64] - 27])).hex()
    assert door.enter(wallet, asked.message, plain_id).token


def test_native_signatures_and_keys_are_read_strictly(door: Door) -> None:
    wallet = NativeWallet()
    asked = door.ask(wallet)
    good = wallet.sign(asked.message)
    for signature in ("", "x", good[:-4], good + "=", "0x" + "00" * 64, encode_b64(bytes(64))):
        door.refused(LoginSignatureInvalid, wallet, asked.message, signature)
    door.refused(LoginSignatureInvalid, wallet, asked.message, good, "nonsense")
    with pytest.raises(InvalidRequest):
        login.prove(TERMS, door.clock.now_ms(), wallet.account, asked.message, good, None)


def test_sessions_end_by_time_and_by_revoking(door: Door) -> None:
    wallet, other = NativeWallet(), EvmWallet()
    made = door.enter(wallet, door.ask(wallet).message)
    kept = door.enter(wallet, door.ask(wallet).message)
    foreign = door.enter(other, door.ask(other).message)
    for session_id in (foreign.id, "unknown"):
        with pytest.raises(SessionNotFound):
            door.db.write_sync(users.revoke_session, wallet.account, session_id)
    door.db.write_sync(users.revoke_session, wallet.account, made.id)
    with pytest.raises(SessionNotFound):
        door.db.write_sync(users.revoke_session, wallet.account, made.id)
    assert [row.id for row in door.db.read_sync(users.sessions, wallet.account)] == [kept.id]
    for token in (made.token, kept.token[:-1], "", "x" * 1000, "\ud800"):
        with pytest.raises(Unauthorized):
            door.db.read_sync(users.authenticate, token)
    door.clock.advance(86_399.9)
    assert door.db.read_sync(users.authenticate, kept.token).user_id == wallet.account
    door.clock.advance(0.1)
    with pytest.raises(Unauthorized):
        door.db.read_sync(users.authenticate, kept.token)


def test_all_coordinators_of_a_database_share_one_secret(door: Door) -> None:
    """What one of them gave to sign is good at another, also where they start in the same moment."""
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: door.db.write_sync(users.login_secret), range(16)))
    assert [len(secret) for secret in found] == [users.SECRET_BYTES]
    terms = TERMS._replace(secret=found.pop())
    wallet = NativeWallet()
    asked = door.ask(wallet, terms)
    assert door.enter(wallet, asked.message, terms=terms).token
    door_of_others = TERMS._replace(secret=b"of another database")
    with pytest.raises(ChallengeInvalid):
        door.enter(wallet, asked.message, terms=door_of_others)


def test_a_used_text_cannot_come_back_after_it_was_forgotten(door: Door) -> None:
    wallet = NativeWallet()
    asked = door.ask(wallet)
    proven = login.prove(
        TERMS,
        door.clock.now_ms(),
        wallet.account,
        asked.message,
        wallet.sign(asked.message),
        wallet.public_key,
    )
    door.db.write_sync(login.log_in, proven, GRANT)
    door.clock.advance(301)
    door.enter(wallet, door.ask(wallet).message)  # forgets what has expired
    with pytest.raises(ChallengeExpired):
        door.db.write_sync(login.log_in, proven, GRANT)
