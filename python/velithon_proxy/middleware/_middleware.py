"""ProxyMiddleware: one object that every supported framework and server takes."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final, cast, overload

from ._asgi import ASGIApp, ASGIGateway
from ._fields import FieldsInput
from ._gateway import Gateway
from ._rsgi import RSGIApp, RSGIGateway, RSGIHTTPProtocol, RSGIScope
from ._synonyms import translated
from ._transforms import ErrorHook, RequestHook, ResponseHook


class WrappedApp(RSGIGateway):
    """An application with a gateway before it, for servers of either kind."""

    def __init__(self, gateway: Gateway, app: Any) -> None:
        super().__init__(gateway, app)
        self._asgi = ASGIGateway(gateway, app)

    async def __call__(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, scope: Any, receive: Any, send: Any = None, /
    ) -> None:
        """Serve a request of RSGI (two arguments) or ASGI (three)."""
        await (self.__rsgi__(scope, receive) if send is None else self._asgi(scope, receive, send))


class ProxyMiddleware:
    """Forwards the requests below a path prefix to an upstream; all others go to the application.

    On Velithon an instance is added to the application, and any number of instances work side by side::

        app.add_middleware(ProxyMiddleware("http://127.0.0.1:9001", path_prefix="/api/users"))
        app = Velithon(middleware=[Middleware(ProxyMiddleware, target_urls="http://127.0.0.1:9001")])

    By itself it is an RSGI and an ASGI application, around another one or alone::

        app = ProxyMiddleware("http://127.0.0.1:9001", path_prefix="/api", app=other)

    Constructing it checks the arguments and does nothing else, so it may be done before a server forks its workers.
    Each worker connects with its first request, and the connections are closed when the server stops the worker.

    Args:
        target_urls: the upstream, ``"http://host[:port]"``, ``"https://host[:port]"`` or ``"unix:/path"``, or a list of
            several.
        path_prefix: path, percent-encoded where a URL needs it, below which requests are forwarded. It matches whole
            segments: ``"/api"`` matches ``/api`` and ``/api/x`` but not ``/apix``. A slash at the end means nothing.
        strategy: how to choose among several targets; those of :class:`ProxyLoadBalancer`.
        timeout_ms: limit of one request as a whole in milliseconds, 1 to 86,400,000.
        max_retries: attempts after the first, 0 to 10.
        preserve_host: send the Host of the client's request instead of the upstream's.
        strip_prefix: leave ``path_prefix`` out of the path that is sent.
        transform_request: function, or coroutine function, that is given each :class:`ProxyRequest` before it is
            sent. It changes it, and returns it or ``None``; or it returns a :class:`GatewayResponse`, and no upstream
            is asked.
        transform_response: the same for each :class:`GatewayResponse` before it is handed on.
        weights, max_failures, recovery_timeout_ms, health_check_url: as for :class:`ProxyLoadBalancer`.
        pool: ``health``, ``backups``, ``slow_start``, ``panic_threshold``, ``wait_for_healthy``,
            ``timeouts``, ``limits``, ``retry``, ``breaker``, ``tls``, ``max_request_body``, ``max_response_body``,
            ``on_state_change``: as for :class:`ProxyLoadBalancer`.
        hash_on: as for :class:`ProxyLoadBalancer`, and ``"client"`` for the address of the client.
        upstream_path_prefix: path to put in front of the one that is sent.
        trusted_proxies: addresses and networks of proxies in front, whose ``X-Forwarded-*`` fields are believed;
            ``"unix"`` for peers on a unix socket, ``"*"`` for everybody. From others they are dropped.
        forwarded: send ``Forwarded`` (RFC 7239) as well.
        via: the name of this gateway in ``Via``; ``None`` sends none and detects no loops.
        add_request_headers, add_response_headers: fields to set; they replace those of the same name.
        remove_request_headers, remove_response_headers: names of fields to leave out.
        rewrite_location: write the upstream's own paths and URLs in ``Location`` so that they lead through the gateway.
        rewrite_cookies: do so with the ``Path`` of cookies, and leave out a ``Domain`` that is the upstream's.
        on_error: function, or coroutine function, that is given the exception and the :class:`GatewayResponse` that
            tells a client of a failure, and may change it or return another one.
        status_endpoint: path at which the gateway shows its state as JSON, addresses of upstreams included.
        app: the RSGI or ASGI application that gets the other requests. ``None``: they are answered with 404.
            Frameworks that construct a middleware themselves give it as the first argument.

    Raises:
        ConfigurationError: an argument is of the wrong type or out of range; a ``ValueError``.
        TypeError: an unknown argument, or an ``app`` that is none.

    A failed request is answered with a small JSON object, ``{"error": "Bad Gateway", "status": 502}``: 502 for an
    upstream that cannot be reached or does not speak HTTP, 503 (with Retry-After) for one that must not be contacted
    now, 504 for one that is too slow, 400 for a request that must not be forwarded. Each is logged by the logger
    ``velithon_proxy`` with what the answer does not say.

    Names and defaults: the feature document.
    """

    @overload
    def __init__(
        self,
        target_urls: str | Sequence[str],
        path_prefix: str = "/",
        strategy: str = "round_robin",
        timeout_ms: int = 30000,
        max_retries: int = 3,
        preserve_host: bool = False,
        strip_prefix: bool = False,
        transform_request: RequestHook | None = None,
        transform_response: ResponseHook | None = None,
        *,
        weights: Sequence[int] | None = None,
        max_failures: int = 5,
        recovery_timeout_ms: int = 60000,
        health_check_url: str | None = None,
        hash_on: str | None = None,
        upstream_path_prefix: str = "",
        trusted_proxies: Iterable[str] = (),
        forwarded: bool = False,
        via: str | None = "velithon-proxy",
        add_request_headers: FieldsInput = None,
        remove_request_headers: Iterable[str] = (),
        add_response_headers: FieldsInput = None,
        remove_response_headers: Iterable[str] = (),
        rewrite_location: bool = False,
        rewrite_cookies: bool = False,
        on_error: ErrorHook | None = None,
        status_endpoint: str | None = None,
        app: RSGIApp | ASGIApp | None = None,
        **pool: Any,
    ) -> None: ...

    @overload
    def __init__(
        self,
        app: RSGIApp | ASGIApp,
        /,
        target_urls: str | Sequence[str],
        path_prefix: str = "/",
        strategy: str = "round_robin",
        timeout_ms: int = 30000,
        max_retries: int = 3,
        preserve_host: bool = False,
        strip_prefix: bool = False,
        transform_request: RequestHook | None = None,
        transform_response: ResponseHook | None = None,
        *,
        weights: Sequence[int] | None = None,
        max_failures: int = 5,
        recovery_timeout_ms: int = 60000,
        health_check_url: str | None = None,
        hash_on: str | None = None,
        upstream_path_prefix: str = "",
        trusted_proxies: Iterable[str] = (),
        forwarded: bool = False,
        via: str | None = "velithon-proxy",
        add_request_headers: FieldsInput = None,
        remove_request_headers: Iterable[str] = (),
        add_response_headers: FieldsInput = None,
        remove_response_headers: Iterable[str] = (),
        rewrite_location: bool = False,
        rewrite_cookies: bool = False,
        on_error: ErrorHook | None = None,
        status_endpoint: str | None = None,
        **pool: Any,
    ) -> None: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A parameter for the application before target_urls would take the place of target_urls for everybody else.
        app = kwargs.pop("app", None)
        if app is None and args and (callable(args[0]) or hasattr(args[0], "__rsgi__")):
            app, args = args[0], args[1:]
        if app is not None and not (callable(app) or hasattr(app, "__rsgi__")):
            raise TypeError(f"app must be an application, not a value of type {type(app).__name__}")
        try:
            bound = _PARAMETERS.bind(*args, **translated(kwargs))
        except TypeError as error:
            raise TypeError(f"ProxyMiddleware: {error}") from None
        try:
            self._gateway = Gateway(*bound.args, **bound.kwargs)
        except TypeError as error:
            raise TypeError(f"ProxyMiddleware: {error}") from None
        self._rsgi = RSGIGateway(self._gateway, app)
        self._asgi = ASGIGateway(self._gateway, cast("ASGIApp | None", app))

    @overload
    def __call__(self, app: RSGIApp | ASGIApp, /) -> WrappedApp: ...
    @overload
    def __call__(self, scope: RSGIScope, protocol: RSGIHTTPProtocol, /) -> Awaitable[None]: ...
    @overload
    def __call__(self, scope: Any, receive: Any, send: Any, /) -> Awaitable[None]: ...
    def __call__(self, first: Any, /, *rest: Any) -> Any:
        """Put the gateway before an application (one argument), or serve a request of RSGI (two) or ASGI (three)."""
        if len(rest) == 2:
            return self._asgi(first, *rest)
        if rest:
            served = self._rsgi.__rsgi__(first, *rest)
            # Whoever calls it like this may want to make a task of it.
            return _as_coroutine(served) if asyncio.isfuture(served) else served
        if isinstance(first, dict):
            # Servers take what is no coroutine function for the second version of ASGI: first the scope alone.
            return functools.partial(self._asgi, cast("dict[str, Any]", first))
        return WrappedApp(self._gateway, first)

    def __rsgi__(self, scope: RSGIScope, protocol: RSGIHTTPProtocol) -> Awaitable[Any]:
        """Serve one RSGI request; the result is the status of one that was forwarded."""
        return self._rsgi.__rsgi__(scope, protocol)

    @property
    def has_hooks(self) -> bool:
        """Whether functions of the application have a say in what is forwarded."""
        return self._gateway.has_hooks

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a worker: called by the RSGI server."""
        self._rsgi.__rsgi_init__(loop)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """End a worker: called by the RSGI server."""
        self._rsgi.__rsgi_del__(loop)

    async def get_proxy_status(self) -> dict[str, Any]:
        """Return the state of the gateway: its targets with their breakers and health, requests under way, and counts.

        The fields are those of :class:`PoolStatus` and :class:`TargetStatus`, as dictionaries.
        """
        return self._gateway.status()

    async def reset_circuit_breakers(self) -> None:
        """Close the circuit breakers of all targets and forget their failures."""
        await self._gateway.reset_breakers()

    async def aclose(self) -> None:
        """Do the same as close; it does not wait either."""
        self._gateway.close()

    def close(self) -> None:
        """Close the connections to the upstream. Requests under way end with 503; a later one connects anew."""
        self._gateway.close()

    def __repr__(self) -> str:
        return f"<ProxyMiddleware {self._gateway!r}>"


async def _as_coroutine(future: asyncio.Future[Any]) -> Any:
    return await future


_PARAMETERS: Final = inspect.signature(Gateway)
