"""An upstream that answers with exactly the bytes it is told to, and keeps a ledger of what happened to it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

LIMIT = 20.0
"""Seconds after which a wait has failed; nothing here waits that long when the code under test is right."""


@dataclass
class Request:
    """One request as it arrived."""

    head: bytes
    """Request line and header section, without the empty line."""
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Header lines in order."""
        fields = [line.decode("latin-1").partition(":") for line in self.head.split(b"\r\n")[1:]]
        return [(name, value.strip()) for name, _, value in fields]

    def values(self, name: str) -> list[str]:
        return [value for given, value in self.lines if given.lower() == name.lower()]


@dataclass
class Ledger:
    """What happened, in order; waiting for an event instead of sleeping."""

    events: list[tuple[str, object]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, kind: str, what: object = None) -> None:
        with self.changed:
            self.events.append((kind, what))
            self.changed.notify_all()

    def of(self, kind: str) -> list[object]:
        with self.changed:
            return [what for given, what in self.events if given == kind]

    def wait_for(self, kind: str, count: int = 1) -> list[object]:
        """Wait until there are ``count`` events of a kind."""
        with self.changed:
            enough = self.changed.wait_for(lambda: sum(given == kind for given, _ in self.events) >= count, LIMIT)
            assert enough, f"no {kind!r} number {count} within {LIMIT:.0f} s; the ledger has {self.events}"
            return [what for given, what in self.events if given == kind]


class Exchange:
    """One request, as its script sees it."""

    def __init__(self, upstream: ScriptedUpstream, connection: socket.socket, request: Request) -> None:
        self.upstream = upstream
        self.connection = connection
        self.request = request
        self.open = True

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def close(self) -> None:
        """End the connection in order (FIN)."""
        self.open = False

    def reset(self) -> None:
        """End the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.open = False

    def wait_until_left(self) -> None:
        """Send nothing, and note in the ledger when the other side closes: ``left``, with the request's target."""
        with contextlib.suppress(ConnectionError):
            while self.connection.recv(65536):
                pass
        self.upstream.ledger.add("left", self.request.target)
        self.open = False


Script = Callable[[Exchange], None]


def reply(status: str = "200 OK", *lines: str, body: bytes = b"", length: bool = True) -> bytes:
    """Write a response; header lines are Latin-1."""
    head = [f"HTTP/1.1 {status}", *lines]
    if length:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


class ScriptedUpstream:
    """Listens on a free port; each connection has a thread. ``script`` may be replaced at any time.

    The ledger has ``connected``, ``request`` (with the :class:`Request`), ``aborted`` (a request that ended in the
    middle, with the bytes that came) and what the scripts add.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.script: Script = script or (lambda exchange: exchange.send(reply()))
        self.ledger = Ledger()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answers(self, data: bytes) -> None:
        """Answer every request with these bytes from now on, with a new ledger."""
        self.does(lambda exchange: exchange.send(data))

    def does(self, script: Script) -> None:
        """Follow a script from now on, with a new ledger."""
        self.script = script
        self.ledger = Ledger()

    def only_request(self) -> Request:
        """Wait for a request and check that it is the only one."""
        requests = self.ledger.wait_for("request")
        assert len(requests) == 1, requests
        request = requests[0]
        assert isinstance(request, Request)
        return request

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.ledger.add("connected")
            self._connections.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        try:
            while (parsed := self._read(connection, received)) is not None:
                request, received = parsed
                self.ledger.add("request", request)
                exchange = Exchange(self, connection, request)
                self.script(exchange)
                if not exchange.open:
                    return
        except OSError:
            pass  # the other side has left, or the test is over
        finally:
            self._connections.discard(connection)
            connection.close()

    def _read(self, connection: socket.socket, received: bytes) -> tuple[Request, bytes] | None:
        """Read one request; ``None`` when the connection ended between two."""
        while b"\r\n\r\n" not in received:
            if not (data := connection.recv(65536)):
                if received:
                    self.ledger.add("aborted", received)
                return None
            received += data
        head, _, received = received.partition(b"\r\n\r\n")
        request = Request(head, b"")
        length = int((request.values("content-length") or ["0"])[0])
        body = bytearray(received)
        if request.values("transfer-encoding"):
            while not body.endswith(b"0\r\n\r\n"):  # the tests send no such data
                if not (data := connection.recv(1 << 20)):
                    self.ledger.add("aborted", head + b"\r\n\r\n" + bytes(body))
                    return None
                body += data
            request.body = bytes(body)
            return request, b""
        while len(body) < length:
            if not (data := connection.recv(1 << 20)):
                self.ledger.add("aborted", head + b"\r\n\r\n" + bytes(body))
                return None
            body += data
        request.body = bytes(body[:length])
        return request, bytes(body[length:])

    def close(self) -> None:
        """Stop, and wait for all threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()

    def __enter__(self) -> ScriptedUpstream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
