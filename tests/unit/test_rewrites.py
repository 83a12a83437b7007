"""Location and cookies of an upstream whose paths the client knows by other names."""

from __future__ import annotations

import pytest

from velithon_proxy.middleware._rewrites import Rewrites

REWRITES = Rewrites("/api", "/v2", ["up.example:8080", "127.0.0.1:9001"], location=True, cookies=True)
BARE = Rewrites("", "", ["up.example"], location=True, cookies=True)


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("/v2/x", "/api/x"),
        ("/v2", "/api"),
        ("/", "/api/"),
        ("/v2/", "/api/"),
        ("/v2x", "/api/v2x"),
        ("/x?next=/v2/y", "/api/x?next=/v2/y"),
        ("/x#f?g", "/api/x#f?g"),
        ("http://up.example:8080/v2/x?y#z", "/api/x?y#z"),
        ("HTTP://UP.EXAMPLE:8080", "/api/"),
        ("https://127.0.0.1:9001/x", "/api/x"),
        ("http://shop.example/x", "/api/x"),  # the client's own host, with preserve_host
        ("http://up.example/x", "http://up.example/x"),  # another port
        ("https://elsewhere.example/v2/x", "https://elsewhere.example/v2/x"),
        ("//up.example:8080/x", "//up.example:8080/x"),
        ("relative", "relative"),
        ("?q", "?q"),
        ("", ""),
        ("mailto:x@y", "mailto:x@y"),
    ],
)
def test_location(given: str, seen: str) -> None:
    assert REWRITES.response([("Location", given)], "shop.example") == [("Location", seen)]


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("a=b; Path=/v2/x; HttpOnly", "a=b; Path=/api/x; HttpOnly"),
        ("a=b; path=/", "a=b; path=/api"),
        ("a=b", "a=b"),
        ("a=/v2/x; Max-Age=1", "a=/v2/x; Max-Age=1"),
        ("a=b; Domain=.up.example; Secure", "a=b; Secure"),
        ("a=b; Domain=other.example", "a=b; Domain=other.example"),
        ("a=b; Path=", "a=b; Path="),
    ],
)
def test_cookies(given: str, seen: str) -> None:
    assert REWRITES.response([("set-cookie", given)], "h") == [("set-cookie", seen)]


def test_only_what_was_asked_for_changes() -> None:
    lines = [("location", "/x"), ("set-cookie", "a; Path=/"), ("x", "/v2/x")]
    for location in (False, True):
        rewrites = Rewrites("/api", "", [], location=location, cookies=not location)
        assert rewrites.response(lines, "h") == [
            ("location", "/api/x" if location else "/x"), ("set-cookie", "a; Path=/" if location else "a; Path=/api"),
            ("x", "/v2/x"),
        ]  # fmt: skip


def test_without_a_prefix_urls_of_the_upstream_become_paths() -> None:
    assert BARE.response([("location", "http://up.example/x")], "h") == [("location", "/x")]
