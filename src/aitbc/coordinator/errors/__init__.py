"""Every error the coordinator answers with: one class per stable code.

Slices and flows raise these; only `aitbc.coordinator.api` turns them into bodies. A message is a template over the
details given (`JobNotFound(job_id=...)`), or the text passed first. Details go out to the caller: never put
secrets, prompts or request bodies into them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from aitbc.core.money import ait_number, format_ait


class _Missing(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


class AitbcError(Exception):
    """Base of all errors with a code. `status` is the HTTP status, `details` a JSON-ready dict."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    template: ClassVar[str] = "Something went wrong on our side; the request id names it in our logs."

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = self.template.format_map(_Missing(details)) if message is None else message
        self.details = details
        super().__init__(self.message)


class MoneyError(AitbcError):
    """Base of refusals over amounts, which say their numbers.

    A detail named `…_units` is an amount in base units: the message has it in exact decimals of AIT, and the
    details under the name without `_units` as the JSON number in AIT.
    """

    def __init__(self, message: str | None = None, **details: Any) -> None:
        texts, numbers = dict(details), {}
        for name, value in details.items():
            if name.endswith("_units"):
                texts[name.removesuffix("_units")] = format_ait(value)
                numbers[name.removesuffix("_units")] = ait_number(value)
            else:
                numbers[name] = value
        super().__init__(self.template.format_map(_Missing(texts)) if message is None else message, **numbers)


class InternalError(AitbcError):
    """An unexpected failure. The cause is logged under the request id, never sent."""


class InvalidRequest(AitbcError):
    status = 400
    code = "INVALID_REQUEST"
    template = "The request is not valid."


class FeeTooLow(MoneyError, InvalidRequest):
    template = "The fee of {fee} AIT is too low: a transfer costs at least {min_fee} AIT here."


class RefundTooLarge(MoneyError, InvalidRequest):
    template = (
        "A refund of {amount} AIT is not possible: it is more than 0 and at most the price of {price} AIT."
    )


class InvalidJobType(AitbcError):
    status = 400
    code = "INVALID_JOB_TYPE"
    template = "The specified job type is not supported: {job_type}"


class UnknownChain(AitbcError):
    status = 400
    code = "UNKNOWN_CHAIN"
    template = "This coordinator keeps the chain {known}, no other."


class TxWrongChain(AitbcError):
    status = 400
    code = "TX_WRONG_CHAIN"
    template = (
        "The transaction was signed for another network; this is {chain_id} with the network_id {network_id}."
    )


class TxOldVersion(AitbcError):
    status = 400
    code = "TX_OLD_VERSION"
    template = (
        "A transaction of this version is good on every network of its name, and taken nowhere any more:"
        " sign it as {version}, with the network_id {network_id}."
    )


class TxBadAddress(AitbcError):
    status = 400
    code = "TX_BAD_ADDRESS"
    template = "The transaction has an address that does not fit: {reason}."


class TxBadSignature(AitbcError):
    status = 400
    code = "TX_BAD_SIGNATURE"
    template = "The signature is not the public key's over this transaction."


class SignatureRequired(AitbcError):
    status = 400
    code = "SIGNATURE_REQUIRED"
    template = "This miner registered a public key, so its results must be signed."


class SignatureInvalid(AitbcError):
    status = 400
    code = "SIGNATURE_INVALID"
    template = "The signature does not match the result and the miner's registered key."


class StatementOldVersion(SignatureInvalid):
    code = "STATEMENT_OLD_VERSION"
    template = (
        "The result is signed in a form that is good on every network of this name, and taken nowhere any more:"
        " upgrade the miner's program, which then signs {version}."
    )


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


class InsufficientFunds(MoneyError):
    status = 402
    code = "INSUFFICIENT_FUNDS"
    template = (
        "This needs {needed} AIT and the account has {available} AIT available: {balance} AIT, of which {held} AIT"
        " are held."
    )


class PriceTooLarge(InsufficientFunds):
    template = "The worst-case price of {needed} AIT is more than the {limit} AIT that a receipt can state."


class KeyLimitExceeded(MoneyError):
    status = 402
    code = "KEY_LIMIT_EXCEEDED"
    template = (
        "This needs {needed} AIT and key {key_id} has {available} AIT left: it may spend {limit} AIT a"
        " {limit_period}, {reserved} AIT are spent or reserved, and it starts anew at {resets_at}."
    )


class Forbidden(AitbcError):
    status = 403
    code = "FORBIDDEN"
    template = "This key may not do that."


class NotFound(AitbcError):
    status = 404
    code = "NOT_FOUND"
    template = "There is nothing here."


class JobNotFound(NotFound):
    code = "JOB_NOT_FOUND"
    template = "There is no such job: {job_id}"


class MinerNotFound(NotFound):
    code = "MINER_NOT_FOUND"
    template = "There is no such miner: {miner_id}"


class ReceiptNotFound(NotFound):
    code = "RECEIPT_NOT_FOUND"
    template = "There is no such receipt: {receipt_id}"


class AccountNotFound(NotFound):
    code = "ACCOUNT_NOT_FOUND"
    template = "There is no such account: {account_id}"


class KeyNotFound(NotFound):
    code = "KEY_NOT_FOUND"
    template = "There is no such key: {key_id}"


class UserNotFound(NotFound):
    code = "USER_NOT_FOUND"
    template = "There is no such user: {user_id}"


class SessionNotFound(NotFound):
    code = "SESSION_NOT_FOUND"
    template = "There is no such session: {session_id}"


class BlockNotFound(NotFound):
    code = "BLOCK_NOT_FOUND"
    template = "There is no such block: {height}"


class TransactionNotFound(NotFound):
    code = "TRANSACTION_NOT_FOUND"
    template = "There is no such transaction: {hash}"


class MethodNotAllowed(AitbcError):
    status = 405
    code = "METHOD_NOT_ALLOWED"
    template = "This path does not take {method}."


class JobNotCancellable(AitbcError):
    status = 409
    code = "JOB_NOT_CANCELLABLE"
    template = "The job has already ended as {status}."


class JobNotAvailable(AitbcError):
    status = 409
    code = "JOB_NOT_AVAILABLE"
    template = "The job cannot be claimed by this miner now: {job_id}"


class JobNotRunning(AitbcError):
    status = 409
    code = "JOB_NOT_RUNNING"
    template = "The job is not running: {job_id}"


class LeaseLost(AitbcError):
    status = 409
    code = "LEASE_LOST"
    template = "This miner does not hold the job's lease: {job_id}"


class MinerInactive(AitbcError):
    status = 409
    code = "MINER_INACTIVE"
    template = "The miner is not taking jobs: {miner_id}"


class MinerIdInUse(AitbcError):
    """`reason`: KEY_DIFFERS or MACHINE_DIFFERS; `lapses_in_s`: until then, where it is not heard of again."""

    status = 409
    code = "MINER_ID_IN_USE"
    template = (
        "A miner of this id is alive {by}: {miner_id}. Take another id, stop that one, or take it over"
        " (takeover; aitbc miner run --takeover)."
    )


class MinerSessionReplaced(AitbcError):
    status = 409
    code = "MINER_SESSION_REPLACED"
    template = "Another registration of this miner has taken this session's place: {miner_id}"


class IdempotencyConflict(AitbcError):
    status = 409
    code = "IDEMPOTENCY_CONFLICT"
    template = "This Idempotency-Key was used before with another body."


class PaymentNotFound(NotFound):
    code = "PAYMENT_NOT_FOUND"
    template = "There is no such payment: {payment_id}"


class PaymentNotPending(AitbcError):
    status = 409
    code = "PAYMENT_NOT_PENDING"
    template = "The job's payment is not waiting for escrow: it is {status}."


class PaymentNotEscrowed(AitbcError):
    status = 409
    code = "PAYMENT_NOT_ESCROWED"
    template = "The payment is not in escrow: it is {status}."


class PaymentAlreadyReleased(AitbcError):
    status = 409
    code = "PAYMENT_ALREADY_RELEASED"
    template = "The payment was released; it cannot be moved again."


class PaymentAlreadyRefunded(AitbcError):
    status = 409
    code = "PAYMENT_ALREADY_REFUNDED"
    template = "The payment was refunded; it cannot be moved again."


class JobNotCompleted(AitbcError):
    status = 409
    code = "JOB_NOT_COMPLETED"
    template = "The job has no answer yet, so there is nothing to pay for: it is {status}."


class JobStillOpen(AitbcError):
    status = 409
    code = "JOB_STILL_OPEN"
    template = "The job can still complete; cancel it to get the money back."


class JobAnswered(AitbcError):
    status = 409
    code = "JOB_ANSWERED"
    template = "The job was answered; only the miner's account can refund its payment."


class NotSealed(AitbcError):
    """It happened, but no block has sealed it yet; `retry_after_s` (seconds) becomes Retry-After."""

    status = 409
    code = "NOT_SEALED"
    template = "No block has sealed this yet; ask again in {retry_after_s} s."


class LogRefused(AitbcError):
    """The database does not continue the tree head that the coordinator has kept outside it."""

    status = 503
    code = "LOG_REFUSED"
    template = "The log is not served: {reason}."


class ForkRefused(AitbcError):
    """The leaves of a block are not those that its root was computed from: it is not sealed."""

    status = 500
    code = "FORK_REFUSED"
    template = "Block {height} does not fit the log; it was not sealed."


class WrongNetwork(AitbcError):
    """The database and the settings name different networks: nothing is begun."""

    status = 500
    code = "WRONG_NETWORK"
    template = "The database is of the network {database}, and CHAIN_ID is {configured}."


class TxReplayed(AitbcError):
    status = 409
    code = "TX_REPLAYED"
    template = "This transaction was applied before."


class TxWrongNonce(AitbcError):
    status = 409
    code = "TX_WRONG_NONCE"
    template = "The next nonce of this wallet is {expected}."


class TooManyKeys(AitbcError):
    status = 409
    code = "TOO_MANY_KEYS"
    template = "The account has {in_force} keys that are in force, and {limit} are allowed; revoke one first."


class TooManyMiners(AitbcError):
    status = 409
    code = "TOO_MANY_MINERS"
    template = "{alive} miners of this account are here, and {limit} may be; deregister one first."


class TooManyOffers(AitbcError):
    """An offer is a model of a miner for one job type; a name that ends in `:latest` is offered without it too."""

    status = 409
    code = "TOO_MANY_OFFERS"
    template = (
        "The registration would make {offers} offers of {of}, and {limit} are allowed: name fewer models."
    )


class TransferConflict(AitbcError):
    """A transfer id was used for something else, or a hold was settled before: the ledger refuses both."""

    status = 409
    code = "TRANSFER_CONFLICT"
    template = "That transfer was already made with other terms."


class RequestTimeout(AitbcError):
    """A request's head or body came too slowly (HEAD_TIMEOUT_S, BODY_TIMEOUT_S)."""

    status = 408
    code = "REQUEST_TIMEOUT"
    template = "The request did not arrive in time."


class HeadTooLarge(AitbcError):
    status = 431
    code = "HEAD_TOO_LARGE"
    template = (
        "The request's head is larger than {max_head_bytes} bytes, or has more than {max_headers} headers."
    )


class ResultTooLarge(AitbcError):
    """Counts as a try of the job, like any other result that is none."""

    status = 413
    code = "RESULT_TOO_LARGE"
    template = "The job allows a result of {max_bytes} bytes; this one has {bytes}."


class BodyTooLarge(AitbcError):
    status = 413
    code = "BODY_TOO_LARGE"
    template = "The request body is larger than {max_body_bytes} bytes."


class RateLimited(AitbcError):
    """`retry_after_s` (seconds, at least 1) becomes the Retry-After header."""

    status = 429
    code = "RATE_LIMITED"
    template = "Too many requests: the limit is {limit} a minute."


class QueueFull(AitbcError):
    status = 429
    code = "QUEUE_FULL"
    template = "{waiting} jobs of this account are waiting, and {limit} may; try again when some have run."


class FreeJobsUsedUp(AitbcError):
    """Each job leaves rows for good: so many of an account's may end on one day without having paid for any."""

    status = 429
    code = "FREE_JOBS_USED_UP"
    template = (
        "{ended} jobs of this account ended today without having paid for anything (cancelled, expired, failed or"
        " answered for a price of 0), and {limit} a day may; it may submit again from {resets_at} on."
    )


class InputQuotaExceeded(AitbcError):
    status = 429
    code = "INPUT_QUOTA_EXCEEDED"
    template = (
        "This input of {input_bytes} bytes does not fit: {waiting_bytes} bytes of the account's large inputs"
        " wait, and {limit_bytes} may; try again when some have run."
    )


class StorageUnavailable(AitbcError):
    """The database cannot be written or read now (full disk, lost connection); nothing was changed."""

    status = 503
    code = "STORAGE_UNAVAILABLE"
    template = "The database is not available at the moment; nothing was changed."


class ServerBusy(AitbcError):
    """A limit of the whole server is reached: connections, or bodies held at once."""

    status = 503
    code = "SERVER_BUSY"
    template = "The coordinator has as much to do as it may have at once; try again in a moment."


class ShuttingDown(AitbcError):
    status = 503
    code = "SHUTTING_DOWN"
    template = "The coordinator is shutting down; try again in a moment."


def _all_errors(base: type[AitbcError]) -> list[type[AitbcError]]:
    found = [base]
    for sub in base.__subclasses__():
        found += _all_errors(sub)
    return found


def error_table() -> list[tuple[int, str, str]]:
    """(status, code, message template) of every code, by status then code; the docs list this.

    A class without a code of its own says the same in other words, as where more is known; it has no row.
    """
    coded = [error for error in _all_errors(AitbcError) if "code" in vars(error)]
    rows = {(error.status, error.code, error.template) for error in coded}
    return sorted(rows)
