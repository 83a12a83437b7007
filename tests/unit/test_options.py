"""Configuration as Python checks it, beyond the rows of tests/contract."""

from __future__ import annotations

import enum
import json
import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest

from velithon_proxy._errors import ConfigurationError, InvalidTargetError
from velithon_proxy._options import pool_config
from velithon_proxy._targets import validate_target

INTEGERS = ["timeout_ms", "max_retries", "max_failures", "recovery_timeout_ms"]


def configured(*args: Any, **options: Any) -> dict[str, Any]:
    return json.loads(pool_config(*args, **options))


def test_only_what_was_given_crosses_so_defaults_stay_in_the_core() -> None:
    assert configured("http://a") == {"targets": ["http://a"]}
    assert configured("http://a", timeout_ms=None, strategy=None) == {"targets": ["http://a"]}
    assert configured("http://a", timeout_ms=5, max_retries=0, strategy="single") == {
        "targets": ["http://a"],
        "timeout_ms": 5,
        "max_retries": 0,
        "strategy": "single",
    }


@pytest.mark.parametrize("field", INTEGERS)
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "the bool True"),
        (False, "the bool False"),
        (5.0, "the float 5.0"),
        (float("nan"), "the float nan"),
        (float("inf"), "the float inf"),
        ("5", "'5'"),
        (b"5", "a value of type bytes"),
        (Fraction(5), "a value of type Fraction"),
        ([5], "a value of type list"),
        (-1, "-1"),
        (2**200, "an int of 201 bits"),
    ],
    ids=repr,
)
def test_a_wrong_number_is_named_with_its_kind_and_what_is_allowed(field: str, value: Any, shown: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        pool_config("http://a", **{field: value})
    assert caught.value.field == field
    message = str(caught.value)
    assert message.startswith(f"{field} must be a whole number ")
    assert message.endswith(f", not {shown}")
    assert " from " in message
    assert " to " in message


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="timeout_msec"):
        pool_config("http://a", timeout_msec=5)  # type: ignore[call-arg]


def test_an_unknown_strategy_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigurationError, match=r'"round_robin", "random", "weighted", "single", .*"first", not .Single.$'
    ):
        pool_config("http://a", strategy="Single")


@pytest.mark.parametrize("targets", [None, 5, b"http://a", {"http://a": 1}, {"http://a"}, iter(["http://a"]), []])
def test_targets_of_another_shape_are_refused_under_the_callers_name(targets: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^target_urls ") as caught:
        pool_config(targets, argument="target_urls")
    assert caught.value.field == "target_urls"


@pytest.mark.parametrize("url", [None, 5, b"http://a", ["http://a"], object()])
def test_a_target_that_is_no_text_is_an_invalid_target(url: Any) -> None:
    with pytest.raises(InvalidTargetError, match=r"^target_url must be a URL \(str\), not "):
        validate_target(url)


def test_the_position_of_a_bad_target_is_named() -> None:
    with pytest.raises(
        InvalidTargetError, match=r"^targets\[1\]: 'ftp://b' is not a usable URL: its scheme "
    ) as caught:
        pool_config(["http://a", "ftp://b"])
    assert caught.value.field == "targets"


def test_a_scheme_can_be_required() -> None:
    pool_config("server1")
    with pytest.raises(InvalidTargetError, match="has no scheme"):
        pool_config("server1", argument="target_url", scheme_required=True)
    with pytest.raises(InvalidTargetError, match="has no scheme"):
        validate_target("server1:8080")
    validate_target("server1:8080", scheme_required=False)


@pytest.mark.parametrize("target", [["http://a"], ("http://a",), None, 5])
def test_a_client_of_one_upstream_takes_one_url(target: Any) -> None:
    with pytest.raises(InvalidTargetError, match=r"^target_url must be a URL \(str\), not "):
        pool_config(target, argument="target_url", scheme_required=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@host",
        "user:secret@host",
        "http://user:se/secret@host",
        "http://a:secret@b@c",
        "http://user:secret @host",
        "ftp://user:secret@host",
    ],
)
def test_errors_hide_passwords(url: str) -> None:
    with pytest.raises(InvalidTargetError) as caught:
        validate_target(url, scheme_required=False)
    assert "secret" not in str(caught.value)
    assert "***@" in str(caught.value)


@pytest.mark.parametrize("url", ["http://" + "a" * 100_000, "http://a\x1b[31m\u202e\ud800", "x" * 500 + "\n"])
def test_errors_are_bounded_and_printable(url: str) -> None:
    with pytest.raises(InvalidTargetError) as caught:
        validate_target(url)
    message = str(caught.value)
    assert len(message) < 400
    assert message.isascii()
    assert message.isprintable()


def test_a_duplicate_is_found_among_ten_thousand() -> None:
    targets = [f"http://host:{port}" for port in range(1, 10_001)]
    with pytest.raises(
        ConfigurationError, match=r"targets\[10000\]: 'HOST:5000/' is the same upstream as 'http://host:5000'"
    ):
        pool_config([*targets, "HOST:5000/"])


def test_an_enumeration_counts_as_its_value() -> None:
    class Service(str, enum.Enum):  # noqa: UP042 -- unlike StrEnum it prints as Service.USERS
        USERS = "http://users"

    class Limit(enum.IntEnum):
        SHORT = 500

    assert configured(Service.USERS, timeout_ms=Limit.SHORT) == {"targets": ["http://users"], "timeout_ms": 500}
    assert configured([Service.USERS])["targets"] == ["http://users"]


def test_checking_needs_no_event_loop_thread_or_core() -> None:
    script = """
import threading
from pathlib import Path
from velithon_proxy._options import pool_config

pool_config("http://a")
assert threading.active_count() == 1
mapped = Path("/proc/self/maps")
assert not mapped.exists() or "libvelithonproxy" not in mapped.read_text()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
