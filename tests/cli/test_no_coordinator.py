"""Commands at an address where something else answers: one line that names the address, and exit code 3."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from aitbc.core.log.keyset import KeySet
from tests.audit.test_commands import policy_file
from tests.audit.test_outside import POLICY
from tests.cli.harness import User

PAGE = b"<html>\n<body>Welcome\n</body></html>"
LINK = b"HTTP/1.1 302 Found\r\nLocation: https://portal.invalid/\r\nContent-Length: 0\r\n\r\n"


def answer(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


OTHERS = {
    "a page": answer("200 OK", "text/html", PAGE),
    "a page that says 404": answer("404 Not Found", "text/html", PAGE),
    "another service's object": answer("200 OK", "application/json", b"{}"),
    "another service's list": answer("200 OK", "application/json", b"[1]"),
    "another service's refusal": answer("403 Forbidden", "application/json", b'{"error":"no"}'),
    "brackets without end": answer("200 OK", "application/json", b"[" * 60_000),
    "a login page elsewhere": LINK,
    "no HTTP": b"\x00\xff\x13SSH-2.0\r\n\r\n",
    "the start of a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
}
WORDS = [
    ("audit",),
    ("audit", "--policy"),
    ("audit", "--policy", "--json"),
    ("submit", "hello"),
    ("balance",),
    ("statement", "--csv"),
    ("receipt", "keys"),
    ("policy", "new"),
    ("miner", "status", "--id", "m"),
]


@contextmanager
def other(data: bytes) -> Iterator[str]:
    """Something at an address that answers every connection with `data`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with suppress(OSError):
                while True:
                    connection, _address = listener.accept()
                    with connection, suppress(OSError):
                        connection.recv(65_536)
                        connection.sendall(data)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_one_line_names_the_address(user: User, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    policy = policy_file(user.home.parent, POLICY)
    with other(data) as url:
        for words in WORDS:
            given = [part for word in words for part in ((word, policy) if word == "--policy" else (word,))]
            outcome = user(*given, "--url", url, *(() if words[0] == "audit" else ("--key", "k" * 20)))
            lines = outcome.err.splitlines()
            if words[0] == "miner":  # what this machine knows comes before it
                assert "no tally" in lines.pop(0), words
            else:
                assert outcome.out == "", words
            assert (outcome.code, len(lines)) == (3, 1), (words, outcome)
            assert url in lines[0], (words, outcome)
    assert not user.home.exists()


def test_a_coordinator_that_hides_its_checkpoint_is_not_right(user: User) -> None:
    """Even an empty log has a checkpoint: without one nothing was audited, which is no success."""
    keys = KeySet("ait-devnet", []).to_json()
    served = {b"/v1/keys": answer("200 OK", "application/json", str(keys).replace("'", '"').encode())}
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with suppress(OSError):
                while True:
                    connection, _address = listener.accept()
                    with connection, suppress(OSError):
                        path = connection.recv(65_536).split(b" ")[1]
                        connection.sendall(served.get(path, OTHERS["a page that says 404"]))

        threading.Thread(target=run, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        outcome = user("audit", "--url", url)
        listener.shutdown(socket.SHUT_RDWR)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (3, "", 1)
    assert "/log/checkpoint" in outcome.err


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "http://127.0.0.1:99999", "http://[::1", "http://a:b@c:d/", "ftp://x"]
)
def test_what_is_no_address_is_one_line(user: User, url: str) -> None:
    for words in (["audit"], ["miner", "status", "--id", "m", "--key", "k" * 20]):
        outcome = user(*words, "--url", url)
        assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1), outcome
        assert "not an http(s) address" in outcome.err
