"""What passes through a gateway: a request that will be forwarded, a response that will be handed on."""

# The objects that hooks are given were made for this caller.
# pyright: reportPrivateUsage=false
from __future__ import annotations

from typing import Any, NamedTuple

from .._stream import StreamResponse
from ._fields import Lines, RawLines
from ._transforms import GatewayResponse


class Admitted(NamedTuple):
    """A request that will be forwarded once its body has been read."""

    target: str
    """The request target for the upstream."""
    lines: Lines | RawLines | list[Any]
    """The header lines to forward, text or bytes."""
    length: int | None
    """Bytes of body that the client announced: 0 if it sends none, ``None`` if it did not say how many."""
    key: bytes | None = None
    """Of the strategy ``consistent_hash``."""
    client: str | None = None
    """IP address of the connection's other end."""
    host: str = ""
    """The host that the client has asked for."""
    root: str = ""
    """The path that the application was mounted at, percent-encoded."""
    unannounced: bool = False
    """HTTP/2: a request without a body says nothing of it in its header lines."""


class Reply(NamedTuple):
    """A response to hand on: whole, or with a body that is still to come."""

    status: int
    lines: Lines | RawLines
    body: bytes | None
    stream: StreamResponse | None
    target: str


async def reply_of(response: GatewayResponse, target: str) -> Reply:
    """What a hook has made of a response, or made by itself."""
    status, stream = response._checked_status(), response._stream
    lines = response._lines()
    bodiless = status in (204, 304)
    if stream is not None and not response._replaced and not bodiless:
        return Reply(status, lines, None, stream, target)
    if stream is not None:
        await stream.aclose()
    if bodiless:  # and the length is that of another response (RFC 9110 section 8.6)
        return Reply(status, [line for line in lines if line[0].lower() != "content-length"], b"", None, target)
    return Reply(status, lines, await response.read(), None, target)
