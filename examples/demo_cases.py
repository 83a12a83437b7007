"""The requests of the demo, and what is wrong with an answer: nothing, one hopes."""

import contextlib
import hashlib
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

HOST = "127.0.0.1"
REQUEST_LIMIT = 10.0  # seconds
FIVE_MB = 5_000_000


@dataclass
class Reply:
    """One answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    milliseconds: float

    def json(self) -> dict:
        return json.loads(self.body)


@dataclass
class Case:
    """A request, and what is wrong with its answer: an empty list if nothing is."""

    title: str
    method: str
    path: str
    check: Callable[[Reply], Iterator[str]]
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """Send one request on a connection that stays."""
    start = time.perf_counter()
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    content = response.read()
    return Reply(response.status, response.msg, content, (time.perf_counter() - start) * 1e3)


def send(port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
    """Send one request on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=REQUEST_LIMIT)) as connection:
        return ask(connection, method, path, body, headers)


def expect(reply: Reply, status: int, service: str | None) -> Iterator[str]:
    if reply.status != status:
        yield f"status {reply.status}, not {status}"
    answered = (reply.headers["x-service"] or "the application").partition("-")[0]
    if answered != (service or "the application"):
        yield f"answered by {answered}, not {service or 'the application'}"


def check_query(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, "users")
    seen = reply.json()
    if (seen["path"], seen["query"]) != ("/echo", "tag=a&tag=b"):
        yield f"the upstream saw {seen['path']}?{seen['query']}"
    names = {name.lower() for name, _ in seen["headers"]}
    if not {"x-service", "x-request-id", "x-gateway", "x-forwarded-for", "via"} <= names:
        yield f"the upstream saw the fields {sorted(names)}"
    if reply.headers["x-gateway"] != "Velithon" or reply.headers["x-response-time"] is None:
        yield "the response was not transformed"


def check_json(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, "orders")
    if reply.json()["json"] != {"item": "tea", "count": 3}:
        yield f"the upstream saw the body {reply.json()['json']}"


def check_upload(upload: bytes) -> Callable[[Reply], Iterator[str]]:
    def check(reply: Reply) -> Iterator[str]:
        yield from expect(reply, 200, "payments")
        if reply.json() != {"bytes": len(upload), "sha256": hashlib.sha256(upload).hexdigest()}:
            yield f"the upstream received {reply.json()}"

    return check


def check_download(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, "orders")
    if len(reply.body) != FIVE_MB or reply.headers["x-sha256"] != hashlib.sha256(reply.body).hexdigest():
        yield f"{len(reply.body)} bytes with another SHA-256 than the upstream sent"


def check_cookies(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, "users")
    if reply.headers.get_all("set-cookie") != ["session=abc; Path=/; HttpOnly", "theme=dark; Path=/"]:
        yield f"Set-Cookie lines: {reply.headers.get_all('set-cookie')}"


def check_health(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, None)
    if reply.json()["gateway"] != "velithon-proxy":
        yield "not the application's answer"


def check_services(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, None)
    if reply.json()["services"] != ["users", "orders", "payments"]:
        yield f"services {reply.json()['services']}"


def check_unmatched(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 404, None)
    if reply.body != b"Not Found":
        yield f"not the application's own 404 but {reply.body[:80]!r}"


def cases() -> list[Case]:
    """All requests of the first part, in order."""
    upload = os.urandom(FIVE_MB)
    order = json.dumps({"item": "tea", "count": 3}).encode()
    json_type = {"Content-Type": "application/json"}
    return [
        Case("query", "GET", "/api/users/echo?tag=a&tag=b", check_query),
        Case("JSON body", "POST", "/api/orders/echo", check_json, order, json_type),
        Case("5 MB up", "POST", "/api/payments/blob", check_upload(upload), upload),
        Case("5 MB down", "GET", f"/api/orders/blob?bytes={FIVE_MB}", check_download),
        Case("two Set-Cookie lines", "GET", "/api/users/login", check_cookies),
        Case("route of the application", "GET", "/health", check_health),
        Case("another one", "GET", "/services", check_services),
        Case("unmatched path", "GET", "/api/usersx", check_unmatched),
    ]
