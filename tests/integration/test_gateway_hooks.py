"""Transforms, status and synonyms of a gateway that is called in this process, before a real upstream."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from asgi_server import HOST, serve
from client_upstream import Received, Upstream, Visit, answer, chunked, replying
from rsgi_server import Protocol, Scope

from velithon_proxy import (
    ConfigurationError,
    ConnectError,
    GatewayResponse,
    InvalidHeaderError,
    ProxyMiddleware,
    ProxyRequest,
    Refusal,
    UpstreamClosedError,
)
from velithon_proxy.middleware import _clients


async def call(
    app: Any, method: str = "GET", path: str = "/", body: bytes = b"", leave: asyncio.Event | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Serve one request over ASGI, of a client that leaves when it is told to; returns status, fields and body."""
    raw, _, query = path.encode().partition(b"?")
    headers = [HOST, (b"content-length", b"%d" % len(body))] if body else [HOST]
    sent = await serve(
        app, body, leaves=leave, method=method, path=raw.decode(), raw_path=raw, query_string=query, headers=headers
    )
    return sent.status, {name.decode(): value.decode() for name, value in sent.headers.items()}, sent.body


def reflect(request: Received) -> bytes:
    seen = {"target": request.target.decode(), "key": [v.decode() for v in request.values("x-api-key")]}
    return answer(json.dumps({**seen, "body": request.body.decode()}).encode())


async def test_transforms_on_the_way_and_back() -> None:
    async def transform_request(request: ProxyRequest) -> ProxyRequest:
        request.headers["X-API-Key"] = "secret"
        request.path = f"/v2{request.path}"
        request.body = (await request.read()).upper()
        return request

    async def transform_response(response: GatewayResponse) -> GatewayResponse:
        content = json.loads(await response.read())
        response.body = json.dumps({**content, "seen": True})
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    with Upstream(replying(reflect)) as upstream:
        gateway = ProxyMiddleware(
            upstream.url, transform_request=transform_request, transform_response=transform_response
        )
        status, lines, body = await call(gateway, "POST", "/a?b=1", b"hello")
        assert (status, json.loads(body)) == (
            200, {"target": "/v2/a?b=1", "key": ["secret"], "body": "HELLO", "seen": True},
        )  # fmt: skip
        assert lines["access-control-allow-origin"] == "*"
        assert lines["content-length"] == str(len(body))
        gateway.close()


async def test_a_streamed_response_can_be_read_and_replaced() -> None:
    async def shout(response: GatewayResponse) -> None:
        response.body = (await response.read()).upper()

    with Upstream(replying(chunked(b"abc" * 30_000, b"def"))) as upstream:
        gateway = ProxyMiddleware(upstream.url, transform_response=shout)
        status, lines, body = await call(gateway)
        assert (status, body) == (200, b"ABC" * 30_000 + b"DEF")
        assert lines["content-length"] == str(len(body))
        gateway.close()


@pytest.mark.parametrize("where", ["transform_request", "transform_response"])
async def test_a_hook_that_raises_is_500_and_asks_no_upstream_twice(where: str) -> None:
    def fail(message: object) -> None:
        raise LookupError("a bug")

    with Upstream(replying(answer(b"x" * 200_000))) as upstream:
        options: dict[str, Any] = {where: fail}
        gateway = ProxyMiddleware(upstream.url, **options)
        status, _, body = await call(gateway, "POST", "/", b"effect")
        assert (status, json.loads(body)) == (500, {"error": "Internal Server Error", "status": 500})
        assert len(upstream.requests) == (where == "transform_response")
        async with asyncio.timeout(10):  # the connection of the response that nobody reads is closed meanwhile
            while (state := await gateway.get_proxy_status())["targets"][0]["in_flight"]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert state["targets"][0]["breaker"]["failures"] == 0
        gateway.close()


async def test_failures_can_be_answered_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Exception] = []

    async def on_error(error: Exception, response: GatewayResponse) -> GatewayResponse | None:
        told.append(error)
        if response.status == 413:
            return GatewayResponse(413, {"Content-Type": "text/plain"}, "too much")
        if response.status == 405:
            raise LookupError("a bug")
        response.headers["X-Shaped"] = "yes"
        return None

    gateway = ProxyMiddleware("http://127.0.0.1:1", on_error=on_error, max_request_body=10, max_retries=0)
    status, lines, body = await call(gateway)
    assert (status, lines["x-shaped"], json.loads(body)["error"]) == (502, "yes", "Bad Gateway")
    status, lines, body = await call(gateway, "POST", "/", b"x" * 11)  # C31: before anything is sent
    assert (status, lines["content-type"], lines["content-length"], body) == (413, "text/plain", "8", b"too much")
    assert (await call(gateway, "TRACE"))[0] == 405
    assert "on_error failed" in caplog.text
    assert [type(error) for error in told] == [ConnectError, Refusal, Refusal]
    gateway.close()


@pytest.mark.parametrize(
    ("status", "phrase"), [(401, "Unauthorized"), (404, "Not Found"), (429, "Too Many Requests"), (499, "Client Error")]
)
async def test_a_transform_may_refuse_with_any_status_of_an_error(status: int, phrase: str) -> None:
    def refuse(request: ProxyRequest) -> None:
        raise Refusal(status, "not today", (("X-Why", "rules"),))

    gateway = ProxyMiddleware("http://127.0.0.1:1", transform_request=refuse)
    got, lines, body = await call(gateway)
    assert (got, json.loads(body)) == (status, {"error": phrase, "status": status, "detail": "not today"})
    assert lines["x-why"] == "rules"
    gateway.close()


@pytest.mark.parametrize("status", [200, 399, 600, "404", True, None])
def test_a_refusal_has_a_status_of_an_error(status: Any) -> None:
    with pytest.raises(ValueError, match="from 400 to 599"):
        Refusal(status, "no")


@pytest.mark.parametrize("line", [("a b", "1"), ("x", "1\r\ny: 2"), ("x", "\u4f60"), ("", "1")])
def test_a_refusal_has_fields_that_can_be_sent(line: tuple[str, str]) -> None:
    with pytest.raises(InvalidHeaderError, match="cannot be sent"):
        Refusal(404, "no", (line,))


async def test_a_client_may_leave_while_its_failure_is_being_shaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clients, "WATCH_AFTER", 0.0)
    leave = asyncio.Event()

    async def on_error(error: Exception, response: GatewayResponse) -> None:
        leave.set()
        await asyncio.sleep(0.05)
        response.headers["X-Shaped"] = "yes"

    with Upstream(slowly_closing) as upstream:
        gateway = ProxyMiddleware(upstream.url, on_error=on_error, max_retries=0)
        task = asyncio.create_task(call(gateway, leave=leave))
        status, lines, _ = await task
        assert (status, lines["x-shaped"], task.cancelling()) == (502, "yes", 0)
        protocol = Protocol(leaves=leave)
        leave.clear()
        task = asyncio.create_task(gateway.__rsgi__(Scope(), protocol))
        await task
        assert [answer[0] for answer in protocol.answers] == [502]
        assert task.cancelling() == 0
        gateway.close()


async def slowly_closing(visit: Visit) -> None:
    await visit.request()
    await asyncio.sleep(0.05)  # long enough for the client to be watched
    visit.finish()


async def test_a_failure_after_the_response_has_begun_is_not_shaped() -> None:
    told: list[Exception] = []

    async def breaks_off(visit: Visit) -> None:
        await visit.request()
        await visit.send(answer(b"x" * 200_000)[:-1])
        visit.finish()

    with Upstream(breaks_off) as upstream:
        gateway = ProxyMiddleware(upstream.url, on_error=lambda error, _: told.append(error))
        with pytest.raises(UpstreamClosedError):
            await call(gateway)
        gateway.close()
    assert told == []


async def test_a_body_that_does_not_come_in_time_is_408() -> None:
    gateway = ProxyMiddleware("http://127.0.0.1:1", timeout_ms=50)

    async def receive() -> dict[str, Any]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    sent: list[Any] = []
    headers = [(b"host", b"h"), (b"content-length", b"3")]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers,
             "http_version": "1.1"}  # fmt: skip

    async def send(message: Any) -> None:
        sent.append(message)

    await gateway(scope, receive, send)
    assert sent[0]["status"] == 408
    gateway.close()


async def test_the_status_endpoint() -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    gateway = ProxyMiddleware("http://127.0.0.1:1", "/api", status_endpoint="/-/gateway", app=inner)
    status, lines, body = await call(gateway, path="/-/gateway")
    assert (status, lines["content-type"], lines["cache-control"]) == (200, "application/json", "no-store")
    assert json.loads(body)["targets"][0]["target"] == "http://127.0.0.1:1"
    assert json.loads(body) == await gateway.get_proxy_status()
    status, lines, body = await call(gateway, "HEAD", "/-/gateway")
    assert (status, body) == (200, b"")
    status, lines, _ = await call(gateway, "DELETE", "/-/gateway")
    assert (status, lines["allow"]) == (405, "GET, HEAD")
    assert (await call(gateway, path="/-/gateway/x"))[0] == 418
    assert (await call(ProxyMiddleware("http://127.0.0.1:1", "/api", app=inner), path="/-/gateway"))[0] == 418
    for wrong in ("status", "/a//b", 3):
        with pytest.raises(ConfigurationError, match="status_endpoint"):
            ProxyMiddleware("http://up", status_endpoint=wrong)  # type: ignore[arg-type]


async def test_paths_of_a_stripped_prefix_come_back() -> None:
    def moved(request: Received) -> bytes:
        host = request.values("host")[0]
        lines = [
            b"Location: http://%s/v2/login?next=/v2/x" % host,
            b"Set-Cookie: a=1; Path=/v2/; Domain=127.0.0.1; Secure",
        ]
        return answer(b"", *lines, status=b"302 Found")

    with Upstream(replying(moved)) as upstream:
        options: dict[str, Any] = {"strip_prefix": True, "upstream_path_prefix": "/v2"}
        gateway = ProxyMiddleware(upstream.url, "/api", rewrite_location=True, rewrite_cookies=True, **options)
        status, lines, _ = await call(gateway, path="/api/x")
        assert (status, lines["location"]) == (302, "/api/login?next=/v2/x")
        assert lines["set-cookie"] == "a=1; Path=/api; Secure"
        gateway.close()
        plain = ProxyMiddleware(upstream.url, "/api", **options)
        assert (await call(plain, path="/api/x"))[1]["location"] == f"{upstream.url}/v2/login?next=/v2/x"
        plain.close()


async def test_the_state_of_a_gateway() -> None:
    with Upstream(replying(answer(b"x", status=b"503 X"))) as upstream:
        gateway = ProxyMiddleware([upstream.url], max_failures=2, max_retries=0)
        for _ in range(2):
            assert (await call(gateway))[0] == 503
        status, lines, _ = await call(gateway)
        assert (status, lines["retry-after"]) == (503, "60")
        state = await gateway.get_proxy_status()
        assert state["targets"][0]["breaker"]["state"] == "open"
        assert json.dumps(state)
        await gateway.reset_circuit_breakers()
        assert (await gateway.get_proxy_status())["targets"][0]["breaker"]["state"] == "closed"
        gateway.close()


async def test_equal_clients_go_to_the_same_upstream() -> None:
    with Upstream(replying(answer(b"a"))) as one, Upstream(replying(answer(b"b"))) as two:
        gateway = ProxyMiddleware([one.url, two.url], strategy="consistent_hash", hash_on="client")
        assert len({(await call(gateway))[2] for _ in range(10)}) == 1
        gateway.close()


def test_velithons_names_are_taken() -> None:
    gateway = ProxyMiddleware(
        targets=["http://a", "http://b"],  # type: ignore[call-arg]
        load_balancing_strategy="random",
        health_check_path="/up",
        health_check_interval=30,
        strip_request_headers=["cookie"],
    )
    assert repr(gateway) == "<ProxyMiddleware '/' -> 'http://a, http://b'>"
    with pytest.raises(TypeError, match="the same argument"):
        ProxyMiddleware("http://a", targets=["http://b"], target_urls="http://c")  # type: ignore[call-overload]


INSTALL = """
import velithon_proxy
velithon_proxy.install()
from velithon.middleware.proxy import ProxyClient, ProxyLoadBalancer, ProxyMiddleware
assert ProxyClient is velithon_proxy.ProxyClient
assert ProxyMiddleware is velithon_proxy.ProxyMiddleware
velithon_proxy.install()
print("ok")
"""


@pytest.mark.parametrize("first", ["", "import velithon, velithon.middleware\n"])
def test_velithons_module_is_ours_after_install(first: str) -> None:
    done = subprocess.run([sys.executable, "-c", first + INSTALL], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr
