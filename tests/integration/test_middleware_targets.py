"""Which requests a gateway forwards, with which target and to which host; on all servers of conftest.py.

The ids in comments (C1, R8 ...) are rows of the conformance tables.
"""

from __future__ import annotations

import json

import pytest
from gateway_process import GatewayProcess, assert_error, assert_is_from_the_app
from scripted_upstream import ScriptedUpstream, reply

pytestmark = pytest.mark.slow


def test_the_upstream_receives_the_request_as_it_was_sent(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())
    assert gateway.get("/api/x?b=2&a=1", "Accept: */*", "X-A: 1", "X-B: 2", "x-a: 3", "Cookie: a=b; c").status == 200
    # R9, R10: nothing is added, joined or dropped. Granian gives names in lower case and lines of one name together.
    assert upstream.only_request().head == (
        b"GET /api/x?b=2&a=1 HTTP/1.1\r\n"
        b"Host: " + upstream.authority.encode() + b"\r\n"
        b"accept: */*\r\nx-a: 1\r\nx-a: 3\r\nx-b: 2\r\ncookie: a=b; c\r\n"
        b"x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: gateway.example:81\r\n"
        b"x-forwarded-port: 81\r\nvia: 1.1 velithon-proxy"
    )


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("/api", "/api"),
        ("/api/", "/api/"),
        ("/api?", "/api"),  # RSGI does not tell the two apart
        ("/api//evil.example/x", "/api//evil.example/x"),  # C1
        ("/api/http://evil.example/", "/api/http://evil.example/"),
        ("/api/a@evil.example:80/", "/api/a@evil.example:80/"),
        ("/api/a;b=c,d:e!$&'()*+~-._", "/api/a;b=c,d:e!$&'()*+~-._"),
        ("/api/a%20%22%3C%3E%5B%5C%5D%5E%60%7B%7C%7D", "/api/a%20%22%3C%3E%5B%5C%5D%5E%60%7B%7C%7D"),  # C8
        ("/api/%3f%23%25", "/api/%3F%23%25"),  # C6
        ("/api/%C3%A9/%F0%9F%8D%B5", "/api/%C3%A9/%F0%9F%8D%B5"),
        ("/api/%zz", "/api/%25zz"),
        ("/api/%41%2fb", "/api/A/b"),  # C5: RSGI paths are decoded
        ("/api/a/../b/./c", "/api/a/../b/./c"),  # C4: inside of the prefix
        ("/api/..a/b..", "/api/..a/b.."),
        ("/api/x?a=1&a=2;b=3&=&a=%zz&&+%20?/", "/api/x?a=1&a=2;b=3&=&a=%zz&&+%20?/"),  # C9
        ("/api/x?q=../../etc", "/api/x?q=../../etc"),
        ("/strip/me", "/"),
        ("/strip/me?a", "/?a"),
        ("/strip/me/", "/"),
        ("/strip/me/x/", "/x/"),
        ("/strip/me//evil.example/x", "//evil.example/x"),
        ("/strip/me/strip/me", "/strip/me"),
        ("http://evil.example/api/x?a", "/api/x?a"),  # C3: absolute-form
    ],
)
def test_the_target_is_forwarded(gateway: GatewayProcess, upstream: ScriptedUpstream, sent: str, received: str) -> None:
    upstream.answers(reply())
    assert gateway.get(sent).status == 200
    assert upstream.only_request().target == received
    assert upstream.only_request().values("host") == [upstream.authority]


def test_ten_thousand_query_parameters_pass_unchanged(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())
    query = "&".join(f"p{i}={i}" for i in range(5000)) + "&a" * 5000
    assert gateway.get(f"/api?{query}").status == 200
    assert upstream.only_request().target == f"/api?{query}"


@pytest.mark.parametrize(
    "path",
    ["/apix", "/apix/y", "/api@evil.example/x", "/api:80@evil.example/", "/api.evil/x", "/api%5Cx", "/API/x",
     "/api;x", "/strip/mex", "/strip", "/x/api", "//api", "/"],
)  # fmt: skip
def test_other_paths_reach_the_application_alone(
    gateway: GatewayProcess, upstream: ScriptedUpstream, path: str
) -> None:
    upstream.answers(reply())  # C2
    answer = gateway.get(f"{path}?a=%20b")
    assert_is_from_the_app(answer)
    if answer.status == 200:
        assert json.loads(answer.body)["query"] == "a=%20b"
    assert upstream.ledger.events == []


@pytest.mark.parametrize(
    "path",
    ["/api/%00", "/api/%0d%0aX-Evil:%20y", "/api/%09", "/api/%7f", "/api/%ff", "/api/%C3", "/api/%ED%A0%80",
     "/api/%EF%BF%BD", "/api/..", "/api/../secret", "/api/%2e%2e/secret", "/api/..%2fsecret", "/api/..;/secret",
     "/api/%2e%2e;x/secret", "/api/..%5csecret", "/api/x/../../y", "/api/x//../../y", "/api/./../y",
     "/strip/me/../api"],
)  # fmt: skip
def test_an_ambiguous_path_is_refused(gateway: GatewayProcess, upstream: ScriptedUpstream, path: str) -> None:
    upstream.answers(reply())  # C4, C6, C7
    assert_error(gateway.get(path), 400)
    assert upstream.ledger.events == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /api HTTP/1.1\r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: \r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: a b\r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: evil@good\r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: a/b\r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: [::1\r\n", 400),
        (b"GET http://u:p@evil.example/api HTTP/1.1\r\nHost: evil.example\r\n", 400),
        (b"GET /api HTTP/1.1\r\nHost: EXAMPLE.com.:8080\r\n", 200),
        (b"GET /api HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n", 200),
        (b"GET /api HTTP/1.0\r\n", 200),
    ],
)
def test_a_request_must_name_its_host_clearly(
    gateway: GatewayProcess, upstream: ScriptedUpstream, head: bytes, status: int
) -> None:
    upstream.answers(reply())
    answer = gateway.send(head + b"\r\n")
    if status == 200:
        assert answer.status == 200
        assert upstream.only_request().values("host") == [upstream.authority]
    else:
        assert_error(answer, 400)
        assert upstream.ledger.events == []


def test_a_request_of_http_1_0_without_a_host_permits_no_other(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.answers(reply())
    for _ in range(3):
        assert gateway.send(b"GET /api HTTP/1.0\r\n\r\n").status == 200
        assert_error(gateway.send(b"GET /api HTTP/1.1\r\nHost:\r\n\r\n"), 400)
    assert len(upstream.ledger.of("request")) == 3


def test_preserve_host_sends_what_the_client_asked_for(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply())
    assert gateway.get("/host/x").status == 200
    assert upstream.only_request().values("host") == ["gateway.example:81"]

    upstream.answers(reply())
    assert gateway.get("http://absolute.example:82/host/x").status == 200  # RFC 9112 section 3.2.2
    assert upstream.only_request().values("host") == ["absolute.example:82"]

    upstream.answers(reply())
    assert gateway.send(b"GET /host/x HTTP/1.0\r\n\r\n").status == 200
    assert upstream.only_request().values("host") == [upstream.authority]
