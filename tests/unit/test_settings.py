"""The option classes: what they take, what they refuse, and that they are values."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from velithon_proxy import (
    TLS,
    ConfigurationError,
    InsecureTLSWarning,
    Limits,
    ProxyClient,
    ProxyLoadBalancer,
    ProxyMiddleware,
    Timeouts,
    _settings,
    _tls,
)

WRONG_SECONDS = [0, -1, math.nan, math.inf, -math.inf, True, "5", b"5", [], 86_401, 10**400]


@pytest.mark.parametrize("value", WRONG_SECONDS, ids=lambda value: ascii(value)[:10])
@pytest.mark.parametrize("field", ["connect", "pool", "first_byte", "idle", "total", "keepalive_expiry"])
def test_wrong_seconds_are_named(field: str, value: Any) -> None:
    cls: Any = Limits if field == "keepalive_expiry" else Timeouts
    with pytest.raises(
        ConfigurationError, match=rf"^{field} must be a number of seconds above 0, at most 86400"
    ) as raised:
        cls(**{field: value})
    assert raised.value.field == field


def test_none_means_no_limit_except_where_there_must_be_one() -> None:
    unlimited = Timeouts(pool=None, first_byte=None, idle=None, total=None)
    assert [value for name, value in unlimited.config().items() if name != "connect_timeout_ms"] == [0, 0, 0, 0]
    for make in (lambda: Timeouts(connect=None), lambda: Limits(keepalive_expiry=None)):  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="not None"):
            make()


def test_seconds_cross_as_whole_milliseconds_and_never_as_none() -> None:
    assert Timeouts(connect=1e-9, idle=0.0001, total=86_400, first_byte=1.0005, pool=2).config() == {
        "connect_timeout_ms": 1,
        "idle_timeout_ms": 1,
        "total_timeout_ms": 86_400_000,
        "first_byte_timeout_ms": 1001,
        "pool_timeout_ms": 2000,
    }


@pytest.mark.parametrize("value", [-1, True, 1.0, "1", None, 2**40], ids=repr)
@pytest.mark.parametrize(
    "field", ["max_connections", "max_idle_connections", "max_waiting", "max_response_head", "max_response_fields"]
)
def test_wrong_counts_are_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{field} must be a whole number") as raised:
        Limits(**{field: value})
    assert raised.value.field == field


@pytest.mark.parametrize("option", [Timeouts(total=5), Limits(max_waiting=3), TLS(server_name="a.b")], ids=repr)
def test_options_are_frozen_values(option: Any) -> None:
    for other in (copy.copy(option), copy.deepcopy(option), pickle.loads(pickle.dumps(option))):
        assert other == option
        assert hash(other) == hash(option)
    assert eval(repr(option), {**vars(_settings), **vars(_tls)}) == option
    assert option != type(option)()
    name = option.__slots__[-1]
    with pytest.raises(AttributeError, match="is frozen"):
        setattr(option, name, 1)
    with pytest.raises(AttributeError, match="is frozen"):
        delattr(option, name)
    with pytest.raises(TypeError):
        type(option)(1)
    with pytest.raises(TypeError):
        type(option)(unknown=1)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("timeouts", 5), ("timeouts", Limits()), ("limits", {}), ("tls", True), ("tls", TLS)],
    ids=repr,
)
def test_an_option_of_another_class_is_named(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{argument} must be a ") as raised:
        ProxyClient("https://a", **{argument: value})
    assert raised.value.field == argument


def test_tls_needs_https() -> None:
    for url in ("http://a", "unix:/a"):
        with pytest.raises(ConfigurationError, match="tls needs an https target_url") as raised:
            ProxyClient(url, tls=TLS())
        assert raised.value.field == "tls"
    ProxyClient("HTTPS://a", tls=TLS())


PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
LOCKED = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("files", "field", "message"),
    [
        ({"ca": None}, "ca", "cannot be read: No such file"),
        ({"ca": ""}, "ca", "holds no certificate in PEM"),
        ({"ca": KEY}, "ca", "holds no certificate in PEM"),
        ({"ca": PEM}, "ca", "cannot be read"),
        ({"key": KEY}, "key", "key needs cert"),
        ({"cert": PEM}, "key", "holds no private key"),
        ({"cert": PEM, "key": PEM}, "key", "holds no private key in PEM"),
        ({"cert": PEM, "key": LOCKED}, "key", "is encrypted"),
        ({"cert": PEM, "key": KEY}, "cert", "cannot be used together"),
        ({"cert": None}, "cert", "cannot be read: No such file"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    files: dict[str, str | None], field: str, message: str, tmp_path: Path
) -> None:
    paths: dict[str, Any] = {}
    for name, content in files.items():
        paths[name] = tmp_path / f"{name}.pem"
        if content is not None:
            paths[name].write_text(content)
    with pytest.raises(ConfigurationError, match=message) as raised:
        TLS(**paths)
    assert raised.value.field == field
    assert "AAAA" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"ca": 5}, "ca"),
        ({"min_version": "1.1"}, "min_version"),
        ({"min_version": 1.2}, "min_version"),
        ({"insecure": 1}, "insecure"),
        ({"server_name": ""}, "server_name"),
        ({"server_name": b"a"}, "server_name"),
    ],
    ids=repr,
)
def test_wrong_arguments_of_tls_are_named(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field} ") as raised:
        TLS(**arguments)
    assert raised.value.field == field


def test_insecure_warns_once() -> None:
    program = """
import warnings
from velithon_proxy import TLS
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    TLS(insecure=True), TLS(insecure=True)
print([warning.category.__name__ for warning in caught], caught[0].filename == "<string>")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['InsecureTLSWarning'] True\n"
    assert issubclass(InsecureTLSWarning, UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert TLS(insecure=True).config()["tls_insecure"] is True


@pytest.mark.parametrize("make", [ProxyClient, ProxyLoadBalancer, ProxyMiddleware], ids=lambda make: make.__name__)
@pytest.mark.parametrize("field", ["max_request_body", "max_response_body"])
def test_no_limit_of_a_body_is_none_and_never_zero(make: Any, field: str) -> None:
    """To the core zero means no limit; whoever writes it here would expect that no body passes."""
    with pytest.raises(ConfigurationError) as raised:
        make("http://a", **{field: 0})
    assert raised.value.field == field
    assert str(raised.value) == f"{field} must be at least 1; None means no limit"
    with pytest.raises(ConfigurationError, match=f"^{field} must be a whole number of bytes .*, not the bool False"):
        make("http://a", **{field: False})
    for possible in (None, 1, 2**53 - 1):
        make("http://a", **{field: possible})
