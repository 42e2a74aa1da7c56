"""What `aitbc demo` shows: jobs of each kind, their answers, receipts and payments, each verified.

Knows the coordinator only over HTTP. A step that does not hold raises CommandError.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from aitbc.cli.failures import CommandError
from aitbc.cli.output import ait, clean, note, say, table, to_json
from aitbc.cli.submit import describe
from aitbc.core.canonical import loads_strict
from aitbc.core.receipt import KeySet, verify_bytes
from aitbc.sdk import Client, Job, JobBody, JobFailed, Miner, Receipt, chat_job, embedding_job, prompt_job
from aitbc.sdk.fields import plain

JOB_TIMEOUT_S = 180.0
SEAL_TIMEOUT_S = 30.0
SEAL_POLL_S = 0.5
LOGGED = {"proof", "inclusion", "checkpoint"}  # checks that show a receipt's place in the log
ANSWER_CHARS = 600
PROMPT = "What is AITBC?"
CHAT = (
    {"role": "system", "content": "You answer questions about AITBC in one or two sentences."},
    {"role": "user", "content": "What is a receipt?"},
)
EMBED = "Every answer comes with a receipt that anyone can check."

Balances = dict[str, Decimal]
"""AIT by party: client, miner, treasury."""


@dataclass
class Tour:
    """One run through the main job. `balances` reads the parties' money; receipts are saved in `folder`."""

    client: Client
    balances: Callable[[], Balances]
    folder: Path
    keys: KeySet | None = None
    receipts: list[Receipt] = field(default_factory=list)

    def run(self, miner: Miner) -> None:
        """All steps, in order."""
        self.keys = self._pin_keys()
        before = self.balances()
        say()
        self._job(
            "prompt", PROMPT, prompt_job(PROMPT, model=_text_model(miner), temperature=0, max_tokens=128)
        )
        chat = chat_job(CHAT, model=_text_model(miner), temperature=0, max_tokens=128)
        self._job("chat", CHAT[1]["content"], chat)
        if "embedding" in miner.job_types:
            self._job("embedding", EMBED, embedding_job(EMBED, model=_embedding_model(miner)))
        else:
            note("this engine offers no embeddings, so there is no embedding job to show")
        self._check_money(before, self.balances())

    def _pin_keys(self) -> KeySet:
        """Save the coordinator's keys; what is verified later is verified against this file."""
        path = self.folder / "receipt-keys.json"
        path.write_text(to_json(self.client.keys().to_json()) + "\n", encoding="utf-8")
        return KeySet.from_json(loads_strict(path.read_bytes()))

    def _job(self, title: str, question: str, body: JobBody) -> None:
        say(f"{title:<10} {question}")
        try:
            job = self.client.run(body, timeout_s=JOB_TIMEOUT_S)
        except JobFailed as error:
            raise CommandError(
                "DEMO_FAILED", f"the {title} job: {describe(error.job)}: {error.message}"
            ) from error
        say(f"{'answer':<10} {_answer(job)}")
        receipt, path = self._receipt(job)
        proof = self._verify(path)
        say(f"{'receipt':<10} {receipt.units} tokens, {ait(receipt.price)} AIT to {job.miner_id}")
        say(f"{'':<10} {proof}")
        say()

    def _receipt(self, job: Job) -> tuple[Receipt, Path]:
        receipts = self.client.job_receipts(job.job_id)
        if len(receipts) != 1 or receipts[0].receipt_id != job.receipt_id:
            raise CommandError("DEMO_FAILED", f"job {job.job_id} does not have its one receipt")
        receipt = self._sealed(job, receipts[0])
        if receipt.price != job.price:
            raise CommandError(
                "DEMO_FAILED", f"job {job.job_id} cost {job.price}, its receipt says {receipt.price}"
            )
        self.receipts.append(receipt)
        path = self.folder / "receipts" / f"{receipt.receipt_id}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(to_json(plain(receipt.document)) + "\n", encoding="utf-8")
        return receipt, path

    def _sealed(self, job: Job, receipt: Receipt) -> Receipt:
        """The receipt with its proof, which the next block brings."""
        until = time.monotonic() + SEAL_TIMEOUT_S
        while not receipt.document.get("proof"):
            if time.monotonic() >= until:
                raise CommandError("DEMO_FAILED", f"receipt {receipt.receipt_id} was not sealed in a block")
            time.sleep(SEAL_POLL_S)
            (receipt,) = self.client.job_receipts(job.job_id)
        return receipt

    def _verify(self, path: Path) -> str:
        """Verify the saved file offline, and see that one changed byte of it is noticed."""
        data = path.read_bytes()
        verification = verify_bytes(data, self.keys)
        passed = {check.name for check in verification.checks if check.ok}
        if not verification.ok or not passed >= LOGGED:
            wrong = "; ".join(
                f"{check.name}: {check.detail}" for check in verification.checks if not check.ok
            )
            raise CommandError("DEMO_FAILED", f"the receipt in {path} is not proven: {wrong}")
        forged = json.loads(data)
        forged["units"] += 1
        if verify_bytes((to_json(forged) + "\n").encode(), self.keys).ok:
            raise CommandError("DEMO_FAILED", f"a forged copy of {path} was taken for genuine")
        place = next(check.detail for check in verification.checks if check.name == "inclusion")
        proven = ", ".join(check.name.replace("_", " ") for check in verification.checks if check.ok)
        return f"{place}; verified offline ({proven}), a forged copy refused"

    def _check_money(self, before: Balances, after: Balances) -> None:
        price = sum((receipt.price for receipt in self.receipts), Decimal(0))
        fee = sum((receipt.fee for receipt in self.receipts), Decimal(0))
        due = {"client": -price, "miner": price - fee, "treasury": fee}
        changes = {party: after[party] - before[party] for party in before}
        rows = [(party, ait(before[party]), ait(after[party]), _signed(changes[party])) for party in before]
        total = (
            ait(_sum(before)),
            ait(_sum(after)),
            _signed(_sum(changes)),
        )
        table(("AIT", "BEFORE", "AFTER", "CHANGE"), [*rows, ("together", *total)])
        if changes != due or _sum(changes) != 0:
            raise CommandError("DEMO_FAILED", f"the receipts say {due}, the balances moved by {changes}")
        if self.client.balance().held != 0:
            raise CommandError("DEMO_FAILED", "money is still held although every job has ended")


def _text_model(miner: Miner) -> str:
    names = [model.name for model in miner.models]
    return next((name for name in names if "embed" not in name), names[0])


def _embedding_model(miner: Miner) -> str:
    names = [model.name for model in miner.models]
    return next((name for name in names if "embed" in name), names[0])


def _answer(job: Job) -> str:
    if job.embeddings is not None:
        vector = job.embeddings[0]
        return f"{len(vector)} numbers: {' '.join(f'{number:.3f}' for number in vector[:5])} …"
    text = clean((job.text or "").strip(), one_line=True)
    if not text:
        raise CommandError("DEMO_FAILED", f"job {job.job_id} completed with an empty answer")
    return text if len(text) <= ANSWER_CHARS else text[:ANSWER_CHARS] + " …"


def _sum(balances: Balances) -> Decimal:
    return sum(balances.values(), Decimal(0))


def _signed(amount: Decimal) -> str:
    text = ait(amount) or "0"
    return f"+{text}" if amount > 0 else text
