"""Wallet users: logging in, sessions, the user's money and keys."""

from __future__ import annotations

from typing import TypedDict

from starlette.responses import Response

from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import CHANGE, NATIVE, READ, READ_ONE, errors
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import Access, User, UserOrAdmin
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import wallets
from aitbc.coordinator.api_keys.service import KeyInfo
from aitbc.coordinator.errors import LOGIN_ERRORS, RateLimited, UserNotFound
from aitbc.coordinator.flows.acts import login as logins
from aitbc.coordinator.flows.acts import user_keys
from aitbc.coordinator.flows.shared import profiles
from aitbc.coordinator.flows.shared.profiles import Profile
from aitbc.coordinator.ledger.service import Balance
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.users import service as users
from aitbc.coordinator.users.service import UserRow
from aitbc.core.clock import rfc3339
from aitbc.core.wallet.address import EVM, AddressInvalid, canonical_address, checksummed

router = Router(NATIVE, tags=["Users"])

ME = "me"
NEWCOMER_LIMITS = ("newcomers", "newcomer")


@router.post(
    "/v1/users/challenge",
    summary="Ask for a login text",
    response_model=wallets.Challenge,
    responses=errors(400, 413),
)
async def challenge(request: ApiRequest, body: wallets.ChallengeRequest) -> Response:
    """A text for the wallet to sign (EIP-4361; CAIP-122 for ait1 addresses): good once, for five minutes."""
    runtime = request.runtime
    made = logins.challenge(
        _terms(runtime), runtime.clock.now_ms(), logins.wallet_address(body.wallet_address)
    )
    return reply(
        wallets.Challenge(
            {
                "wallet_address": body.wallet_address,
                "message": made.message,
                "nonce": made.nonce,
                "expires_at": rfc3339(made.expires_at_ms),
            }
        )
    )


@router.post(
    "/v1/users/login",
    summary="Login or register with a wallet",
    response_model=wallets.Login,
    responses=errors(400, 401, 413, 429, 503),
)
async def login(request: ApiRequest, body: wallets.LoginRequest) -> Response:
    """A session of 24 hours for a signed challenge. The first login opens the wallet's account."""
    access: Access = request.scope["aitbc.access"]
    runtime, peer = request.runtime, request.client_address
    address = logins.wallet_address(body.wallet_address)
    try:
        proven = logins.prove(
            _terms(runtime),
            runtime.clock.now_ms(),
            address,
            body.message,
            body.signature,
            body.public_key,
        )
        # What counts for the wallet is what only its owner can do: a login that succeeded.
        access.admit(request, "wallet", address)
        may_open = all(access.limits.allows(name, peer) for name in NEWCOMER_LIMITS)
        logged_in = await runtime.db.write(
            logins.log_in, proven, runtime.settings.devnet_grant_units, may_open=may_open
        )
    except LOGIN_ERRORS as error:
        raise access.failed(request, error) from None
    if logged_in is None:
        for name in NEWCOMER_LIMITS:
            access.admit(request, name, peer)
        raise RateLimited(limit=runtime.settings.rate_limit_user, retry_after_s=1)  # the minute is just over
    if logged_in.is_new:
        for name in NEWCOMER_LIMITS:
            access.note(request, name, peer)
    access.note(request, "wallet", address)
    session = logged_in.session
    return reply(
        wallets.Login(
            {
                "session_token": session.token,
                "token": session.token,
                "session_id": session.id,
                "expires_at": rfc3339(session.expires_at_ms),
                "user": _profile_json(logged_in.profile),
            }
        )
    )


def _terms(runtime: Runtime) -> logins.Terms:
    return logins.Terms.of(runtime.settings, runtime.login_secret)


@router.post(
    "/v1/users/logout",
    summary="End this session",
    response_model=wallets.EndedSession,
    responses=CHANGE,
)
async def logout(request: ApiRequest, principal: User) -> Response:
    """The session's token stops working at once."""
    await request.runtime.db.write(users.revoke_session, principal.account_id, principal.key_id)
    return reply(wallets.EndedSession(session_id=principal.key_id, revoked=True))


@router.get("/v1/users/me", summary="Current user profile", response_model=wallets.User, responses=READ_ONE)
async def me(request: ApiRequest, principal: User) -> Response:
    """Who the session's user is, and its money."""
    return reply(_profile_json(await request.runtime.db.read(profiles.profile, principal.account_id)))


@router.get("/v1/users/me/sessions", summary="Your sessions", response_model=wallets.Sessions, responses=READ)
async def list_sessions(request: ApiRequest, principal: User) -> Response:
    """Those that are good now, newest first."""
    rows = await request.runtime.db.read(users.sessions, principal.account_id)
    found: list[wallets.Session] = [
        {
            "session_id": row.id,
            "created_at": rfc3339(row.created_at_ms),
            "expires_at": rfc3339(row.expires_at_ms),
            "current": row.id == principal.key_id,
        }
        for row in rows
    ]
    return reply(wallets.Sessions(sessions=found))


@router.delete(
    "/v1/users/me/sessions/{session_id}",
    summary="End one of your sessions",
    response_model=wallets.EndedSession,
    responses=CHANGE,
)
async def end_session(request: ApiRequest, principal: User, session_id: str) -> Response:
    """Its token stops working at once."""
    await request.runtime.db.write(users.revoke_session, principal.account_id, session_id)
    return reply(wallets.EndedSession(session_id=session_id, revoked=True))


@router.get("/v1/users/me/keys", summary="Your API keys", response_model=wallets.UserKeys, responses=READ)
async def list_keys(request: ApiRequest, principal: User) -> Response:
    """The keys of your account, oldest first, also those that have ended."""
    rows = await request.runtime.db.read(user_keys.list_own, principal.account_id)
    return reply(wallets.UserKeys(keys=[_key_json(row) for row in rows]))


@router.post(
    "/v1/users/me/keys",
    summary="Make an API key",
    status_code=201,
    response_model=wallets.MadeKey,
    responses=CHANGE,
)
async def make_key(request: ApiRequest, principal: User, body: wallets.NewUserKey) -> Response:
    """A client or miner key of your own account: its money is your wallet's. Its text is shown this once."""
    made = await request.runtime.db.write(
        user_keys.create,
        principal.account_id,
        role=body.role,
        label=body.label,
        limit_units=body.limit,
        limit_period=body.limit_period,
        expires_at_ms=body.expires_at,
    )
    return reply(wallets.MadeKey(key=made.key, key_id=made.key_id, account=made.account, role=made.role), 201)


@router.delete(
    "/v1/users/me/keys/{key_id}",
    summary="Revoke one of your API keys",
    response_model=wallets.EndedKey,
    responses=CHANGE,
)
async def revoke_key(request: ApiRequest, principal: User, key_id: str) -> Response:
    """It stops working at once, for good."""
    await request.runtime.db.write(user_keys.revoke, principal.account_id, key_id)
    return reply(wallets.EndedKey(key_id=key_id, revoked=True))


@router.get(
    "/v1/users/{user_id}/balance",
    summary="Wallet balance of a user",
    response_model=wallets.UserBalance,
    responses=READ_ONE,
)
async def balance(request: ApiRequest, principal: UserOrAdmin, user_id: str) -> Response:
    """Your own (`me` will do), or anybody's for an admin."""
    try:
        account = principal.account_id if user_id == ME else canonical_address(user_id)
    except AddressInvalid:
        raise UserNotFound(user_id=user_id) from None
    if not principal.is_admin and account != principal.account_id:
        raise UserNotFound(user_id=user_id)
    user, money = await request.runtime.db.read(profiles.profile, account)
    return reply(wallets.UserBalance({"user_id": user.id, "address": _shown(user), **_money_json(money)}))


def _profile_json(profile: Profile) -> wallets.User:
    user = profile.user
    return {
        "id": user.id,
        "address": _shown(user),
        "kind": user.kind,
        "created_at": rfc3339(user.created_at_ms),
        "last_login_at": rfc3339(user.last_login_ms) if user.last_login_ms else None,
        **_money_json(profile.money),
        "nonce": user.nonce,
    }


def _shown(user: UserRow) -> str:
    return checksummed(user.id) if user.kind == EVM else user.id


class _Money(TypedDict):
    balance: float
    held: float
    available: float


def _money_json(money: Balance) -> _Money:
    return {
        "balance": ait(money.balance_units),
        "held": ait(money.held_units),
        "available": ait(money.available_units),
    }


def _key_json(row: KeyInfo) -> wallets.UserKey:
    return {
        "key_id": row.id,
        "account": row.account_id,
        "role": row.role,
        "label": row.label,
        "created_at": rfc3339(row.created_at_ms),
        "expires_at": None if row.expires_at_ms is None else rfc3339(row.expires_at_ms),
        "revoked_at": None if row.revoked_at_ms is None else rfc3339(row.revoked_at_ms),
        "limit": None if row.limit_units is None else ait(row.limit_units),
        "limit_period": row.limit_period,
    }
