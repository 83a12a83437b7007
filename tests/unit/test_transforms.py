"""transform_request and transform_response: what they are given, what they may do, and what they may not."""

from __future__ import annotations

from typing import Any

import pytest

from velithon_proxy import ConfigurationError, GatewayResponse, ProxyRequest, ProxyResponse
from velithon_proxy._headers import Headers
from velithon_proxy.middleware._answers import Refusal
from velithon_proxy.middleware._gateway import Gateway
from velithon_proxy.middleware._passing import Admitted, Reply


class Whole(ProxyResponse):
    _upload = None

    def _take_whole(self) -> bytes:
        return self.body

    async def aclose(self) -> None:
        pass


class Client:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def _open_stream(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        lines = [("Content-Type", "text/plain"), ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("Content-Length", "4")]
        return Whole(200, Headers(lines).packed, b"body", "http://up", 0)


async def sent(body: Any = b"abc", **options: Any) -> tuple[Reply, Client]:
    gateway, client = Gateway("http://up", via=None, **options), Client()
    gateway._client = client  # type: ignore[assignment]
    lines = [("accept", "*/*"), ("cookie", "x"), ("content-length", "3")]
    return await gateway.open("POST", Admitted("/a/b?c=1", lines, 3, None, "192.0.2.1"), body), client


async def test_the_example_of_the_feature_document() -> None:
    def transform_request(request: ProxyRequest) -> ProxyRequest:
        request.headers["X-API-Key"] = "secret-key"
        request.path = f"/v2{request.path}"
        return request

    def transform_response(response: GatewayResponse) -> GatewayResponse:
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    reply, client = await sent(transform_request=transform_request, transform_response=transform_response)
    method, target, lines, body, _, _ = client.calls[0]
    assert (method, target, body) == ("POST", "/v2/a/b?c=1", b"abc")
    assert lines[-1] == ("X-API-Key", "secret-key")
    assert reply.lines[-1] == ("Access-Control-Allow-Origin", "*")
    assert [value for name, value in reply.lines if name == "Set-Cookie"] == ["a", "b"]
    assert reply.body == b"body"


async def test_lambdas_coroutines_and_nothing() -> None:
    async def later(request: ProxyRequest) -> None:
        assert (request.method, request.path, request.query_string, request.client) == (
            "POST",
            "/a/b",
            "c=1",
            "192.0.2.1",
        )
        request.method, request.query_string = "PUT", ""
        request.headers.add("x", "1")
        request.headers.add("x", "2")
        del request.headers["cookie"]

    reply, client = await sent(transform_request=later, transform_response=lambda response: response)
    assert client.calls[0][:2] == ("PUT", "/a/b")
    assert client.calls[0][2] == [("accept", "*/*"), ("content-length", "3"), ("x", "1"), ("x", "2")]
    assert reply.status == 200


async def test_bodies_are_read_and_replaced() -> None:
    async def change(request: ProxyRequest) -> None:
        with pytest.raises(RuntimeError, match="await read"):
            _ = request.body
        assert await request.read() == b"abcdef"
        assert await request.read() == request.body
        request.body = "\xe9"

    async def pieces() -> Any:
        yield b"abc"
        yield b"def"

    async def shout(response: GatewayResponse) -> None:
        response.body = (await response.read()).upper()
        response.status = 201

    reply, client = await sent(pieces(), transform_request=change, transform_response=shout)
    assert client.calls[0][3] == b"\xc3\xa9"
    assert not any(name == "content-length" for name, _ in client.calls[0][2])
    assert (reply.status, reply.body) == (201, b"BODY")
    assert not any(name.lower() == "content-length" for name, _ in reply.lines)


async def test_a_body_that_nobody_reads_is_still_streamed() -> None:
    async def pieces() -> Any:
        yield b"abc"

    given = pieces()
    _, client = await sent(given, transform_request=lambda request: None)
    assert client.calls[0][3] is given


async def test_a_request_is_answered_without_an_upstream() -> None:
    def refuse(request: ProxyRequest) -> GatewayResponse:
        return GatewayResponse(401, {"WWW-Authenticate": "Basic"}, "who are you?")

    reply, client = await sent(transform_request=refuse)
    assert reply == (401, [("WWW-Authenticate", "Basic")], b"who are you?", None, "")
    assert client.calls == []


async def test_a_body_is_read_within_its_limit() -> None:
    async def pieces() -> Any:
        while True:
            yield bytes(1000)

    with pytest.raises(Refusal) as raised:
        await sent(pieces(), transform_request=lambda request: request.read(), max_request_body=5000)
    assert raised.value.status == 413


@pytest.mark.parametrize(
    ("hook", "kind"),
    [
        (lambda request: 5, TypeError),
        (lambda request: "x", TypeError),
        (lambda request: request.headers.add("a b", "c"), ValueError),
        (lambda request: request.headers.add("a", "b\r\nc"), ValueError),
        (lambda request: request.headers.add("a", 5), Exception),
        (lambda request: request.headers.add("Transfer-Encoding", "chunked"), ValueError),
        (lambda request: request.headers.pop("content-length"), Exception),
        (lambda request: setattr(request, "body", 5), TypeError),
        (lambda request: 1 / 0, ZeroDivisionError),
    ],
)
async def test_what_a_transform_must_not_do_sends_nothing(hook: Any, kind: type[Exception]) -> None:
    client = None
    with pytest.raises(kind):
        _, client = await sent(transform_request=hook)
    assert client is None


@pytest.mark.parametrize("status", [0, 99, 100, 199, 600, 999, True, "200", None])
async def test_a_status_that_is_none(status: Any) -> None:
    with pytest.raises(ValueError, match="from 200 to 599"):
        await sent(transform_response=lambda response: setattr(response, "status", status))


@pytest.mark.parametrize("field", ["transform_request", "transform_response"])
def test_what_cannot_be_called_is_refused(field: str) -> None:
    options: dict[str, Any] = {field: 5}
    with pytest.raises(ConfigurationError) as raised:
        Gateway("http://up", **options)
    assert raised.value.field == field
