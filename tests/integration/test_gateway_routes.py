"""``velithon_proxy.gateway``: routes of a Velithon application that forward, without the defects of Velithon's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from gateway_process import GatewayProcess, assert_error, request
from scripted_upstream import ScriptedUpstream, reply

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def routes(upstream: ScriptedUpstream) -> Iterator[GatewayProcess]:
    environment = {"UPSTREAM": upstream.url, "FRAMEWORK": "routes"}
    with GatewayProcess("gateway_apps:routes", environment=environment) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("/strip/a/b?x=1&x=2", "/a/b?x=1&x=2"),
        ("/strip/", "/"),
        ("/strip/a%23b%3Fc?x=1&x=2", "/a%23b%3Fc?x=1&x=2"),
        ("/rewrite/7/a/b?q", "/v1/a/b/of/7?q"),
        ("/rewrite/7/", "/v1//of/7"),
        ("/t/acme/a/%2e%2e/b", "/v2/acme/items/a/../b"),
        ("/whole/x%20y", "/whole/x%20y"),
        ("/only", "/only"),
        ("/endpoint/a?b=", "/a?b="),
    ],
)
def test_the_path_that_is_sent(routes: GatewayProcess, upstream: ScriptedUpstream, sent: str, received: str) -> None:
    upstream.answers(reply(body=b"x"))
    assert routes.get(sent).status == 200
    assert upstream.only_request().target == received


def test_nothing_is_lost_on_the_way(routes: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply("200 OK", "Set-Cookie: a=1", "Set-Cookie: b=2", body=b"x"))
    lines = [
        "Cookie: a=b",
        "X-Gone: 1",
        "Connection: close, X-Private",
        "X-Private: 1",
        "TE: trailers",
        "X-A: 1",
        "X-A: 2",
    ]
    answer = routes.send(request("DELETE", "/whole/x", *lines, body=b"body"))
    assert answer.values("set-cookie") == [b"a=1", b"b=2"]
    received = upstream.only_request()
    assert (received.method, received.body) == ("DELETE", b"body")
    assert received.values("x-added") == ["1"]
    assert received.values("x-a") == ["1", "2"]
    assert received.values("x-gone") == received.values("te") == received.values("x-private") == []


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
def test_other_methods_than_those_given_are_refused(
    routes: GatewayProcess, upstream: ScriptedUpstream, method: str
) -> None:
    upstream.answers(reply(body=b"x"))
    answer = routes.send(request(method, "/only"))
    assert_error(answer, 405)
    assert answer.values("allow") == [b"GET, HEAD"]
    assert upstream.ledger.events == []


def test_head_comes_with_get(routes: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())
    assert routes.send(request("HEAD", "/only"), to_head=True).status == 200


@pytest.mark.parametrize("target", ["/rewrite/7/../x", "/rewrite/7/%2e%2e/%2e%2e/x", "/strip/../x", "/strip/%00"])
def test_parameters_cannot_lead_elsewhere(routes: GatewayProcess, upstream: ScriptedUpstream, target: str) -> None:
    upstream.answers(reply(body=b"x"))
    assert routes.get(target).status in (400, 404)
    assert upstream.ledger.events == []


@pytest.mark.parametrize(
    "target",
    ["/t/acme/%2e%2e/%2e%2e/globex/items/1", "/t/acme/../x", "/t/acme/..;/x", "/t/acme/..%5cx", "/t/%2e%2e/x",
     "/whole/../x", "/whole/%2e%2e%2fx"],
)  # fmt: skip
def test_no_parameter_leads_out_of_what_stands_before_it(
    routes: GatewayProcess, upstream: ScriptedUpstream, target: str
) -> None:
    upstream.answers(reply(body=b"x"))
    assert_error(routes.get(target), 400)
    assert upstream.ledger.events == []


def test_a_handler_never_runs_twice(routes: GatewayProcess, upstream: ScriptedUpstream) -> None:
    """Velithon's router runs a route again that has raised."""
    upstream.does(lambda exchange: exchange.close())
    assert_error(routes.send(request("POST", "/strip/x", body=b"x")), 502)
    assert len(upstream.ledger.of("request")) == 1
    assert_error(routes.get("/down"), 502)


def test_the_openapi_page_works(routes: GatewayProcess) -> None:
    answer = routes.get("/openapi.json")
    assert answer.status == 200
    paths = json.loads(answer.body)["paths"]
    assert set(paths["/strip/{path}"]) == {"get", "post", "put", "patch", "delete"}
    assert set(paths["/only"]) == {"get"}
    assert [parameter["name"] for parameter in paths["/rewrite/{id}/{path}"]["get"]["parameters"]] == ["id", "path"]


def test_one_pool_serves_all_requests_of_a_route(routes: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply(body=b"x"))
    for _ in range(10):
        assert routes.get("/whole/x").status == 200
    assert len(upstream.ledger.of("connected")) <= 1


def test_the_pools_close_with_the_application(upstream: ScriptedUpstream) -> None:
    code = f"""
import asyncio
from velithon import Velithon
from velithon_proxy.gateway import Gateway
gateway = Gateway()
route = gateway.add_route("/x", {upstream.url!r}, name="x", health_check_path="/health")
app = Velithon(routes=gateway.get_routes())
async def main():
    print(await gateway.health_check_all())
    for function in app.shutdown_functions:
        await function.func()
    print(route.load_balancer)
asyncio.run(main())
"""
    upstream.answers(reply(body=b"x"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        f"{{'x': [({upstream.url!r}, True)]}}",
        f"<ProxyLoadBalancer {upstream.url!r} (unused)>",
    ]


def test_code_for_velithons_own_gateway_finds_ours() -> None:
    code = """
import velithon_proxy
velithon_proxy.install()
import velithon
from velithon.gateway import Gateway, GatewayRoute, forward_to, gateway_route
import velithon_proxy.gateway as ours
assert velithon.GatewayRoute is GatewayRoute is ours.GatewayRoute
assert velithon.Gateway is Gateway is ours.Gateway
assert velithon.forward_to is forward_to is ours.forward_to
velithon_proxy.install()
assert velithon.gateway.gateway_route is ours.gateway_route
import velithon.middleware
assert velithon.middleware.ProxyMiddleware is velithon_proxy.ProxyMiddleware
assert velithon.Middleware is velithon.middleware.Middleware
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
