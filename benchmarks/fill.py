"""Fills a database with copies of one real job, as SQL: a million jobs through the API would take an hour.

The template goes through the flows like any job. Copies differ in their ids (UUIDv7 of their own time, so
that they lie in the tables as jobs of the last 30 days would) and the accounts get the sums, so that the
audit of a filled database passes. Signatures are the template's: nothing that is measured reads them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.chain import founding, network, sealer
from aitbc.coordinator.chain.service import head_of
from aitbc.coordinator.database import Database, Tx, postgres_url, sqlite_path
from aitbc.coordinator.flows.acts import completion, dispatch, job_lifecycle, registration
from aitbc.coordinator.flows.acts.completion import ResultSubmission
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.jobs.spec import make_spec
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.miners import standing
from aitbc.coordinator.miners.rows import MinerSpec, ModelSpec
from aitbc.core import jobspec
from aitbc.core.log.leaf import RECEIPT, TRANSFER, receipt_leaf, transfer_leaf
from aitbc.core.log.merkle import leaf_hash
from aitbc.core.signing import PrivateKey, public_to_text
from benchmarks.client.actors import PROMPT, RESULT_TEXT, USAGE, Miner
from benchmarks.databases import CLIENT, PROVIDER, Prepared
from benchmarks.processes import CHAIN_ID, MeasurementFailed

CHUNK = 50_000
PAST_MS = 29 * 86_400_000  # finished jobs are spread over this long before now
MODELS = 50  # pending jobs are of so many models

CLIENT_KEY = Principal(CLIENT, "client", "bench", frozenset({"client"}))
MINER_KEY = Principal(PROVIDER, "miner", "bench", frozenset({"miner"}))


def flow_context(network_id: str = "5a" * 32) -> FlowContext:
    """`network_id`: of the database, where one was founded in it."""
    key = PrivateKey.generate()
    return FlowContext(CHAIN_ID, key, lease_ms=3_600_000, max_pending_jobs=10_000_000, network_id=network_id)


def submit_one(tx: Tx, ctx: FlowContext, model: str, reservation: str = "") -> JobRow:
    """One pending job, as the load client submits it; under a booking where one is named."""
    request = jobspec.build_request(
        "llm_inference", model=model, body={"prompt": PROMPT}, params={"max_tokens": 64}
    )
    caller = replace(CLIENT_KEY, reservation=reservation)
    return job_lifecycle.submit(tx, ctx, caller, make_spec(request))


def register_one(tx: Tx, miner_id: str, model: str, public_key: str = "", concurrency: int = 1) -> None:
    spec = MinerSpec(
        miner_id,
        ("llm_inference",),
        (ModelSpec(model, 1_000_000),),
        concurrency=concurrency,
        public_key=public_key,
    )
    registration.register(tx, flow_context(), MINER_KEY, spec)
    standing.set_approval(tx, PROVIDER, "approved")


def complete(tx: Tx, ctx: FlowContext, miner: Miner, job: JobRow) -> None:
    """Ends a running job with a signed result."""
    miner.network_id = ctx.network_id
    assignment = {"job_id": job.id, "prompt_hash": job.prompt_hash, "lease_id": job.lease_id}
    signature = miner.answer(assignment)["signature"]
    result = {"text": RESULT_TEXT, "finish_reason": "stop"}
    sent = ResultSubmission(job.id, result, USAGE, job.lease_id, signature)
    completion.complete(tx, ctx, MINER_KEY, miner.miner_id, sent)


def finish_one(tx: Tx, ctx: FlowContext, miner: Miner) -> None:
    """Takes and completes the job at the head."""
    complete(tx, ctx, miner, dispatch.take(tx, ctx, MINER_KEY, miner.miner_id, 1).assignments[0].job)


_OWN = re.compile(r"\bt\.(\w+)")


def literal(value: Any) -> str:
    """An SQL literal of text, an integer or None."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


class Copier:
    """Inserts copies of rows into their own tables. In expressions `n.i` is the copy's number, from 0."""

    def __init__(self, url: str) -> None:
        self.sqlite = url.startswith("sqlite")
        self._connection: Any
        if self.sqlite:
            self._connection = sqlite3.connect(sqlite_path(url), isolation_level=None)
            for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-400000", "temp_store=MEMORY"):
                self._connection.execute(f"PRAGMA {pragma}")
        else:
            self._connection = psycopg.connect(postgres_url(url), autocommit=True)
            # The copies satisfy the foreign keys by how they are made; checking them takes most of the time.
            self._connection.execute("SET session_replication_role = replica")
            self._connection.execute("SET synchronous_commit = off")

    def close(self) -> None:
        if not self.sqlite:
            self._connection.execute("VACUUM ANALYZE")
        else:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def execute(self, sql: str) -> None:
        self._connection.execute(sql)

    def value(self, sql: str) -> Any:
        return self._connection.execute(sql).fetchone()[0]

    def identifier(self, base_ms: int, step_ms: int, kind: int) -> str:
        """The expression of a UUIDv7 whose time is base + number * step; `kind` orders ids of one number."""
        at = f"({base_ms} + n.i * {step_ms})"
        if self.sqlite:
            return f"printf('%08x-%04x-7%03x-8%03x-%012x', {at} >> 16, {at} & 65535, {kind}, n.i & 4095, n.i)"
        at = f"({base_ms}::bigint + n.i * {step_ms}::bigint)"
        parts = (
            f"lpad(to_hex({at} >> 16), 8, '0')",
            f"lpad(to_hex({at} & 65535), 4, '0')",
            f"'7{kind:03x}'",
            "'8' || lpad(to_hex(n.i & 4095), 3, '0')",
            "lpad(to_hex(n.i), 12, '0')",
        )
        return " || '-' || ".join(parts)

    def rows(self, table: str, where: str) -> list[dict[str, Any]]:
        cursor = self._connection.execute(f"SELECT * FROM {table} WHERE {where}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def copy(self, table: str, rows: list[dict[str, Any]], changed: dict[str, str], part: range) -> None:
        """Inserts each row for each number of `part`; `changed` has expressions, `t.x` is the row's own x."""
        first, last = part.start, part.stop - 1
        series = (
            f"WITH RECURSIVE n(i) AS (VALUES ({first}) UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "
            if self.sqlite
            else f"WITH n(i) AS (SELECT generate_series({first}::bigint, {last}::bigint)) "
        )
        for row in rows:
            own = {name: literal(value) for name, value in row.items()}
            values = [
                _OWN.sub(lambda found, own=own: own[found[1]], changed[name]) if name in changed else text
                for name, text in own.items()
            ]
            columns = ", ".join(own)
            sql = f"INSERT INTO {table} ({columns}) {series} SELECT {', '.join(values)} FROM n"
            self.execute(sql)

    def after(self, select: str, last_id: str) -> list[Any]:
        """The next rows of a query by ascending id that has one parameter, the id to go on from."""
        mark = "?" if self.sqlite else "%s"
        found: list[Any] = self._connection.execute(select.replace("?", mark), (last_id,)).fetchall()
        return found

    def insert_leaves(self, rows: list[tuple[int, str, bytes, int]]) -> None:
        columns = "leaves (kind, ref_id, hash, hash_head)"
        if self.sqlite:
            self._connection.executemany(f"INSERT INTO {columns} VALUES (?, ?, ?, ?)", rows)
            return
        with self._connection.cursor() as cursor, cursor.copy(f"COPY {columns} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("BEGIN")
        yield
        self.execute("COMMIT")


def fill_finished(prepared: Prepared, count: int) -> None:
    """Adds `count` completed jobs: events, transfers, receipts and their leaves, sealed into blocks.

    Prompts and results are erased, as retention leaves them.
    """
    job_id, now_ms = _template(prepared.url, finished=True)
    copier = Copier(prepared.url)
    try:
        step_ms = max(1, PAST_MS // count)
        base_ms = now_ms - PAST_MS
        kinds = ("job", "hold", "lease", "receipt", "post", "fee")
        ids = {name: copier.identifier(base_ms, step_ms, kind) for kind, name in enumerate(kinds)}
        plan = _finished(copier, job_id, ids, f"({base_ms - now_ms} + n.i * {step_ms})")
        for first in range(0, count, CHUNK):
            part = range(first, min(count, first + CHUNK))
            with copier.transaction():
                for table, rows, changed in plan:
                    copier.copy(table, rows, changed, part)
        _move_money(copier, job_id, count)
        append_leaves(copier)
    finally:
        copier.close()
    seal_all(prepared.url)


Plan = list[tuple[str, list[dict[str, Any]], dict[str, str]]]


def _finished(copier: Copier, job_id: str, ids: dict[str, str], shift: str) -> Plan:
    """What to copy of a finished job: table, its rows, and what is new in each copy."""

    def later(*names: str) -> dict[str, str]:
        return {name: f"t.{name} + {shift}" for name in names}

    def transfer(kind: str) -> list[dict[str, Any]]:
        return copier.rows("transfers", f"ref = '{job_id}' AND kind = '{kind}'")

    of_job = f"job_id = '{job_id}'"
    job = {"id": ids["job"], "hold_id": ids["hold"], "receipt_id": ids["receipt"]}
    times = later("created_at_ms", "started_at_ms", "finished_at_ms", "expires_at_ms")
    moved = {"ref": ids["job"], **later("created_at_ms")}
    settled = {"hold_id": ids["hold"], **moved}
    body = f"replace(replace(t.body, t.job_id, {ids['job']}), t.id, {ids['receipt']})"
    receipt = {"id": ids["receipt"], "job_id": ids["job"], "body": body, **later("created_at_ms")}
    return [
        ("jobs", copier.rows("jobs", f"id = '{job_id}'"), {**job, **times}),
        ("job_events", copier.rows("job_events", of_job), {"job_id": ids["job"], **later("at_ms")}),
        ("transfers", transfer("hold"), {"id": ids["hold"], **moved}),
        ("transfers", transfer("post"), {"id": ids["post"], **settled}),
        ("transfers", transfer("fee"), {"id": ids["fee"], **settled}),
        ("receipts", copier.rows("receipts", of_job), receipt),
    ]


TRANSFERS_WITHOUT_LEAF = f"""
SELECT id, kind, debit_id, credit_id, amount_units, hold_id, ref, created_at_ms FROM transfers t
WHERE id > ? AND NOT EXISTS (SELECT 1 FROM leaves WHERE ref_id = t.id) ORDER BY id LIMIT {CHUNK}"""
RECEIPTS_WITHOUT_LEAF = f"""
SELECT id, body, key_id, signature FROM receipts r
WHERE id > ? AND NOT EXISTS (SELECT 1 FROM leaves WHERE ref_id = r.id) ORDER BY id LIMIT {CHUNK}"""


def append_leaves(copier: Copier) -> None:
    """Gives every copied transfer and receipt its leaf."""
    last_id = ""
    while rows := copier.after(TRANSFERS_WITHOUT_LEAF, last_id):
        with copier.transaction():
            copier.insert_leaves([_leaf(TRANSFER, row[0], transfer_leaf(*row)) for row in rows])
        last_id = rows[-1][0]
    last_id = ""
    while rows := copier.after(RECEIPTS_WITHOUT_LEAF, last_id):
        with copier.transaction():
            copier.insert_leaves([_leaf(RECEIPT, row[0], receipt_leaf(*row[1:])) for row in rows])
        last_id = rows[-1][0]


def _leaf(kind: int, ref_id: str, data: bytes) -> tuple[int, str, bytes, int]:
    hashed = leaf_hash(data)
    return kind, ref_id, hashed, head_of(hashed)


def seal_all(url: str) -> None:
    """Seals what waits into blocks, as a coordinator would."""
    database = Database.open(url)
    key = PrivateKey.generate()
    try:
        database.write_sync(founding.ensure, CHAIN_ID, key)
        while (made := database.read_sync(sealer.draft, CHAIN_ID, key)) is not None:
            if not database.write_sync(sealer.seal, made):
                raise MeasurementFailed("a block could not be sealed while the database was filled")
    finally:
        database.close()


def _move_money(copier: Copier, job_id: str, count: int) -> None:
    """Gives the accounts what the copied transfers say."""
    transferred = "SELECT amount_units FROM transfers WHERE ref = '{}' AND kind = '{}'"
    post = int(copier.value(transferred.format(job_id, "post")))
    fee = int(copier.value(transferred.format(job_id, "fee")))
    for account, units in ((CLIENT, -(post + fee)), (PROVIDER, post), (TREASURY, fee)):
        copier.execute(
            f"UPDATE accounts SET balance_units = balance_units + {units * count} WHERE id = '{account}'"
        )


def fill_pending(prepared: Prepared, count: int) -> None:
    """Adds `count` pending jobs of models that nobody here serves."""
    job_id, now_ms = _template(prepared.url, finished=False)
    copier = Copier(prepared.url)
    try:
        ids = {name: copier.identifier(now_ms - 60_000, 0, kind) for kind, name in enumerate(("job", "hold"))}
        held = int(copier.value(f"SELECT held_units FROM jobs WHERE id = '{job_id}'"))
        of_job = f"job_id = '{job_id}'"
        job = {"id": ids["job"], "hold_id": ids["hold"], "model": f"'other-' || (n.i % {MODELS})"}
        plan: Plan = [
            ("jobs", copier.rows("jobs", f"id = '{job_id}'"), job),
            ("job_requests", copier.rows("job_requests", of_job), {"job_id": ids["job"]}),
            ("job_events", copier.rows("job_events", of_job), {"job_id": ids["job"]}),
            (
                "transfers",
                copier.rows("transfers", f"ref = '{job_id}' AND kind = 'hold'"),
                {"id": ids["hold"], "ref": ids["job"]},
            ),
        ]
        for first in range(0, count, CHUNK):
            with copier.transaction():
                for table, rows, changed in plan:
                    copier.copy(table, rows, changed, range(first, min(count, first + CHUNK)))
        append_leaves(copier)
        copier.execute(f"UPDATE accounts SET held_units = held_units + {held * count} WHERE id = '{CLIENT}'")
    finally:
        copier.close()


def _template(url: str, *, finished: bool) -> tuple[str, int]:
    """Runs one job through the flows, to its end or as far as the queue; its id and time of creation."""
    database = Database.open(url)
    founded = database.read_sync(network.read)
    ctx = flow_context() if founded is None else flow_context(founded.network_id)
    model = "bench-template"
    try:
        job = database.write_sync(submit_one, ctx, model)
        if finished:
            miner = Miner("", "bench-template", CHAIN_ID)
            public_key = miner.signing_key.public_bytes
            database.write_sync(register_one, miner.miner_id, model, public_to_text(public_key))
            database.write_sync(finish_one, ctx, miner)
        return job.id, job.created_at_ms
    finally:
        database.close()
