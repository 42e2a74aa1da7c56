"""`aitbc demo`: a coordinator and a miner on this machine, and the whole of the main job, verified."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from aitbc.cli.children import Child
from aitbc.cli.failures import CommandError
from aitbc.cli.output import ait, note, say
from aitbc.cli.profile import Profile, home, save_profile
from aitbc.cli.tour import Balances, Tour
from aitbc.core.money import UNITS_PER_AIT
from aitbc.sdk import Client, Miner

READY_TIMEOUT_S = 60.0
MINER_TIMEOUT_S = 180.0
GRANT_AIT = 1000
CHAIN_ID = "ait-devnet"
CLIENT_ACCOUNT, MINER_ACCOUNT, LABEL = "demo-client", "demo-miner", "demo"
USUAL_PORT = 8000


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived: end, but clean up first."""


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the tour; exit code 0 only if all was verified.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; else 8000, or a free one.")
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine of the miner, as for `aitbc miner run`.")] = "auto",
    engine_url: Annotated[str | None, typer.Option(metavar="URL", help="The engine's server.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Model, as for `aitbc miner run`.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--home",
            metavar="DIR",
            help="Where it keeps its files; else AITBC_HOME/demo, or with --once a temporary folder.",
        ),
    ] = None,
) -> None:
    """Start a coordinator and a miner here, run jobs, verify their receipts and payments; Ctrl-C ends it."""
    os.umask(0o077)
    with _signals(), _folder(folder, once) as place, contextlib.ExitStack() as children:
        engine_words = ["--engine", engine, *(["--url", engine_url] if engine_url else [])]
        for name in model or []:
            engine_words += ["--model", name]
        stage = Stage(place, children)
        try:
            stage.start_coordinator(port if port is not None else 0 if once else _usual_port())
            miner = stage.start_miner(engine_words)
            stage.tour(miner)
            stage.audit()
            if once:
                return
            stage.show_ways_on(miner)
            stage.watch()
        except (Stopped, KeyboardInterrupt):
            if once or not stage.toured:
                raise CommandError(
                    "INTERRUPTED", "the demo was stopped before it was done", exit_code=130
                ) from None
            note("stopped")


class Stage:
    """The demo's processes, accounts and files."""

    def __init__(self, folder: Path, children: contextlib.ExitStack) -> None:
        self.folder = folder
        self.toured = False
        self.receipt_id = ""
        self._children = children
        self._running: list[Child] = []
        self._database_url = f"sqlite:///{folder}/coordinator.db"
        self._url = ""
        self._client_key = ""
        self._miner_key = ""
        # The demo's coordinator is its own, whatever this shell is set up for.
        from aitbc.coordinator.config import Settings
        from aitbc.coordinator.config.environment import environment_name

        foreign = {"AITBC_URL", "AITBC_API_KEY", *map(environment_name, Settings.model_fields)}
        self._environment = {name: value for name, value in os.environ.items() if name not in foreign}
        self._environment |= {
            "AITBC_HOME": str(folder),
            "CHAIN_ID": CHAIN_ID,
            "DEVNET_GRANT": str(GRANT_AIT),
        }

    def start_coordinator(self, port: int) -> None:
        """Start it on its own database, wait until it is ready, and make the demo's keys."""
        words = ["serve", "--host", "127.0.0.1", "--port", str(port), "--home", str(self.folder)]
        child = self._start("coordinator", [*words, "--database-url", self._database_url])
        # Needed to make the keys; loaded while the coordinator starts, on the other core.
        import aitbc.cli.database
        import aitbc.coordinator.flows.acts.onboarding  # noqa: F401

        self._url = child.wait_for_line(r"ready on (http://\S+)", READY_TIMEOUT_S)[1]
        self._make_keys()
        say(f"{'coordinator':<12} {self._url}, data in {self.folder}")

    def start_miner(self, engine_words: list[str]) -> Miner:
        """Start it with what engine it finds, and wait until it is registered."""
        self._environment["AITBC_API_KEY"] = self._miner_key
        words = [
            "miner",
            "run",
            "--coordinator",
            self._url,
            "--home",
            str(self.folder / "miner"),
            "--drain-grace",
            "3",
        ]
        child = self._start("miner", [*words, *engine_words])
        found: list[Miner] = []

        def registered() -> bool:
            found[:] = [miner for miner in client.miners() if miner.status == "active" and miner.models]
            return bool(found)

        with Client(self._url, self._client_key) as client:
            child.wait_until(registered, MINER_TIMEOUT_S, "register", every_s=0.2)
        miner = found[0]
        offers = ", ".join(
            f"{model.name} ({model.engine}, {ait(model.price_per_1k)} AIT per 1000 tokens)"
            for model in miner.models[:3]
        )
        say(f"{'miner':<12} {miner.miner_id}: {offers}")
        return miner

    def tour(self, miner: Miner) -> None:
        """Jobs, answers, receipts, money."""
        with Client(self._url, self._client_key) as client:
            tour = Tour(client, self._balances, self.folder)
            tour.run(miner)
        self.receipt_id = tour.receipts[-1].receipt_id
        self.toured = True

    def audit(self) -> None:
        """Recompute all of it from the raw rows: balances, log, blocks, signatures, receipts, jobs."""
        from aitbc.audit.database import audit
        from aitbc.cli.database import open_ledger

        with open_ledger(self._database_url) as database:
            report = database.read_sync(audit, CHAIN_ID)
        if not report.ok:
            raise CommandError("DEMO_FAILED", f"the audit found something wrong: {report.wrong}")
        counts = report.counts
        say(
            f"\naudited: every balance from {counts['transfers']} transfers, {counts['receipts']} receipts,"
            f" {counts['blocks']} blocks over {counts['leaves']} leaves"
        )

    def show_ways_on(self, miner: Miner) -> None:
        """Where to go from here: the addresses and a first call of each kind."""
        name = miner.models[0].name
        save_profile(Profile(self._url, self._client_key), self.folder)
        body = f'{{"prompt": "Who pays the miner?", "model": "{name}"}}'
        say(
            f"""
docs      {self._url}/docs
API       {self._url}/v1/jobs   key {self._client_key}
curl      curl {self._url}/v1/jobs -H 'X-Api-Key: {self._client_key}' \\
               -H 'Content-Type: application/json' -d '{body}'
command   AITBC_HOME={self.folder} aitbc submit --wait --model {name} "Who pays the miner?"
verify    AITBC_HOME={self.folder} aitbc receipt verify {self.folder}/receipts/{self.receipt_id}.json
audit     aitbc audit --url {self._url}
log       {self.folder}/coordinator.log, {self.folder}/miner.log

Ctrl-C ends it."""
        )

    def watch(self) -> None:
        """Until somebody stops it; CommandError where a child ends by itself."""
        while True:
            time.sleep(1)
            for child in self._running:
                if not child.running:
                    raise child.failure(f"the {child.name} ended")

    def _start(self, name: str, words: list[str]) -> Child:
        child = Child(
            name, words, log=self.folder / f"{name}.log", folder=self.folder, environment=self._environment
        )
        self._children.callback(child.stop)
        self._running.append(child)
        return child

    def _make_keys(self) -> None:
        from aitbc.cli.database import open_ledger
        from aitbc.coordinator.api_keys.service import list_keys, revoke_key
        from aitbc.coordinator.database import Tx
        from aitbc.coordinator.flows.acts.onboarding import issue_key

        def make(tx: Tx) -> tuple[str, str]:
            for row in list_keys(tx):
                if row.label == LABEL and row.revoked_at_ms is None:
                    revoke_key(tx, row.id)
            keys = [
                issue_key(
                    tx, role=role, account_id=account, grant_units=GRANT_AIT * UNITS_PER_AIT, label=LABEL
                )
                for role, account in (("client", CLIENT_ACCOUNT), ("miner", MINER_ACCOUNT))
            ]
            return keys[0].key, keys[1].key

        with open_ledger(self._database_url) as database:
            self._client_key, self._miner_key = database.write_sync(make)

    def _balances(self) -> Balances:
        from aitbc.cli.database import open_ledger
        from aitbc.coordinator.database import Tx
        from aitbc.coordinator.ledger.models import TREASURY
        from aitbc.coordinator.ledger.service import balance

        def read(tx: Tx) -> Balances:
            parties = {"client": CLIENT_ACCOUNT, "miner": MINER_ACCOUNT, "treasury": TREASURY}
            return {
                party: Decimal(balance(tx, account).balance_units) / UNITS_PER_AIT
                for party, account in parties.items()
            }

        with open_ledger(self._database_url) as database:
            return database.read_sync(read)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does, its children first; further ones change nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        for name in numbers:
            signal.signal(name, signal.SIG_IGN)
        raise Stopped

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _folder(wanted: Path | None, once: bool) -> Iterator[Path]:
    """The demo's folder (mode 0700), held by one demo at a time; a temporary one is removed at the end."""
    if wanted is None and once:
        with tempfile.TemporaryDirectory(prefix="aitbc-demo-") as name:
            yield Path(name)
        return
    folder = (wanted or home() / "demo").expanduser().absolute()
    import fcntl

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "demo.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CommandError(
            "DEMO_FAILED", f"{folder} cannot be used: {error.strerror}", "Name another with --home."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise CommandError(
            "DEMO_FAILED", f"a demo is running in {folder}", "Stop it, or name another with --home."
        ) from None
    try:
        yield folder
    finally:
        os.close(descriptor)


def _usual_port() -> int:
    """8000 where nobody has it, else 0: a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", USUAL_PORT))
        except OSError:
            return 0
    return USUAL_PORT
