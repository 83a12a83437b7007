"""ProxyResponse: three values to unpack, and the same by name."""

from __future__ import annotations

import pickle

import pytest

from velithon_proxy._errors import Attempt
from velithon_proxy._headers import Headers, pack
from velithon_proxy._response import ProxyResponse


def response(body: bytes = b"{}", **headers: str) -> ProxyResponse:
    fields = pack({name.replace("_", "-"): value for name, value in headers.items()})
    return ProxyResponse(200, fields, body, "http://a:1", 1_500_000)


def test_it_unpacks_into_status_headers_and_body() -> None:
    status, headers, body = response(b"hello", content_type="text/plain")
    assert (status, body) == (200, b"hello")
    assert isinstance(headers, Headers)
    assert headers == {"Content-Type": "text/plain"}


def test_the_same_by_name() -> None:
    got = response(b"hello")
    assert (got.status, got.body, got.target) == (200, b"hello", "http://a:1")
    assert got.attempts == (Attempt("http://a:1", "response", 200, "body", True, 0.0015, "", False, ""),)
    assert got.elapsed == 0.0015
    assert got.headers is got.headers


def test_body_and_fields_are_the_objects_that_were_given() -> None:
    body, fields = bytes(100), pack({"a": "b"})
    got = ProxyResponse(200, fields, body, "http://a", 0)
    assert got.body is body
    assert got.headers.packed is fields


def test_repr_shows_what_matters_and_not_the_body() -> None:
    got = response(b"secret", content_type="text/html")
    assert repr(got) == "<ProxyResponse 200 from http://a:1, 'text/html', 6 bytes, 1.5 ms>"
    assert repr(response(b"")) == "<ProxyResponse 200 from http://a:1, 0 bytes, 1.5 ms>"


def test_it_has_no_room_for_misspelt_attributes() -> None:
    with pytest.raises(AttributeError):
        response().statuscode = 1  # type: ignore[attr-defined]


def test_json() -> None:
    assert response(b'{"a": ["\xc3\xa9"]}').json() == {"a": ["\u00e9"]}
    assert response('"\u00e9"'.encode("utf-16")).json() == "\u00e9"
    with pytest.raises(ValueError, match="Expecting value"):
        response(b"<html>").json()


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", b"\xc3\xa9", "\u00e9"),
        ("text/plain; charset=utf-8", b"\xc3\xa9", "\u00e9"),
        ('text/plain; boundary=x; Charset = "ISO-8859-1" ; x', b"\xe9", "\u00e9"),
        ("text/plain; charset='cp1252'", b"\x80", "\u20ac"),
        ("text/plain; charset=", b"a", "a"),
        ("text/plain; charset=utf-8", b"a\xff", "a\ufffd"),
        ("text/plain; charset=no-such", b"\xc3\xa9", "\u00e9"),
        ("text/plain; charset=hex", b"6161", "6161"),
        ("text/plain; charset=undefined", b"a", "a"),
        ("text/plain; charset=a\x00b", b"a", "a"),
        ("text/plain; charset=" + "x" * 10_000, b"a", "a"),
        ("", b"\xc3\xa9", "\u00e9"),
    ],
)
def test_text_follows_the_charset(content_type: str, body: bytes, text: str) -> None:
    assert response(body, content_type=content_type).text == text


def test_text_without_content_type_is_utf_8() -> None:
    assert response(b"\xc3\xa9").text == "\u00e9"


def test_a_compressed_body_is_not_taken_for_text() -> None:
    got = response(b"\x1f\x8b", content_encoding="gzip")
    with pytest.raises(ValueError, match="encoded as 'gzip'"):
        got.json()
    with pytest.raises(ValueError, match=r"decode \.body first"):
        _ = got.text
    assert response(b"1", content_encoding="Identity").json() == 1


def test_it_can_be_pickled() -> None:
    got = pickle.loads(pickle.dumps(response(b"x", a="b")))
    assert (got.status, got.headers, got.body, got.target, got.elapsed) == (200, {"a": "b"}, b"x", "http://a:1", 0.0015)
