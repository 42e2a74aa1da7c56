"""`aitbc submit`: a prompt in, an answer out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from uuid import uuid4

import typer

from aitbc.cli import complete
from aitbc.cli.failures import CommandError, usage_error
from aitbc.cli.output import ait, clean, note, pairs, print_json, say
from aitbc.cli.profile import JsonOption, KeyOption, UrlOption, connect
from aitbc.core.money import parse_ait
from aitbc.sdk import AitbcClientError, Client, Job, JobBody, Quote, chat_job, embedding_job, prompt_job
from aitbc.sdk.fields import plain

CUT = "The answer was cut where its most tokens ended: --max-tokens allows more."


def submit(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The prompt; left out or -, it is read from stdin.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Model, as `aitbc miners` lists them.", autocompletion=complete.models
        ),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens to generate; bounds the price.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="0 to 2; 0 is the likeliest answer.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="Nucleus sampling, above 0 up to 1.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Stop at this text; may be repeated.")] = None,
    system: Annotated[str | None, typer.Option(help="System message: makes the prompt a chat.")] = None,
    embed: Annotated[bool, typer.Option("--embed", help="Embed the prompt instead of answering it.")] = False,
    max_price: Annotated[str | None, typer.Option(metavar="AIT", help="Most to pay for 1000 tokens.")] = None,
    miner: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this miner.", autocompletion=complete.miner_ids)
    ] = None,
    region: Annotated[str | None, typer.Option(help="Only miners of this region.")] = None,
    min_memory_gb: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="Only miners with so much GPU memory.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9, higher first.")] = None,
    ttl: Annotated[int | None, typer.Option(metavar="SECONDS", help="Give up waiting after so long.")] = None,
    max_run: Annotated[int | None, typer.Option(metavar="SECONDS", help="Longest that it may run.")] = None,
    payment: Annotated[
        str | None,
        typer.Option(
            metavar="auto|manual", help="manual: pay the escrow first.", autocompletion=complete.PAYMENTS
        ),
    ] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key submits only once.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait, and print the answer.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, max=1e9, metavar="SECONDS", help="Wait no longer than this.")
    ] = None,
    quote: Annotated[bool, typer.Option("--quote", help="Only say what it would cost.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Submit a prompt. Prints the job's id, or with --wait the answer."""
    options = {
        "model": model,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "stop": stop or None,
        "max_price": _checked_price(max_price),
        "miner_id": miner,
        "region": region,
        "min_memory_gb": min_memory_gb,
        "priority": priority,
        "ttl_s": ttl,
        "max_run_s": max_run,
        "payment": payment,
    }
    body = _body(
        _read_prompt(prompt), system, embed, {name: x for name, x in options.items() if x is not None}
    )
    with connect(url, key) as client:
        if quote:
            _show_quote(client.quote(body), as_json)
            return
        job = _submit(client, body, idempotency_key)
        if payment == "manual":
            note(f"It waits for its payment: aitbc payment open {job.job_id}")
        if not wait:
            _show_submitted(job, as_json)
            return
        job = watch(client, job, timeout)
    if as_json:
        print_json(plain(job.raw))
    else:
        _show_answer(job)


def _read_prompt(prompt: str | None) -> str:
    if prompt is None or prompt == "-":
        if prompt is None and sys.stdin.isatty():
            raise usage_error("no prompt", "Give it as an argument or on stdin.")
        try:
            prompt = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise usage_error("the prompt on stdin is not UTF-8") from error
    if not prompt:
        raise usage_error("the prompt is empty")
    return prompt


def _checked_price(text: str | None) -> str | None:
    """--max-price, which other amounts' errors would not name."""
    try:
        if text is not None:
            parse_ait(text)
    except ValueError as error:
        raise usage_error(f"--max-price: {error}") from error
    return text


def _body(prompt: str, system: str | None, embed: bool, options: dict[str, Any]) -> JobBody:
    try:
        if embed:
            if system is not None:
                raise usage_error("--embed and --system do not go together")
            return embedding_job(prompt, **options)
        if system is not None:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
            return chat_job(messages, **options)
        return prompt_job(prompt, **options)
    except ValueError as error:
        raise usage_error(str(error)) from error


def _submit(client: Client, body: JobBody, idempotency_key: str | None) -> Job:
    """The job as admitted. Ctrl-C meanwhile says how to find out whether it was."""
    name = idempotency_key or f"cli-{uuid4()}"
    try:
        return client.submit_job(body, idempotency_key=name)
    except KeyboardInterrupt:
        hint = f"To get its id (or submit it now), run the same again with --idempotency-key {name}"
        raise CommandError(
            "INTERRUPTED", "stopped while submitting: the job may have been admitted", hint, exit_code=130
        ) from None


def watch(client: Client, job: Job, timeout_s: float | None) -> Job:
    """Wait for a job with a live line on stderr. Ctrl-C leaves the job running and says so."""
    start = time.monotonic()
    try:
        with _live_line() as show:
            show(describe(job))

            def outage(error: AitbcClientError | None) -> None:
                if error is not None:
                    show(f"{describe(job)}; {error.message.rstrip('.')}: trying again")

            return client.wait(
                job, timeout_s=timeout_s, on_progress=lambda news: show(describe(news)), on_outage=outage
            )
    except KeyboardInterrupt:
        waited_s = time.monotonic() - start
        hint = f"It goes on: aitbc job show {job.job_id}; or aitbc job cancel {job.job_id}"
        raise CommandError(
            "INTERRUPTED",
            f"stopped waiting for job {job.job_id} after {waited_s:.0f} s",
            hint,
            exit_code=130,
            job_id=job.job_id,
        ) from None


@contextmanager
def _live_line() -> Iterator[Callable[[str], None]]:
    """A function that shows a job's state: a changing line on a terminal, else a line for each change."""
    if not sys.stderr.isatty():
        said: list[str] = []

        def show(text: str) -> None:
            if said != [text]:
                said[:] = [text]
                note(text)

        yield show
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(clean(text, one_line=True)))


def describe(job: Job) -> str:
    """A job's state in a few words: queued, running on which miner, done."""
    if job.status == "pending":
        again = f", try {job.attempts + 1}" if job.attempts else ""
        place = f", place {job.queue_position}" if job.queue_position else ""
        why = "".join(f"; {warning.message.rstrip('.')}" for warning in job.warnings)
        return f"queued{place}{again}{why}"
    if job.status == "running":
        return f"running on {job.miner_id}"
    if job.status == "completed":
        return f"done by {job.miner_id}"
    return f"{job.status}: {job.cause or ''}".rstrip(": ")


def _show_submitted(job: Job, as_json: bool) -> None:
    if as_json:
        print_json(plain(job.raw))
        return
    say(job.job_id)
    note(f"{describe(job)}; {ait(job.price_held) or 0} AIT reserved. See: aitbc job show {job.job_id}")


def _show_answer(job: Job) -> None:
    if job.embeddings is not None:
        for vector in job.embeddings:
            say(" ".join(f"{number:g}" for number in vector))
    else:
        say(job.text or "")
    seconds = (
        f" in {(job.completed_at - job.started_at).total_seconds():.1f} s"
        if job.started_at and job.completed_at
        else ""
    )
    note(f"done{seconds} by {job.miner_id} for {ait(job.price) or 0} AIT; receipt {job.receipt_id}")
    if job.cut:
        note(CUT)


def _show_quote(quote: Quote, as_json: bool) -> None:
    if as_json:
        print_json(plain(quote.raw))
        return
    prices = quote.price_per_1k
    pairs(
        [
            ("miners that could run it", quote.eligible_miners),
            ("AIT per 1000 tokens", f"{ait(prices.lowest)} to {ait(prices.highest)}" if prices else None),
            ("most tokens", quote.max_units),
            ("at most, AIT", ait(quote.worst_case_price)),
            ("typically, AIT", ait(quote.typical_price)),
            ("expected wait", None if quote.expected_wait_s is None else f"{quote.expected_wait_s:.1f} s"),
            ("why not others", ", ".join(f"{code} {count}" for code, count in quote.reasons.items())),
        ]
    )
