"""Statuses, header fields and bodies on their way to the client; on all servers of conftest.py."""

from __future__ import annotations

import pytest
from gateway_process import GatewayProcess, request
from scripted_upstream import Exchange, ScriptedUpstream, reply

pytestmark = pytest.mark.slow


def test_all_header_lines_come_back(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    lines = ["Set-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "X-B: 1", "Set-Cookie: b=2", "x-b: 2",
             "Set-Cookie: a=1; Path=/x", "WWW-Authenticate: Basic", "X-Empty:", "Content-Type: a/b",
             "Date: Thu, 01 Jan 1970 00:00:00 GMT", "Server: up"]  # fmt: skip
    upstream.answers(reply("200 Whatever", *lines, body=b"x"))
    answer = gateway.get("/api/x")
    sent = [(name.lower(), value.strip().encode()) for name, _, value in (line.partition(":") for line in lines)]
    for name, _ in sent:
        assert answer.values(name) == [value for other, value in sent if other == name]
    assert len(answer.lines) == len(sent) + 2
    assert answer.values("via") == [b"1.1 velithon-proxy"]
    assert answer.values("content-length") == [b"1"]


def test_response_fields_of_the_connection_are_not_forwarded(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    lines = ["Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Authenticate: Basic", "X-Kept: 1",
             "Upgrade: h2c", "Proxy-Connection: close", "Trailer: X-T"]  # fmt: skip
    upstream.answers(reply("200 OK", *lines, body=b"x"))
    names = {name for name, _ in gateway.get("/api/x").lines}
    assert b"x-kept" in names
    assert names <= {b"x-kept", b"server", b"date", b"content-length", b"via"}


def test_header_values_in_utf8_pass_and_others_are_left_out(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.answers(reply("200 OK", "X-Utf8: \xc3\xa9\xf0\x9f\x8d\xb5", "X-Latin1: \xe9", "X-Kept: 1", body=b"x"))
    answer = gateway.get("/api/x")  # U21
    assert (answer.status, answer.body) == (200, b"x")
    assert answer.values("x-utf8") == ["é🍵".encode()]
    assert answer.values("x-latin1") == []
    assert answer.values("x-kept") == [b"1"]
    assert "left out the field 'X-Latin1'" in gateway.output()


@pytest.mark.parametrize("status", [200, 201, 206, 299, 301, 400, 404, 418, 451, 500, 502, 503, 599])
def test_statuses_are_forwarded_with_their_bodies(
    gateway: GatewayProcess, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.answers(reply(f"{status} X", "Location: http://elsewhere.example/", body=bytes(range(256))))
    answer = gateway.get("/api/x")
    assert (answer.status, answer.body) == (status, bytes(range(256)))
    assert answer.values("location") == [b"http://elsewhere.example/"]  # redirects are the client's
    assert len(upstream.ledger.of("request")) == 1


@pytest.mark.parametrize(
    "raw",
    [
        reply(body=b""),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + reply(body=b"abc"),
    ],
    ids=["empty", "chunked", "after 103"],
)
def test_every_framing_arrives_with_a_length(gateway: GatewayProcess, upstream: ScriptedUpstream, raw: bytes) -> None:
    upstream.answers(raw)
    answer = gateway.get("/api/x")
    assert (answer.status, answer.body) == (200, b"abc" if b"abc" in raw else b"")
    assert answer.values("content-length") == [b"%d" % len(answer.body)]
    assert (answer.values("transfer-encoding"), answer.values("link")) == ([], [])


def test_a_response_that_ends_with_its_connection_is_complete(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(reply(body=b"all of it", length=False))
        exchange.close()

    upstream.does(script)
    answer = gateway.get("/api/x")
    assert (answer.status, answer.body) == (200, b"all of it")


def test_head_keeps_the_length_and_has_no_body(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: x\r\n\r\n")
        else:
            exchange.send(reply(body=b"next"))

    upstream.does(script)  # R23
    with gateway.connect() as client:
        client.send(request("HEAD", "/api/x"))
        answer = client.answer(to_head=True)
        assert (answer.values("content-length"), answer.values("etag")) == ([b"12345"], [b"x"])
        client.send(request("GET", "/api/y"))
        assert client.answer().body == b"next"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body_have_none(gateway: GatewayProcess, upstream: ScriptedUpstream, status: str) -> None:
    def script(exchange: Exchange) -> None:
        if exchange.request.target == "/api/x":
            exchange.send(reply(status, "ETag: x", length=False))
        else:
            exchange.send(reply(body=b"next"))

    upstream.does(script)
    with gateway.connect() as client:
        client.send(request("GET", "/api/x"))
        answer = client.answer()
        assert (answer.status, answer.values("etag")) == (int(status[:3]), [b"x"])
        assert answer.values("content-length") == answer.values("transfer-encoding") == []
        client.send(request("GET", "/api/y"))
        assert client.answer().body == b"next"
