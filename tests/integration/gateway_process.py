"""A real server in a process of its own, and a client that sees every byte of its answers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LIMIT = 30.0
"""Seconds after which a wait has failed."""


@dataclass
class Answer:
    """One response as it arrived."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    @property
    def lines(self) -> list[tuple[bytes, bytes]]:
        """Header lines in order, names as they came."""
        fields = [line.partition(b":") for line in self.head.split(b"\r\n")[1:]]
        return [(name, value.strip()) for name, _, value in fields]

    def values(self, name: str) -> list[bytes]:
        return [value for given, value in self.lines if given.lower() == name.lower().encode()]


class Connection:
    """A client connection. What it sends is bytes, what it receives is cut into responses."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._received = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, to_head: bool = False) -> Answer:
        """Read the next response with status 200 or more."""
        while True:
            while b"\r\n\r\n" not in self._received:
                self._receive()
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            answer = Answer(head, b"")
            if answer.status >= 200:
                break
        if to_head or answer.status in (204, 304):
            return answer
        lengths = answer.values("content-length")
        if answer.values("transfer-encoding"):
            answer.body = self._chunked()
            return answer
        assert lengths, f"a response without a length: {head!r}"
        body = bytearray(self._received)
        while len(body) < int(lengths[0]):
            data = self.socket.recv(1 << 20)
            assert data, f"the body ended after {len(body)} of {int(lengths[0])} bytes"
            body += data
        self._received = bytes(body[int(lengths[0]) :])
        answer.body = bytes(body[: int(lengths[0])])
        return answer

    def _chunked(self) -> bytes:
        body = bytearray()
        while True:
            while b"\r\n" not in self._received:
                self._receive()
            line, _, self._received = self._received.partition(b"\r\n")
            size = int(line, 16)
            while len(self._received) < size + 2:
                self._receive()
            body += self._received[:size]
            self._received = self._received[size + 2 :]
            if size == 0:
                return bytes(body)

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        assert data, f"the server closed the connection after {self._received!r}"
        self._received += data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GatewayProcess:
    """Granian with an application of gateway_apps.py, in a process group of its own.

    The port is held by a bound socket from before the start until the end, so no other program can get it.
    """

    def __init__(
        self,
        app: str,
        *,
        loop: str = "uvloop",
        workers: int = 1,
        environment: dict[str, str] | None = None,
        folder: Path = HERE,
        options: Sequence[str] = (),
        server: str = "granian-rsgi",
    ) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port: int = self._holder.getsockname()[1]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the process
        name, _, kind = server.partition("-")
        if name != "granian":
            self._holder.close()  # others do not share ports
        command = [sys.executable, "-m", name]
        if name == "granian":
            command += ["--interface", kind, "--host", "127.0.0.1", "--port", str(self.port), "--loop", loop]
            command += ["--workers", str(workers), *options, app]
        elif name == "uvicorn":
            command += ["--host", "127.0.0.1", "--port", str(self.port), "--loop", loop, "--http", kind]
            command += ["--no-proxy-headers", *options, app]
        else:
            command += ["--bind", f"127.0.0.1:{self.port}", "--worker-class", loop, *options, app]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """Wait until the server answers."""

        def answers() -> bool:
            with contextlib.suppress(OSError, AssertionError):
                return bool(self.get("/ready").status)
            return False

        self._wait_until(answers, "no answer")

    def wait_for_workers(self, count: int) -> set[int]:
        """Wait until so many workers have answered, and return their process ids.

        Granian's workers miss a signal that comes before their event loop runs.
        """
        seen: set[int] = set()

        def all_answered() -> bool:
            seen.add(json.loads(self.get("/ready").body)["pid"])
            return len(seen) == count

        self._wait_until(all_answered, f"fewer than {count} workers", pause=0.0)
        return seen

    def wait_for_output(self, text: str) -> None:
        """Wait until the server has printed a text."""
        self._wait_until(lambda: text in self.output(), f"no {text!r} in the output")

    def _wait_until(self, holds: Callable[[], bool], otherwise: str, pause: float = 0.02) -> None:
        end = time.monotonic() + LIMIT
        while not holds():
            assert time.monotonic() < end, f"{otherwise} within {LIMIT:.0f} s\n{self.output()}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(pause)
                raise AssertionError(f"the server ended\n{self.output()}")

    def connect(self) -> Connection:
        return Connection(self.port)

    def send(self, data: bytes, *, to_head: bool = False) -> Answer:
        """Send a request on a connection of its own."""
        with self.connect() as connection:
            connection.send(data)
            return connection.answer(to_head=to_head)

    def get(self, target: str, *lines: str) -> Answer:
        return self.send(request("GET", target, *lines))

    def output(self) -> str:
        """What the server has printed so far."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def stop(self) -> int:
        """Ask it to end, and return its exit status. All workers must have answered before."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT)

    def __enter__(self) -> GatewayProcess:
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT)
        self._holder.close()
        self._log.close()


def request(method: str, target: str, *lines: str, body: bytes = b"") -> bytes:
    """Write a request with a Host field; header lines are Latin-1."""
    head = [f"{method} {target} HTTP/1.1", "Host: gateway.example:81", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def assert_is_from_the_app(answer: Answer) -> None:
    """The application behind the gateways has answered, be it that it knows no such path."""
    assert answer.values("x-app") == [b"inner"] or (answer.status, answer.body) == (404, b"Not Found")


def assert_error(answer: Answer, status: int) -> None:
    """A gateway has answered by itself, with nothing but the form of its errors."""
    assert answer.status == status
    assert answer.values("content-type") == [b"application/json"]
    content = json.loads(answer.body)
    assert content["status"] == status
    assert set(content) <= {"error", "status", "detail"}
    assert ("detail" in content) == (status < 500)
