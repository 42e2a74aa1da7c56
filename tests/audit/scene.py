"""A network in which everything has happened that an audit looks at."""

from __future__ import annotations

from dataclasses import replace

from aitbc.coordinator.api_keys import service as accounts
from aitbc.coordinator.chain import sealer, witnessing
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import completion, payment, wallet_transfer
from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.flows.acts.completion import ResultSubmission
from aitbc.coordinator.flows.acts.governance import Draft
from aitbc.coordinator.flows.views import activity
from aitbc.coordinator.idempotency import service as idempotency
from aitbc.coordinator.idempotency.service import IdempotencyKey
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.ledger import closing, marks
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.users import service as users
from aitbc.core.canonical import sha256_hex
from aitbc.core.log.checkpoint import cosign
from aitbc.core.log.note import COSIGNATURE_V1, Verifier, parse_note
from aitbc.core.receipt import result_statement
from aitbc.core.signing import PrivateKey, encode_b64, public_to_text
from aitbc.core.transfer_ids import GRANT, GRANTED, MINTED, REASON
from tests.audit.rented_scene import rent
from tests.coordinator.users.support import NativeWallet
from tests.support import topups
from tests.support.flows import CHAIN, KEY, NETWORK_ID, Market, Provider, found
from tests.support.governance import TEXT, Assembly

MINER_KEY = PrivateKey.from_seed(b"\x05" * 32)
WITNESS_KEY = PrivateKey.from_seed(b"\x06" * 32)
PAUSE_S = 20
WALLET, OTHER_WALLET = NativeWallet(11), NativeWallet(12)
WITNESS = Verifier("witness.example/w1", WITNESS_KEY.public_bytes, COSIGNATURE_V1)


def seal(market: Market) -> None:
    """Seals what waits, as the coordinator does, and has the witness cosign the block."""
    market.db.write_sync(found)
    made = market.db.read_sync(sealer.draft, CHAIN, KEY)
    assert made is not None
    assert market.db.write_sync(sealer.seal, made)
    text = parse_note(made.block.checkpoint).text
    line = cosign(text, WITNESS.name, WITNESS_KEY, 1_767_300_000).line
    assert market.db.write_sync(witnessing.record, made.block.height, WITNESS.name, line)


def everything(scene: Scene) -> None:
    """What the scene has not: a key with a limit, keys that nobody uses, a deposit, logins, an answer that is kept."""
    market, db = scene.market, scene.market.db
    erin = market.client("erin", limit=10**9)
    (answered,) = scene.take(market.submit(erin))
    market.clock.advance(1)
    scene.answer(answered)
    manual = market.submit(erin, payment="manual")
    escrow = db.write_sync(payment.open_escrow, erin, manual.id).id
    scene.take(manual)
    scene.answer(manual)
    db.write_sync(payment.refund, scene.miner.principal, escrow, 1)
    market.submit(erin, model="none")
    market.client("dora")
    market.ctx = replace(market.ctx, deposit_units=1_000)
    market.miner("m3", "dora", {"llama": 400})
    db.write_sync(accounts.rotate_key, erin.key_id, 60_000)
    for account in ("bob", "dora"):
        db.write_sync(accounts.create_key, role="miner", account_id=account)
    db.write_sync(users.ensure, OTHER_WALLET.address, "")
    for wallet in (WALLET, OTHER_WALLET):
        db.write_sync(users.open_session, wallet.address)
    db.write_sync(users.login_secret)
    db.write_sync(users.use_challenge, "nonce", WALLET.address, "log in", market.clock.now_ms() + 60_000)
    rent(market)
    key = IdempotencyKey("alice", "once", "ab" * 32)
    db.write_sync(idempotency.begin, key)
    db.write_sync(idempotency.finish, key, 200, b"{}")
    topups.everything(market)
    decide(market)


def decide(market: Market) -> None:
    """Proposals in every state, with votes by the one whose power it is and by another."""
    assembly = Assembly(
        market, delay_s=60, voting_s=3_600, deposit=1_000, min_power=0, age_s=1, quorum_bps=100
    )
    ina, jon = market.client("ina"), market.client("jon", limit=10**6)
    assembly.delegate(ina, "alice")
    assembly.delegate(ina, "jon")
    market.clock.advance(10)
    fee = Draft("parameter_change", "A fee", "", "fee_bps", 1_100)
    fund = Draft("fund_allocation", "A gift", "Why not", recipient_id="jon", amount_units=500)
    motions = [assembly.opened(jon, draft) for draft in (fee, fund, TEXT, fund._replace(amount_units=10**12))]
    for row in motions:
        assembly.vote(jon, row)
        if row.type == "text":
            assembly.vote(ina, row, "abstain")
    lost = assembly.opened(ina)
    for row in (*motions, lost):
        assembly.ended(row)
    for row in motions:
        if row.type != "text":
            assembly.executed(row)
    open_one = assembly.opened(jon)
    assembly.vote(jon, open_one, "against")
    market.db.write_sync(acts.cancel, ina, assembly.propose(ina).id)
    assembly.propose(jon, fee)


def _mint_many(tx: Tx, count: int) -> None:
    for number in range(count):
        ledger.mint(tx, MINTED.of(f"{number:03d}"), "alice", 1_000, REASON.of("grant"))


def _signed(job: JobRow, text: str = "hello") -> ResultSubmission:
    statement = result_statement(
        chain_id=CHAIN,
        job_id=job.id,
        miner_id="m1",
        prompt_hash=job.prompt_hash,
        result_hash=sha256_hex(text.encode()),
        prompt_tokens=3,
        completion_tokens=2,
        network_id=NETWORK_ID,
    )
    signature = {"alg": "Ed25519", "sig": encode_b64(MINER_KEY.sign(statement))}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return ResultSubmission(job.id, {"text": text, "finish_reason": "stop"}, usage, None, signature)


def _fund(tx: Tx, address: str) -> None:
    ledger.open_account(tx, address)
    ledger.mint(tx, GRANT.of(address), address, 1_000, GRANTED)


def count(market: Market) -> None:
    """Counts for the explorer what is new, as the coordinator does."""
    db = market.db
    seen = db.read_sync(activity.draft_activity)
    assert seen is not None and db.write_sync(activity.write_activity, seen)
    jobs = db.read_sync(activity.draft_jobs)
    assert jobs is not None and db.write_sync(activity.write_jobs, jobs)
    final = db.read_sync(witnessing.draft_finality, 1)
    assert final is not None and db.write_sync(witnessing.keep_finality, 1, final)


class Scene:
    """Jobs in every state, payments in every state, wallets that pay, three blocks, and leaves that wait for the
    next."""

    def __init__(self, market: Market, grants: int = 300) -> None:
        self.market = market
        self.alice = market.client("alice")
        self.miner: Provider = market.miner(
            "m1", "bob", {"llama": 400}, concurrency=64, public_key=public_to_text(MINER_KEY.public_bytes)
        )
        self.second = market.miner("m2", "carol", {"llama": 400})
        market.db.write_sync(_mint_many, grants)
        self.done = self.job()
        seal(market)
        for status in ("released", "refunded", "partially_refunded", "escrowed"):
            self.manual(status)
        market.submit(self.alice, payment="manual")
        market.cancel(self.alice, market.submit(self.alice).id)
        (stopped,) = self.take(market.submit(self.alice))
        market.clock.advance(1)
        market.heartbeat(self.miner, progress={stopped.id: 3})
        market.clock.advance(1)
        market.cancel(self.alice, stopped.id)
        (failing,) = self.take(market.submit(self.alice))
        self.fail(failing)
        self.manual("failed")
        self.manual("cancelled")
        seal(market)
        self.job()
        market.db.write_sync(_fund, WALLET.address)
        self.pay(1, "0x" + "1f" * 20, fee_units=2)
        self.pay(2, OTHER_WALLET.address)
        seal(market)
        market.clock.advance(12)
        count(market)
        market.db.write_sync(closing.close, None, market.clock.now_ms())  # a statement was read
        for account in ("alice", "bob"):
            made = market.db.read_sync(marks.of_account, account, market.clock.now_ms(), 10, every=3)
            assert made
            market.db.write_sync(marks.write, marks.Draft(made, [], more=False))
        self.pay(3, OTHER_WALLET.address, fee_units=1)  # waits for the next block
        self.take(market.submit(self.alice))  # runs on
        self.waiting = self.job()
        market.submit(self.alice, model="none")

    def take(self, job: JobRow) -> list[JobRow]:
        return [self.market.claim(self.miner, job.id)]

    def job(self, **spec: str) -> JobRow:
        """An ordinary job that is answered and paid."""
        (job,) = self.take(self.market.submit(self.alice, **spec))
        self.answer(job)
        return job

    def fail(self, job: JobRow) -> None:
        """It is failed by two miners, of accounts that have nothing to do with each other; then both pause."""
        market = self.market
        market.fail(self.miner, job.id, retryable=False)
        market.clock.advance(PAUSE_S)
        market.claim(self.second, job.id)
        market.fail(self.second, job.id, retryable=False)
        market.clock.advance(PAUSE_S)

    def answer(self, job: JobRow) -> None:
        write = self.market.db.write_sync
        write(completion.complete, self.market.ctx, *self.miner, _signed(job))

    def pay(self, nonce: int, to: str, fee_units: int = 0) -> None:
        """A signed transfer of the wallet's."""
        write, network_id = self.market.db.write_sync, self.market.db.write_sync(found).network_id
        WALLET.network_id = network_id
        document = WALLET.transfer(to, 10 * nonce, nonce, fee_units=fee_units)
        write(wallet_transfer.apply, wallet_transfer.read(document, CHAIN, network_id))

    def manual(self, status: str) -> None:
        """A job with a manual payment, moved to `status`."""
        market, write = self.market, self.market.db.write_sync
        job = market.submit(self.alice, payment="manual")
        payment_id = write(payment.open_escrow, self.alice, job.id).id
        self.take(job)
        if status == "failed":
            self.fail(job)
            return
        if status == "cancelled":
            market.clock.advance(1)
            market.cancel(self.alice, job.id)
            return
        self.answer(job)
        if status == "released":
            write(payment.release, self.alice, payment_id)
        elif status != "escrowed":
            write(payment.refund, self.miner.principal, payment_id, None if status == "refunded" else 1)
