"""RSGI: how Granian, and Velithon on it, hand a request over and take the response.

The objects are those of RSGI 1.x; Velithon's wrappers of them have the same methods. What RSGI cannot carry:

- The path arrives percent-decoded, so ``%2F`` and ``/`` are one (see ``_paths.py``).
- Header values are text in UTF-8: fields of a request with other bytes are missing, those of a response are left out.
- A response cannot be aborted after its start, so it starts when the upstream's is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias, cast

from .._response import ProxyResponse
from ._answers import Answer, ClientGoneError, Refusal, logger
from ._gateway import Gateway, Lines

_WATCH_AFTER: Final = 0.01
"""Seconds after which a request is slow enough to watch whether its client still waits; watching has a price."""


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

    async def __rsgi__(self, scope: RSGIScope, protocol: RSGIHTTPProtocol) -> None:
        """Serve one request."""
        matched = self._gateway.matches(scope.path)
        if not matched and self._app is not None:
            await self._app(scope, protocol)
        elif scope.proto != "http":
            _refuse_websocket(protocol, 501 if matched else 404)
        elif matched:
            await self._forward(scope, protocol)
        else:
            answer = self._gateway.fail(Refusal(404, "nothing is served here"), method=scope.method, path=scope.path)
            _respond(protocol, answer)

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

    async def _forward(self, scope: RSGIScope, protocol: RSGIHTTPProtocol) -> None:
        method, path, gateway = scope.method, scope.path, self._gateway
        try:
            admitted = gateway.admit(
                method,
                path,
                scope.query_string,
                scope.headers.items(),
                http_version=scope.http_version,
                authority=scope.authority,
            )
            body = b"" if admitted.length == 0 else await _read(protocol)
            watch = _ClientWatch(protocol)
            try:
                response = await gateway.forward(method, admitted, body)
            except asyncio.CancelledError:
                if not watch.was_the_reason():
                    raise
                raise ClientGoneError("the client left before the upstream had answered") from None
            finally:
                watch.end()
            answer = _answer_of(response)
        except Exception as error:
            answer = gateway.fail(error, method=method, path=path)
        _respond(protocol, answer)

    def __repr__(self) -> str:
        return f"<RSGIGateway {self._gateway!r}>"


class _ClientWatch:
    """Cancels the running task if the client goes away while it waits for an upstream.

    Nothing happens in the first moments, which is all that most requests need: waiting for the client costs a task
    and a wake-up of the server's own threads. A client that left before is noticed then.
    """

    __slots__ = ("_fired", "_protocol", "_task", "_timer", "_watcher")

    def __init__(self, protocol: RSGIHTTPProtocol) -> None:
        self._protocol = protocol
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._fired = False
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER, self._start)

    def end(self) -> None:
        """Stop watching. A waiter that stays behind would take the news of a later request of its connection."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def was_the_reason(self) -> bool:
        """Whether a cancellation came from here alone, which ends it; otherwise it must go on."""
        return self._fired and self._task is not None and self._task.uncancel() == 0

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        try:
            await self._protocol.client_disconnect()
        except Exception:
            # A wrapper without this method, or a server that has given the connection up already.
            logger.debug("cannot watch the client's connection", exc_info=True)
            return
        # Granian's experimental tasks in Rust cannot be cancelled; then the upstream finishes for nobody.
        if self._task is not None and self._task.cancel():
            self._fired = True


async def _read(protocol: RSGIHTTPProtocol) -> bytes:
    """Read the whole body. Iterating over it instead would take an aborted upload for a complete one."""
    try:
        return await protocol()
    except Exception as error:
        raise Refusal(400, "the body ended early") from error


def _answer_of(response: ProxyResponse) -> Answer:
    """Put a response into the form of RSGI, whose header values are text in UTF-8."""
    lines = response.headers.multi_items()
    for _, value in lines:
        if not value.isascii():
            lines = _as_utf8(lines, response.target)
            break
    return Answer(response.status, lines, response.body)


def _as_utf8(lines: Lines, target: str) -> Lines:
    """Read the bytes of each value as UTF-8, which the server writes again; fields with other bytes are left out."""
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


def _respond(protocol: RSGIHTTPProtocol, answer: Answer | None) -> None:
    if answer is None:
        return
    try:
        if answer.body:
            protocol.response_bytes(answer.status, answer.headers, answer.body)
        else:
            protocol.response_empty(answer.status, answer.headers)
    except Exception:
        # Somebody answered before, or the connection is gone; raising would run a handler twice.
        logger.warning("the server did not take a response", exc_info=True)


def _refuse_websocket(protocol: object, status: int) -> None:
    """End a WebSocket handshake with a plain response; the gateway forwards none."""
    # Velithon's wrapper knows only the methods of HTTP.
    close = getattr(getattr(protocol, "_protocol", protocol), "close", None)
    if close is not None:
        close(status)
