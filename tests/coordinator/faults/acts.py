"""Everything that a flow does to a job, with what must be true once it has been done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts import (
    completion,
    dispatch,
    expiry,
    job_lifecycle,
    login,
    payment,
    registration,
    wallet_transfer,
)
from aitbc.coordinator.flows.acts.idempotency import once
from aitbc.coordinator.flows.shared.grants import open_account_with_grant
from aitbc.coordinator.idempotency.service import Answer, IdempotencyKey
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.payments import service as payments
from aitbc.coordinator.payments.service import PaymentRow
from aitbc.coordinator.users import service as users
from tests.coordinator.users.support import NativeWallet
from tests.support.flows import CHAIN, Market, Provider, found, miner_spec, result_of, spec_of


class Scene:
    """A fresh client, miner and model in a market, so that scenes do not meet."""

    numbers = 0

    def __init__(self, market: Market) -> None:
        Scene.numbers += 1
        self.tag = f"s{Scene.numbers}"
        self.market = market
        self.client: Principal = market.client(f"client-{self.tag}", 10_000, limit=10_000)
        self.miner: Provider = market.miner(f"miner-{self.tag}", models={self.tag: 100}, concurrency=4)
        self.job: JobRow | None = None

    def submitted(self, **spec: Any) -> Scene:
        self.job = self.market.submit(self.client, model=self.tag, **spec)
        return self

    def taken(self, **spec: Any) -> Scene:
        self.submitted(**spec)
        assert len(self.market.take(self.miner)) == 1
        return self

    def taken_by_name(self) -> Scene:
        """By the miner that the client asked for, whose word on it is final."""
        return self.taken(miner_id=self.miner.miner_id)

    def manual(self) -> Scene:
        spec = spec_of(model=self.tag)._replace(manual_payment=True)
        self.job = self.market.db.write_sync(job_lifecycle.submit, self.market.ctx, self.client, spec)
        return self

    def escrowed(self) -> Scene:
        self.manual()
        self.market.db.write_sync(payment.open_escrow, self.client, self.job_id)
        return self

    def taken_manual(self) -> Scene:
        self.escrowed()
        assert len(self.market.take(self.miner)) == 1
        return self

    def answered(self) -> Scene:
        self.taken_manual()
        self.market.complete(self.miner, self.job_id)
        return self

    def payment(self) -> PaymentRow:
        row = self.market.db.read_sync(payments.of_job, self.job_id)
        assert row is not None
        return row

    @property
    def job_id(self) -> str:
        assert self.job is not None
        return self.job.id

    def now(self) -> JobRow:
        return self.market.job(self.job_id)

    def held(self) -> int:
        return self.market.balance(self.client.account_id).held_units

    def kinds(self) -> list[str]:
        return [kind for kind, _status in self.market.history(self.job_id)]


@dataclass(frozen=True)
class Act:
    """`prepare` sets the scene, `call` is the flow and its arguments, `done` holds once it has happened.

    `again`: codes that a second try may meet where the first was done after all.
    """

    prepare: Callable[[Market], Scene]
    call: Callable[[Any], tuple[Any, ...]]
    done: Callable[[Any], bool]
    again: tuple[str, ...] = ()


def submit_once(tx: Tx, scene: Scene) -> Answer:
    key = IdempotencyKey(f"scope-{scene.tag}", "key", "0" * 64)

    def act(tx: Tx) -> Answer:
        job = job_lifecycle.submit(tx, scene.market.ctx, scene.client, spec_of(model=scene.tag))
        return Answer(201, job.id.encode())

    return once(tx, key, act, lambda answer: answer)


def was_submitted_once(scene: Scene) -> bool:
    jobs = scene.market.db.read_sync(_jobs_of, scene.client.account_id)
    return len(jobs) == 1 and scene.held() == jobs[0].held_units == 25


def _jobs_of(tx: Tx, client: str) -> list[JobRow]:
    from aitbc.coordinator.jobs import queries

    return queries.listed(tx, client, status=None, limit=10, offset=0)[0]


def submit_three(tx: Tx, scene: Scene) -> None:
    """Two good ones around one that is too dear; once, as the API does it."""
    specs = [spec_of(model=scene.tag), spec_of(model=scene.tag, cap=10**9), spec_of(model=scene.tag)]
    key = IdempotencyKey(f"scope-{scene.tag}", "key", "0" * 64)

    def act(tx: Tx) -> Answer:
        done = job_lifecycle.submit_batch(tx, scene.market.ctx, scene.client, specs)
        assert [isinstance(item, AitbcError) for item in done] == [False, True, False]
        return Answer(200, b"")

    once(tx, key, act, lambda answer: answer)


def was_paid_once(scene: Scene) -> bool:
    market, job = scene.market, scene.now()
    provider = market.balance(scene.miner.principal.account_id)
    return (
        job.status == "completed"
        and job.price_units == 1
        and scene.held() == 0
        and market.balance(scene.client.account_id).balance_units == 9_999
        and provider.balance_units == 1
        and scene.kinds() == ["created", "claimed", "completed"]
        and len([row for row in market.receipts() if row.job_id == job.id]) == 1
    )


def complete_batch(tx: Tx, scene: Scene) -> None:
    items = [result_of("00000000-0000-7000-8000-000000000000"), result_of(scene.job_id)]
    done = completion.complete_batch(tx, scene.market.ctx, *scene.miner, items)
    assert [isinstance(item, AitbcError) for item in done] == [True, False]


def fail(tx: Tx, scene: Scene, *, retryable: bool) -> None:
    job_lifecycle.fail(
        tx,
        scene.market.ctx,
        scene.miner.principal,
        miner_id=scene.miner.miner_id,
        job_id=scene.job_id,
        cause="ENGINE_ERROR",
        retryable=retryable,
    )


def ended(scene: Scene, status: str, *kinds: str) -> bool:
    return scene.now().status == status and scene.held() == 0 and scene.kinds() == ["created", *kinds]


def requeued(scene: Scene) -> bool:
    return (
        scene.now().queued == 1 and scene.held() == 25 and scene.kinds() == ["created", "claimed", "requeued"]
    )


def paid_by_hand(scene: Scene) -> bool:
    end = scene.payment()
    return was_paid_once(scene) and end.status == "released" and end.transfer_id != ""


def refunded(scene: Scene) -> bool:
    balance = scene.market.balance(scene.client.account_id)
    return scene.payment().status == "refunded" and (balance.balance_units, balance.held_units) == (10_000, 0)


def priced(scene: Scene) -> bool:
    waits = scene.payment()
    return (waits.status, waits.price_units) == ("escrowed", 1) and scene.held() == 25


def later(scene: Scene, seconds: float) -> Scene:
    scene.market.clock.advance(seconds)
    return scene


class WalletScene(Scene):
    """A wallet that has just signed its login text, and has 100 units if it is `paid`."""

    def __init__(self, market: Market, *, paid: bool = False) -> None:
        super().__init__(market)
        self.wallet = NativeWallet(1_000 + Scene.numbers)
        self.wallet.network_id = market.db.write_sync(found).network_id
        self.other = NativeWallet(1_000_000 + Scene.numbers)
        if paid:
            market.db.write_sync(open_account_with_grant, self.wallet.account, 100)
        terms = login.Terms("here", "http://here", CHAIN, b"secret")
        asked = login.challenge(terms, market.clock.now_ms(), self.wallet.account)
        signature = self.wallet.sign(asked.message)
        self.proven = login.prove(
            terms,
            market.clock.now_ms(),
            self.wallet.account,
            asked.message,
            signature,
            self.wallet.public_key,
        )

    def transfer(self) -> wallet_transfer.Signed:
        return wallet_transfer.read(
            self.wallet.transfer(self.other.account, 60, 1, fee_units=1), CHAIN, self.wallet.network_id
        )

    def is_in(self) -> bool:
        """One session, and the grant once."""
        read = self.market.db.read_sync
        return (
            len(read(users.sessions, self.wallet.account)) == 1
            and self.market.balance(self.wallet.account).balance_units == 100
        )

    def has_paid(self) -> bool:
        return (
            self.market.balance(self.wallet.account).balance_units == 39
            and self.market.balance(self.other.account).balance_units == 60
            and self.market.db.read_sync(wallet_transfer.next_nonce, self.wallet.account) == 2
        )


WALLET_ACTS: dict[str, Act] = {
    "log_in": Act(
        WalletScene,
        lambda s: (login.log_in, s.proven, 100),
        lambda s: bool(s.is_in()),
        ("CHALLENGE_USED",),
    ),
    "pay": Act(
        lambda m: WalletScene(m, paid=True),
        lambda s: (wallet_transfer.apply, s.transfer()),
        lambda s: bool(s.has_paid()),
        ("TX_REPLAYED",),
    ),
}

ACTS: dict[str, Act] = {
    **WALLET_ACTS,
    "submit": Act(Scene, lambda s: (submit_once, s), was_submitted_once),
    "submit_batch": Act(Scene, lambda s: (submit_three, s), lambda s: s.held() == 50),
    "take": Act(
        lambda m: Scene(m).submitted(),
        lambda s: (dispatch.take, s.market.ctx, *s.miner, 1),
        lambda s: (
            s.now().status == "running" and s.now().attempts == 1 and s.kinds() == ["created", "claimed"]
        ),
    ),
    "claim": Act(
        lambda m: Scene(m).submitted(),
        lambda s: (dispatch.claim, s.market.ctx, s.miner.principal, s.job_id, s.miner.miner_id),
        lambda s: (
            s.now().status == "running" and s.now().attempts == 1 and s.kinds() == ["created", "claimed"]
        ),
        ("JOB_NOT_AVAILABLE",),
    ),
    "complete": Act(
        lambda m: Scene(m).taken(),
        lambda s: (completion.complete, s.market.ctx, *s.miner, result_of(s.job_id)),
        was_paid_once,
    ),
    "complete_batch": Act(lambda m: Scene(m).taken(), lambda s: (complete_batch, s), was_paid_once),
    "fail": Act(
        lambda m: Scene(m).taken(),
        lambda s: (lambda tx: fail(tx, s, retryable=True),),
        requeued,
        ("JOB_NOT_RUNNING",),
    ),
    "fail_for_good": Act(
        lambda m: Scene(m).taken_by_name(),
        lambda s: (lambda tx: fail(tx, s, retryable=False),),
        lambda s: ended(s, "failed", "claimed", "failed"),
        ("JOB_NOT_RUNNING",),
    ),
    "cancel": Act(
        lambda m: Scene(m).submitted(),
        lambda s: (job_lifecycle.cancel, s.market.ctx, s.client, s.job_id),
        lambda s: ended(s, "cancelled", "cancelled"),
        ("JOB_NOT_CANCELLABLE",),
    ),
    "cancel_running": Act(
        lambda m: Scene(m).taken(),
        lambda s: (job_lifecycle.cancel, s.market.ctx, s.client, s.job_id),
        lambda s: ended(s, "cancelled", "claimed", "cancelled"),
        ("JOB_NOT_CANCELLABLE",),
    ),
    "lease_expires": Act(
        lambda m: later(Scene(m).taken(), 61), lambda s: (expiry.expire_due, s.market.ctx), requeued
    ),
    "job_expires": Act(
        lambda m: later(Scene(m).submitted(ttl_s=5), 6),
        lambda s: (expiry.expire_due, s.market.ctx),
        lambda s: ended(s, "failed", "expired"),
    ),
    "run_takes_too_long": Act(
        lambda m: later(Scene(m).taken(max_run_s=20), 21),
        lambda s: (expiry.expire_due, s.market.ctx),
        requeued,
    ),
    "leave": Act(
        lambda m: Scene(m).taken(), lambda s: (job_lifecycle.leave, s.market.ctx, *s.miner), requeued
    ),
    "register": Act(
        lambda m: Scene(m).submitted(cap=50),
        lambda s: (
            registration.register,
            s.market.ctx,
            s.miner.principal,
            miner_spec(s.miner.miner_id, {s.tag: 50}),
        ),
        lambda s: len(s.market.take(s.miner)) == 1,
    ),
    "open_escrow": Act(
        lambda m: Scene(m).manual(),
        lambda s: (payment.open_escrow, s.client, s.job_id),
        lambda s: s.held() == 25 and s.now().queued == 1 and s.payment().status == "escrowed",
        ("PAYMENT_NOT_PENDING",),
    ),
    "complete_manual": Act(
        lambda m: Scene(m).taken_manual(),
        lambda s: (completion.complete, s.market.ctx, *s.miner, result_of(s.job_id)),
        priced,
    ),
    "release": Act(
        lambda m: Scene(m).answered(),
        lambda s: (payment.release, s.client, s.payment().id),
        paid_by_hand,
        ("PAYMENT_ALREADY_RELEASED",),
    ),
    "release_due": Act(
        lambda m: later(Scene(m).answered(), 3 * 86_400), lambda s: (payment.release_due,), paid_by_hand
    ),
    "refund": Act(
        lambda m: Scene(m).answered(),
        lambda s: (payment.refund, s.miner.principal, s.payment().id, None),
        refunded,
        ("PAYMENT_ALREADY_REFUNDED",),
    ),
    "cancel_manual": Act(
        lambda m: Scene(m).escrowed(),
        lambda s: (job_lifecycle.cancel, s.market.ctx, s.client, s.job_id),
        lambda s: refunded(s) and ended(s, "cancelled", "cancelled"),
        ("JOB_NOT_CANCELLABLE",),
    ),
}
