"""A passing jump of the wall clock takes nothing away for good; what time does really comes to pass."""

from typing import Any

import pytest

from aitbc.coordinator.flows.acts import payment
from aitbc.coordinator.idempotency import service as idempotency
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.process.background import LOOPS, Running
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.users import service as users
from aitbc.core.clock import ManualClock, SteadyClock
from tests.coordinator.users.support import NativeWallet
from tests.support.flows import Market, in_loop, runtime_over

JUMP_S = 4 * 86_400
STEADY_S = 300
LONG_S = 40 * 86_400
WALLET = NativeWallet().account


class Scene:
    """One of everything that time ends, and the loops that end it."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.runtime = runtime_over(market)
        self.alice, self.miner = market.client(), market.miner(concurrency=4)
        self.manual = market.submit(self.alice, payment="manual")
        self.payment = market.db.write_sync(payment.open_escrow, self.alice, self.manual.id).id
        market.claim(self.miner, self.manual.id)
        market.complete(self.miner, self.manual.id)
        self.answered = market.submit(self.alice)
        market.claim(self.miner, self.answered.id)
        market.complete(self.miner, self.answered.id)
        self.waiting = market.submit(self.alice, model="none", ttl_s=86_400)
        market.db.write_sync(ledger.open_account, WALLET)
        market.db.write_sync(users.ensure, WALLET, "")
        self.token = market.db.write_sync(users.open_session, WALLET).token
        market.db.write_sync(users.use_challenge, "nonce", WALLET, "text", market.clock.now_ms() + 60_000)
        market.db.write_sync(keep_answer)
        self.loops = [Running(loop, self.runtime) for loop in LOOPS]

    async def rounds(self, seconds: float) -> None:
        """Every loop, as often as in a coordinator that runs (heartbeats go on)."""
        for _ in range(round(seconds)):
            self.market.clock.advance(1)
            self.market.heartbeat(self.miner)
            for loop in self.loops:
                while await loop.run_once():
                    pass

    def left(self) -> dict[str, bool]:
        """What is still there."""
        read = self.market.db.read_sync
        held = read(payment.show, self.alice, self.payment)
        return {
            "escrow": held.status == "escrowed",
            "result": read(job_texts.result_text, self.answered.id) is not None,
            "prompt": read(job_texts.request_text, self.answered.id) is not None,
            "waiting": self.market.job(self.waiting.id).status == "pending",
            "session": count(self.market, "sessions") == 1,
            "login text": count(self.market, "login_challenges") == 1,
            "answer": count(self.market, "idempotent_answers") == 1,
        }


def keep_answer(tx: Any) -> None:
    key = idempotency.IdempotencyKey("alice POST /", "k", "hash")
    assert idempotency.begin(tx, key) is None
    idempotency.finish(tx, key, 200, b"{}")


def count(market: Market, table: str) -> int:
    from sqlalchemy import text

    return int(market.db.read_sync(lambda tx: tx.query(text(f"SELECT COUNT(*) AS n FROM {table}"))[0].n))


@pytest.mark.parametrize("jump_s", [JUMP_S, LONG_S])
def test_a_passing_jump_takes_nothing_away(market: Market, jump_s: int) -> None:
    scene = Scene(market)

    async def main() -> None:
        await scene.rounds(3)
        market.clock.jump(jump_s)
        await scene.rounds(8)
        market.clock.jump(-jump_s)
        await scene.rounds(5)
        assert all(scene.left().values()), scene.left()
        market.check()

    in_loop(market.db, main())


def test_time_that_really_passes_ends_all_of_it(market: Market) -> None:
    """The clock was away: once it has been steady, what was due is done."""
    scene = Scene(market)

    async def main() -> None:
        await scene.rounds(3)
        for _ in range(41):
            market.clock.advance(86_400)
            await scene.rounds(2)
        assert not any(scene.left().values()), scene.left()
        market.check()

    in_loop(market.db, main())


def test_a_jump_that_stays_is_believed_in_the_end(market: Market) -> None:
    scene = Scene(market)

    async def main() -> None:
        await scene.rounds(3)
        market.clock.jump(LONG_S)
        await scene.rounds(STEADY_S - 10)
        assert scene.left()["escrow"] and scene.left()["result"]
        await scene.rounds(20)
        assert not scene.left()["escrow"] and not scene.left()["result"]
        assert scene.left()["waiting"], "what waits is given the time that the jump took"

    in_loop(market.db, main())


def test_a_coordinator_goes_by_the_steady_clock(market: Market) -> None:
    """Whatever its transactions look at: keys and sessions stay good, new deadlines are not far off."""
    clock = ManualClock(market.clock.now_ms())
    steady = SteadyClock(clock, STEADY_S)
    before = steady.now_ms()
    clock.jump(JUMP_S)
    clock.advance(8)
    assert steady.now_ms() == before + 8_000 and not steady.is_steady()
    clock.jump(-JUMP_S)
    assert steady.now_ms() == before + 8_000 and steady.is_steady()


@pytest.mark.parametrize(("off_s", "steady"), [(0, True), (1800, True), (JUMP_S, False), (-60, False)])
def test_a_clock_that_does_not_fit_at_the_start_has_to_prove_itself(
    market: Market, off_s: int, steady: bool
) -> None:
    scene = Scene(market)
    market.clock.jump(off_s)

    async def main() -> None:
        runtime: Runtime = runtime_over(market)
        await runtime._look_at_the_clock()
        assert runtime.steady.is_steady() is steady
        if off_s == 1800:
            return  # as after any restart: what has run out meanwhile has run out
        scene.runtime, scene.loops = runtime, [Running(loop, runtime) for loop in LOOPS]
        await scene.rounds(8)
        assert all(scene.left().values()), scene.left()
        market.clock.jump(-off_s)
        await scene.rounds(2)
        assert all(scene.left().values()), scene.left()
        market.clock.advance(STEADY_S)
        assert runtime.steady.is_steady()

    asyncio_main = main()
    in_loop(market.db, asyncio_main)


def test_expired_login_texts_cannot_be_used_again_for_a_jump(market: Market) -> None:
    """Forgotten too early, it would be as good as new once the clock is back."""
    scene = Scene(market)

    async def main() -> None:
        await scene.rounds(2)
        market.clock.jump(3600)
        await scene.rounds(8)
        market.clock.jump(-3600)
        with pytest.raises(Exception, match="used before"):
            end = market.clock.now_ms() + 1000
            await scene.runtime.db.write(users.use_challenge, "nonce", WALLET, "text", end)

    in_loop(market.db, main())
