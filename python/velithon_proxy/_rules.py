"""Rules of a pool's configuration that look at more than one number, as core/config_check.go has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, cast

from ._errors import ConfigurationError
from ._grammar import TOKEN, is_target, is_token, is_value
from ._show import show

_MAX_WEIGHT: Final = 1_000_000
_MAX_WEIGHTS: Final = (2**32 - 1) // 100
_WEIGHING: Final = ("weighted", "least_request", "consistent_hash")
_HASH_ON: Final = re.compile(rf"key|(?:header|cookie):{TOKEN}")
_DEFAULTS: Final = {  # of core/config.go, for rules that compare two numbers
    "retry_base_delay_ms": 25,
    "retry_max_delay_ms": 250,
    "health_interval_ms": 10_000,
    "health_timeout_ms": 2_000,
    "timeout_ms": 30_000,
}

Config = dict[str, Any]


def _items(config: Config, field: str, allowed: str) -> list[Any]:
    value = config[field]
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
        raise ConfigurationError(f"{field} must be {allowed}, not {show(value)}", field=field)
    return list(cast("Sequence[Any]", value))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _not_with(field: str, with_what: str, strategy: str) -> ConfigurationError:
    return ConfigurationError(f"{field} is for {with_what}, the strategy is {strategy}", field=field)


def check_balance(config: Config) -> None:
    """weights, hash_on and slow_start_ms go with some strategies only."""
    strategy = config.get("strategy", "round_robin")
    if "weights" in config:
        _check_weights(config, strategy)
    hash_on = config.get("hash_on")
    if hash_on is not None and hash_on != "":
        if not isinstance(hash_on, str) or _HASH_ON.fullmatch(hash_on) is None:
            raise ConfigurationError(
                f'hash_on must be "key", "header:NAME" or "cookie:NAME", not {show(hash_on)}', field="hash_on"
            )
        if strategy != "consistent_hash":
            raise _not_with("hash_on", "the strategy consistent_hash", strategy)
    if config.get("slow_start_ms") and strategy in ("first", "single"):
        raise _not_with("slow_start_ms", "strategies that share requests out", strategy)


def _check_weights(config: Config, strategy: str) -> None:
    allowed = f"a list of whole numbers from 0 to {_MAX_WEIGHT}, one for each target"
    weights = config["weights"] = _items(config, "weights", allowed)
    if not weights:
        return
    targets = len(config["targets"])
    if len(weights) != targets:
        raise ConfigurationError(
            f"weights must be {allowed}, not {len(weights)} of them for {targets} targets", field="weights"
        )
    for weight in weights:
        if not _is_int(weight) or not 0 <= weight <= _MAX_WEIGHT:
            raise ConfigurationError(f"weights must be {allowed}, not {show(weight)}", field="weights")
    if not 0 < sum(weights) <= _MAX_WEIGHTS:
        raise ConfigurationError(
            f"weights must be {allowed}, not a list with the sum {sum(weights)}; 1 to {_MAX_WEIGHTS} is possible",
            field="weights",
        )
    if strategy not in _WEIGHING:
        raise _not_with("weights", f"the strategies {', '.join(_WEIGHING)}", strategy)


def check_retries(config: Config) -> None:
    """Statuses and methods; a limit that must not exceed another one."""
    for field in ("retry_statuses", "breaker_statuses"):
        if field in config:
            allowed = "a list of statuses from 400 to 599"
            config[field] = _items(config, field, allowed)
            for status in config[field]:
                if not _is_int(status) or not 400 <= status <= 599:
                    raise ConfigurationError(f"{field} must be {allowed}, not {show(status)}", field=field)
    if "retry_methods" in config:
        allowed = 'a list of "PUT" and "DELETE"'
        config["retry_methods"] = _items(config, "retry_methods", allowed)
        for method in config["retry_methods"]:
            if method not in ("PUT", "DELETE"):
                raise ConfigurationError(
                    f"retry_methods must be {allowed}, not {show(method)}; a request with an Idempotency-Key may be "
                    "retried by retry_idempotency_key",
                    field="retry_methods",
                )
    if not isinstance(config.get("retry_idempotency_key", False), bool):
        raise ConfigurationError(
            f"retry_idempotency_key must be true or false, not {show(config['retry_idempotency_key'])}",
            field="retry_idempotency_key",
        )
    base, most = _number(config, "retry_base_delay_ms"), _number(config, "retry_max_delay_ms")
    if most < base:
        raise ConfigurationError(
            f"retry_max_delay_ms must be at least retry_base_delay_ms, {base} ms, not {most} ms",
            field="retry_max_delay_ms",
        )
    limit = config.get("total_timeout_ms") or _number(config, "timeout_ms")
    if config.get("try_timeout_ms", 0) > limit:
        raise ConfigurationError(
            f"try_timeout_ms must be at most the timeout of the whole call, {limit}, not {config['try_timeout_ms']}",
            field="try_timeout_ms",
        )


def _number(config: Config, field: str) -> int:
    return config.get(field, _DEFAULTS[field])


def check_health(config: Config) -> None:
    """What probes ask, and what they expect."""
    interval, timeout = _number(config, "health_interval_ms"), _number(config, "health_timeout_ms")
    if timeout >= interval:
        raise ConfigurationError(
            f"health_timeout_ms must be less than health_interval_ms, {interval} ms, not {timeout} ms",
            field="health_timeout_ms",
        )
    if "health_expected" in config:
        allowed = "a list of ranges of statuses, [from, to] within 100 to 599"
        config["health_expected"] = _items(config, "health_expected", allowed)
        for span in config["health_expected"]:
            if not _is_span(span):
                raise ConfigurationError(
                    f"health_expected must be {allowed}, not {span!r:.80}", field="health_expected"
                )
    host = config.get("health_host")
    if host is not None and host != "" and (not isinstance(host, str) or not _is_authority(host)):
        raise ConfigurationError(
            f"health_host must be a host, with a port or without, not {show(host)}", field="health_host"
        )
    _check_headers(config)
    _check_url(config.get("health_url"))


def _is_span(span: Any) -> bool:
    if isinstance(span, str) or not isinstance(span, Sequence) or len(cast("Sequence[Any]", span)) != 2:
        return False
    low, high = cast("Sequence[Any]", span)
    return _is_int(low) and _is_int(high) and 100 <= low <= high <= 599


def _check_headers(config: Config) -> None:
    if "health_headers" not in config:
        return
    allowed = "a list of [name, value]"
    headers: list[list[str]] = []
    for pair in _items(config, "health_headers", allowed):
        if not _is_header(pair):
            raise ConfigurationError(f"health_headers must be {allowed}, not {pair!r:.80}", field="health_headers")
        headers.append(list(pair))
    config["health_headers"] = headers
    for pair in headers:
        name, value = pair
        if is_token(name) is None:
            raise ConfigurationError(
                f"health_headers: {show(name)} is not the name of a header", field="health_headers"
            )
        if is_value(value) is None or not value.isascii():
            raise ConfigurationError(
                f"health_headers: the value of {name} has a character that is not ASCII, or a control character",
                field="health_headers",
            )
        if name.lower() in ("host", "content-length", "transfer-encoding", "connection"):
            raise ConfigurationError(f"health_headers: {name} is not one that a probe may set", field="health_headers")


def _is_header(pair: Any) -> bool:
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(cast("Sequence[Any]", pair)) != 2:
        return False
    return all(isinstance(part, str) for part in cast("Sequence[Any]", pair))


def _check_url(url: object) -> None:
    if url is None or url == "":
        return
    allowed = "a path that starts with / or an http or https URL"
    if isinstance(url, str):
        if is_target(url) is not None:
            return
        scheme, separator, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        if (
            separator
            and scheme.lower() in ("http", "https")
            and _is_authority(authority)
            and (is_target(slash + path) is not None or not slash)
        ):
            return
    raise ConfigurationError(f"health_url must be {allowed}, not {show(url)}", field="health_url")


def _is_authority(text: str) -> bool:
    from ._targets import parse_target

    try:
        parse_target(f"http://{text}", argument="health_host", scheme_required=True)
    except ValueError:
        return False
    return not text.endswith("/")
