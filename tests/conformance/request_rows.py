"""Requests of hostile or careless clients: rows C1 to C36, as the bytes that arrive at a gateway for ``/api``.

``REFUSED`` rows must not reach the upstream, ``FORWARDED`` rows must, once and with the target given; of ``EITHER``
rows at most one request arrives, and what arrives is beyond doubt.
"""

from __future__ import annotations

from dataclasses import dataclass

REFUSED, FORWARDED, EITHER = "refused", "forwarded", "either"


@dataclass(frozen=True)
class RequestRow:
    """One row; ``ends``: the client sends no more and closes its side."""

    name: str
    data: bytes
    expect: str
    target: str = ""
    most: int = 1
    ends: bool = False


def get(target: bytes, *lines: bytes, host: bytes = b"Host: h", method: bytes = b"GET") -> bytes:
    head = [method + b" " + target + b" HTTP/1.1", *([host] if host else []), b"Connection: close", *lines]
    return b"\r\n".join([*head, b"", b""])


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return get(b"/api/x", *lines, method=b"POST") + body


SMUGGLED = b"GET /api/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"

PATHS = [
    RequestRow("C1 two slashes", get(b"/api//evil.com/x"), FORWARDED, "/api//evil.com/x"),
    RequestRow("C1 three slashes", get(b"/api///x"), FORWARDED, "/api///x"),
    *(
        RequestRow(f"C2 {name.decode()}", get(name), REFUSED)
        for name in (b"/api@evil.com/", b"/api:80@evil/", b"/api.evil.com", b"/apifoo", b"/api\\evil", b"/api;x",
                     b"/API/x")
    ),
    RequestRow("C3 absolute form", get(b"http://other/api/x", host=b"Host: other"), FORWARDED, "/api/x"),
    RequestRow("C3 scheme without host", get(b"https:evil"), REFUSED),
    RequestRow("C3 star", get(b"*"), REFUSED),
    RequestRow("C3 query alone", get(b"?q"), REFUSED),
    RequestRow("C3 fragment", get(b"/api/a#b"), EITHER),
    *(
        RequestRow(f"C4 {name.decode()}", get(name), REFUSED)
        for name in (
            b"/api/../b", b"/api/%2e%2e/b", b"/api/..%2fb", b"/api/..;/admin", b"/api/%2e%2e;x/", b"/api/a/../../b",
            b"/api/..%5cb", b"/api/.%2e/b",
        )
    ),
    RequestRow("C4 inside the prefix", get(b"/api/a/../b"), FORWARDED, "/api/a/../b"),
    RequestRow("C5 encoded slash", get(b"/api/a%2Fb"), EITHER),
    RequestRow("C5 in the prefix", get(b"/ap%69/x"), EITHER),
    RequestRow("C6 NUL", get(b"/api/%00"), REFUSED),
    RequestRow("C6 CR LF", get(b"/api/a%0d%0aX:%20y"), REFUSED),
    RequestRow("C6 question mark", get(b"/api/a%3Fb%23c%25d"), FORWARDED, "/api/a%3Fb%23c%25d"),
    RequestRow("C7 bad escape", get(b"/api/%zz"), EITHER),
    RequestRow("C7 overlong", get(b"/api/%c0%af"), EITHER),
    RequestRow("C7 not UTF-8", get(b"/api/%FF"), EITHER),
    RequestRow("C8 raw bytes", get(b"/api/\xff\xfe"), EITHER),
    RequestRow("C8 blank", get(b"/api/a b"), EITHER),
    RequestRow("C8 tab", get(b"/api/a\tb"), EITHER),
    RequestRow("C8 delimiters", get(b'/api/"<>^{}|'), EITHER),
    RequestRow("C8 blank in the query", get(b"/api/x?a b"), EITHER),
    RequestRow("C9 query", get(b"/api/x?a=1&a=2;b=3&=&a=%zz&"), FORWARDED, "/api/x?a=1&a=2;b=3&=&a=%zz&"),
    RequestRow("C9 1,000 parameters", get(b"/api/x?" + b"&".join([b"a=1"] * 1000)), FORWARDED,
               "/api/x?" + "&".join(["a=1"] * 1000)),
]  # fmt: skip

METHODS = [
    RequestRow("C10 line break", b"GET\r\nX: y /api/x HTTP/1.1\r\nHost: h\r\n\r\n", REFUSED),
    RequestRow("C10 blank", get(b"/api/x", method=b"G ET"), REFUSED),
    RequestRow("C10 lower case", get(b"/api/x", method=b"get"), EITHER, "/api/x"),
    RequestRow("C10 10 KB", get(b"/api/x", method=b"A" * 10_000), EITHER),
    RequestRow("C10 NUL", get(b"/api/x", method=b"G\0T"), REFUSED),
    RequestRow("C10 CONNECT", get(b"/api/x", method=b"CONNECT"), REFUSED),
    RequestRow("C10 TRACE", get(b"/api/x", method=b"TRACE"), REFUSED),
    RequestRow("C10 QUERY", get(b"/api/x", method=b"QUERY"), EITHER, "/api/x"),
]

FIELDS = [
    RequestRow("C11 connection", get(b"/api/x", b"Connection: X-Forwarded-For, Via, Host, Content-Length, X-Secret",
                                     b"X-Secret: 1"), FORWARDED, "/api/x"),
    RequestRow("C12 empty connection", get(b"/api/x", b"Connection:", b"Connection: close, X-Secret", b"X-Secret: 1"),
               EITHER, "/api/x"),
    RequestRow("C12 1,000 tokens", get(b"/api/x", b"Connection: " + b",".join([b"a"] * 1000)), EITHER, "/api/x"),
    RequestRow("C13 spoofed", get(b"/api/x", b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For: , \"x\"",
                                  b"X-Forwarded-Proto: evil", b"X-Real-IP: 1.2.3.4", b"Forwarded: for=evil",
                                  b"X-Forwarded-Prefix: /evil"), FORWARDED, "/api/x"),
    RequestRow("C14 underscores", get(b"/api/x", b"X_Forwarded_For: evil", b"Content_Length: 5"), EITHER, "/api/x"),
    RequestRow("C15 10 KB of addresses", get(b"/api/x", b"X-Forwarded-For: " + b"1.2.3.4," * 1250), FORWARDED,
               "/api/x"),
    RequestRow("C16 no host", get(b"/api/x", host=b""), REFUSED),
    *(
        RequestRow(f"C16 {value.decode()}", get(b"/api/x", host=value), REFUSED)
        for value in (b"Host: a\r\nHost: b", b"Host: a b", b"Host: evil@good", b"Host: a/b", b"Host: a:99999",
                      b"Host: [::1", b"Host: a,b", b"Host: a\\b")
    ),
    RequestRow("C17 other authority", get(b"http://other/api/x", host=b"Host: h"), EITHER, "/api/x"),
    RequestRow("C22 expect", post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"), FORWARDED, "/api/x"),
    RequestRow("C22 other expectation", post(b"Expect: y 100-continue", b"Content-Length: 3", body=b"abc"), REFUSED),
    RequestRow("C23 h2c", get(b"/api/x", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
                              b"HTTP2-Settings: AAA"), EITHER, "/api/x"),
    RequestRow("C23 websocket on POST", post(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 0"),
               EITHER, "/api/x"),
    RequestRow("C23 bytes after an upgrade", get(b"/api/x", b"Connection: Upgrade", b"Upgrade: foo") + SMUGGLED,
               EITHER, "/api/x"),
    RequestRow("C24 TE and Trailer", get(b"/api/x", b"TE: gzip", b"Trailer: X-T"), EITHER, "/api/x"),
    RequestRow("C24 trailers", post(CHUNKED, body=b"3\r\nabc\r\n0\r\nX-Admin: 1\r\nContent-Length: 9\r\n\r\n"),
               EITHER, "/api/x"),
    RequestRow("C24 trailers of no framing", post(CHUNKED, body=b"3\r\nabc\r\n0\r\nX-Admin: 1\r\n\r\n"), EITHER,
               "/api/x"),
    RequestRow("C28 64 KB field", get(b"/api/x", b"X-Long: " + b"a" * 65_536), EITHER, "/api/x"),
    RequestRow("C28 1,000 fields", get(b"/api/x", *[b"X-A: 1"] * 1000), EITHER, "/api/x"),
    RequestRow("C28 100 KB URL", get(b"/api/" + b"a" * 100_000), EITHER),
    RequestRow("C28 quoted cookie", get(b"/api/x", b'Cookie: a="b c"; d=e'), FORWARDED, "/api/x"),
    RequestRow("C29 websocket protocol", get(b"/api/x", b"Connection: Upgrade", b"Upgrade: websocket",
                                             b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                                             b"Sec-WebSocket-Version: 13",
                                             b"Sec-WebSocket-Protocol: \x80\xff"), REFUSED),
    RequestRow("C32 ranges", get(b"/api/x", b"Range: bytes=" + b",".join([b"0-9"] * 1000)), EITHER, "/api/x"),
    RequestRow("C33 loop", get(b"/api/x", *[b"Via: 1.1 velithon-proxy"] * 10), REFUSED),
    RequestRow("C35 policy field twice", get(b"/api/x", b"X-Role: user", b"X-Role: admin"), FORWARDED, "/api/x"),
    *(
        RequestRow(f"C27 {name}", get(b"/api/x", line), EITHER)
        for name, line in {
            "NUL in a value": b"X: a\0b", "control in a value": b"X: a\x01b", "DEL in a value": b"X: a\x7fb",
            "CR in a value": b"X: a\rb", "blank before the colon": b"X : 1", "empty name": b": 1", "no colon": b"X",
            "blank in a name": b"X Y: 1", "fold": b"X: 1\r\n 2", "leading blank": b" X: 1", "Latin-1": b"X: \xe9",
        }.items()
    ),
    RequestRow("C27 bare LF", b"GET /api/x HTTP/1.1\nHost: h\nConnection: close\n\n", EITHER, "/api/x"),
]  # fmt: skip

FRAMING = [
    RequestRow("C18 equal lengths", post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), EITHER),
    RequestRow("C18 different lengths", post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"), REFUSED),
    RequestRow("C18 list of lengths", post(b"Content-Length: 3, 3", body=b"abc"), EITHER),
    *(
        RequestRow(f"C18 length {value.decode()}", post(b"Content-Length: " + value, body=b"abc"), REFUSED, ends=True)
        for value in (b"-1", b"+3", b"0x3", b"3;", b"", b"1_0", b"3 3", b"18446744073709551621", b"\xef\xbc\x93")
    ),
    RequestRow("C18 length 03", post(b"Content-Length: 03", body=b"abc"), EITHER),
    RequestRow("C19 both", post(b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED), EITHER),
    RequestRow("C19 both, other order", post(CHUNKED, b"Content-Length: 6", body=b"0\r\n\r\n" + SMUGGLED), EITHER),
    *(
        RequestRow(f"C19 {line.decode('latin-1')!a}", post(*line.split(b"\r\n"), body=b"0\r\n\r\n"), EITHER,
                   ends=True)
        for line in (
            b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: ,chunked",
            b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding:\x00chunked",
            b"Transfer-Encoding: chunked\xa0", b"Transfer-Encoding : chunked", b" Transfer-Encoding: chunked",
            b"X: 1\rTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer-Encoding: CHUNKED",
            b"Transfer-Encoding:\r\n chunked", b"Transfer_Encoding: chunked", b"Transfer-Encoding: chunk",
            b"Transfer-Encoding: chunked;x=y", b"Transfer-Encoding: x\r\nContent-Length: 5",
        )
    ),
    RequestRow("C19 chunked in 1.0", post(CHUNKED, body=b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"), EITHER,
               ends=True),
    *(
        RequestRow(f"C19 chunk {body!r}", post(CHUNKED, body=body), EITHER, ends=True)
        for body in (
            b"0x3\r\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"-1\r\nabc\r\n0\r\n\r\n", b"\r\nabc\r\n0\r\n\r\n",
            b"3\nabc\n0\n\n", b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b"3 ;x\r\nabc\r\n0\r\n\r\n",
            b"3;a=\"\r\nabc\r\n0\r\n\r\n", b"11111111111111111\r\nabc\r\n0\r\n\r\n", b"3;\rx\r\nabc\r\n0\r\n\r\n",
        )
    ),
    *(
        RequestRow(f"C20 {method.decode()} with a body",
                   get(b"/api/x", b"Content-Length: 3", method=method) + b"abc", EITHER, "/api/x")
        for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS")
    ),
    RequestRow("C20 body absent", post(b"Content-Length: 10", body=b"abc"), REFUSED, ends=True),
    RequestRow("C21 a request inside a body", post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED), FORWARDED,
               "/api/x"),
    RequestRow("C21 pipelined, the last one invalid",
               b"GET /api/x HTTP/1.1\r\nHost: h\r\n\r\n" * 10 + b"GET /api/x HTTP/9.9\r\nHost: a b\r\n\r\n", EITHER,
               "/api/x", most=10, ends=True),
    RequestRow("C30 cut off between chunks", post(CHUNKED, body=b"3\r\nabc\r\n"), REFUSED, ends=True),
    RequestRow("C30 cut off in a chunk", post(CHUNKED, body=b"5\r\nabc"), REFUSED, ends=True),
    RequestRow("C30 cut off in the last chunk", post(CHUNKED, body=b"3\r\nabc\r\n0\r\n"), REFUSED, ends=True),
]  # fmt: skip

ROWS = [*PATHS, *METHODS, *FIELDS, *FRAMING]
