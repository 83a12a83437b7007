"""The option classes of a client: limits of time and of connections. TLS has a module of its own, ``_tls.py``.

They are frozen values: equal options are equal and hash alike, and one may serve any number of clients. What they are
given is checked when they are made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ._errors import ConfigurationError
from ._options import check_integer, check_limit
from ._show import show

_DAY: Final = 86_400


class FrozenOptions:
    """A value made of its slots, which are keyword arguments of its constructor."""

    __slots__ = ()

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; make another one")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._values() == self._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self.__slots__, self._values(), strict=True))
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> Any:
        return remake, (type(self), dict(zip(self.__slots__, self._values(), strict=True)))


def remake(cls: type[Any], values: Mapping[str, object]) -> Any:
    return cls(**values)


class Timeouts(FrozenOptions):
    """Limits of time, in seconds (``int`` or ``float``, above 0, at most a day).

    ``None`` means no such limit; for ``connect``, which is always there, it is refused.

    Args:
        connect: resolving the name, connecting and the TLS handshake together (``ConnectTimeout``).
        pool: waiting for a connection while all are busy (``PoolTimeout``).
        first_byte: from the end of the request to the first byte of the response (``ReadTimeout``).
        idle: nothing more of a body is received, or taken by the upstream (``ReadTimeout``).
        total: the whole call (``TotalTimeout``). It replaces ``timeout_ms``, and also bounds streams with their bodies.

    Raises:
        ConfigurationError: a value of the wrong type or out of range.
    """

    __slots__ = ("connect", "first_byte", "idle", "pool", "total")

    connect: float
    pool: float | None
    first_byte: float | None
    idle: float | None
    total: float | None

    def __init__(
        self,
        *,
        connect: float = 3.0,
        pool: float | None = None,
        first_byte: float | None = None,
        idle: float | None = 60.0,
        total: float | None = None,
    ) -> None:
        if connect is None:  # pyright: ignore[reportUnnecessaryComparison] -- callers without types
            raise ConfigurationError("connect must be a number of seconds, not None", field="connect")
        for name, value in (
            ("connect", connect), ("pool", pool), ("first_byte", first_byte), ("idle", idle), ("total", total),
        ):  # fmt: skip
            object.__setattr__(self, name, None if value is None else seconds(name, value))

    def config(self) -> dict[str, object]:
        """The members of the core's configuration."""
        return {
            "connect_timeout_ms": milliseconds(self.connect),
            "pool_timeout_ms": milliseconds(self.pool),
            "first_byte_timeout_ms": milliseconds(self.first_byte),
            "idle_timeout_ms": milliseconds(self.idle),
            "total_timeout_ms": milliseconds(self.total),
        }


class Limits(FrozenOptions):
    """Limits of the connections to one upstream, and of what a response head may hold.

    Args:
        max_connections: connections at a time, 1 to 100,000; more requests wait.
        max_idle_connections: idle connections that are kept, 0 to 100,000. What a burst leaves above it is closed after
            a few quiet seconds.
        keepalive_expiry: seconds that an idle connection is kept, at most a day. An upstream that announces less is
            believed.
        max_waiting: requests that wait for a connection, 0 to 1,000,000; more fail at once (``PoolExhaustedError``).
        max_in_flight: requests of the whole pool that are under way, 1 to 1,000,000; more wait in their order, at most
            ``max_waiting``, as long as ``Timeouts.pool`` allows. ``None``: no limit.
        max_response_head: bytes of a response head, 1,024 to 16,777,216.
        max_response_fields: header lines of a response, 1 to 100,000.

    Raises:
        ConfigurationError: a value of the wrong type or out of range.
    """

    __slots__ = (
        "keepalive_expiry", "max_connections", "max_idle_connections", "max_in_flight", "max_response_fields",
        "max_response_head", "max_waiting",
    )  # fmt: skip

    max_connections: int
    max_idle_connections: int
    keepalive_expiry: float
    max_waiting: int
    max_response_head: int
    max_response_fields: int
    max_in_flight: int | None

    def __init__(
        self,
        *,
        max_connections: int = 512,
        max_idle_connections: int = 50,
        keepalive_expiry: float = 60.0,
        max_waiting: int = 1024,
        max_response_head: int = 65_536,
        max_response_fields: int = 500,
        max_in_flight: int | None = None,
    ) -> None:
        object.__setattr__(self, "max_in_flight", check_limit("max_in_flight", max_in_flight))
        for name, value in (
            ("max_connections", max_connections),
            ("max_idle_connections", max_idle_connections),
            ("max_waiting", max_waiting),
            ("max_response_head", max_response_head),
            ("max_response_fields", max_response_fields),
        ):
            object.__setattr__(self, name, check_integer(name, value))
        if keepalive_expiry is None:  # pyright: ignore[reportUnnecessaryComparison] -- callers without types
            raise ConfigurationError("keepalive_expiry must be a number of seconds, not None", field="keepalive_expiry")
        object.__setattr__(self, "keepalive_expiry", seconds("keepalive_expiry", keepalive_expiry))

    def config(self) -> dict[str, object]:
        """The members of the core's configuration."""
        return {
            "max_connections": self.max_connections,
            "max_idle_connections": self.max_idle_connections,
            "keepalive_expiry_ms": milliseconds(self.keepalive_expiry),
            "max_waiting": self.max_waiting,
            "max_response_head": self.max_response_head,
            "max_response_fields": self.max_response_fields,
            "max_in_flight": self.max_in_flight or 0,
        }


def seconds(field: str, value: object, *, low: float = 0, zero: bool = False, high: float = _DAY) -> float:
    """Return a number of seconds above ``low``, or from zero on; at most ``high``.

    Raises:
        ConfigurationError: not such a number.
    """
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and (low < value <= high or (zero and value == 0))
    ):
        return value
    least = "from 0 on" if zero else f"above {low:g}"
    limit = f"{high}{' (a day)' if high == _DAY else ''}"
    raise ConfigurationError(
        f"{field} must be a number of seconds {least}, at most {limit}, not {show(value)}", field=field
    )


def milliseconds(number: float | None) -> int:
    """Whole milliseconds, rounded up so that a short limit does not become none; 0 for no limit."""
    return 0 if number is None else math.ceil(number * 1000)
