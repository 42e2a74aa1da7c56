"""`aitbc jobs` and `aitbc job …`: what became of what was submitted."""

from __future__ import annotations

from typing import Annotated

import typer

from aitbc.cli import complete
from aitbc.cli.output import ait, clean, moment, note, pairs, print_json, say, table
from aitbc.cli.profile import JsonOption, KeyOption, UrlOption, connect
from aitbc.cli.submit import CUT, describe
from aitbc.sdk import Job
from aitbc.sdk.fields import plain

JobArgument = Annotated[
    str,
    typer.Argument(metavar="JOB", help="The job's id.", show_default=False, autocompletion=complete.job_ids),
]

job_app = typer.Typer(no_args_is_help=True, help="One job: show, cancel, explain, events.")


def jobs(
    status: Annotated[
        str | None,
        typer.Option(
            metavar="pending|running|completed|failed|cancelled",
            help="Only these.",
            autocompletion=complete.STATUSES,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="How many newer ones to skip.")] = 0,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """List your jobs, newest first."""
    with connect(url, key) as client:
        page = client.jobs(status=status, limit=limit, offset=offset)
    if as_json:
        print_json([plain(job.raw) for job in page])
        return
    if not page.items:
        say("no jobs")
        return
    rows = [(job.job_id, describe(job), job.model, ait(job.price), moment(job.created_at)) for job in page]
    table(("JOB", "STATE", "MODEL", "AIT", "CREATED"), rows)
    if page.total is not None and page.total > offset + len(page):
        say(f"{len(page)} of {page.total}; the next: --offset {offset + len(page)}")


@job_app.command()
def show(job: JobArgument, as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """Show a job: its state, its prompt, its answer, its price."""
    with connect(url, key) as client:
        found = client.job(job)
    if as_json:
        print_json(plain(found.raw))
    else:
        _show(found)


@job_app.command()
def cancel(
    job: JobArgument, as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None
) -> None:
    """Cancel a job that has not ended. What a run has cost so far is paid, the rest is returned."""
    with connect(url, key) as client:
        cancelled = client.cancel(job)
    if as_json:
        print_json(plain(cancelled.raw))
    else:
        cost = f", {ait(cancelled.price)} AIT for what had run" if cancelled.price else ""
        say(f"{cancelled.job_id} {cancelled.status}{cost}")


@job_app.command()
def explain(
    job: JobArgument, as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None
) -> None:
    """Say why a job waits or ended as it did, and what would let a waiting one run."""
    with connect(url, key) as client:
        found = client.explain(job)
    if as_json:
        print_json(plain(found.raw))
        return
    say(clean(found.summary or found.status, one_line=True))
    pairs(
        [
            ("miners that could run it", f"{found.eligible_miners} of {found.registered_miners}"),
            ("why not the others", ", ".join(f"{code} {count}" for code, count in found.reasons.items())),
            ("what would help", found.nearest_change),
            ("place in the queue", found.queue_position),
        ]
    )


@job_app.command()
def events(
    job: JobArgument, as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None
) -> None:
    """List what happened to a job, oldest first."""
    with connect(url, key) as client:
        history = client.events(job)
    if as_json:
        print_json([plain(event.raw) for event in history])
        return
    rows = [
        (
            moment(event.at),
            event.type,
            event.actor,
            " ".join(f"{name}={value}" for name, value in event.detail.items() if value is not None),
        )
        for event in history
    ]
    table(("TIME", "EVENT", "BY", "DETAIL"), rows)


def _show(job: Job) -> None:
    pairs(
        [
            ("job", job.job_id),
            ("state", describe(job)),
            ("type", job.job_type),
            ("model", job.model),
            ("account", job.account),
            ("error", job.error),
            ("tries", job.attempts),
            ("created", moment(job.created_at)),
            ("started", moment(job.started_at)),
            ("ended", moment(job.completed_at)),
            ("expires", None if job.done else moment(job.expires_at)),
            ("reserved, AIT", None if job.done else ait(job.price_held)),
            ("AIT per 1000 tokens", ait(job.unit_price)),
            ("price, AIT", ait(job.price)),
            ("receipt", job.receipt_id),
        ]
    )
    for message in job.messages or ():
        _block(str(message.get("role")), str(message.get("content")))
    if job.prompt is not None:
        _block("prompt", job.prompt)
    for text in job.parameters.get("input") or ():
        _block("input", str(text))
    if job.embeddings is not None:
        sizes = ", ".join(str(len(vector)) for vector in job.embeddings)
        _block("answer", f"{len(job.embeddings)} vector(s) of size {sizes}; --json shows them")
    elif job.text is not None:
        _block("answer", job.text)
        if job.cut:
            note(CUT)


def _block(title: str, text: str) -> None:
    say(f"--- {clean(title, one_line=True)}")
    say(text)
