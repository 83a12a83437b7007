"""The exceptions of this package, and how a failure reported by the core becomes one of them.

::

    ProxyError(RuntimeError)               the request failed; what to catch around forward_request
     |- ConnectError                  502  refused, unreachable, name not found
     |   `- TLSError                  502  handshake or certificate refused
     |- ProxyTimeoutError             504  also a TimeoutError
     |   |- ConnectTimeout            504  not connected in time
     |   |- PoolTimeout               503  no free connection in time
     |   |- ReadTimeout               504  the upstream stopped answering
     |   `- TotalTimeout              504  timeout_ms is over
     |- UpstreamClosedError           502  closed or reset before the response was complete
     |- UpstreamProtocolError         502  the upstream's bytes are not acceptable HTTP
     |- CircuitOpenError              503  the breaker keeps requests from a failing upstream
     |- NoHealthyTargetError          503  no target may be used now
     |- PoolExhaustedError            503  all connections busy and the queue full
     |- BodyTooLargeError        413, 502  the request's or the response's body exceeds its limit
     |- ClientClosedError             503  used after close
     |- ForkedProcessError            503  used in a child of the process that started the core
     `- InternalError                 502  a fault of this package; please report it
    ConfigurationError(ValueError)         an argument that cannot be used, or not with this configuration
     `- InvalidTargetError                 a target of a constructor that is not a usable URL
    InvalidRequestError(ValueError)        a method or path that must not be sent; nothing was sent
    InvalidHeaderError(ValueError)         a header field that must not be sent; nothing was sent

Names and statuses: the feature document, and RFC 9110 section 15.6 for what a gateway answers.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum, unique
from typing import ClassVar, Final, Literal, NamedTuple

Phase = Literal["request", "queue", "dns", "connect", "tls", "write", "head", "body"]


class Attempt(NamedTuple):
    """One try of a request at one upstream."""

    target: str
    """URL of the upstream as it was configured."""
    outcome: str
    """``"response"``, or the name of the error class, such as ``"ConnectTimeout"``."""
    status: int | None
    """Of the response; ``None`` without one."""
    phase: Phase
    """Where it ended."""
    request_sent: bool
    """Whether the upstream may have seen any byte of the request."""
    elapsed: float
    """Seconds."""
    message: str
    """What happened; empty with a response."""
    retried: bool
    """Whether another attempt followed."""
    reason: str
    """Why, or why not."""


class ProxyError(RuntimeError):
    """A request that got no complete response. A ``RuntimeError``, as the proxy of Velithon raises.

    Attributes:
        target: URL of the upstream as it was configured; ``None`` if none was chosen.
        phase: what was under way: ``"request"`` (checking it), ``"queue"`` (waiting for a connection), ``"dns"``,
            ``"connect"``, ``"tls"``, ``"write"`` (sending), ``"head"`` or ``"body"`` (receiving). ``None`` if the
            request did not get as far as the core.
        attempts: one :class:`Attempt` for each try, in order; empty if no upstream was tried.
        retry_after: seconds after which it may be worth trying again; ``None`` if not known.
        elapsed: seconds from the call to the failure.
        status: the HTTP status a gateway answers its client with.
        request_sent: whether the upstream may have seen any byte of the request. If ``False``, sending the
            request again cannot repeat its effect.
    """

    default_status: ClassVar[int] = 502

    target: str | None
    phase: Phase | None
    attempts: tuple[Attempt, ...]
    retry_after: float | None
    elapsed: float
    status: int
    request_sent: bool

    def __init__(
        self,
        message: str = "",
        *,
        target: str | None = None,
        phase: Phase | None = None,
        attempts: tuple[Attempt, ...] = (),
        retry_after: float | None = None,
        elapsed: float = 0.0,
        status: int | None = None,
        request_sent: bool = False,
    ) -> None:
        # Keyword arguments live in __dict__ only: that is what pickle and copy carry over beside args.
        super().__init__(message)
        self.target = target
        self.phase = phase
        self.attempts = attempts
        self.retry_after = retry_after
        self.elapsed = elapsed
        self.status = self.default_status if status is None else status
        self.request_sent = request_sent


class ConnectError(ProxyError):
    """No connection to the upstream: refused, unreachable, or its name was not found."""


class TLSError(ConnectError):
    """The TLS handshake failed or a certificate was refused.

    Nothing of the request was sent, except that in TLS 1.3 an upstream may refuse our certificate later: see
    ``.request_sent``.
    """


class ProxyTimeoutError(ProxyError, TimeoutError):
    """A time limit was reached; ``.phase`` says where. Also a ``TimeoutError``."""

    default_status = 504


class ConnectTimeout(ProxyTimeoutError):  # noqa: N818 -- the name httpx users know
    """The connection was not ready (name, TCP, TLS) within the connect limit."""


class PoolTimeout(ProxyTimeoutError):  # noqa: N818 -- the name httpx users know
    """No connection became free in time: the upstream is slower than its callers."""

    default_status = 503


class ReadTimeout(ProxyTimeoutError):  # noqa: N818 -- the name httpx users know
    """The upstream sent nothing, or took nothing of the request's body, for longer than its limit."""


class TotalTimeout(ProxyTimeoutError):  # noqa: N818 -- the name httpx users know
    """``timeout_ms`` was over before the response was complete."""


class UpstreamClosedError(ProxyError):
    """The upstream closed or reset the connection before the response was complete."""


class UpstreamProtocolError(ProxyError):
    """The upstream sent what is not acceptable HTTP (RFC 9112); nothing of it is passed on."""


class CircuitOpenError(ProxyError):
    """The circuit breaker keeps requests from a failing upstream; it was not contacted. ``.retry_after`` says how
    long."""

    default_status = 503


class NoHealthyTargetError(ProxyError):
    """Every target is out of use by health checks or breakers; none was contacted."""

    default_status = 503


class PoolExhaustedError(ProxyError):
    """All connections to the upstream are busy and the queue for them is full."""

    default_status = 503


class BodyTooLargeError(ProxyError):
    """A body exceeds its limit. ``.status`` is 413 for the request's and 502 for the response's."""


class ClientClosedError(ProxyError):
    """The client was closed, before the request or while it ran."""

    default_status = 503


class ForkedProcessError(ProxyError):
    """The process was forked after the core had started, so this child has no core. Start workers with spawn."""

    default_status = 503


class InternalError(ProxyError):
    """A fault inside this package, caught before it could harm the process. Please report it."""


class ConfigurationError(ValueError):
    """An argument that cannot be used, or not with this configuration. The message says what is allowed.

    Constructors raise it, changes of a running balancer such as ``add_target``, ``health_check`` without a
    ``health_check_url``, and the first request for what only the core checks.

    Attributes:
        field: name of the argument; ``None`` if it cannot be told.
    """

    field: str | None

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidTargetError(ConfigurationError):
    """A target of a constructor that is not a usable URL."""


class InvalidRequestError(ValueError):
    """A method or path that must not be sent. Nothing was sent."""


class InvalidHeaderError(ValueError):
    """A header field that must not be sent (RFC 9110 section 5.5). Nothing was sent."""


@unique
class Code(IntEnum):
    """Outcome of a request at the border; the names of ``VP_CODE_*`` in capi/abi.h. FORKED never leaves Python."""

    OK = 0
    INVALID_REQUEST = 1
    INVALID_HEADER = 2
    CONNECT = 3
    TLS = 4
    CONNECT_TIMEOUT = 5
    POOL_TIMEOUT = 6
    READ_TIMEOUT = 7
    TOTAL_TIMEOUT = 8
    UPSTREAM_CLOSED = 9
    UPSTREAM_PROTOCOL = 10
    CIRCUIT_OPEN = 11
    NO_HEALTHY_TARGET = 12
    BODY_TOO_LARGE = 13
    CLIENT_CLOSED = 14
    CANCELLED = 15
    INTERNAL = 16
    POOL_EXHAUSTED = 17
    CONFIGURATION = 18
    FORKED = 19


PHASES: Final[tuple[Phase, ...]] = ("request", "queue", "dns", "connect", "tls", "write", "head", "body")
"""Names of the phases; the index is the number at the border (``VP_PHASE_*``)."""

FLAG_REQUEST_SENT: Final = 1
FLAG_REUSED: Final = 2
FLAG_RESPONSE_STARTED: Final = 4
FLAG_BODY_AWAITED: Final = 8

PROXY_ERRORS: Final[dict[int, type[ProxyError]]] = {
    Code.CONNECT: ConnectError,
    Code.TLS: TLSError,
    Code.CONNECT_TIMEOUT: ConnectTimeout,
    Code.POOL_TIMEOUT: PoolTimeout,
    Code.READ_TIMEOUT: ReadTimeout,
    Code.TOTAL_TIMEOUT: TotalTimeout,
    Code.UPSTREAM_CLOSED: UpstreamClosedError,
    Code.UPSTREAM_PROTOCOL: UpstreamProtocolError,
    Code.CIRCUIT_OPEN: CircuitOpenError,
    Code.NO_HEALTHY_TARGET: NoHealthyTargetError,
    Code.BODY_TOO_LARGE: BodyTooLargeError,
    Code.CLIENT_CLOSED: ClientClosedError,
    Code.INTERNAL: InternalError,
    Code.POOL_EXHAUSTED: PoolExhaustedError,
    Code.FORKED: ForkedProcessError,
}

VALUE_ERRORS: Final[dict[int, type[ValueError]]] = {
    Code.INVALID_REQUEST: InvalidRequestError,
    Code.INVALID_HEADER: InvalidHeaderError,
    Code.CONFIGURATION: ConfigurationError,
}


def attempt_outcome(code: int) -> str:
    """Name the outcome of an attempt by its code."""
    if code == Code.OK:
        return "response"
    if code == Code.CANCELLED:
        return "cancelled"
    cls = PROXY_ERRORS.get(code) or VALUE_ERRORS.get(code) or InternalError
    return cls.__name__


_WHILE: Final[dict[Phase, str]] = {
    "request": "checking the request",
    "queue": "waiting for a connection",
    "dns": "resolving the name",
    "connect": "connecting",
    "tls": "in the TLS handshake",
    "write": "sending the request",
    "head": "waiting for the response",
    "body": "receiving the body",
}


def reply_error(
    code: int,
    phase: int,
    flags: int,
    message: str,
    elapsed_ns: int,
    target: str | None,
    *,
    method: str = "",
    attempts: tuple[Attempt, ...] = (),
    retry_after_ns: int = 0,
) -> BaseException:
    """Make the exception for a failed reply.

    Args:
        code: one of :class:`Code`; an unknown one gives :class:`InternalError`.
        phase: index into :data:`PHASES`.
        flags: ``FLAG_*`` bits.
        message: what the core says happened, e.g. ``"connection refused"``.
        elapsed_ns: nanoseconds from the call to the failure.
        target: URL of the upstream as it was configured, or ``None``.
        method: of the request, for the message.
        attempts: those that were made.
        retry_after_ns: nanoseconds after which it may be worth trying again; 0 if not known.

    Returns:
        A :class:`ProxyError`, one of the ``ValueError`` classes, or ``asyncio.CancelledError``; not raised.
    """
    if code == Code.CANCELLED:
        return asyncio.CancelledError()
    value_error = VALUE_ERRORS.get(code)
    if value_error is not None:
        return value_error(message)
    cls = PROXY_ERRORS.get(code)
    if cls is None:
        cls, message = InternalError, f"the core reported the unknown code {code}: {message}"
    name = PHASES[phase] if 0 <= phase < len(PHASES) else None
    elapsed = elapsed_ns / 1e9
    status = None
    if cls is BodyTooLargeError and name in ("request", "queue", "write"):
        status = 413
    elif issubclass(cls, ProxyTimeoutError) and flags & FLAG_BODY_AWAITED:
        status = 408
    # A method that was not checked yet may hold anything.
    shown = method if len(method) < 40 and method.isascii() and method.isprintable() else ""
    return cls(
        _describe(cls, " ".join(filter(None, (shown, target))), name, message, elapsed, len(attempts)),
        target=target,
        phase=name,
        attempts=attempts,
        retry_after=retry_after_ns / 1e9 if retry_after_ns > 0 else None,
        elapsed=elapsed,
        status=status,
        request_sent=bool(flags & FLAG_REQUEST_SENT),
    )


def _describe(
    cls: type[ProxyError], subject: str, phase: Phase | None, message: str, elapsed: float, tries: int
) -> str:
    """Write the sentence: what failed, where, why, after how long."""
    reason = f": {message}" if message else ""
    # Code written for Velithon's own proxy looks for the first two sentences.
    if issubclass(cls, CircuitOpenError):
        return f"Circuit breaker is open for {subject}{reason}" if subject else f"Circuit breaker is open{reason}"
    if issubclass(cls, NoHealthyTargetError):
        return f"No healthy targets available{reason}"
    if issubclass(cls, (ClientClosedError, ForkedProcessError)):
        return f"{subject}{reason}" if subject else message
    verb = "timed out" if issubclass(cls, ProxyTimeoutError) else "failed"
    doing = f" while {_WHILE[phase]}" if phase else ""
    after = f"{elapsed * 1e3:.1f} ms" if elapsed < 1 else f"{elapsed:.1f} s"
    if tries > 1:
        after += f", {tries} attempts"
    return f"{subject or 'the request'} {verb}{doing}{reason} (after {after})"
