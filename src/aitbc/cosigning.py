"""Asking witnesses to cosign the newest block: network I/O, so outside every transaction.

A witness that is down, slow or behind costs nothing but its own cosignature. One that says that we do not
continue what it saw is the alarm that witnesses exist for.
"""

import asyncio
from dataclasses import dataclass

import httpx
import structlog

from aitbc.chain import proofs, sealer, witnessing
from aitbc.chain.sealer import BlockRow
from aitbc.config import split_witnesses
from aitbc.core.checkpoint import cosignature_time
from aitbc.core.note import Note, NoteInvalid, Verifier, parse_note, parse_signature_line
from aitbc.core.witness_protocol import MAX_REQUEST_BYTES, format_request
from aitbc.database import Tx
from aitbc.metrics import COSIGNATURES
from aitbc.runtime import Runtime

log = structlog.get_logger(__name__)

TIMEOUT_S = 5.0
TRIES = 3  # a witness may have to tell us first what it knows


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

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, peer: Peer, block: BlockRow) -> None:
        try:
            line = await self._cosignature(peer, block)
        except (httpx.HTTPError, ValueError) as error:
            COSIGNATURES.labels(peer.verifier.name, "failed").inc()
            log.warning(
                "witness_failed", witness=peer.verifier.name, error=str(error) or type(error).__name__
            )
            return
        if line is not None:
            await self.runtime.db.write(witnessing.record, block.height, peer.verifier.name, line)
            COSIGNATURES.labels(peer.verifier.name, "cosigned").inc()

    async def _cosignature(self, peer: Peer, block: BlockRow) -> str | None:
        """The witness's verified line; None where it knows a larger tree (another coordinator is ahead)."""
        for _try in range(TRIES):
            if peer.known_size > block.tree_size:
                return None
            body = await self.runtime.db.read(_request, peer.known_size, block)
            reply = await self._client.post(f"{peer.url}/add-checkpoint", content=body.encode())
            if len(reply.content) > MAX_REQUEST_BYTES:
                raise ValueError("its answer is too large")
            if reply.status_code == 200:
                line = _checked(reply.text, block, peer.verifier)
                peer.known_size = block.tree_size
                return line
            if reply.status_code != 409:
                if reply.status_code == 422:
                    log.error("witness_refuses_history", witness=peer.verifier.name, height=block.height)
                raise ValueError(f"it answered {reply.status_code}: {reply.text[:200].strip()}")
            peer.known_size = _size(reply.text)
        raise ValueError("it keeps naming another size")


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
    for line in text.splitlines():
        try:
            signed = Note(note.text, (parse_signature_line(line),))
            if cosignature_time(signed, witness) is not None:
                return signed.signatures[0].line
        except NoteInvalid as error:
            raise ValueError(str(error)) from None
    raise ValueError("its answer has no cosignature of its own")
