"""Every row of conformance_rows.py, over real sockets: what comes of it, how soon, and that nobody else is harmed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from pathlib import Path

import pytest
from client_upstream import Upstream, Visit, answer
from conformance_rows import CHUNKED, ROWS, Row, head, of_length

from velithon_proxy import ProxyClient, ProxyError, UpstreamClosedError, UpstreamProtocolError

ERRORS = {"protocol": UpstreamProtocolError, "closed": UpstreamClosedError}
AT_ONCE = 0.25
"""Seconds from the first byte: five times what is promised for bytes that cannot become a response."""

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


class Hostile:
    """Sends the bytes of a row to the first request of its path, and to others what they ask for."""

    def __init__(self, row: Row, pieces: int = 1) -> None:
        self.row = row
        self.pieces = pieces
        self.attacked = 0
        self.after: list[int] = []
        self.begun = 0.0
        self.connection = 0

    async def __call__(self, visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            if request.target != b"/row":
                self.after.append(visit.number)
                await visit.send(answer(request.target))
                continue
            self.attacked += 1
            self.connection = visit.number
            self.begun = time.monotonic()
            try:
                size = max(len(self.row.sends) // self.pieces, 1)
                for at in range(0, len(self.row.sends), size):
                    await visit.send(self.row.sends[at : at + size])
            except ConnectionError:
                return  # the client has seen enough
            if self.row.ending == "fin":
                visit.finish()
                await visit.left()
                return
            if self.row.ending == "reset":
                visit.reset()
                return


def outcome_of(row: Row, expect: object, result: object) -> bool:
    if isinstance(expect, str):
        return type(result) is ERRORS[expect]
    if isinstance(result, BaseException):
        return False
    status, headers, body = result  # type: ignore[misc]
    lines = [line for line in headers.raw if line in row.fields]
    return (status, body) == expect and tuple(lines) == row.fields


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.ids)
@pytest.mark.parametrize("pieces", [1, 7])
async def test_row(row: Row, pieces: int) -> None:
    script = Hostile(row, pieces)
    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url, timeout_ms=20_000, max_retries=0) as client:
            try:
                result: object = await client.forward_request(row.method, "/row")
            except (UpstreamClosedError, UpstreamProtocolError) as error:
                result = error
            ended = time.monotonic()
            if isinstance(result, ProxyError):
                assert (result.request_sent, result.status) == (True, 502)
            assert outcome_of(row, row.expect, result) or (row.also and outcome_of(row, row.also, result)), repr(result)
            if isinstance(result, UpstreamProtocolError):
                assert ended - script.begun < AT_ONCE
            for turn in range(3):
                assert (await client.forward_request("GET", f"/after/{turn}")).body == f"/after/{turn}".encode()
            assert script.attacked == 1, "nothing is sent twice"
            if isinstance(result, Exception) or row.reused is False:
                assert script.connection not in script.after, "the connection was used again"
            elif row.reused:
                assert set(script.after) == {script.connection}


SPLIT = head(CHUNKED, b"A: b") + b"3;ext\r\nabc\r\n1\r\nd\r\n0\r\nT: u\r\n\r\n"


async def test_a_response_may_be_split_anywhere() -> None:
    """U5-U16: at every position; and every byte by itself."""

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            at = int(request.target[1:])
            pieces = [SPLIT[:at], SPLIT[at:]] if at else [SPLIT[i : i + 1] for i in range(len(SPLIT))]
            for piece in pieces:
                await visit.send(piece)
                await asyncio.sleep(0)

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url) as client:
            for at in range(len(SPLIT)):
                response = await client.forward_request("GET", f"/{at}")
                assert (response.status, response.body) == (200, b"abcd")
            assert upstream.connections == 1


async def test_a_response_before_the_request_is_nobodys() -> None:
    """U27: what has come before the first request is seen before it is sent; nobody else gets it in any case."""

    async def script(visit: Visit) -> None:
        if visit.number == 1:
            await visit.send(of_length(b"early"))
            await visit.request()
            return
        while (request := await visit.request()) is not None:
            await visit.send(answer(request.target))

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url) as client:
            with contextlib.suppress(UpstreamClosedError):
                await client.forward_request("GET", "/0")
            for turn in range(1, 4):
                with contextlib.suppress(UpstreamClosedError):
                    assert (await client.forward_request("GET", f"/{turn}")).body == f"/{turn}".encode()


@pytest.mark.parametrize(
    "late", [b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b"x", of_length(b"evil")]
)
async def test_what_comes_on_an_idle_connection_ends_it(late: bytes) -> None:
    """U27: a 408 on an idle connection, or anything else, is nobody's answer."""

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            await visit.send(answer(request.target))
            if request.target == b"/first":
                await upstream.gate("answered")  # the client has its answer, the connection is idle
                await visit.send(late)
                await visit.left()
                return

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url) as client:
            await client.forward_request("GET", "/first")
            upstream.open("answered")
            await upstream.until(lambda: upstream.count("left") == 1)
            for turn in range(3):
                assert (await client.forward_request("GET", f"/{turn}")).body == f"/{turn}".encode()


def test_the_page_lists_every_row() -> None:
    listed = set(re.findall(r"^\| ([UR]\d+)", PAGE.read_text("utf-8"), re.MULTILINE))
    assert {row.ids.partition("-")[0] for row in ROWS} <= listed
