"""The gateway's own answers, and what is logged of a failure: rows R30 and C36."""

from __future__ import annotations

import json
import logging

import pytest

from velithon_proxy import (
    BodyTooLargeError,
    CircuitOpenError,
    ClientClosedError,
    ConnectError,
    ConnectTimeout,
    ForkedProcessError,
    InternalError,
    InvalidHeaderError,
    InvalidRequestError,
    NoHealthyTargetError,
    PoolExhaustedError,
    PoolTimeout,
    ProxyError,
    ReadTimeout,
    TLSError,
    TotalTimeout,
    UpstreamClosedError,
    UpstreamProtocolError,
)
from velithon_proxy.middleware import _answers
from velithon_proxy.middleware._answers import ClientGoneError, Outage, Refusal, answer_to, log_failure

SECRET = "http://10.0.0.7:9001 /srv/key.pem"


@pytest.mark.parametrize(
    ("error", "status", "phrase"),
    [
        (ConnectError(SECRET), 502, "Bad Gateway"),
        (TLSError(SECRET), 502, "Bad Gateway"),
        (UpstreamClosedError(SECRET), 502, "Bad Gateway"),
        (UpstreamProtocolError(SECRET), 502, "Bad Gateway"),
        (InternalError(SECRET), 502, "Bad Gateway"),
        (ProxyError(SECRET), 502, "Bad Gateway"),
        (ProxyError(SECRET, status=999), 502, "Bad Gateway"),
        (BodyTooLargeError(SECRET, status=502), 502, "Bad Gateway"),
        (BodyTooLargeError(SECRET, status=413), 413, "Content Too Large"),
        (ConnectTimeout(SECRET), 504, "Gateway Timeout"),
        (ReadTimeout(SECRET), 504, "Gateway Timeout"),
        (TotalTimeout(SECRET), 504, "Gateway Timeout"),
        (PoolTimeout(SECRET), 503, "Service Unavailable"),
        (PoolExhaustedError(SECRET), 503, "Service Unavailable"),
        (CircuitOpenError(SECRET), 503, "Service Unavailable"),
        (NoHealthyTargetError(SECRET), 503, "Service Unavailable"),
        (ClientClosedError(SECRET), 503, "Service Unavailable"),
        (ForkedProcessError(SECRET), 503, "Service Unavailable"),
        (ImportError(SECRET), 500, "Internal Server Error"),
        (MemoryError(), 500, "Internal Server Error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_failure_has_one_answer_that_tells_nothing_of_the_inside(error: Exception, status: int, phrase: str) -> None:
    answer = answer_to(error)
    assert answer.status == status
    assert json.loads(answer.body) == {"error": phrase, "status": status}
    assert ("content-type", "application/json") in answer.headers
    assert [value for name, value in answer.headers if name == "retry-after"] == (["1"] if status == 503 else [])


def test_an_open_breaker_says_when_to_come_back() -> None:
    error = CircuitOpenError("x")
    for seconds, header in ((12.2, "13"), (0.2, "1"), (0.0, "1")):
        error.retry_after = seconds
        assert ("retry-after", header) in answer_to(error).headers


@pytest.mark.parametrize("error", [InvalidRequestError("path '/<script>'"), InvalidHeaderError("header X-Key: secret")])
def test_what_the_core_refuses_to_send_is_400_without_an_echo(error: ValueError) -> None:
    answer = answer_to(error)
    assert answer.status == 400
    assert json.loads(answer.body)["detail"] == "the method, the target or a header field is not acceptable"


def test_a_refusal_has_its_detail_and_headers() -> None:
    answer = answer_to(Refusal(405, "TRACE is not forwarded", (("allow", "GET"),)))
    assert json.loads(answer.body) == {"error": "Method Not Allowed", "status": 405, "detail": "TRACE is not forwarded"}
    assert ("allow", "GET") in answer.headers


def failure(error: Exception, caplog: pytest.LogCaptureFixture, **request: str) -> logging.LogRecord:
    with caplog.at_level(logging.DEBUG, "velithon_proxy"):
        arguments = {"method": "GET", "path": "/api/x", "prefix": "/api", "target": "http://up:1", **request}
        log_failure(error, **arguments)
    (record,) = caplog.records
    return record


def test_a_failure_is_one_line_with_its_parts_as_fields(caplog: pytest.LogCaptureFixture) -> None:
    error = ConnectError("GET http://up:1 failed while connecting: refused", phase="connect", elapsed=0.0012)
    record = failure(error, caplog)
    assert record.name == "velithon_proxy"
    assert record.getMessage() == ("GET /api/x -> 502 ConnectError: GET http://up:1 failed while connecting: refused")
    fields = {name: getattr(record, name) for name in ("method", "path", "prefix", "status", "error", "upstream")}
    assert fields == {
        "method": "GET",
        "path": "/api/x",
        "prefix": "/api",
        "status": 502,
        "error": "ConnectError",
        "upstream": "http://up:1",
    }
    assert (record.phase, record.request_sent, record.elapsed_ms) == ("connect", False, 1.2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "status", "level", "traceback"),
    [
        (TotalTimeout("x"), 504, logging.WARNING, False),
        (Refusal(400, "x"), 400, logging.INFO, False),
        (Refusal(501, "x"), 501, logging.INFO, False),
        (InvalidRequestError("x"), 400, logging.INFO, False),
        (ClientGoneError("x"), 499, logging.INFO, False),
        (ImportError("x"), 500, logging.ERROR, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_level_says_whose_fault_it_was(
    error: Exception, status: int, level: int, traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    record = failure(error, caplog)
    assert (record.levelno, record.status) == (level, status)  # type: ignore[attr-defined]
    assert (record.exc_info is not None) == traceback


def test_what_a_client_sent_is_escaped_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    record = failure(
        InvalidRequestError("method 'G\x1b[31m'"),
        caplog,
        method="G\r\nERROR forged",
        path="/\x1b]0;x\x07\x9b" + "é" * 500,
    )
    message = record.getMessage()
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 1200
    assert r"G\r\nERROR forged" in message
    assert r"/\x1b]0;x\x07\x9b\xe9" in message


def test_nothing_is_prepared_for_a_level_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, "velithon_proxy"):
        log_failure(ConnectError("x"), method="GET", path="/", prefix="", target="t")
    assert caplog.records == []


def test_an_outage_is_told_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(_answers.time, "monotonic", lambda: now[0])
    outage, none_left = Outage(), NoHealthyTargetError("x")
    assert [outage.news(none_left), outage.news(CircuitOpenError("x")), outage.news(none_left)] == [0, None, None]
    assert outage.news(ConnectError("x")) == 0, "what was tried is told each time"
    now[0] += 0.999
    assert outage.news(none_left) is None
    now[0] += 0.001
    assert outage.news(none_left) == 3
    assert outage.news(none_left) is None


def test_a_line_says_how_many_others_there_were(caplog: pytest.LogCaptureFixture) -> None:
    log_failure(NoHealthyTargetError("x"), method="GET", path="/%s", prefix="", target="t", unsaid=3)
    assert caplog.messages == ["GET /%s -> 503 NoHealthyTargetError: x (and 3 more like it)"]
