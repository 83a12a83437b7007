"""Routes of a Velithon application that forward, with the names and arguments of ``velithon.gateway``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from velithon._velithon import Match
from velithon.requests import Request
from velithon.responses import Response
from velithon.routing import BaseRoute

from .._balancer import ProxyLoadBalancer
from .._errors import ConfigurationError
from .._show import show
from ._answers import Refusal
from ._gateway import Gateway as _Forwarder
from ._patterns import Pattern
from ._rsgi import RSGIGateway
from ._synonyms import translated

_DOCUMENTED = ("GET", "POST", "PUT", "PATCH", "DELETE")


class GatewayRoute(BaseRoute):
    """A route whose requests go to an upstream, or to one of several.

    Args:
        path: pattern of the route, as Velithon has it: ``"/users/{id}"``, ``"/files/{path:path}"``.
        targets: the upstream, or a list of several, as for :class:`~velithon_proxy.ProxyLoadBalancer`.
        methods: those that are forwarded; ``HEAD`` comes with ``GET``. Others are answered with 405. ``None``: all.
        name: of the route; made from the path if there is none.
        strip_path: leave out of the path that is sent what stands before the first parameter of the pattern; all of
            it if there is none.
        path_rewrite: the path to send, with the parameters of the pattern: ``"/v1/{path}"``.
        preserve_host, timeout_ms, max_retries, weights: as for :class:`~velithon_proxy.ProxyMiddleware`.
        load_balancing_strategy, health_check_path: its ``strategy`` and ``health_check_url``.
        headers_to_add, headers_to_remove: its ``add_request_headers`` and ``remove_request_headers``.
        middleware: Velithon's middleware for this route alone.
        include_in_schema, summary, description, tags: for the OpenAPI page.
        options: every other argument of :class:`~velithon_proxy.ProxyMiddleware`.

    Raises:
        ConfigurationError: an argument is of the wrong type or out of range; a ``ValueError``.
        TypeError: an unknown argument.
    """

    def __init__(
        self,
        path: str,
        targets: str | Sequence[str],
        *,
        methods: Iterable[str] | None = None,
        name: str | None = None,
        strip_path: bool = False,
        preserve_host: bool = False,
        timeout_ms: int = 30000,
        max_retries: int = 3,
        load_balancing_strategy: str = "round_robin",
        weights: Sequence[int] | None = None,
        health_check_path: str | None = None,
        headers_to_add: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        headers_to_remove: Iterable[str] | None = None,
        path_rewrite: str | None = None,
        middleware: Sequence[Any] | None = None,
        include_in_schema: bool = True,
        summary: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        self._pattern = Pattern(path, strip_path=strip_path, path_rewrite=path_rewrite)
        self.path = path
        self.name = name if name is not None else f"gateway_{path}"
        self.methods = _methods(methods)
        self.include_in_schema = include_in_schema
        self.summary, self.description, self.tags = summary, description, tags
        self.middleware = list(middleware or ())
        try:
            self._forwarder = _Forwarder(
                targets,
                self._pattern.base,
                load_balancing_strategy,
                timeout_ms,
                max_retries,
                preserve_host,
                strip_path,
                weights=weights,
                health_check_url=health_check_path,
                add_request_headers=headers_to_add,
                remove_request_headers=() if headers_to_remove is None else headers_to_remove,
                **translated(options),
            )
        except TypeError as error:
            raise TypeError(f"GatewayRoute: {error}") from None
        self._rsgi = RSGIGateway(self._forwarder)
        self._app: Any = self._serve
        for cls, args, kwargs in reversed(self.middleware):
            self._app = cls(self._app, *args, **kwargs)

    @property
    def load_balancer(self) -> ProxyLoadBalancer:
        """The upstreams: their health, breakers and live changes."""
        return self._forwarder.client

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Say whether a request is this route's: ``PARTIAL`` if only its method is not."""
        parameters = self._pattern.match(scope.path) if scope.proto == "http" else None
        if parameters is None:
            return Match.NONE, scope
        scope._path_params = parameters
        return (Match.FULL if self._allows(scope.method) else Match.PARTIAL), scope

    async def handle(self, scope: Any, protocol: Any) -> None:
        """Forward a request and hand its response on."""
        await self._app(scope, protocol)

    async def _serve(self, scope: Any, protocol: Any) -> None:
        refusal: Refusal | None = None
        if not self._allows(scope.method):
            allow = ", ".join(sorted(self.methods or ()))
            refusal = Refusal(405, "this method is not allowed here", (("allow", allow),))
        path = scope.path
        try:
            path = self._pattern.target(path)
        except Refusal as error:  # what raises here, Velithon's router would run a second time
            refusal = refusal or error
        await self._rsgi.serve(scope, protocol, path, refusal)

    def _allows(self, method: str) -> bool:
        return self.methods is None or method in self.methods

    def openapi(  # pyright: ignore[reportIncompatibleMethodOverride] -- Velithon calls it so
        self,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the OpenAPI page says of the route, by path, and its schemas: none."""
        responses = {
            "200": {"description": "The response of the upstream"},
            "502": {"description": "The upstream cannot be reached, or did not answer in HTTP"},
            "503": {"description": "No upstream can be used now"},
            "504": {"description": "The upstream took too long"},
        }
        operation: dict[str, Any] = {
            "summary": self.summary or f"Forwarded: {self.name}",
            "tags": list(self.tags or ("Gateway",)),
            "responses": responses,
        }
        if self.description:
            operation["description"] = self.description
        if self._pattern.parameters:
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in self._pattern.parameters
            ]
        shown = [method for method in _DOCUMENTED if self._allows(method)]
        return {self._pattern.shown: {method.lower(): dict(operation) for method in shown}}, {}

    async def aclose(self) -> None:
        """Close the connections to the upstreams. Velithon does so at its shutdown."""
        self._forwarder.close()

    def __repr__(self) -> str:
        return f"<GatewayRoute {self.path!a} -> {self._forwarder.target!r}>"


class Gateway:
    """A collection of routes that forward."""

    def __init__(self) -> None:
        self.routes: list[GatewayRoute] = []

    @property
    def load_balancers(self) -> dict[str, ProxyLoadBalancer]:
        """The upstreams of each route, by the name of the route."""
        return {route.name: route.load_balancer for route in self.routes}

    def add_route(self, path: str, targets: str | Sequence[str], **options: Any) -> GatewayRoute:
        """Add a route; the arguments are those of :class:`GatewayRoute`."""
        route = GatewayRoute(path, targets, **options)
        self.routes.append(route)
        return route

    def forward_to(self, targets: str | Sequence[str], **options: Any) -> Callable[[Callable[..., Any]], GatewayRoute]:
        """Make a route of a function, which is never called: ``path`` is ``/`` and its name unless it is given."""

        def decorate(function: Callable[..., Any]) -> GatewayRoute:
            named = {"path": f"/{function.__name__}", "name": function.__name__, **options}
            return self.add_route(named.pop("path"), targets, **named)

        return decorate

    def get_routes(self) -> list[GatewayRoute]:
        """Return all routes, for ``Velithon(routes=...)``."""
        return list(self.routes)

    async def health_check_all(self) -> dict[str, list[tuple[str, bool]]]:
        """Probe the upstreams of all routes that have a ``health_check_path``, and say which can be used."""
        status: dict[str, list[tuple[str, bool]]] = {}
        for route in self.routes:
            if route.load_balancer.is_probed:
                await route.load_balancer.health_check()
            status[route.name] = await route.load_balancer.get_health_status()
        return status

    async def aclose(self) -> None:
        """Close the connections of all routes."""
        for route in self.routes:
            await route.aclose()


def gateway_route(path: str, targets: str | Sequence[str], **options: Any) -> GatewayRoute:
    """Do the same as :class:`GatewayRoute`."""
    return GatewayRoute(path, targets, **options)


def forward_to(path: str, target: str | Sequence[str], **options: Any) -> Callable[[Request], Awaitable[Response]]:
    """Make an endpoint that forwards its requests, for a route of one's own.

    ::

        app.add_route("/api/{path:path}", forward_to("/api", "http://127.0.0.1:9001", strip_path=True))

    Args:
        path: what ``strip_path`` leaves out: a path, or a pattern.
        target, options: as for :class:`GatewayRoute`; ``methods`` are the route's own.
    """
    base = path.removesuffix("*").rstrip("/") or "/"
    route = GatewayRoute(base if "{" in base else f"{base.rstrip('/')}/{{path:path}}", target, **options)

    async def forward(request: Request) -> Response:  # noqa: ARG001 -- Velithon goes by its type
        return _Forwarded(route)

    forward.__annotations__ = {"request": Request, "return": Response}  # classes, not their names: it does not look
    return forward


class _Forwarded(Response):
    """A response that is yet to come: it asks the upstream when the framework sends it."""

    def __init__(self, route: GatewayRoute) -> None:
        super().__init__()
        self._route = route

    async def __call__(self, scope: Any, protocol: Any) -> None:
        await self._route.handle(scope, protocol)


def _methods(given: object) -> frozenset[str] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError(f"methods must be a list of names, not {show(given)}", field="methods")
    names: set[str] = set()
    for name in cast("Iterable[object]", given):
        if not isinstance(name, str) or not name.isalpha():
            raise ConfigurationError(f"methods: {show(name)} is not the name of a method", field="methods")
        names.add(name.upper())
    if not names:
        raise ConfigurationError("methods must hold at least one name, it is empty", field="methods")
    return frozenset(names | ({"HEAD"} if "GET" in names else set()))
