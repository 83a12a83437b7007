"""The option classes that say what becomes of failures: retries, circuit breakers, health checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast

from ._errors import ConfigurationError
from ._options import check_integer, check_share
from ._rules import check_health, check_retries
from ._settings import FrozenOptions, milliseconds, seconds
from ._show import show

StatusInput: TypeAlias = "int | tuple[int, int]"


class Retry(FrozenOptions):
    """What is tried again, and when. How often is ``max_retries``.

    Without any option these are retried: a request of which nothing was sent, with any method, at another upstream; and
    GET, HEAD, OPTIONS and TRACE as long as no byte of a response has come.

    Args:
        statuses: responses that are taken for failures and not handed on while there are retries left, e.g.
            ``(502, 503, 504)``.
        methods: ``"PUT"``, ``"DELETE"``: methods that may be sent again although an upstream may have acted on them.
        idempotency_key: send a request with an ``Idempotency-Key`` again, whatever its method.
        max_body: bytes. A larger body is sent again only if nothing of the request was.
        base_delay, max_delay: seconds. The pause before a retry is random: up to ``base_delay``, doubled for each
            further retry, up to ``max_delay``.
        max_retry_after: the longest ``Retry-After`` in seconds that is waited for; a response that asks for more is
            handed on.
        budget: the part of the requests under way that may be retries, 0 to 1.
        budget_min: so many may always be.
        per_try_timeout: seconds until the head of a response, for each attempt.

    Raises:
        ConfigurationError: a value of the wrong type or out of range.

    Defaults: Envoy's budget and pauses.
    """

    __slots__ = (
        "base_delay", "budget", "budget_min", "idempotency_key", "max_body", "max_delay", "max_retry_after", "methods",
        "per_try_timeout", "statuses",
    )  # fmt: skip

    statuses: tuple[int, ...]
    methods: tuple[str, ...]
    idempotency_key: bool
    max_body: int
    base_delay: float
    max_delay: float
    max_retry_after: float
    budget: float
    budget_min: int
    per_try_timeout: float | None

    def __init__(
        self,
        *,
        statuses: Iterable[int] = (),
        methods: Iterable[str] = (),
        idempotency_key: bool = False,
        max_body: int = 65_536,
        base_delay: float = 0.025,
        max_delay: float = 0.25,
        max_retry_after: float = 10.0,
        budget: float = 0.2,
        budget_min: int = 3,
        per_try_timeout: float | None = None,
    ) -> None:
        if not isinstance(idempotency_key, bool):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without types
            raise ConfigurationError(
                f"idempotency_key must be True or False, not {show(idempotency_key)}", field="idempotency_key"
            )
        for name, value in (
            ("statuses", _tuple("statuses", statuses)),
            ("methods", _tuple("methods", methods)),
            ("idempotency_key", idempotency_key),
            ("max_body", check_integer("retry_max_body", max_body, "max_body")),
            ("base_delay", seconds("base_delay", base_delay, zero=True, high=60)),
            ("max_delay", seconds("max_delay", max_delay, zero=True, high=60)),
            ("max_retry_after", seconds("max_retry_after", max_retry_after, zero=True)),
            ("budget", check_share("retry_budget", budget, "budget")),
            ("budget_min", check_integer("retry_budget_min", budget_min, "budget_min")),
            ("per_try_timeout", None if per_try_timeout is None else seconds("per_try_timeout", per_try_timeout)),
        ):
            object.__setattr__(self, name, value)
        _check(check_retries, {k: v for k, v in self.config().items() if k != "try_timeout_ms"}, "retry_")

    def config(self) -> dict[str, object]:
        """The members of the core's configuration."""
        return {
            "retry_statuses": list(self.statuses) or None,
            "retry_methods": list(self.methods) or None,
            "retry_idempotency_key": self.idempotency_key,
            "retry_max_body": self.max_body,
            "retry_base_delay_ms": milliseconds(self.base_delay),
            "retry_max_delay_ms": milliseconds(self.max_delay),
            "retry_max_after_ms": milliseconds(self.max_retry_after),
            "retry_budget": self.budget,
            "retry_budget_min": self.budget_min,
            "try_timeout_ms": milliseconds(self.per_try_timeout),
        }


class Breaker(FrozenOptions):
    """What opens a circuit breaker. How many failures in a row is ``max_failures``, how long ``recovery_timeout_ms``.

    Args:
        statuses: responses that count as failures, besides connections that fail, break off or take too long.
        ratio: open by this share of failures within ``window`` instead of ``max_failures`` in a row; above 0, at most
            1.
        window: seconds.
        min_samples: with ``ratio``: attempts within the window below which nothing is judged.
        probes: requests that may try a half-open breaker at a time.
        max_ejected: the part of a balancer's upstreams that open breakers may keep out of use, 0 to 1; one always.
            Those that opened last are used all the same.
        max_open_time: seconds. An opening that follows another one without a success between them takes that much
            longer, up to this; ``None``: always the same.

    Raises:
        ConfigurationError: a value of the wrong type or out of range.
    """

    __slots__ = ("max_ejected", "max_open_time", "min_samples", "probes", "ratio", "statuses", "window")

    statuses: tuple[int, ...]
    ratio: float | None
    window: float
    min_samples: int
    probes: int
    max_ejected: float
    max_open_time: float | None

    def __init__(
        self,
        *,
        statuses: Iterable[int] = (502, 503, 504),
        ratio: float | None = None,
        window: float = 10.0,
        min_samples: int = 20,
        probes: int = 1,
        max_ejected: float = 1.0,
        max_open_time: float | None = None,
    ) -> None:
        if ratio is not None and check_share("breaker_ratio", ratio, "ratio") == 0:
            raise ConfigurationError("ratio must be above 0; None counts failures in a row", field="ratio")
        for name, value in (
            ("statuses", _tuple("statuses", statuses)),
            ("ratio", ratio),
            ("window", seconds("window", window, low=0.01)),
            ("min_samples", check_integer("breaker_min_samples", min_samples, "min_samples")),
            ("probes", check_integer("breaker_probes", probes, "probes")),
            ("max_ejected", check_share("breaker_max_ejected", max_ejected, "max_ejected")),
            ("max_open_time", None if max_open_time is None else seconds("max_open_time", max_open_time)),
        ):
            object.__setattr__(self, name, value)
        _check(check_retries, self.config(), "breaker_")

    def config(self) -> dict[str, object]:
        """The members of the core's configuration."""
        return {
            "breaker_statuses": list(self.statuses),
            "breaker_ratio": self.ratio or 0,
            "breaker_window_ms": milliseconds(self.window),
            "breaker_min_samples": self.min_samples,
            "breaker_probes": self.probes,
            "breaker_max_open_ms": milliseconds(self.max_open_time),
            "breaker_max_ejected": self.max_ejected,
        }


class Health(FrozenOptions):
    """How upstreams are probed. What is asked is ``health_check_url``; without it nothing is.

    Args:
        interval: seconds from one probe of an upstream to the next.
        timeout: seconds for one probe; less than ``interval``.
        rise: successes in a row that make an unhealthy upstream healthy.
        fall: failures in a row that make a healthy one unhealthy.
        jitter: the part of ``interval`` by which a probe may come earlier or later, 0 to 0.5.
        expected: statuses that are successes: numbers, or pairs ``(from, to)`` with both ends included.
        host: the ``Host`` of probes, if not the upstream's own.
        headers: more header fields of probes, in ASCII.

    Raises:
        ConfigurationError: a value of the wrong type or out of range.

    Defaults: HAProxy's thresholds.
    """

    __slots__ = ("expected", "fall", "headers", "host", "interval", "jitter", "rise", "timeout")

    interval: float
    timeout: float
    rise: int
    fall: int
    jitter: float
    expected: tuple[StatusInput, ...]
    host: str | None
    headers: tuple[tuple[str, str], ...]

    def __init__(
        self,
        *,
        interval: float = 10.0,
        timeout: float = 2.0,
        rise: int = 2,
        fall: int = 3,
        jitter: float = 0.1,
        expected: Iterable[StatusInput] = ((200, 399),),
        host: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        pairs: Any = cast("Mapping[str, str]", headers).items() if isinstance(headers, Mapping) else headers
        for name, value in (
            ("interval", seconds("interval", interval)),
            ("timeout", seconds("timeout", timeout)),
            ("rise", check_integer("health_rise", rise, "rise")),
            ("fall", check_integer("health_fall", fall, "fall")),
            ("jitter", check_share("health_jitter", jitter, "jitter")),
            ("expected", _tuple("expected", expected)),
            ("host", host),
            ("headers", _tuple("headers", pairs)),
        ):
            object.__setattr__(self, name, value)
        if not self.expected:
            raise ConfigurationError("expected must hold at least one status, it is empty", field="expected")
        _check(check_health, self.config(), "health_")

    def config(self) -> dict[str, object]:
        """The members of the core's configuration."""
        spans = [list(span) if isinstance(span, tuple) else [span, span] for span in self.expected]
        return {
            "health_interval_ms": milliseconds(self.interval),
            "health_timeout_ms": milliseconds(self.timeout),
            "health_rise": self.rise,
            "health_fall": self.fall,
            "health_jitter": self.jitter,
            "health_expected": None if spans == [[200, 399]] else spans,
            "health_host": "" if self.host is None else self.host,
            "health_headers": list(self.headers) or None,
        }


def _check(rule: Any, config: dict[str, Any], prefix: str) -> None:
    """Ask a rule of the core's configuration, and say it in the words of the option class."""
    try:
        rule({name: value for name, value in config.items() if value is not None})
    except ConfigurationError as error:
        field = (error.field or "").removeprefix(prefix).removesuffix("_ms")
        text = str(error).replace(prefix, "").replace("_ms", "")
        raise ConfigurationError(text, field=field) from None


def _tuple(field: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{field} must be a list, not {show(value)}", field=field)
    return tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
