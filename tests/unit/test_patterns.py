"""Patterns of routes: what they match, what is sent for them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from velithon_proxy import ConfigurationError
from velithon_proxy.middleware._answers import Refusal
from velithon_proxy.middleware._patterns import Pattern


@pytest.mark.parametrize(
    ("pattern", "path", "parameters"),
    [
        ("/users", "/users", {}),
        ("/users", "/users/", None),
        ("/users/{id}", "/users/7", {"id": "7"}),
        ("/users/{id}", "/users/7/x", None),
        ("/users/{id}", "/users/", None),
        ("/users/{id:int}", "/users/x", None),
        ("/f/{path:path}", "/f/a/b\nc", {"path": "a/b\nc"}),
        ("/f/{path:path}", "/f/", {"path": ""}),
        ("/f/{path:path}", "/f", None),
        ("/a.b/{x}", "/aXb/1", None),
        ("/v/{a}/{b:path}", "/v/1/2/3", {"a": "1", "b": "2/3"}),
        ("/n/{x:float}", "/n/1.5", {"x": "1.5"}),
        ("/u/{x:uuid}", "/u/123e4567-e89b-12d3-a456-426614174000", {"x": "123e4567-e89b-12d3-a456-426614174000"}),
    ],
)
def test_what_matches(pattern: str, path: str, parameters: dict[str, str] | None) -> None:
    assert Pattern(pattern).match(path) == parameters


@pytest.mark.parametrize(
    ("pattern", "base"), [("/api/{p:path}", "/api"), ("/users", "/users"), ("/{p:path}", "/"), ("/a/b-{id}", "/a")]
)
def test_what_is_stripped(pattern: str, base: str) -> None:
    assert Pattern(pattern, strip_path=True).base == base
    assert Pattern(pattern).base == "/"


def test_a_rewritten_path() -> None:
    pattern = Pattern("/old/{id}/{rest:path}", path_rewrite="/new/{rest}/{id:int}")
    assert pattern.target("/old/7/a/b") == "/new/a/b/7"
    assert pattern.base == "/new"
    assert pattern.shown == "/old/{id}/{rest}"
    assert pattern.parameters == ["id", "rest"]


REWRITTEN = Pattern("/t/{tenant}/{rest:path}", path_rewrite="/v2/{tenant}/items/{rest}")
ALIKE = Pattern("/t/{a}/{b:path}", path_rewrite="/v2/x-{a}{b}/end")
DOTTED = Pattern("/t/{a}/{b:path}", path_rewrite="/v2/s/.{a}/{b}.")
KEPT = Pattern("/t/{tenant}/{rest:path}")
STRIPPED = Pattern("/t/{tenant}/{rest:path}", strip_path=True)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (REWRITTEN, "/t/acme/../x"),
        (REWRITTEN, "/t/acme/../../globex/items/1"),
        (REWRITTEN, "/t/acme/.."),
        (REWRITTEN, "/t/acme/a/../../x"),
        (REWRITTEN, "/t/acme//../x"),
        (REWRITTEN, "/t/acme/..;a=b/x"),
        (REWRITTEN, "/t/acme/..\\x"),
        (REWRITTEN, "/t/../x"),
        (REWRITTEN, "/t/a\\..\\../x"),
        (ALIKE, "/t/a//../y"),  # it would be /v2/y, without x-a
        (ALIKE, "/t/a\\..\\/y"),
        (DOTTED, "/t/./y"),  # a dot of the template and a dot of the client
        (DOTTED, "/t/.;a/y"),
        (DOTTED, "/t/a/."),
        (KEPT, "/t/acme/../globex/x"),
        (KEPT, "/t/../x"),
        (KEPT, "/t/acme/../../admin"),
        (STRIPPED, "/t/acme/../globex/x"),
    ],
)
def test_no_parameter_leads_out_of_what_stands_before_it(pattern: Pattern, path: str) -> None:
    assert pattern.match(path) is not None
    with pytest.raises(Refusal) as raised:
        pattern.target(path)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("pattern", "path", "target"),
    [
        (REWRITTEN, "/t/acme/a/../b", "/v2/acme/items/a/../b"),
        (REWRITTEN, "/t/acme/./..a/b..", "/v2/acme/items/./..a/b.."),
        (REWRITTEN, "/t/a../...", "/v2/a../items/..."),
        (REWRITTEN, "/t/acme/%2e%2e/x", "/v2/acme/items/%2e%2e/x"),  # was sent as %252e
        (ALIKE, "/t/../y", "/v2/x-..y/end"),
        (ALIKE, "/t/a//b/../c", "/v2/x-a/b/../c/end"),
        (KEPT, "/t/acme/a/../b", "/t/acme/a/../b"),
        (STRIPPED, "/t/acme/a/../b", "/t/acme/a/../b"),
    ],
)
def test_dot_segments_within_a_parameter_pass(pattern: Pattern, path: str, target: str) -> None:
    assert pattern.target(path) == target


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "users"}, "must be a pattern that starts with '/', not 'users'"),
        ({"path": 3}, "must be a pattern that starts with '/', not 3"),
        ({"path": "/{a:what}"}, "{a:what} is of no known kind; str, path, int, float, uuid are"),
        ({"path": "/{a}/{a}"}, "is not a pattern"),
        ({"path": "/{a"}, "has a brace that belongs to no parameter"),
        ({"path": "/a}"}, "has a brace that belongs to no parameter"),
        ({"path": "/a", "strip_path": "yes"}, "strip_path must be True or False, not 'yes'"),
        ({"path": "/a", "path_rewrite": "b"}, "path_rewrite must be a path that starts with '/', not 'b'"),
        ({"path": "/{a}", "path_rewrite": "/{b}"}, "the pattern has no parameter b; it has a"),
        ({"path": "/{a}", "path_rewrite": "/{a}", "strip_path": True}, "one of them says what is sent"),
        ({"path": "/a/../{b}", "strip_path": True}, "dot segment"),
    ],
)
def test_what_is_no_pattern(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Pattern(**arguments)
    assert message in str(raised.value)
