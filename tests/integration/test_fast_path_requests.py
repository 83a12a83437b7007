"""Which requests the fast path of RSGI takes, which it leaves, and that it does what the ordinary way does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fast_path_gateway import connected, fast, ordinary, take
from rsgi_server import HOST, PLAIN, Headers, Lines, Protocol, Scope
from scripted_upstream import Request, ScriptedUpstream, reply

from velithon_proxy.middleware import _fast_path

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


async def test_what_stops_a_program_is_not_held_up(upstream: ScriptedUpstream) -> None:
    class Stopping(Scope):
        @property
        def headers(self) -> Headers:
            raise KeyboardInterrupt

    async with connected(upstream) as gateway:
        with pytest.raises(KeyboardInterrupt):
            take(gateway, Stopping(), Protocol())


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
