"""Prefixes and targets: rows K12 and C1 to C9 of the conformance tables."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from velithon_proxy import ConfigurationError
from velithon_proxy.middleware._answers import Refusal
from velithon_proxy.middleware._paths import matches, parse_prefix, request_target


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ("/", ""),
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/api/v1.0/users", "/api/v1.0/users"),
        ("/caf%C3%A9", "/café"),
        ("/café", "/café"),
        ("/a%20b", "/a b"),
        ("/a b", "/a b"),
        ("/100%25", "/100%"),
        ("/a;b=c,d@e:f", "/a;b=c,d@e:f"),
        ("/...", "/..."),
    ],
)
def test_a_prefix_is_read_as_a_path_of_a_url(given: str, prefix: str) -> None:
    assert parse_prefix(given) == prefix


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "must be a path"),
        (b"/api", "must be a path"),
        (["/api"], "must be a path"),
        ("", "must start with '/'"),
        ("api", "must start with '/'"),
        ("http://h/api", "must start with '/'"),
        (" /api", "must start with '/'"),
        ("//", "empty segment"),
        ("//api", "empty segment"),
        ("/api//", "empty segment"),
        ("/a//b", "empty segment"),
        ("/a/../b", "dot segment"),
        ("/a/.", "dot segment"),
        ("/..", "dot segment"),
        ("/%2e%2e/a", "dot segment"),
        ("/..;x/a", "dot segment"),
        ("/a?b", "query or a fragment"),
        ("/a#b", "query or a fragment"),
        ("/a%", "percent sign"),
        ("/a%zz", "percent sign"),
        ("/a%2Fb", "percent sign"),
        ("/a%5cb", "percent sign"),
        ("/a%00", "control character"),
        ("/a\r\nb", "control character"),
        ("/a\x7f", "control character"),
        ("/a\\b", "backslash"),
        ("/a%ff", "not UTF-8"),
        ("/a\ud800", "not UTF-8"),
    ],
)
def test_a_prefix_that_cannot_be_matched_is_refused(value: object, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as raised:
        parse_prefix(value)
    assert raised.value.field == "path_prefix"
    assert str(raised.value).startswith("path_prefix ")


@pytest.mark.parametrize(
    ("prefix", "path", "match"),
    [
        ("/api", "/api", True),
        ("/api", "/api/", True),
        ("/api", "/api/x", True),
        ("/api", "/api//x", True),
        ("/api", "/apix", False),
        ("/api", "/api@evil/x", False),
        ("/api", "/api:80@evil/", False),
        ("/api", "/api.evil.com", False),
        ("/api", "/api\\evil", False),
        ("/api", "/api;x", False),
        ("/api", "/API", False),
        ("/api", "/ap", False),
        ("/api", "//api", False),
        ("/api", "/x/api", False),
        ("/api", "", False),
        ("/api", "*", False),
        ("", "/", True),
        ("", "/x", True),
        ("", "//x", True),
        ("", "", True),
        ("", "*", True),
    ],
)
def test_a_prefix_matches_whole_segments(prefix: str, path: str, match: bool) -> None:
    assert matches(prefix, path) is match


@pytest.mark.parametrize(
    ("prefix", "path", "strip", "target"),
    [
        ("/api", "/api", True, "/"),
        ("/api", "/api/", True, "/"),
        ("/api", "/api/x", True, "/x"),
        ("/api", "/api//evil/x", True, "//evil/x"),
        ("/api", "/api/api", True, "/api"),
        ("/api", "/api/x", False, "/api/x"),
        ("", "/x", True, "/x"),
        ("", "/x", False, "/x"),
        ("/café", "/café/ö", False, "/caf%C3%A9/%C3%B6"),
        ("/café", "/café/ö", True, "/%C3%B6"),
        ("/a b", "/a b/c d", True, "/c%20d"),
    ],
)
def test_the_prefix_stays_or_goes(prefix: str, path: str, strip: bool, target: str) -> None:
    assert request_target(prefix, path, "", strip=strip) == target


def test_the_query_follows_byte_for_byte() -> None:
    query = 'a=1&a=2;b=3&=&a=%zz&+%20?/"{}'
    assert request_target("/api", "/api/x", query, strip=True) == f"/x?{query}"


@pytest.mark.parametrize("path", ["/api/a/../b", "/api/a/b/../..", "/api/a/..;x/b", "/api/./x", "/api/..x", "/api/x.."])
def test_dot_segments_inside_the_prefix_are_forwarded_unchanged(path: str) -> None:
    assert request_target("/api", path, "", strip=False) == path


@pytest.mark.parametrize(
    "path",
    ["/api/..", "/api/../x", "/api/../api/x", "/api/..;/x", "/api/..;a=b/x", "/api/..\\x", "/api/a\\..\\..\\x",
     "/api/a/../../b", "/api/a//../../b", "/api/./../x", "/api//.."],
)  # fmt: skip
@pytest.mark.parametrize("strip", [False, True])
def test_dot_segments_that_leave_the_prefix_are_refused(path: str, strip: bool) -> None:
    with pytest.raises(Refusal) as raised:
        request_target("/api", path, "", strip=strip)
    assert raised.value.status == 400


def test_dot_segments_that_leave_the_root_are_refused() -> None:
    with pytest.raises(Refusal):
        request_target("", "/../x", "", strip=False)


@pytest.mark.parametrize("path", ["", "*", "x", "evil.example"])
def test_a_target_that_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(Refusal) as raised:
        request_target("", path, "", strip=False)
    assert raised.value.status == 400


SEGMENT = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=8)
PATH = st.lists(st.one_of(SEGMENT, st.sampled_from(["", ".", "..", "..;a", "%2e%2e", "%"])), max_size=6)


@given(PATH, st.booleans())
@example(["%2F", "a?b#c", "\\..\\"], False)
def test_what_is_sent_decodes_to_what_was_matched(segments: list[str], strip: bool) -> None:
    path = "/".join(["/api", *segments])
    try:
        target = request_target("/api", path, "", strip=strip)
    except Refusal:
        target = ""
    if not target:
        assert re.search("[\x00-\x1f\x7f\ufffd]|\\.\\.", path), "there was no reason to refuse"
        return
    assert re.fullmatch(r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-F]{2})*", target), "RFC 3986, nothing else"
    rest = path[len("/api") :] or "/"
    assert unquote(target, errors="strict") == (rest if strip else path)


@given(PATH)
def test_no_accepted_target_climbs_above_the_prefix(segments: list[str]) -> None:
    """Resolved by a server that decodes, reads backslashes as slashes, drops parameters and merges slashes."""
    path = "/".join(["/api", *segments])
    try:
        target = request_target("/api", path, "", strip=False)
    except Refusal:
        return
    resolved: list[str] = []
    for segment in re.split(r"[/\\]+", unquote(target)):
        name = segment.partition(";")[0]
        if name == "..":
            del resolved[-1:]
        elif name not in ("", "."):
            resolved.append(name)
    assert resolved[:1] == ["api"]
