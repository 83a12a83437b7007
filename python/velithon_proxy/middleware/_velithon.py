"""Velithon 0.6: the method that its documentation calls, and a middleware list that may name one class twice.

Its class is extended as soon as both packages are imported (``_import_hook.py``).
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import Any, cast

from ._middleware import ProxyMiddleware


def extend(module: ModuleType) -> None:
    """Extend the class of ``velithon.application``, once."""
    cls: Any = getattr(module, "Velithon", None)
    if cls is None or "_velithon_proxy_extended" in vars(cls):
        return
    cls._velithon_proxy_extended = True
    cls._velithon_proxy_lane = None
    cls.__init__ = _instantiating(cls.__init__)
    cls.__call__ = _asking_first(cls.__call__)
    if not hasattr(cls, "add_middleware"):
        cls.add_middleware = _add_middleware


def _instantiating(init: Any) -> Any:
    """Wrap the constructor of Velithon so that ``Middleware(ProxyMiddleware, ...)`` becomes an instance at once.

    Velithon builds its middleware with the first request: that is late for a configuration error, and of several
    entries with the same class it keeps only the first. Instances differ.
    """

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, middleware: Sequence[Any] | None = None, **kwargs: Any) -> None:  # noqa: N807
        entries = None if middleware is None else [_instance(entry) for entry in middleware]
        init(self, *args, middleware=entries, **kwargs)
        for entry in entries or ():
            _close_with(self, entry)
        for route in self.router.routes:
            if hasattr(route, "load_balancer") and hasattr(route, "aclose"):  # of velithon_proxy.gateway
                self.on_shutdown()(route.aclose)

    return __init__


def _asking_first(call: Any) -> Any:
    """Wrap ``Velithon.__call__``: gateways that nothing comes before take their requests as the server hands them over.

    Velithon's wrappers and contexts cost more than forwarding does, and a gateway uses none of them.
    """

    @functools.wraps(call)
    def __call__(self: Any, scope: Any, protocol: Any) -> Awaitable[object]:  # noqa: N807
        lane = cast("_Lane | None", self._velithon_proxy_lane)
        if lane is None:
            lane = self._velithon_proxy_lane = _Lane(self)
        for forward in lane.gateways:
            answer = forward(scope, protocol)
            if answer is not None:
                return lane.logged(answer, scope)
        return call(self, scope, protocol)

    return __call__


class _Lane:
    """The gateways, first of all middleware, for whose requests Velithon would do nothing but write a line in its log.

    Hooks may ask for Velithon's request, and the application may want an identifier of its own for each.
    """

    def __init__(self, app: Any) -> None:
        from velithon.datastructures import request_id_generator
        from velithon.logging import get_logger

        self._log: Any = get_logger("velithon.middleware.logging")
        self._next_id: Any = request_id_generator.generate
        self.gateways: list[Callable[[Any, Any], Awaitable[int] | None]] = []
        if getattr(app, "include_security_middleware", True) or getattr(app, "request_id_generator", True):
            return
        for entry in app.user_middleware:
            if not isinstance(entry.cls, ProxyMiddleware) or entry.cls.has_hooks:
                break
            cls = type(entry.cls)
            if cls.__rsgi__ is not ProxyMiddleware.__rsgi__ or cls.__call__ is not ProxyMiddleware.__call__:
                break  # somebody else's, with ways of its own
            self.gateways.append(entry.cls._rsgi.forward)  # pyright: ignore[reportPrivateUsage] -- made for this caller

    def logged(self, answer: Awaitable[int], scope: Any) -> Awaitable[object]:
        """Write the line that Velithon would write about a request, with the status that was sent."""
        return self._logged(answer, scope) if self._log.isEnabledFor(logging.INFO) else answer

    async def _logged(self, answer: Awaitable[int], scope: Any) -> None:
        began = time.perf_counter()
        status = await answer
        extra = {
            "request_id": self._next_id(),
            "method": scope.method,
            "user_agent": scope.headers.get("user-agent", ""),
            "path": scope.path,
            "client_ip": scope.client,
            "duration_ms": str(round((time.perf_counter() - began) * 1000, 2)),
            "status": str(status),
        }
        self._log.info("Processed %s %s", scope.method, scope.path, extra=extra)


def _add_middleware(self: Any, middleware: Any, *args: Any, **kwargs: Any) -> None:
    """Add a middleware inside those that were added before.

    Args:
        middleware: a middleware class, or another callable that takes the application it wraps (a
            :class:`ProxyMiddleware` is one), or a ``velithon.middleware.Middleware``.
        args, kwargs: passed to it after the application.

    Raises:
        TypeError: not a middleware.
        RuntimeError: the application has served a request already; its middleware is fixed.
    """
    from velithon import middleware as velithon_middleware

    entry_type: Any = velithon_middleware.Middleware
    if self.middleware_stack is not None:
        raise RuntimeError("add_middleware must be called before the first request")
    if not isinstance(middleware, entry_type):
        if not callable(middleware):
            raise TypeError(f"a middleware must be callable, not a value of type {type(middleware).__name__}")
        middleware = entry_type(middleware, *args, **kwargs)
    entry = _instance(middleware)
    self.user_middleware.append(entry)
    _close_with(self, entry)


def _instance(entry: Any) -> Any:
    """Replace ``Middleware(ProxyMiddleware, ...)`` by ``Middleware(ProxyMiddleware(...))``."""
    if isinstance(entry.cls, type) and issubclass(entry.cls, ProxyMiddleware):
        return type(entry)(entry.cls(*entry.args, **entry.kwargs))
    return entry


def _close_with(app: Any, entry: Any) -> None:
    """Close the connections of a ProxyMiddleware when the application shuts down."""
    if isinstance(entry.cls, ProxyMiddleware):
        app.on_shutdown()(entry.cls.aclose)
