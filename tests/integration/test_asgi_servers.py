"""The gateway on ASGI servers, bare and in Starlette: what is forwarded, as it comes, and what is broken off."""

from __future__ import annotations

import hashlib
import os
import re
import socket

import pytest
from gateway_process import GatewayProcess, assert_error, request
from scripted_upstream import Exchange, Request, ScriptedUpstream, reply

pytestmark = pytest.mark.slow


def test_a_request_arrives_as_it_was_sent(asgi_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())
    target = "/api/a%2Fb;c/%41//x?b=2&a=1&a=%20+"
    assert asgi_gateway.get(target, "Accept: */*", "X-A: 1", "x-a: \xe9", "Cookie: a=b").status == 200
    received = upstream.only_request()
    assert received.target == target  # R9, C5: the bytes that were matched
    assert received.lines[0] == ("Host", upstream.authority)
    sent = [line for line in received.lines[1:] if not line[0].startswith("x-forwarded") and line[0] != "via"]
    assert sorted(sent) == [("accept", "*/*"), ("cookie", "a=b"), ("x-a", "1"), ("x-a", "\xe9")]
    assert received.values("x-forwarded-for") == ["127.0.0.1"]
    assert received.values("x-forwarded-host") == ["gateway.example:81"]
    assert received.values("via") == ["1.1 velithon-proxy"]


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("/strip/me/x%2Fy", "/x%2Fy"),
        ("/strip/me", "/"),
        ("/strip/me/", "/"),
        ("/strip/%6De/x", "/x"),  # the same path, spelled otherwise
        ("/api", "/api"),
        ("/api//evil.example/", "/api//evil.example/"),
        ("/api/%C3%A9/%ff", "/api/%C3%A9/%ff"),
    ],
)
def test_the_path_is_forwarded_byte_for_byte(
    asgi_gateway: GatewayProcess, upstream: ScriptedUpstream, sent: str, received: str
) -> None:
    upstream.answers(reply())
    assert asgi_gateway.get(sent).status == 200
    assert upstream.only_request().target == received


@pytest.mark.parametrize("target", ["/api/../x", "/api/%2e%2e/x", "/api/..%2fx", "/api/a%00b", "/api/%0d%0aX:y"])
def test_paths_that_lead_elsewhere_are_refused(
    asgi_gateway: GatewayProcess, upstream: ScriptedUpstream, target: str
) -> None:
    upstream.answers(reply())
    assert_error(asgi_gateway.get(target), 400)
    assert upstream.ledger.events == []


@pytest.mark.parametrize("target", ["/apix", "/ap", "/api%2Fx", "/", "/x/api"])
def test_other_paths_are_the_applications(
    asgi_gateway: GatewayProcess, upstream: ScriptedUpstream, target: str
) -> None:
    upstream.answers(reply())
    assert asgi_gateway.get(target).values("x-app") == [b"inner"]
    assert upstream.ledger.events == []


def test_only_http_1_0_may_leave_the_host_out(asgi_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())
    for _ in range(2):
        for head, status in ((b"1.0", b"200"), (b"1.1", b"400"), (b"1.1\r\nHost:", b"400")):
            with asgi_gateway.connect() as client:
                client.send(b"GET /api/x HTTP/" + head + b"\r\n\r\n")
                assert client.socket.makefile("rb").readline().split()[1] == status
    received = [request for request in upstream.ledger.of("request") if isinstance(request, Request)]
    assert [request.values("host") for request in received] == [[upstream.authority]] * 2
    assert [request.values("x-forwarded-host") for request in received] == [[]] * 2


def test_bodies_pass_in_both_directions(asgi_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    up, down = os.urandom(5_000_000), os.urandom(5_000_000)
    upstream.answers(reply(body=down))
    answer = asgi_gateway.send(request("POST", "/api/x", body=up))
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(down).digest()
    assert answer.values("content-length") == [b"5000000"]
    received = upstream.only_request()
    assert hashlib.sha256(received.body).digest() == hashlib.sha256(up).digest()
    assert received.values("content-length") == ["5000000"]


def test_a_chunked_upload_is_forwarded_as_it_comes(asgi_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply(body=b"ok"))
    with asgi_gateway.connect() as client:
        client.send(request("POST", "/api/x", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        client.send(b"4\r\ndefg\r\n0\r\n\r\n")
        assert client.answer().body == b"ok"
    received = upstream.only_request()
    assert received.values("transfer-encoding") == ["chunked"]
    assert re.sub(rb"(\r\n|^)[0-9]\r\n", b"", received.body).replace(b"\r\n", b"") == b"abcdefg"


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        (["Content-Length: 10"], b"abc"),
        (["Content-Length: 100000"], b"a" * 70_000),
        (["Transfer-Encoding: chunked"], b"3\r\nabc\r\n"),
        (["Transfer-Encoding: chunked"], b"3\r\nab"),
    ],
    ids=["length", "large", "between chunks", "in a chunk"],
)
def test_an_aborted_upload_is_never_completed(
    asgi_gateway: GatewayProcess, upstream: ScriptedUpstream, lines: list[str], sent: bytes
) -> None:
    upstream.answers(reply(body=b"next"))  # C30
    with asgi_gateway.connect() as client:
        client.send(request("POST", "/api/x", *lines) + sent)
        client.socket.shutdown(socket.SHUT_RDWR)
    assert asgi_gateway.get("/api/next").body == b"next"
    assert [getattr(seen, "target", None) for seen in upstream.ledger.of("request")] == ["/api/next"]


def test_events_arrive_one_by_one(asgi_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            exchange.send(b"9\r\ndata: %d\n\n\r\n" % number)
            exchange.upstream.ledger.wait_for("go", number + 1)
        exchange.send(b"0\r\n\r\n")

    upstream.does(script)
    with asgi_gateway.connect() as client:
        client.send(request("GET", "/api/events"))
        received = b""
        for number in range(3):  # each is there before the next is sent
            while b"data: %d\n\n" % number not in received:
                received += client.socket.recv(65536)
            upstream.ledger.add("go")
        while not received.endswith(b"0\r\n\r\n"):
            received += client.socket.recv(65536)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
    ids=["length", "chunked"],
)
def test_a_response_that_breaks_off_is_broken_off(
    asgi_gateway: GatewayProcess, upstream: ScriptedUpstream, raw: bytes
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(raw)
        exchange.close()

    upstream.does(script)  # R18
    with asgi_gateway.connect() as client:
        client.send(request("GET", "/api/x"))
        received = b""
        try:
            while data := client.socket.recv(65536):
                received += data
        except ConnectionResetError:
            pass
    assert not received.endswith(b"0\r\n\r\n")
    assert b"error" not in received.partition(b"\r\n\r\n")[2]
    upstream.answers(reply(body=b"next"))
    assert asgi_gateway.get("/api/x").body == b"next"


@pytest.mark.parametrize("started", [False, True])
def test_the_upstream_is_left_when_the_client_leaves(
    asgi_gateway: GatewayProcess, upstream: ScriptedUpstream, started: bool
) -> None:
    def script(exchange: Exchange) -> None:
        if started:
            exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        exchange.wait_until_left()

    upstream.does(script)
    with asgi_gateway.connect() as client:
        client.send(request("GET", "/api/leaving"))
        upstream.ledger.wait_for("request")
        if started:
            while b"abc" not in client.socket.recv(65536):
                pass
    assert upstream.ledger.wait_for("left") == ["/api/leaving"]


def test_responses_without_a_body(asgi_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: x\r\n\r\n")
        else:
            exchange.send(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")

    upstream.does(script)
    with asgi_gateway.connect() as client:
        client.send(request("HEAD", "/api/x"))
        assert client.answer(to_head=True).values("content-length") == [b"12345"]
        client.send(request("GET", "/api/x"))
        answer = client.answer()
        assert (answer.status, answer.values("etag")) == (304, [b"x"])


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_length_without_a_body_does_not_cost_the_connection(
    asgi_gateway: GatewayProcess, upstream: ScriptedUpstream, status: str
) -> None:
    """RFC 9110 section 8.6: a 304 may say how long the 200 would be."""
    upstream.does(lambda exchange: exchange.send(f"HTTP/1.1 {status}\r\nContent-Length: 5\r\nETag: x\r\n\r\n".encode()))
    with asgi_gateway.connect() as client:
        for _ in range(3):
            client.send(request("GET", "/api/x"))
            answer = client.answer()
            assert (answer.status, answer.values("etag")) == (int(status[:3]), [b"x"])


def test_failures_are_answered(asgi_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.does(Exchange.wait_until_left)
    assert_error(asgi_gateway.get("/down/x"), 502)
    assert_error(asgi_gateway.get("/slow/x"), 504)
    upstream.answers(reply("200 OK", "Set-Cookie: a=1", "Set-Cookie: b=2", "X-Latin1: \xe9"))
    answer = asgi_gateway.get("/api/x")
    assert answer.values("set-cookie") == [b"a=1", b"b=2"]
    assert answer.values("x-latin1") == [b"\xe9"]


def test_a_websocket_handshake_below_the_prefix_is_refused(
    asgi_gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.answers(reply())
    lines = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    assert asgi_gateway.get("/api/ws", *lines).status >= 400
    assert upstream.ledger.events == []


def test_the_gateways_close_with_the_application(upstream: ScriptedUpstream) -> None:
    upstream.answers(reply(body=b"x"))
    environment = {"UPSTREAM": upstream.url, "FRAMEWORK": "asgi"}
    with GatewayProcess("gateway_apps:asgi", environment=environment, server="uvicorn-h11") as gateway:
        assert gateway.get("/api/x").body == b"x"
        gateway.stop()
        assert "gateways still open: 0" in gateway.output()


@pytest.mark.parametrize("server", ["uvicorn-h11", "granian-asgi", "hypercorn-h11"])
def test_a_middleware_is_an_application_itself(upstream: ScriptedUpstream, server: str) -> None:
    upstream.answers(reply(body=b"x"))
    environment = {"UPSTREAM": upstream.url, "FRAMEWORK": ""}
    mode = "asgi:" * (server == "hypercorn-h11")  # it takes what is no coroutine function for WSGI
    app = f"{mode}gateway_apps:direct"
    with GatewayProcess(app, loop="asyncio", environment=environment, server=server) as gateway:
        assert gateway.get("/api/x").body == b"x"
        assert gateway.get("/other").values("x-app") == [b"inner"]
