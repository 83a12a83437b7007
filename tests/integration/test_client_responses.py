"""Responses as the caller gets them: fields, bodies under every framing, what precedes and what follows them."""

from __future__ import annotations

import gzip
import hashlib
import os

import pytest
from client_upstream import Received, Script, Visit, answer, chunked, client_of, on_loops, replying

from velithon_proxy import Headers, ProxyResponse, UpstreamProtocolError

SIZES = [0, 1, 100, 4095, 4096, 4097, 16_384, 65_535, 65_536, 65_537, 300_000, 5_000_000]


def in_slices(reply: bytes, *sizes: int) -> Script:
    """Answer once, in pieces that arrive one by one: small sizes first, then the rest."""

    async def script(visit: Visit) -> None:
        while await visit.request() is not None:
            at = 0
            for size in sizes:
                await visit.send(reply[at : at + size])
                at += size
            await visit.send(reply[at:])

    return script


def until_close(body: bytes, version: bytes = b"HTTP/1.1") -> Script:
    """Answer with a body that ends with the connection."""

    async def script(visit: Visit) -> None:
        if await visit.request() is not None:
            await visit.send(version + b" 200 OK\r\nX-Framing: close\r\n\r\n", body)
            visit.finish()

    return script


@on_loops("asyncio", "uvloop", "rloop")
async def test_fields_come_back_line_by_line_as_they_were_sent() -> None:
    fields = [
        b"Server: x",
        b"set-cookie: a=1; Path=/",
        b"Set-Cookie: b=2, c=3",
        b"SET-COOKIE: a=1; Path=/",
        b"X-Latin: caf\xe9 \xff",
        b"x-utf8: \xe2\x82\xac",
        b"x-empty:",
        b"x-blanks: \t a  b \t ",
        b"x-tight:v",
        b"!#$%&'*+-.^_`|~: odd",
        b"Connection: keep-alive, X-Hop",
        b"X-Hop: kept",
        b"Keep-Alive: timeout=5",
        b"Content-Type: text/plain",
    ]
    async with client_of(replying(answer(b"ok", *fields))) as (client, _):
        for _ in range(2):
            status, headers, body = await client.forward_request("GET", "/")
            assert (status, body) == (200, b"ok")
            names_and_values = [line.partition(b":") for line in [*fields, b"Content-Length: 2"]]
            assert headers.raw == [(name, value.strip(b" \t")) for name, _, value in names_and_values]
            assert headers.get_all("Set-Cookie") == ["a=1; Path=/", "b=2, c=3", "a=1; Path=/"]
            assert headers["x-latin"] == "caf\xe9 \xff"
            assert headers["X-UTF8"].encode("latin-1").decode() == "\u20ac"
            assert headers["x-empty"] == ""


async def test_nothing_is_added_to_a_response() -> None:
    async with client_of(replying(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n")) as (client, _):
        response = await client.forward_request("GET", "/")
        assert response.headers.raw == [(b"Content-Length", b"0")]


async def test_many_set_cookie_lines_keep_their_order() -> None:
    cookies = [b"Set-Cookie: c%d=%d" % (i % 7, i) for i in range(200)]
    async with client_of(replying(answer(b"", *cookies))) as (client, _):
        headers = (await client.forward_request("GET", "/")).headers
        assert headers.get_all("set-cookie") == [f"c{i % 7}={i}" for i in range(200)]


async def test_a_response_unpacks_and_has_names() -> None:
    async with client_of(replying(answer(b'{"a": "\xc3\xa9"}', b"Content-Type: application/json"))) as (
        client,
        upstream,
    ):
        response = await client.forward_request("GET", "/")
        status, headers, body = response
        assert isinstance(response, ProxyResponse)
        assert isinstance(headers, Headers)
        assert type(body) is bytes
        assert (status, headers, body) == (response.status, response.headers, response.body)
        assert response.target == upstream.url
        assert [(a.target, a.outcome, a.status) for a in response.attempts] == [(upstream.url, "response", 200)]
        assert 0 < response.elapsed < 5
        assert response.json() == {"a": "\xe9"}
        assert response.text == '{"a": "\xe9"}'
        for part in ("200", upstream.url, "application/json", "11 bytes"):
            assert part in repr(response)


@pytest.mark.parametrize("size", SIZES)
@on_loops("asyncio", "uvloop", "rloop")
async def test_bodies_of_every_size_arrive_under_each_framing(size: int) -> None:
    body = os.urandom(size)
    chunks = [body[at : at + 70_000] for at in range(0, size, 70_000)]
    for script in (
        replying(answer(body)),
        replying(chunked(*chunks)),
        until_close(body),
        until_close(body, b"HTTP/1.0"),
    ):
        async with client_of(script) as (client, upstream):
            for _ in range(2):
                response = await client.forward_request("GET", "/")
                assert response.status == 200
                assert len(response.body) == size
                assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()
            # A framing that has an end of its own keeps the connection.
            assert upstream.connections == (1 if upstream.count("finished") == 0 else 2)


async def test_a_head_may_come_byte_by_byte() -> None:
    body = os.urandom(70_000)
    reply = answer(body, b"A: 1", b"B: 2")
    async with client_of(in_slices(reply, *[1] * (len(reply) - len(body) + 3))) as (client, _):
        for _ in range(2):
            response = await client.forward_request("GET", "/")
            assert response.body == body
            assert response.headers.raw[:2] == [(b"A", b"1"), (b"B", b"2")]


async def test_chunks_may_come_byte_by_byte_and_be_of_any_form() -> None:
    pieces = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b"1\r\na\r\n"
        b"002;name=value;other\r\nbc\r\n"
        b'A;x="quoted \\" text"\r\n0123456789\r\n'
        b"3 ;ext\r\n\r\n\r\r\n"
        b"0;last\r\n"
        b"Trailer-Field: dropped\r\nContent-Length: 999\r\n\r\n"
    )
    async with client_of(in_slices(pieces, *[1] * len(pieces))) as (client, upstream):
        for _ in range(2):
            response = await client.forward_request("GET", "/")
            assert response.body == b"abc0123456789\r\n\r"
            assert response.headers.raw == [(b"Transfer-Encoding", b"Chunked")]
        assert upstream.connections == 1


async def test_many_small_chunks_arrive() -> None:
    data = os.urandom(20_000)
    async with client_of(replying(chunked(*(data[i : i + 1] for i in range(len(data)))))) as (client, _):
        assert (await client.forward_request("GET", "/")).body == data


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked", b"X-None: 0"])
async def test_head_204_and_304_have_no_body_whatever_they_announce(framing: bytes) -> None:
    def reply(request: Received) -> bytes:
        status = request.target[1:] or b"200"
        return b"HTTP/1.1 %b X\r\n%b\r\nX-Id: %b\r\n\r\n" % (status, framing, request.values("x-id")[0])

    async with client_of(replying(reply)) as (client, upstream):
        count = 0
        for turn, (method, path) in enumerate([("HEAD", "/"), ("GET", "/204"), ("GET", "/304"), ("HEAD", "/404")] * 3):
            if path == "/204" and framing.startswith(b"Transfer"):
                continue  # either reading of such a response is fine
            status, headers, body = await client.forward_request(method, path, {"X-Id": str(turn)})
            assert (status, body) == (int(path[1:] or 200), b"")
            assert headers["x-id"] == str(turn)
            assert headers.raw[0] == tuple(framing.split(b": "))
            count += 1
        # What describes a body may bring it all the same, at any time: its connection is not used again.
        assert upstream.connections == (1 if framing == b"X-None: 0" else count)


async def test_a_body_that_comes_after_a_response_without_one_is_nobodys() -> None:
    """Some servers send the body of a response to HEAD; it is not the next answer on that connection."""

    async def script(visit: Visit) -> None:
        late = b""
        while (request := await visit.request()) is not None:
            if request.head.startswith(b"HEAD"):
                late = answer(b"pwned")
                await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(late))
            else:
                await visit.send(late or answer(request.target))

    async with client_of(script) as (client, _):
        for turn in range(20):
            await client.forward_request("HEAD", "/head")
            assert (await client.forward_request("GET", f"/{turn}")).body == f"/{turn}".encode()


async def test_interim_responses_are_skipped_and_leave_nothing_behind() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 P\r\n\r\n"
    for reply in (interim + answer(b"body"), interim * 5 + answer(b"body")):
        async with client_of(replying(reply)) as (client, upstream):
            for _ in range(3):
                response = await client.forward_request("GET", "/")
                assert (response.status, response.body) == (200, b"body")
                assert response.headers.raw == [(b"Content-Length", b"4")]
            assert upstream.connections == 1


async def test_interim_responses_without_end_are_refused() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        while True:
            await visit.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")

    async with client_of(script) as (client, _):
        with pytest.raises(UpstreamProtocolError):
            await client.forward_request("GET", "/")


async def test_statuses_are_passed_on_and_redirects_are_not_followed() -> None:
    async with client_of(replying(lambda r: answer(b"x", b"Location: http://127.0.0.1:1/", status=r.target[1:]))) as (
        client,
        upstream,
    ):
        statuses = [200, 201, 299, 300, 301, 302, 307, 308, 400, 404, 418, 429, 499, 500, 502, 503, 504, 599]
        for status in statuses:
            response = await client.forward_request("GET", f"/{status}")
            assert (response.status, response.body) == (status, b"x")
            assert response.headers["location"] == "http://127.0.0.1:1/"
        assert len(upstream.requests) == len(statuses)


async def test_compressed_bodies_are_not_touched() -> None:
    packed = gzip.compress(b"text" * 1000)
    async with client_of(replying(answer(packed, b"Content-Encoding: gzip"))) as (client, _):
        response = await client.forward_request("GET", "/", {"accept-encoding": "gzip"})
        assert response.body == packed
        with pytest.raises(ValueError, match="gzip"):
            _ = response.text


async def test_a_long_head_is_taken_up_to_its_limit() -> None:
    lines = [b"x-%d: %b" % (i, b"v" * 120) for i in range(400)]
    async with client_of(replying(answer(b"ok", *lines))) as (client, _):
        assert len((await client.forward_request("GET", "/")).headers.raw) == 401
    for lines in ([b"x: " + b"v" * 100_000], [b"x: v"] * 100_000):
        async with client_of(replying(answer(b"ok", *lines))) as (client, _):
            with pytest.raises(UpstreamProtocolError):
                await client.forward_request("GET", "/")


async def test_a_response_may_come_before_the_body_was_sent() -> None:
    async def script(visit: Visit) -> None:
        request = await visit.request(body=False)
        assert request is not None
        await visit.send(answer(b"too large", b"Connection: close", status=b"413 Content Too Large"))
        await visit.left()

    async with client_of(script) as (client, upstream):
        for turn in range(3):
            response = await client.forward_request("POST", "/", None, b"x" * 8_000_000)
            assert (response.status, response.body) == (413, b"too large")
            await upstream.until(lambda turn=turn: upstream.count("left") == turn + 1)
        assert len(upstream.requests) == 3
