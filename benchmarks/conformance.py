"""What clients and gateways make of hostile upstreams and of hostile clients, row by row.

The rows are those of tests/conformance: bytes, and what RFC 9110 and 9112 allow to become of them. Each product gets
each row on a new connection. A verdict is ``right``, or what is wrong:

* ``accepted``: a response that must be refused has reached the caller as a success;
* ``refused``: a good one has not;
* ``other``: what arrived is not what was sent;
* ``waits``: no decision within a second, though no byte that may still come would change it;
* ``twice``: the upstream has seen the request more than once;
* ``forwarded``: a request that must be refused has reached the upstream;
* ``smuggled``: more requests have reached it than were sent;
* ``unclean``: what reached it has two framings or hosts, or fields of the client's connection.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import peers
from gateway_servers import GATEWAYS, Server, versions
from programs import BENCHMARKS, Worker, WorkerError
from suites import Request

_TESTS = BENCHMARKS.parent / "tests"
sys.path[:0] = [str(_TESTS / "conformance"), str(_TESTS / "integration")]

from conformance_rows import ROWS as RESPONSES  # noqa: E402 - the tests are not a package
from conformance_rows import Row  # noqa: E402
from request_rows import FIELDS, FORWARDED, FRAMING, METHODS, REFUSED, RequestRow  # noqa: E402
from scripted_upstream import Exchange, ScriptedUpstream, reply  # noqa: E402
from scripted_upstream import Request as Received  # noqa: E402

REQUESTS = [*FRAMING, *METHODS, *FIELDS]
CLIENTS = [name for name, entry in peers.CLIENTS.items() if entry.variant not in ("one-worker", "multi-threaded")]
_LEFT_OUT = {"RSGI, empty handler", "Velithon, ours", "FastAPI on uvicorn, ours"}
_PATIENCE = 1.5
http.client._MAXHEADERS = 1000  # type: ignore[attr-defined] -- two rows have more lines than its 100
_FORBIDDEN = {"te", "trailer", "upgrade", "http2-settings", "x-secret", "x-admin", "keep-alive", "proxy-connection"}

# Five responses of the first kind open a breaker: the rows after them would see nothing but 503. The others have none.
_OPTIONS = {"max_failures": 1_000_000, "max_retries": 0}

Verdicts = dict[str, str]


def run(request: Request) -> dict[str, Any]:
    """The suite: product -> row -> verdict, for responses and for requests."""
    outcome: dict[str, Any] = {"versions": versions(), "skipped": {}, "responses": {}, "requests": {}}
    gateways = [name for name in GATEWAYS if name not in _LEFT_OUT]
    wanted = [name for name in (*CLIENTS, *gateways) if not request.clients or name in request.clients]
    for name in wanted:
        request.step(name)
        try:
            if name in GATEWAYS:
                _gateway(name, outcome)
            else:
                outcome["responses"][name] = _client(name)
        except WorkerError as error:
            outcome["skipped"][name] = str(error)
    return outcome


def _client(name: str) -> Verdicts:
    verdicts: Verdicts = {}
    with ScriptedUpstream() as upstream:
        command = [sys.executable, str(BENCHMARKS / "conformance_cell.py"), "--client", name]
        worker = Worker([*command, "--base-url", upstream.url])
        if "missing" in worker.ready:
            raise WorkerError(worker.ready["missing"])
        for row in RESPONSES:
            upstream.does(_sends(row))
            try:
                found = worker.ask(row.method)
            except WorkerError:  # its process died of it
                verdicts[row.ids] = "other"
                worker = Worker([*command, "--base-url", upstream.url])
                continue
            answer = found.get("error") or (found["status"], found["body"].encode("latin-1"))
            verdicts[row.ids] = _judge_response(row, answer, len(upstream.ledger.of("request")))
        worker.close()
    return verdicts


def _sends(row: Row) -> Callable[[Exchange], None]:
    def script(exchange: Exchange) -> None:
        with contextlib.suppress(OSError):
            exchange.send(row.sends)
        if row.ending == "fin":
            exchange.close()
        elif row.ending == "reset":
            exchange.reset()

    return script


def _judge_response(row: Row, answer: str | tuple[int, bytes], seen: int) -> str:
    """`answer` is status and body, or the name of an error."""
    if seen > 1:
        return "twice"
    if answer in (row.expect, row.also):
        return "right"
    if answer == "waits":
        return "waits"
    if isinstance(answer, str):
        return "right" if isinstance(row.expect, str) or isinstance(row.also, str) else "refused"
    return "accepted" if isinstance(row.expect, str) else "other"


def _gateway(name: str, outcome: dict[str, Any]) -> None:
    responses: Verdicts = {}
    requests: Verdicts = {}
    with ScriptedUpstream() as upstream, Server(GATEWAYS[name], upstream.url, options=_OPTIONS) as server:
        for row in RESPONSES:
            upstream.does(_sends(row))
            answer = _answer(_exchange(server.port, _request(row.method), _PATIENCE), row)
            responses[row.ids] = _judge_response(row, answer, len(upstream.ledger.of("request")))
        for hostile in REQUESTS:
            upstream.answers(reply("200 OK", "X-Upstream: 1", body=b"ok"))
            _exchange(server.port, hostile.data, 0.3 if hostile.ends else _PATIENCE)
            time.sleep(0.02)  # what was pipelined before the end may still be on its way
            received = [event for event in upstream.ledger.of("request") if isinstance(event, Received)]
            requests[hostile.name] = _judge_request(hostile, received)
    outcome["responses"][name], outcome["requests"][name] = responses, requests


def _request(method: str) -> bytes:
    return f"{method} /row HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n".encode()


def _exchange(port: int, data: bytes, patience: float) -> bytes | None:
    """What comes back until the connection ends; None when it does not end."""
    received, end = b"", time.monotonic() + patience
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience) as client:
            client.sendall(data)
            while True:
                client.settimeout(max(end - time.monotonic(), 0.01))
                piece = client.recv(65536)
                if not piece:
                    return received
                received += piece
    except TimeoutError:
        return None
    except OSError:
        return received


class _Bytes(io.BytesIO):
    def makefile(self, _: str) -> io.BytesIO:
        return self


def _answer(received: bytes | None, row: Row) -> str | tuple[int, bytes]:
    """Status and body of a gateway's answer; a name of its own when it is cut off or says that the upstream failed."""
    if received is None:
        return "waits"
    response = http.client.HTTPResponse(_Bytes(received), method=row.method)  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except (http.client.HTTPException, ValueError, OSError, OverflowError) as error:
        return type(error).__name__
    expected = row.expect[0] if not isinstance(row.expect, str) else 0
    if response.status >= 500 and response.status != expected:
        return f"answered {response.status}"
    return response.status, body


def _judge_request(row: RequestRow, received: list[Received]) -> str:
    if len(received) > row.most or any(b"smuggled" in request.head for request in received):
        return "smuggled"
    if row.expect == REFUSED and received:
        return "forwarded"
    if row.expect == FORWARDED and not received:
        return "refused"
    for request in received:
        names = [name.lower() for name, _ in request.lines]
        framings = names.count("content-length") + names.count("transfer-encoding")
        controls = re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", request.head.replace(b"\r\n", b""))
        if names.count("host") != 1 or framings > 1 or controls or _FORBIDDEN & set(names):
            return "unclean"
    return "right"


def groups(verdicts: Verdicts) -> dict[str, list[str]]:
    """Verdicts by row: of the rows ``U4-...`` those of U4, of ``C18 ...`` those of C18."""
    found: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        found.setdefault(re.split(r"[- ]", name, maxsplit=1)[0], []).append(verdict)
    return found
