"""The RSGI adapter with a scope and a protocol that misbehave as no real server does at will."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from rsgi_server import HOST, Protocol, Scope

from velithon_proxy import ConnectError, ProxyResponse
from velithon_proxy._headers import Headers
from velithon_proxy.middleware import _clients
from velithon_proxy.middleware._gateway import Gateway
from velithon_proxy.middleware._rsgi import RSGIGateway


class Client:
    """In place of the client: answers when told to, and says what became of it."""

    _bound = (None, None)

    def __init__(self, outcome: object = None) -> None:
        self.outcome = outcome
        self.called = asyncio.Event()
        self.cancelled = False
        self.calls = 0

    async def _open_stream(self, *_: object) -> Any:
        self.calls += 1
        self.called.set()
        if self.outcome is None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class WholeResponse(ProxyResponse):
    """A stream whose body has come with its head."""

    _upload = None

    def _take_whole(self) -> bytes:
        return self.body


def response(status: int = 200, *lines: tuple[str, str | bytes], body: bytes = b"body") -> ProxyResponse:
    return WholeResponse(status, Headers(lines).packed, body, "http://up", 0)


def without_client(scope: Scope) -> Any:
    """The scope of a wrapper that tells neither the client nor the scheme; nothing of RSGIScope is missing."""
    told = ("path", "method", "proto", "http_version", "query_string", "authority", "headers")
    return SimpleNamespace(**{name: getattr(scope, name) for name in told})


def adapter(client: Client, app: object = None) -> RSGIGateway:
    gateway = Gateway("http://up", "/api", via=None)
    gateway._client = client  # type: ignore[assignment]
    return RSGIGateway(gateway, app)


async def test_a_response_is_passed_on() -> None:
    for scope in (Scope(), without_client(Scope())):
        protocol = Protocol()
        await adapter(Client(response(201, ("X-A", "1"), ("x-a", "2"))))(scope, protocol)
        assert protocol.answers == [(201, [("X-A", "1"), ("x-a", "2")], b"body")]
        assert protocol.reads == 0, "no body was announced, so none is waited for"


async def test_an_empty_response_is_passed_on_as_empty() -> None:
    protocol = Protocol()
    await adapter(Client(response(204, body=b"")))(Scope(), protocol)
    assert protocol.answers == [(204, [], b"")]


async def test_the_body_is_read_when_one_may_come() -> None:
    for scope in (
        Scope(lines=[HOST, ("content-length", "3")]),
        Scope(lines=[HOST, ("transfer-encoding", "chunked")]),
        Scope(http_version="2", authority="h", lines=[]),
    ):
        protocol = Protocol(body=b"abc")
        await adapter(Client(response()))(scope, protocol)
        assert protocol.reads == 1


@pytest.mark.parametrize("body", [RuntimeError("RSGI transport is closed"), b"ab"])
async def test_a_short_body_is_not_forwarded(body: bytes | Exception) -> None:
    """An aborted upload raises, but iterating over the protocol, or another middleware, may have cut it silently."""
    client, protocol = Client(response()), Protocol(body=body)
    await adapter(client)(Scope(method="POST", lines=[HOST, ("content-length", "3")]), protocol)
    assert (client.calls, protocol.answers[0][0], len(protocol.answers)) == (0, 400, 1)


async def test_header_values_are_passed_on_as_the_utf8_they_are(caplog: pytest.LogCaptureFixture) -> None:
    lines = (("x-utf8", "é🍵".encode()), ("x-latin1", b"\xe9"), ("x-ascii", b"a"))
    protocol = Protocol()
    await adapter(Client(response(200, *lines)))(Scope(), protocol)
    assert protocol.answers == [(200, [("x-utf8", "é🍵"), ("x-ascii", "a")], b"body")]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("velithon_proxy", logging.WARNING)
    assert "'x-latin1'" in record.getMessage()


@pytest.mark.parametrize("error", [ConnectError("refused"), ValueError("x"), MemoryError(), KeyError("bug")])
async def test_no_failure_reaches_the_framework(error: Exception) -> None:
    protocol = Protocol()
    await adapter(Client(error))(Scope(), protocol)
    assert len(protocol.answers) == 1
    assert protocol.answers[0][0] in (500, 502)


async def test_a_server_that_takes_no_answer_is_not_asked_twice(caplog: pytest.LogCaptureFixture) -> None:
    protocol = Protocol(refuses=RuntimeError("RSGI protocol is closed"))
    await adapter(Client(response()))(Scope(), protocol)
    assert len(protocol.answers) == 1
    assert "the server did not take a response" in caplog.text


async def test_an_outer_cancellation_goes_on() -> None:
    client, protocol = Client(), Protocol()
    task = asyncio.create_task(adapter(client).__rsgi__(Scope(), protocol))
    await client.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.cancelled
    assert protocol.answers == []


async def test_a_client_that_leaves_cancels_its_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_clients, "WATCH_AFTER", 0.0)
    client, protocol = Client(), Protocol()
    with caplog.at_level(logging.INFO, "velithon_proxy"):
        task = asyncio.create_task(adapter(client).__rsgi__(Scope(), protocol))
        await client.called.wait()
        protocol.leaves.set()
        await task
    assert client.cancelled
    assert protocol.answers == [], "nobody is left to answer"
    assert [record.status for record in caplog.records] == [499]  # type: ignore[attr-defined]
    assert task.cancelling() == 0


async def test_an_outer_cancellation_goes_on_also_when_the_client_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clients, "WATCH_AFTER", 0.0)
    client, protocol = Client(), Protocol()
    task = asyncio.create_task(adapter(client).__rsgi__(Scope(), protocol))
    await protocol.watched.wait()
    protocol.leaves.set()
    await asyncio.sleep(0)  # one turn of the loop: the watcher has been woken and cancels the task
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_watching_ends_with_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clients, "WATCH_AFTER", 0.0)
    protocol = Protocol()

    class Slow(Client):
        async def _open_stream(self, *_: object) -> Any:
            await protocol.watched.wait()
            return response()

    before = asyncio.all_tasks()
    await adapter(Slow())(Scope(), protocol)
    assert len(protocol.answers) == 1
    assert protocol.waiting == 1
    await asyncio.wait(asyncio.all_tasks() - before)
    assert protocol.waiting == 0


async def test_a_quick_request_is_never_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clients, "WATCH_AFTER", 0.0)
    protocol = Protocol()
    await adapter(Client(response()))(Scope(), protocol)
    for _ in range(3):  # turns of the loop, in which a timer that still runs would fire
        await asyncio.sleep(0)
    assert not protocol.watched.is_set()


async def test_a_connection_that_cannot_be_watched_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clients, "WATCH_AFTER", 0.0)
    protocol = Protocol(watchable=False)

    class Slow(Client):
        async def _open_stream(self, *_: object) -> Any:
            await protocol.watched.wait()
            await asyncio.sleep(0)
            return response()

    await adapter(Slow())(Scope(), protocol)
    assert [status for status, _, _ in protocol.answers] == [200]


async def test_other_requests_reach_the_application_untouched() -> None:
    seen: list[tuple[object, object]] = []

    class App:
        async def __rsgi__(self, scope: object, protocol: object) -> None:
            seen.append((scope, protocol))

    async def app(scope: object, protocol: object) -> None:
        seen.append((scope, protocol))

    for inner in (App(), app):
        for scope in (Scope("/apix"), Scope("/x", method="CONNECT", lines=[]), Scope("/x", proto="ws")):
            protocol = Protocol()
            await adapter(Client(), inner)(scope, protocol)
            assert seen.pop() == (scope, protocol)
            assert protocol.answers == []


async def test_an_error_of_the_application_is_the_applications() -> None:
    async def app(scope: object, protocol: object) -> None:
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        await adapter(Client(), app)(Scope("/x"), Protocol())


@pytest.mark.parametrize(("path", "status"), [("/api/x", 501), ("/x", 404)])
async def test_a_websocket_that_nobody_serves_is_closed(path: str, status: int) -> None:
    protocol = Protocol()
    await adapter(Client())(Scope(path, proto="ws"), protocol)
    assert protocol.answers == [(status, [], b"closed")]


def test_the_hooks_of_the_application_are_called() -> None:
    calls: list[str] = []

    class App:
        async def __rsgi__(self, scope: object, protocol: object) -> None: ...

        def __rsgi_init__(self, loop: object) -> None:
            calls.append(f"init {loop}")

        def __rsgi_del__(self, loop: object) -> None:
            calls.append(f"del {loop}")

    served = RSGIGateway(Gateway("http://up"), App())
    served.__rsgi_init__("loop")  # type: ignore[arg-type]
    served.__rsgi_del__("loop")  # type: ignore[arg-type]
    assert calls == ["init loop", "del loop"]
    RSGIGateway(Gateway("http://up")).__rsgi_init__("loop")  # type: ignore[arg-type]
