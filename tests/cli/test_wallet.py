"""`aitbc wallet`: a key file that only its passphrase opens, and what it signs, against a real coordinator."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import httpx
import pytest

from aitbc.core.signing import PrivateKey, decode_b64, encode_b64, public_from_text, verify
from aitbc.core.wallet.login_message import LoginMessage
from aitbc.core.wallet.transaction import check_addresses, is_signed, read_transaction
from aitbc.wallet import keystore
from aitbc.wallet.keystore import WalletError, WrongPassphrase
from tests.cli.harness import User
from tests.sdk.network import MODEL, Network

SECRET = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap_to_derive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "COST", (1, 8192))


@pytest.fixture
def owner(user: User, network: Network, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody with a wallet and no API key."""
    monkeypatch.setenv("AITBC_WALLET_PASSPHRASE", SECRET)
    monkeypatch.delenv("AITBC_WALLET", raising=False)
    user.at(network.url, None)
    assert user("wallet", "new").code == 0
    return user


def address_of(user: User) -> str:
    return user("wallet", "address").out.strip()


def test_a_wallet_is_made_once_and_locked(owner: User) -> None:
    file = owner.home / "wallet.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    again = owner("wallet", "new")
    assert (again.code, file.read_bytes()) == (1, before)
    assert "never overwritten" in again.err
    stored = json.loads(before)
    assert stored["address"] == address_of(owner)
    key = keystore.load(file).unlock(SECRET)
    assert key.seed.hex() not in before.decode()
    assert owner("wallet", "address", "--json").json["public_key"] == stored["public_key"]


def test_the_passphrase_is_needed_to_sign_and_only_then(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AITBC_WALLET_PASSPHRASE", "wrong horse battery")
    assert owner("wallet", "address").code == 0
    assert owner("wallet", "balance").code == 0
    wrong = owner("wallet", "sign", "hello")
    assert (wrong.code, wrong.out) == (1, "")
    assert "WRONG_PASSPHRASE" in wrong.err
    monkeypatch.delenv("AITBC_WALLET_PASSPHRASE")
    missing = owner("wallet", "sign", "hello")
    assert missing.code == 2
    assert "AITBC_WALLET_PASSPHRASE" in missing.err


def test_sign_signs_the_text(owner: User) -> None:
    signed = owner("wallet", "sign", "größer", "--json").json
    public = public_from_text(signed["public_key"])
    assert verify(public, "größer".encode(), decode_b64(signed["signature"]))
    assert owner("wallet", "sign", "-", stdin="größer\n").out.strip() == signed["signature"]
    assert owner("wallet", "sign", stdin="größer").out.strip() == signed["signature"]
    assert owner("wallet", "sign", stdin=b"\xff").code == 2


def test_sign_refuses_a_transfer(owner: User) -> None:
    made = owner(
        "wallet", "send", address_for(5), "1", "--offline", "--nonce", "1", "--network-id", "ab" * 32
    ).json
    made.pop("signature")
    refused = owner("wallet", "sign", stdin=json.dumps(made))
    assert refused.code == 1
    assert "wallet send --offline" in refused.err


def address_for(number: int) -> str:
    from aitbc.core.wallet.address import native_address

    return native_address(PrivateKey.from_seed(bytes([number]) * 32).public_bytes)


def test_login_then_pay(owner: User, network: Network) -> None:
    entered = owner("wallet", "login", "--json")
    assert entered.code == 0, entered.err
    headers = {"X-Session-Token": entered.json["session_token"]}
    me = httpx.get(f"{network.url}/v1/users/me", headers=headers, trust_env=False).json()
    assert (me["address"], me["balance"]) == (address_of(owner), 1000)
    other = address_for(6)
    before = owner("wallet", "balance", other, "--json").json["balance"]
    sent = owner("wallet", "send", other, "12.5", "--fee", "0.00200001", "--json")
    assert sent.code == 0, sent.err
    assert sent.json["nonce"] == 1
    assert owner("wallet", "balance", other, "--json").json["balance"] == before + 12.5
    own = owner("wallet", "balance", "--json").json
    assert (own["balance"], own["nonce"], own["chain_id"]) == (987.49799999, 1, "ait-devnet")
    cheap = owner("wallet", "send", other, "1", "--fee", "0.0009")
    assert (cheap.code, "0.001" in cheap.err) == (4, True), "a transfer stays for ever, so it has a price"
    second = owner("wallet", "send", other, "1")
    assert owner("wallet", "balance", "--json").json["balance"] == 986.49699999, "left out: the least"
    found = httpx.get(f"{network.url}/rpc/tx/{second.out.strip()}", trust_env=False).json()
    assert (found["to"], found["amount"]) == (other, 1)


def test_what_cannot_be_paid(owner: User) -> None:
    to = address_for(7)
    for words in (
        (to.upper(), "1"),
        ("alice", "1"),
        (to, "0"),
        (to, "-1"),
        (to, "1.000000001"),
        (to, "x"),
        (to, "1", "--fee", "x"),
        (to, "1", "--offline"),
        (address_of(owner), "1"),
    ):
        assert owner("wallet", "send", *words).code == 2, words
    poor = owner("wallet", "send", to, "1")
    assert poor.code == 4
    assert "INSUFFICIENT_FUNDS" in poor.err
    assert "TX_WRONG_NONCE" in owner("wallet", "send", to, "1", "--nonce", "9").err
    elsewhere = owner("wallet", "send", to, "1", "--chain-id", "ait-mainnet")
    assert "UNKNOWN_CHAIN" in elsewhere.err
    assert "TX_WRONG_CHAIN" in owner("wallet", "send", to, "1", "--chain-id", "x", "--nonce", "1").err


def test_a_network_once_known_is_held_to(owner: User, network: Network) -> None:
    """A transfer is good on the network whose id it names: so nobody names it but who is known by it."""
    to, file = address_for(9), owner.home / "networks.json"
    true_id = owner("wallet", "balance", "--json").json["network_id"]
    assert owner("wallet", "login").code == 0
    assert owner("wallet", "send", to, "1").code == 0
    assert json.loads(file.read_text())["networks"] == {network.url: true_id}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def pin(networks: dict[str, str]) -> None:
        file.write_text(json.dumps({"version": "aitbc/networks/v1", "networks": networks}))

    before = owner("wallet", "balance", to, "--json").json["balance"]
    pin({network.url: "cd" * 32})
    changed = owner("wallet", "send", to, "1")
    assert changed.code == 1
    for said in (f"was the network {'cd' * 32} before", f"calls itself {true_id} now", "Nothing was signed"):
        assert said in changed.err
    pin({"https://elsewhere.example": true_id})
    taken = owner("wallet", "send", to, "1")
    assert "which you know as https://elsewhere.example" in taken.err
    assert "Nothing was signed" in owner("wallet", "send", to, "1", "--network-id", "cd" * 32).err
    file.write_text("{}")
    assert owner("wallet", "send", to, "1").code == 1
    pin({"https://elsewhere.example": true_id})
    assert owner("wallet", "balance", to, "--json").json["balance"] == before
    assert owner("wallet", "send", to, "1", "--network-id", true_id).code == 0
    assert owner("wallet", "send", to, "1").code == 0, "it was named once: it is known from then on"
    offline = owner("wallet", "send", to, "1", "--offline", "--nonce", "9").json
    assert offline["network_id"] == true_id


def test_an_offline_transfer_is_complete(owner: User) -> None:
    words = ("wallet", "send", address_for(8), "0.5", "--offline", "--nonce", "3", "--chain-id", "other")
    words = (*words, "--url", "http://127.0.0.1:1")
    assert "--network-id" in owner(*words).err
    assert owner(*words, "--network-id", "AB" * 32).code == 2
    transaction, signature = read_transaction(owner(*words, "--network-id", "ab" * 32).json)
    assert transaction.network_id == "ab" * 32
    assert is_signed(transaction, signature)
    check_addresses(transaction)
    assert (transaction.chain_id, transaction.nonce, transaction.amount_units) == ("other", 3, 50_000_000)


def test_only_the_coordinators_own_login_text_is_signed(
    owner: User, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = network.url.removeprefix("http://")
    foreign = owner("wallet", "login", "--domain", "coordinator.example")
    assert (foreign.code, foreign.out) == (1, "")
    assert f"--domain {domain}" in foreign.err
    text = LoginMessage(domain, address_for(9), "http://x", "ait-devnet", "0" * 32, 0, 300_000).to_text()
    for wrong in ('{"version":"aitbc/transaction/v1"}', text, text[:-1]):
        monkeypatch.setattr("aitbc.wallet.client.WalletClient.challenge", lambda *_, text=wrong: text)
        refused = owner("wallet", "login")
        assert (refused.code, refused.out) == (1, "")
        assert "LOGIN_TEXT" in refused.err


def test_a_saved_key_spends_the_wallets_money(owner: User) -> None:
    saved = owner("wallet", "login", "--save-key", "--json")
    assert saved.code == 0, saved.err
    account = owner("balance", "--json").json
    assert (account["account"], account["balance"]) == (address_of(owner), 1000)
    assert owner("submit", "hello", "-m", MODEL, "-w").out == "You said: hello\n"
    assert owner("balance", "--json").json["balance"] < 1000


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "wallet.json"
    with pytest.raises(WalletError, match="at least 8"):
        keystore.create(path, "short")
    assert not path.exists()
    keystore.create(path, SECRET)
    good = json.loads(path.read_text())
    with pytest.raises(WalletError, match="never overwritten"):
        keystore.create(path, SECRET)
    for wrong in ("", SECRET + " ", SECRET.upper()):
        with pytest.raises(WrongPassphrase):
            keystore.load(path).unlock(wrong)
    other = keystore.create(tmp_path / "other.json", SECRET)
    kdf = good["kdf"]
    for change in (
        {"version": "aitbc/wallet/v2"},
        {"address": other.address},
        {"public_key": other.public_key},
        {"public_key": 5},
        {"box": "x"},
        {"kdf": {**kdf, "name": "scrypt"}},
        {"kdf": {**kdf, "memory_bytes": 1 << 40}},
        {"kdf": {**kdf, "passes": True}},
        {"kdf": {**kdf, "passes": 0}},
        {"kdf": {**kdf, "salt": ""}},
        {"kdf": None},
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(WalletError):
            keystore.load(path)
    path.write_text(json.dumps({**good, "address": other.address, "public_key": other.public_key}))
    with pytest.raises(WalletError, match="not its key's"):
        keystore.load(path).unlock(SECRET)
    box = bytearray(decode_b64(good["box"]))
    box[-1] ^= 1
    path.write_text(json.dumps({**good, "box": encode_b64(bytes(box))}))
    with pytest.raises(WrongPassphrase):
        keystore.load(path).unlock(SECRET)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_file_that_others_can_read_is_refused(owner: User) -> None:
    (owner.home / "wallet.json").chmod(0o644)
    refused = owner("wallet", "address")
    assert refused.code == 1
    assert "chmod 600" in refused.err
    missing = owner("wallet", "address", "--wallet", str(owner.home / "none.json"))
    assert "aitbc wallet new" in missing.err
