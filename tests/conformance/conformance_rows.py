"""What a hostile or broken upstream sends, row by row, and what the client must make of it.

The ids are those of the project's list of bad input (U: what upstreams send) and of duties of an intermediary (R).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Ending = Literal["open", "fin", "reset"]
"""What the upstream does with the connection after its bytes."""


@dataclass(frozen=True)
class Row:
    """One response, and what becomes of it.

    Attributes:
        ids: rows it covers, with a word that tells it from others.
        sends: the bytes.
        expect: status and body of an accepted response; ``"protocol"`` or ``"closed"`` for the class of the error.
        ending: what follows the bytes.
        method: of the request.
        reused: whether the connection may carry the next request; ``None``: either.
        fields: header lines that must be there, in this order, if the response is accepted.
        also: another outcome that is as good.
    """

    ids: str
    sends: bytes
    expect: tuple[int, bytes] | Literal["protocol", "closed"]
    ending: Ending = "open"
    method: str = "GET"
    reused: bool | None = False
    fields: tuple[tuple[bytes, bytes], ...] = ()
    also: tuple[int, bytes] | Literal["protocol", "closed"] | None = None


def head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((status, *lines)) + b"\r\n\r\n"


def of_length(body: bytes, *lines: bytes) -> bytes:
    return head(b"Content-Length: %d" % len(body), *lines) + body


CHUNKED = b"Transfer-Encoding: chunked"


def _heads() -> Iterator[Row]:
    for name, sends in {
        "garbage": b"garbage\r\n\r\n",
        "http-0.9": b"<html><body>hello</body></html>",
        "no-version": b"200 OK\r\n\r\n",
        "binary": b"\x16\x03\x01\x00\xff\x01",
    }.items():
        yield Row(f"U1-{name}", sends, "protocol")
    yield Row("U2-nothing-fin", b"", "closed", "fin")
    yield Row("U2-nothing-reset", b"", "closed", "reset")
    for cut in (1, 8, 14, 20, 37):
        yield Row(f"U3-cut-at-{cut}", of_length(b"ok")[:cut], "closed", "fin")
        yield Row(f"U3-reset-at-{cut}", of_length(b"ok")[:cut], "closed", "reset")
    for name, line in {
        "http-2.0": b"HTTP/2.0 200 OK",
        "http-1.2": b"HTTP/1.2 200 OK",
        "lower-case": b"http/1.1 200 OK",
        "http-11": b"HTTP/11 200 OK",
        "leading-blank": b" HTTP/1.1 200 OK",
    }.items():
        yield Row(f"U23-{name}", head(b"Content-Length: 0", status=line), "protocol")
    yield Row("U23-one-crlf", b"\r\n" + of_length(b"ok"), (200, b"ok"), reused=True)
    yield Row("U23-two-crlf", b"\r\n\r\n" + of_length(b"ok"), "protocol")
    for status in (b"099", b"000", b"600", b"999", b"20", b"2000", b"-1", b"2x0", b""):
        line = b"HTTP/1.1 %b OK" % status
        yield Row(f"U22-status-{status.decode() or 'none'}", head(b"Content-Length: 0", status=line), "protocol")
    for status in (200, 299, 404, 418, 451, 599):
        sends = head(b"Content-Length: 2", status=b"HTTP/1.1 %d Whatever" % status) + b"ok"
        yield Row(f"R25-status-{status}", sends, (status, b"ok"), reused=True)
    yield Row(
        "U22-no-reason", head(b"Content-Length: 0", status=b"HTTP/1.1 200"), (200, b""), reused=True, also="protocol"
    )
    yield Row("U22-tab", head(b"Content-Length: 0", status=b"HTTP/1.1\t200\tOK"), "protocol", also=(200, b""))
    yield Row("U17-bare-lf", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "protocol")
    yield Row("U17-one-bare-lf", b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\nok", "protocol")
    for name, line in {
        "cr": b"A: b\rc", "nul": b"A: b\0c", "soh": b"A: b\x01c", "del": b"A: b\x7fc", "name-0x85": b"A\x85: b",
        "empty-name": b": b", "no-colon": b"nothing", "space-in-name": b"A b: c", "leading-space": b" A: b",
        "name-quote": b'A"b: c', "name-nul": b"A\0: b",
    }.items():  # fmt: skip
        yield Row(f"U18-{name}", head(line, b"Content-Length: 2") + b"ok", "protocol")
    for name, line in {
        "length-space": b"Content-Length : 2", "coding-space": b"Transfer-Encoding : chunked",
        "length-tab": b"Content-Length\t: 2",
    }.items():  # fmt: skip
        yield Row(f"U19-{name}", head(line) + b"ok", "protocol")
    yield Row("R13-space-before-colon", head(b"A : b", b"Content-Length: 2") + b"ok", "protocol", also=(200, b"ok"))
    yield Row("U20-fold", head(b"A: b", b" c", b"Content-Length: 2") + b"ok", "protocol", also=(200, b"ok"))
    yield Row("U20-folded-coding", head(b"Transfer-Encoding:", b" chunked") + b"0\r\n\r\n", "protocol")
    latin = (b"Content-Disposition", b'attachment; filename="\xe9"')
    yield Row("U21-latin-1", of_length(b"ok", b": ".join(latin)), (200, b"ok"), reused=True, fields=(latin,))
    cookies = tuple((b"Set-Cookie", b"same=%d; Path=/" % i) for i in range(200))
    yield Row("U29-cookies", of_length(b"ok", *map(b": ".join, cookies)), (200, b"ok"), reused=True, fields=cookies)
    names = tuple((name, b"v") for name in (b"x-lower", b"X-UPPER", b"x-MiXeD"))
    yield Row("R10-case", of_length(b"ok", *map(b": ".join, names)), (200, b"ok"), reused=True, fields=names)
    yield Row("U28-8kb", of_length(b"ok", b"A: " + b"x" * 8192), (200, b"ok"), reused=True)
    full = 65536 - len(of_length(b"", b"A: ")) - len(b"2") + 1
    yield Row("U28-64kb", head(b"Content-Length: 2", b"A: " + b"x" * full) + b"ok", (200, b"ok"), reused=True)
    yield Row("U28-64kb-and-one", head(b"Content-Length: 2", b"A: " + b"x" * (full + 1)) + b"ok", "protocol")
    yield Row("U28-1mb", head(b"A: " + b"x" * (1 << 20)), "protocol")
    yield Row("U28-500-lines", of_length(b"ok", *[b"A: b"] * 499), (200, b"ok"), reused=True)
    yield Row("U28-501-lines", of_length(b"ok", *[b"A: b"] * 500), "protocol")
    yield Row("U28-100000-lines", head(*[b"A: b"] * 100_000), "protocol")
    location = (b"Location", b"http://169.254.169.254/latest/meta-data")
    moved = head(b"Content-Length: 0", b": ".join(location), status=b"HTTP/1.1 302 Found")
    yield Row("U31-redirect", moved, (302, b""), reused=True, fields=(location,))
    yield Row("U32-empty-type", of_length(b"ok", b"Content-Type:"), (200, b"ok"), reused=True)


def _framing() -> Iterator[Row]:
    yield Row("U4-short-fin", head(b"Content-Length: 10") + b"ab", "closed", "fin")
    yield Row("U4-short-reset", head(b"Content-Length: 10") + b"ab", "closed", "reset")
    yield Row("U7-until-close", head() + b"hello", (200, b"hello"), "fin")
    yield Row("U7-until-close-reset", head() + b"hello", "closed", "reset")
    yield Row("R21-http-1.0", head(status=b"HTTP/1.0 200 OK") + b"hello", (200, b"hello"), "fin")
    old = b"HTTP/1.0 200 OK"
    yield Row("R21-http-1.0-length", head(b"Content-Length: 2", status=old) + b"ok", (200, b"ok"))
    kept = head(b"Content-Length: 2", b"Connection: Keep-Alive", status=old) + b"ok"
    yield Row("R21-http-1.0-keep-alive", kept, (200, b"ok"), reused=True)
    for name, lines in {
        "equal": (b"Content-Length: 2", b"Content-Length: 2"),
        "differing": (b"Content-Length: 2", b"Content-Length: 3"),
        "list": (b"Content-Length: 2, 2",),
    }.items():
        yield Row(f"U8-{name}", head(*lines) + b"ok", "protocol")
    for name, value in {
        "plus": b"+2", "minus": b"-2", "hex": b"0x2", "letter": b"2Z", "empty": b"", "2^64+2": b"18446744073709551618",
        "underscore": b"1_0", "blank": b"1 0", "float": b"2.0", "comma": b"2,", "19-digits": b"9999999999999999999",
    }.items():  # fmt: skip
        yield Row(f"U9-{name}", head(b"Content-Length: " + value) + b"ok", "protocol")
    yield Row("U9-leading-zero", head(b"Content-Length: 02") + b"ok", (200, b"ok"), reused=True, also="protocol")
    both = b"2\r\nok\r\n0\r\n\r\n"
    yield Row("U10-length-coding", head(b"Content-Length: 2", CHUNKED) + both, "protocol")
    yield Row("U10-coding-length", head(CHUNKED, b"Content-Length: 2") + both, "protocol")
    for name, lines in {
        "twice": (CHUNKED, CHUNKED),
        "chunked-chunked": (b"Transfer-Encoding: chunked, chunked",),
        "gzip-chunked": (b"Transfer-Encoding: gzip, chunked",),
        "gzip": (b"Transfer-Encoding: gzip",),
        "identity": (b"Transfer-Encoding: identity",),
        "xchunked": (b"Transfer-Encoding: xchunked",),
        "comma": (b"Transfer-Encoding: ,chunked",),
        "quoted": (b'Transfer-Encoding: "chunked"',),
        "vt": (b"Transfer-Encoding: \x0bchunked",),
        "nbsp": (b"Transfer-Encoding: \xa0chunked",),
        "nul": (b"Transfer-Encoding: chunked\0",),
        "empty": (b"Transfer-Encoding:",),
        "parameter": (b"Transfer-Encoding: chunked;q=1",),
    }.items():
        yield Row(f"U11-{name}", head(*lines) + b"2\r\nok\r\n0\r\n\r\n", "protocol")
    chunk = b"2\r\nok\r\n0\r\n\r\n"
    yield Row("U12-http-1.0-coding", head(CHUNKED, status=old) + chunk, "protocol")
    yield Row("U12-keep-alive", head(CHUNKED, b"Connection: keep-alive", status=old) + chunk, "protocol")
    yield Row("R20-upper-case-coding", head(b"TRANSFER-ENCODING: CHUNKED") + chunk, (200, b"ok"), reused=True)


def _chunks() -> Iterator[Row]:
    def chunked(*pieces: bytes) -> bytes:
        return head(CHUNKED) + b"".join(pieces)

    yield Row("U5-no-end", chunked(b"2\r\nok\r\n"), "closed", "fin")
    yield Row("U5-no-last-crlf", chunked(b"2\r\nok\r\n0\r\n"), "closed", "fin")
    yield Row("U6-mid-chunk", chunked(b"5\r\nab"), "closed", "fin")
    yield Row("U6-mid-size", chunked(b"2\r\nok\r\n1"), "closed", "fin")
    yield Row("U6-reset-at-boundary", chunked(b"2\r\nok\r\n"), "closed", "reset")
    for name, size in {
        "hex-prefix": b"0x2", "plus": b"+2", "minus": b"-2", "underscore": b"2_", "leading-blank": b" 2", "empty": b"",
        "17-digits": b"00000000000000002", "ffff": b"ffffffffffffffff", "letter": b"g", "quote": b'"2"',
    }.items():  # fmt: skip
        yield Row(f"U13-{name}", chunked(size + b"\r\nok\r\n0\r\n\r\n"), "protocol")
    yield Row("U13-leading-zeros", chunked(b"0002\r\nok\r\n0\r\n\r\n"), (200, b"ok"), reused=True)
    yield Row("U13-blank-extension", chunked(b"2 ;x\r\nok\r\n0\r\n\r\n"), (200, b"ok"), reused=True)
    yield Row("U14-size-lf", chunked(b"2\nok\r\n0\r\n\r\n"), "protocol")
    yield Row("U14-data-lf", chunked(b"2\r\nok\n0\r\n\r\n"), "protocol")
    yield Row("U14-data-too-long", chunked(b"2\r\nokk\r\n0\r\n\r\n"), "protocol")
    yield Row("U14-cr-in-extension", chunked(b"2;a\rb\r\nok\r\n0\r\n\r\n"), "protocol")
    yield Row("U14-last-lf", chunked(b"2\r\nok\r\n0\n\n"), "protocol")
    yield Row("U15-extensions", chunked(*[b"1;" + b"x" * 4000 + b"\r\na\r\n"] * 10, b"0\r\n\r\n"), "protocol")
    yield Row("U15-long-extension", chunked(b"2;" + b"x" * 20_000 + b"\r\nok\r\n0\r\n\r\n"), "protocol")
    small = chunked(*[b"1\r\na\r\n"] * 20_000, b"0\r\n\r\n")
    yield Row("U15-20000-chunks", small, (200, b"a" * 20_000), reused=True)
    yield Row("U16-endless-trailers", chunked(b"2\r\nok\r\n0\r\n", b"A: b\r\n" * 10_000), "protocol")
    for name, trailer in {"length": b"Content-Length: 9", "host": b"Host: evil", "cookie": b"Set-Cookie: a=b"}.items():
        sends = chunked(b"2\r\nok\r\n0\r\n", trailer + b"\r\n\r\n")
        yield Row(f"U16-trailer-{name}", sends, (200, b"ok"), reused=True, also="protocol")


def _surroundings() -> Iterator[Row]:
    final = of_length(b"ok")
    hints = head(b"Link: </x>", status=b"HTTP/1.1 103 Early Hints")
    yield Row("U24-100", head(status=b"HTTP/1.1 100 Continue") + final, (200, b"ok"), reused=True)
    yield Row("U24-16x103", hints * 16 + final, (200, b"ok"), reused=True)
    yield Row("U24-17x103", hints * 17 + final, "protocol")
    yield Row("U24-endless-103", hints * 5000, "protocol")
    yield Row("U24-1xx-body", head(b"Content-Length: 2", status=b"HTTP/1.1 103 X") + b"ok" + final, "protocol")
    yield Row("U25-101", head(b"Upgrade: websocket", b"Connection: upgrade", status=b"HTTP/1.1 101 S"), "protocol")
    yield Row("U25-close", of_length(b"ok", b"Connection: close, X-Session"), (200, b"ok"))
    yield Row("U25-upgrade-offered", of_length(b"ok", b"Upgrade: h2c"), (200, b"ok"), reused=None)
    for status, method in ((b"204", "GET"), (b"304", "GET"), (b"200", "HEAD")):
        sends = head(b"Content-Length: 5", status=b"HTTP/1.1 %b X" % status)
        yield Row(f"U26-{status.decode()}-body", sends + b"hello", (int(status), b""), method=method)
        yield Row(f"R23-{status.decode()}-length", sends, (int(status), b""), method=method, reused=None)
    yield Row("R23-204", head(status=b"HTTP/1.1 204 X"), (204, b""), reused=True)
    yield Row("R23-304", head(b'ETag: "x"', status=b"HTTP/1.1 304 X"), (304, b""), reused=True)
    yield Row("U32-head-coding", head(CHUNKED), (200, b""), method="HEAD", reused=None)
    yield Row("U27-extra-bytes", final + b"extra", (200, b"ok"))
    yield Row("U27-second-response", final + final, (200, b"ok"))
    encoded = (b"Content-Encoding", b"gzip")
    yield Row(
        "U30-encoded", of_length(b"\x1f\x8b-no-gzip", b": ".join(encoded)), (200, b"\x1f\x8b-no-gzip"), reused=True
    )


ROWS = tuple(itertools.chain(_heads(), _framing(), _chunks(), _surroundings()))
