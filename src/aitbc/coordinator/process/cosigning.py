"""Asking witnesses to cosign the newest block: network I/O, so outside every transaction.

A witness that is down, slow or behind costs nothing but its own cosignature. One that says that we do not
continue what it saw is the alarm that witnesses exist for. Saying so is not enough to stop us, or any witness
could: but what it last cosigned carries the log's own signature, and where the database does not continue that,
two histories are proved, and no more blocks are sealed.
"""

import asyncio
import hashlib
from dataclasses import dataclass

import httpx
import structlog

from aitbc.coordinator.chain import network, proofs, sealer, witnessing
from aitbc.coordinator.chain.sealer import BlockRow
from aitbc.coordinator.config.lists import split_witnesses
from aitbc.coordinator.database import Tx
from aitbc.coordinator.metrics import COSIGNATURES
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.receipts import service as receipts
from aitbc.core.log import tiles
from aitbc.core.log.checkpoint import Checkpoint, cosignature_time, parse_checkpoint
from aitbc.core.log.note import Note, NoteInvalid, Verifier, parse_note, parse_signature_line, verify_note
from aitbc.core.log.witness_protocol import MAX_REQUEST_BYTES, format_request
from aitbc.core.signing import public_from_text

log = structlog.get_logger(__name__)

TIMEOUT_S = 5.0  # for all that one witness is asked in a round
TRIES = 3  # a witness may have to tell us first what it knows
MAX_ANSWER_BYTES = (
    48 * 1024
)  # its own cosignatures, of several types; post-quantum ones have up to 7 KB as text
# As it is sent: nothing that grows when it is unpacked.
HEADERS = {"Accept-Encoding": "identity", "Content-Type": "text/plain; charset=utf-8"}

FAILURES = (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError)
"""How asking a witness ends that is down, slow, or answers what the protocol has not."""


class HistoryRefused(ValueError):
    """A witness says that our log does not continue what it cosigned: history was rewritten, or it lies."""


class WitnessAhead(ValueError):
    """A witness knows a larger tree than we have: another coordinator sealed meanwhile, or we went back."""


@dataclass
class Peer:
    """One configured witness: its key, its submission prefix, and the size that it last told us."""

    verifier: Verifier
    url: str
    known_size: int = 0


class Cosigner:
    """Brings the newest block to every witness that has not cosigned it."""

    def __init__(self, runtime: Runtime, client: httpx.AsyncClient | None = None) -> None:
        self.runtime = runtime
        self.peers = [Peer(*pair) for pair in split_witnesses(runtime.settings.witnesses)]
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)

    async def run_once(self) -> bool:
        """One round over all witnesses at once."""
        if not self.peers:
            return False
        head = await self.runtime.db.read(sealer.head)
        if head is None or not head.checkpoint:
            return False
        signed = await self.runtime.db.read(witnessing.witnesses_of, head.height)
        waiting = [peer for peer in self.peers if peer.verifier.name not in signed]
        await asyncio.gather(*(self._ask(peer, head) for peer in waiting))
        return False

    async def examine(self) -> None:
        """Asks every witness what it last cosigned, and stops the sealing where our log does not continue it."""
        await asyncio.gather(*(self._examine(peer) for peer in self.peers))

    async def close(self) -> None:
        await self._client.aclose()

    async def _examine(self, peer: Peer) -> None:
        """What it holds may prove our database wrong; a witness that cannot be asked keeps nobody from sealing.

        That one is found out with the next block that is brought to it.
        """
        name = peer.verifier.name
        if self.runtime.sealing_stopped:
            return
        try:
            async with asyncio.timeout(TIMEOUT_S):
                fault = await self._proven_fault(peer)
        except FAILURES as error:
            log.warning("witness_not_examined", witness=name, error=str(error) or type(error).__name__)
            return
        if fault:
            self.runtime.sealing_stopped = f"Witness {name} {fault}."
            log.error("sealing_stopped", witness=name, error=fault)

    async def _proven_fault(self, peer: Peer) -> str:
        """What the checkpoint that the witness holds proves against this database; '' where nothing.

        ValueError where what it shows is not a checkpoint of our own log, so proves nothing.
        """
        origin = (await self.runtime.db.read(network.of)).origin
        origin_hash = hashlib.sha256(origin.encode()).hexdigest()
        url = f"{peer.url}/{origin_hash}/checkpoint"
        status, answer = await self._call("GET", url, most_bytes=MAX_REQUEST_BYTES)  # others' signatures, too
        if status == 404:  # it never cosigned anything of ours, or is read elsewhere
            return ""
        if status != 200:
            raise ValueError(f"it answered {status}: {answer[:200].strip()}")
        note = parse_note(answer)
        seen = parse_checkpoint(note.text)
        own_key = self.runtime.signing_key.public_bytes
        if seen.origin != origin or not verify_note(
            note, await self.runtime.db.read(_log_keys, origin, own_key)
        ):
            raise ValueError("what it shows is not signed by our log")
        # Only now: another coordinator on the same database may have sealed, and taken it there, meanwhile.
        return await self.runtime.db.read(_fault, seen)

    async def _ask(self, peer: Peer, block: BlockRow) -> None:
        name = peer.verifier.name
        try:
            async with asyncio.timeout(TIMEOUT_S):
                line = await self._cosignature(peer, block)
        except HistoryRefused as error:
            COSIGNATURES.labels(name, "refused").inc()
            log.error("witness_refuses_history", witness=name, height=block.height, error=str(error))
            await self._examine(peer)
        except WitnessAhead as error:
            COSIGNATURES.labels(name, "ahead").inc()
            log.warning("witness_ahead", witness=name, height=block.height, error=str(error))
            await self._examine(peer)
        except FAILURES as error:
            COSIGNATURES.labels(name, "failed").inc()
            log.warning("witness_failed", witness=name, error=str(error) or type(error).__name__)
        else:
            await self.runtime.db.write(witnessing.record, block.height, name, line)
            COSIGNATURES.labels(name, "cosigned").inc()

    async def _cosignature(self, peer: Peer, block: BlockRow) -> str:
        """The witness's verified line."""
        for _try in range(TRIES):
            body = await self.runtime.db.read(_request, peer.known_size, block)
            status, answer = await self._call("POST", f"{peer.url}/add-checkpoint", body)
            if status == 200:
                line = _checked(answer, block, peer.verifier)
                peer.known_size = block.tree_size
                return line
            if status == 422:
                raise HistoryRefused(answer[:200].strip())
            if status != 409:
                raise ValueError(f"it answered {status}: {answer[:200].strip()}")
            known = _size(answer)
            if known > block.tree_size:
                # Not kept: a size that it only claims must not keep us from asking again.
                peer.known_size = 0
                raise WitnessAhead(f"it knows a tree of {known} leaves, we have {block.tree_size}")
            if known == peer.known_size == block.tree_size:
                raise HistoryRefused(f"it knows another tree of {known} leaves")
            peer.known_size = known
        raise ValueError("it keeps naming another size")

    async def _call(
        self, method: str, url: str, body: str | None = None, most_bytes: int = MAX_ANSWER_BYTES
    ) -> tuple[int, str]:
        """Status and text, read no further than an answer can be long."""
        content = None if body is None else body.encode()
        async with self._client.stream(method, url, content=content, headers=HEADERS) as reply:
            answer = b""
            async for part in reply.aiter_raw():
                answer += part
                if len(answer) > most_bytes:
                    raise ValueError("its answer is too large")
            return reply.status_code, answer.decode(errors="replace")


async def examine(runtime: Runtime, client: httpx.AsyncClient | None = None) -> None:
    """Asks every witness, once, whether the log that it knows goes further or elsewhere than this database."""
    cosigner = Cosigner(runtime, client)
    try:
        await cosigner.examine()
    finally:
        await cosigner.close()


def _log_keys(tx: Tx, origin: str, own_key: bytes) -> list[Verifier]:
    """Every key that has signed our checkpoints; a database from before the newest key lacks that one."""
    known = {own_key, *(public_from_text(row.public_key) for row in receipts.keys(tx))}
    return [Verifier(origin, key) for key in known]


def _fault(tx: Tx, seen: Checkpoint) -> str:
    """Why a checkpoint of our log is not of this database, or ''."""
    last = sealer.head(tx)
    size = 0 if last is None else last.tree_size
    if seen.size > size:
        return (
            f"cosigned a tree of {seen.size} leaves and this database has sealed {size}: it is older than the"
            " log, as after the restore of a backup, and going on would make a second history"
        )
    if tiles.root(seen.size, lambda wanted: sealer.read_tiles(tx, wanted)) != seen.root:
        return f"cosigned another tree of {seen.size} leaves than this database has: there are two histories"
    return ""


def _request(tx: Tx, old_size: int, block: BlockRow) -> str:
    return format_request(old_size, proofs.consistency(tx, old_size, block.tree_size), block.checkpoint)


def _size(text: str) -> int:
    number = text.strip()
    if not (number.isascii() and number.isdigit() and len(number) < 20):
        raise ValueError("its size is not a number")
    return int(number)


def _checked(text: str, block: BlockRow, witness: Verifier) -> str:
    """The witness's own line of the answer, verified over the checkpoint. ValueError."""
    note = parse_note(block.checkpoint)
    for line in text.removesuffix("\n").split("\n"):
        try:
            signed = Note(note.text, (parse_signature_line(line),))
            if cosignature_time(signed, witness) is not None:
                return signed.signatures[0].line
        except NoteInvalid as error:
            raise ValueError(str(error)) from None
    raise ValueError("its answer has no cosignature of its own")
