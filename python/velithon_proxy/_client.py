"""ProxyClient: requests to one upstream."""

from __future__ import annotations

from ._attempts import CircuitBreakerStatus, read_breaker
from ._errors import ConfigurationError
from ._options import check_integer, check_limit, pool_config
from ._policies import Breaker, Retry
from ._pool import Pool, options_config
from ._settings import Limits, Timeouts
from ._show import show
from ._tls import TLS
from ._watch import StateCallback


class ProxyClient(Pool):
    """Forwards requests to one upstream over pooled connections.

    Constructing a client checks its arguments and does nothing else; connections are made by the first request,
    inside the running event loop. One client serves any number of tasks, event loops and threads.

    Args:
        target_url: the upstream, ``"http://host[:port]"``, ``"https://host[:port]"``, or ``"unix:/path"`` of a socket.
            Paths belong to the requests.
        timeout_ms: limit of one call as a whole in milliseconds: waiting for a connection, connecting (which has a
            limit of its own, 3 s), sending, and the response with its body.
        max_retries: attempts after the first; :class:`Retry` says for what.
        max_failures: consecutive failures that open the circuit breaker.
        recovery_timeout_ms: milliseconds that an open breaker refuses requests (``CircuitOpenError``).
        timeouts: finer limits of time; :class:`Timeouts`.
        limits: how many connections, and how long they are kept; :class:`Limits`.
        retry: what is tried again, and when; :class:`Retry`.
        breaker: what opens the circuit breaker; :class:`Breaker`.
        tls: certificates, keys and versions for an https upstream; :class:`TLS`.
        on_state_change: a function, or coroutine function, that is called with a :class:`StateChange` for each change
            of the breaker, on the loop that makes the first request.
        max_request_body, max_response_body: bytes that a body may have, streamed or not (``BodyTooLargeError``); at
            least 1. ``None``: no limit.

    Raises:
        ConfigurationError: an argument is of the wrong type or out of range; a ``ValueError``.

    Example:
        >>> async with ProxyClient("http://127.0.0.1:8000") as client:
        ...     status, headers, body = await client.forward_request("GET", "/users/1")

    Names and defaults: the feature document.
    """

    def __init__(
        self,
        target_url: str,
        timeout_ms: int = 30000,
        max_retries: int = 3,
        max_failures: int = 5,
        recovery_timeout_ms: int = 60000,
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        retry: Retry | None = None,
        breaker: Breaker | None = None,
        tls: TLS | None = None,
        max_request_body: int | None = None,
        max_response_body: int | None = None,
        on_state_change: StateCallback | None = None,
    ) -> None:
        config = pool_config(
            target_url,
            argument="target_url",
            scheme_required=True,
            # Here, not in pool_config: there None means the default.
            timeout_ms=check_integer("timeout_ms", timeout_ms),
            max_retries=check_integer("max_retries", max_retries),
            max_failures=check_integer("max_failures", max_failures),
            recovery_timeout_ms=check_integer("recovery_timeout_ms", recovery_timeout_ms),
            max_request_body=check_limit("max_request_body", max_request_body),
            max_response_body=check_limit("max_response_body", max_response_body),
            **options_config(timeouts=timeouts, limits=limits, retry=retry, breaker=breaker, tls=tls),
        )
        if tls is not None and not target_url.lower().startswith("https:"):
            raise ConfigurationError(f"tls needs an https target_url, {show(target_url)} is none", field="tls")
        self._set_up(config, on_state_change)

    async def get_circuit_breaker_status(self) -> CircuitBreakerStatus:
        """Return the state of the circuit breaker: ``state, failures, last_failure_ms``.

        Raises:
            ClientClosedError: the client is closed.
        """
        return read_breaker((await self._control("status"))["targets"][0])

    async def reset_circuit_breaker(self) -> None:
        """Close the circuit breaker and forget its failures.

        Raises:
            ClientClosedError: the client is closed.
        """
        await self._control("reset")
