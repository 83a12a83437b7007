"""Rows C1 to C36 through every server, and the opinion of other gateways on those about framing.

What reaches the upstream is exactly what was accepted, each request with one Host and one framing, and the worker
answers the next client.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import oracles
import pytest
from gateway_process import GatewayProcess
from request_rows import FORWARDED, FRAMING, REFUSED, ROWS, RequestRow
from scripted_upstream import Request, ScriptedUpstream, reply

pytestmark = pytest.mark.slow

SERVERS = [
    ("velithon", "uvloop", "granian-rsgi"),
    ("asgi", "uvloop", "granian-asgi"),
    ("asgi", "asyncio", "uvicorn-h11"),
    ("asgi", "uvloop", "uvicorn-httptools"),
    ("asgi", "asyncio", "hypercorn-h11"),
]
MARK = b"x-upstream: 1"
OK = reply("200 OK", "X-Upstream: 1", body=b"ok")

# What the server in front has made of a row before the gateway sees it: h11 skips extensions of chunks unread.
REPAIRED = {(server, "C19 chunk b'3;\\rx\\r\\nabc\\r\\n0\\r\\n\\r\\n'") for server in ("uvicorn-h11", "hypercorn-h11")}


# httptools tells of trailers as of header fields, and nobody can tell them apart any more: docs/asgi.md.
MERGED = {("uvicorn-httptools", "C24 trailers of no framing")}


@dataclass
class Outcome:
    """What a row has led to."""

    answer: bytes
    requests: list[Request] = field(default_factory=list)
    accepted: int = 0


def exchange(port: int, row: RequestRow, upstream: ScriptedUpstream) -> Outcome:
    """Send a row, read what comes back until the server closes, and collect what the upstream has received."""
    upstream.answers(OK)
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        try:
            client.sendall(row.data)
            client.settimeout(0.15 if row.ends else 2.0)
            with contextlib.suppress(TimeoutError):
                while data := client.recv(65536):
                    received += data
            if row.ends and not received:  # it waits for the rest, which does not come
                client.shutdown(socket.SHUT_WR)
                client.settimeout(2.0)
                while data := client.recv(65536):
                    received += data
        except OSError:
            pass
    if row.ends:
        time.sleep(0.03)  # what was pipelined before the end may still be on its way
    requests = [event for event in upstream.ledger.of("request") if isinstance(event, Request)]
    return Outcome(received, requests, len(re.findall(MARK, received.lower())))


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@dataclass
class Server:
    """A server with our gateway, and what it made of the rows so far."""

    name: str
    gateway: GatewayProcess
    upstream: ScriptedUpstream
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])

    def outcome(self, row: RequestRow) -> Outcome:
        if row.name not in self.outcomes:
            self.outcomes[row.name] = exchange(self.gateway.port, row, self.upstream)
        return self.outcomes[row.name]


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: server[2])
def server(request: pytest.FixtureRequest, upstream: ScriptedUpstream) -> Iterator[Server]:
    kind, loop, name = request.param
    environment = {"UPSTREAM": upstream.url, "FRAMEWORK": kind}
    with GatewayProcess(f"gateway_apps:{kind}", loop=loop, environment=environment, server=name) as gateway:
        yield Server(name, gateway, upstream)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"[^\x21-\x7e]+", "-", row.name)[:60])
def test_a_hostile_request(server: Server, upstream: ScriptedUpstream, row: RequestRow) -> None:
    outcome = server.outcome(row)
    received = outcome.requests
    for request in received:
        names = [line_name.lower() for line_name, _ in request.lines]
        assert names.count("host") == 1
        assert names.count("content-length") + names.count("transfer-encoding") <= 1
        unwanted = {"te", "trailer", "upgrade", "http2-settings", "expect", "x-secret", "x-admin"} & set(names)
        assert unwanted == ({"x-admin"} if (server.name, row.name) in MERGED else set())
        assert re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", request.head.replace(b"\r\n", b"")) is None
        assert b"smuggled" not in request.head
        assert b"evil" not in b" ".join(value.encode("latin-1") for line, value in request.lines if line != "host")
    heads = 1 if row.data.startswith(b"HEAD") else outcome.accepted
    assert len(received) <= row.most
    if row.ends:  # the client has left before it got all of its answers
        assert len(received) >= outcome.accepted
    elif received or outcome.accepted:
        assert len(received) == max(heads, outcome.accepted)
    if row.expect == REFUSED:
        assert received == []
        assert outcome.accepted == 0
    elif row.expect == FORWARDED:
        assert len(received) == 1, outcome.answer[:200]
    if row.target:
        assert {request.target for request in received} <= {row.target}

    upstream.answers(reply(body=b"next"))
    assert server.gateway.get("/api/next").body == b"next"
    assert upstream.only_request().target == "/api/next"


@pytest.fixture(scope="module")
def opinions(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The rows about framing of which a request reached the upstream, by oracle."""
    found: dict[str, set[str]] = {}
    for name in oracles.ORACLES:
        if oracles.missing(name):
            continue
        with oracles.running(name, upstream.url, tmp_path_factory.mktemp(name)) as port:
            found[name] = {row.name for row in FRAMING if exchange(port, row, upstream).requests}
    return found


def test_nothing_is_forwarded_that_no_other_gateway_forwards(server: Server, opinions: dict[str, set[str]]) -> None:
    if len(opinions) < len(oracles.ORACLES):
        pytest.skip("; ".join(filter(None, map(oracles.missing, oracles.ORACLES))))
    ours = {row.name for row in FRAMING if server.outcome(row).requests}
    looser = ours - set[str]().union(*opinions.values())
    assert looser <= {row for name, row in REPAIRED if name == server.name}
