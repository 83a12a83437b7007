"""Query parameters: what is appended to which path."""

from __future__ import annotations

import enum
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from velithon_proxy._query import append_query


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({"a": "1", "b": "2"}, "a=1&b=2"),
        ([("a", "1"), ("a", "2")], "a=1&a=2"),
        ([["a", "1"]], "a=1"),
        (MultiDict([("a", "1"), ("b", "2"), ("a", "3")]), "a=1&b=2&a=3"),
        ((pair for pair in [("a", 1)]), "a=1"),
        ({"a": ["x", "y"], "b": ("z",)}, "a=x&a=y&b=z"),
        ({"n": 5, "neg": -1, "f": 1.5, "exp": 1e300}, "n=5&neg=-1&f=1.5&exp=1e%2B300"),
        ({"t": True, "f": False, "none": None}, "t=true&f=false&none="),
        ({"mixed": [1, None, True]}, "mixed=1&mixed=&mixed=true"),
        ({"": ""}, "="),
        ({"a b": "c d"}, "a%20b=c%20d"),
        ({"a&b=c": "d&e=f?g/h#i"}, "a%26b%3Dc=d%26e%3Df%3Fg%2Fh%23i"),
        ({"q": "1+1"}, "q=1%2B1"),
        ({"q": "100%"}, "q=100%25"),
        ({"q": "-._~"}, "q=-._~"),
        ({"q": "\u00e9\u20ac\U0001f600"}, "q=%C3%A9%E2%82%AC%F0%9F%98%80"),
        ({"q": "a\r\nHost: x\x00"}, "q=a%0D%0AHost%3A%20x%00"),
    ],
)
def test_names_and_values_are_encoded_in_order(params: Any, query: str) -> None:
    assert append_query("/p", params) == "/p?" + query


@pytest.mark.parametrize("params", [None, {}, [], {"a": []}, {"a": (), "b": []}])
def test_nothing_to_add_leaves_the_path_as_it_is(params: Any) -> None:
    assert append_query("/p", params) == "/p"
    assert append_query("/p?", params) == "/p?"


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("/p", "/p?a=1"),
        ("/p?", "/p?a=1"),
        ("/p?x=%2F+y", "/p?x=%2F+y&a=1"),
        ("/p?x&", "/p?x&a=1"),
        ("/p?x?", "/p?x?a=1"),
        ("/p&", "/p&?a=1"),
        ("/p&q=1", "/p&q=1?a=1"),
        ("/a%2Fb", "/a%2Fb?a=1"),
        ("", "?a=1"),
        ("/p#f", "/p#f?a=1"),
    ],
)
def test_a_query_of_the_path_is_kept_byte_for_byte(path: str, result: str) -> None:
    assert append_query(path, {"a": 1}) == result


text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(text, text)))
def test_a_server_reads_back_what_was_given(params: list[tuple[str, str]]) -> None:
    target = append_query("/p", params)
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    assert parse_qsl(target.partition("?")[2], keep_blank_values=True, strict_parsing=bool(params)) == params


@pytest.mark.parametrize("value", [b"x", Decimal(1), date(2026, 1, 1), {"a": 1}, {1}, object(), [[1]], [b"x"], 1j])
def test_another_type_of_value_is_a_type_error_that_names_the_parameter(value: Any) -> None:
    with pytest.raises(TypeError, match="query parameter 'key' must be str, int, float, bool, None or a list"):
        append_query("/p", {"key": value})


@pytest.mark.parametrize("params", [{1: "a"}, {b"a": "a"}, {None: "a"}, [(1, "a")]])
def test_a_name_that_is_no_str_is_a_type_error(params: Any) -> None:
    with pytest.raises(TypeError, match="the names of query_params must be str"):
        append_query("/p", params)


@pytest.mark.parametrize("params", ["a=1", b"a=1", bytearray(b"a"), 5, ["ab"], [("a",)], [("a", "b", "c")], [5]])
def test_another_kind_of_params_is_a_type_error(params: Any) -> None:
    with pytest.raises(TypeError, match="query_params must be a mapping or"):
        append_query("/p", params)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_without_a_text_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="query parameter 'key' must be finite"):
        append_query("/p", {"key": value})


@pytest.mark.parametrize("params", [{"key\ud800": "v"}, {"key": "v\udcff"}])
def test_lone_surrogates_are_refused(params: Any) -> None:
    with pytest.raises(ValueError, match="lone surrogate at position"):
        append_query("/p", params)


def test_an_enumeration_counts_as_its_value() -> None:
    class Color(str, enum.Enum):  # noqa: UP042 -- unlike StrEnum it prints as Color.RED
        RED = "red"

    class Size(enum.IntEnum):
        L = 3

    assert append_query("/p", {"c": Color.RED, "s": Size.L}) == "/p?c=red&s=3"


def test_parameters_whose_items_drops_duplicates_are_asked_for_all() -> None:
    class Last(dict[str, str]):
        def multi_items(self) -> list[tuple[str, str]]:
            return [("a", "1"), ("a", "2")]

    assert append_query("/p", Last(a="2")) == "/p?a=1&a=2"


@pytest.mark.parametrize("path", [None, 5, b"/"])
def test_a_path_of_another_type_is_named(path: Any) -> None:
    with pytest.raises(TypeError, match=f"path must be str, not {type(path).__name__}"):
        append_query(path, {"a": 1})


def test_an_integer_too_long_to_be_written_is_named() -> None:
    with pytest.raises(ValueError, match="query parameter 'a' cannot be written"):
        append_query("/", {"a": 10**5000})
