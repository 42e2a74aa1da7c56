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
from aitbc.core.witness_protocol import format_request
from aitbc.database import Tx
from aitbc.metrics import COSIGNATURES
from aitbc.runtime import Runtime

log = structlog.get_logger(__name__)

TIMEOUT_S = 5.0  # for all that one witness is asked in a round
TRIES = 3  # a witness may have to tell us first what it knows
MAX_ANSWER_BYTES = 16 * 1024
# As it is sent: nothing that grows when it is unpacked.
HEADERS = {"Accept-Encoding": "identity", "Content-Type": "text/plain; charset=utf-8"}


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

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, peer: Peer, block: BlockRow) -> None:
        name = peer.verifier.name
        try:
            async with asyncio.timeout(TIMEOUT_S):
                line = await self._cosignature(peer, block)
        except HistoryRefused as error:
            COSIGNATURES.labels(name, "refused").inc()
            log.error("witness_refuses_history", witness=name, height=block.height, error=str(error))
        except WitnessAhead as error:
            COSIGNATURES.labels(name, "ahead").inc()
            log.warning("witness_ahead", witness=name, height=block.height, error=str(error))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
            COSIGNATURES.labels(name, "failed").inc()
            log.warning("witness_failed", witness=name, error=str(error) or type(error).__name__)
        else:
            await self.runtime.db.write(witnessing.record, block.height, name, line)
            COSIGNATURES.labels(name, "cosigned").inc()

    async def _cosignature(self, peer: Peer, block: BlockRow) -> str:
        """The witness's verified line."""
        for _try in range(TRIES):
            body = await self.runtime.db.read(_request, peer.known_size, block)
            status, answer = await self._post(f"{peer.url}/add-checkpoint", body)
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
            peer.known_size = known
        raise ValueError("it keeps naming another size")

    async def _post(self, url: str, body: str) -> tuple[int, str]:
        """Status and text, read no further than an answer can be long."""
        async with self._client.stream("POST", url, content=body.encode(), headers=HEADERS) as reply:
            answer = b""
            async for part in reply.aiter_raw():
                answer += part
                if len(answer) > MAX_ANSWER_BYTES:
                    raise ValueError("its answer is too large")
            return reply.status_code, answer.decode(errors="replace")


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
