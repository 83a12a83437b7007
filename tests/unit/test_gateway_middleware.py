"""The constructor of ProxyMiddleware: all its forms, and what it refuses; rows K1 to K15."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from typing import Any

import pytest
from rsgi_server import Scope

from velithon_proxy import ConfigurationError, InvalidTargetError, ProxyMiddleware
from velithon_proxy.middleware._gateway import Gateway
from velithon_proxy.middleware._rsgi import RSGIGateway


async def app(scope: object, protocol: object) -> None: ...


class Object:
    async def __rsgi__(self, scope: object, protocol: object) -> None: ...


@pytest.mark.parametrize(
    "middleware",
    [
        ProxyMiddleware("http://up:1", "/api"),
        ProxyMiddleware(target_urls="http://up:1", path_prefix="/api"),
        ProxyMiddleware(["http://up:1"], "/api/"),
        ProxyMiddleware(("http://up:1",), "/api"),
        ProxyMiddleware(app, "http://up:1", "/api"),
        ProxyMiddleware(app, target_urls="http://up:1", path_prefix="/api"),
        ProxyMiddleware(Object(), target_urls="http://up:1", path_prefix="/api"),  # type: ignore[call-overload]
        ProxyMiddleware("http://up:1", "/api", app=app),
        ProxyMiddleware("http://up:1", "/api", "round_robin", 30000, 3, False, False, None, None),
    ],
)
def test_all_forms_say_the_same(middleware: ProxyMiddleware) -> None:
    assert repr(middleware) == "<ProxyMiddleware '/api' -> 'http://up:1'>"


@pytest.mark.parametrize("strategy", ["round_robin", "random", "weighted", "single"])
def test_with_one_target_every_known_strategy_is_accepted(strategy: str) -> None:
    ProxyMiddleware("http://up", strategy=strategy)


def test_a_target_without_a_scheme_means_http() -> None:
    assert repr(ProxyMiddleware("server1:8080")) == "<ProxyMiddleware '/' -> 'server1:8080'>"
    assert repr(ProxyMiddleware("server1:8080")._gateway._client) == "<ProxyLoadBalancer 'server1:8080' (unused)>"


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        ({"target_urls": ""}, "target_urls", "it is empty"),
        ({"target_urls": None}, "target_urls", "None"),
        ({"target_urls": 3}, "target_urls", "3"),
        ({"target_urls": b"http://up"}, "target_urls", "type bytes"),
        ({"target_urls": []}, "target_urls", "at least one URL"),
        ({"target_urls": ["http://a", "http://a/"]}, "target_urls", "same upstream"),
        ({"target_urls": [None]}, "target_urls", r"target_urls\[0\]"),
        ({"target_urls": "ftp://a"}, "target_urls", "scheme must be http, https or unix"),
        ({"target_urls": "http://u:secret@a"}, "target_urls", "user information"),
        ({"target_urls": "http://a/path"}, "target_urls", "it has a path"),
        ({"path_prefix": "api"}, "path_prefix", "must start with '/'"),
        ({"path_prefix": None}, "path_prefix", "must be a path"),
        ({"strategy": "Round_Robin"}, "strategy", "must be one of"),
        ({"strategy": 1}, "strategy", "must be one of"),
        ({"timeout_ms": 0}, "timeout_ms", "from 1 to 86400000, not 0"),
        ({"timeout_ms": True}, "timeout_ms", "not the bool True"),
        ({"timeout_ms": 1.5}, "timeout_ms", "not the float 1.5"),
        ({"timeout_ms": "5"}, "timeout_ms", "not '5'"),
        ({"max_retries": -1}, "max_retries", "from 0 to 10"),
        ({"max_retries": 11}, "max_retries", "from 0 to 10"),
        ({"max_failures": 0}, "max_failures", "from 1 to"),
        ({"recovery_timeout_ms": 0}, "recovery_timeout_ms", "from 1 to"),
        ({"preserve_host": "yes"}, "preserve_host", "must be True or False"),
        ({"strip_prefix": 1}, "strip_prefix", "must be True or False"),
    ],
)
def test_a_wrong_argument_is_named_at_construction(arguments: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        ProxyMiddleware(**{"target_urls": "http://up", **arguments})
    assert raised.value.field == field
    assert field in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_wrong_target_has_an_exception_of_its_own() -> None:
    with pytest.raises(InvalidTargetError):
        ProxyMiddleware("http://")


def test_unknown_and_missing_arguments_are_type_errors() -> None:
    with pytest.raises(TypeError, match=r"ProxyMiddleware: .*unexpected keyword argument 'retries'"):
        ProxyMiddleware("http://up", retries=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="ProxyMiddleware: missing a required argument: 'target_urls'"):
        ProxyMiddleware()  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="ProxyMiddleware: too many positional arguments"):
        ProxyMiddleware("http://up", *range(9))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="app must be an application, not a value of type str"):
        ProxyMiddleware("http://up", app="app")  # type: ignore[call-overload]


def test_the_documented_signatures_are_those_that_are_checked() -> None:
    """Overloads are for people and type checkers; the arguments go to Gateway."""
    accepted = inspect.signature(Gateway)
    alone, around = (inspect.signature(overload) for overload in typing.get_overloads(ProxyMiddleware.__init__))
    assert alone.parameters["app"].default is None
    for signature in (alone, around):
        shown = [parameter for name, parameter in signature.parameters.items() if name not in ("self", "app")]
        assert shown == list(accepted.parameters.values())


def test_an_instance_is_a_factory_for_any_number_of_applications() -> None:
    middleware = ProxyMiddleware("http://up")
    first, second = middleware(app), middleware(app)
    assert isinstance(first, RSGIGateway)
    assert first is not second


async def test_an_instance_is_an_application() -> None:
    called: list[object] = []

    async def record(scope: object, protocol: object) -> None:
        called.append(scope)

    middleware = ProxyMiddleware("http://up", "/api", app=record)
    await middleware(Scope("/elsewhere"), None)  # type: ignore[call-overload]
    await middleware.__rsgi__(Scope("/elsewhere"), None)  # type: ignore[arg-type]
    assert len(called) == 2


async def test_it_can_be_closed_any_number_of_times() -> None:
    middleware = ProxyMiddleware("http://up")
    middleware.close()
    await middleware.aclose()
    middleware.close()


def test_construction_starts_neither_go_nor_a_thread() -> None:
    code = """
import threading
from velithon_proxy import ProxyMiddleware
middleware = ProxyMiddleware("http://127.0.0.1:1", "/api")
middleware(lambda scope, protocol: None)
maps = open("/proc/self/maps").read() if __import__("sys").platform == "linux" else ""
assert "libvelithonproxy" not in maps
assert threading.active_count() == 1
assert __import__("sys").modules.get("velithon") is None
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
