"""What a gateway makes of a request before and while it forwards it: rows R8, C3, C10, C16, C18 and R10."""

from __future__ import annotations

from typing import Any

import pytest

from velithon_proxy import ProxyResponse
from velithon_proxy._headers import Headers
from velithon_proxy.middleware._answers import ClientGoneError, Refusal
from velithon_proxy.middleware._fields import Lines
from velithon_proxy.middleware._gateway import Gateway
from velithon_proxy.middleware._passing import Admitted

HOST = ("host", "client.example")


def admit(
    *lines: tuple[str, str],
    method: str = "GET",
    path: str = "/api/x",
    http_version: str = "1.1",
    authority: str | None = None,
    **options: Any,
) -> Admitted:
    gateway = Gateway("http://up", **{"path_prefix": "/api", "via": None, **options})
    admitted = gateway.admit(method, path, "", list(lines), http_version=http_version, authority=authority)
    return admitted._replace(lines=[line for line in admitted.lines if not line[0].startswith("x-forwarded-")])


def refused(*lines: tuple[str, str], **request: Any) -> int:
    with pytest.raises(Refusal) as raised:
        admit(*lines, **request)
    return raised.value.status


@pytest.mark.parametrize(("method", "status"), [("CONNECT", 501), ("TRACE", 405)])
def test_two_methods_are_never_forwarded(method: str, status: int) -> None:
    assert refused(HOST, method=method) == status


def test_a_method_is_not_compared_without_case() -> None:
    assert admit(HOST, method="trace").target == "/api/x"


def test_the_whole_server_may_be_asked_for_its_options() -> None:
    assert admit(HOST, method="OPTIONS", path="*", path_prefix="/").target == "*"
    assert refused(HOST, method="GET", path="*", path_prefix="/") == 400


@pytest.mark.parametrize(
    "host",
    ["a", "A.Example", "a.", "a:80", "a:", "a_b-c~d", "127.0.0.1:1", "[::1]", "[2001:db8::1]:65535", "a%20b", "x--y"],
)
def test_usual_hosts_are_accepted(host: str) -> None:
    assert admit(("host", host)).lines == [("host", host)]


@pytest.mark.parametrize(
    "host",
    ["", " ", "a b", "a/b", "a\\b", "evil@good", "a?b", "a#b", "a,b", "a;b", "a'b", 'a"b', "<a>", "a:b:c", "a:80x",
     "a:0", "a:65536", "a:99999", "a:123456", "[::1", "::1", "[::1]x", "[evil]", "[::1%eth0]", "é", "a\x00", "a\n"],
)  # fmt: skip
def test_hosts_that_could_be_read_otherwise_are_refused(host: str) -> None:
    assert refused(("host", host)) == 400
    assert refused(HOST, authority=host) == 400


def test_a_request_names_one_host() -> None:
    assert refused() == 400
    assert refused(HOST, HOST) == 400
    assert refused(HOST, ("host", "other")) == 400
    assert refused(("host", ""), http_version="2") == 400
    for version in ("1", "1.0"):
        assert admit(http_version=version).lines == []
        # Granian's ASGI makes an empty one of none; a client that knows no host sends it so (RFC 9112 section 3.2).
        assert admit(("host", ""), http_version=version).lines == []
        assert refused(("host", " "), http_version=version) == 400
    assert admit(http_version="2", authority="a").lines == []


def test_one_request_without_a_host_permits_no_other() -> None:
    gateway = Gateway("http://up")
    for lines in ([], [("host", "")]):
        gateway.admit("GET", "/", "", lines, http_version="1.0", authority=None, address="192.0.2.7")
        with pytest.raises(Refusal) as raised:
            gateway.admit("GET", "/", "", [("host", "")], http_version="1.1", authority=None, address="192.0.2.7")
        assert raised.value.status == 400


def test_preserve_host_takes_the_authority_of_the_target_first() -> None:
    assert admit(HOST, ("a", "1"), authority="abs.example", preserve_host=True).lines == [
        ("host", "abs.example"),
        ("a", "1"),
    ]
    assert admit(("a", "1"), http_version="2", authority="h2.example", preserve_host=True).lines == [
        ("host", "h2.example"),
        ("a", "1"),
    ]
    assert admit(HOST, preserve_host=True).lines == [HOST]
    assert admit(HOST, authority="abs.example").lines == [HOST], "the core drops it"


@pytest.mark.parametrize(
    ("http_version", "lines", "length"),
    [
        ("1.1", [], 0),
        ("1", [], 0),
        ("1.1", [("content-length", "0")], 0),
        ("1.1", [("content-length", "12")], 12),
        ("1.1", [("content-length", "007")], 7),
        ("1.1", [("transfer-encoding", "chunked")], None),
        ("2", [], None),
        ("2", [("content-length", "3")], 3),
    ],
)
def test_the_announced_length_is_known(http_version: str, lines: Lines, length: int | None) -> None:
    assert admit(HOST, *lines, method="POST", http_version=http_version).length == length


@pytest.mark.parametrize("value", ["", "-1", "+1", "0x1", "1_0", "1,1", "1 1", "1.0", "a", "²", "9" * 19])
def test_an_unclear_length_is_refused(value: str) -> None:
    assert refused(HOST, ("content-length", value), method="POST") == 400


def test_two_framings_are_refused() -> None:
    assert refused(HOST, ("content-length", "1"), ("content-length", "1")) == 400
    assert refused(HOST, ("content-length", "1"), ("transfer-encoding", "chunked")) == 400


@pytest.mark.parametrize("values", [["gzip, chunked"], ["chunked", "chunked"], ["gzip"], [""], ["identity"]])
def test_a_transfer_coding_that_nobody_undoes_is_refused(values: list[str]) -> None:
    assert refused(HOST, *(("transfer-encoding", value) for value in values), method="POST") == 501


def test_the_cookies_of_http_2_are_joined_and_others_are_not() -> None:
    cookies = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]
    assert admit(*cookies, http_version="2", authority="a").lines == [("x", "y"), ("cookie", "a=1; b=2; c=3")]
    assert admit(HOST, *cookies).lines == [HOST, *cookies]
    assert admit(("cookie", "a=1"), http_version="2", authority="a").lines == [("cookie", "a=1")]


class WholeResponse(ProxyResponse):
    """A stream whose body has come with its head."""

    _upload = None

    def _take_whole(self) -> bytes:
        return self.body


class RecordingClient:
    """Takes the place of the client of a gateway."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.closed = False

    async def _open_stream(self, *arguments: object) -> ProxyResponse:
        self.calls.append(arguments)
        return WholeResponse(201, Headers([("a", "b")]).packed, b"body", "http://up", 0)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("length", "body"), [(3, b"ab"), (3, b"abcd"), (0, b"a"), (1, b"")])
async def test_a_body_of_another_length_is_never_forwarded(length: int, body: bytes) -> None:
    gateway, client = Gateway("http://up"), RecordingClient()
    gateway._client = client  # type: ignore[assignment]
    with pytest.raises(Refusal) as raised:
        await gateway.open("POST", Admitted("/", [], length), body)
    assert raised.value.status == 400
    assert client.calls == []


@pytest.mark.parametrize(("length", "body"), [(3, b"abc"), (0, b""), (None, b"abc"), (None, b"")])
@pytest.mark.parametrize("preserve", [False, True])
async def test_an_admitted_request_is_handed_to_the_client_as_it_is(
    length: int | None, body: bytes, preserve: bool
) -> None:
    gateway, client = Gateway("http://up", preserve_host=preserve, via=None), RecordingClient()
    gateway._client = client  # type: ignore[assignment]
    lines = [("a", "1"), ("a", "2")]
    reply = await gateway.open("POST", Admitted("/x?y", lines, length, b"key"), body)
    assert reply == (201, [("a", "b")], b"body", None, "http://up")
    assert client.calls == [("POST", "/x?y", lines, body, 3 if preserve else 1, b"key")]


async def test_nobody_is_told_when_the_client_is_gone() -> None:
    assert await Gateway("http://up").fail(ClientGoneError("x"), method="GET", path="/") is None


def test_a_closed_gateway_can_be_used_again() -> None:
    gateway, client = Gateway("http://up"), RecordingClient()
    gateway._client = client  # type: ignore[assignment]
    gateway.close()
    assert client.closed
    assert repr(gateway._client) == "<ProxyLoadBalancer 'http://up' (unused)>"
    gateway.close()
