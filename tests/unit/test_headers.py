"""Headers: order, case, duplicates and bytes are kept, and nothing can be changed."""

from __future__ import annotations

import copy
import pickle
import struct
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from velithon_proxy._errors import InvalidHeaderError
from velithon_proxy._headers import Headers, pack

LINES = [("Date", "today"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("X-Empty", "")]


def packed(*lines: tuple[bytes, bytes]) -> bytes:
    return b"".join(struct.pack("=II", len(name), len(value)) + name + value for name, value in lines)


@pytest.fixture
def headers() -> Headers:
    return Headers.from_packed(packed(*((name.encode(), value.encode()) for name, value in LINES)))


def test_lookup_ignores_case_and_gives_the_first_value(headers: Headers) -> None:
    assert headers["SET-COOKIE"] == "a=1"
    assert headers.get("set-Cookie") == "a=1"
    assert headers["x-empty"] == ""
    assert "date" in headers
    assert headers.get("no") is None
    assert headers.get("no", "else") == "else"
    assert headers.get("no", 5) == 5
    assert "no" not in headers
    with pytest.raises(KeyError, match="no"):
        headers["no"]


@pytest.mark.parametrize("key", [5, None, b"date", ("date",)])
def test_what_is_no_name_is_not_in_headers(headers: Headers, key: Any) -> None:
    assert key not in headers


def test_lines_come_in_order_and_are_never_joined(headers: Headers) -> None:
    assert headers.get_all("set-cookie") == headers.getall("Set-Cookie") == ["a=1", "b=2"]
    assert headers.get_all("no") == []
    assert headers.multi_items() == list(headers.items()) == LINES
    assert list(headers.values()) == [value for _, value in LINES]
    assert headers.raw == [(name.encode(), value.encode()) for name, value in LINES]
    assert len(headers.items()) == len(headers.values()) == 4


def test_names_come_once_in_their_first_spelling(headers: Headers) -> None:
    assert list(headers) == list(headers.keys()) == ["Date", "Set-Cookie", "X-Empty"]
    assert len(headers) == len(headers.keys()) == 3
    assert [value for name in headers for value in headers.get_all(name)] == [value for _, value in LINES]


def test_it_converts_to_a_dict_of_first_values(headers: Headers) -> None:
    assert dict(headers) == {"Date": "today", "Set-Cookie": "a=1", "X-Empty": ""}
    assert isinstance(headers, Mapping)


def test_no_lines() -> None:
    for empty in (Headers(), Headers(None), Headers({}), Headers([]), Headers.from_packed(b"")):
        assert len(empty) == 0
        assert not empty
        assert empty == {}
        assert empty.packed == b""
        assert repr(empty) == "Headers([])"


@pytest.mark.parametrize(
    "source",
    [
        LINES,
        tuple(LINES),
        [list(line) for line in LINES],
        [(name.encode(), value) for name, value in LINES],
        CIMultiDict(LINES),
        CIMultiDict(LINES).items(),
        Headers(LINES),
        iter(LINES),
    ],
    ids=lambda source: type(source).__name__,
)
def test_every_source_gives_the_same_bytes(source: Any) -> None:
    assert Headers(source).packed == packed(*((name.encode(), value.encode()) for name, value in LINES))


def test_a_mapping_whose_items_joins_duplicates_is_asked_for_all_lines() -> None:
    class Joined(dict[str, str]):
        def multi_items(self) -> list[tuple[str, str]]:
            return LINES

    assert Headers(Joined({"set-cookie": "a=1, b=2"})).multi_items() == LINES


def test_the_packed_form_is_that_of_the_border() -> None:
    assert pack({"A": "bc"}) == struct.pack("=II", 1, 2) + b"Abc"


def test_values_are_latin_1_and_lose_nothing() -> None:
    every = bytes(range(256))
    headers = Headers([(b"X", every)])
    assert headers["x"].encode("latin-1") == every
    assert headers.raw == [(b"X", every)]
    assert Headers(headers.multi_items()).packed == headers.packed
    assert Headers({"X": "caf\u00e9"}).raw == [(b"X", b"caf\xe9")]


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=300)), max_size=20))
def test_any_bytes_come_back_as_they_were(lines: list[tuple[bytes, bytes]]) -> None:
    headers = Headers(lines)
    assert headers.raw == lines
    assert headers.packed == packed(*lines)
    assert Headers(headers.multi_items()) == headers == pickle.loads(pickle.dumps(headers))


@pytest.mark.parametrize("part", ["name", "value"])
@pytest.mark.parametrize("character", ["\u20ac", "\U0001f600", "\ud800", "\u0100"])
def test_a_character_no_header_can_carry_is_named(part: str, character: str) -> None:
    name, value = ("X-" + character, "v") if part == "name" else ("X-Token", "secret" + character)
    with pytest.raises(InvalidHeaderError) as caught:
        Headers({name: value})
    message = str(caught.value)
    assert message.startswith(f"the {part} of header 'X-")
    assert f"U+{ord(character):04X}" in message
    assert "secret" not in message
    assert message.isascii()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"X": 5}, "the value of header 'X' must be str or bytes, not a value of type int"),
        ({"X": None}, "the value of header 'X' must be str or bytes, not None"),
        ({"X": ["a", "b"]}, "give one pair for each value"),
        ({5: "x"}, "header names must be str or bytes, not a value of type int"),
        ({"X": bytearray(b"x")}, "not a value of type bytearray"),
        ("X: y", "headers must be a mapping or an iterable of .* not a value of type str"),
        (b"X: y", "not a value of type bytes"),
        (5, "not a value of type int"),
        (["ab"], "a value of type str is no pair"),
        ([b"ab"], "a value of type bytes is no pair"),
        ([5], "a value of type int is no pair"),
        ([None], "None is no pair"),
        ([{"a", "b"}], "a value of type set is no pair"),
        ([("a", "b", "c")], "pairs, not tuples of 3"),
        ([("a",)], "pairs, not tuples of 1"),
    ],
)
def test_another_kind_is_a_type_error_that_says_where(source: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Headers(source)


@pytest.mark.parametrize("cut", [1, 7, 8, 9])
def test_packed_lines_that_are_cut_short_are_refused(cut: int) -> None:
    headers = Headers.from_packed(packed((b"A", b"b"))[:cut])
    with pytest.raises(ValueError, match="cut short"):
        headers.multi_items()


def test_it_is_read_only(headers: Headers) -> None:
    with pytest.raises(TypeError):
        headers["x"] = "y"  # type: ignore[index]
    with pytest.raises(TypeError):
        del headers["date"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        headers.packed = b""  # type: ignore[misc]
    with pytest.raises(AttributeError):
        headers.other = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="unhashable"):
        hash(headers)
    headers.multi_items().clear()
    headers.raw.clear()
    headers.get_all("set-cookie").clear()
    assert headers.multi_items() == LINES
    assert headers.get_all("set-cookie") == ["a=1", "b=2"]


def test_equality_ignores_case_of_names_and_order_of_different_names() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    assert headers == Headers([("b", "2"), ("a", "1"), ("A", "3")])
    assert headers != Headers([("A", "3"), ("B", "2"), ("a", "1")])
    assert headers != Headers([("A", "1"), ("B", "2")])
    assert headers != {"a": "1", "b": "2"}
    assert headers == CIMultiDict([("A", "1"), ("B", "2"), ("a", "3")])
    assert Headers({"A": "1"}) == {"a": "1"} == Headers({"A": "1"})
    assert Headers({"A": "1"}) != {"A": "1", "B": "2"}
    assert Headers({"A": "1"}) != {"A": 1}
    assert Headers({"A": "1"}) != [("A", "1")]
    assert Headers({"A": "x"}) != {"A": "X"}


def test_copies_and_pickles_are_equal(headers: Headers) -> None:
    for again in (copy.copy(headers), copy.deepcopy(headers), pickle.loads(pickle.dumps(headers)), Headers(headers)):
        assert type(again) is Headers
        assert again.packed == headers.packed


def test_repr_can_be_read_and_evaluated(headers: Headers) -> None:
    assert repr(headers) == f"Headers({LINES!r})"
    assert eval(repr(headers)) == headers


def test_nothing_is_decoded_before_it_is_looked_at() -> None:
    broken = Headers.from_packed(b"\xff" * 12)
    assert broken.packed == b"\xff" * 12
    with pytest.raises(ValueError, match="cut short"):
        broken.get("x")
