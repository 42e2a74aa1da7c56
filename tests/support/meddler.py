"""A server between a client and a real one, that answers otherwise where a test says so."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Answer:
    """`parts` are sent one after the other; without an end where they have none."""

    status: int = 200
    parts: Iterator[bytes] | bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Meddle = Callable[[Asked, Callable[[], Answer]], Answer]
"""Given a request and a way to pass it on."""


class Meddler:
    """`.url`: where to ask. `.meddle`: what happens to each request; at first all are passed on."""

    def __init__(self, target: str) -> None:
        self.meddle: Meddle = lambda asked, forward: forward()
        self.asked: list[Asked] = []
        self.ended = threading.Event()
        self._client = httpx.Client(base_url=target, trust_env=False)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def forward(self, asked: Asked) -> Answer:
        kept = {name: asked.headers[name] for name in ("Authorization",) if name in asked.headers}
        reply = self._client.request(asked.method, asked.path, content=asked.body, headers=kept)
        return Answer(reply.status_code, reply.content)

    def dripping(self) -> Iterator[bytes]:
        """A byte now and then, for ever."""
        while not self.ended.wait(0.02):
            yield b" "

    def flooding(self) -> Iterator[bytes]:
        """As much as is taken, for ever."""
        while not self.ended.is_set():
            yield b" " * 65536

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()


def _handler(meddler: Meddler) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
            meddler.asked.append(asked)
            answer = meddler.meddle(asked, lambda: meddler.forward(asked))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()  # the answer ends with the connection
            try:
                for part in [answer.parts] if isinstance(answer.parts, bytes) else answer.parts:
                    self.wfile.write(part)
            except OSError:  # who asked has had enough
                self.close_connection = True

        do_GET = do_POST

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    return Handler


@contextmanager
def meddling(target: str) -> Iterator[Meddler]:
    """Between a test and the server at `target`."""
    meddler = Meddler(target)
    try:
        yield meddler
    finally:
        meddler.close()
