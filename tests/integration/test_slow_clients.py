"""Clients that take a large response slowly, break it off, or get one that breaks off: on RSGI through a pipe."""

from __future__ import annotations

import hashlib
import os
import socket
import time

import pytest
from gateway_process import GatewayProcess, request
from scripted_upstream import Exchange, ScriptedUpstream, reply

pytestmark = pytest.mark.slow

SIZE = 70_000_000
PIECE = os.urandom(1_000_000)
HELD = 45_000_000
"""More than the buffers on the way may hold: where Linux may, the socket of a fast reader grows to 32 MB."""

HEADS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
}


def sends_much(framing: str) -> object:
    def script(exchange: Exchange) -> None:
        exchange.send(HEADS[framing])
        for _ in range(SIZE // len(PIECE)):
            exchange.send(PIECE if framing == "length" else b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
            exchange.upstream.ledger.add("sent")
        if framing == "chunked":
            exchange.send(b"0\r\n\r\n")

    return script


def waits_for_the_client(server: GatewayProcess, upstream: ScriptedUpstream, framing: str) -> None:
    upstream.does(sends_much(framing))  # type: ignore[arg-type]
    with server.connect() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(request("GET", "/api/large"))
        before = -1
        while (sent := len(upstream.ledger.of("sent"))) != before:
            before = sent
            time.sleep(0.3)
        assert 0 < sent * len(PIECE) <= HELD
        body = client.answer().body
    assert hashlib.sha256(body).digest() == hashlib.sha256(PIECE * (SIZE // len(PIECE))).digest()


@pytest.mark.parametrize("framing", list(HEADS))
def test_the_upstream_waits_for_a_slow_client(
    gateway: GatewayProcess, upstream: ScriptedUpstream, framing: str
) -> None:
    waits_for_the_client(gateway, upstream, framing)


@pytest.mark.parametrize("framing", list(HEADS))
def test_the_upstream_waits_for_a_slow_client_on_asgi(
    asgi_gateway: GatewayProcess, upstream: ScriptedUpstream, framing: str
) -> None:
    waits_for_the_client(asgi_gateway, upstream, framing)


@pytest.mark.parametrize("framing", list(HEADS))
def test_a_client_that_leaves_a_large_response(
    gateway: GatewayProcess, upstream: ScriptedUpstream, framing: str
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.connection.settimeout(10)
        try:
            sends_much(framing)(exchange)  # type: ignore[operator]
        except OSError as error:
            exchange.upstream.ledger.add("left", type(error).__name__)
            raise

    upstream.does(script)
    with gateway.connect() as client:
        client.send(request("GET", "/api/large"))
        client.socket.recv(65536)
    assert upstream.ledger.wait_for("left")[0] in ("BrokenPipeError", "ConnectionResetError")
    upstream.answers(reply(body=b"next"))
    assert gateway.get("/api/x").body == b"next"


def test_a_large_response_that_breaks_off_is_seen_to(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(HEADS["length"] + PIECE[:100])
        exchange.upstream.ledger.wait_for("go")
        exchange.close()

    upstream.does(script)
    with gateway.connect() as client:
        client.send(request("GET", "/api/large"))
        received = b""
        while not received.endswith(PIECE[:100]):  # a server drops what it has not yet sent of a body that fails
            received += client.socket.recv(65536)
        upstream.ledger.add("go")
        while data := client.socket.recv(65536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == PIECE[:100]
