"""Gateways in this process, before a real upstream: mounts, bytes above ASCII, empty bodies, clients that stall."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import weakref
from typing import Any

import pytest
from asgi_server import HOST, serve
from client_upstream import Upstream, Visit, answer, chunked, replying
from rsgi_server import Protocol, Scope, Transport

from velithon_proxy import GatewayResponse, ProxyMiddleware, ProxyRequest


@pytest.mark.parametrize(
    ("root", "path", "raw", "sent", "prefix"),
    [
        ("", "/api/x", b"/api/x", b"/x", b"/api"),
        ("/gw", "/gw/api/x", b"/gw/api/x", b"/x", b"/gw/api"),
        ("/gw/", "/gw/api/x", b"/gw/api/x", b"/x", b"/gw/api"),
        ("/api", "/api/api/x", b"/api/api/x", b"/x", b"/api/api"),
        ("/gw", "/gw/api/a b", b"/api/a%20b", b"/a%20b", b"/gw/api"),  # a server that leaves it out of raw_path
        ("/caf\xe9", "/caf\xe9/api/x", b"/caf%C3%A9/api/x", b"/x", b"/caf%C3%A9/api"),
        ("/g", "/gw/api/x", b"/gw/api/x", None, None),  # whole segments
        ("/gw", "/api/x", b"/api/x", b"/x", b"/api"),  # not below it
    ],
)
async def test_paths_are_relative_to_where_the_application_is_mounted(
    root: str, path: str, raw: bytes, sent: bytes | None, prefix: bytes | None
) -> None:
    with Upstream(replying(answer(b"up"))) as upstream:
        gateway = ProxyMiddleware(upstream.url, "/api", strip_prefix=True)
        response = await serve(gateway, root_path=root, path=path, raw_path=raw)
        assert [request.target for request in upstream.requests] == ([] if sent is None else [sent])
        if sent is None:
            assert response.status == 404
        else:
            assert upstream.requests[0].values("x-forwarded-prefix") == [prefix]
        gateway.close()


async def test_what_the_upstream_says_of_its_paths_is_told_below_the_mount() -> None:
    lines = b"Location: /next?a=1", b"Set-Cookie: a=b; Path=/v2/; Secure"
    with Upstream(replying(answer(b"up", *lines, status=b"302 Found"))) as upstream:
        gateway = ProxyMiddleware(
            upstream.url,
            "/api",
            strip_prefix=True,
            upstream_path_prefix="/v2",
            rewrite_location=True,
            rewrite_cookies=True,
        )
        response = await serve(gateway, root_path="/gw", path="/gw/api/x")
        assert upstream.requests[0].target == b"/v2/x"
        assert response.headers[b"location"] == b"/gw/api/next?a=1"
        assert response.headers[b"set-cookie"] == b"a=b; Path=/gw/api; Secure"
        gateway.close()


async def test_http_1_0_may_leave_the_host_out_and_have_it_kept() -> None:
    with Upstream(replying(answer(b"up"))) as upstream:
        gateway = ProxyMiddleware(upstream.url, preserve_host=True)
        assert (await serve(gateway, http_version="1.0", headers=[(b"host", b"")])).status == 200
        assert upstream.requests[0].values("host") == [upstream.url.removeprefix("http://").encode()]
        gateway.close()


@pytest.mark.parametrize("path", [b"/caf\xc3\xa9", b"/caf%C3%A9"])
async def test_bytes_above_ascii_are_encoded_once(path: bytes) -> None:
    with Upstream(replying(answer(b"up"))) as upstream:
        for prefix in ("/", "/caf%C3%A9"):
            gateway = ProxyMiddleware(upstream.url, prefix)
            assert (await serve(gateway, path="/caf\xe9", raw_path=path)).status == 200
            gateway.close()
        assert [request.target for request in upstream.requests] == [b"/caf%C3%A9"] * 2


async def reads_all(visit: Visit) -> None:
    """Take a request with its whole body, also a chunked one, and answer it."""
    while (request := await visit.request()) is not None:
        if request.values("transfer-encoding"):
            with contextlib.suppress(asyncio.IncompleteReadError):
                while size := int(await visit.reader.readuntil(b"\r\n"), 16):
                    request.body += (await visit.reader.readexactly(size + 2))[:-2]
                await visit.reader.readexactly(2)
        await visit.send(answer(b"up"))


@pytest.mark.parametrize(
    ("method", "pieces", "framing"),
    [
        ("GET", [b""], []),
        ("POST", [b""], [b"content-length: 0"]),
        ("POST", [b"hello"], [b"content-length: 5"]),
        ("POST", [b"he", b"llo"], [b"transfer-encoding: chunked"]),
    ],
)
async def test_a_body_that_http2_does_not_announce(method: str, pieces: list[bytes], framing: list[bytes]) -> None:
    with Upstream(reads_all) as upstream:
        gateway = ProxyMiddleware(upstream.url)
        response = await serve(gateway, *pieces, method=method, http_version="2")
        assert response.status == 200
        (request,) = upstream.requests
        assert request.body == b"".join(pieces)
        lines = [line.lower() for line in request.head.split(b"\r\n")]
        assert [line for line in lines if line.startswith((b"content-length", b"transfer-encoding"))] == framing
        gateway.close()


async def test_a_peer_without_an_address_is_a_unix_socket() -> None:
    with Upstream(replying(answer(b"up"))) as upstream:
        gateway = ProxyMiddleware(upstream.url, trusted_proxies=["unix"])
        await serve(gateway, client=("", 0), headers=[HOST, (b"x-forwarded-for", b"192.0.2.7")])
        assert upstream.requests[0].values("x-forwarded-for") == [b"192.0.2.7"]
        gateway.close()


async def test_whoever_waits_for_an_answer_of_a_client_that_left_gets_one() -> None:
    with Upstream(replying(answer(b"up"))) as upstream:
        gateway = ProxyMiddleware(upstream.url)
        left = asyncio.Event()
        left.set()
        chunked_request = [HOST, (b"transfer-encoding", b"chunked")]
        response = await serve(gateway, b"he", leaves=left, unfinished=True, method="POST", headers=chunked_request)
        assert (response.status, response.body) == (499, b"")
        gateway.close()


async def test_a_client_that_stalls_is_408_and_harms_no_upstream() -> None:
    with Upstream(reads_all) as upstream:
        gateway = ProxyMiddleware(upstream.url, timeout_ms=100, max_failures=1, max_retries=0)
        for headers in ([HOST, (b"transfer-encoding", b"chunked")], [HOST, (b"content-length", b"100000")]):
            response = await serve(gateway, b"hello", unfinished=True, method="POST", headers=headers)
            assert (response.status, json.loads(response.body)["error"]) == (408, "Request Timeout")
        assert (await serve(gateway)).status == 200
        state = (await gateway.get_proxy_status())["targets"][0]
        assert (state["breaker"]["state"], state["breaker"]["failures"]) == ("closed", 0)
        gateway.close()


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("size", [10, 400_000])
async def test_a_hook_may_make_a_response_without_a_body(status: int, size: int) -> None:
    def change(response: GatewayResponse) -> None:
        response.status = status

    with Upstream(replying(answer(b"x" * size))) as upstream:
        gateway = ProxyMiddleware(upstream.url, transform_response=change)
        response = await serve(gateway)
        assert (response.status, response.body) == (status, b"")
        assert b"content-length" not in response.headers
        protocol = Protocol()
        await gateway.__rsgi__(Scope(), protocol)
        ((got, lines, body),) = protocol.answers
        assert (got, body, "content-length" in dict(lines)) == (status, b"", False)
        gateway.close()


async def test_an_answer_to_a_failure_may_have_no_body() -> None:
    gateway = ProxyMiddleware("http://127.0.0.1:1", on_error=lambda error, response: GatewayResponse(204, {}, "body"))
    response = await serve(gateway)
    assert (response.status, response.body) == (204, b"")
    gateway.close()


def bad_value(message: Any) -> None:
    message.headers["X-User"] = "a\nb"


def beyond_latin1(message: Any) -> None:
    message.headers["X-User"] = "\u0141"


def bad_path(request: ProxyRequest) -> None:
    request.path = "/a b"


def bad_method(request: ProxyRequest) -> None:
    request.method = "GET /"


@pytest.mark.parametrize(
    ("where", "hook"),
    [
        *(("transform_request", hook) for hook in (bad_value, beyond_latin1, bad_path, bad_method)),
        *(("transform_response", hook) for hook in (bad_value, beyond_latin1)),
    ],
)
async def test_what_a_hook_leaves_is_not_the_clients_fault(
    where: str, hook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Upstream(replying(answer(b"up"))) as upstream:
        options: dict[str, Any] = {where: hook}
        gateway = ProxyMiddleware(upstream.url, **options)
        assert (await serve(gateway)).status == 500
        assert len(upstream.requests) == (where == "transform_response")
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        gateway.close()


class Dropping(Protocol):
    """A protocol that, as servers do, keeps nothing of a stream: dropping its transport ends the response."""

    dropped: bool = False

    def response_stream(self, status: int, lines: list[tuple[str, str]]) -> Transport:
        transport = Transport()
        weakref.finalize(transport, setattr, self, "dropped", True)
        return transport


async def breaks_off(visit: Visit) -> None:
    await visit.request()
    await visit.send(chunked(b"hello")[: -len(b"0\r\n\r\n")])
    await asyncio.sleep(0.05)  # long enough for the response to begin
    visit.finish()


async def test_a_stream_that_breaks_off_is_dropped_without_the_garbage_collector() -> None:
    with Upstream(breaks_off) as upstream:
        gateway = ProxyMiddleware(upstream.url)
        protocol = Dropping()
        gc.disable()
        try:
            await gateway.__rsgi__(Scope(), protocol)
            assert protocol.dropped
        finally:
            gc.enable()
        gateway.close()
