"""Logging in with a wallet: a text to sign, and a session for its signature.

A text that was given is not stored: its nonce carries a code (HMAC) over all that it says, and only what was
used is kept, until it expires. Asking for texts therefore fills nothing and locks nobody out.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import ChallengeExpired, ChallengeInvalid, InvalidRequest, LoginSignatureInvalid
from aitbc.coordinator.flows.shared.grants import open_account_with_grant
from aitbc.coordinator.flows.shared.profiles import Profile, profile
from aitbc.coordinator.users import service as users
from aitbc.coordinator.users.evm import EvmSignatureInvalid, recover
from aitbc.coordinator.users.service import NewSession
from aitbc.core.signing import decode_b64, public_from_text, public_to_text, verify
from aitbc.core.wallet.address import EVM, AddressInvalid, canonical_address, kind_of, native_address
from aitbc.core.wallet.login_message import EVM_CHAIN, LoginMessage, LoginMessageInvalid, parse_login_message

NONCE_BYTES = 16
CODE_BYTES = 16


class Terms(NamedTuple):
    """What every login text of a coordinator says, and the secret that its codes are made with."""

    domain: str
    uri: str
    chain_id: str
    secret: bytes

    @classmethod
    def of(cls, settings: Settings, secret: bytes) -> Terms:
        return cls(urlsplit(settings.public_url).netloc, settings.public_url, settings.chain_id, secret)


class Challenge(NamedTuple):
    """What to sign: `message` word for word."""

    address: str
    nonce: str
    message: str
    expires_at_ms: int


class Proven(NamedTuple):
    """A login whose text and signature are right; whether the text was used before only the database knows.

    `public_key` in base64, '' for EVM wallets.
    """

    address: str
    nonce: str
    message: str
    public_key: str
    expires_at_ms: int


def wallet_address(text: str) -> str:
    """The account id of an address that a caller gave. Raises InvalidRequest."""
    try:
        return canonical_address(text)
    except AddressInvalid as error:
        raise InvalidRequest(
            f"The request is not valid: wallet_address: {error}",
            fields=[{"field": "wallet_address", "message": str(error)}],
        ) from None


def challenge(terms: Terms, now_ms: int, address: str) -> Challenge:
    """A new text for this (canonical) address: good once, for five minutes, for this coordinator alone."""
    drawn = LoginMessage(
        domain=terms.domain,
        address=address,
        uri=terms.uri,
        chain=EVM_CHAIN if kind_of(address) == EVM else terms.chain_id,
        nonce=secrets.token_hex(NONCE_BYTES),
        issued_at_ms=now_ms,
        expires_at_ms=now_ms + users.CHALLENGE_MS,
    )
    message = replace(drawn, nonce=drawn.nonce + _code(terms, drawn))
    return Challenge(address, message.nonce, message.to_text(), message.expires_at_ms)


def _code(terms: Terms, drawn: LoginMessage) -> str:
    """Over the text as it would be with the drawn half of the nonce alone."""
    return hmac.new(terms.secret, drawn.to_text().encode(), hashlib.sha256).digest()[:CODE_BYTES].hex()


def prove(
    terms: Terms, now_ms: int, address: str, message: str, signature: str, public_key: str | None
) -> Proven:
    """Checks all of a login that needs no database. `address` is canonical; `public_key` (base64) is needed
    for native ones.

    Raises ChallengeInvalid (not our text, not for this address), ChallengeExpired, LoginSignatureInvalid,
    InvalidRequest for a native address without a public key.
    """
    try:
        read = parse_login_message(message)
    except LoginMessageInvalid:
        raise ChallengeInvalid() from None
    if (read.domain, read.uri, read.address) != (terms.domain, terms.uri, address):
        raise ChallengeInvalid()
    half, code = read.nonce[: 2 * NONCE_BYTES], read.nonce[2 * NONCE_BYTES :]
    if len(half) < 2 * NONCE_BYTES or not hmac.compare_digest(code, _code(terms, replace(read, nonce=half))):
        raise ChallengeInvalid()
    if read.expires_at_ms <= now_ms:
        raise ChallengeExpired()
    if kind_of(address) == EVM:
        _check_evm(address, message, signature)
        return Proven(address, read.nonce, message, "", read.expires_at_ms)
    own_key = _check_native(address, message, signature, public_key)
    return Proven(address, read.nonce, message, own_key, read.expires_at_ms)


class LoggedIn(NamedTuple):
    """The session, whose it is, and whether the wallet was unknown until now."""

    session: NewSession
    profile: Profile
    is_new: bool


def log_in(tx: Tx, proven: Proven, grant_units: int, *, may_open: bool = True) -> LoggedIn | None:
    """Uses the text up and opens a session; a new wallet's account is opened, with the devnet's grant.

    None, and nothing is done, for a new wallet where it may not be opened now. Raises ChallengeExpired,
    ChallengeUsed.
    """
    is_new = users.get(tx, proven.address) is None
    if is_new and not may_open:
        return None
    if proven.expires_at_ms <= tx.now_ms:  # those that were used are forgotten by then
        raise ChallengeExpired()
    users.use_challenge(tx, proven.nonce, proven.address, proven.message, proven.expires_at_ms)
    open_account_with_grant(tx, proven.address, grant_units)
    users.ensure(tx, proven.address, proven.public_key)
    users.note_login(tx, proven.address)
    session = users.open_session(tx, proven.address)
    return LoggedIn(session, profile(tx, proven.address), is_new)


def _check_evm(address: str, message: str, signature: str) -> None:
    try:
        signer = recover(message, signature)
    except EvmSignatureInvalid as error:
        raise LoginSignatureInvalid(reason=str(error)) from None
    if signer != address:
        raise LoginSignatureInvalid(reason="another wallet signed it, or another text")


def _check_native(address: str, message: str, signature: str, public_key: str | None) -> str:
    if public_key is None:
        raise InvalidRequest(
            "A native wallet's login needs its public key.",
            fields=[{"field": "public_key", "message": "needed for ait1 addresses"}],
        )
    try:
        public, signed = public_from_text(public_key), decode_b64(signature)
    except ValueError as error:
        raise LoginSignatureInvalid(reason=str(error)) from None
    if native_address(public) != address:
        raise LoginSignatureInvalid(reason="the public key is another wallet's")
    if not verify(public, message.encode(), signed):
        raise LoginSignatureInvalid(reason="another key signed it, or another text")
    return public_to_text(public)
