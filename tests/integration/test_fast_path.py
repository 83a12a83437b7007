"""The fast path of RSGI takes what needs no decision and nothing else, and does with it what the ordinary way does.

The server is a stand-in, so that objects can be sent which none makes at will; upstream, core and sockets are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from scripted_upstream import Exchange, Request, ScriptedUpstream, reply

from velithon_proxy import ProxyMiddleware
from velithon_proxy.middleware import _fast_path

Lines = list[tuple[str, str]]
HOST = ("host", "public.example")
PLAIN: Lines = [HOST, ("accept", "*/*"), ("x-a", "1"), ("x-a", "2"), ("cookie", "a=b")]


class Headers:
    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def items(self) -> Lines:
        return list(self._lines)


@dataclass
class Scope:
    path: str = "/api/x"
    method: str = "GET"
    proto: str = "http"
    http_version: str = "1.1"
    query_string: str = ""
    authority: str | None = None
    client: Any = "192.0.2.7:4711"
    scheme: str = "http"
    lines: Lines = field(default_factory=lambda: list(PLAIN))

    @property
    def headers(self) -> Headers:
        return Headers(self.lines)


class Sending:
    """A streamed response."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.begun = asyncio.Event()

    async def send_bytes(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.begun.set()


@dataclass
class Protocol:
    """Records what is answered; its client leaves when told to."""

    refuses: BaseException | None = None
    body: bytes = b""
    answers: list[tuple[int, Lines, bytes]] = field(default_factory=list)
    leaves: asyncio.Event = field(default_factory=asyncio.Event)
    watched: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    stream: Sending = field(default_factory=Sending)

    async def __call__(self) -> bytes:
        await asyncio.sleep(0)  # it comes a little later
        return self.body

    async def client_disconnect(self) -> None:
        self.waiting += 1
        self.watched.set()
        try:
            await self.leaves.wait()
        finally:
            self.waiting -= 1

    def response_bytes(self, status: int, lines: Lines, body: bytes) -> None:
        self.answers.append((status, lines, body))
        if self.refuses is not None:
            raise self.refuses

    def response_empty(self, status: int, lines: Lines) -> None:
        self.response_bytes(status, lines, b"")

    def response_stream(self, status: int, lines: Lines) -> Sending:
        self.answers.append((status, lines, b"..."))
        return self.stream


async def ordinary(gateway: ProxyMiddleware, scope: Scope) -> Protocol:
    """Serve a request as if there were no fast path."""
    protocol = Protocol()
    await gateway._rsgi.serve(scope, protocol, scope.path)  # type: ignore[arg-type]
    return protocol


async def fast(gateway: ProxyMiddleware, scope: Scope) -> Protocol:
    """Serve a request that the fast path must take."""
    protocol = Protocol()
    flight = take(gateway, scope, protocol)
    assert flight is not None
    assert await flight == protocol.answers[0][0]
    return protocol


def take(gateway: ProxyMiddleware, scope: object, protocol: object) -> asyncio.Future[int] | None:
    gateway._rsgi._fast.renew()
    return gateway._rsgi._fast.take(scope, protocol)


@contextlib.asynccontextmanager
async def connected(upstream: ScriptedUpstream, **options: Any) -> AsyncIterator[ProxyMiddleware]:
    """A gateway that has served its first request, with a new ledger."""
    options = {"path_prefix": "/api", "max_retries": 0, "max_failures": 1_000_000, **options}
    gateway = ProxyMiddleware(upstream.url, **options)
    upstream.answers(reply(body=b"first"))
    await ordinary(gateway, Scope(path=options["path_prefix"]))
    upstream.answers(reply("200 OK", "X-B: 1", "x-b: 2", "Set-Cookie: a", "Set-Cookie: b", body=b"whole"))
    try:
        yield gateway
    finally:
        gateway.close()


SAME: dict[str, tuple[dict[str, Any], Scope]] = {
    "plain": ({}, Scope()),
    "the prefix itself": ({}, Scope(path="/api")),
    "stripped": ({"strip_prefix": True}, Scope(path="/api/a/b")),
    "stripped to nothing": ({"strip_prefix": True}, Scope(path="/api")),
    "below another path": ({"upstream_path_prefix": "/v1", "strip_prefix": True}, Scope(path="/api/a")),
    "the root": ({"path_prefix": "/"}, Scope(path="/")),
    "a query": ({}, Scope(query_string="a=1&a=2;b=%zz&c=+")),
    "stripped with a query": ({"strip_prefix": True}, Scope(path="/api", query_string="q")),
    "all characters of a path": ({}, Scope(path="/api/-._~!$&'()*+,;=:@/aZ09")),
    "empty segments": ({}, Scope(path="/api//a///")),
    "HEAD": ({}, Scope(method="HEAD")),
    "DELETE": ({}, Scope(method="DELETE")),
    "another method": ({}, Scope(method="PURGE")),
    "a method that is none": ({}, Scope(method="G(T")),
    "a POST without a body": ({}, Scope(method="POST")),
    "keep-alive": ({}, Scope(lines=[*PLAIN, ("connection", "keep-alive"), ("keep-alive", "timeout=5")])),
    "close": ({}, Scope(lines=[*PLAIN, ("connection", "close")])),
    "hop by hop": ({}, Scope(lines=[*PLAIN, ("te", "gzip"), ("upgrade", "h2c"), ("proxy-authorization", "x")])),
    "the host of the client": ({"preserve_host": True}, Scope()),
    "IPv6": ({}, Scope(client="[2001:db8::1]:4711")),
    "Forwarded": ({"forwarded": True}, Scope(scheme="https")),
    "no pseudonym": ({"via": None}, Scope()),
    "a trusted proxy that says nothing": ({"trusted_proxies": ["192.0.2.0/24"]}, Scope()),
    "a stripped prefix is told": ({"strip_prefix": True, "path_prefix": "/api/v2"}, Scope(path="/api/v2/x")),
    "many lines": ({}, Scope(lines=[HOST, *((f"x-{n}", "v" * n) for n in range(200))])),
}


@pytest.mark.parametrize("name", SAME)
async def test_it_does_what_the_ordinary_way_does(upstream: ScriptedUpstream, name: str) -> None:
    options, scope = SAME[name]
    async with connected(upstream, **options) as gateway:
        expected = await ordinary(gateway, scope)
        sent = [request.head for request in upstream.ledger.of("request") if isinstance(request, Request)]
        protocol = await fast(gateway, scope)
        assert protocol.answers == expected.answers
        requests = [request.head for request in upstream.ledger.of("request") if isinstance(request, Request)]
        assert requests == sent * 2


LEFT: dict[str, Scope] = {
    "outside": Scope(path="/apix"),
    "a sibling": Scope(path="/api.evil/x"),
    "dot segments": Scope(path="/api/../secret"),
    "harmless dots": Scope(path="/api/a..b"),
    "a space": Scope(path="/api/a b"),
    "a percent sign": Scope(path="/api/a%2fb"),
    "a backslash": Scope(path="/api\\x"),
    "NUL": Scope(path="/api/\x00"),
    "a query with NUL": Scope(query_string="a\x00b"),
    "a query beyond ASCII": Scope(query_string="é"),
    "beyond ASCII": Scope(path="/api/é"),
    "asterisk": Scope(path="*", method="OPTIONS"),
    "CONNECT": Scope(method="CONNECT"),
    "TRACE": Scope(method="TRACE"),
    "a WebSocket": Scope(proto="ws"),
    "HTTP/1.0": Scope(http_version="1.0"),
    "HTTP/2": Scope(http_version="2", authority="h"),
    "an absolute target": Scope(authority="evil.example"),
    "no host": Scope(lines=PLAIN[1:]),
    "two hosts": Scope(lines=[*PLAIN, HOST]),
    "a host that is none": Scope(lines=[("host", "a b")]),
    "a host with a user": Scope(lines=[("host", "good@evil")]),
    "a host beyond ASCII": Scope(lines=[("host", "é")]),
    "a very long host": Scope(lines=[("host", "h" * 300)]),
    "a body": Scope(method="POST", lines=[*PLAIN, ("content-length", "3")]),
    "an empty body": Scope(method="POST", lines=[*PLAIN, ("content-length", "0")]),
    "a length of blanks": Scope(lines=[*PLAIN, ("content-length", " 0")]),
    "chunks": Scope(method="POST", lines=[*PLAIN, ("transfer-encoding", "chunked")]),
    "named fields": Scope(lines=[*PLAIN, ("connection", "close, x-a")]),
    "an expectation": Scope(lines=[*PLAIN, ("expect", "100-continue")]),
    "max-forwards": Scope(method="OPTIONS", lines=[*PLAIN, ("max-forwards", "0")]),
    "via": Scope(lines=[*PLAIN, ("via", "1.1 velithon-proxy")]),
    "a spoofed client": Scope(lines=[*PLAIN, ("x-forwarded-for", "127.0.0.1")]),
    "a spoofed client in disguise": Scope(lines=[*PLAIN, ("x_forwarded_for", "127.0.0.1")]),
    "forwarded": Scope(lines=[*PLAIN, ("forwarded", "for=127.0.0.1")]),
    "a unix socket": Scope(client=None),
    "no port": Scope(client="unix"),
}


@pytest.mark.parametrize("name", LEFT)
async def test_what_needs_a_decision_is_left(upstream: ScriptedUpstream, name: str) -> None:
    async with connected(upstream) as gateway:
        await fast(gateway, Scope())
        upstream.answers(reply())
        protocol = Protocol()
        assert take(gateway, LEFT[name], protocol) is None
        await fast(gateway, Scope(path="/api/after"))
        assert upstream.only_request().target == "/api/after"
        assert protocol.answers == []


@pytest.mark.parametrize("scope", [object(), Scope(path=7), Scope(lines=[("a",)]), Scope(lines=[(1, 2)]), None])  # type: ignore
async def test_objects_that_are_no_requests_are_left(upstream: ScriptedUpstream, scope: object) -> None:
    async with connected(upstream) as gateway:
        assert take(gateway, scope, Protocol()) is None
        with pytest.raises(TypeError, match="2 arguments"):
            gateway._rsgi._fast.take(scope)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "options",
    [
        {"transform_request": lambda request: None},
        {"transform_response": lambda response: None},
        {"add_request_headers": {"x-a": "b"}},
        {"remove_request_headers": ["x-a"]},
        {"add_response_headers": {"x-a": "b"}},
        {"remove_response_headers": ["x-a"]},
        {"rewrite_location": True},
        {"rewrite_cookies": True},
        {"strategy": "consistent_hash", "hash_on": "client"},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_gateways_that_look_at_every_request_have_none(upstream: ScriptedUpstream, options: Any) -> None:
    async with connected(upstream, **options) as gateway:
        assert take(gateway, Scope(), Protocol()) is None


async def test_the_status_endpoint_is_not_forwarded(upstream: ScriptedUpstream) -> None:
    async with connected(upstream, status_endpoint="/api/-/status") as gateway:
        assert take(gateway, Scope(path="/api/-/status"), Protocol()) is None
        protocol = Protocol()
        await gateway(Scope(path="/api/-/status"), protocol)  # type: ignore[arg-type]
        assert json.loads(protocol.answers[0][2])["path_prefix"] == "/api"


async def test_a_failure_is_answered_and_logged_once(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(upstream) as gateway:
        upstream.answers(b"garbage\r\n\r\n")
        protocol = await fast(gateway, Scope())
        assert protocol.answers == [
            (502, [("content-type", "application/json")], b'{"error": "Bad Gateway", "status": 502}')
        ]
        assert [record.message.split(":")[0] for record in caplog.records] == [
            "GET /api/x -> 502 UpstreamProtocolError"
        ]
        assert upstream.only_request().target == "/api/x"


async def test_what_is_logged_later_is_logged_in_the_context_of_the_request(upstream: ScriptedUpstream) -> None:
    request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(request_id.get())

    def note(error: Exception, response: object) -> None:
        seen.append(request_id.get())

    async def served(gateway: ProxyMiddleware, name: str, protocol: Protocol) -> None:
        request_id.set(name)
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await flight

    logger, handler = logging.getLogger("velithon_proxy"), Handler()
    logger.addHandler(handler)
    try:
        async with connected(upstream, on_error=note) as gateway:
            upstream.answers(b"garbage\r\n\r\n")
            await asyncio.create_task(served(gateway, "one", Protocol()))
            assert seen == ["one", "one"]
            upstream.answers(reply())
            await asyncio.create_task(served(gateway, "two", Protocol(refuses=RuntimeError("closed"))))
            assert seen[2:] == ["two"]
    finally:
        logger.removeHandler(handler)


async def test_header_values_beyond_ascii_are_passed_on(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(upstream, via=None) as gateway:
        upstream.answers(b"HTTP/1.1 200 OK\r\nX-A: \xc3\xa9\r\nX-B: \xe9\r\nContent-Length: 1\r\n\r\nx")
        with caplog.at_level(logging.WARNING):
            protocol = await fast(gateway, Scope())
        assert protocol.answers == [(200, [("X-A", "é"), ("Content-Length", "1")], b"x")]
        assert "left out the field 'X-B'" in caplog.text


async def test_a_response_that_comes_in_pieces_is_streamed(upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n1\n")
        exchange.upstream.ledger.wait_for("more")
        exchange.send(b"2\n")
        exchange.close()

    async with connected(upstream) as gateway:
        upstream.does(script)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await protocol.stream.begun.wait()
        assert not flight.done()
        upstream.ledger.add("more")
        assert await flight == 200
        assert b"".join(protocol.stream.pieces) == b"1\n2\n"


async def test_a_large_body_is_whole(upstream: ScriptedUpstream) -> None:
    body = bytes(range(256)) * 800  # 200 KB: too large to come whole, too small for a pipe
    async with connected(upstream) as gateway:
        upstream.answers(reply(body=body))
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        assert await flight == 200
        assert (b"".join(protocol.stream.pieces) or protocol.answers[0][2]) == body


async def test_a_caller_that_is_cancelled_closes_the_upstreams_connection(upstream: ScriptedUpstream) -> None:
    async with connected(upstream) as gateway:
        upstream.does(Exchange.wait_until_left)
        for moment in ("at once", "when it is watched"):
            protocol = Protocol()
            flight = take(gateway, Scope(path=f"/api/{moment[:2]}"), protocol)
            assert flight is not None
            if moment != "at once":
                await protocol.watched.wait()
            flight.cancel()
            await asyncio.to_thread(upstream.ledger.wait_for, "left", 1 if moment == "at once" else 2)
            assert protocol.answers == []
            assert protocol.waiting == 0
        await quiet(gateway)


async def test_a_caller_that_is_cancelled_during_a_stream_closes_the_upstreams_connection(
    upstream: ScriptedUpstream,
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        exchange.wait_until_left()

    async with connected(upstream) as gateway:
        upstream.does(script)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await protocol.stream.begun.wait()
        flight.cancel()
        await asyncio.to_thread(upstream.ledger.wait_for, "left")
        await quiet(gateway)


async def test_a_client_that_leaves_closes_the_upstreams_connection(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(upstream) as gateway:
        upstream.does(Exchange.wait_until_left)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await protocol.watched.wait()
        protocol.leaves.set()
        with caplog.at_level(logging.INFO):
            assert await flight == 499
        assert protocol.answers == []
        assert "-> 499 ClientGoneError" in caplog.text
        await asyncio.to_thread(upstream.ledger.wait_for, "left")
        await quiet(gateway)


async def test_a_slow_answer_ends_the_watch(upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        exchange.upstream.ledger.wait_for("go")
        exchange.send(reply(body=b"late"))

    async with connected(upstream) as gateway:
        upstream.does(script)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await protocol.watched.wait()
        upstream.ledger.add("go")
        assert await flight == 200
        await asyncio.sleep(0)
        assert protocol.waiting == 0
        assert protocol.answers[0][2] == b"late"


async def test_a_wrapper_that_cannot_watch_its_client_is_served(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrapper:
        def __init__(self, inner: Protocol) -> None:
            self.response_bytes = inner.response_bytes

    def script(exchange: Exchange) -> None:
        exchange.upstream.ledger.wait_for("go")
        exchange.send(reply(body=b"late"))

    async with connected(upstream) as gateway:
        upstream.does(script)
        other, protocol = Protocol(), Protocol()
        with caplog.at_level(logging.DEBUG):
            flight, watched = take(gateway, Scope(), Wrapper(protocol)), take(gateway, Scope(), other)
            assert flight is not None
            assert watched is not None
            await other.watched.wait()  # by the same turn of the clock, and later
            upstream.ledger.add("go")
            assert await asyncio.gather(flight, watched) == [200, 200]
        assert "cannot watch the client's connection" in caplog.text
        assert protocol.answers[0][2] == b"late"


async def test_a_server_that_does_not_take_a_response_is_not_asked_twice(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(upstream) as gateway:
        protocol = Protocol(refuses=RuntimeError("closed"))
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        assert await flight == 499
        assert len(protocol.answers) == 1
        assert "the server did not take a response" in caplog.text


async def test_a_closed_gateway_connects_anew_and_fails_what_was_under_way(upstream: ScriptedUpstream) -> None:
    async with connected(upstream) as gateway:
        upstream.does(Exchange.wait_until_left)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await asyncio.to_thread(upstream.ledger.wait_for, "request")
        gateway.close()
        assert gateway._rsgi._fast.take(Scope(), Protocol()) is None
        assert await flight == 503
        upstream.answers(reply(body=b"again"))
        protocol = Protocol()
        assert await gateway(Scope(), protocol) == 200  # type: ignore[arg-type]
        assert protocol.answers[0][2] == b"again"
        await fast(gateway, Scope())


def test_each_event_loop_has_its_own(upstream: ScriptedUpstream) -> None:
    """Another loop of the same thread, a loop of another thread at the same time, and none at all."""
    gateway = ProxyMiddleware(upstream.url, path_prefix="/api")
    upstream.answers(reply(body=b"x"))

    async def twice() -> Any:
        await ordinary(gateway, Scope())
        await fast(gateway, Scope())
        return gateway._rsgi._fast.take

    old = asyncio.run(twice())
    assert old(Scope(), Protocol()) is None, "its loop does not run any more"

    async def beside() -> None:
        await ordinary(gateway, Scope())
        await fast(gateway, Scope())
        took: list[object] = []
        here = gateway._rsgi._fast.take
        thread = threading.Thread(target=lambda: took.append(here(Scope(), Protocol())))
        thread.start()
        thread.join()
        assert took == [None], "this thread is not the loop's"
        assert old(Scope(), Protocol()) is None

    asyncio.run(beside())
    gateway.close()


def test_two_loops_at_the_same_time_keep_their_answers(upstream: ScriptedUpstream) -> None:
    """Each binds the gateway to itself again and again, also while the other one waits for a body."""
    gateway = ProxyMiddleware(upstream.url, path_prefix="/api", max_retries=0)
    upstream.does(lambda exchange: exchange.send(reply(body=exchange.request.target.encode())))
    together = threading.Barrier(2)

    async def some(name: str) -> None:
        together.wait()
        with_body = [*PLAIN, ("content-length", "1")]
        for n in range(150):
            protocols = {f"/api/{name}/{n}/{m}": Protocol() for m in range(4)}
            served = []
            for path, protocol in protocols.items():
                lines = with_body if path.endswith("0") else PLAIN
                protocol.body = b"x" if path.endswith("0") else b""
                served.append(gateway(Scope(path=path, lines=lines), protocol))  # type: ignore[arg-type]
            assert await asyncio.gather(*served) == [200] * 4
            assert [protocol.answers[0][2] for protocol in protocols.values()] == [path.encode() for path in protocols]

    errors: list[BaseException] = []

    def run(name: str) -> None:
        try:
            asyncio.run(some(name))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gateway.close()
    assert errors == []


async def test_a_server_that_panics_is_not_asked_twice(upstream: ScriptedUpstream) -> None:
    class Panic(BaseException):
        pass

    async with connected(upstream) as gateway:
        protocol = Protocol(refuses=Panic("the server's own"))
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        with pytest.raises(Panic):
            await flight
        assert len(protocol.answers) == 1


async def test_what_stops_a_program_is_not_held_up(upstream: ScriptedUpstream) -> None:
    class Stopping(Scope):
        @property
        def headers(self) -> Headers:
            raise KeyboardInterrupt

    async with connected(upstream) as gateway:
        with pytest.raises(KeyboardInterrupt):
            take(gateway, Stopping(), Protocol())


async def test_header_objects_that_change_their_list_are_left(upstream: ScriptedUpstream) -> None:
    class Text(str):
        __slots__ = ()

        def __hash__(self) -> int:
            shared.clear()
            return super().__hash__()

    class Sharing:
        def items(self) -> Lines:
            return shared

    shared: Lines = [HOST, (Text("x-a"), "1")]
    scope: Any = Scope()
    scope.__class__ = type("Odd", (Scope,), {"headers": Sharing()})
    async with connected(upstream) as gateway:
        assert take(gateway, scope, Protocol()) is None


async def test_a_call_can_become_a_task(upstream: ScriptedUpstream) -> None:
    async with connected(upstream) as gateway:
        for _ in range(3):
            assert await asyncio.create_task(gateway(Scope(), Protocol())) == 200  # type: ignore[arg-type]


async def test_many_at_once_get_their_own_answers(upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(reply(body=exchange.request.target.encode()))

    async with connected(upstream) as gateway:
        upstream.does(script)
        scopes = [Scope(path=f"/api/{n}") for n in range(300)]
        protocols = [Protocol() for _ in scopes]
        flights = [take(gateway, scope, protocol) for scope, protocol in zip(scopes, protocols, strict=True)]
        assert await asyncio.gather(*(flight for flight in flights if flight is not None)) == [200] * 300
        assert [protocol.answers[0][2] for protocol in protocols] == [scope.path.encode() for scope in scopes]


async def test_nothing_is_asked_about_a_peer_twice(upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(upstream) as gateway:
        rules, asked = gateway._gateway._rules, list[Any]()
        real = rules.own_packed
        monkeypatch.setattr(rules, "own_packed", lambda peer: asked.append(peer) or real(peer))
        for client in ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.1:3"):
            await fast(gateway, Scope(client=client))
        assert [peer.address for peer in asked] == ["192.0.2.1", "192.0.2.2"]
        forwarded = [request.values("x-forwarded-for") for request in upstream.ledger.of("request")]  # type: ignore[attr-defined]
        assert forwarded == [["192.0.2.1"], ["192.0.2.1"], ["192.0.2.2"], ["192.0.2.1"]]


def test_a_fast_path_needs_the_kinds_it_names() -> None:
    from velithon_proxy import _bridge

    with pytest.raises(TypeError):
        _bridge.FastPath()  # type: ignore[call-arg]
    assert _fast_path._leave(None, None) is None


async def quiet(gateway: ProxyMiddleware) -> None:
    """Wait until nothing is under way any more."""
    while (await gateway.get_proxy_status())["in_flight"]:  # noqa: ASYNC110 -- the core has no event for it
        await asyncio.sleep(0.001)
    flights = gateway._rsgi._fast._flights
    assert not flights._watched
    assert not flights._left
    assert not flights._tasks
