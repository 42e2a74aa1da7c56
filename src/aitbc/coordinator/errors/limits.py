"""What one server takes at once, and in which time."""

from aitbc.coordinator.errors.base import AitbcError


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


class BodyTooLarge(AitbcError):
    status = 413
    code = "BODY_TOO_LARGE"
    template = "The request body is larger than {max_body_bytes} bytes."


class RateLimited(AitbcError):
    """`retry_after_s` (seconds, at least 1) becomes the Retry-After header."""

    status = 429
    code = "RATE_LIMITED"
    template = "Too many requests: the limit is {limit} a minute."


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
