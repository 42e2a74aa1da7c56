"""The Ed25519 work of a batch: done here, or on another core while this one does the rest.

A batch of results is checked and signed one by one: about a third of its time. Threads cannot share that work,
since each call is short and has to win the interpreter lock back. So a process of its own does it
(`signing.worker`): chunks go to it as the batch comes to them, and what it found is fetched at the end.
It is only ever faster: with one core, few items, or a worker that is gone, the work is done here.
"""

import os
import select
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import NamedTuple, Self

import structlog

from aitbc.coordinator.signing.worker import HEAD, LENGTH, READY, SIGN, VERIFY
from aitbc.core.signing import SIGNATURE_BYTES, PrivateKey, verify

log = structlog.get_logger(__name__)

WORTH_ITEMS = 32  # for fewer, waking the worker costs more than it saves
CHUNK_ITEMS = 32
BEHIND_CHUNKS = 7  # with so many unanswered the worker would be waited for: what comes next is signed here
PIPE_BYTES = 1 << 20
ANSWER_S = 10.0  # a worker that is silent for so long is given up
END_S = 1.0  # one that does not end by itself is killed: the coordinator stops within seconds
AGAIN_S = 60.0  # and replaced after a while


class Signed(NamedTuple):
    """Whether every signature that was to be checked is good, and those that were made, in order."""

    valid: bool
    signatures: list[bytes]


class Signatures:
    """One batch's signatures, each checked or made as it is given."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._valid = True
        self._made: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        """Has `signature` checked, 64 bytes, to be `public_key`'s (32 bytes) over `message`."""
        self._valid = self._valid and verify(public_key, message, signature)

    def sign(self, message: bytes) -> None:
        """Has the message signed."""
        self._made.append(self._key.sign(message))

    def finish(self) -> Signed:
        """All results. Nothing may be given to it any more."""
        return Signed(self._valid, self._made)


class WorkerGone(Exception):
    """The worker ended, or does not answer."""


class SharedSignatures(Signatures):
    """Signatures that the worker checks, and makes as far as it comes to it. Holds the worker until it is left."""

    def __init__(self, worker: "SigningWorker", key: PrivateKey) -> None:
        super().__init__(key)
        self._worker = worker
        self._chunks: dict[int, list[bytes]] = {VERIFY: [], SIGN: []}
        self._sent: list[tuple[int, int]] = []  # (kind, items) of the chunks whose answers are owed
        self._signed: list[list[bytes] | None] = []  # by chunk: made here, or None for those of the worker
        self._to_verify: list[tuple[bytes, bytes, bytes]] = []
        self._to_sign: list[bytes] = []
        self._gone = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._gone:
                self._fetch()  # where the batch was given up, nothing is left for the next one to read
        except WorkerGone as gone:
            self._lose(gone)
        finally:
            self._worker.release()

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        self._to_verify.append((public_key, message, signature))
        if len(signature) != SIGNATURE_BYTES:
            self._valid = False
            return
        self._add(VERIFY, b"%b%b%b%b" % (public_key, signature, LENGTH.pack(len(message)), message))

    def sign(self, message: bytes) -> None:
        self._to_sign.append(message)
        self._add(SIGN, LENGTH.pack(len(message)) + message)

    def finish(self) -> Signed:
        try:
            for kind in (VERIFY, SIGN):
                self._send(kind)
            if not self._gone:
                return self._read(self._fetch())
        except WorkerGone as gone:
            self._lose(gone)
        here = Signatures(self._key)
        for public_key, message, signature in self._to_verify:
            here.verify(public_key, message, signature)
        for message in self._to_sign:
            here.sign(message)
        return here.finish()

    def _add(self, kind: int, item: bytes) -> None:
        chunk = self._chunks[kind]
        chunk.append(item)
        if len(chunk) >= CHUNK_ITEMS:
            try:
                self._send(kind)
            except WorkerGone as gone:
                self._lose(gone)

    def _send(self, kind: int) -> None:
        chunk = self._chunks[kind]
        if chunk and not self._gone:
            if kind == SIGN and self._behind() >= BEHIND_CHUNKS:
                self._signed.append([self._key.sign(message) for message in self._to_sign[-len(chunk) :]])
            else:
                if kind == SIGN:
                    self._signed.append(None)
                data = b"".join(chunk)
                self._sent.append((kind, len(chunk)))
                self._worker.write(HEAD.pack(kind, len(chunk), len(data)) + data)
        chunk.clear()

    def _behind(self) -> int:
        """How many chunks the worker has still to answer."""
        have = self._worker.received()
        for number, (kind, count) in enumerate(self._sent):
            have -= count * _ANSWER[kind]
            if have < 0:
                return len(self._sent) - number
        return 0

    def _fetch(self) -> list[tuple[int, bytes]]:
        answers = [(kind, self._worker.read(count * _ANSWER[kind])) for kind, count in self._sent]
        self._sent.clear()
        return answers

    def _lose(self, gone: WorkerGone) -> None:
        self._gone = True
        self._worker.give_up(str(gone))

    def _read(self, answers: list[tuple[int, bytes]]) -> Signed:
        self._valid = self._valid and all(all(data) for kind, data in answers if kind == VERIFY)
        theirs = iter([data for kind, data in answers if kind == SIGN])
        made: list[bytes] = []
        for chunk in self._signed:
            made += _cut(next(theirs)) if chunk is None else chunk
        return Signed(self._valid, made)


def _cut(data: bytes) -> list[bytes]:
    return [data[at : at + SIGNATURE_BYTES] for at in range(0, len(data), SIGNATURE_BYTES)]


_ANSWER = {VERIFY: 1, SIGN: SIGNATURE_BYTES}


class SigningWorker:
    """The worker process, started when a batch is first worth it. Serves one batch at a time."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._incoming = b""
        self._not_before_s = 0.0

    def signatures(self, count: int) -> Signatures:
        """For a batch of about `count` items: shared with the worker where that helps and it is free."""
        if count < WORTH_ITEMS or not self._lock.acquire(blocking=False):
            return Signatures(self._key)
        if self._serves():
            return SharedSignatures(self, self._key)
        self._lock.release()
        return Signatures(self._key)

    def release(self) -> None:
        """A batch is over."""
        self._lock.release()

    def _serves(self) -> bool:
        """Whether it listens; starts it where there is none, without waiting for it."""
        if self._process is None:
            if usable_cores() > 1 and hasattr(select, "poll") and time.monotonic() >= self._not_before_s:
                self._start()
            return False
        if not self._ready:
            try:
                self._ready = self._receive(timeout_ms=0) and self._incoming.startswith(READY)
            except WorkerGone as gone:
                self.give_up(str(gone))
            if self._ready:
                self._incoming = self._incoming[len(READY) :]
        return self._ready

    def _start(self) -> None:
        self._not_before_s = time.monotonic() + AGAIN_S
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "aitbc.coordinator.signing.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pipesize=PIPE_BYTES if sys.platform == "linux" else -1,
            )
        except OSError as error:
            log.warning("signing_worker_not_started", error=str(error))
            return
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        self._process, self._ready, self._incoming = process, False, b""
        try:
            self.write(self._key.seed)
        except WorkerGone as gone:
            self.give_up(str(gone))

    def write(self, data: bytes) -> None:
        """Hands data over; reads what is answered meanwhile, so that neither side waits for the other."""
        assert self._process is not None
        assert self._process.stdin is not None
        left = memoryview(data)
        fd = self._process.stdin.fileno()
        while left:
            try:
                left = left[os.write(fd, left) :]
            except BlockingIOError:
                self._receive(timeout_ms=ANSWER_S * 1000, writable=fd)
            except OSError as error:
                raise WorkerGone(str(error)) from error

    def received(self) -> int:
        """How many bytes of answers are there already."""
        while self._receive(timeout_ms=0):
            pass
        return len(self._incoming)

    def read(self, size: int) -> bytes:
        """The next `size` bytes of answers. Raises WorkerGone."""
        while len(self._incoming) < size:
            if not self._receive(timeout_ms=ANSWER_S * 1000):
                raise WorkerGone("it does not answer")
        data, self._incoming = self._incoming[:size], self._incoming[size:]
        return data

    def _receive(self, *, timeout_ms: float, writable: int | None = None) -> bool:
        """Waits until there is something to read (or room to write) and reads it. False after the timeout."""
        assert self._process is not None
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if writable is not None:
            poll.register(writable, select.POLLOUT)
        events = dict(poll.poll(timeout_ms))
        if not events and writable is not None:
            raise WorkerGone("it does not read")
        if fd not in events:
            return bool(events)
        try:
            data = os.read(fd, PIPE_BYTES)
        except OSError as error:
            raise WorkerGone(str(error)) from error
        if not data:
            raise WorkerGone("it ended")
        self._incoming += data
        return True

    def give_up(self, reason: str) -> None:
        """Ends the worker; another is started after a while."""
        log.warning("signing_worker_lost", reason=reason)
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return
        if kill:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Ends the worker: it stops when its input does."""
        with self._lock:
            self._not_before_s = float("inf")
            self._end(kill=False)


def usable_cores() -> int:
    """How many processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
