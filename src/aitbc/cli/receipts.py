"""`aitbc receipt …`: receipts, the keys that sign them, and their verification offline."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aitbc.cli import complete
from aitbc.cli.failures import FAILURE, CommandError
from aitbc.cli.output import ait, clean, note, paint, pairs, print_json, put, say, state, table, to_json
from aitbc.cli.profile import JsonOption, KeyOption, UrlOption, connect, home
from aitbc.cli.trust import load_keys, load_policy, read_file
from aitbc.sdk import Client, Receipt
from aitbc.sdk.fields import plain

if TYPE_CHECKING:
    from aitbc.core.receipt import KeySet, Verification

PINNED_KEYS = "receipt-keys.json"

SaveOption = Annotated[
    Path | None, typer.Option("--save", metavar="FILE", help="Write it to a file (- is stdout).")
]

receipt_app = typer.Typer(
    no_args_is_help=True, help="Receipts: show, list, verify; and the keys that sign them."
)


@receipt_app.command()
def show(
    receipt: Annotated[
        str,
        typer.Argument(
            metavar="RECEIPT",
            help="The receipt's id.",
            show_default=False,
            autocompletion=complete.receipt_ids,
        ),
    ],
    result: Annotated[
        bool, typer.Option("--result", help="With the answer that it covers (your own jobs).")
    ] = False,
    save: SaveOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Show a receipt, or save it to be verified anywhere, at any time."""
    with connect(url, key) as client:
        found = _fetch(client, receipt, result)
    if save is not None:
        save_document(save, plain(found.document), f"receipt {found.receipt_id}")
    if as_json:
        print_json(plain(found.document))
    elif save is None:
        _show(found)


@receipt_app.command("list")
def list_receipts(
    job: Annotated[
        str | None, typer.Option(metavar="JOB", help="Only of this job.", autocompletion=complete.job_ids)
    ] = None,
    client_account: Annotated[str | None, typer.Option("--client", help="Only paid by this account.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only paid to this account.")] = None,
    miner: Annotated[
        str | None, typer.Option(metavar="ID", help="Only by this miner.", autocompletion=complete.miner_ids)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Only of this model.", autocompletion=complete.models)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the list before ended.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """List the network's receipts, newest first. They show hashes, never prompts or answers."""
    with connect(url, key) as client:
        page = client.receipts(
            client=client_account,
            provider=provider,
            model=model,
            job_id=job,
            miner_id=miner,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        print_json([plain(receipt.document) for receipt in page])
    elif not page.items:
        say("no receipts")
    else:
        rows = [(r.receipt_id, r.model, r.units, ait(r.price), r.client, r.provider) for r in page]
        table(("RECEIPT", "MODEL", "TOKENS", "AIT", "CLIENT", "PROVIDER"), rows)
    if page.next_cursor and page.items:
        note(f"more: --cursor {page.next_cursor}")


@receipt_app.command()
def verify(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The receipt's file, or - for stdin.", show_default=False)
    ],
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The coordinator's keys; else AITBC_HOME/receipt-keys.json if there."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A policy: the keys, the witnesses and the quorum that you trust."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a receipt offline: signatures, price, its place in the log, the checkpoint, the witnesses.

    Says what it checked and what it could not; exit code 0 only if proven.
    """
    from aitbc.core.receipt import verify_bytes

    data = read_file(file)
    trusted = None if policy is None else load_policy(policy)
    # What a policy pins takes the place of a key set, and then a saved one has no say.
    key_set = None if trusted is not None and trusted.receipt_keys else _pinned_keys(keys)
    verification = verify_bytes(data, key_set, trusted)
    if as_json:
        print_json(verification_json(verification))
    else:
        _show_verification(verification, key_set is not None or trusted is not None)
    if not verification.ok:
        raise typer.Exit(FAILURE)


@receipt_app.command()
def keys(
    save: SaveOption = None, as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None
) -> None:
    """Show the coordinator's public keys, or save them to verify receipts against.

    Save them when you first trust the coordinator: keys asked for later prove only that it agrees with
    itself.
    """
    with connect(url, key) as client:
        key_set = client.keys()
    document = key_set.to_json()
    if save is not None:
        save_document(save, document, f"{len(key_set)} key(s) of {key_set.chain_id}")
    if as_json:
        print_json(document)
    elif save is None:
        rows = [
            (entry["key_id"], entry["use"], entry["valid_from"], entry["valid_to"])
            for entry in document["keys"]
        ]
        say(f"chain {key_set.chain_id}")
        table(("KEY", "USE", "VALID FROM", "VALID TO"), rows)


def _fetch(client: Client, receipt_id: str, with_result: bool) -> Receipt:
    found = client.receipt(receipt_id)
    if not with_result:
        return found
    for own in client.job_receipts(found.job_id):
        if own.receipt_id == found.receipt_id:
            return own
    raise CommandError("RECEIPT_NOT_FOUND", "its job's receipts do not list this receipt")


_PAID = {"auto": "with the receipt", "manual": "by hand, or by itself when its time has come"}


def _show(receipt: Receipt) -> None:
    document = receipt.document
    miner = document.get("miner_signature")
    pairs(
        [
            ("receipt", receipt.receipt_id),
            ("chain", document.get("chain_id")),
            ("network", document.get("network_id", "the receipt names the chain alone")),
            ("job", receipt.job_id),
            ("type", receipt.job_type),
            ("model", receipt.model),
            ("paid by", receipt.client),
            ("paid to", receipt.provider),
            ("miner", receipt.miner_id),
            ("tokens", f"{receipt.units} ({document.get('metering')})"),
            ("AIT per 1000", ait(receipt.unit_price)),
            ("price, AIT", ait(receipt.price)),
            ("fee, AIT", ait(receipt.fee)),
            ("paid", _PAID.get(str(document.get("payment")), "the receipt does not say how")),
            ("prompt hash", receipt.prompt_hash),
            ("result hash", receipt.result_hash),
            ("signed by", receipt.key_id),
            ("miner's key", miner.get("key_id") if isinstance(miner, dict) else "none"),
        ]
    )


def _show_verification(verification: Verification, had_keys: bool) -> None:
    words = {True: "ok     ", False: "WRONG  ", None: "unknown"}
    colours = {True: "green", False: "red", None: "yellow"}
    width = max(len(check.name) for check in verification.checks)
    for check in verification.checks:
        detail = clean(check.detail, one_line=True)
        put(f"{paint(words[check.ok], colours[check.ok])}  {check.name.ljust(width)}  {detail}")
    if verification.ok:
        logged = any(check.name == "inclusion" and check.ok for check in verification.checks)
        logged = logged and any(check.name == "checkpoint" and check.ok for check in verification.checks)
        put(state("proven: the receipt is genuine" + (", and in the network's log" if logged else "")))
        if any(check.name == "proof" and check.ok is None for check in verification.checks):
            note("It has no proof yet that it is in the log: save it again once a block has sealed it.")
    elif verification.failures and all(check.missing for check in verification.failures):
        put(
            paint(
                "NO PROOF YET: nothing is wrong, but the policy asks for more than the receipt has", "yellow"
            )
        )
        note("Save it again later, with `aitbc receipt show ID --save FILE`: its proof grows with the log.")
    elif verification.failures:
        put(paint("NOT PROVEN: the receipt is not genuine, or not from the coordinator of these keys", "red"))
    else:
        put(paint("NOT PROVEN: nothing is wrong, but who signed it is unknown", "yellow"))
        if not had_keys:
            note("Get the coordinator's keys with `aitbc receipt keys --save FILE` and pass --keys FILE.")


def verification_json(verification: Verification) -> dict[str, Any]:
    """{"ok", "lacking", "checks": [{"name", "ok": true|false|null, "detail"}]}.

    `lacking`: nothing is wrong but that the policy asks for a proof or for witnesses that are not there yet.
    """
    failures = verification.failures
    return {
        "ok": verification.ok,
        "lacking": bool(failures) and all(check.missing for check in failures),
        "checks": [
            {"name": check.name, "ok": check.ok, "detail": check.detail} for check in verification.checks
        ],
    }


def _pinned_keys(path: Path | None) -> KeySet | None:
    """The keys of this file, else those saved in the home folder, else None."""
    if path is not None:
        return load_keys(path)
    pinned = home() / PINNED_KEYS
    return load_keys(pinned) if pinned.exists() else None


def save_document(path: Path, document: dict[str, Any], what: str) -> None:
    """Write a document to a file, whole or not at all; - is stdout. A device or a pipe is written to, not
    replaced, and so is what a link leads to. Raises CommandError."""
    text = to_json(document) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
        return
    fresh: Path | None = None
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8")
        else:
            fresh = target.with_name(f".{target.name}.{os.getpid()}")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(target)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        if fresh is not None:
            fresh.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else "its links lead in a circle"
        raise CommandError("FILE", f"{path} cannot be written: {reason}") from error
    note(f"{what} saved in {path}")
