"""The names that Velithon's own proxy middleware has for some arguments."""

from __future__ import annotations

from typing import Any, Final

from .._policies import Health

_SAME: Final = {
    "targets": "target_urls",
    "load_balancing_strategy": "strategy",
    "health_check_path": "health_check_url",
    "strip_request_headers": "remove_request_headers",
    "strip_response_headers": "remove_response_headers",
}


def translated(arguments: dict[str, Any]) -> dict[str, Any]:
    """Replace Velithon's names by ours.

    Raises:
        TypeError: an argument is given under both names.
    """
    result = dict(arguments)
    for theirs, ours in _SAME.items():
        if theirs in result:
            if ours in result:
                raise TypeError(f"{theirs} and {ours} are the same argument")
            result[ours] = result.pop(theirs)
    enabled = result.pop("enable_health_checks", None)
    interval = result.pop("health_check_interval", None)
    if enabled is False:
        result.pop("health_check_url", None)
    elif enabled and "health_check_url" not in result:
        result["health_check_url"] = "/health"  # Velithon's default
    if interval is not None and result.get("health_check_url"):
        if "health" in result:
            raise TypeError("health_check_interval and health are given: health has an interval")
        result["health"] = Health(interval=interval, timeout=min(2.0, interval / 2))
    return result
