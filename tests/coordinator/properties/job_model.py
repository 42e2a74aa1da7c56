"""What a job's life and its money should be, in plain Python that shares nothing with the program.

Every act returns what the program should answer, or the name of the error that it should raise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LEASE_MS = 60_000
OPINION_MS = 3_000
RECHECK_MS = 5_000
PATIENCE_MS = 30_000
START_LEASES = 8
MAX_ATTEMPTS = 3
FEE_BPS = 1000
PROMPT_BYTES = 15  # {"prompt":"hi"}
DAY_MS = 86_400_000
FINAL = ("CONTEXT_LENGTH_EXCEEDED", "BAD_REQUEST")
OPEN = ("pending", "running")
GOING = ("SHUTTING_DOWN", "MINER_LEFT")


def pause_ms(strikes: int) -> int:
    return 0 if strikes < 1 else min(60_000, 1_000 * 2 ** (strikes - 1))


def ceil_price(units: int, per_thousand: int) -> int:
    whole, rest = divmod(units * per_thousand, 1000)
    return whole + (1 if rest else 0)


@dataclass
class Wallet:
    """A client: its money, and what its key may spend in a day (None: no limit)."""

    granted: int
    limit: int | None = None
    day: int = -1
    spent: int = 0
    paid: int = 0


@dataclass
class Machine:
    """A miner."""

    prices: dict[str, int]
    region: str = ""
    memory_mb: int = 0
    places: int = 1
    state: str = "active"  # active | draining | left
    earned: int = 0
    leases: int = START_LEASES
    strikes: int = 0
    account_strikes: int = 0
    pauses_until_ms: int = 0
    account_pauses_until_ms: int = 0

    def may_go_on_at(self) -> int:
        return max(self.pauses_until_ms, self.account_pauses_until_ms)

    def struck(self, now: int) -> None:
        self.strikes += 1
        self.account_strikes += 1
        self.leases = max(1, self.leases - max(1, self.leases // 4))
        self.pauses_until_ms = now + pause_ms(self.strikes)
        account_ms = pause_ms(self.account_strikes - 8)
        self.account_pauses_until_ms = now + account_ms if account_ms else 0

    def forgiven(self) -> None:
        self.strikes = max(0, self.strikes - 1)
        self.account_strikes = max(0, self.account_strikes - 1)
        self.leases += self.leases // 4 if self.leases >= START_LEASES else 1
        self.pauses_until_ms = self.account_pauses_until_ms = 0

    def delivered(self) -> None:
        self.leases += 1
        self.strikes = self.account_strikes = self.pauses_until_ms = self.account_pauses_until_ms = 0


@dataclass
class Work:
    """A job."""

    number: int
    client: str
    model: str
    cap: int
    max_tokens: int
    priority: int
    ends_ms: int
    region: str
    memory_mb: int
    only: str
    held: int
    day: int
    status: str = "pending"
    miner: str = ""
    started_ms: int = 0
    run_ends_ms: int = 0
    max_run_s: int = 1800
    lease_ms: int = 0
    price_per: int = 0
    attempts: int = 0
    reports: list[tuple[str, str]] = field(default_factory=list)  # (miner, cause) of each failed try
    not_for: frozenset[str] = frozenset()
    hopeless: bool = False
    review_ms: int = 0
    put_back_ms: int = 0
    price: int = 0
    text: str = ""
    moves: list[str] = field(default_factory=lambda: ["created"])


class Model:
    def __init__(self) -> None:
        self.wallets: dict[str, Wallet] = {}
        self.miners: dict[str, Machine] = {}
        self.jobs: list[Work] = []
        self.fees = 0

    def held(self, client: str) -> int:
        return sum(job.held for job in self.jobs if job.client == client and job.status in OPEN)

    def running(self, miner: str) -> list[Work]:
        return [job for job in self.jobs if job.status == "running" and job.miner == miner]

    # --- clients ----------------------------------------------------------------------------------------

    def submit(self, now: int, client: str, **asked: Any) -> Work | str:
        wallet = self.wallets[client]
        ttl_s = asked.pop("ttl_s")
        held = ceil_price(PROMPT_BYTES + asked["max_tokens"], asked["cap"])
        today = now // DAY_MS
        if wallet.limit is not None and held:
            already = wallet.spent if wallet.day >= today else 0
            if already + held > wallet.limit:
                return "KEY_LIMIT_EXCEEDED"
        if held > wallet.granted - wallet.paid - self.held(client):
            return "INSUFFICIENT_FUNDS"
        if wallet.limit is not None and held:
            wallet.day, wallet.spent = today, already + held
        job = Work(len(self.jobs), client, ends_ms=now + ttl_s * 1000, held=held, day=today, **asked)
        self.jobs.append(job)
        return job

    def cancel(self, now: int, client: str, job: Work) -> str:
        if job.client != client:
            return "JOB_NOT_FOUND"
        if job.status not in OPEN:
            return "JOB_NOT_CANCELLABLE"
        if job.status == "running" and (run_ms := min(now, job.lease_ms) - job.started_ms) > 0:
            generated = min(job.max_tokens, run_ms // 100)  # 10 tokens a second: no miner here says more
            self._pay(job, ceil_price(-(-PROMPT_BYTES // 4) + generated, job.price_per))
            job.status = "cancelled"
            job.moves.append("cancelled")
        else:
            self._end(job, "cancelled", "cancelled")
        return "cancelled"

    # --- miners -----------------------------------------------------------------------------------------

    def fits(self, now: int, name: str, job: Work) -> bool:
        miner = self.miners[name]
        return (
            job.status == "pending"
            and now < job.ends_ms
            and job.model in miner.prices
            and miner.prices[job.model] <= job.cap
            and job.only in ("", name)
            and job.region in ("", miner.region)
            and job.memory_mb <= miner.memory_mb
            and name not in job.not_for
        )

    def room(self, now: int, name: str) -> int:
        miner, held = self.miners[name], len(self.running(name))
        if miner.state != "active" or now < miner.may_go_on_at():
            return 0
        return min(miner.places, miner.leases) - held

    def take(self, now: int, name: str, count: int) -> list[Work] | str:
        miner = self.miners[name]
        if miner.state == "left":
            return "MINER_INACTIVE"
        mine = self.running(name)
        taken = mine[:count]
        free = min(count - len(taken), self.room(now, name))
        queue = sorted(
            (job for job in self.jobs if self.fits(now, name, job)),
            key=lambda job: (-job.priority, job.number),
        )
        for job in queue[: max(0, free)]:
            self._start(now, name, job)
            taken.append(job)
        return taken

    def claim(self, now: int, name: str, job: Work) -> str:
        miner = self.miners[name]
        if miner.state != "active":
            return "MINER_INACTIVE"
        if not self.fits(now, name, job) or self.room(now, name) <= 0:
            return "JOB_NOT_AVAILABLE"
        self._start(now, name, job)
        return "running"

    def _start(self, now: int, name: str, job: Work) -> None:
        job.status, job.miner, job.started_ms = "running", name, now
        job.run_ends_ms = now + job.max_run_s * 1000
        job.lease_ms = min(now + LEASE_MS, job.run_ends_ms)
        job.price_per = self.miners[name].prices[job.model]
        job.review_ms = 0
        job.attempts += 1
        job.moves.append("claimed")

    def heartbeat(self, now: int, name: str, state: str, named: list[Work] | None) -> set[int] | str:
        miner = self.miners[name]
        if miner.state == "left":
            return "MINER_INACTIVE"
        miner.state = state
        kept = [job for job in self.running(name) if named is None or job in named]
        for job in kept:
            job.lease_ms = min(now + LEASE_MS, max(now, job.run_ends_ms))
        return {job.number for job in kept}

    def complete(self, name: str, job: Work, text: str, usage: tuple[int, int], *, stale: bool) -> int | str:
        """The price."""
        if job.status == "completed" and job.miner == name:
            return job.price if job.text == text else "JOB_NOT_RUNNING"
        if job.status != "running":
            return "JOB_NOT_RUNNING"
        if job.miner != name or stale:
            return "LEASE_LOST"
        units = min(usage[0], PROMPT_BYTES) + min(usage[1], job.max_tokens, len(text) + 1)
        job.text = text
        self._pay(job, ceil_price(units, job.price_per))
        self.miners[name].delivered()
        job.status = "completed"
        job.moves.append("completed")
        return job.price

    def _pay(self, job: Work, price: int) -> None:
        job.price = price
        fee = price * FEE_BPS // 10_000
        self.fees += fee
        self.miners[job.miner].earned += price - fee
        self.wallets[job.client].paid += price
        self._release(job, job.held - price)

    def fail(self, now: int, name: str, job: Work, cause: str, retryable: bool | None) -> str:
        if job.status != "running":
            return "JOB_NOT_RUNNING"
        if job.miner != name:
            return "LEASE_LOST"
        self._again(now, job, cause, cause in FINAL if retryable is None else not retryable)
        return job.status

    def leave(self, now: int, name: str) -> int:
        mine = self.running(name)
        self.miners[name].state = "left"
        for job in mine:
            self._again(now, job, "MINER_LEFT", False)
        return len(mine)

    # --- time -------------------------------------------------------------------------------------------

    def expire(self, now: int) -> None:
        for job in self.jobs:
            if job.status == "pending" and now >= job.ends_ms:
                self._end(job, "failed", "expired")
        blamed: set[str] = set()
        for job in sorted(self.jobs, key=lambda job: (job.lease_ms, job.number)):
            if job.status == "running" and now >= job.lease_ms:
                cause = "TIMEOUT" if now >= job.run_ends_ms else "LEASE_EXPIRED"
                first = job.miner not in blamed
                blamed.add(job.miner)
                self._again(now, job, cause, False, blame=first)
        known: dict[Any, bool] = {}
        for job in sorted(self.jobs, key=lambda job: (job.review_ms, job.number)):
            if job.status == "pending" and 0 < job.review_ms <= now:
                what = (job.model, job.cap, job.memory_mb, job.region, job.only, job.not_for, job.hopeless)
                if what not in known:
                    known[what] = self._others(now, job)
                if known[what] and now < job.put_back_ms + PATIENCE_MS:
                    job.review_ms = now + RECHECK_MS
                elif job.hopeless and not known[what]:
                    self._fail(job)
                else:
                    job.not_for, job.review_ms = frozenset(), 0

    def _others(self, now: int, job: Work) -> bool:
        """Whether a miner is here that has not failed the job, busy or not."""
        return any(
            name not in job.not_for
            and miner.state == "active"
            and miner.prices.get(job.model, job.cap + 1) <= job.cap
            and job.only in ("", name)
            and job.region in ("", miner.region)
            and job.memory_mb <= miner.memory_mb
            and miner.may_go_on_at() <= now + 5_000
            for name, miner in self.miners.items()
        )

    def _again(self, now: int, job: Work, cause: str, hopeless: bool, *, blame: bool = True) -> None:
        if blame and not (cause in GOING and self.miners[job.miner].may_go_on_at() > now):
            self.miners[job.miner].struck(now)
        job.reports.append((job.miner, cause))
        job.not_for, job.hopeless = frozenset(name for name, _ in job.reports), hopeless
        others, used_up = self._others(now, job), job.attempts >= MAX_ATTEMPTS
        agreeing = {
            name for name, said in job.reports if said not in GOING and (not hopeless or said == cause)
        }
        if (
            job.attempts >= 2 * MAX_ATTEMPTS
            or (hopeless and job.only)
            or ((hopeless or used_up) and len(agreeing) > 1)  # nobody here has proven anything
            or (used_up and not others)
        ):
            self._fail(job)
            return
        alone_ms = OPINION_MS if hopeless else 1_000 * 2 ** (job.attempts - 1)
        job.review_ms = now + (RECHECK_MS if others else alone_ms)
        self._requeue(now, job)

    def _fail(self, job: Work) -> None:
        for name, said in job.reports:
            if said not in (*GOING, "LEASE_EXPIRED"):
                self.miners[name].forgiven()
        self._end(job, "failed", "failed")

    def _requeue(self, now: int, job: Work) -> None:
        job.put_back_ms = now
        job.ends_ms += now - job.started_ms  # a run takes nothing of the time to wait
        job.status, job.miner, job.lease_ms, job.price_per = "pending", "", 0, 0
        job.moves.append("requeued")

    def _end(self, job: Work, status: str, move: str) -> None:
        job.status = status
        job.moves.append(move)
        self._release(job, job.held)

    def _release(self, job: Work, units: int) -> None:
        wallet = self.wallets[job.client]
        if wallet.limit is not None and job.held and wallet.day == job.day:
            wallet.spent -= units
