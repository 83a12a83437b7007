"""ASGI: how uvicorn, hypercorn, Granian and the frameworks on them hand a request over and take the response."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias, cast

from .._stream import StreamResponse
from ._answers import CLIENT_GONE, Answer, ClientGoneError, Refusal
from ._clients import ClientWatch
from ._fields import Lines, RawLines
from ._gateway import Gateway
from ._passing import Admitted, Reply
from ._paths import encoded, matches, unquoted

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_is_absolute: Final = re.compile(r"https?://([^/?#]*)(/.*)?", re.IGNORECASE | re.DOTALL).fullmatch
_BUFFERED: Final = 65_536
"""A body of up to so many bytes is read as a whole, so that it can be sent again."""


class ASGIGateway:
    """An ASGI application that forwards what its gateway matches and leaves the rest to another application.

    Args:
        gateway: decides and forwards. It is closed when the lifespan of the application ends.
        app: gets every other request, untouched. ``None`` answers them with 404.
    """

    def __init__(self, gateway: Gateway, app: ASGIApp | None = None) -> None:
        self._gateway = gateway
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(scope, receive, send)
            return
        way = _Way(scope)
        matched = kind in ("http", "websocket") and self._gateway.matches(way.path, way.raw)
        if not matched and self._app is not None:
            await self._app(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1011 if matched else 1008})
        elif matched:
            await self._forward(scope, way, receive, send)
        else:
            refusal = Refusal(404, "nothing is served here")
            answer = await self._gateway.fail(refusal, method=scope["method"], path=way.path)
            if answer is not None:
                await _answer(send, answer.status, answer.headers, answer.body)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application live its life, and close the gateway at the end of it."""

        async def watching(message: Any) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                self._gateway.close()
            await send(message)

        if self._app is not None:
            await self._app(scope, receive, watching)
            return
        while True:
            message = await receive()
            await watching({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _forward(self, scope: Scope, way: _Way, receive: Receive, send: Send) -> None:
        method, path, gateway = scope["method"], way.path, self._gateway
        watch: ClientWatch | None = None
        reply: Reply | None = None
        answer: Answer | None = None
        client = scope.get("client")
        incoming = _Incoming(receive)
        try:
            own = gateway.own_answer(method, path)
            if own is not None:
                await _answer(send, own.status, own.headers, own.body)
                return
            admitted = gateway.admit(
                method,
                path,
                scope["query_string"].decode("latin-1"),
                [*scope["headers"]],
                http_version=scope["http_version"],
                authority=way.authority,
                raw=way.raw,
                root=way.root,
                address=(client[0] or None) if client else None,  # Granian's is empty on a unix socket
                scheme=scope.get("scheme", "http"),
            )
            body = b"" if admitted.length == 0 else await incoming.body(admitted, gateway.patience)
            watch = ClientWatch(incoming.gone)
            try:
                reply = await gateway.open(method, admitted, body, raw=True)
                if reply.stream is not None:
                    await _stream(send, reply, reply.stream)
            except asyncio.CancelledError:
                if not watch.was_the_reason():
                    raise
                raise ClientGoneError("the client left before it had the response") from None
        except Exception as error:
            if watch is not None:
                watch.end()  # a hook that shapes the answer may wait; nothing would take a cancellation then
            begun = reply is not None and reply.stream is not None
            answer = await gateway.fail(error, method=method, path=path, begun=begun)
            if begun:
                if isinstance(error, ClientGoneError):
                    return
                raise  # the response has begun: the server breaks the connection off
            if isinstance(error, ClientGoneError):
                # To nobody; but a middleware in between takes an application that says nothing for a broken one.
                with contextlib.suppress(Exception):
                    await _answer(send, CLIENT_GONE, [], b"")
        finally:
            if watch is not None:
                watch.end()
            if reply is not None and reply.stream is not None:
                await reply.stream.aclose()
        if answer is not None:
            await _answer(send, answer.status, answer.headers, answer.body)
        elif reply is not None and reply.stream is None:
            await _answer(send, reply.status, reply.lines, reply.body or b"")

    def __repr__(self) -> str:
        return f"<ASGIGateway {self._gateway!r}>"


class _Incoming:
    """The messages of a request: its body, and then the news that the client has gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete: asyncio.Event | None = None
        """Set once the body was read; ``None``: there is none, and nobody reads its empty message."""

    async def body(self, admitted: Admitted, patience: float) -> bytes | AsyncIterator[bytes]:
        """Read a body that was announced, or may come: a small one as a whole.

        HTTP/2 does not announce any: the first message says whether there is one, and is all of most.
        """
        self._complete = asyncio.Event()
        length = admitted.length
        try:
            async with asyncio.timeout(patience):
                if length is not None and length <= _BUFFERED:
                    return b"".join([piece async for piece in self._pieces(length)])
                if not admitted.unannounced:
                    return self._pieces(length)
                first = await self._receive()
        except TimeoutError as error:
            raise Refusal(408, "the body did not come in time") from error
        pieces = self._pieces(length, first)
        return pieces if first.get("more_body") else b"".join([piece async for piece in pieces])

    async def _pieces(self, length: int | None, first: Any = None) -> AsyncIterator[bytes]:
        received = 0
        more = True
        while more:
            message = first or await self._receive()
            first = None
            if message["type"] == "http.disconnect":
                raise ClientGoneError("the client left in the middle of its request")
            piece = message.get("body", b"")
            received += len(piece)
            if length is not None and received > length:
                break
            more = message.get("more_body", False)
            if piece:
                yield piece
        if length is not None and received != length:
            raise Refusal(400, "the body has another length than the request says")
        if self._complete is not None:
            self._complete.set()

    async def gone(self) -> None:
        """Wait until the client has gone. Its body comes first, and somebody else takes that."""
        if self._complete is not None:
            await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _Way:
    """The path of a request below the root that the application was mounted at.

    Attributes:
        path: percent-decoded.
        raw: as it was sent; ``None`` if the server does not say.
        authority: before it, where a server leaves a target in absolute-form as it is.
        root: what was left out of both, percent-encoded (``root_path``, as Starlette understands it).
    """

    __slots__ = ("authority", "path", "raw", "root")

    def __init__(self, scope: Scope) -> None:
        self.path: str = scope.get("path", "")
        self.raw, self.authority = _raw_path(scope)
        self.root = ""
        root = scope.get("root_path")
        if root and (root := root.rstrip("/")) and matches(root, self.path):
            self.root, whole = encoded(root), self.path
            self.path = whole[len(root) :] or "/"
            if self.raw is not None and unquoted(self.raw) == whole:  # otherwise the server has left it out already
                self.raw = "/" + "/".join(self.raw.split("/")[root.count("/") + 1 :])


def _raw_path(scope: Scope) -> tuple[str | None, str | None]:
    raw = scope.get("raw_path")
    if not raw:
        return None, None
    path = raw.partition(b"?")[0].decode("latin-1")
    absolute = None if path.startswith("/") else _is_absolute(path)
    return (path, None) if absolute is None else (absolute[2] or "/", absolute[1])


def _encoded(lines: Lines | RawLines) -> RawLines:
    if lines and isinstance(lines[0][0], str):
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in cast("Lines", lines)]
    return cast("RawLines", lines)


def _start(status: int, headers: RawLines) -> dict[str, Any]:
    if status in (204, 304):
        # What it would say of another response (RFC 9110 section 8.6), uvicorn takes for a body that is missing: it
        # would raise and close the connection.
        headers = [line for line in headers if line[0] != b"content-length"]
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _stream(send: Send, reply: Reply, stream: StreamResponse) -> None:
    await send(_start(reply.status, _encoded(reply.lines)))
    now, taken = asyncio.get_running_loop().time, 0
    async for piece in stream.aiter_raw():
        began = now()
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        taken += len(piece)
        stream._pace(taken, now() - began)  # pyright: ignore[reportPrivateUsage] -- made for this caller
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _answer(send: Send, status: int, lines: Lines | RawLines, body: bytes) -> None:
    headers = _encoded(lines)
    if body and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", b"%d" % len(body)))
    await send(_start(status, headers))
    await send({"type": "http.response.body", "body": body})
