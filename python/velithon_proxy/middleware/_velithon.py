"""Velithon 0.6: the method that its documentation calls, and a middleware list that may name one class twice.

Velithon's class is extended when both packages are imported, in whichever order, and Velithon is never imported from
here: an application without it must not pay for it. ``app.add_middleware(ProxyMiddleware(...))`` looks the method up
before the argument exists, so the constructor would be too late.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from ._middleware import ProxyMiddleware

if TYPE_CHECKING:
    # importlib.abc brings in half of the library's tools for reading package data.
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec

_MODULE: Final = "velithon.application"


def extend() -> None:
    """Extend Velithon now if it is imported, otherwise when it is."""
    module = sys.modules.get(_MODULE)
    if hasattr(module, "Velithon"):
        _extend(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds one module, by asking the others, in order to be there when it is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        for finder in sys.meta_path:
            find = None if isinstance(finder, _Finder) else getattr(finder, "find_spec", None)
            spec = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Loader", _Loader(spec.loader))
                return spec
        return None


class _Loader:
    """Executes a module as its own loader does, then extends it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Whoever looks for the source or the data of the module asks its loader.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _extend(module)


def _extend(module: ModuleType | None) -> None:
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
