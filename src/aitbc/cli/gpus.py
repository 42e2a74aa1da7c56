"""`aitbc gpu …`: GPUs by the hour: list, show, book, release and review; prices; register one's own; orders."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from aitbc.cli.failures import usage_error
from aitbc.cli.output import ait, moment, pairs, print_json, say, table
from aitbc.cli.profile import JsonOption, KeyOption, UrlOption, connect
from aitbc.core.money import parse_ait
from aitbc.sdk import GpuOffer, Order
from aitbc.sdk.fields import plain

MAX_GB = 16_384
MAX_HOURS = 100_000

gpu_app = typer.Typer(
    no_args_is_help=True,
    help="GPUs by the hour: list, show, pricing, book, release, orders, review, reviews; register your own.",
)

GpuArgument = Annotated[
    str, typer.Argument(metavar="GPU", help="The GPU's id, as `aitbc gpu list` shows it.")
]
BookingOption = Annotated[str | None, typer.Option("--booking", metavar="ID", help="Which booking of it.")]


@gpu_app.command("list")
def list_gpus(
    model: Annotated[str | None, typer.Option(help='However it is written: "RTX 4090".')] = None,
    available: Annotated[bool, typer.Option("--available", help="Only those that are free now.")] = False,
    max_price: Annotated[
        str | None, typer.Option(metavar="AIT", help="An hour costs this at the most.")
    ] = None,
    min_memory: Annotated[
        float | None, typer.Option(metavar="GB", min=0, max=MAX_GB, help="Of one card.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Only in this region.")] = None,
    sort: Annotated[
        str, typer.Option(help="price, memory, rating, reliability (a minus turns it round) or newest.")
    ] = "price",
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """List GPUs on offer, the cheapest first."""
    with connect(url, key) as client:
        page = client.gpus(
            available=True if available else None,
            model=model,
            region=region,
            max_price=_amount("--max-price", max_price),
            memory_gb=min_memory,
            sort=sort,
            limit=limit,
        )
    if as_json:
        print_json([plain(one.raw) for one in page.items])
        return
    titles = ["GPU", "MODEL", "CARDS", "GB", "REGION", "AIT/HOUR", "RATING", "RELIABLE", "STATE"]
    table(titles, [_row(one) for one in page.items])
    if page.next_cursor is not None:
        say(f"The first {limit}; --limit shows more.")


def _row(one: GpuOffer) -> list[str]:
    return [
        one.gpu_id,
        one.model,
        str(one.count),
        f"{one.memory_gb:g}",
        one.region,
        ait(one.price_per_hour) or "",
        f"{one.rating:.1f} ({one.reviews})",
        f"{one.reliability:.0%}",
        one.status,
    ]


@gpu_app.command()
def show(gpu: GpuArgument, as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """Show a GPU, and when it is booked."""
    with connect(url, key) as client:
        _print_gpu(client.gpu(gpu), as_json)


@gpu_app.command()
def register(
    model: Annotated[str, typer.Argument(metavar="MODEL", help='As "NVIDIA GeForce RTX 4090".')],
    memory: Annotated[float, typer.Option("--memory", metavar="GB", min=0, max=MAX_GB, help="Of one card.")],
    price: Annotated[str, typer.Option("--price", metavar="AIT", help="For an hour of all cards.")],
    miner: Annotated[
        str | None, typer.Option("--miner", metavar="ID", help="Your miner on it; without one it is offline.")
    ] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="ID", help="The listing to change.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Cards.")] = 1,
    cuda: Annotated[str, typer.Option(metavar="VERSION")] = "",
    region: Annotated[str, typer.Option(help="Where it is.")] = "",
    capability: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    description: Annotated[str, typer.Option(help="For those who look for one.")] = "",
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Offer a GPU of yours by the hour, or change what you say of it (with a miner's key)."""
    with connect(url, key) as client:
        made = client.register_gpu(
            model,
            memory,
            _amount("--price", price) or "0",
            miner_id=miner,
            gpu_id=gpu,
            count=count,
            cuda_version=cuda,
            region=region,
            capabilities=capability or [],
            description=description,
        )
    _print_gpu(made, as_json)


@gpu_app.command()
def book(
    gpu: GpuArgument,
    hours: Annotated[
        float,
        typer.Argument(metavar="HOURS", min=0, max=MAX_HOURS, help="For how long; decimals are welcome."),
    ],
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it begins, as 2026-11-28T22:00:00Z; else now.")
    ] = None,
    max_price: Annotated[
        str | None, typer.Option(metavar="AIT", help="The whole time costs this at the most.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Book a GPU: the price of the whole time is held, and you get a key that submits jobs to it alone."""
    with connect(url, key) as client:
        cap = _amount("--max-price", max_price)
        order = client.book_gpu(gpu, hours, start=_time(start), max_price=cap, dry_run=dry_run)
    _print_order(order, as_json)


@gpu_app.command()
def release(
    gpu: GpuArgument,
    booking: BookingOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """End a booking now: the time that was used is paid, the rest goes back."""
    with connect(url, key) as client:
        _print_order(client.release_gpu(gpu, booking), as_json)


@gpu_app.command()
def orders(
    status: Annotated[str | None, typer.Option(help="active, completed or cancelled.")] = None,
    of_my_gpus: Annotated[
        bool, typer.Option("--of-my-gpus", help="Bookings of your GPUs by others.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """List your bookings, newest first."""
    with connect(url, key) as client:
        page = client.gpu_orders(status=status, as_owner=of_my_gpus, limit=limit)
    if as_json:
        print_json([plain(one.raw) for one in page.items])
        return
    titles = ["BOOKING", "GPU", "STATE", "FROM", "UNTIL", "USED", "PRICE, AIT", "HELD, AIT"]
    rows = [
        [
            one.booking_id,
            one.gpu_id,
            f"{one.status} ({one.detail})",
            moment(one.start_time) or "",
            moment(one.end_time) or "",
            f"{one.used_seconds // 60} min",
            ait(one.price) or "",
            ait(one.total_price) or "",
        ]
        for one in page.items
    ]
    table(titles, rows)


@gpu_app.command()
def review(
    gpu: GpuArgument,
    rating: Annotated[int, typer.Argument(metavar="STARS", min=1, max=5, help="1 to 5.")],
    text: Annotated[str, typer.Option(metavar="TEXT", help="How it was.")] = "",
    booking: BookingOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Say how a GPU was that you booked and used; again within a week, to change it."""
    with connect(url, key) as client:
        made = client.review_gpu(gpu, rating, text, booking_id=booking)
    if as_json:
        print_json(plain(made.raw))
        return
    pairs(
        [
            ("review", made.review_id),
            ("booking", made.booking_id),
            ("stars", str(made.rating)),
            ("text", made.text or None),
            ("may be changed until", moment(made.editable_until)),
        ]
    )


@gpu_app.command()
def reviews(
    gpu: GpuArgument,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Show what is said of a GPU, newest first."""
    with connect(url, key) as client:
        page = client.gpu_reviews(gpu, limit=limit)
    if as_json:
        print_json([plain(one.raw) for one in page.items])
        return
    table(
        ["WHEN", "STARS", "BY", "TEXT"],
        [[moment(one.updated_at) or "", str(one.rating), one.author, one.text] for one in page.items],
    )
    say(f"{page.rating:.2f} of 5, {page.count} review(s)")


@gpu_app.command()
def pricing(
    model: Annotated[str, typer.Argument(metavar="MODEL", help='However it is written: "RTX 4090".')],
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Show what an hour of a GPU model costs, and what is suggested."""
    with connect(url, key) as client:
        found = client.gpu_pricing(model)
    if as_json:
        print_json(plain(found.raw))
        return
    pairs(
        [
            ("model", found.model),
            ("least, AIT/hour", ait(found.min_price)),
            ("median, AIT/hour", ait(found.median_price)),
            ("average, AIT/hour", ait(found.average_price)),
            ("most, AIT/hour", ait(found.max_price)),
            ("suggested, AIT/hour", ait(found.suggested_price)),
            ("available", f"{found.available} of {found.total}"),
            ("booked in 24 h", f"{found.utilisation:.1%}"),
        ]
    )


def _amount(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parse_ait(text)
    except ValueError as error:
        raise usage_error(f"{option}: {error}") from error
    return text


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise usage_error(f"--start: {error}") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _print_gpu(gpu: GpuOffer, as_json: bool) -> None:
    if as_json:
        print_json(plain(gpu.raw))
        return
    pairs(list(_gpu_lines(gpu)))


def _gpu_lines(gpu: GpuOffer) -> Iterator[tuple[str, str | None]]:
    yield "gpu", gpu.gpu_id
    yield "model", f"{gpu.count} x {gpu.model}, {gpu.memory_gb:g} GB"
    yield "state", gpu.status
    yield "price, AIT/hour", ait(gpu.price_per_hour)
    yield "owner", gpu.owner
    yield "miner", gpu.miner_id
    yield "region", gpu.region or None
    yield "CUDA", gpu.cuda_version or None
    yield "capabilities", ", ".join(gpu.capabilities) or None
    yield "rating", f"{gpu.rating:.1f} of 5, {gpu.reviews} review(s)"
    yield "reliability", f"{gpu.reliability:.1%}"
    yield "description", gpu.description or None
    for begins, ends in gpu.booked:
        yield "booked", f"{moment(begins)} - {moment(ends)}"


def _print_order(order: Order, as_json: bool) -> None:
    if as_json:
        shown = {**order.raw}
        if order.api_key is not None and isinstance(shown.get("access"), dict):
            shown["access"] = {**shown["access"], "api_key": order.api_key}
        print_json(plain(shown))
        return
    ended = order.ended_at is not None
    pairs(
        [
            ("booking", order.booking_id or "none: a dry run"),
            ("gpu", order.gpu_id),
            ("state", f"{order.status} ({order.detail})" if order.booking_id else None),
            ("from", moment(order.start_time)),
            ("until", moment(order.end_time)),
            ("held, AIT" if order.booking_id else "price, AIT", None if ended else ait(order.total_price)),
            ("used", f"{order.used_seconds // 60} min {order.used_seconds % 60} s" if ended else None),
            ("price, AIT", ait(order.price) if ended else None),
            ("returned, AIT", ait(order.refunded)),
            ("ended by", order.ended_by),
            ("key", order.api_key),
        ]
    )
    if order.api_key is not None:
        say("The key submits jobs to this GPU until the end, and does nothing else. It is not shown again.")
