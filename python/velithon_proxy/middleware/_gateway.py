"""What a gateway decides about a request, whatever server and framework it comes from.

An adapter (``_rsgi.py``, ``_asgi.py``) asks it in this order: ``matches``, ``admit``, ``open``, and ``fail`` when one
of them raised. It owns the connections to the upstreams: one client, started by the first request of each process.
"""

# The client, and the objects that hooks are given, were made for this caller.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import functools
import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

from .._balancer import ProxyLoadBalancer
from .._errors import ConfigurationError, ProxyError
from .._pool import FLAG_GATEWAY, FLAG_PRESERVE_HOST
from .._stream import StreamResponse
from .._targets import parse_target
from . import _paths
from ._answers import Answer, ClientGoneError, Outage, Refusal, answer_to, log_failure, logger
from ._fields import FieldRules, FieldsInput, Lines, Peer, RawLines, as_text, join_cookies, seen
from ._hosts import check_host
from ._passing import Admitted, Reply, reply_of
from ._rewrites import Rewrites
from ._transforms import (
    ErrorHook,
    GatewayResponse,
    ProxyRequest,
    RequestHook,
    ResponseHook,
    check_hook,
    run_hook,
)  # fmt: skip

_is_length: Final = re.compile(r"[0-9]{1,18}").fullmatch

REFUSED_METHODS: Final = frozenset({"CONNECT", "TRACE"})
"""Methods of requests that ``admit`` refuses."""
_ALLOW: Final = (("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),)

_POOL_OPTIONS: Final = frozenset(
    {
        *("health", "backups", "slow_start", "panic_threshold", "wait_for_healthy", "timeouts", "limits"),
        *("retry", "breaker", "tls", "max_request_body", "max_response_body", "on_state_change"),
    }
)
"""Options of :class:`~velithon_proxy.ProxyLoadBalancer` that a gateway hands on as they are."""


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
        transform_request: RequestHook | None = None,
        transform_response: ResponseHook | None = None,
        *,
        weights: Sequence[int] | None = None,
        max_failures: int = 5,
        recovery_timeout_ms: int = 60000,
        health_check_url: str | None = None,
        hash_on: str | None = None,
        upstream_path_prefix: str = "",
        trusted_proxies: Iterable[str] = (),
        forwarded: bool = False,
        via: str | None = "velithon-proxy",
        add_request_headers: FieldsInput = None,
        remove_request_headers: Iterable[str] = (),
        add_response_headers: FieldsInput = None,
        remove_response_headers: Iterable[str] = (),
        rewrite_location: bool = False,
        rewrite_cookies: bool = False,
        on_error: ErrorHook | None = None,
        status_endpoint: str | None = None,
        **pool: Any,
    ) -> None:
        unknown = sorted(pool.keys() - _POOL_OPTIONS)
        if unknown:
            raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}")
        check_hook("transform_request", transform_request)
        check_hook("transform_response", transform_response)
        check_hook("on_error", on_error)
        self.on_error: Final = on_error
        self._transform_request = transform_request
        self._most: int | None = pool.get("max_request_body")
        self._transform_response = transform_response
        self._preserve_host = _flag("preserve_host", preserve_host)
        self._flags: Final = FLAG_GATEWAY | (FLAG_PRESERVE_HOST if self._preserve_host else 0)
        self._strip_prefix = _flag("strip_prefix", strip_prefix)
        self._prefix: Final = _paths.parse_prefix(path_prefix)
        self._above: Final = _paths.parse_above(upstream_path_prefix)
        self._rules: Final = FieldRules(
            prefix=self._prefix if self._strip_prefix else "",
            trusted_proxies=trusted_proxies,
            forwarded=_flag("forwarded", forwarded),
            via=via,
            add_request_headers=add_request_headers,
            remove_request_headers=remove_request_headers,
            add_response_headers=add_response_headers,
            remove_response_headers=remove_response_headers,
        )
        self._status_path: Final = _paths.parse_endpoint("status_endpoint", status_endpoint)
        self._hash_client: Final = hash_on == "client"
        self._options: dict[str, Any] = {
            "targets": target_urls,
            "strategy": strategy,
            "weights": weights,
            "health_check_url": health_check_url,
            "hash_on": "key" if self._hash_client else hash_on,
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
            message = message.replace("put the path into each request", "upstream_path_prefix puts one in front")
            raise type(error)(message, field="target_urls") from None
        self.target: Final = target_urls if isinstance(target_urls, str) else ", ".join(target_urls)
        """The upstreams, as they were given."""
        self.patience: Final = timeout_ms / 1000
        """Seconds that a client has to send a body that is read before anything is sent."""
        self._outage: Final = Outage()
        self._rewrites: Rewrites | None = None
        if _flag("rewrite_location", rewrite_location) or _flag("rewrite_cookies", rewrite_cookies):
            targets = [target_urls] if isinstance(target_urls, str) else target_urls
            authorities = [parse_target(url, argument="target_urls", scheme_required=False).host for url in targets]
            left_out = _paths.encoded(self._prefix) if self._strip_prefix else ""
            self._rewrites = Rewrites(
                left_out, self._above, authorities, location=rewrite_location, cookies=rewrite_cookies
            )

    @property
    def prefix(self) -> str:
        """The path prefix, percent-decoded, without a trailing slash except for the root."""
        return self._prefix or "/"

    @property
    def client(self) -> ProxyLoadBalancer:
        """The upstreams; another object after ``close``."""
        return self._client

    @property
    def has_hooks(self) -> bool:
        """Whether there are functions that change what passes."""
        hooks = (self._transform_request, self._transform_response, self.on_error)
        return any(hook is not None for hook in hooks)

    def matches(self, path: str, raw: str | None = None) -> bool:
        """Whether a request is this gateway's.

        Args:
            path: percent-decoded once.
            raw: the path as it was sent, if the server says so: then that counts.
        """
        if path == self._status_path:
            return True
        return _paths.matches(self._prefix, path) if raw is None else _paths.raw_matches(self._prefix, raw)

    def own_answer(self, method: str, path: str) -> Answer | None:
        """The answer to a request for the ``status_endpoint``; ``None`` for all others.

        Raises:
            Refusal: 405, another method than GET and HEAD.
        """
        if path != self._status_path:
            return None
        if method not in ("GET", "HEAD"):
            raise Refusal(405, "the state can only be read", (("allow", "GET, HEAD"),))
        body = json.dumps(self.status()).encode()
        lines = [("content-type", "application/json"), ("cache-control", "no-store")]
        return Answer(200, [*lines, ("content-length", str(len(body)))], body if method == "GET" else b"")

    def admit(
        self,
        method: str,
        path: str,
        query: str,
        lines: Lines | RawLines,
        *,
        http_version: str,
        authority: str | None,
        raw: str | None = None,
        root: str = "",
        address: str | None = None,
        scheme: str = "http",
    ) -> Admitted:
        """Check what can be checked of a request before its body is read.

        Args:
            method: as the client sent it.
            path: percent-decoded once; it matches.
            query: without the question mark, as the client sent it.
            lines: all header lines.
            http_version: ``"1"`` or ``"1.0"``, ``"1.1"``, ``"2"``.
            authority: of the request target if it has one: an absolute URL, or any target in HTTP/2.
            raw: the path as it was sent, if the server says so.
            root: path that the application was mounted at; part of neither.
            address: IP address of the connection's other end.
            scheme: of the request.

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
            write, given = (_paths.request_target, path) if raw is None else (_paths.raw_target, raw)
            target = write(self._prefix, given, query, strip=self._strip_prefix, above=self._above)

        host: str | None = None
        length: int | None = None
        chunked, quick = False, not self._rules.changes_requests
        special = seen(lines)
        for line in special:
            name, value = line
            if name == "host":
                if host is not None:
                    raise Refusal(400, "the request needs exactly one Host field")
                host = value
            elif name == "content-length":
                if length is not None or _is_length(value) is None:
                    raise Refusal(400, "the request has no clear length")
                length = int(value)
            elif name == "transfer-encoding":
                if chunked or value.strip().lower() != "chunked":
                    # The server in front has undone the chunks, and nothing else.
                    raise Refusal(501, "the only transfer coding that is understood is chunked")
                chunked = True
            elif quick:
                quick = FieldRules.says_nothing(line)
        if chunked and length is not None:
            raise Refusal(400, "the request has no clear length")
        if self._most and length is not None and length > self._most:
            raise Refusal(413, "the body is too large")
        peer = Peer(address, scheme, authority or host or "", root)
        own = self._rules.own(peer)
        if own is None or host is None or authority is not None:
            check_host(host, http_version, authority)
            own = own or self._rules.learn(peer)

        if host == "":  # HTTP/1.0; the upstream is to get none, rather than one that says nothing
            lines = [line for line in as_text(lines) if line[0] != "host"]
        http2 = http_version.startswith("2")
        if length is None and not chunked and not http2:
            length = 0  # HTTP/2 frames bodies without saying so in a header
        if authority is not None and self._preserve_host:
            # That of the target counts, not that of the Host field (RFC 9112 section 3.2.2).
            lines = [("host", authority), *(line for line in as_text(lines) if line[0] != "host")]
        if http2:
            lines = join_cookies(as_text(lines))
        key = None
        if self._hash_client:
            chain = [value for name, value in special if name == "x-forwarded-for"]
            key = (self._rules.trusted.client(address, chain) or "").encode()
        kept = [*lines, *own] if quick else self._rules.request(method, as_text(lines), peer)
        return Admitted(target, kept, length, key, address, peer.host, root, http2 and length is None)

    async def open(
        self, method: str, admitted: Admitted, body: bytes | AsyncIterator[bytes], *, raw: bool = False
    ) -> Reply:
        """Send the request upstream and return the response as soon as its head is there.

        Args:
            method: as the client sent it.
            admitted: what ``admit`` has made of it.
            body: of as many bytes as were announced.
            raw: the adapter takes the lines of the response as bytes, names in lower case. It gets them as text where
                somebody has looked at them.

        Raises:
            Refusal: the body is not the one that was announced.
            ProxyError, ValueError: see :meth:`ProxyClient.forward_request`.
        """
        if isinstance(body, bytes) and admitted.length is not None and len(body) != admitted.length:
            raise Refusal(400, "the body has another length than the request says")
        if self._transform_request is not None:
            lines = as_text(admitted.lines)
            request = ProxyRequest(method, admitted.target, lines, body, admitted.client, self._most)
            changed = await run_hook(
                "transform_request", self._transform_request, request, ProxyRequest, GatewayResponse
            )
            if isinstance(changed, GatewayResponse):
                return await reply_of(changed, "")
            method, target, lines = changed._head()
            body = changed._to_send()
            admitted = admitted._replace(target=target, lines=lines)
        response = await self._client._open_stream(
            method, admitted.target, admitted.lines, body, self._flags, admitted.key
        )
        return await self.reply_to(response, admitted.host, admitted.root, raw=raw)

    async def reply_to(self, response: StreamResponse, host: str, root: str = "", *, raw: bool = False) -> Reply:
        """Make of a response what is handed on to the client.

        Args:
            response: its head is there.
            host: that the client has asked for.
            root: path that the application was mounted at.
            raw: see ``open``.
        """
        try:
            whole = response._take_whole()
            stream = None if whole is not None else response
            if stream is not None:
                stream._pace(0, 0.0)
            elif response._upload is not None:  # it was answered before all of it was there: nobody needs the rest
                await response.aclose()
            rules, rewrites = self._rules, self._rewrites
            if raw and self._transform_response is None and rewrites is None and not rules.changes_responses:
                raw_lines = rules.raw_response(response._lower_lines())
                return Reply(response.status, raw_lines, whole, stream, response.target)
            lines = response._lines()
            if rewrites is not None:
                lines = rewrites.response(lines, host, root)
            lines = rules.response(lines)
            if self._transform_response is None:
                return Reply(response.status, lines, whole, stream, response.target)
            given = GatewayResponse._of(response.status, lines, whole, stream)
            answer = await run_hook("transform_response", self._transform_response, given, GatewayResponse)
            if answer is not given:
                await response.aclose()
            return await reply_of(answer, response.target)
        except BaseException:
            await response.aclose()
            raise

    async def fail(self, error: Exception, *, method: str, path: str, begun: bool = False) -> Answer | None:
        """Log a failure and return what to tell the client; ``None`` if nobody is to be told any more."""
        answer = self.note(error, method=method, path=path, begun=begun)
        return answer if answer is None or self.on_error is None else await self._shaped(self.on_error, error, answer)

    def note(self, error: Exception, *, method: str, path: str, begun: bool = False) -> Answer | None:
        """Do the same without asking ``on_error``."""
        unsaid = self._outage.news(error)
        if unsaid is not None:
            target = (error.target if isinstance(error, ProxyError) else None) or self.target
            log_failure(error, method=method, path=path, prefix=self._prefix, target=target, unsaid=unsaid)
        if begun or isinstance(error, ClientGoneError):
            return None
        return answer_to(error)

    async def _shaped(self, hook: ErrorHook, error: Exception, answer: Answer) -> Answer:
        """What ``on_error`` makes of an answer; if it fails, the answer stays as it was."""
        given = GatewayResponse(answer.status, answer.headers, answer.body)
        try:
            shaped = await run_hook("on_error", functools.partial(hook, error), given, GatewayResponse)
            reply = await reply_of(shaped, "")
            return Answer(reply.status, as_text(reply.lines), reply.body or b"")
        except Exception:
            logger.exception("on_error failed; the answer is the usual one")
            return answer

    def status(self) -> dict[str, Any]:
        """The state of the pool, as dictionaries."""
        status = self._client.snapshot()
        targets = [{**target._asdict(), "breaker": target.breaker._asdict()} for target in status.targets]
        return {**status._asdict(), "targets": targets, "path_prefix": self.prefix}

    async def reset_breakers(self) -> None:
        """Close all circuit breakers."""
        await self._client.reset_circuit_breaker()

    def close(self) -> None:
        """Close the connections to the upstream. Requests under way end with 503; a later one connects anew."""
        client, self._client = self._client, ProxyLoadBalancer(**self._options)
        client.close()

    def __repr__(self) -> str:
        return f"{self.prefix!a} -> {self.target!r}"


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{field} must be True or False, not a value of type {type(value).__name__}", field=field
        )
    return value
