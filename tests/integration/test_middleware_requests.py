"""Methods, header fields and bodies of requests on their way to the upstream; on all servers of conftest.py."""

from __future__ import annotations

import hashlib
import os
import socket

import pytest
from gateway_process import GatewayProcess, assert_error, request
from scripted_upstream import ScriptedUpstream, reply

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PURGE", "get", "M-SEARCH", "PROPFIND"])
def test_methods_are_forwarded_verbatim(gateway: GatewayProcess, upstream: ScriptedUpstream, method: str) -> None:
    upstream.answers(reply())
    assert gateway.send(request(method, "/api/x")).status == 200
    assert upstream.only_request().method == method
    assert upstream.only_request().values("content-length") == []


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT"])
def test_bodies_are_forwarded_with_any_method(gateway: GatewayProcess, upstream: ScriptedUpstream, method: str) -> None:
    upstream.answers(reply())  # C20
    body = bytes(range(256))
    assert gateway.send(request(method, "/api/x", body=body)).status == 200
    assert upstream.only_request().body == body
    assert upstream.only_request().values("content-length") == ["256"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_an_absent_body_is_forwarded_as_an_empty_one(
    gateway: GatewayProcess, upstream: ScriptedUpstream, method: str
) -> None:
    upstream.answers(reply())
    assert gateway.send(request(method, "/api/x", "Content-Length: 0")).status == 200
    assert upstream.only_request().values("content-length") == ["0"]


def test_a_chunked_upload_is_forwarded_with_its_length(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())
    chunks = b"3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nX-Trailer: t\r\n\r\n"
    assert gateway.send(request("POST", "/api/x", "Transfer-Encoding: chunked") + chunks).status == 200
    seen = upstream.only_request()
    assert (seen.body, seen.values("content-length")) == (b"abc0123456789abcdef", ["19"])
    assert (seen.values("transfer-encoding"), seen.values("x-trailer")) == ([], [])


def test_an_expectation_is_met_by_the_server_and_not_forwarded(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.answers(reply())  # R6
    with gateway.connect() as client:
        client.send(request("POST", "/api/x", "Expect: 100-continue", "Content-Length: 3"))
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.answer().status == 200
    assert (upstream.only_request().body, upstream.only_request().values("expect")) == (b"abc", [])


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        (["Content-Length: 10"], b"abc"),
        (["Transfer-Encoding: chunked"], b"3\r\nabc\r\n"),
        (["Transfer-Encoding: chunked"], b"3\r\nab"),
    ],
    ids=["length", "between chunks", "in a chunk"],
)
def test_an_aborted_upload_is_never_forwarded(
    gateway: GatewayProcess, upstream: ScriptedUpstream, lines: list[str], sent: bytes
) -> None:
    upstream.answers(reply())  # C30
    with gateway.connect() as client:
        client.send(request("POST", "/api/x", *lines) + sent)
        client.socket.shutdown(socket.SHUT_WR)
        assert_error(client.answer(), 400)
    assert upstream.ledger.events == []


def test_five_megabytes_pass_in_both_directions(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    up, down = os.urandom(5_000_000), os.urandom(5_000_000)
    upstream.answers(reply(body=down))
    answer = gateway.send(request("POST", "/api/x", body=up))
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(down).digest()
    assert hashlib.sha256(upstream.only_request().body).digest() == hashlib.sha256(up).digest()


def test_fields_of_the_connection_are_not_forwarded(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())  # R1, C11, C12
    lines = ["Connection:", "Connection: keep-alive, X-Secret,, x-other", "X-Secret: 1", "X-Other: 2", "X-Kept: 3",
             "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: trailers", "Trailer: X-T", "Upgrade: h2c",
             "HTTP2-Settings: AAMAAABkAAQAAP__", "Proxy-Authorization: Basic eDp5",
             "Connection: content-length, host"]  # fmt: skip
    assert gateway.send(request("POST", "/api/x", *lines, body=b"abc")).status == 200
    lines = upstream.only_request().lines
    assert (lines[0], lines[1], lines[-1]) == (("Host", upstream.authority), ("x-kept", "3"), ("Content-Length", "3"))
    own = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "via"}
    assert {name for name, _ in lines[2:-1]} == own


def test_pipelined_requests_are_forwarded_one_by_one(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.does(lambda exchange: exchange.send(reply(body=exchange.request.target.encode())))  # C21
    with gateway.connect() as client:
        client.send(b"".join(request("POST", f"/api/{i}", body=b"GET /api/x HTTP/1.1\r\n\r\n") for i in range(10)))
        assert [client.answer().body for _ in range(10)] == [f"/api/{i}".encode() for i in range(10)]
    assert len(upstream.ledger.of("request")) == 10
