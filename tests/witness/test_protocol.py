"""The witness's HTTP protocol, status by status as C2SP tlog-witness has them."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from aitbc.core.log.merkle import EMPTY_ROOT
from aitbc.core.log.note import MAX_SIGNATURES, Note, NoteSignature, parse_note, sign_note, verify_note
from aitbc.core.log.witness_protocol import MAX_REQUEST_BYTES, format_request
from aitbc.core.signing import PrivateKey, encode_b64
from aitbc.witness import server
from aitbc.witness.server import create_app
from aitbc.witness.service import Witness
from aitbc.witness.state import WitnessState
from tests.witness.logs import ORIGIN, WITNESS, WITNESS_KEY, Log, cosigned_at, origin_hash

NOW_S = 1_767_225_600
LOG = Log()


class Served:
    """A witness over a file, asked through its ASGI application."""

    def __init__(self, path: Path, *logs: Log) -> None:
        self.state = WitnessState(path)
        self.witness = Witness(
            WITNESS.name, WITNESS_KEY, [log.verifier for log in logs or (LOG,)], self.state, lambda: NOW_S
        )
        self.app = create_app(self.witness)

    def call(self, method: str, path: str, body: str | bytes = b"") -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://witness") as client:
                return await client.request(method, path, content=body)

        return asyncio.run(send())

    def add(self, body: str | bytes) -> httpx.Response:
        return self.call("POST", "/add-checkpoint", body)

    @property
    def size(self) -> int:
        seen = self.state.seen(ORIGIN)
        return 0 if seen is None else seen.size


@pytest.fixture
def witness(tmp_path: Path) -> Served:
    return Served(tmp_path / "witness.db")


def test_200_a_log_that_grows_is_cosigned(witness: Served) -> None:
    before = 0
    for size in (0, 1, 1, 5, 8, 8, 300):
        answer = witness.add(LOG.request(before, size))
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert cosigned_at(LOG.note(size), answer.text) == NOW_S
        assert witness.size == size
        before = size


def test_the_latest_checkpoint_is_served_with_both_signatures(witness: Served) -> None:
    path = f"/{origin_hash()}/checkpoint"
    assert witness.call("GET", path).status_code == 404
    assert witness.call("GET", f"/{origin_hash('other')}/checkpoint").status_code == 404
    line = witness.add(LOG.request(0, 7)).text
    served = witness.call("GET", path)
    assert (served.status_code, served.text) == (200, LOG.note(7) + line)
    assert verify_note(parse_note(served.text), [LOG.verifier]) == [LOG.verifier]
    assert witness.call("GET", "/key").text == f"{WITNESS.vkey}\n"
    assert witness.call("GET", "/add-checkpoint").status_code == 405


def test_400_what_is_no_request(witness: Served) -> None:
    good, note = LOG.request(0, 5), LOG.note(5)
    many = format_request(1, [b"\x00" * 32] * 64, note)
    for body in (
        "", "\n\n", "old 0\n", f"\n\n{note}", note, f"new 0\n\n{note}", f"old\n\n{note}", f"old  0\n\n{note}",
        f"old 00\n\n{note}", f"old 01\n\n{note}", f"old -1\n\n{note}", f"old +1\n\n{note}", f"old 1 \n\n{note}",
        f"old 0x1\n\n{note}", f"old \u0661\n\n{note}", f"OLD 0\n\n{note}", f"old {10**30}\n\n{note}",
        f"old 0\r\n\r\n{note}", f"old 1\nAAAA\n\n{note}", f"old 1\n{encode_b64(b'x' * 33)}\n\n{note}",
        f"old 1\nnot base64\n\n{note}", many, good[:-1], good + "\n", good.replace("\u2014", "-"),
        f"old 0\n\n{ORIGIN}\n5\n\n", f"old 0\n\n{LOG.text(5)}", good.replace("\n5\n", "\n05\n"),
        good.replace("\n5\n", "\nfive\n"), good.replace("\n5\n", f"\n{2**63}\n"), good.encode() + b"\xff",
        good.replace(ORIGIN, ORIGIN + "\x00"),
    ):  # fmt: skip
        answer = witness.add(body)
        assert answer.status_code == 400, body
    assert witness.size == 0
    # Only an old size above the checkpoint's is left to say of a request that can be read.
    assert witness.add(LOG.request(6, 5)).status_code == 400
    assert witness.add(good).status_code == 200


def test_413_too_much(witness: Served) -> None:
    assert witness.add(b"x" * (MAX_REQUEST_BYTES + 1)).status_code == 413
    assert witness.add(b"x" * MAX_REQUEST_BYTES).status_code == 400


@pytest.mark.parametrize("count", [16, MAX_SIGNATURES])
def test_signatures_of_tomorrow_are_passed_over(witness: Served, count: int) -> None:
    """As signed-note asks: 16 signatures at least, each as long as post-quantum ones are, in any order."""
    text, rng = LOG.text(5), random.Random(1)
    lines = [
        NoteSignature(f"pq.example/{number}", rng.randbytes(4), rng.randbytes(5000))
        for number in range(count)
    ]
    lines[1] = NoteSignature(ORIGIN, rng.randbytes(4), rng.randbytes(2428))  # the log's own, of another type
    lines[2] = NoteSignature(
        "pq.example/log", LOG.verifier.key_id, rng.randbytes(64)
    )  # the id of the log's key
    lines[count // 2] = sign_note(text, ORIGIN, LOG.key)
    answer = witness.add(format_request(0, [], str(Note(text, tuple(lines)))))
    assert answer.status_code == 200, answer.text
    assert witness.size == 5


def test_404_a_log_that_it_does_not_know(witness: Served) -> None:
    assert witness.add(Log(origin="aitbc/other").request(0, 5)).status_code == 404


def test_403_not_signed_by_the_log(witness: Served) -> None:
    stranger = PrivateKey.from_seed(b"\x09" * 32)
    text = LOG.text(5)
    good = sign_note(text, ORIGIN, LOG.key)
    forged = sign_note(LOG.text(6), ORIGIN, LOG.key)
    unknown = sign_note(text, ORIGIN, stranger)
    named = sign_note(text, "aitbc/other", LOG.key)
    for lines in ((unknown,), (named,), (forged,), (good, forged), (unknown, named)):
        body = format_request(0, [], str(Note(text, lines)))
        assert witness.add(body).status_code == 403, lines
    assert witness.size == 0
    # Lines of keys that it does not know are passed over.
    assert witness.add(format_request(0, [], str(Note(text, (unknown, good, named))))).status_code == 200


def test_a_log_may_have_two_keys_while_it_changes_them(tmp_path: Path) -> None:
    new = Log(key=PrivateKey.from_seed(b"\x0a" * 32))
    witness = Served(tmp_path / "witness.db", LOG, new)
    assert witness.add(LOG.request(0, 3)).status_code == 200
    assert witness.add(new.request(3, 5)).status_code == 200
    served = witness.call("GET", f"/{origin_hash()}/checkpoint").text
    assert verify_note(parse_note(served), [new.verifier]) == [new.verifier]


def test_409_says_what_it_knows(witness: Served) -> None:
    for known, wrong in ((0, (1, 2, 8)), (8, (0, 1, 7, 9, 20)), (20, (0, 8, 19))):
        if known:
            assert witness.add(LOG.request(witness.size, known)).status_code == 200
        for old in wrong:
            answer = witness.add(LOG.request(old, 20))
            assert (answer.status_code, answer.text) == (409, f"{known}\n")
            assert answer.headers["content-type"] == "text/x.tlog.size"
            assert witness.size == known


def test_422_what_does_not_continue(witness: Served) -> None:
    zeros, fork = b"\x00" * 32, Log(fork=4)
    assert witness.add(format_request(0, [], LOG.note(0, zeros))).status_code == 422
    assert witness.add(format_request(0, [zeros], LOG.note(5))).status_code == 422
    assert witness.add(LOG.request(0, 5)).status_code == 200
    good = LOG.proof(5, 9)
    for body in (
        fork.request(5, 9),  # another history
        format_request(5, [], LOG.note(9)),
        format_request(5, good[:-1], LOG.note(9)),
        format_request(5, [*good, zeros], LOG.note(9)),
        format_request(5, [zeros, *good[1:]], LOG.note(9)),
        format_request(5, good[::-1], LOG.note(9)),
        format_request(5, good, LOG.note(9, EMPTY_ROOT)),
        format_request(5, [zeros], LOG.note(5)),  # the same root; the proof is not empty
        format_request(5, LOG.proof(4, 9), LOG.note(9)),
    ):
        answer = witness.add(body)
        assert answer.status_code == 422, body
        assert "\u2014" not in answer.text, "nothing was signed"
    assert witness.size == 5
    # The same size and another root: C2SP tlog-witness has a status of its own for it.
    answer = witness.add(fork.request(5, 5))
    assert (answer.status_code, answer.text) == (409, "5\n")
    assert witness.add(LOG.request(5, 9)).status_code == 200


def test_what_it_saw_outlives_it(tmp_path: Path) -> None:
    first = Served(tmp_path / "witness.db")
    assert first.add(LOG.request(0, 6)).status_code == 200
    first.state.close()
    again = Served(tmp_path / "witness.db")
    assert again.add(Log(fork=2).request(0, 9)).status_code == 409
    assert again.add(Log(fork=2).request(6, 9)).status_code == 422
    assert again.add(LOG.request(6, 9)).status_code == 200


def test_two_requests_at_once_never_roll_back(tmp_path: Path) -> None:
    """Two processes' worth of witnesses on one file, many requests at once: sizes only grow."""
    served = [Served(tmp_path / "witness.db") for _ in range(2)]
    generator = random.Random(5)
    bodies = {(old, new): LOG.request(old, new) for old in range(12) for new in range(old, 12)}
    answers: list[tuple[int, int]] = []

    def ask(number: int, body: str, sizes: tuple[int, int]) -> None:
        verdict = served[number % 2].witness.add_checkpoint(body)
        assert verdict.status in (200, 409)
        if verdict.status == 200:
            answers.append(sizes)

    with ThreadPoolExecutor(8) as pool:
        chosen = generator.choices(sorted(bodies), k=400)
        for done in [pool.submit(ask, i, bodies[pair], pair) for i, pair in enumerate(chosen)]:
            done.result(30)
    steps = sorted({pair for pair in answers if pair[0] != pair[1]})
    assert len(steps) == len([pair for pair in answers if pair[0] != pair[1]]), "no step was taken twice"
    for (_, reached), (begin, _) in itertools.pairwise(steps):
        assert begin == reached
    assert served[0].size == served[1].size == (steps[-1][1] if steps else 0)


def test_a_race_that_is_lost_after_the_check(witness: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another request is persisted between the look at the state and the step."""
    advance: Callable[..., bool] = witness.state.advance

    def overtaken(*args: object) -> bool:
        monkeypatch.undo()
        assert witness.add(LOG.request(0, 9)).status_code == 200
        return advance(*args)

    monkeypatch.setattr(witness.state, "advance", overtaken)
    answer = witness.add(LOG.request(0, 6))
    assert (answer.status_code, answer.text) == (409, "9\n")
    assert witness.size == 9


def test_408_too_slow(witness: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that never ends holds nothing for ever."""
    monkeypatch.setattr(server, "BODY_S", 0.05)

    async def send() -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"old 0\n"
            await asyncio.sleep(30)
            yield b""

        transport = httpx.ASGITransport(app=witness.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://witness") as client:
            return await client.post("/add-checkpoint", content=body())

    assert asyncio.run(asyncio.wait_for(send(), 10)).status_code == 408
