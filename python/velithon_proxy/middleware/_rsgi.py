"""RSGI: how Granian, and Velithon on it, hand a request over and take the response.

The objects are those of RSGI 1.x; Velithon's wrappers of them have the same methods. What RSGI cannot carry:

- The path arrives percent-decoded, so ``%2F`` and ``/`` are one (see ``_paths.py``).
- Header values are text in UTF-8: fields of a request with other bytes are missing, those of a response are left out.
- A response cannot be aborted after its start. One that breaks off later is seen to be cut off if it has a
  ``Content-Length``, and looks complete without.
- A body without a length is read as a whole: an upload that was broken off could not be told from a complete one.
- The server keeps what it has been given of a response, without a limit. Large ones go through a pipe instead
  (``_pipes.py``), which holds the upstream back when the client reads slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, TypeAlias, cast

from .._errors import ProxyError
from .._stream import StreamResponse
from ._answers import CLIENT_GONE, Answer, ClientGoneError, Refusal, logger, respond
from ._clients import ClientWatch
from ._fast_path import FastPath, Opened
from ._fields import Lines, address_of
from ._gateway import Gateway
from ._passing import Reply
from ._pipes import Pipe


class RSGIHeaders(Protocol):
    """The header lines of a request."""

    def items(self) -> Lines:
        """All lines in order, names in lower case."""
        ...


class RSGIScope(Protocol):
    """What a request says in its head."""

    @property
    def proto(self) -> str: ...
    @property
    def http_version(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query_string(self) -> str: ...
    @property
    def authority(self) -> str | None: ...
    @property
    def headers(self) -> RSGIHeaders: ...


class RSGIHTTPProtocol(Protocol):
    """The way to the request's body and for the response."""

    async def __call__(self) -> bytes: ...
    async def client_disconnect(self) -> None: ...
    def response_empty(self, status: int, headers: Any, /) -> None: ...
    def response_bytes(self, status: int, headers: Any, body: bytes, /) -> None: ...


RSGIApp: TypeAlias = Callable[[Any, Any], Awaitable[None]]
"""An RSGI application: ``await app(scope, protocol)``."""


class RSGIGateway:
    """An RSGI application that forwards what its gateway matches and leaves the rest to another application.

    It never raises after the upstream may have seen the request: frameworks (Velithon's router is one) run a handler
    that raised a second time.

    Args:
        gateway: decides and forwards.
        app: gets every request that does not match, untouched; an RSGI application or an object with ``__rsgi__``.
            ``None`` answers them with 404.
    """

    def __init__(self, gateway: Gateway, app: object = None) -> None:
        self._gateway = gateway
        self._owner = app
        self._app = cast("RSGIApp | None", getattr(app, "__rsgi__", app))
        self._fast: Final = FastPath(gateway, self._finish)

    def __rsgi__(self, scope: RSGIScope, protocol: RSGIHTTPProtocol) -> Awaitable[Any]:
        """Serve one request; the result is the status of one that was forwarded."""
        forwarded = self.forward(scope, protocol)
        if forwarded is not None:
            return forwarded
        if self._app is not None and not self._gateway.matches(scope.path):
            return self._app(scope, protocol)
        return self._refuse(scope, protocol)

    def forward(self, scope: RSGIScope, protocol: RSGIHTTPProtocol) -> Awaitable[int] | None:
        """Serve a request that is for the upstream; the result is its status. ``None`` for all others."""
        flight = self._fast.take(scope, protocol)
        if flight is not None:
            return flight
        path = scope.path
        return self.serve(scope, protocol, path) if self._gateway.matches(path) and scope.proto == "http" else None

    def _finish(self, scope: RSGIScope, protocol: RSGIHTTPProtocol, opened: Opened) -> Coroutine[Any, Any, int]:
        return self.serve(scope, protocol, scope.path, opened=opened)

    __call__ = __rsgi__

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Pass the start of a worker on; the gateway itself starts with its first request."""
        hook = getattr(self._owner, "__rsgi_init__", None)
        if hook is not None:
            hook(loop)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the gateway at the end of a worker, and pass the end on."""
        self._gateway.close()
        hook = getattr(self._owner, "__rsgi_del__", None)
        if hook is not None:
            hook(loop)

    async def _refuse(self, scope: RSGIScope, protocol: RSGIHTTPProtocol) -> None:
        if scope.proto != "http":
            _refuse_websocket(protocol, 501 if self._gateway.matches(scope.path) else 404)
            return
        refusal = Refusal(404, "nothing is served here")
        respond(protocol, await self._gateway.fail(refusal, method=scope.method, path=scope.path))

    async def serve(
        self,
        scope: RSGIScope,
        protocol: RSGIHTTPProtocol,
        path: str,
        refusal: Refusal | None = None,
        opened: Opened | None = None,
    ) -> int:
        """Forward a request, with this path in the place of its own, or refuse it; returns the status.

        ``opened`` is the outcome of one that was sent already.
        """
        method, gateway = scope.method, self._gateway
        watch: ClientWatch | None = None
        reply: Reply | None = None
        answer: Answer | None = None
        begun = False
        try:
            if refusal is not None:
                raise refusal
            if isinstance(opened, Exception):
                raise opened
            admitted, body = None, b""
            if opened is None:
                own = gateway.own_answer(method, path)
                if own is not None:
                    respond(protocol, own)
                    return own.status
                admitted = gateway.admit(
                    method,
                    path,
                    scope.query_string,
                    [*scope.headers.items()],
                    http_version=scope.http_version,
                    authority=scope.authority,
                    address=address_of(getattr(scope, "client", None)),
                    scheme=getattr(scope, "scheme", "http"),
                )
                if admitted.length != 0:
                    body = await _body(protocol, admitted.length, gateway.patience)
            watch = ClientWatch(protocol.client_disconnect)
            try:
                if admitted is not None:
                    reply = await gateway.open(method, admitted, body)
                    self._fast.renew()
                else:
                    reply = await gateway.reply_to(cast("StreamResponse", opened), "")
                lines = _as_utf8(cast("Lines", reply.lines), reply.target)
                if reply.stream is None:
                    answer = Answer(reply.status, lines, reply.body or b"")
                else:
                    pieces = reply.stream.aiter_raw()
                    events = any(name.lower() == "content-type" and "event-stream" in value for name, value in lines)
                    held, ahead = await _collect(pieces, events)
                    if ahead is None:
                        answer = Answer(reply.status, lines, b"".join(held))
                    else:
                        begun = True
                        await _stream(protocol, reply.status, lines, held, ahead, pieces, reply.stream)
            except asyncio.CancelledError:
                if not watch.was_the_reason():
                    raise
                raise ClientGoneError("the client left before the upstream had answered") from None
        except Exception as error:
            if watch is not None:
                watch.end()  # a hook that shapes the answer may wait; nothing would take a cancellation then
            # RSGI can neither take a response back nor break it off.
            answer = await gateway.fail(error, method=method, path=path, begun=begun)
        finally:
            if watch is not None:
                watch.end()
            if reply is not None and reply.stream is not None:
                await reply.stream.aclose()
        respond(protocol, answer)
        if answer is not None:
            return answer.status
        return reply.status if begun and reply is not None else CLIENT_GONE

    def __repr__(self) -> str:
        return f"<RSGIGateway {self._gateway!r}>"


_BUFFERED: Final = 65_536
"""A body of up to so many bytes is read as a whole: a request can be sent again then, a response be refused."""
_LARGE: Final = 4 * _BUFFERED
"""A response of more bytes goes through a pipe, which holds the upstream back for a slow client."""
_PATIENCE: Final = 0.01
"""Seconds in which a response may become complete before it is handed on piece by piece."""


async def _body(protocol: RSGIHTTPProtocol, length: int | None, patience: float) -> bytes | AsyncIterator[bytes]:
    """The body of a request: as it comes if its length is known, else as a whole.

    Iterating over the protocol takes an aborted upload for a complete one: without a length nobody could tell.
    """
    if length is not None and length > _BUFFERED and hasattr(protocol, "__aiter__"):
        return _pieces(protocol, length)
    try:
        async with asyncio.timeout(patience):
            return await protocol()
    except TimeoutError as error:
        raise Refusal(408, "the body did not come in time") from error
    except Exception as error:
        raise Refusal(400, "the body ended early") from error


async def _pieces(protocol: Any, length: int) -> AsyncIterator[bytes]:
    received = 0
    async for piece in protocol:
        received += len(piece)
        if received > length:
            break
        yield piece
    if received != length:
        raise Refusal(400, "the body has another length than the request says")


async def _collect(pieces: AsyncIterator[bytes], events: bool) -> tuple[list[bytes], asyncio.Future[bytes] | None]:
    """Wait a moment for the whole body of a response.

    A response that was not started can still become a 502: what breaks off at once is never a short success. Returns
    what has come, and the wait for the next piece; ``None`` if nothing more will.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + (0 if events else _PATIENCE)
    held: list[bytes] = []
    while True:
        ahead = asyncio.ensure_future(anext(pieces, b""))
        try:
            done, _ = await asyncio.wait((ahead,), timeout=end - loop.time())
        except asyncio.CancelledError:
            ahead.cancel()
            raise
        if not done:
            return held, ahead
        piece = ahead.result()
        if not piece:
            return held, None
        held.append(piece)
        if sum(map(len, held)) >= _BUFFERED:
            return held, asyncio.ensure_future(anext(pieces, b""))


async def _stream(
    protocol: RSGIHTTPProtocol, status: int, lines: Lines, held: list[bytes], ahead: asyncio.Future[bytes],
    pieces: AsyncIterator[bytes], stream: StreamResponse,
) -> None:  # fmt: skip
    """Hand a response on as it comes. Velithon's wrapper cannot do it; the headers that it has collected are kept."""
    raw: Any = getattr(protocol, "_protocol", protocol)
    lines = [*getattr(protocol, "_headers", []), *lines]
    send: Any = None
    try:
        with contextlib.ExitStack() as stack:
            pipe: Pipe | None = None
            if _is_large(lines, held):
                with contextlib.suppress(OSError):  # no descriptor is left: then as the small ones
                    pipe = stack.enter_context(Pipe())
            if pipe is None:
                send = raw.response_stream(status, lines).send_bytes
            else:
                raw.response_file(status, lines, pipe.path)
                send = pipe.send
            try:
                now, taken = asyncio.get_running_loop().time, 0
                while True:
                    began = now()
                    for piece in held:
                        await send(piece)
                        taken += len(piece)
                    stream._pace(taken, now() - began)  # pyright: ignore[reportPrivateUsage] -- made for this caller
                    piece = await ahead
                    if not piece:
                        break
                    held = [piece]
                    ahead = asyncio.ensure_future(anext(pieces, b""))
            except ProxyError:
                if pipe is not None:
                    await pipe.finish()
                raise
            if pipe is not None:
                await pipe.finish()
    except ProxyError:
        raise
    except Exception as error:
        raise ClientGoneError("the client left in the middle of the response") from error
    finally:
        ahead.cancel()
        # The server ends the response when its transport is dropped. An error keeps this frame, and what it has.
        send = None


def _is_large(lines: Lines, held: list[bytes]) -> bool:
    """Whether more of a response may come than a server should keep for a client that does not take it."""
    if any(name.lower() == "content-type" and "event-stream" in value for name, value in lines):
        return False  # a server that waits for a pipe uses a thread for it
    lengths = [value for name, value in lines if name.lower() == "content-length"]
    if lengths:
        return lengths[0].isdecimal() and int(lengths[0]) > _LARGE
    return sum(map(len, held)) >= _BUFFERED


def _as_utf8(lines: Lines, target: str) -> Lines:
    """Read the bytes of each value as UTF-8, which the server writes again; fields with other bytes are left out."""
    for _, value in lines:
        if not value.isascii():
            break
    else:
        return lines
    kept: Lines = []
    for name, value in lines:
        try:
            kept.append((name, value.encode("latin-1").decode()))
        except UnicodeDecodeError:
            logger.warning(
                "left out the field %s of a response of %s: RSGI carries no header values but UTF-8",
                ascii(name),
                target,
                extra={"header": name, "upstream": target},
            )
    return kept


def _refuse_websocket(protocol: object, status: int) -> None:
    """End a WebSocket handshake with a plain response; the gateway forwards none."""
    # Velithon's wrapper knows only the methods of HTTP.
    close = getattr(getattr(protocol, "_protocol", protocol), "close", None)
    if close is not None:
        close(status)
