"""ProxyLoadBalancer: requests to one of several upstreams."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterable, Sequence

from . import _runtime
from ._attempts import CircuitBreakerStatus, read_breaker
from ._errors import ConfigurationError
from ._headers import HeadersInput, pack
from ._options import check_integer, check_limit, check_share, pool_config
from ._policies import Breaker, Health, Retry
from ._pool import BodyTypes, Pool, options_config
from ._query import QueryInput, append_query
from ._response import ProxyResponse
from ._settings import Limits, Timeouts, milliseconds, seconds
from ._show import show
from ._stream import StreamContext
from ._tls import TLS
from ._watch import StateCallback

KeyInput = str | bytes


class ProxyLoadBalancer(Pool):
    """Shares requests out among several upstreams, and tries another one where that is safe.

    Constructing one checks its arguments and does nothing else; connections are made, and probes begin, with the first
    use inside an event loop. One balancer serves any number of tasks, event loops and threads.

    Args:
        targets: URLs of the upstreams, as for :class:`ProxyClient`; ``"host:port"`` means http.
        strategy: ``"round_robin"``, ``"random"``, ``"weighted"`` (in turn, by weight), ``"least_request"`` (the less
            busy of two that are drawn), ``"consistent_hash"`` (equal keys to the same upstream), ``"first"`` (the
            first one that can be used) or ``"single"`` (the same).
        weights: the share of each target, whole numbers; for ``weighted``, ``least_request`` and ``consistent_hash``.
        health_check_url: path, or URL, that is probed every ten seconds (:class:`Health`); ``None``: no probes, only
            circuit breakers watch the upstreams.
        timeout_ms, max_retries, max_failures, recovery_timeout_ms: as for :class:`ProxyClient`; each upstream has a
            circuit breaker of its own.
        health: how upstreams are probed; :class:`Health`.
        backups: more upstreams, which serve only while none of ``targets`` can be used.
        hash_on: what ``consistent_hash`` looks at in requests that are given no ``hash_key``: ``"header:NAME"``,
            ``"cookie:NAME"``, or ``"key"``, nothing else.
        slow_start: seconds in which an upstream that is new, or usable again, rises to its full share.
        panic_threshold: share of the upstreams, 0 to 1. While fewer can be used, all are, whatever breakers and
            probes say.
        wait_for_healthy: seconds that a request waits for an upstream to become usable when none is.
        timeouts, limits, retry, breaker, tls, max_request_body, max_response_body, on_state_change: as for
            :class:`ProxyClient`.

    Raises:
        ConfigurationError: an argument is of the wrong type or out of range; a ``ValueError``.

    Example:
        >>> targets = ["http://10.0.0.1", "http://10.0.0.2"]
        >>> async with ProxyLoadBalancer(targets, health_check_url="/health") as balancer:
        ...     status, headers, body = await balancer.forward_request("GET", "/users/1")

    Names and defaults: the feature document.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        strategy: str = "round_robin",
        weights: Sequence[int] | None = None,
        health_check_url: str | None = None,
        *,
        timeout_ms: int = 30000,
        max_retries: int = 3,
        max_failures: int = 5,
        recovery_timeout_ms: int = 60000,
        health: Health | None = None,
        backups: Sequence[str] | None = None,
        hash_on: str | None = None,
        slow_start: float | None = None,
        panic_threshold: float | None = None,
        wait_for_healthy: float | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        retry: Retry | None = None,
        breaker: Breaker | None = None,
        tls: TLS | None = None,
        max_request_body: int | None = None,
        max_response_body: int | None = None,
        on_state_change: StateCallback | None = None,
    ) -> None:
        if strategy is None:  # pyright: ignore[reportUnnecessaryComparison] -- callers without types
            raise ConfigurationError("strategy must be the name of one, not None", field="strategy")
        self._is_probed = health_check_url is not None
        if health is not None and health_check_url is None:
            raise ConfigurationError("health needs health_check_url: without it nothing is probed", field="health")
        if health_check_url == "":
            raise ConfigurationError("health_check_url must be a path or a URL, it is empty", field="health_check_url")
        try:
            config = pool_config(
                targets,
                strategy=strategy,
                weights=weights,
                backups=backups,
                hash_on=hash_on,
                health_url=health_check_url,
                # Here, not in pool_config: there None means the default.
                timeout_ms=check_integer("timeout_ms", timeout_ms),
                max_retries=check_integer("max_retries", max_retries),
                max_failures=check_integer("max_failures", max_failures),
                recovery_timeout_ms=check_integer("recovery_timeout_ms", recovery_timeout_ms),
                slow_start_ms=milliseconds(seconds("slow_start", slow_start, zero=True))
                if slow_start is not None
                else None,
                panic_threshold=None if panic_threshold is None else check_share("panic_threshold", panic_threshold),
                wait_for_healthy_ms=(
                    None
                    if wait_for_healthy is None
                    else milliseconds(seconds("wait_for_healthy", wait_for_healthy, zero=True))
                ),
                max_request_body=check_limit("max_request_body", max_request_body),
                max_response_body=check_limit("max_response_body", max_response_body),
                **options_config(
                    timeouts=timeouts, limits=limits, retry=retry, breaker=breaker, health=health, tls=tls
                ),
            )
        except ConfigurationError as error:
            name = _ARGUMENTS.get(error.field or "")
            if name is None:
                raise
            raise ConfigurationError(str(error).replace(error.field or "", name), field=name) from None
        self._set_up(config, on_state_change)

    async def forward_request(
        self,
        method: str,
        path: str,
        headers: HeadersInput = None,
        body: BodyTypes | AsyncIterable[BodyTypes] | None = None,
        query_params: QueryInput = None,
        *,
        hash_key: KeyInput | None = None,
    ) -> ProxyResponse:
        """Send one request to one of the upstreams and wait for its whole response.

        The arguments, the result and the errors are those of :meth:`ProxyClient.forward_request`; ``hash_key`` is
        what the strategy ``consistent_hash`` looks at. ``response.target`` says which upstream has answered.

        Raises:
            NoHealthyTargetError: no upstream can be used now.
        """
        if query_params is not None:
            path = append_query(path, query_params)
        fields = headers if headers is None or type(headers) in (dict, list) else pack(headers)
        return await self._exchange(method, path, fields, body, _key(hash_key))

    def stream_request(
        self,
        method: str,
        path: str,
        headers: HeadersInput = None,
        body: BodyTypes | AsyncIterable[BodyTypes] | None = None,
        query_params: QueryInput = None,
        *,
        hash_key: KeyInput | None = None,
    ) -> StreamContext:
        """Send one request to one of the upstreams and read the body of its response as it arrives.

        See :meth:`ProxyClient.stream_request` and :meth:`forward_request`.
        """
        if query_params is not None:
            path = append_query(path, query_params)
        fields = headers if headers is None or type(headers) in (dict, list) else pack(headers)
        return StreamContext(self, method, path, fields, body, 0, _key(hash_key))

    async def get_next_target(self, hash_key: KeyInput | None = None) -> str:
        """Return the target, as it was given, that the next request would go to. It takes a turn of the strategy.

        Args:
            hash_key: what ``consistent_hash`` would look at, wherever ``hash_on`` takes it from.

        Raises:
            NoHealthyTargetError: no upstream can be used now.
            ClientClosedError: the balancer is closed.
        """
        key = base64.b64encode(_key(hash_key) or b"").decode()
        target: str = (await self._control("next", key=key))["target"]
        return target

    async def health_check(self) -> None:
        """Probe all upstreams at the same time, make what comes out their verdicts, and return when that is done.

        Raises:
            ConfigurationError: there is no ``health_check_url``.
            ClientClosedError: the balancer is closed.
        """
        await self._control("probe")

    @property
    def is_probed(self) -> bool:
        """Whether there is a ``health_check_url``."""
        return self._is_probed

    async def get_health_status(self) -> list[tuple[str, bool]]:
        """Return each target, in the order given, and whether requests may go there now.

        Both have a say: what probes have found, and the target's circuit breaker.

        Raises:
            ClientClosedError: the balancer is closed.
        """
        return [(target["target"], target["usable"]) for target in (await self._control("status"))["targets"]]

    async def get_circuit_breaker_status(self) -> dict[str, CircuitBreakerStatus]:
        """Return the state of each target's circuit breaker: ``state, failures, last_failure_ms``.

        Raises:
            ClientClosedError: the balancer is closed.
        """
        return {target["target"]: read_breaker(target) for target in (await self._control("status"))["targets"]}

    async def reset_circuit_breaker(self, target: str | None = None) -> None:
        """Close the circuit breaker of a target, or of all, and forget the failures.

        Raises:
            ConfigurationError: ``target`` is none of this balancer's.
            ClientClosedError: the balancer is closed.
        """
        await self._control("reset", target="" if target is None else _target(target))

    async def add_target(self, target: str, weight: int = 1, *, backup: bool = False) -> None:
        """Add an upstream. It gets requests at once, or slowly with ``slow_start``.

        Raises:
            ConfigurationError: a URL that cannot be used, or is there already; a weight that is out of range, or other
                than 1 with a strategy that knows none.
            ClientClosedError: the balancer is closed.
        """
        _target(target)
        _weight(weight)
        with _runtime.lock:  # the name has its number before any response can come from there
            number = len(self._targets)
            self._targets[number] = target
        await self._control("add", target=target, weight=weight, backup=backup, number=number)

    async def remove_target(self, target: str) -> None:
        """Remove an upstream. Requests that it has got finish there, and it gets no new one.

        Raises:
            ConfigurationError: it is none of this balancer's, or the only one.
            ClientClosedError: the balancer is closed.
        """
        await self._control("remove", target=_target(target))

    async def set_weight(self, target: str, weight: int) -> None:
        """Change the share of an upstream; 0: it gets nothing more.

        Raises:
            ConfigurationError: it is none of this balancer's, the strategy knows no weights, or the weight is out of
                range.
            ClientClosedError: the balancer is closed.
        """
        await self._control("weight", target=_target(target), weight=_weight(weight))

    async def drain(self, target: str) -> None:
        """Send an upstream nothing new, and let the requests that it has got finish; :meth:`resume` ends it.

        Raises:
            ConfigurationError: it is none of this balancer's.
            ClientClosedError: the balancer is closed.
        """
        await self._control("drain", target=_target(target), draining=True)

    async def resume(self, target: str) -> None:
        """End what :meth:`drain` began.

        Raises:
            ConfigurationError: it is none of this balancer's.
            ClientClosedError: the balancer is closed.
        """
        await self._control("drain", target=_target(target), draining=False)


_ARGUMENTS = {"health_url": "health_check_url", "slow_start_ms": "slow_start"}


def _target(target: object) -> str:
    if not isinstance(target, str):
        raise ConfigurationError(f"target must be the URL of a target (str), not {show(target)}", field="target")
    return target


def _weight(weight: object) -> int:
    if not isinstance(weight, int) or isinstance(weight, bool):
        raise ConfigurationError(f"weight must be a whole number from 0 to 1000000, not {show(weight)}", field="weight")
    return weight


def _key(key: object) -> bytes | None:
    if key is None or isinstance(key, bytes):
        return key
    if isinstance(key, str):
        return key.encode()
    raise TypeError(f"hash_key is {show(key)}; str, bytes or None is allowed")
