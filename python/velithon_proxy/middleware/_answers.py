"""What a gateway answers by itself: refusals of requests and failures of upstreams, as JSON, with one log line each.

An answer says what the client can act on and nothing of what lies behind the gateway: no address, no exception text,
no echo of the request (RFC 9110 section 15.6 for the statuses). The log line has all of it.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from math import ceil
from typing import Any, Final, NamedTuple, cast

from .._errors import (
    CircuitOpenError,
    InvalidHeaderError,
    InvalidRequestError,
    NoHealthyTargetError,
    ProxyError,
)
from .._grammar import is_token, is_value
from .._show import show

logger: Final = logging.getLogger("velithon_proxy")

CLIENT_GONE: Final = 499
"""Logged, never sent: the client had left before the answer. The number is nginx's."""

_PHRASES: Final = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    508: "Loop Detected",
}
_RETRY_AFTER: Final = 1
"""Seconds that a client is asked to wait when nothing better is known."""


class Answer(NamedTuple):
    """A complete response: status, header lines, body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Refusal(Exception):  # noqa: N818 -- a decision, not a fault
    """A gateway will not forward the request. Transforms may raise it.

    Args:
        status: of the answer, 400 to 599.
        detail: what the client is told beside the status.
        headers: fields of the answer, pairs of name and value.

    Attributes:
        status, headers: as given.

    Raises:
        ValueError: ``status`` is another number.
        InvalidHeaderError: a field that cannot be sent.
    """

    def __init__(self, status: int, detail: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        given = cast("object", status)
        if not isinstance(given, int) or isinstance(given, bool) or not 400 <= given <= 599:
            raise ValueError(f"the status of a refusal must be a whole number from 400 to 599, not {show(given)}")
        for name, value in headers:
            if is_token(name) is None or is_value(value) is None:
                raise InvalidHeaderError(f"the header {show(name)} of a refusal cannot be sent with that name or value")
        super().__init__(detail)
        self.status = status
        self.headers = tuple(headers)


class ClientGoneError(Exception):
    """The client closed its connection; nobody is left to answer."""


def answer_to(error: Exception) -> Answer:
    """Return the response to a request that ended in ``error``."""
    if isinstance(error, Refusal):
        return _answer(error.status, str(error), error.headers)
    if isinstance(error, ProxyError):
        if error.status == 503:
            return _answer(503, None, (("retry-after", str(_retry_after(error))),))
        return _answer(error.status if error.status in _PHRASES else 502)
    if isinstance(error, (InvalidRequestError, InvalidHeaderError)):
        return _answer(400, "the method, the target or a header field is not acceptable")
    return _answer(500)


class Outage:
    """Requests for which there is no upstream: in an outage that is every one, and a line a second says it all."""

    def __init__(self) -> None:
        self._unsaid = 0
        self._silent_until = 0.0

    def news(self, error: Exception) -> int | None:
        """Whether to write a line about an error, and of how many others like it, before, there was none."""
        if not isinstance(error, (CircuitOpenError, NoHealthyTargetError)):
            return 0
        now = time.monotonic()
        if now < self._silent_until:
            self._unsaid += 1
            return None
        unsaid, self._unsaid, self._silent_until = self._unsaid, 0, now + 1
        return unsaid


def log_failure(error: Exception, *, method: str, path: str, prefix: str, target: str, unsaid: int = 0) -> None:
    """Write the log line of a request that ended in ``error``; ``unsaid`` others like it before had none.

    The record carries its parts as attributes too: ``method``, ``path``, ``prefix``, ``status``, ``error`` (class),
    ``upstream``, ``phase``, ``request_sent`` and ``elapsed_ms``. What a client sent is escaped.
    """
    status = CLIENT_GONE if isinstance(error, ClientGoneError) else answer_to(error).status
    if status < 500 or isinstance(error, Refusal):  # the client's doing
        level = logging.INFO
    else:
        level = logging.WARNING if isinstance(error, ProxyError) else logging.ERROR
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, object] = {
        "method": _escaped(method),
        "path": _escaped(path),
        "prefix": prefix or "/",
        "status": status,
        "error": type(error).__name__,
        "upstream": target,
    }
    if isinstance(error, ProxyError):
        fields["phase"] = error.phase
        fields["request_sent"] = error.request_sent
        fields["elapsed_ms"] = round(error.elapsed * 1e3, 3)
    unexpected = level == logging.ERROR
    logger.log(
        level,
        f"%s %s -> %d %s: %s (and {unsaid} more like it)" if unsaid else "%s %s -> %d %s: %s",
        fields["method"],
        fields["path"],
        status,
        fields["error"],
        _escaped(str(error)),
        extra=fields,
        exc_info=error if unexpected else None,
    )


def _answer(status: int, detail: str | None = None, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return Answer(status, [("content-type", "application/json"), *headers], _body(status, detail))


@functools.lru_cache(maxsize=128)
def _body(status: int, detail: str | None) -> bytes:
    content: dict[str, object] = {"error": _phrase(status), "status": status}
    if detail is not None:
        content["detail"] = detail
    return json.dumps(content).encode()


def _phrase(status: int) -> str:
    """What a status is called; an unknown one by its class (RFC 9110 section 15)."""
    if status in _PHRASES:
        return _PHRASES[status]
    from http import HTTPStatus  # that few need

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Error" if status < 500 else "Server Error"


def _retry_after(error: ProxyError) -> int:
    seconds = error.retry_after
    return _RETRY_AFTER if seconds is None else max(_RETRY_AFTER, ceil(seconds))


def _escaped(text: str) -> str:
    """Text of a client's, harmless in a log: no control or non-ASCII characters, and not without end."""
    return ascii(text[:200])[1:-1]


def respond(protocol: Any, answer: Answer | None) -> None:
    """Give an answer to an RSGI server, if there is one."""
    if answer is None:
        return
    try:
        if answer.body:
            protocol.response_bytes(answer.status, answer.headers, answer.body)
        else:
            protocol.response_empty(answer.status, answer.headers)
    except Exception:
        # Somebody answered before, or the connection is gone; raising would run a handler twice.
        logger.warning("the server did not take a response", exc_info=True)
