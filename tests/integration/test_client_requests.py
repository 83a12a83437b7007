"""What a request looks like on the wire, and what is refused before anything is sent."""

from __future__ import annotations

import array
import asyncio
import hashlib
import os
from typing import Any

import pytest
from client_upstream import answer, client_of, echo, on_loops, replying
from multidict import CIMultiDict

from velithon_proxy import Headers, InvalidHeaderError, InvalidRequestError

PATHS = [
    "/",
    "//",
    "///x",
    "/a%2Fb%2f%5c",
    "//evil/?u=http://x",
    "//evil:80@evil/",
    "/@evil",
    "/http://evil/",
    "/..;/admin",
    "/a/../../b",
    "/%2e%2e/./c",
    "/a?",
    "/a??b",
    "/a?b=c&b=c&d&=&e=%zz;f",
    "/a?next=http://evil/#".replace("#", "%23"),
    "/%00%0d%0a",
    "/%C3%A9%ff",
    "/~!$&'()*+,;=:@",
    '/"<>\\^`{|}',
    "/" + "a" * 30_000,
    "/?" + "&".join(f"p{i}={i}" for i in range(3000)),
]

BAD_PATHS = [
    *("", "a", "@evil", ":80/", "http://evil/", "?a", "#a", " /", "\\a", "*", "//"[:0]),
    *("/a b", "/a\tb", "/a\nb", "/a\rb", "/\r\nHost: evil\r\n\r\n", "/a\x00", "/\x01", "/\x7f", "/a#b", "/#"),
    *("/\xe9", "/\u20ac", "/\ud800", "/a ", "/a HTTP/1.1\r\nX: y"),
]

METHODS = ["GET", "get", "DELETE", "M-SEARCH", "PROPFIND", "!#$%&'*+-.^_`|~9", "X" * 64]
BAD_METHODS = [
    "",
    "G ET",
    " GET",
    "GET ",
    "GET\r\nX: y",
    "GET\x00",
    "G\xc9T",
    "(x)",
    "A/B",
    "X" * 65,
    "CONNECT",
    "\ud800",
]

BAD_NAMES = ["", "a b", "a:", ":a", "a\r\nb", "a\n", "\x00", "\x7f", "\xe9", "(a)", "a,b", " a", "a\t", "x" * 10 + '"']
BAD_VALUES = ["a\r\nb: c", "a\nb", "a\r", "\x00", "a\x01", "\x7f", "\x1b[0m", "\r\n", "a\x0bb"]
BAD_HOSTS = ["", "a b", "evil@good", "a/b", "a:99999", "a:0", "a:x", "::1", "[::1", "[x]", "a,b", "a?b", "a#b", "a\\b"]


@on_loops("asyncio", "uvloop", "rloop")
async def test_paths_are_sent_byte_for_byte_and_never_change_the_host() -> None:
    async with client_of(replying(echo)) as (client, upstream):
        for path in PATHS:
            response = await client.forward_request("GET", path)
            assert response.headers["x-target"] == path
            assert upstream.requests[-1].line == f"GET {path} HTTP/1.1".encode()
            assert upstream.requests[-1].values("host") == [b"127.0.0.1:%d" % upstream.port]
        assert upstream.connections == 1


async def test_asterisk_is_a_path_for_options_only() -> None:
    async with client_of(replying(answer())) as (client, upstream):
        await client.forward_request("OPTIONS", "*")
        assert upstream.requests[0].line == b"OPTIONS * HTTP/1.1"
        with pytest.raises(InvalidRequestError):
            await client.forward_request("GET", "*")


async def _assert_refused(error: Any, *calls: tuple[Any, ...]) -> None:
    """Each call raises, and none of them has reached the upstream when a good one does."""
    async with client_of(replying(answer(b"good"))) as (client, upstream):
        for call in calls:
            with pytest.raises(error) as raised:
                await client.forward_request(*call)
            message = str(raised.value)
            assert "\n" not in message, message
            assert "\r" not in message, message
            assert "\x00" not in message, message
        assert upstream.ledger == []
        assert (await client.forward_request("GET", "/good")).body == b"good"
        assert [request.target for request in upstream.requests] == [b"/good"]
        assert upstream.connections == 1


async def test_bad_paths_are_refused_with_nothing_sent() -> None:
    await _assert_refused(ValueError, *(("GET", path) for path in BAD_PATHS))
    await _assert_refused(ValueError, *(("GET", path, None, None, {"a": "b"}) for path in BAD_PATHS))
    await _assert_refused(TypeError, *(("GET", path) for path in (None, b"/", 1, ["/"])))


async def test_bad_methods_are_refused_with_nothing_sent() -> None:
    await _assert_refused(ValueError, *((method, "/") for method in BAD_METHODS))
    await _assert_refused(TypeError, *((method, "/") for method in (None, b"GET", 1)))


async def test_bad_headers_are_refused_with_nothing_sent() -> None:
    await _assert_refused(InvalidHeaderError, *(("GET", "/", [("ok", "1"), (name, "v")]) for name in BAD_NAMES))
    await _assert_refused(InvalidHeaderError, *(("GET", "/", {"x": value}) for value in BAD_VALUES))
    await _assert_refused(InvalidHeaderError, *(("GET", "/", Headers({"x": value})) for value in BAD_VALUES))
    await _assert_refused(InvalidHeaderError, *(("GET", "/", {b"x": value.encode()}) for value in BAD_VALUES))
    await _assert_refused(InvalidHeaderError, ("GET", "/", {"x": "\u20ac"}), ("GET", "/", {"\u20ac": "x"}))
    await _assert_refused(
        TypeError,
        *(("GET", "/", headers) for headers in (1, "a: b", b"a: b", {"a": 1}, {"a": None}, {1: "a"}, [("a",)], ["ab"])),
        *(("GET", "/", headers) for headers in ({"a": ["b"]}, [("a", "b", "c")], [None], {"a"}, object())),
    )


async def test_refused_values_are_not_shown() -> None:
    async with client_of(replying(answer())) as (client, _):
        for headers in (
            {"authorization": "secret\n"},
            {"authorization": "secret\u20ac"},
            [("authorization", "secret", 1)],
        ):
            with pytest.raises((InvalidHeaderError, TypeError)) as raised:
                await client.forward_request("GET", "/", headers)
            assert "secret" not in str(raised.value)


async def test_methods_are_sent_as_given() -> None:
    async with client_of(replying(answer())) as (client, upstream):
        for method in METHODS:
            await client.forward_request(method, "/")
        assert [request.line.split()[0].decode() for request in upstream.requests] == METHODS


@on_loops("asyncio", "uvloop")
async def test_a_request_is_exactly_what_was_given() -> None:
    lines = [
        ("zeta", "1"),
        ("ALPHA", "2"),
        ("x-Twice", "a"),
        ("Empty", ""),
        ("X-TWICE", "b"),
        ("x-latin", "caf\xe9 \xff"),
        ("x-bytes", "\u20ac".encode()),
        (b"x-name-in-bytes", "v"),
        ("x-inner", "a  b\tc , d"),
        ("x-twice", "a"),
        ("Connection", "keep-alive"),
        ("Cookie", 'a="b c"; d=e'),
    ]
    async with client_of(replying(answer())) as (client, upstream):
        await client.forward_request("POST", "/p?q", lines, b"abc")  # type: ignore[arg-type]
        (request,) = upstream.requests
        raw = [tuple(part if isinstance(part, bytes) else part.encode("latin-1") for part in line) for line in lines]
        expected = [b"POST /p?q HTTP/1.1", b"Host: 127.0.0.1:%d" % upstream.port]
        expected += [b"%b: %b" % (name, value) for name, value in raw]
        expected += [b"Content-Length: 3", b"", b""]
        assert request.head == b"\r\n".join(expected)
        assert request.body == b"abc"


async def test_a_request_gains_no_fields() -> None:
    async with client_of(replying(answer())) as (client, upstream):
        await client.forward_request("GET", "/")
        assert upstream.requests[0].head == b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % upstream.port


async def test_headers_are_taken_in_every_form() -> None:
    pairs = [("A", "1"), ("b", "2"), ("a", "3")]
    forms: list[Any] = [
        pairs,
        tuple(pairs),
        [list(pair) for pair in pairs],
        (pair for pair in pairs),
        Headers(pairs),
        CIMultiDict(pairs),
        CIMultiDict(pairs).items(),
        [(name.encode(), value.encode()) for name, value in pairs],
    ]
    async with client_of(replying(answer())) as (client, upstream):
        for form in forms:
            await client.forward_request("GET", "/", form)
            assert upstream.requests[-1].lines[1:] == [(b"A", b"1"), (b"b", b"2"), (b"a", b"3")]
        for single in ({"A": "1", "b": "2"}, {b"A": b"1", b"b": b"2"}.items()):
            await client.forward_request("GET", "/", single)
            assert upstream.requests[-1].lines[1:] == [(b"A", b"1"), (b"b", b"2")]
        for nothing in (None, {}, [], (), Headers()):
            await client.forward_request("GET", "/", nothing)
            assert upstream.requests[-1].lines[1:] == []


async def test_headers_of_a_response_can_be_sent_on() -> None:
    fields = [b"Set-Cookie: a=1", b"X: \xe9", b"set-cookie: b=2"]
    async with client_of(replying(answer(b"", *fields))) as (client, upstream):
        received = await client.forward_request("GET", "/")
        await client.forward_request("GET", "/", received.headers)
        assert upstream.requests[1].lines[1:4] == [(b"Set-Cookie", b"a=1"), (b"X", b"\xe9"), (b"set-cookie", b"b=2")]


async def test_many_and_long_headers_arrive() -> None:
    headers = [(f"name-{i}", "v" * (i % 300)) for i in range(1000)] + [("long", "x" * 500_000)]
    async with client_of(replying(answer())) as (client, upstream):
        await client.forward_request("GET", "/", headers)
        assert upstream.requests[0].lines[1:] == [(name.encode(), value.encode()) for name, value in headers]


async def test_host_is_replaced_by_one_that_is_given_and_the_peer_is_not() -> None:
    async with client_of(replying(answer())) as (client, upstream):
        for name, host in (("Host", "example.com"), ("host", "EXAMPLE.com.:8080"), ("HOST", "[::1]:1")):
            await client.forward_request("GET", "/", [("a", "b"), (name, host), ("c", "d")])
            assert upstream.requests[-1].lines == [(b"Host", host.encode()), (b"a", b"b"), (b"c", b"d")]
        assert upstream.connections == 1
    await _assert_refused(InvalidHeaderError, *(("GET", "/", {"host": host}) for host in BAD_HOSTS))
    await _assert_refused(InvalidHeaderError, ("GET", "/", [("Host", "a"), ("host", "a")]))


async def test_content_length_must_be_true_and_is_sent_once() -> None:
    async with client_of(replying(answer())) as (client, upstream):
        await client.forward_request("POST", "/", [("content-length", "3"), ("a", "b")], b"abc")
        assert upstream.requests[-1].values("content-length") == [b"3"]
        assert upstream.requests[-1].body == b"abc"
        await client.forward_request("POST", "/", {"Content-Length": "0"})
        assert upstream.requests[-1].values("content-length") == [b"0"]
    lengths = ("2", "4", "", "-3", "+3", "3.0", "0x3", "3, 3", "3 ", "\u0663".encode(), "99999999999999999999")
    await _assert_refused(
        InvalidHeaderError, *(("POST", "/", [("Content-Length", value)], b"abc") for value in lengths)
    )
    await _assert_refused(InvalidHeaderError, ("GET", "/", {"content-length": "1"}))
    for coding in ("chunked", "identity", "gzip", ""):
        await _assert_refused(InvalidHeaderError, ("POST", "/", [("Transfer-Encoding", coding)], b"abc"))


async def test_query_parameters_are_appended() -> None:
    async with client_of(replying(answer())) as (client, upstream):
        for path, query, target in (
            ("/a", {"q": "a b&c=d/\xe9+?#"}, "/a?q=a%20b%26c%3Dd%2F%C3%A9%2B%3F%23"),
            ("/a?own=1", {"n": 1, "f": 1.5, "t": True, "l": ["x", "y"]}, "/a?own=1&n=1&f=1.5&t=true&l=x&l=y"),
            ("/a?", [("k", "1"), ("k", "2"), ("", "")], "/a?k=1&k=2&="),
            ("/a%2Fb?x=%2F&", {"@evil": "//x"}, "/a%2Fb?x=%2F&%40evil=%2F%2Fx"),
            ("/a", {"inject": "\r\nHost: evil"}, "/a?inject=%0D%0AHost%3A%20evil"),
            ("/a", {}, "/a"),
            ("/a?x", None, "/a?x"),
        ):
            await client.forward_request("GET", path, query_params=query)  # type: ignore[arg-type]
            assert upstream.requests[-1].target == target.encode()
    await _assert_refused(TypeError, ("GET", "/", None, None, "a=b"), ("GET", "/", None, None, {"a": object()}))
    await _assert_refused(ValueError, ("GET", "/", None, None, {"a": float("nan")}), ("GET", "a", None, None, {"a": 1}))


@on_loops("asyncio", "uvloop")
async def test_bodies_of_every_kind_are_sent_as_they_are() -> None:
    data = bytes(range(256)) * 5
    bodies: list[tuple[Any, bytes]] = [
        (data, data),
        (bytearray(data), data),
        (memoryview(data), data),
        (memoryview(data)[::-3], data[::-3]),
        (memoryview(bytes(range(12))).cast("B", (3, 4)), bytes(range(12))),
        (array.array("H", [1, 2, 65535]), array.array("H", [1, 2, 65535]).tobytes()),
        ("text \xe9 \u20ac \U0001f600\r\n\x00", "text \xe9 \u20ac \U0001f600\r\n\x00".encode()),
        (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"),
    ]
    async with client_of(replying(echo)) as (client, upstream):
        for body, expected in bodies:
            for method in ("POST", "GET", "DELETE"):
                response = await client.forward_request(method, "/", None, body)
                assert response.body == expected
                assert upstream.requests[-1].body == expected
                assert upstream.requests[-1].values("content-length") == [b"%d" % len(expected)]
        assert upstream.connections == 1
    await _assert_refused(
        TypeError, *(("POST", "/", None, body) for body in (1, 1.5, ["a"], {"a": 1}, object(), iter(b"")))
    )
    await _assert_refused(ValueError, ("POST", "/", None, "\ud800"))


async def test_an_empty_body_is_announced_where_one_is_expected() -> None:
    async with client_of(replying(answer())) as (client, upstream):
        for body in (None, b"", "", bytearray()):
            for method, lengths in (
                ("POST", [b"0"]),
                ("PUT", [b"0"]),
                ("PATCH", [b"0"]),
                ("GET", []),
                ("HEAD", []),
                ("DELETE", []),
            ):
                await client.forward_request(method, "/", None, body)
                assert upstream.requests[-1].values("content-length") == lengths, method
                assert upstream.requests[-1].values("transfer-encoding") == []


async def test_a_body_that_changes_after_the_call_is_sent_as_it_was() -> None:
    async with client_of(replying(echo)) as (client, _):
        for size in (100, 1_000_000):
            body = bytearray(b"a" * size)
            task = asyncio.ensure_future(client.forward_request("POST", "/", None, body))
            await asyncio.sleep(0)  # the request has been handed over, and waits
            body[:] = b"b" * size
            assert (await task).body == b"a" * size


@pytest.mark.parametrize("size", [0, 1, 100, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_000_000, 5_000_000])
@on_loops("asyncio", "uvloop", "rloop")
async def test_bodies_of_every_size_go_both_ways(size: int) -> None:
    body = os.urandom(size)
    async with client_of(replying(echo)) as (client, upstream):
        for _ in range(2):
            response = await client.forward_request("PUT", "/", None, body)
            assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()
            assert hashlib.sha256(upstream.requests[-1].body).digest() == hashlib.sha256(body).digest()
        assert upstream.connections == 1
