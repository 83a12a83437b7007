"""What the gateway answers by itself, and what it does when one side leaves; on all servers of conftest.py."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest
from gateway_process import GatewayProcess, assert_error, request
from scripted_upstream import Exchange, ScriptedUpstream, reply

pytestmark = pytest.mark.slow


def test_trace_is_not_allowed(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())  # R27
    answer = gateway.send(request("TRACE", "/api/x", "Cookie: secret"))
    assert_error(answer, 405)
    assert b"GET" in answer.values("allow")[0]
    assert upstream.ledger.events == []


def test_a_websocket_handshake_below_the_prefix_is_refused(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())
    handshake = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]  # fmt: skip
    assert gateway.get("/api/x", *handshake).status == 501
    assert upstream.ledger.events == []


def test_an_unreachable_upstream_is_502(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    answer = gateway.get("/down/x")  # R30
    assert_error(answer, 502)
    assert answer.body == b'{"error": "Bad Gateway", "status": 502}', "nothing of what lies behind the gateway"
    assert "GET /down/x -> 502 ConnectError: GET http://127.0.0.1:1 failed while connecting" in gateway.output()


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", "UpstreamClosedError"),
        (b"HTTP/1.1 200 OK\r\nContent-", "UpstreamClosedError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "UpstreamClosedError"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "UpstreamClosedError"),
        (b"<html>not http</html>\r\n\r\n", "UpstreamProtocolError"),
        (b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", "UpstreamProtocolError"),
        (b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", "UpstreamProtocolError"),
    ],
    ids=["nothing", "half a head", "short body", "no last chunk", "not HTTP", "status 999", "NUL in a field"],
)
def test_a_broken_response_is_502_and_asked_for_once(
    gateway: GatewayProcess, upstream: ScriptedUpstream, raw: bytes, error: str
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(raw)
        exchange.close()

    upstream.does(script)
    seen = len(gateway.output())
    assert_error(gateway.send(request("POST", "/api/x", body=b"effect")), 502)
    # Velithon's router runs a handler that raised a second time: the upstream would have two orders.
    assert len(upstream.ledger.of("request")) == 1
    assert f"POST /api/x -> 502 {error}" in gateway.output()[seen:]


def test_a_reset_connection_is_502(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.does(Exchange.reset)
    assert_error(gateway.send(request("POST", "/api/x", body=b"effect")), 502)
    assert len(upstream.ledger.of("request")) == 1


def test_a_slow_upstream_is_504_and_left(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.does(Exchange.wait_until_left)
    assert_error(gateway.get("/slow/x"), 504)
    assert upstream.ledger.wait_for("left") == ["/slow/x"]
    assert "GET /slow/x -> 504 TotalTimeout" in gateway.output()


def test_the_upstream_is_left_when_the_client_leaves(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.does(Exchange.wait_until_left)
    with gateway.connect() as client:
        client.send(request("GET", "/api/leaving"))
        upstream.ledger.wait_for("request")
    # The limit of this gateway is 30 s, that of the wait less: only the client's leaving can end it.
    assert upstream.ledger.wait_for("left") == ["/api/leaving"]
    assert len(upstream.ledger.of("request")) == 1
    upstream.answers(reply(body=b"next"))
    assert gateway.get("/api/x").body == b"next"


def answers_when_watched(exchange: Exchange) -> None:
    """Answer after the gateway has begun to watch its client, which it does when a request takes more than 10 ms."""
    # The duration is what this is about; nothing is waited for.
    exchange.connection.settimeout(0.04)
    with contextlib.suppress(TimeoutError):
        assert exchange.connection.recv(1, socket.MSG_PEEK), "the gateway left"
    exchange.connection.settimeout(None)
    exchange.send(reply(body=b"slow"))


def test_a_client_that_waited_long_is_still_watched_in_its_next_request(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    """The server tells one waiter of each connection: one that stayed from an earlier request would swallow it."""
    upstream.does(answers_when_watched)
    with gateway.connect() as client:
        for i in range(3):
            client.send(request("GET", f"/api/{i}"))
            assert client.answer().body == b"slow"
        upstream.does(Exchange.wait_until_left)
        client.send(request("GET", "/api/leaving"))
        upstream.ledger.wait_for("request")
    assert upstream.ledger.wait_for("left") == ["/api/leaving"]


def test_watching_leaves_no_task_behind(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.does(answers_when_watched)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gateway.connect()) for _ in range(30)]
        for client in clients:
            client.send(request("GET", "/api/x"))
        for client in clients:
            assert client.answer().body == b"slow"
        for client in clients:  # some in each worker
            client.send(request("GET", "/ready"))
            # The server's own, this request's, and that of a request whose answer has just been sent.
            assert json.loads(client.answer().body)["tasks"] <= 3


def test_each_worker_forwards(
    gateway: GatewayProcess, upstream: ScriptedUpstream, request: pytest.FixtureRequest
) -> None:
    upstream.answers(reply(body=b"x"))
    workers = request.node.callspec.params["gateway"][2]
    seen = gateway.wait_for_workers(workers)
    assert gateway.process.pid not in seen
    while seen:
        with gateway.connect() as client:
            client.send(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
            seen.discard(json.loads(client.answer().body)["pid"])
            client.send(b"GET /api/x HTTP/1.1\r\nHost: a\r\n\r\n")  # the same connection, so the same worker
            assert client.answer().body == b"x"
