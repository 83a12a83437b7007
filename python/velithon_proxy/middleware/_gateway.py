"""What a gateway decides about a request, whatever server and framework it comes from.

An adapter (``_rsgi.py``) asks it in this order: ``matches``, ``admit``, ``forward``, and ``fail`` when one of them
raised. It owns the connections to the upstream: one client, started by the first request of each process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from .._balancer import ProxyLoadBalancer
from .._errors import ConfigurationError, ProxyError
from .._response import ProxyResponse
from . import _paths
from ._answers import Answer, ClientGoneError, Refusal, answer_to, log_failure

Lines: TypeAlias = list[tuple[str, str]]
"""Header lines of a request in order; names in lower case."""

Transform: TypeAlias = Callable[[Any], Any]

# uri-host [":" port] of RFC 9112 section 3.2 without what could be read as another host by somebody: the same rule as
# that of the core, which checks only the Host that it sends.
_authority: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&()*+=%]+)(?::([0-9]{0,5}))?").fullmatch
_is_length: Final = re.compile(r"[0-9]{1,18}").fullmatch

_ALLOW: Final = (("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),)


_POOL_OPTIONS: Final = frozenset(
    {
        *("health", "backups", "hash_on", "slow_start", "panic_threshold", "wait_for_healthy", "timeouts", "limits"),
        *("retry", "breaker", "tls", "max_request_body", "max_response_body", "on_state_change"),
    }
)
"""Options of :class:`~velithon_proxy.ProxyLoadBalancer` that a gateway hands on as they are."""


class Admitted(NamedTuple):
    """A request that will be forwarded once its body has been read."""

    target: str
    """The request target for the upstream."""
    lines: Lines
    """The header lines to forward."""
    length: int | None
    """Bytes of body that the client announced: 0 if it sends none, ``None`` if it did not say how many."""


class Gateway:
    """Upstreams behind one path prefix. The arguments are those of :class:`~velithon_proxy.ProxyMiddleware`.

    Constructing it checks the arguments and does nothing else.
    """

    def __init__(
        self,
        target_urls: str | Sequence[str],
        path_prefix: str = "/",
        strategy: str = "round_robin",
        timeout_ms: int = 30000,
        max_retries: int = 3,
        preserve_host: bool = False,
        strip_prefix: bool = False,
        transform_request: Transform | None = None,
        transform_response: Transform | None = None,
        *,
        weights: Sequence[int] | None = None,
        max_failures: int = 5,
        recovery_timeout_ms: int = 60000,
        health_check_url: str | None = None,
        **pool: Any,
    ) -> None:
        unknown = sorted(pool.keys() - _POOL_OPTIONS)
        if unknown:
            raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}")
        for name, value in (("transform_request", transform_request), ("transform_response", transform_response)):
            if value is not None:
                raise ConfigurationError(f"{name} is not available in this version", field=name)
        self._preserve_host = _flag("preserve_host", preserve_host)
        self._strip_prefix = _flag("strip_prefix", strip_prefix)
        self._prefix: Final = _paths.parse_prefix(path_prefix)
        self._options: dict[str, Any] = {
            "targets": target_urls,
            "strategy": strategy,
            "weights": weights,
            "health_check_url": health_check_url,
            "timeout_ms": timeout_ms,
            "max_retries": max_retries,
            "max_failures": max_failures,
            "recovery_timeout_ms": recovery_timeout_ms,
            **pool,
        }
        try:
            self._client = ProxyLoadBalancer(**self._options)
        except ConfigurationError as error:
            if error.field != "targets":
                raise
            message = re.sub(r"^targets", "target_urls", str(error))
            raise type(error)(message, field="target_urls") from None
        self.target: Final = target_urls if isinstance(target_urls, str) else ", ".join(target_urls)
        """The upstreams, as they were given."""

    @property
    def prefix(self) -> str:
        """The path prefix, percent-decoded, without a trailing slash except for the root."""
        return self._prefix or "/"

    def matches(self, path: str) -> bool:
        """Whether a request for ``path`` (percent-decoded once) is this gateway's."""
        return _paths.matches(self._prefix, path)

    def admit(
        self, method: str, path: str, query: str, lines: Lines, *, http_version: str, authority: str | None
    ) -> Admitted:
        """Check what can be checked of a request before its body is read.

        Args:
            method: as the client sent it.
            path: percent-decoded once; it matches.
            query: without the question mark, as the client sent it.
            lines: all header lines.
            http_version: ``"1"`` or ``"1.0"``, ``"1.1"``, ``"2"``.
            authority: of the request target if it has one: an absolute URL, or any target in HTTP/2.

        Raises:
            Refusal: the gateway answers the request itself.
        """
        if method == "CONNECT":
            raise Refusal(501, "this gateway opens no tunnels")
        if method == "TRACE":
            # It would show to a script what the client's own software added to the request.
            raise Refusal(405, "TRACE is not forwarded", _ALLOW)
        target = path
        if path != "*" or method != "OPTIONS":
            target = _paths.request_target(self._prefix, path, query, strip=self._strip_prefix)

        hosts: list[str] = []
        lengths: list[str] = []
        chunked = False
        for name, value in lines:
            if name == "host":
                hosts.append(value)
            elif name == "content-length":
                lengths.append(value)
            elif name == "transfer-encoding":
                if chunked or value.strip().lower() != "chunked":
                    # The server in front has undone the chunks, and nothing else.
                    raise Refusal(501, "the only transfer coding that is understood is chunked")
                chunked = True
        _check_hosts(hosts, http_version, authority)
        if len(lengths) > 1 or (lengths and (chunked or _is_length(lengths[0]) is None)):
            raise Refusal(400, "the request has no clear length")
        http2 = http_version.startswith("2")
        # HTTP/2 frames bodies without saying so in a header.
        length = int(lengths[0]) if lengths else None if chunked or http2 else 0

        if authority is not None and self._preserve_host:
            # That of the target counts, not that of the Host field (RFC 9112 section 3.2.2).
            lines = [("host", authority), *(line for line in lines if line[0] != "host")]
        if http2:
            lines = _join_cookies(lines)
        return Admitted(target, lines, length)

    async def forward(self, method: str, admitted: Admitted, body: bytes) -> ProxyResponse:
        """Send the request upstream and return the whole response.

        Raises:
            Refusal: the body is not the one that was announced.
            ProxyError, ValueError: see :meth:`ProxyClient.forward_request`.
        """
        if admitted.length is not None and len(body) != admitted.length:
            raise Refusal(400, "the body has another length than the request says")
        return await self._client._forward(  # pyright: ignore[reportPrivateUsage] -- made for this caller
            method, admitted.target, admitted.lines, body, gateway=True, preserve_host=self._preserve_host
        )

    def fail(self, error: Exception, *, method: str, path: str) -> Answer | None:
        """Log a failure and return what to tell the client; ``None`` if there is nobody left to tell."""
        target = (error.target if isinstance(error, ProxyError) else None) or self.target
        log_failure(error, method=method, path=path, prefix=self._prefix, target=target)
        return None if isinstance(error, ClientGoneError) else answer_to(error)

    def close(self) -> None:
        """Close the connections to the upstream. Requests under way end with 503; a later one connects anew."""
        client, self._client = self._client, ProxyLoadBalancer(**self._options)
        client.close()

    def __repr__(self) -> str:
        return f"{self.prefix!a} -> {self.target!r}"


def _check_hosts(hosts: list[str], http_version: str, authority: str | None) -> None:
    """Refuse a request that does not say which host it is for, or not clearly (RFC 9112 section 3.2)."""
    if len(hosts) > 1 or (not hosts and http_version == "1.1"):
        raise Refusal(400, "the request needs exactly one Host field")
    if (hosts and not _is_authority(hosts[0])) or (authority is not None and not _is_authority(authority)):
        raise Refusal(400, "the host of the request is not a host with an optional port")


def _is_authority(text: str) -> bool:
    match = _authority(text)
    return match is not None and (not match[1] or 1 <= int(match[1]) <= 65535)


def _join_cookies(lines: Lines) -> Lines:
    """Put the cookies that HTTP/2 clients send one to a line back on one line (RFC 9113 section 8.2.3)."""
    cookies = [value for name, value in lines if name == "cookie"]
    if len(cookies) < 2:
        return lines
    return [*(line for line in lines if line[0] != "cookie"), ("cookie", "; ".join(cookies))]


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{field} must be True or False, not a value of type {type(value).__name__}", field=field
        )
    return value
