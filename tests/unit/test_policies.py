"""Retry, Breaker and Health: what they take, what they refuse, and that they are values."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

from velithon_proxy import Breaker, ConfigurationError, Health, ProxyClient, ProxyLoadBalancer, Retry


@pytest.mark.parametrize(
    ("option", "arguments", "field"),
    [
        *((Retry, {"statuses": wrong}, "statuses") for wrong in (503, "503", [200], [600], [True], [503.0], None)),
        *((Retry, {"methods": wrong}, "methods") for wrong in ("PUT", ["POST"], ["put"], [1], None)),
        *((Retry, {"idempotency_key": wrong}, "idempotency_key") for wrong in (1, "yes", None)),
        *((Retry, {"max_body": wrong}, "max_body") for wrong in (-1, True, 1.5, "1", 2**53, None)),
        *((Retry, {"base_delay": wrong}, "base_delay") for wrong in (-0.1, True, "1", math.nan, 61, None)),
        *((Retry, {"max_delay": wrong}, "max_delay") for wrong in (-0.1, 0.02, math.inf, None)),
        *((Retry, {"max_retry_after": wrong}, "max_retry_after") for wrong in (-1, 86_401, None)),
        *((Retry, {"budget": wrong}, "budget") for wrong in (-0.1, 1.1, 20, True, "0.2", math.nan, None)),
        *((Retry, {"budget_min": wrong}, "budget_min") for wrong in (-1, 1.5, None)),
        *((Retry, {"per_try_timeout": wrong}, "per_try_timeout") for wrong in (0, -1, math.inf, "1")),
        *((Breaker, {"statuses": wrong}, "statuses") for wrong in (503, [99], ["503"], None)),
        *((Breaker, {"ratio": wrong}, "ratio") for wrong in (0, -0.5, 1.5, True, math.nan, "0.5")),
        *((Breaker, {"window": wrong}, "window") for wrong in (0, -1, 0.001, None)),
        *((Breaker, {"min_samples": wrong}, "min_samples") for wrong in (0, 1.5, None)),
        *((Breaker, {"probes": wrong}, "probes") for wrong in (0, 1001, None)),
        *((Breaker, {"max_open_time": wrong}, "max_open_time") for wrong in (0, -1, 86_401)),
        *((Health, {"interval": wrong}, "interval") for wrong in (0, -1, math.nan, None)),
        *((Health, {"timeout": wrong}, "timeout") for wrong in (0, 10, 11, None)),
        *((Health, {"rise": wrong}, "rise") for wrong in (0, 1.5, None)),
        *((Health, {"fall": wrong}, "fall") for wrong in (0, 1001)),
        *((Health, {"jitter": wrong}, "jitter") for wrong in (-0.1, 0.51, True)),
        *(
            (Health, {"expected": wrong}, "expected")
            for wrong in ((), 200, "200", [(300, 200)], [(99, 200)], [(1, 2, 3)])
        ),
        *((Health, {"host": wrong}, "host") for wrong in ("a b", "a/", "u@a", 5, 0, False, [], {}, (), b"")),
        *(
            (Health, {"headers": wrong}, "headers")
            for wrong in ({"a b": "c"}, {"a": "b\r\nc"}, {"Host": "a"}, [("a", 1)], 5)
        ),
    ],
)
def test_what_cannot_be_used_is_named(option: Any, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        option(**arguments)
    assert raised.value.field == field
    assert str(raised.value).startswith(field)
    assert "_ms" not in str(raised.value)


def test_the_widest_ranges_are_taken() -> None:
    Retry(statuses=range(400, 600), methods={"PUT", "DELETE"}, base_delay=0, max_delay=60, budget=1, max_body=0)
    Breaker(statuses=(), ratio=1, window=86_400, max_open_time=0.001)
    Health(expected=[200, (300, 399), 404], headers={"X-A": "a, b\t~"}, host="[::1]:80", jitter=0.5, timeout=9.999)


@pytest.mark.parametrize(
    "option", [Retry(statuses=[503]), Breaker(ratio=0.5), Health(expected=[200], headers={"a": "b"})], ids=repr
)
def test_they_are_values(option: Any) -> None:
    for same in (copy.copy(option), copy.deepcopy(option), pickle.loads(pickle.dumps(option)), eval(repr(option))):
        assert same == option
        assert hash(same) == hash(option)
    assert option != type(option)()
    with pytest.raises(AttributeError, match="frozen"):
        option.statuses = ()


def test_an_attempt_has_less_time_than_the_call() -> None:
    with pytest.raises(ConfigurationError, match="at most the timeout of the whole call, 1000, not 2000"):
        ProxyClient("http://a", 1000, retry=Retry(per_try_timeout=2))
    ProxyLoadBalancer(["http://a"], timeout_ms=1000, retry=Retry(per_try_timeout=1))


def test_health_crosses_as_ranges() -> None:
    config = Health(expected=[204, (300, 399)], headers={"X-Probe": "1"}).config()
    assert config["health_expected"] == [[204, 204], [300, 399]]
    assert config["health_headers"] == [("X-Probe", "1")]


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [(0, "0"), (False, "the bool False"), ([], "a value of type list"), (b"a", "a value of type bytes")],
)
def test_a_host_of_another_type_is_named_with_its_kind(wrong: Any, shown: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Health(host=wrong)
    assert str(raised.value) == f"host must be a host, with a port or without, not {shown}"
