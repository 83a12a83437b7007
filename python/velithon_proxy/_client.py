"""ProxyClient: requests to one upstream."""

from __future__ import annotations

import asyncio
import json
import warnings
from asyncio import get_running_loop
from collections.abc import AsyncIterable
from types import TracebackType
from typing import Any, Final, NoReturn

from . import _bridge, _runtime
from ._errors import ClientClosedError, ConfigurationError, reply_error
from ._headers import HeadersInput, pack
from ._options import check_integer, pool_config, show
from ._query import QueryInput, append_query
from ._response import ProxyResponse
from ._settings import Limits, Timeouts
from ._stream import StreamContext, StreamResponse
from ._tls import TLS, settings_config
from ._upload import Upload

BodyTypes = bytes | bytearray | memoryview | str

_FLAG_GATEWAY: Final = 1
_FLAG_PRESERVE_HOST: Final = 2
_FLAG_STREAM: Final = 4
_FLAG_UPLOAD: Final = 8


class ProxyClient:
    """Forwards requests to one upstream over pooled connections.

    Constructing a client checks its arguments and does nothing else; connections are made by the first request,
    inside the running event loop. One client serves any number of tasks, event loops and threads.

    Args:
        target_url: the upstream, ``"http://host[:port]"``, ``"https://host[:port]"``, or ``"unix:/path"`` of a socket.
            Paths belong to the requests.
        timeout_ms: limit of one call as a whole in milliseconds: waiting for a connection, connecting (which has a
            limit of its own, 3 s), sending, and the response with its body.
        max_retries: attempts after the first.
        max_failures: consecutive failures that open the circuit breaker.
        recovery_timeout_ms: milliseconds that an open breaker refuses requests.
        timeouts: finer limits of time; :class:`Timeouts`.
        limits: how many connections, and how long they are kept; :class:`Limits`.
        tls: certificates, keys and versions for an https upstream; :class:`TLS`.
        max_request_body, max_response_body: bytes that a body may have, streamed or not (``BodyTooLargeError``).

    Raises:
        ConfigurationError: an argument is of the wrong type or out of range; a ``ValueError``.

    Example:
        >>> async with ProxyClient("http://127.0.0.1:8000") as client:
        ...     status, headers, body = await client.forward_request("GET", "/users/1")

    Names and defaults: the feature document.
    """

    _pool: int = 0
    _closed: bool = False

    def __init__(
        self,
        target_url: str,
        timeout_ms: int = 30000,
        max_retries: int = 3,
        max_failures: int = 5,
        recovery_timeout_ms: int = 60000,
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        tls: TLS | None = None,
        max_request_body: int | None = None,
        max_response_body: int | None = None,
    ) -> None:
        self._config = pool_config(
            target_url,
            argument="target_url",
            scheme_required=True,
            # Here, not in pool_config: there None means the default.
            timeout_ms=check_integer("timeout_ms", timeout_ms),
            max_retries=check_integer("max_retries", max_retries),
            max_failures=check_integer("max_failures", max_failures),
            recovery_timeout_ms=check_integer("recovery_timeout_ms", recovery_timeout_ms),
            max_request_body=max_request_body,
            max_response_body=max_response_body,
            **settings_config(timeouts, limits, tls),
        )
        if tls is not None and not target_url.lower().startswith("https:"):
            raise ConfigurationError(f"tls needs an https target_url, {show(target_url)} is none", field="tls")
        self._target = target_url
        # Loop and channel as one object: another thread may rebind the client between two reads.
        self._bound: tuple[asyncio.AbstractEventLoop | None, Any] = (None, None)

    async def forward_request(
        self,
        method: str,
        path: str,
        headers: HeadersInput = None,
        body: BodyTypes | AsyncIterable[BodyTypes] | None = None,
        query_params: QueryInput = None,
    ) -> ProxyResponse:
        """Send one request and wait for its whole response.

        Args:
            method: any token but ``CONNECT``; sent as given.
            path: the request target, sent byte for byte: it starts with ``/``, may carry its own ``?query``, and
                must be percent-encoded already. It never changes the host.
            headers: mapping or ``(name, value)`` pairs, ``str`` (Latin-1) or ``bytes``. Order, case and duplicates are
                kept. ``Host`` replaces the upstream's authority; the framing fields are set by the client.
            body: bytes-like, ``str`` (UTF-8), or an asynchronous iterable of such pieces, which are sent as they come:
                with the ``Content-Length`` that ``headers`` hold, or chunked without one.
            query_params: mapping or pairs, percent-encoded and appended to ``path``.

        Returns:
            The response, which unpacks as ``status, headers, body``. Statuses are never errors, redirects are not
            followed, bodies not decompressed.

        Raises:
            ProxyError: no complete response; its subclasses, ``.phase`` and ``.request_sent`` say what happened.
            InvalidRequestError, InvalidHeaderError: the request must not be sent as it is; ``ValueError``s.
            TypeError: an argument is of the wrong type.
            ClientClosedError: the client is closed.
        """
        if query_params is not None:
            path = append_query(path, query_params)
        # The bridge packs a dict or a list by itself; anything else is packed here.
        fields = headers if headers is None or type(headers) in (dict, list) else pack(headers)
        return await self._exchange(method, path, fields, body, 0)

    async def _forward(
        self,
        method: str,
        target: str,
        headers: Any,
        body: BodyTypes | None,
        *,
        gateway: bool,
        preserve_host: bool,
    ) -> ProxyResponse:
        """Forward on behalf of a client. ``headers``: list of pairs, or packed lines."""
        flags = (_FLAG_GATEWAY if gateway else 0) | (_FLAG_PRESERVE_HOST if preserve_host else 0)
        return await self._exchange(method, target, headers, body, flags)

    def stream_request(
        self,
        method: str,
        path: str,
        headers: HeadersInput = None,
        body: BodyTypes | AsyncIterable[BodyTypes] | None = None,
        query_params: QueryInput = None,
    ) -> StreamContext:
        """Send one request and read the body of its response as it arrives.

        ::

            async with client.stream_request("GET", "/events") as response:
                async for piece in response.aiter_bytes():
                    ...

        The arguments are those of :meth:`forward_request`. ``timeout_ms`` is the limit until the head of the response
        is there; the body may then take as long as something of it arrives. Leaving the block early closes the
        connection to the upstream at once.

        Raises:
            The same as :meth:`forward_request`, when the block is entered.
        """
        if query_params is not None:
            path = append_query(path, query_params)
        fields = headers if headers is None or type(headers) in (dict, list) else pack(headers)
        return StreamContext(self, method, path, fields, body)

    async def _exchange(self, method: str, target: str, headers: Any, body: Any, flags: int) -> ProxyResponse:
        if body is not None and hasattr(body, "__aiter__"):
            reply, _, _, upload = await self._begin(method, target, headers, body, flags)
            if upload is not None:
                await upload.stop()
            return ProxyResponse(reply[1], reply[2], reply[3], self._target, reply[4])
        # What _begin does, without a coroutine of its own: this is the way of nearly every request.
        loop = get_running_loop()
        bound, channel = self._bound
        if bound is not loop:
            channel = self._bind(loop)
        future: asyncio.Future[Any] = loop.create_future()
        token = channel.submit(future, self._pool, method, target, headers, body, 0, flags)
        try:
            reply = await future
        except BaseException:
            # Cancelled, or the coroutine was closed: nobody waits for the reply any more.
            channel.cancel(token)
            raise
        if reply[0]:
            raise self._error(method, reply)
        return ProxyResponse(reply[1], reply[2], reply[3], self._target, reply[4])

    async def _open_stream(self, method: str, target: str, headers: Any, body: Any, flags: int = 0) -> StreamResponse:
        reply, channel, token, upload = await self._begin(method, target, headers, body, flags | _FLAG_STREAM)
        return StreamResponse(reply, self._target, method, channel, token, upload)

    async def _begin(
        self, method: str, target: str, headers: Any, body: Any, flags: int
    ) -> tuple[tuple[Any, ...], _bridge.Channel, int, Upload | None]:
        """Send a request, its body piece by piece if it comes so, until there is a reply, or its head for a stream."""
        loop = get_running_loop()
        bound, channel = self._bound
        if bound is not loop:
            channel = self._bind(loop)
        future: asyncio.Future[Any] = loop.create_future()
        upload: Upload | None = None
        if hasattr(body, "__aiter__"):
            token = channel.submit(future, self._pool, method, target, headers, None, 0, flags | _FLAG_UPLOAD)
            upload = Upload(loop, channel, token, body)
        else:
            token = channel.submit(future, self._pool, method, target, headers, body, 0, flags)
        try:
            reply = await future
        except GeneratorExit:
            # The coroutine is being closed: it may not wait for anything.
            future.cancel()  # or the bridge would think that somebody takes the head and reads on
            channel.cancel(token)
            if upload is not None:
                upload.abandon()
            raise
        except BaseException:
            channel.cancel(token)
            if upload is not None:
                await upload.stop()
            raise
        if reply[0]:
            if upload is not None:
                await upload.stop()
                if upload.failure is not None:
                    raise upload.failure
            raise self._error(method, reply)
        return reply, channel, token, upload

    def _error(self, method: str, reply: tuple[Any, ...]) -> BaseException:
        code, phase, outcome, message, elapsed_ns = reply
        return reply_error(code, phase, outcome, message, elapsed_ns, self._target, method=method)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> _bridge.Channel:
        """Tie the client to the running loop and open its pool if this is the first use."""
        with _runtime.lock:
            if self._closed:
                raise ClientClosedError(f"{self!r} is closed", target=self._target)
            channel = _runtime.channel_of(loop)
            if not self._pool:
                self._pool = _bridge.pool_new(self._config)
            self._bound = (loop, channel)
            return channel

    def _snapshot(self) -> dict[str, Any]:
        """Return the state of the pool: ``target``, ``connections`` (open), ``idle``, ``in_flight``, ``calls``,
        ``failures`` (counts since the first use). Zeros before the first request.

        Raises:
            ClientClosedError: the client is closed.
        """
        if self._closed:
            raise ClientClosedError(f"{self!r} is closed", target=self._target)
        if not self._pool:
            return {"target": self._target, "connections": 0, "idle": 0, "in_flight": 0, "calls": 0, "failures": 0}
        state: dict[str, Any] = json.loads(_bridge.pool_snapshot(self._pool))
        return state

    def close(self) -> None:
        """Close all connections. Requests in flight end with ClientClosedError. Closing twice is fine."""
        with _runtime.lock:
            pool, self._pool = self._pool, 0
            self._closed = True
            self._bound = (None, None)
        if pool:
            _bridge.pool_close(pool)

    async def aclose(self) -> None:
        """Do the same as close; it does not wait either."""
        self.close()

    async def __aenter__(self) -> ProxyClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        # Copies would share connections, and the first one to go would close them for all.
        raise TypeError("a ProxyClient cannot be copied or pickled; construct another one")

    def __del__(self) -> None:
        if self._pool:
            shown = repr(self)
            self.close()  # first: a warning may be an error
            warnings.warn(f"unclosed {shown}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._pool else "unused"
        return f"<ProxyClient {self._target!r} ({state})>"
