"""The clients under comparison, each behind the same small interface.

Every adapter does the same work per request: a list of header pairs goes in, ``(status, headers, body)`` comes out.
All have connection pools larger than any concurrency used, a total time-out of 30 s, and no decompression, cookies,
redirects or proxies of their own. Where a client has more than one sensible configuration, each is a row of its own.

``shape`` says in which form the answer is wanted:

* ``native``: headers and body as the client itself gives them, often lazy views; what a program that looks at little
  of the answer pays.
* ``gateway``: headers as ``list[tuple[str, str]]`` and the body as ``bytes``, which is what a Python server's
  ``send`` wants to have.
* ``stream``: a request body is sent as an asynchronous iterator of pieces, the body of the answer is taken piece by
  piece as it comes, and its size stands for it.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

Shape = Literal["native", "gateway", "stream"]
Pairs = list[tuple[str, str]]
Answer = tuple[int, Any, Any]
Forward = Callable[[str, str, Pairs, bytes | None], Awaitable[Answer]]

TIMEOUT_SECONDS = 30
POOL_SIZE = 1024
PIECE_BYTES = 64 << 10


class UnsupportedError(Exception):
    """The client cannot do what is asked of it; the message says what."""


@dataclass(frozen=True)
class Client:
    """An open client: its forward function and how to close it."""

    forward: Forward
    close: Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Entry:
    """One row of the comparison.

    Attributes:
        module: the module of this package with ``async def connect(base_url, shape, variant) -> Client``.
        distribution: whose version is reported.
        variant: a configuration of the client, in words of its own adapter.
        ours: whether this is the package under test, not a peer.
        slow: an order of magnitude behind the others, so that it is measured on few scenarios only.
    """

    module: str
    distribution: str
    variant: str = ""
    ours: bool = False
    slow: bool = False


CLIENTS: dict[str, Entry] = {
    "velithon-proxy": Entry("velithon_proxy_client", "velithon-proxy", ours=True),
    "wreq": Entry("wreq_client", "wreq"),
    "wreq, one worker": Entry("wreq_client", "wreq", "one-worker"),
    "pyreqwest": Entry("pyreqwest_client", "pyreqwest"),
    "pyreqwest, multi-threaded": Entry("pyreqwest_client", "pyreqwest", "multi-threaded"),
    "Velithon's Rust client": Entry("velithon_client", "velithon"),
    "aiohttp": Entry("aiohttp_client", "aiohttp"),
    "primp": Entry("primp_client", "primp"),
    "niquests": Entry("niquests_client", "niquests", slow=True),
    "httpx2": Entry("httpx_client", "httpx2", "httpx2", slow=True),
    "httpx": Entry("httpx_client", "httpx", "httpx", slow=True),
}


async def connect(name: str, base_url: str, shape: Shape) -> Client:
    """Open the client called `name` for `base_url` (``http[s]://host:port`` or ``unix:/path``).

    Raises:
        ImportError: the client is not installed.
        UnsupportedError: it has no unix sockets, or no streams.
    """
    entry = CLIENTS[name]
    adapter = importlib.import_module(f"{__name__}.{entry.module}")
    return await adapter.connect(base_url, shape, entry.variant)


def unix_path(base_url: str) -> str | None:
    """The path of a ``unix:`` URL, None for another."""
    return base_url.removeprefix("unix:") if base_url.startswith("unix:") else None


def refuse_unix(base_url: str) -> None:
    """For the adapter of a client without unix sockets."""
    if unix_path(base_url):
        raise UnsupportedError("has no unix sockets")


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """A request body as a stream."""
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]
