"""The configuration of a pool, checked, as it crosses to the core.

The core (core/config.go, core/config_check.go) applies the same rules and alone knows the defaults. They are written
here once more because a wrong argument must raise before Go is loaded: applications are built in a parent process that
forks its workers later. tests/contract feeds both sides the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, cast

from ._errors import ConfigurationError
from ._rules import check_balance, check_health, check_retries
from ._show import show
from ._targets import check_backups, check_targets

STRATEGIES: Final = ("round_robin", "random", "weighted", "single", "least_request", "consistent_hash", "first")

_MAX_MILLISECONDS: Final = 86_400_000  # a day
_MAX_BODY: Final = 2**53 - 1
_TIME: Final = "a whole number of milliseconds"
_BYTES: Final = "a whole number of bytes"
_COUNT: Final = "a whole number"
_INTEGERS: Final = {
    "timeout_ms": (1, _MAX_MILLISECONDS, _TIME),
    "max_retries": (0, 10, _COUNT),
    "max_failures": (1, 2**31 - 1, _COUNT),
    "recovery_timeout_ms": (1, _MAX_MILLISECONDS, _TIME),
    "connect_timeout_ms": (1, _MAX_MILLISECONDS, _TIME),
    "pool_timeout_ms": (0, _MAX_MILLISECONDS, _TIME),
    "first_byte_timeout_ms": (0, _MAX_MILLISECONDS, _TIME),
    "idle_timeout_ms": (0, _MAX_MILLISECONDS, _TIME),
    "total_timeout_ms": (0, _MAX_MILLISECONDS, _TIME),
    "max_connections": (1, 100_000, _COUNT),
    "max_idle_connections": (0, 100_000, _COUNT),
    "keepalive_expiry_ms": (1, _MAX_MILLISECONDS, _TIME),
    "max_waiting": (0, 1_000_000, _COUNT),
    "max_response_head": (1 << 10, 16 << 20, _BYTES),
    "max_response_fields": (1, 100_000, _COUNT),
    "max_request_body": (0, _MAX_BODY, _BYTES),
    "max_response_body": (0, _MAX_BODY, _BYTES),
    "slow_start_ms": (0, _MAX_MILLISECONDS, _TIME),
    "wait_for_healthy_ms": (0, _MAX_MILLISECONDS, _TIME),
    "max_in_flight": (0, 1_000_000, _COUNT),
    "retry_max_body": (0, _MAX_BODY, _BYTES),
    "retry_base_delay_ms": (0, 60_000, _TIME),
    "retry_max_delay_ms": (0, 60_000, _TIME),
    "retry_max_after_ms": (0, _MAX_MILLISECONDS, _TIME),
    "retry_budget_min": (0, 1_000_000, _COUNT),
    "try_timeout_ms": (0, _MAX_MILLISECONDS, _TIME),
    "breaker_window_ms": (10, _MAX_MILLISECONDS, _TIME),
    "breaker_min_samples": (1, 1_000_000, _COUNT),
    "breaker_probes": (1, 1_000, _COUNT),
    "breaker_max_open_ms": (0, _MAX_MILLISECONDS, _TIME),
    "health_interval_ms": (1, _MAX_MILLISECONDS, _TIME),
    "health_timeout_ms": (1, _MAX_MILLISECONDS, _TIME),
    "health_rise": (1, 1_000, _COUNT),
    "health_fall": (1, 1_000, _COUNT),
}
_SHARES: Final = {
    "panic_threshold": 1.0,
    "retry_budget": 1.0,
    "breaker_ratio": 1.0,
    "breaker_max_ejected": 1.0,
    "health_jitter": 0.5,
}
_OTHERS: Final = frozenset(
    {
        *("tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_min_version", "tls_insecure"),
        *("weights", "backups", "hash_on", "retry_statuses", "retry_methods", "retry_idempotency_key"),
        *("breaker_statuses", "health_url", "health_expected", "health_host", "health_headers"),
    }
)


def pool_config(
    targets: str | Sequence[str],
    *,
    argument: str = "targets",
    scheme_required: bool = False,
    strategy: str | None = None,
    **options: object,
) -> bytes:
    """Check the options of a pool and write them as the JSON that the core reads.

    Args:
        targets: URLs of the upstreams; a ``str`` is a pool of one.
        argument: what the caller's own argument for ``targets`` is called, for messages.
        scheme_required: take only one URL that says which scheme it has, as a client of one upstream wants it;
            otherwise a target without a scheme means http.
        strategy: one of :data:`STRATEGIES`.
        options: by the names, in the ranges and units of core/config.go.

    ``None`` means the core's default and is left out.

    Raises:
        ConfigurationError: an option of the wrong type or out of range.
        InvalidTargetError: a target that is not a usable URL.
        TypeError: an unknown option.
    """
    config: dict[str, Any] = {}
    for field, value in options.items():
        if field not in _INTEGERS and field not in _SHARES and field not in _OTHERS:
            raise TypeError(f"pool_config() got an unexpected keyword argument {field!r}")
        if value is not None:
            config[field] = _check(field, value)
    if strategy is not None:
        _check_strategy(strategy)
        config["strategy"] = str.__str__(strategy)
    seen: dict[str, str] = {}
    config["targets"] = check_targets(targets, argument, scheme_required, seen)
    if "backups" in config:
        config["backups"] = check_backups(config["backups"], seen)
    _check_tls(config)
    check_balance(config)
    check_retries(config)
    check_health(config)
    return json.dumps(config).encode()


def _check(field: str, value: object) -> object:
    if field in _INTEGERS:
        return check_integer(field, value)
    if field in _SHARES:
        return check_share(field, value)
    return value


def _check_tls(config: dict[str, Any]) -> None:
    """TLS options need https; the files and names in them were checked by :class:`TLS`."""
    for field in ("tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_insecure"):
        if not config.get(field):
            continue
        for target in cast("list[str]", [*config["targets"], *config.get("backups", ())]):
            if not target.lower().startswith("https:"):
                raise ConfigurationError(f"{field} needs https targets, {show(target)} is none", field=field)


def check_integer(field: str, value: object, name: str | None = None) -> int:
    """Return the value of a field that holds a whole number; ``name`` is what the caller's own argument is called.

    Raises:
        ConfigurationError: not a whole number, or out of the field's range.
    """
    low, high, kind = _INTEGERS[field]
    # bool is an int to Python; a configuration that says True means something else than 1.
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return int(value)
    name = name or field
    raise ConfigurationError(f"{name} must be {kind} from {low} to {high}, not {show(value)}", field=name)


def check_limit(field: str, value: int | None) -> int | None:
    """Return the value of a field that holds a limit, where ``None`` means that there is none.

    The core has zero for that. A caller who writes it means something else: that nothing may pass.

    Raises:
        ConfigurationError: not a whole number, zero, or out of the field's range.
    """
    if value is not None and check_integer(field, value) == 0:
        raise ConfigurationError(f"{field} must be at least 1; None means no limit", field=field)
    return value


def check_share(field: str, value: object, name: str | None = None) -> float:
    """Return the value of a field that holds a part of a whole.

    Raises:
        ConfigurationError: not a number, or out of the field's range.
    """
    high = _SHARES[field]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= high:
        return float(value)
    name = name or field
    raise ConfigurationError(f"{name} must be a number from 0 to {high:g}, not {show(value)}", field=name)


def _check_strategy(value: object) -> None:
    if not isinstance(value, str) or value not in STRATEGIES:
        names = ", ".join(f'"{name}"' for name in STRATEGIES)
        raise ConfigurationError(f"strategy must be one of {names}, not {show(value)}", field="strategy")
