"""What ProxyClient and ProxyLoadBalancer share: a pool in the core, and the requests to it."""

from __future__ import annotations

import asyncio
import json
import warnings
from asyncio import get_running_loop
from collections.abc import AsyncIterable
from contextvars import copy_context
from types import TracebackType
from typing import Any, Final, NoReturn, TypeVar, cast

from . import _bridge, _runtime
from ._attempts import PoolStatus, read_attempts, read_pool, unused_state
from ._errors import ClientClosedError, ConfigurationError, reply_error
from ._headers import HeadersInput, pack
from ._policies import Breaker, Health, Retry
from ._query import QueryInput, append_query
from ._response import ProxyResponse
from ._settings import Limits, Timeouts
from ._show import show
from ._stream import StreamContext, StreamResponse
from ._tls import TLS
from ._upload import Upload
from ._watch import StateCallback, Watch

BodyTypes = bytes | bytearray | memoryview | str

# Of a request at the border, VP_FLAG_* of capi/abi.h.
FLAG_GATEWAY: Final = 1
FLAG_PRESERVE_HOST: Final = 2
FLAG_STREAM: Final = 4
FLAG_UPLOAD: Final = 8

_Self = TypeVar("_Self", bound="Pool")


def options_config(
    *,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    retry: Retry | None = None,
    breaker: Breaker | None = None,
    health: Health | None = None,
    tls: TLS | None = None,
) -> dict[str, Any]:
    """The members of the core's configuration for the option objects that were given.

    Raises:
        ConfigurationError: an option is not an object of its class.
    """
    members: dict[str, Any] = {}
    for name, cls, value in (
        ("timeouts", Timeouts, timeouts), ("limits", Limits, limits), ("retry", Retry, retry),
        ("breaker", Breaker, breaker), ("health", Health, health), ("tls", TLS, tls),
    ):  # fmt: skip
        if value is None:
            continue
        given = cast("object", value)  # callers without types may give anything
        if not isinstance(given, cls):
            raise ConfigurationError(f"{name} must be a {cls.__name__}(...) or None, not {show(given)}", field=name)
        members |= given.config()
    return members


class Pool:
    """One or several upstreams behind one set of rules. Its classes have the constructors that users see."""

    _pool: int = 0
    _closed: bool = False
    _targets: dict[int, str]

    def _set_up(self, config: bytes, on_state_change: StateCallback | None) -> None:
        """Keep a configuration that was checked."""
        if on_state_change is not None and not callable(on_state_change):
            raise ConfigurationError(
                f"on_state_change must be a function or None, not {show(on_state_change)}", field="on_state_change"
            )
        self._config = config
        parsed = json.loads(config)
        targets: list[str] = parsed["targets"] + (parsed.get("backups") or [])
        self._targets = dict(enumerate(targets))
        """By the numbers that the core gives them; none is used again."""
        self._name = self._targets[0] if len(self._targets) == 1 else f"{len(self._targets)} targets"
        self._on_state_change = on_state_change
        self._watch: Watch | None = None
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
            ConfigurationError: from the first use of the client on, what only the core checks, such as a client
                certificate that has expired.
            ImportError: from the first use in the process on, the core library is missing or cannot be used here.
            NotImplementedError: at the first use in an event loop, it cannot watch file descriptors.
            OSError: at the first use in an event loop, no file descriptor is left.

        Nothing was sent when one of the last four is raised.
        """
        if query_params is not None:
            path = append_query(path, query_params)
        # The bridge packs a dict or a list by itself; anything else is packed here.
        fields = headers if headers is None or type(headers) in (dict, list) else pack(headers)
        if body is not None and hasattr(body, "__aiter__"):
            return await self._exchange(method, path, fields, body)
        # What _exchange does, here once more: a coroutine of its own is a fortieth of what a request costs.
        loop = get_running_loop()
        bound, channel = self._bound
        if bound is not loop:
            channel = self._bind(loop)
        future: asyncio.Future[Any] = loop.create_future()
        token = channel.submit(future, self._pool, method, path, fields, body, 0, 0, None)
        try:
            reply = await future
        except BaseException:
            channel.cancel(token)
            raise
        if reply[0]:
            raise self._error(method, reply)
        return ProxyResponse(reply[1], reply[2], reply[3], self._targets[reply[5]], reply[4], reply[6])

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

    async def _exchange(
        self, method: str, target: str, headers: Any, body: Any, key: bytes | None = None
    ) -> ProxyResponse:
        if body is not None and hasattr(body, "__aiter__"):
            reply, _, _, upload = await self._begin(method, target, headers, body, 0, key)
            if upload is not None:
                await upload.stop()
            return ProxyResponse(reply[1], reply[2], reply[3], self._targets[reply[5]], reply[4], reply[6])
        # What _begin does, without a coroutine of its own.
        loop = get_running_loop()
        bound, channel = self._bound
        if bound is not loop:
            channel = self._bind(loop)
        future: asyncio.Future[Any] = loop.create_future()
        token = channel.submit(future, self._pool, method, target, headers, body, 0, 0, key)
        try:
            reply = await future
        except BaseException:
            # Cancelled, or the coroutine was closed: nobody waits for the reply any more.
            channel.cancel(token)
            raise
        if reply[0]:
            raise self._error(method, reply)
        return ProxyResponse(reply[1], reply[2], reply[3], self._targets[reply[5]], reply[4], reply[6])

    async def _open_stream(
        self, method: str, target: str, headers: Any, body: Any, flags: int = 0, key: bytes | None = None
    ) -> StreamResponse:
        if type(body) is not bytes:
            reply, channel, token, upload = await self._begin(method, target, headers, body, flags | FLAG_STREAM, key)
            return StreamResponse(reply, self._targets[reply[5]], method, channel, token, upload)
        # What _begin does, without a coroutine of its own: this is the way of nearly every request of a gateway.
        loop = get_running_loop()
        bound, channel = self._bound
        if bound is not loop:
            channel = self._bind(loop)
        future: asyncio.Future[Any] = loop.create_future()
        token = channel.submit(future, self._pool, method, target, headers, body, 0, flags | FLAG_STREAM, key)
        try:
            reply = await future
        except BaseException:
            future.cancel()  # or the bridge would think that somebody takes the head and reads on
            channel.cancel(token)
            raise
        return self._response_to(method, reply, channel, token)

    def _response_to(self, method: str, reply: tuple[Any, ...], channel: _bridge.Channel, token: int) -> StreamResponse:
        """The response that a reply of the core tells of; raises its failure."""
        if reply[0]:
            raise self._error(method, reply)
        return StreamResponse(reply, self._targets[reply[5]], method, channel, token, None)

    def _fast_path(self, bound: tuple[Any, Any], flags: int, **shape: Any) -> _bridge.FastPath:
        """Let requests of this shape come without passing through Python, on the running loop, which it is bound to."""
        loop, channel = bound
        binding = {"client": self, "bound": bound, "loop": loop, "channel": channel, "pool": self._pool}
        return _bridge.FastPath(flags=flags | FLAG_STREAM, copy_context=copy_context, **binding, **shape)

    async def _begin(
        self, method: str, target: str, headers: Any, body: Any, flags: int, key: bytes | None
    ) -> tuple[tuple[Any, ...], _bridge.Channel, int, Upload | None]:
        """Send a request, its body piece by piece if it comes so, until there is a reply, or its head for a stream."""
        loop = get_running_loop()
        bound, channel = self._bound
        if bound is not loop:
            channel = self._bind(loop)
        future: asyncio.Future[Any] = loop.create_future()
        upload: Upload | None = None
        if hasattr(body, "__aiter__"):
            token = channel.submit(future, self._pool, method, target, headers, None, 0, flags | FLAG_UPLOAD, key)
            upload = Upload(loop, channel, token, body)
        else:
            token = channel.submit(future, self._pool, method, target, headers, body, 0, flags, key)
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

    async def _control(self, operation: str, **argument: object) -> Any:
        """Have the core carry out an operation on the pool (core/control.go), and return its result."""
        loop = get_running_loop()
        bound, channel = self._bound
        if bound is not loop:
            channel = self._bind(loop)
        future: asyncio.Future[Any] = loop.create_future()
        token = channel.control(future, self._pool, operation, json.dumps(argument).encode())
        try:
            reply = await future
        except BaseException:
            channel.cancel(token)
            raise
        if reply[0]:
            raise self._error("", reply)
        return json.loads(reply[3])

    def _error(self, method: str, reply: tuple[Any, ...]) -> BaseException:
        code, phase, outcome, message, elapsed_ns, upstream, attempts, retry_after_ns = reply
        target: str | None = None
        if upstream >= 0 or len(self._targets) == 1:
            target = self._targets[max(upstream, 0)]
        return reply_error(
            code, phase, outcome, message, elapsed_ns, target,
            method=method, attempts=read_attempts(attempts), retry_after_ns=retry_after_ns,
        )  # fmt: skip

    def _bind(self, loop: asyncio.AbstractEventLoop) -> _bridge.Channel:
        """Tie the client to the running loop and open its pool if this is the first use."""
        with _runtime.lock:
            if self._closed:
                raise ClientClosedError(f"{self!r} is closed", target=self._name)
            channel = _runtime.channel_of(loop)
            if not self._pool:
                self._pool = _bridge.pool_new(self._config)
            if self._on_state_change is not None and (self._watch is None or self._watch.loop.is_closed()):
                since = 0 if self._watch is None else self._watch.last
                self._watch = Watch(loop, channel, self._pool, self._on_state_change, since)
            self._bound = (loop, channel)
            return channel

    def snapshot(self) -> PoolStatus:
        """Return the state of the pool now: upstreams, breakers, health, connections and counts.

        Raises:
            ClientClosedError: the client is closed.
        """
        return read_pool(self._snapshot())

    def _snapshot(self) -> dict[str, Any]:
        if self._closed:
            raise ClientClosedError(f"{self!r} is closed", target=self._name)
        if not self._pool:
            return unused_state(json.loads(self._config))
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

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        # Copies would share connections, and the first one to go would close them for all.
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled; construct another one")

    def __del__(self) -> None:
        if self._pool:
            shown = repr(self)
            self.close()  # first: a warning may be an error
            warnings.warn(f"unclosed {shown}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._pool else "unused"
        return f"<{type(self).__name__} {self._name!r} ({state})>"
