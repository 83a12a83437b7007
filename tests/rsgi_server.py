"""A stand-in for an RSGI server: what it hands to an application with a request, and what it is given in return.

A real server makes no odd objects at will, and its clients do not leave at a moment that a test chooses; here a test
says what a request looks like, what becomes of its client and what is refused. Nothing of the package is imported,
because some tests are about the order of imports.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

Lines = list[tuple[str, str]]

HOST = ("host", "public.example")
PLAIN: Lines = [HOST, ("accept", "*/*"), ("x-a", "1"), ("x-a", "2"), ("cookie", "a=b")]
"""Header lines about which a gateway has nothing to decide."""


class Headers:
    """The header lines of a request; no dict, because a name may come more than once."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def items(self) -> Lines:
        return list(self._lines)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value; frameworks ask for it, the gateway does not."""
        return next((value for given, value in self._lines if given == name), default)


@dataclass
class Scope:
    """What a request says in its head."""

    path: str = "/api/x"
    method: str = "GET"
    proto: str = "http"
    http_version: str = "1.1"
    query_string: str = ""
    authority: str | None = None
    client: Any = "192.0.2.7:4711"
    scheme: str = "http"
    lines: Lines = field(default_factory=lambda: list(PLAIN))

    @property
    def headers(self) -> Headers:
        return Headers(self.lines)  # a new object each time, as servers make it


class Transport:
    """The way of a response that is streamed."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.begun = asyncio.Event()

    async def send_bytes(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.begun.set()


@dataclass
class Protocol:
    """The way to a request's body and for its response: records what is answered; its client leaves when told to."""

    body: bytes | Exception = b""
    """What reading the body gives, or raises as a server does when an upload breaks off."""
    refuses: BaseException | None = None
    """What is raised by a server that does not take the response."""
    watchable: bool = True
    """Some wrappers of frameworks cannot wait for the client to leave."""
    leaves: asyncio.Event = field(default_factory=asyncio.Event)
    watched: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once somebody has begun to wait for the client to leave, so that a test need not guess when."""
    waiting: int = 0
    """How many wait for that now. One that stays behind would take the news of a later request of the connection."""
    reads: int = 0
    stream: Transport = field(default_factory=Transport)
    answers: list[tuple[int, Lines, bytes]] = field(default_factory=list)
    """All of them, also those that were refused: a second one would be a mistake that a server hides."""

    async def __call__(self) -> bytes:
        self.reads += 1
        await asyncio.sleep(0)  # it comes a little later
        if isinstance(self.body, Exception):
            raise self.body
        return self.body

    async def client_disconnect(self) -> None:
        self.watched.set()
        if not self.watchable:
            raise AttributeError("a wrapper without this method")
        self.waiting += 1
        try:
            await self.leaves.wait()
        finally:
            self.waiting -= 1

    def response_bytes(self, status: int, lines: Lines, body: bytes) -> None:
        self.answers.append((status, lines, body))
        if self.refuses is not None:
            raise self.refuses

    def response_empty(self, status: int, lines: Lines) -> None:
        self.response_bytes(status, lines, b"")

    def response_str(self, status: int, lines: Lines, body: str) -> None:
        self.response_bytes(status, lines, body.encode())

    def response_stream(self, status: int, lines: Lines) -> Transport:
        self.answers.append((status, lines, b"..."))
        return self.stream

    def close(self, status: int) -> None:
        """End the handshake of a WebSocket."""
        self.answers.append((status, [], b"closed"))
