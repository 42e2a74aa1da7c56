"""`aitbc miner status`: what a miner did, earned, failed and missed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc.cli.failures import REFUSED, UNREACHABLE, CommandError, checked_url, usage_error
from aitbc.cli.output import ait, note, pairs, print_json, say, table
from aitbc.cli.profile import JsonOption, KeyOption, home, resolve
from aitbc.core.clock import rfc3339
from aitbc.core.money import format_ait
from aitbc.keyfile import KeyFileError, load_key
from aitbc.miner.answers import CoordinatorUnreachable, Refused
from aitbc.miner.client import CoordinatorClient
from aitbc.miner.lock import is_running
from aitbc.miner.settings import MINER_ID
from aitbc.miner.tally import Tally, load_tally
from aitbc.sdk import Client
from aitbc.sdk.errors import AitbcClientError
from aitbc.sdk.fields import plain

WRONG_KEY = "What is above is what this machine knows; give the miner's own key by --key or AITBC_API_KEY for the rest."

MAX_PAGES = 20
"""Of the account's statement, 1000 movements each: what a sum of earnings looks at."""


def status(
    coordinator: Annotated[
        str | None,
        typer.Option(
            "--coordinator", "--url", metavar="URL", help="Coordinator; else AITBC_URL, the profile."
        ),
    ] = None,
    key: KeyOption = None,
    miner_id: Annotated[
        str | None, typer.Option("--id", help="The miner's id; default: from this machine's miner key.")
    ] = None,
    home_folder: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", help="The miner's home; else AITBC_HOME, ~/.aitbc."),
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, max=3650, help="Of how many days the earnings are summed.")
    ] = 30,
    as_json: JsonOption = False,
) -> None:
    """Show a miner's work, earnings (grants left out), failures by cause, and what it missed and why.

    Counts of this machine come from the miner's own tally; its standing and the money from the coordinator.
    """
    folder = (home_folder or home()).expanduser().absolute() / "miner"
    name = miner_id or _id_of_key(folder)
    if name is not None and not MINER_ID.fullmatch(name):
        raise usage_error("a miner's id has 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    tally = load_tally(folder / name) if name is not None else None
    runs_here = name is not None and is_running(folder / name)
    target = resolve(coordinator, key)
    trouble: CommandError | AitbcClientError | None = None
    standing: dict[str, Any] = {}
    earned: dict[str, Any] = {}
    try:
        standing = asyncio.run(_standing(checked_url(target.url), target.key or "", name))
        earned = _earned(target.url, target.key or "", days)
    except (CoordinatorUnreachable, Refused) as error:
        trouble = _trouble(error, target.url)
    except AitbcClientError as error:
        trouble = error
    except ValueError as error:
        raise usage_error(str(error)) from error
    if as_json:
        whole = {"miner_id": standing.get("miner_id") or name, "runs_here": runs_here, "here": _facts(tally)}
        print_json(plain({**whole, "at_coordinator": standing or None, "earned": earned or None}))
    else:
        _show(name, runs_here, tally, standing, earned)
    if trouble is not None:
        raise trouble


def _id_of_key(folder: Path) -> str | None:
    """The id that `aitbc miner run` would use here; None where no miner has run yet."""
    try:
        return f"miner-{load_key(folder / 'key.json').key_id}"
    except (FileNotFoundError, KeyFileError):
        return None


async def _standing(url: str, key: str, miner_id: str | None) -> dict[str, Any]:
    async with CoordinatorClient(url, key) as client:
        return await client.state(miner_id)


def _trouble(error: CoordinatorUnreachable | Refused, url: str) -> CommandError:
    if isinstance(error, Refused):
        hint = WRONG_KEY if error.status in (401, 403) else ""
        return CommandError(error.code, error.message, hint, exit_code=REFUSED)
    hint = "What is above is what this machine knows. A running miner goes on by itself once it is back."
    return CommandError(
        "UNREACHABLE", f"no coordinator answers at {url}: {error}", hint, exit_code=UNREACHABLE
    )


def _earned(url: str, key: str, days: int) -> dict[str, Any]:
    """What the account's miners were paid for jobs in the last `days`. Grants, deposits and transfers are no
    earnings."""
    since = datetime.now(UTC) - timedelta(days=days)
    total, fees, jobs, tokens = Decimal(0), Decimal(0), 0, 0
    cursor: str | None = None
    with Client(url, key) as client:
        for _ in range(MAX_PAGES):
            page = client.statement(since, cursor=cursor)
            for row in page.rows:
                if row.role == "miner" and row.kind == "post" and row.amount > 0:
                    total, jobs = total + row.amount, jobs + 1
                    fees, tokens = fees + (row.fee or 0), tokens + (row.units or 0)
            cursor = page.next_cursor
            if cursor is None:
                break
    return {
        "account": page.account,
        "days": days,
        "jobs": jobs,
        "tokens": tokens,
        "earned": total,
        "fees": fees,
        "is_whole": cursor is None,
    }


def _facts(tally: Tally | None) -> dict[str, Any] | None:
    if tally is None:
        return None
    return {
        "since": rfc3339(tally.since_ms),
        "updated": rfc3339(tally.updated_ms),
        "coordinator": tally.coordinator,
        "completed": tally.completed,
        "tokens": tally.tokens,
        "earned": Decimal(format_ait(tally.earned_units)),
        "failed": tally.failed,
        "refused": tally.refused,
        "lost": tally.lost,
        "interrupted": tally.interrupted,
        "without_work_s": {why: round(seconds, 1) for why, seconds in tally.idle_s.items()},
        "stopped_by": tally.stopped or None,
    }


def _show(
    name: str | None,
    runs_here: bool,
    tally: Tally | None,
    standing: Mapping[str, Any],
    earned: Mapping[str, Any],
) -> None:
    trust = standing.get("standing") or {}
    pairs(
        [
            ("miner", standing.get("miner_id") or name or "none has run here yet"),
            ("on this machine", "running" if runs_here else "not running"),
            ("at the coordinator", standing.get("status")),
            ("last heard of", standing.get("last_heartbeat")),
            ("running now", _running(standing)),
            ("no work comes", trust.get("message") or (tally.stopped if tally and runs_here else None)),
            ("work resumes in, s", trust.get("retry_after_s")),
            ("leases earned", _leases(trust)),
            ("failures in a row", trust.get("failures_in_a_row") or None),
        ]
    )
    if earned:
        say()
        partly = "" if earned["is_whole"] else f" (the first {MAX_PAGES * 1000} movements)"
        pairs(
            [
                (f"earned in {earned['days']} days, AIT", f"{ait(earned['earned'])}{partly}"),
                ("for jobs", earned["jobs"]),
                ("tokens", earned["tokens"]),
                ("fees, AIT", ait(earned["fees"])),
                ("account", earned["account"]),
            ]
        )
    if models := standing.get("models"):
        say()
        cap = standing.get("default_max_price_per_1k")
        table(("MODEL", "AIT PER 1000 TOKENS", "CONTEXT", "NOTE"), [_model(model, cap) for model in models])
    if tally is not None:
        _show_tally(tally)
    elif name is not None:
        note("this machine has no tally of it")


def _leases(trust: Mapping[str, Any]) -> str | None:
    """How many leases the account's answers have earned it so far."""
    approval = trust.get("approval")
    if approval in ("approved", "revoked"):
        return f"{approval} by the operator"
    earned = trust.get("leases_earned")
    return None if earned is None else f"{earned} at once; each answer earns one more"


def _running(standing: Mapping[str, Any]) -> str | None:
    if not standing:
        return None
    held = ", ".join(str(job.get("job_id")) for job in standing.get("held") or [])
    return f"{standing.get('running', 0)} of {standing.get('concurrency')}" + (f": {held}" if held else "")


def _model(model: Mapping[str, Any], cap: Any) -> tuple[object, ...]:
    price = model.get("price_per_1k")
    above = (
        isinstance(price, int | float | Decimal) and isinstance(cap, int | float | Decimal) and price > cap
    )
    advice = f"above the {cap} that clients pay by default" if above else ""
    return model.get("name"), price, model.get("context_length"), advice


def _show_tally(tally: Tally) -> None:
    say()
    say(f"counted here since {rfc3339(tally.since_ms)}")
    pairs(
        [
            ("jobs done", tally.completed),
            ("tokens", tally.tokens),
            ("earned, AIT", format_ait(tally.earned_units)),
            ("taken back by the coordinator", tally.lost or None),
            ("interrupted by Ctrl-C", tally.interrupted or None),
        ]
    )
    rows = [("failed", cause, count) for cause, count in sorted(tally.failed.items())]
    rows += [("answer refused", code, count) for code, count in sorted(tally.refused.items())]
    if rows:
        say()
        table(("WHAT", "WHY", "JOBS"), rows)
    if tally.idle_s:
        say()
        idle = sorted(tally.idle_s.items(), key=lambda item: -item[1])
        table(("WITHOUT WORK BECAUSE", "SECONDS"), [(why, round(seconds)) for why, seconds in idle])
