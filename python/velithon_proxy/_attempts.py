"""The attempts that a request took, and the states of a pool, as the core reports them."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from ._errors import PHASES, Attempt, attempt_outcome


def read_attempts(encoded: bytes | None) -> tuple[Attempt, ...]:
    """Read what crossed with a reply (core/control.go, attemptRecord)."""
    if not encoded:
        return ()
    return tuple(
        Attempt(
            target=record["target"],
            outcome=attempt_outcome(record["code"]),
            status=record["status"] or None,
            phase="body" if record["code"] == 0 else PHASES[record["phase"]],
            request_sent=record["sent"],
            elapsed=record["elapsed_ms"] / 1e3,
            message=record["error"],
            retried=record["retried"],
            reason=record["reason"],
        )
        for record in json.loads(encoded)
    )


class CircuitBreakerStatus(NamedTuple):
    """The state of one circuit breaker; unpacks as in the feature document."""

    state: str
    """``"closed"``, ``"open"`` or ``"half_open"``."""
    failures: int
    """In a row, or within the window of ``Breaker(ratio=...)``."""
    last_failure_ms: int | None
    """Milliseconds since the last failure; ``None`` if there was none."""


class TargetStatus(NamedTuple):
    """The state of one upstream."""

    target: str
    """As it was given."""
    usable: bool
    """Whether requests may go there now."""
    healthy: bool
    """What probes say; ``True`` while there are none."""
    breaker: CircuitBreakerStatus
    retry_after: float | None
    """Seconds until an open breaker lets a request through; ``None`` if it is not open."""
    probe: str
    """What the last probe found; empty before it."""
    weight: int
    backup: bool
    draining: bool
    in_flight: int
    """Attempts under way."""
    connections: int
    """Open ones, idle or not."""
    idle: int


class PoolStatus(NamedTuple):
    """The state of a client or balancer at one moment; counts are since its first use."""

    strategy: str
    targets: tuple[TargetStatus, ...]
    in_flight: int
    """Requests under way."""
    waiting: int
    """Those of them that wait for ``Limits.max_in_flight``, or for an upstream to become usable."""
    requests: int
    """Requests that are over."""
    failures: int
    """Those of them that ended with an error."""
    retries: int
    """Attempts after the first."""
    refused: int
    """Requests for which no upstream could be used."""
    connections: int
    idle: int


def read_target(record: dict[str, Any]) -> TargetStatus:
    return TargetStatus(
        target=record["target"],
        usable=record["usable"],
        healthy=record["healthy"],
        breaker=read_breaker(record),
        retry_after=record["retry_after_ms"] / 1e3 if record["breaker"] == "open" else None,
        probe=record["probe"],
        weight=record["weight"],
        backup=record["backup"],
        draining=record["draining"],
        in_flight=record["in_flight"],
        connections=record["connections"],
        idle=record["idle"],
    )


def read_breaker(record: dict[str, Any]) -> CircuitBreakerStatus:
    age = record["last_failure_ms"]
    return CircuitBreakerStatus(record["breaker"], record["breaker_failures"], None if age < 0 else round(age))


def read_pool(state: dict[str, Any]) -> PoolStatus:
    return PoolStatus(
        strategy=state["strategy"],
        targets=tuple(read_target(record) for record in state["targets"]),
        in_flight=state["in_flight"],
        waiting=state["waiting"],
        requests=state["calls"],
        failures=state["failures"],
        retries=state["retries"],
        refused=state["refused"],
        connections=state["connections"],
        idle=state["idle"],
    )


_UNUSED_TARGET: Final = {
    "usable": True, "healthy": True, "breaker": "closed", "breaker_failures": 0, "last_failure_ms": -1,
    "retry_after_ms": 0, "probe": "", "draining": False, "in_flight": 0, "connections": 0, "idle": 0,
}  # fmt: skip


def unused_state(config: dict[str, Any]) -> dict[str, Any]:
    """The state of a pool that was not used yet, from its configuration."""
    targets: list[str] = config["targets"]
    backups: list[str] = config.get("backups") or []
    weights = (config.get("weights") or [1] * len(targets)) + [1] * len(backups)
    return {
        "strategy": config.get("strategy", "round_robin"),
        "targets": [
            {**_UNUSED_TARGET, "number": i, "target": target, "weight": weights[i], "backup": i >= len(targets)}
            for i, target in enumerate([*targets, *backups])
        ],
        **dict.fromkeys(("in_flight", "waiting", "calls", "failures", "retries", "refused", "connections", "idle"), 0),
    }


class StateChange(NamedTuple):
    """A change of the state of an upstream, as ``on_state_change`` is told."""

    target: str
    """As it was given."""
    what: str
    """``"breaker"`` or ``"health"``."""
    before: str
    """``"closed"``, ``"open"``, ``"half_open"``; ``"healthy"``, ``"unhealthy"``."""
    after: str
    reason: str
    at: float
    """Seconds since 1970."""


def read_change(record: dict[str, Any]) -> StateChange:
    return StateChange(
        record["target"], record["what"], record["before"], record["after"], record["reason"], record["at"]
    )
