"""`python -m tests.support.forkserver FD`: the `aitbc` program, loaded once, run as often as it is asked for.

Loading the program is most of what its start costs. This process loads it, listens on the socket FD, and forks for
each request. A child runs what the console script runs, with the arguments, environment, folder, umask and
standard streams of the request: a process of its own with a pid of its own, killed and waited for like any other.

A request: LENGTH, sent with the file descriptors of standard input, output and error and of a pipe; then so many
bytes of JSON. Into the pipe go a line with the child's pid and, once it ended, one with its status as
`subprocess.Popen.returncode` has it. When the socket closes, whatever still runs is killed.

It has one thread, and nothing of it may be left in a child that a fresh process would not have.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any

LENGTH = struct.Struct("<I")
STREAMS = 4  # file descriptors with each request: three standard streams, and the pipe
LOADED = (
    "aitbc.cli.start",
    "aitbc.cli.main",
    "aitbc.cli.serve",
    "aitbc.cli.audit",
    "aitbc.cli.database",
    "aitbc.cli.doctor",
    "aitbc.cli.keys",
    "aitbc.cli.miner",
    "aitbc.cli.miner_status",
    "aitbc.cli.policy",
    "aitbc.cli.witness",
    "aitbc.cli.failures",
    "aitbc.audit.database",
    "aitbc.coordinator.process.presence",
    "aitbc.coordinator.schema.backup",
    "aitbc.coordinator.schema.migrate",
    "aitbc.coordinator.server",
    "aitbc.witness.server",
)


class Children:
    """The running ones: their status pipes by pid."""

    def __init__(self) -> None:
        self._pipes: dict[int, int] = {}

    def add(self, pid: int, pipe: int) -> None:
        self._pipes[pid] = pipe
        os.write(pipe, b"%d\n" % pid)

    def reap(self) -> None:
        """Tell of all that have ended."""
        while self._pipes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            pipe = self._pipes.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
                os.write(pipe, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(pipe)

    def forget(self) -> None:
        """In a child: the others are not its own."""
        for pipe in self._pipes.values():
            os.close(pipe)

    def kill(self) -> None:
        for pid in self._pipes:
            os.kill(pid, signal.SIGKILL)


def serve(requests: socket.socket) -> dict[str, Any]:
    """Answers requests until the socket closes. In each child it returns, with the request."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    children = Children()
    while True:
        ready = select.select([requests, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            children.reap()
        if requests not in ready:
            continue
        head, fds, _, _ = socket.recv_fds(requests, LENGTH.size, STREAMS)
        if not head:
            children.kill()
            os._exit(0)
        request: dict[str, Any] = json.loads(_read(requests, LENGTH.unpack(head)[0]))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for target, fd in enumerate(fds[:3]):
                os.dup2(fd, target)
            children.forget()
            for fd in {*fds, woken, wake, requests.detach()} - {0, 1, 2}:
                os.close(fd)
            return request
        for fd in fds[:3]:
            os.close(fd)
        children.add(pid, fds[3])


def _read(requests: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += requests.recv(size - len(received))
    return received


def become(request: dict[str, Any]) -> None:
    """Take over what a fresh process is given: arguments, environment, folder, umask, streams."""
    os.setsid()
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = ["aitbc", *request["words"]]
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8")  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _writer(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _writer(2)  # type: ignore[misc]
    sys.stderr.reconfigure(line_buffering=True)


def _writer(fd: int) -> io.TextIOWrapper:
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    stream = io.TextIOWrapper(
        open(fd, "wb"),  # noqa: SIM115
        encoding="utf-8",
        errors="backslashreplace" if fd == 2 else "strict",
        line_buffering=os.isatty(fd),
        write_through=unbuffered,
    )
    return stream


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is loaded stays shared with the children
    become(serve(socket.socket(fileno=int(sys.argv[1]))))
    from aitbc.cli.start import main

    sys.exit(main())
