"""Strangers against the real server process: heads, bodies, connections and answers that never end.

Peers are addresses of 127.0.0.0/8. None is a trusted proxy here, unless a test says so.
"""

import contextlib
import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.coordinator.api.conftest import sqlite_only
from tests.support.server import ServerProcess

pytestmark = sqlite_only  # nothing of it depends on the database

MB = 1 << 20
STRANGERS = {"TRUSTED_PROXIES": "192.0.2.1", "API_KEYS": "key-of-a-stranger-1"}
QUICK = {
    **STRANGERS,
    "HEAD_TIMEOUT_S": "1",
    "BODY_TIMEOUT_S": "1",
    "ANSWER_TIMEOUT_S": "1",
    "MIN_BYTES_PER_S": "100000000",
}
SOON_S = 6.0
POLL = b"GET /v1/miner/jobs?wait=60&miner_id=m HTTP/1.1\r\nHost: x\r\nX-Api-Key: key-of-a-stranger-1\r\n\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"

Start = Callable[..., ServerProcess]


def dial(server: ServerProcess, peer: str = "127.0.0.9", *, receive_bytes: int = 0) -> socket.socket:
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(SOON_S)
    connection.bind((peer, 0))
    connection.connect(("127.0.0.1", server.port))
    return connection


def read_end(connection: socket.socket) -> bytes:
    """Everything until the server ends the connection."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    connection.close()
    return b"".join(parts)


def send_all(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the server may end it at any moment
        connection.sendall(data)


def ask(server: ServerProcess, path: str = "/health", peer: str = "127.0.0.2") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.port, timeout=SOON_S, source_address=(peer, 0)
    )
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def refused(server: ServerProcess, reason: str) -> int:
    found = re.search(
        rf'^aitbc_refused_total{{reason="{reason}"}} (\S+)$',
        ask(server, "/metrics")[1].decode(),
        re.MULTILINE,
    )
    return int(float(found[1])) if found else 0


def memory_mb(server: ServerProcess) -> float:
    assert server.process is not None
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / MB


def computed_s(server: ServerProcess) -> float:
    """Processor time that the server has used."""
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Looks at /health as another peer would, and at the memory, for as long as something else goes on.

    `slowest_s` is how long the server kept somebody waiting by its own work: no longer than it computed meanwhile, so
    that a machine that is busy with something else does not count. Longer than SOON_S counts, whatever it did.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.slowest_s = 0.0
        self.before_mb = self.most_mb = memory_mb(server)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            asked, computed = time.monotonic(), computed_s(self.server)
            try:
                assert ask(self.server)[0] == 200
            except OSError:
                self.slowest_s = SOON_S
            took_s = time.monotonic() - asked
            self.slowest_s = max(self.slowest_s, min(took_s, computed_s(self.server) - computed))
            self.most_mb = max(self.most_mb, memory_mb(self.server))

    @property
    def grown_mb(self) -> float:
        return self.most_mb - self.before_mb


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def code_of(answer: bytes) -> str:
    return str(json.loads(answer.rpartition(b"\r\n\r\n")[2])["error_code"])


def half_requests(
    server: ServerProcess, count: int, peer: str, data: bytes = b"GET /he"
) -> list[socket.socket]:
    opened = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            connection = dial(server, peer)
            opened.append(connection)
            connection.sendall(data)
    return opened


def alive(connections: list[socket.socket]) -> int:
    """How many of them the server has neither answered nor ended."""
    open_now = 0
    for connection in connections:
        connection.settimeout(0.01)
        with contextlib.suppress(ConnectionError):
            try:
                connection.recv(65536)
            except TimeoutError:
                open_now += 1
    return open_now


def at_once(acts: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def register_miner(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SOON_S)
    miner = {"miner_id": "m", "capabilities": ["llama3.2"], "concurrency": 8}
    connection.request("POST", "/v1/miners/register", json.dumps(miner), {"X-Api-Key": "key-of-a-stranger-1"})
    assert connection.getresponse().status == 201
    connection.close()


@pytest.fixture
def closing() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for connection in opened:
        connection.close()


def test_heads_have_a_size_and_a_number(start_server: Start) -> None:
    server = start_server(STRANGERS)

    def check(head: bytes, *expected: object) -> None:
        connection = dial(server)
        send_all(connection, head)
        answer = read_end(connection)
        # A caller that goes on sending may lose the answer with the connection.
        if len(head) < MB:
            assert (status_of(answer), code_of(answer)) == expected, head[:80]
        answered.append(head)

    answered: list[bytes] = []
    fits = GET[:-2] + b"X-Long: " + b"x" * 16_000 + b"\r\nConnection: close\r\n\r\n"
    heads = [
        GET[:-2] + b"X-Long: " + b"x" * 17_000 + b"\r\n\r\n",
        GET[:-2] + b"X-Endless: " + b"x" * (8 * MB),
        GET[:-2] + b"X: y\r\n" * MB,
        b"GET /" + b"x" * (8 * MB),
        b"GET /?" + b"x=1&" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        GET[:-2] + b"".join(b"X-%d: y\r\n" % number for number in range(200)) + b"\r\n",
    ]
    with Watch(server) as watch:
        at_once([partial(check, head, 431, "HEAD_TOO_LARGE") for head in heads])
        connection = dial(server)
        connection.sendall(fits)
        assert status_of(read_end(connection)) == 200
    assert sorted(answered) == sorted(heads)
    assert refused(server, "head_size") >= 6
    assert watch.grown_mb < 40
    assert watch.slowest_s < 1


def test_what_comes_beside_a_body_is_bounded(start_server: Start) -> None:
    server = start_server(STRANGERS)
    chunked = b"POST /v1/users/challenge HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    bodies = (
        b"1;" + b"x" * (4 * MB),  # an extension
        b"1\r\n{\r\n0\r\n" + b"X-Trailer: x\r\n" * 400_000,
        b"1\r\n{\r\n0\r\nX-Trailer: " + b"x" * (4 * MB),
    )

    def send_to_the_end(body: bytes) -> None:
        connection = dial(server)
        send_all(connection, chunked + body)
        read_end(connection)

    with Watch(server) as watch:
        at_once([partial(send_to_the_end, body) for body in bodies])
    assert watch.grown_mb < 40
    assert refused(server, "malformed") >= 3


def test_what_does_not_arrive_in_time_is_ended(start_server: Start, closing: list[socket.socket]) -> None:
    server = start_server({**QUICK, "KEEP_ALIVE_S": "1"})
    post = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Api-Key: key-of-a-stranger-1\r\nContent-Length: 1000\r\n\r\n{"
    begun = time.monotonic()
    silent, half, body = dial(server), dial(server), dial(server)
    half.sendall(GET[:20])
    body.sendall(post)
    trickling = dial(server)
    for byte in GET[:15]:
        send_all(trickling, bytes([byte]))
        time.sleep(0.2)
    idle = dial(server)
    idle.sendall(GET)
    waiting = dial(server)  # a whole request is no such thing, however long its answer takes
    closing.append(waiting)
    waiting.sendall(POLL)
    assert read_end(silent) == b""
    for connection in (half, body, trickling):
        answer = read_end(connection)
        assert (status_of(answer), code_of(answer)) == (408, "REQUEST_TIMEOUT")
    assert status_of(read_end(idle)) == 200
    assert time.monotonic() - begun < 2 * SOON_S
    assert refused(server, "head_time") >= 2
    assert refused(server, "body_time") == 1
    log = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    reasons = [line["reason"] for line in log if line["event"] == "refused"]
    assert sorted(reasons) == ["body_time", "head_time"]  # not one line for each


def test_pipelined_requests_cost_no_memory(start_server: Start, closing: list[socket.socket]) -> None:
    server = start_server(STRANGERS)
    # What fits is answered, in order.
    connection = dial(server)
    closing.append(connection)
    paths = [b"/health", b"/nothing"] * 100
    connection.sendall(b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths))
    answers = b""
    while answers.count(b"HTTP/1.1 ") < len(paths) or not answers.endswith(b"}"):
        answers += connection.recv(65536)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"404"] * 100

    flood = GET * (16 * MB // len(GET))
    over = time.monotonic() + 2

    def read_on(flooding: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while time.monotonic() < over:
                flooding.recv(65536)
            flooding.close()

    def write_on(flooding: socket.socket) -> None:
        with contextlib.suppress(OSError):
            flooding.sendall(flood)

    with Watch(server) as watch:
        floods = [dial(server) for _ in range(3)]
        tiny = dial(server)
        closing.append(tiny)
        send_all(tiny, b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 40_000)  # and one that reads nothing
        at_once([partial(act, flooding) for flooding in floods for act in (write_on, read_on)])
    assert watch.grown_mb < 60
    assert watch.slowest_s < 2


def test_one_peer_cannot_take_all_connections(start_server: Start, closing: list[socket.socket]) -> None:
    server = start_server({**STRANGERS, "MAX_CONNECTIONS": "60", "MAX_CONNECTIONS_PER_ADDRESS": "20"})
    first = half_requests(server, 50, "127.0.0.9")
    closing += first
    time.sleep(0.5)  # until it has taken the last of them
    assert alive(first) == 20  # the newest: those that wait longest give way
    # Long polls take their peer's places for good: nothing of it waits for the other side.
    register_miner(server)
    polls = half_requests(server, 25, "127.0.0.8", POLL)
    closing += polls
    time.sleep(0.5)
    assert alive(polls) == 20
    assert refused(server, "connections_of_peer") >= 35


def test_half_requests_lock_nobody_out(start_server: Start, closing: list[socket.socket]) -> None:
    settings = {
        **STRANGERS,
        "MAX_CONNECTIONS": "40",
        "MAX_CONNECTIONS_PER_ADDRESS": "40",
        "API_KEYS": "key-of-a-stranger-1",
    }
    server = start_server(settings)
    body = b"POST /v1/users/challenge HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    for peer in range(10, 14):
        closing += half_requests(server, 30, f"127.0.0.{peer}", body if peer % 2 else b"GET /he")
        assert ask(server)[0] == 200
    assert refused(server, "connections") >= 80
    for connection in closing:
        connection.close()
    # Where nothing gives way there is still a place for /health and /metrics, and others hear why there is none.
    register_miner(server)
    closing += half_requests(server, 40, "127.0.0.20", POLL)
    time.sleep(0.5)
    assert ask(server)[0] == 200
    status, answer = ask(server, "/v1/receipts")
    assert (status, json.loads(answer)["error_code"]) == (503, "SERVER_BUSY")
    assert b"aitbc_connections 41.0" in ask(server, "/metrics")[1]


def test_answers_that_nobody_reads_are_given_up(start_server: Start, closing: list[socket.socket]) -> None:
    server = start_server(QUICK)
    document = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with Watch(server) as watch:
        deaf = [dial(server, receive_bytes=4096) for _ in range(10)]
        closing += deaf
        for connection in deaf:
            connection.sendall(document * 30)
        until = time.monotonic() + 2 * SOON_S
        while refused(server, "answer_time") < 10 and time.monotonic() < until:
            time.sleep(0.2)
    assert refused(server, "answer_time") == 10
    assert watch.grown_mb < 60
    assert watch.slowest_s < 1


def test_uploads_that_are_held_have_a_budget(start_server: Start, closing: list[socket.socket]) -> None:
    server = start_server({**STRANGERS, "MAX_BODIES_BYTES": str(64 * MB)})
    size = 15 * MB
    head = (
        b"POST /v1/jobs/batch HTTP/1.1\r\nHost: x\r\nX-Api-Key: key-of-a-stranger-1\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
    )
    part = b" " * (size - 1)
    with Watch(server) as watch:
        uploads = [dial(server) for _ in range(30)]
        closing += uploads
        for upload in uploads:
            send_all(upload, head + part)
        answers, taken = [], []
        for upload in uploads:
            upload.settimeout(0.5)
            try:
                answers.append(status_of(upload.recv(4096)))
            except TimeoutError:
                taken.append(upload)
    assert answers == [503] * 29  # one fits into a quarter of the budget
    assert watch.grown_mb < 100
    assert watch.slowest_s < 1
    taken[0].sendall(b" ")
    taken[0].settimeout(SOON_S)
    assert status_of(taken[0].recv(4096)) == 400  # it was read: white space is no JSON
    assert refused(server, "bodies_held") == 29


def test_a_large_body_does_not_hold_up_the_others(start_server: Start) -> None:
    server = start_server(STRANGERS)
    bodies = [
        b'{"jobs":[%b]}' % b",".join([unit] * count)
        for unit, count in (
            (b"1.5", 4_000_000),
            (b"[" * 60 + b"]" * 60, 130_000),
            (b'{"":0}', 2_300_000),
            (b'{"k":1.5}', 200_000),
        )
    ]
    with Watch(server) as watch:
        for body in bodies:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("POST", "/v1/jobs/batch", body, {"X-Api-Key": "key-of-a-stranger-1"})
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["error_code"]) == (400, "INVALID_REQUEST")
            connection.close()
    assert watch.slowest_s < 1  # 3 to 11 s each, before


@pytest.mark.parametrize("key", ["key-of-a-stranger-1", ""], ids=["known", "unknown"])
def test_a_body_of_many_chunks_does_not_hold_up_the_others(start_server: Start, key: str) -> None:
    """Refused at once or not: what comes after the answer is only read for so long, and in turns."""
    server = start_server(STRANGERS)
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-Api-Key: %b\r\n\r\n"
    chunks, sent = b"1\r\na\r\n" * 1000, 0
    with Watch(server) as watch, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(30)
        connection.sendall(head % key.encode())
        with pytest.raises(ConnectionError):
            while sent < 200_000_000:
                connection.sendall(chunks)
                sent += len(chunks)
    assert sent < 40_000_000  # 105 MB, before
    assert watch.slowest_s < 1  # 10 s, before


def test_a_forwarded_address_has_its_share_of_requests(
    start_server: Start, closing: list[socket.socket]
) -> None:
    server = start_server(
        {"API_KEYS": "key-of-a-stranger-1", "MAX_CONNECTIONS_PER_ADDRESS": "5"}
    )  # 127.0.0.1 is trusted
    register_miner(server)

    def poll(forwarded: bytes) -> bytes:
        return (
            b"GET /v1/miner/jobs?wait=60&miner_id=m HTTP/1.1\r\nHost: x\r\nX-Api-Key: key-of-a-stranger-1\r\n"
            b"X-Forwarded-For: %b\r\n\r\n" % forwarded
        )

    polls = half_requests(server, 8, "127.0.0.1", poll(b"203.0.113.7"))
    others = half_requests(server, 4, "127.0.0.1", poll(b"203.0.113.8"))
    closing += polls + others
    time.sleep(0.5)
    answers = []
    for connection in polls + others:
        connection.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            answers.append(status_of(connection.recv(4096)))
    assert answers == [503] * 3
    assert ask(server, peer="127.0.0.1")[0] == 200


def test_results_larger_than_their_leases_are_not_read(
    start_server: Start, closing: list[socket.socket]
) -> None:
    server = start_server({**STRANGERS, "API_KEYS": "key-of-a-stranger-1,client:key-of-a-client-12"})
    register_miner(server)

    def post(path: str, key: str, body: dict[str, object]) -> dict[str, object]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SOON_S)
        connection.request("POST", path, json.dumps(body), {"X-Api-Key": key})
        answer: dict[str, object] = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    job = {"prompt": "x", "params": {"max_tokens": 1}}
    job_id = post("/v1/jobs", "key-of-a-client-12", job)["job_id"]
    post(f"/v1/jobs/{job_id}/claim", "key-of-a-stranger-1", {"miner_id": "m"})
    named = b'{"miner_id":"m","results":[{"job_id":"%b","result":"' % str(job_id).encode()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nX-Api-Key: key-of-a-stranger-1\r\n%b\r\n\r\n"
    length, chunked = b"Content-Length: %d" % (15 * MB), b"Transfer-Encoding: chunked"
    chunk = b"x" * 65_536

    def refusal(data: bytes, parts: int) -> tuple[int, bytes]:
        connection = dial(server)
        closing.append(connection)
        connection.sendall(data)
        with contextlib.suppress(OSError):
            for _ in range(parts):
                connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk) if b"chunked" in data else chunk)
        answer = b""
        while b'"request_id"' not in answer:
            answer += connection.recv(65536) or b'"request_id"'
        return status_of(answer), answer.rpartition(b'"max_bytes":')[2].partition(b",")[0]

    single = b"/v1/jobs/%b/complete" % str(job_id).encode()
    one_mb = b"Content-Length: %d" % (MB - 1)
    assert refusal(head % (single, one_mb), 0) == (413, b"8256"), "by its head alone"
    assert refusal(head % (b"/v1/miner/results", length), 0) == (413, b"262144"), "though it names no job"
    opened = b"%x\r\n%b\r\n" % (len(named), named)
    with Watch(server) as watch:
        answers: list[tuple[int, bytes]] = []
        tries = [
            lambda: answers.append(refusal(head % (b"/v1/miner/results", length) + named, 200)),
            lambda: answers.append(refusal(head % (b"/v1/miner/results", chunked) + opened, 200)),
        ]
        at_once(tries * 4)
    assert len(answers) == 8
    assert {status for status, _ in answers} <= {413, 409}, "a try each, until there is none left"
    assert watch.grown_mb < 60, watch.grown_mb
    assert watch.slowest_s < 2


def test_who_leaves_before_earlier_answers_is_no_traceback(start_server: Start) -> None:
    server = start_server(STRANGERS)
    for _ in range(20):
        connection = dial(server)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # ends with a reset
        connection.sendall(b"GET /v1/receipts HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
        time.sleep(0.003)
        connection.close()
    assert ask(server)[0] == 200
    assert "Exception in ASGI application" not in server.log.read_text()
