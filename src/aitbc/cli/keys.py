"""`aitbc keys …`: API keys, made and revoked in the coordinator's own database."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from aitbc.cli import complete
from aitbc.cli.database import DatabaseOption, HomeOption, open_database, settings_from
from aitbc.cli.failures import usage_error
from aitbc.cli.output import note, print_json, say, table
from aitbc.cli.profile import JsonOption
from aitbc.core.clock import parse_rfc3339

keys_app = typer.Typer(
    no_args_is_help=True, help="API keys of this coordinator: create, list, revoke, rotate."
)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

KeyArgument = Annotated[
    str,
    typer.Argument(metavar="KEY_ID", help="The key's id: the third part of its text.", show_default=False),
]


@keys_app.command()
def create(
    role: Annotated[
        str,
        typer.Option(
            metavar="client|miner|admin",
            help="What the key may do.",
            show_default=False,
            autocompletion=complete.ROLES,
        ),
    ],
    account: Annotated[
        str | None, typer.Option(help="Whose money it moves; left out: a new account.")
    ] = None,
    label: Annotated[str, typer.Option(help="A remark for the list.")] = "",
    limit: Annotated[
        str | None, typer.Option(metavar="AIT", help="Most that it may spend in a period.")
    ] = None,
    limit_period: Annotated[
        str | None,
        typer.Option(metavar="day|month", help="The period of --limit.", autocompletion=complete.PERIODS),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="12h, 30d, 2027-01-31 or a time of RFC 3339.")
    ] = None,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Create a key. Its text is shown once; only a hash of it is stored.

    The database must be there. Only in a home that was named (AITBC_HOME, --home) and has none yet is it made.
    """
    if role not in {"client", "miner", "admin"}:
        raise usage_error(f"no role {role!r}", "Roles are client, miner and admin.")
    options: dict[str, Any] = {"label": label, **_limit(limit, limit_period)}
    if expires is not None:
        options["expires_at_ms"] = moment_ms(expires)
    settings = settings_from(home, database_url)
    from aitbc.coordinator.database import Tx
    from aitbc.coordinator.flows.acts.onboarding import issue_key
    from aitbc.coordinator.process.runtime import found_network, signing_key

    def make(tx: Tx) -> Any:
        found_network(tx, settings, key)
        grant_units = settings.devnet_grant_units
        return issue_key(tx, role=role, account_id=account, grant_units=grant_units, **options)

    with open_database(settings, create=True) as database:
        key = signing_key(settings)
        new = database.write_sync(make)
    _show_key(new, as_json)


@keys_app.command("list")
def list_keys(
    account: Annotated[str | None, typer.Option(help="Only keys of this account.")] = None,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """List the keys: never their text."""
    from aitbc.coordinator.api_keys.service import list_keys as read_keys

    with open_database(settings_from(home, database_url), looks_only=True) as database:
        found = [_key_json(row) for row in database.read_sync(read_keys, account)]
    if as_json:
        print_json(found)
        return
    if not found:
        say("no keys")
        return
    names = ("key_id", "role", "account", "state", "limit", "limit_period", "expires_at", "label")
    table([name.upper() for name in names], [[key[name] for name in names] for key in found])


@keys_app.command()
def revoke(
    key_id: KeyArgument,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Revoke a key, at once and for good."""
    from aitbc.coordinator.api_keys.service import revoke_key

    with open_database(settings_from(home, database_url)) as database:
        database.write_sync(revoke_key, _id_of(key_id))
    if as_json:
        print_json({"key_id": _id_of(key_id), "revoked": True})
    else:
        say(f"{_id_of(key_id)} revoked")


@keys_app.command()
def rotate(
    key_id: KeyArgument,
    grace: Annotated[
        str, typer.Option(metavar="SPAN", help="How long the old text stays good: 0s, 12h, 7d.")
    ] = "24h",
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Give a key a new text; its id, account and limits stay."""
    from aitbc.coordinator.api_keys.service import rotate_key

    grace_s = span_s(grace)
    if grace_s is None:
        raise usage_error(f"not a span of time: {grace!r}", "Examples: 0s, 30m, 12h, 7d.")
    with open_database(settings_from(home, database_url)) as database:
        new = database.write_sync(rotate_key, _id_of(key_id), grace_s)
    _show_key(new, as_json)


def _limit(limit: str | None, period: str | None) -> dict[str, Any]:
    if limit is None:
        if period is not None:
            raise usage_error("--limit-period needs --limit")
        return {}
    from aitbc.core.money import parse_ait

    try:
        units = parse_ait(limit)
    except ValueError as error:
        raise usage_error(f"--limit {limit}: {error}") from error
    if period not in {None, "day", "month"}:
        raise usage_error(f"no period {period!r}", "Periods are day and month.")
    return {"limit_units": units, "limit_period": period or "month"}


def span_s(text: str) -> int | None:
    """Seconds of "90s", "30m", "12h", "7d", "2w"; None for any other text."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text.strip())
    return int(match[1]) * _SECONDS[match[2]] if match else None


def moment_ms(text: str) -> int:
    """Milliseconds since the epoch of a span from now, a date (its end, UTC) or a time; never in the past."""
    seconds = span_s(text)
    now_ms = int(time.time() * 1000)
    if seconds is not None:
        return now_ms + seconds * 1000
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise usage_error(f"not a time: {text!r}", "Examples: 12h, 30d, 2027-01-31.") from error
    if len(text.strip()) == len("2027-01-31"):
        moment = moment.replace(hour=23, minute=59, second=59)
    try:
        at_ms = parse_rfc3339((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat())
    except ValueError as error:
        raise usage_error(f"{text}: {error}") from error
    if at_ms <= now_ms:
        raise usage_error(f"{text} is in the past")
    return at_ms


def _id_of(text: str) -> str:
    """A key's id, also where the whole text of the key was given."""
    parts = text.split("_")
    return parts[2] if len(parts) >= 4 and parts[0] == "aitbc" else text


def _show_key(new: Any, as_json: bool) -> None:
    if as_json:
        print_json({"key": new.key, "key_id": new.key_id, "account": new.account, "role": new.role})
        return
    say(new.key)
    note(
        f"{new.role} key {new.key_id} of account {new.account}; this is the only time that its text is shown"
    )


def _key_json(row: Any) -> dict[str, Any]:
    from aitbc.core.clock import rfc3339
    from aitbc.core.money import ait_number

    def at(ms: int | None) -> str | None:
        return None if ms is None else rfc3339(ms)

    expired = row.expires_at_ms is not None and row.expires_at_ms <= time.time() * 1000
    state = "revoked" if row.revoked_at_ms is not None else "expired" if expired else "active"
    return {
        "key_id": row.id,
        "role": row.role,
        "account": row.account_id,
        "state": state,
        "label": row.label,
        "created_at": at(row.created_at_ms),
        "expires_at": at(row.expires_at_ms),
        "revoked_at": at(row.revoked_at_ms),
        "limit": None if row.limit_units is None else ait_number(row.limit_units),
        "limit_period": row.limit_period,
        "spent": None if row.limit_units is None else ait_number(row.spent_units),
    }
