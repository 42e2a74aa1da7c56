"""Who asks: keys, sessions, logins, users."""

from typing import Any, ClassVar

from aitbc.coordinator.errors.base import AitbcError, NotFound


class Unauthorized(AitbcError):
    """Nobody is told what he could not know: that a key was revoked or has expired learns who shows its secret.

    `reason` in the details: missing, unknown, revoked, expired, rotated or ended; with `key_id` or `session_id` where
    the secret was right.
    """

    status = 401
    code = "UNAUTHORIZED"
    template = "This needs an API key (X-Api-Key or Authorization: Bearer) or a session (X-Session-Token)."
    reason: ClassVar[str] = "missing"

    def __init__(self, message: str | None = None, **details: Any) -> None:
        super().__init__(message, reason=self.reason, **{k: v for k, v in details.items() if k != "reason"})


class KeyUnknown(Unauthorized):
    template = "The API key that was shown is not known here."
    reason = "unknown"


class KeyRevoked(Unauthorized):
    template = "The API key {key_id} was revoked at {at}."
    reason = "revoked"


class KeyExpired(Unauthorized):
    template = "The API key {key_id} expired at {at}."
    reason = "expired"


class KeyRotated(Unauthorized):
    template = "The API key {key_id} has a new secret; the one that was shown ended at {at}."
    reason = "rotated"


class CredentialEnded(Unauthorized):
    template = "The key or session ended while the request waited: it was revoked or rotated, or has expired."
    reason = "ended"


class SessionUnknown(Unauthorized):
    template = "The session that was shown is not known here, or ended long ago; log in again."
    reason = "unknown"


class SessionRevoked(Unauthorized):
    template = "The session {session_id} was ended at {at}; log in again."
    reason = "revoked"


class SessionExpired(Unauthorized):
    template = "The session {session_id} expired at {at}; log in again."
    reason = "expired"


class ChallengeInvalid(AitbcError):
    status = 401
    code = "CHALLENGE_INVALID"
    template = "This is not a login text that this coordinator gave to this address; ask for a new one."


class ChallengeExpired(AitbcError):
    status = 401
    code = "CHALLENGE_EXPIRED"
    template = "The login text has expired; ask for a new one."


class ChallengeUsed(AitbcError):
    status = 401
    code = "CHALLENGE_USED"
    template = "The login text was used before; ask for a new one."


class LoginSignatureInvalid(AitbcError):
    status = 401
    code = "LOGIN_SIGNATURE_INVALID"
    template = "The signature is not this address's over the login text: {reason}."


LOGIN_ERRORS = (ChallengeInvalid, ChallengeExpired, ChallengeUsed, LoginSignatureInvalid)


class KeyNotFound(NotFound):
    code = "KEY_NOT_FOUND"
    template = "There is no such key: {key_id}"


class UserNotFound(NotFound):
    code = "USER_NOT_FOUND"
    template = "There is no such user: {user_id}"


class SessionNotFound(NotFound):
    code = "SESSION_NOT_FOUND"
    template = "There is no such session: {session_id}"


class TooManyKeys(AitbcError):
    status = 409
    code = "TOO_MANY_KEYS"
    template = "The account has {in_force} keys that are in force, and {limit} are allowed; revoke one first."
