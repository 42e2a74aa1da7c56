"""How a command ends when something is wrong: one line (what, and what to do next) and an exit code."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlsplit

import typer

from aitbc.cli.output import clean, fail
from aitbc.sdk.errors import (
    AitbcClientError,
    ApiError,
    CoordinatorUnreachable,
    JobFailed,
    RateLimited,
    UnexpectedAnswer,
    WaitTimeout,
)
from aitbc.sdk.fields import plain

FAILURE = 1
USAGE = 2
UNREACHABLE = 3
REFUSED = 4
INTERRUPTED = 130

EXIT_CODES = {
    0: "done",
    FAILURE: "failed: the job failed, the receipt is not proven, the server has an error",
    USAGE: "used wrongly: an unknown option, a bad value, a bad setting",
    UNREACHABLE: "no coordinator answered",
    REFUSED: "the coordinator refused: key, money, limits, no such thing",
    INTERRUPTED: "interrupted by Ctrl-C",
}

_HINTS = {
    "LOG_REFUSED": "Compare the two with `aitbc log head`, and see docs/operating.md, Restoring.",
    "UNREACHABLE": "Is it running? Try `aitbc demo` or `aitbc serve`, or name another with --url.",
    "UNEXPECTED_ANSWER": "Check --url.",
    "UNAUTHORIZED": "Give another with --key, AITBC_API_KEY or `aitbc login`.",
    "FORBIDDEN": "Use a key of the role that this needs.",
    "INSUFFICIENT_FUNDS": "See `aitbc balance` (`aitbc wallet balance`); a job with lower limits reserves less.",
    "KEY_LIMIT_EXCEEDED": "A job with lower limits reserves less; see `aitbc balance`.",
    "JOB_NOT_FOUND": "List yours with `aitbc jobs`.",
    "JOB_NOT_CANCELLABLE": "See `aitbc job show`.",
    "PAYMENT_NOT_PENDING": "See `aitbc payment show`.",
    "JOB_NOT_COMPLETED": "Wait for its answer: `aitbc job show`.",
    "JOB_STILL_OPEN": "`aitbc job cancel` gives the money back.",
    "JOB_ANSWERED": "Ask the miner; `aitbc payment release` pays it.",
    "RECEIPT_NOT_FOUND": "A job's receipt id is in `aitbc job show`.",
    "KEY_NOT_FOUND": "List them with `aitbc keys list`.",
    "RATE_LIMITED": "Try again later.",
    "UNKNOWN_CHAIN": "Name the coordinator's network with --chain-id.",
    "TX_WRONG_NONCE": "Another transfer was sent meanwhile; send this one again.",
    "QUEUE_FULL": "Try again later.",
    "WRONG_NETWORK": "Set CHAIN_ID to the database's network, or name that network's database.",
    "INVALID_JOB_TYPE": "Job types are llm_inference and embedding.",
}


_HINTS_OF_KEYS = {
    "missing": "Give one with --key, AITBC_API_KEY or `aitbc login`.",
    "unknown": "Is --url the coordinator that made it? Else give another with --key, AITBC_API_KEY or `aitbc login`.",
    "rotated": "Use the new secret that `aitbc keys rotate` printed.",
}
"""By the reason of a 401; else the hint for UNAUTHORIZED."""


class CommandError(Exception):
    """A command cannot go on. `hint` says what to do next."""

    def __init__(
        self, code: str, message: str, hint: str = "", *, exit_code: int = FAILURE, **details: Any
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        self.details = details


def usage_error(message: str, hint: str = "") -> CommandError:
    """Something was asked for in a way that cannot be meant."""
    return CommandError("USAGE", message, hint, exit_code=USAGE)


def checked_url(url: str) -> str:
    """`url`, if it is an http(s) address with a host and a port that can be."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise usage_error(f"not an http(s) address: {url!r}")
    return url


def report(error: Exception, *, as_json: bool) -> int:
    """Print what went wrong on stderr and return the exit code. Raises `error` again if it is a bug."""
    if isinstance(error, typer.Abort):
        fail("aborted")
        return FAILURE
    known = _known(error)
    if known is None:
        raise error
    if not known.message:
        pass  # the help was printed instead
    elif as_json:
        body = {"code": known.code, "message": known.message, "details": known.details}
        fail(json.dumps(plain({"error": body}), default=str), plain=True)
    else:
        fail(" ".join(part for part in (f"{known.code}: {_sentence(known.message)}", known.hint) if part))
    return known.exit_code


def _known(error: BaseException) -> CommandError | None:
    """The error in this program's terms; None for one that it does not know."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, AitbcClientError):
        return _of_client(error)
    if isinstance(error, typer.BadParameter) or hasattr(error, "format_message"):
        return _of_usage(error)
    return _of_server(error) or _of_machine(error)


def _of_client(error: AitbcClientError) -> CommandError:
    details: dict[str, Any] = dict(error.details)
    if error.request_id:
        details["request_id"] = error.request_id
    hint = _HINTS.get(error.code, "")
    if error.code == "UNAUTHORIZED":
        hint = _HINTS_OF_KEYS.get(str(details.get("reason")), hint)
    if error.code == "KEY_NOT_FOUND":
        hint = "List them with `aitbc wallet key list`."  # over HTTP only a wallet manages keys
    message = error.message
    if isinstance(error, CoordinatorUnreachable | UnexpectedAnswer):
        return CommandError(error.code, message, hint, exit_code=UNREACHABLE, **details)
    if isinstance(error, JobFailed):
        hint = f"Why: aitbc job explain {error.job.job_id}"
        return CommandError(error.code, message, hint, exit_code=FAILURE, **details)
    if isinstance(error, WaitTimeout):
        hint = f"It goes on: aitbc job show {error.job.job_id}; or aitbc job cancel {error.job.job_id}"
        return CommandError(error.code, message, hint, exit_code=FAILURE, **details)
    if isinstance(error, RateLimited) and error.retry_after_s:
        hint = f"Try again in {error.retry_after_s:.0f} s."
    if error.code == "INVALID_REQUEST" and (more := _brief(error.details, message)):
        message = f"{message} ({more})"
    status = error.status if isinstance(error, ApiError) else 0
    return CommandError(error.code, message, hint, exit_code=FAILURE if status >= 500 else REFUSED, **details)


def _brief(details: dict[str, Any], said: str) -> str:
    """Details of a refused request, short: `field: message` where they come so. What the message says of a
    field already is left out."""
    parts = []
    for name, value in details.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and "field" in item:
                if f"{item['field']}: " not in said:
                    parts.append(f"{item['field']}: {item.get('message', '')}")
            else:
                parts.append(f"{name}: {item}")
    return "; ".join(parts)[:500]


def _of_usage(error: Any) -> CommandError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "aitbc"
    code = USAGE if getattr(error, "exit_code", USAGE) == USAGE else FAILURE
    return CommandError("USAGE", str(error.format_message()), f"See: {command} --help", exit_code=code)


def _of_server(error: BaseException) -> CommandError | None:
    """Errors of the server's own modules, which only operator commands have loaded."""
    errors = sys.modules.get("aitbc.coordinator.errors")
    if errors is not None and isinstance(error, errors.AitbcError):
        code = FAILURE if error.status >= 500 else REFUSED
        return CommandError(
            error.code, str(error), _HINTS.get(error.code, ""), exit_code=code, **error.details
        )
    config = sys.modules.get("aitbc.coordinator.config")
    if config is not None and isinstance(error, config.SettingsError):
        message = str(error).replace("\n", "; ")
        return CommandError("BAD_SETTING", message, "Settings: .env.example", exit_code=USAGE)
    migrate = sys.modules.get("aitbc.coordinator.schema.migrate")
    if migrate is not None and isinstance(error, migrate.MigrationError):
        return CommandError("DATABASE_SCHEMA", str(error))
    server = sys.modules.get("aitbc.coordinator.server")
    if server is not None and isinstance(error, server.StartupFailed):
        return CommandError("START_FAILED", str(error), "Choose another with --port, or see who has it.")
    keyfile = sys.modules.get("aitbc.keyfile")
    if keyfile is not None and isinstance(error, keyfile.KeyFileError):
        return CommandError("KEY_FILE", str(error))
    return None


def _of_machine(error: BaseException) -> CommandError | None:
    """What the operating system or a database said no to."""
    for module, name in (("sqlalchemy.exc", "SQLAlchemyError"), ("sqlite3", "Error"), ("psycopg", "Error")):
        library = sys.modules.get(module)
        if library is not None and isinstance(error, getattr(library, name)):
            lines = str(getattr(error, "orig", None) or error).strip().splitlines()
            reason = lines[0] if lines else type(error).__name__
            return CommandError("DATABASE", reason, "Check DATABASE_URL; see `aitbc doctor`.")
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of Path.expanduser
        message = f"~ stands for no folder here: {error}"
        return CommandError(
            "HOME", message, "Name the folder in full, with --home or AITBC_HOME.", exit_code=USAGE
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return CommandError("SYSTEM", f"{where}{error.strerror or error}", "See `aitbc doctor`.")
    return None


def _sentence(message: str) -> str:
    text = clean(message, one_line=True).strip()
    return text if text.endswith((".", "!", "?", ")")) else f"{text}."
