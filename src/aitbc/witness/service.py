"""A witness's judgement of one add-checkpoint request, step by step as C2SP tlog-witness orders it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aitbc.core.log.checkpoint import cosign, parse_checkpoint
from aitbc.core.log.merkle import EMPTY_ROOT, verify_consistency
from aitbc.core.log.note import COSIGNATURE_V1, Note, NoteInvalid, Verifier, parse_note, verify_note
from aitbc.core.log.witness_protocol import SIZE_TYPE, RequestInvalid, parse_request
from aitbc.core.signing import PrivateKey
from aitbc.witness.state import WitnessState

TEXT = "text/plain; charset=utf-8"


class Verdict(NamedTuple):
    """The HTTP answer: status, media type, body."""

    status: int
    media_type: str
    body: str


def _refuse(status: int, why: str) -> Verdict:
    return Verdict(status, TEXT, why + "\n")


class Witness:
    """Cosigns checkpoints of the logs that it knows, only if each continues the one before.

    `logs` are the keys that it trusts, each for the origin that is its name; a log may have several, as it
    does while it changes its key. `now_s` gives unix seconds.
    """

    def __init__(
        self,
        name: str,
        key: PrivateKey,
        logs: Iterable[Verifier],
        state: WitnessState,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.state = state
        self._key = key
        self._logs: dict[str, list[Verifier]] = {}
        for verifier in logs:
            self._logs.setdefault(verifier.name, []).append(verifier)
        self._now_s = now_s

    @property
    def verifier(self) -> Verifier:
        """The public side of this witness: what logs and verifiers are configured with."""
        return Verifier(self.name, self._key.public_bytes, COSIGNATURE_V1)

    def add_checkpoint(self, body: str) -> Verdict:
        """200 with the cosignature line, or the status that says what is wrong; nothing is signed then."""
        try:
            request = parse_request(body)
            note = parse_note(request.checkpoint)
            checkpoint = parse_checkpoint(note.text)
        except (RequestInvalid, NoteInvalid) as error:
            return _refuse(400, str(error))
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            return _refuse(404, "this witness does not know the log")
        try:
            signed = verify_note(note, keys)
        except NoteInvalid as error:
            return _refuse(403, str(error))
        if not signed:
            return _refuse(403, "the log has not signed this checkpoint")
        if request.old_size > checkpoint.size:
            return _refuse(400, "the old size is larger than the checkpoint's")
        known = self.state.seen(checkpoint.origin)
        size, root = (0, EMPTY_ROOT) if known is None else known
        if request.old_size != size:
            return Verdict(409, SIZE_TYPE, f"{size}\n")
        if size == checkpoint.size and known is not None and root != checkpoint.root:
            # C2SP tlog-witness: two roots of one size are a conflict, and no proof could join them.
            return Verdict(409, SIZE_TYPE, f"{size}\n")
        if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
            return _refuse(422, "an empty tree has another root")
        if not verify_consistency(size, checkpoint.size, request.proof, root, checkpoint.root):
            return _refuse(422, "the checkpoint does not continue the one that was cosigned")
        line = cosign(note.text, self.name, self._key, int(self._now_s()))
        own = [signature for key in signed for signature in note.by(key)]
        cosigned = str(Note(note.text, (*own, line)))
        # On disk first: the line leaves this process only if nobody was quicker.
        if not self.state.advance(checkpoint.origin, known, checkpoint.size, checkpoint.root, cosigned):
            newest = self.state.seen(checkpoint.origin)
            return Verdict(409, SIZE_TYPE, f"{0 if newest is None else newest.size}\n")
        return Verdict(200, TEXT, line.line)

    def latest(self, origin_hash: str) -> str | None:
        """The checkpoint last cosigned for the log whose origin has this SHA-256 (hex): a whole signed note."""
        for origin in self._logs:
            if hashlib.sha256(origin.encode()).hexdigest() == origin_hash:
                return self.state.latest(origin)
        return None
