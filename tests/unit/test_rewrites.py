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
        ("/v2#top", "/api#top"),
        ("/v2#a?b#c", "/api#a?b#c"),
        ("/v2?a#b", "/api?a#b"),
        ("http://up.example:8080/v2/x?y#z", "/api/x?y#z"),
        ("HTTP://UP.EXAMPLE:8080", "/api/"),
        ("https://127.0.0.1:9001/x", "/api/x"),
        ("http://shop.example/x", "/api/x"),  # the client's own host, with preserve_host
        ("http://up.example/x", "http://up.example/x"),  # another port
        ("https://elsewhere.example/v2/x", "https://elsewhere.example/v2/x"),
        ("//up.example:8080/v2/x?y#z", "/api/x?y#z"),  # RFC 3986 section 4.2: with the scheme of the request
        ("//UP.example:8080#top", "/api/#top"),
        ("//shop.example/x", "/api/x"),
        ("//elsewhere.example/v2/x", "//elsewhere.example/v2/x"),
        ("///v2/x", "///v2/x"),
        ("relative", "relative"),
        ("?q", "?q"),
        ("#top", "#top"),
        ("x/v2", "x/v2"),
        ("https:/v2", "https:/v2"),
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


@pytest.mark.parametrize(
    "given",
    ["http://up.example//evil.example/x", "//up.example//evil.example/x", "http://up.example/\\evil.example/x"],
)
def test_what_is_left_of_a_url_is_no_other_host(given: str) -> None:
    """A path that begins with two slashes is the name of a host where a path was meant (RFC 3986 section 4.2)."""
    rest = given.partition("up.example")[2]
    assert BARE.response([("location", given)], "h") == [("location", f"/.{rest}")]
    assert BARE.response([("location", "/\\evil.example")], "h") == [("location", "/\\evil.example")], "not ours"
    below = Rewrites("", "/v2", ["up.example"], location=True, cookies=False)
    assert below.response([("location", f"/v2{rest}")], "h") == [("location", f"/.{rest}")]
