"""The exception tree, what each error carries, and how replies of the core become errors."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest

from velithon_proxy import _errors
from velithon_proxy._errors import Code, ProxyError, reply_error

STATUS = {
    "ConnectError": 502,
    "TLSError": 502,
    "ProxyTimeoutError": 504,
    "ConnectTimeout": 504,
    "PoolTimeout": 503,
    "ReadTimeout": 504,
    "TotalTimeout": 504,
    "UpstreamClosedError": 502,
    "UpstreamProtocolError": 502,
    "CircuitOpenError": 503,
    "NoHealthyTargetError": 503,
    "PoolExhaustedError": 503,
    "BodyTooLargeError": 502,
    "ClientClosedError": 503,
    "ForkedProcessError": 503,
    "InternalError": 502,
}


def proxy_errors() -> list[type[ProxyError]]:
    found: list[type[ProxyError]] = []
    todo: list[type[ProxyError]] = [ProxyError]
    while todo:
        cls = todo.pop()
        found.append(cls)
        todo += cls.__subclasses__()
    return found


def test_every_error_has_the_status_a_gateway_answers_with() -> None:
    assert {cls.__name__: cls().status for cls in proxy_errors() if cls is not ProxyError} == STATUS


def test_except_runtime_error_keeps_working() -> None:
    assert all(issubclass(cls, RuntimeError) for cls in proxy_errors())


@pytest.mark.parametrize("name", ["ConnectTimeout", "PoolTimeout", "ReadTimeout", "TotalTimeout"])
def test_timeouts_are_timeout_errors(name: str) -> None:
    assert issubclass(getattr(_errors, name), TimeoutError)
    assert issubclass(getattr(_errors, name), asyncio.TimeoutError)


@pytest.mark.parametrize(
    "name", ["ConfigurationError", "InvalidTargetError", "InvalidRequestError", "InvalidHeaderError"]
)
def test_errors_of_the_caller_are_value_errors(name: str) -> None:
    assert issubclass(getattr(_errors, name), ValueError)
    assert not issubclass(getattr(_errors, name), ProxyError)


def test_the_docstring_draws_every_class() -> None:
    assert _errors.__doc__ is not None
    for name, value in vars(_errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert name in _errors.__doc__


@pytest.mark.parametrize("cls", proxy_errors(), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=range(3))
def test_errors_survive_copy_and_pickle(cls: type[ProxyError], duplicate: Any) -> None:
    error = cls(
        "it failed",
        target="http://a",
        phase="connect",
        attempts=("first",),
        elapsed=0.25,
        status=599,
        request_sent=True,
    )
    again = duplicate(error)
    assert type(again) is cls
    assert again.args == ("it failed",)
    assert str(again) == str(error) == "it failed"
    assert vars(again) == vars(error)
    assert (again.target, again.phase, again.attempts) == ("http://a", "connect", ("first",))
    assert (again.elapsed, again.status, again.request_sent) == (0.25, 599, True)


def test_a_configuration_error_keeps_its_field_through_pickle() -> None:
    error = pickle.loads(pickle.dumps(_errors.InvalidTargetError("bad", field="target_url")))
    assert (type(error), str(error), error.field) == (_errors.InvalidTargetError, "bad", "target_url")


def test_the_time_until_the_breaker_probes_survives_pickle() -> None:
    error = _errors.CircuitOpenError("open")
    assert error.retry_after is None
    error.retry_after = 1.5
    assert pickle.loads(pickle.dumps(error)).retry_after == 1.5


def reply(code: int, phase: int = 3, flags: int = 0, message: str = "connection refused", **more: Any) -> Any:
    return reply_error(code, phase, flags, message, 1_200_000, "http://127.0.0.1:1", **more)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (3, "ConnectError"),
        (4, "TLSError"),
        (5, "ConnectTimeout"),
        (6, "PoolTimeout"),
        (7, "ReadTimeout"),
        (8, "TotalTimeout"),
        (9, "UpstreamClosedError"),
        (10, "UpstreamProtocolError"),
        (11, "CircuitOpenError"),
        (12, "NoHealthyTargetError"),
        (13, "BodyTooLargeError"),
        (14, "ClientClosedError"),
        (16, "InternalError"),
        (17, "PoolExhaustedError"),
        (19, "ForkedProcessError"),
    ],
)
def test_each_code_has_its_error(code: int, name: str) -> None:
    error = reply(code, flags=1)
    assert type(error).__name__ == name
    assert error.target == "http://127.0.0.1:1"
    assert error.phase == "connect"
    assert error.elapsed == 0.0012
    assert error.request_sent is True
    assert error.attempts == ()
    assert error.status == STATUS[name]


@pytest.mark.parametrize(
    ("code", "name"), [(1, "InvalidRequestError"), (2, "InvalidHeaderError"), (18, "ConfigurationError")]
)
def test_errors_of_the_caller_say_what_the_core_says(code: int, name: str) -> None:
    error = reply(code, phase=0, message="path must start with /")
    assert type(error) is getattr(_errors, name)
    assert str(error) == "path must start with /"


def test_a_cancelled_request_is_a_cancelled_task() -> None:
    assert type(reply(15)) is asyncio.CancelledError


@pytest.mark.parametrize("code", [0, 20, 4_000_000_000])
def test_an_unknown_code_is_an_internal_error_that_shows_it(code: int) -> None:
    error = reply(code, message="?")
    assert type(error) is _errors.InternalError
    assert str(code) in str(error)


@pytest.mark.parametrize("phase", [8, -1, 4_000_000_000])
def test_an_unknown_phase_is_none(phase: int) -> None:
    assert reply(3, phase=phase).phase is None


@pytest.mark.parametrize(("flags", "sent"), [(0, False), (1, True), (2, False), (6, False), (7, True)])
def test_request_sent_is_the_first_flag(flags: int, sent: bool) -> None:
    assert reply(9, flags=flags).request_sent is sent


@pytest.mark.parametrize(
    ("phase", "status"), [("request", 413), ("queue", 413), ("write", 413), ("head", 502), ("body", 502)]
)
def test_a_large_request_is_413_and_a_large_response_502(phase: str, status: int) -> None:
    assert reply(13, phase=_errors.PHASES.index(phase)).status == status  # type: ignore[arg-type]


def test_the_message_says_what_failed_where_why_and_after_how_long() -> None:
    assert str(reply(3, method="GET")) == (
        "GET http://127.0.0.1:1 failed while connecting: connection refused (after 1.2 ms)"
    )
    assert str(reply(8, phase=6, message="")) == (
        "http://127.0.0.1:1 timed out while waiting for the response (after 1.2 ms)"
    )
    assert str(reply_error(7, 7, 1, "no bytes for 60 s", 61_000_000_000, None)) == (
        "the request timed out while receiving the body: no bytes for 60 s (after 61.0 s)"
    )


@pytest.mark.parametrize("method", ["GET\r\nX: y", "\x1b[31m", "G" * 10_000, "\u202eTEG"])
def test_a_method_that_is_no_method_is_not_shown(method: str) -> None:
    assert str(reply(14, method=method, message="the client was closed")) == "http://127.0.0.1:1: the client was closed"


def test_sentences_that_code_for_the_old_proxy_looks_for() -> None:
    assert str(reply(Code.CIRCUIT_OPEN, message="5 failures")) == (
        "Circuit breaker is open for http://127.0.0.1:1: 5 failures"
    )
    assert str(reply_error(11, 0, 0, "", 0, None)) == "Circuit breaker is open"
    assert "No healthy targets available" in str(reply(Code.NO_HEALTHY_TARGET))
