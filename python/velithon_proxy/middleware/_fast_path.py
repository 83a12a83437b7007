"""The way of most requests on RSGI: those about which a gateway has nothing to decide.

They have a method, a path and header lines of which none asks for a decision, and no body; their response is small and
comes whole. From the server's objects to its response they cost one call into the bridge (``_bridge.FastPath``) and no
coroutine. Whatever is different goes the ordinary way from the start; a response that is different comes back here.
"""

# The pool and the gateway were made for this caller as well.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final

from .._balancer import ProxyLoadBalancer
from .._stream import StreamResponse
from ._answers import CLIENT_GONE, ClientGoneError, logger, respond
from ._clients import WATCH_AFTER, has_left
from ._fields import HARMLESS_LINES, SPECIAL_NAMES, Peer, address_of
from ._gateway import REFUSED_METHODS, Gateway

Opened = StreamResponse | Exception
"""What has become of a request that was sent: the head of its response is there, or it has failed."""


class FastPath:
    """Forwards what can be forwarded at once.

    Args:
        gateway: whose requests.
        finish: goes on with a request that was sent, from ``(scope, protocol, outcome)`` to its status.

    Attributes:
        take: forwards a request of RSGI, from ``(scope, protocol)`` to a future of its status; or returns ``None``, and
            the request must go the ordinary way. So does the first one on each event loop, which connects.
    """

    def __init__(self, gateway: Gateway, finish: Callable[[Any, Any, Opened], Coroutine[Any, Any, int]]) -> None:
        self._gateway = gateway
        self._finish = finish
        self._bound: object = None
        self._flights: _Flights | None = None
        self.take: Callable[[Any, Any], asyncio.Future[int] | None] = _leave

    def renew(self) -> None:
        """Take requests on the running event loop, if that is the one that the gateway is bound to now."""
        client = self._gateway.client
        bound = client._bound
        if bound is not self._bound and bound[0] is asyncio.get_running_loop():  # another thread may have another one
            self._bound = bound
            self._flights = _Flights(self._gateway, client, bound, self._finish)
            self.take = self._flights.take


def _leave(_scope: object, _protocol: object) -> None:
    """Take nothing."""


def _native(gateway: Gateway, client: ProxyLoadBalancer, bound: tuple[Any, Any], **calls: Callable[..., None]) -> Any:
    """Tell the bridge what requests look like about which ``admit`` and ``open`` decide nothing.

    Returns a ``_bridge.FastPath``; None if the gateway was told to look at each, or to change what it answers.

    Args:
        client, bound: the upstreams, and what binds them to the running event loop.
        calls: ``resume`` and ``tick``.
    """
    rules = gateway._rules
    looks = gateway._transform_request or gateway._transform_response or gateway._rewrites or gateway._hash_client
    if looks or rules.changes_requests or rules.changes_responses:
        return None

    def own_lines(client: str, scheme: str, host: str) -> bytes | None:
        return rules.own_packed(Peer(address_of(client), scheme, host))

    return client._fast_path(
        bound,
        gateway._flags,
        prefix=gateway._prefix,
        strip=gateway._strip_prefix,
        above=gateway._above,
        endpoint=gateway._status_path,
        special=SPECIAL_NAMES,
        harmless=HARMLESS_LINES,
        decided=REFUSED_METHODS,
        own_lines=own_lines,
        tail=rules.tail,
        **calls,
    )


class _Flights:
    """The requests under way of one client on one event loop."""

    def __init__(
        self,
        gateway: Gateway,
        client: ProxyLoadBalancer,
        bound: tuple[Any, Any],
        finish: Callable[[Any, Any, Opened], Coroutine[Any, Any, int]],
    ) -> None:
        self._gateway, self._client, self._finish = gateway, client, finish
        self._loop: asyncio.AbstractEventLoop = bound[0]
        self._channel = bound[1]
        self._watched: dict[asyncio.Future[int], asyncio.Task[None]] = {}
        self._left: set[int] = set()
        self._tasks: set[asyncio.Task[int]] = set()
        self._native: Final = _native(gateway, client, bound, resume=self._resume, tick=self._tick)
        self.take: Final = _leave if self._native is None else self._native.take

    def _tick(self) -> None:
        self._loop.call_later(WATCH_AFTER, self._look)

    def _look(self) -> None:
        """Watch over requests that have become slow; most never are."""
        slow, more = self._native.slow(int(WATCH_AFTER * 1e9))
        if more:
            self._tick()
        for future, protocol, token in slow:
            if future.done():  # whoever waited for it was cancelled
                self._channel.cancel(token)
                continue
            self._watched[future] = self._loop.create_task(self._watch(protocol, token))
            future.add_done_callback(functools.partial(self._unwatch, token))

    async def _watch(self, protocol: Any, token: int) -> None:
        if await has_left(lambda: protocol.client_disconnect()):  # a wrapper may have no such method
            self._left.add(token)
            self._channel.cancel(token)

    def _unwatch(self, token: int, future: asyncio.Future[int]) -> None:
        watch = self._watched.pop(future, None)
        if watch is not None:
            # A waiter that stays behind would take the news of a later request of its connection.
            watch.cancel()
        self._left.discard(token)
        if future.cancelled():
            self._channel.cancel(token)

    def _resume(
        self, future: asyncio.Future[int], scope: Any, protocol: Any, context: Context, reply: Any, token: int
    ) -> None:
        """Go on with a request whose response is no small one, or none; the future becomes its status."""
        left = token in self._left
        self._unwatch(token, future)
        if isinstance(reply, BaseException) and not isinstance(reply, Exception):  # of a server, or of a signal
            future.set_exception(reply)
            return
        if isinstance(reply, Exception):
            # Somebody answered before, or the connection is gone; raising would run a handler twice.
            context.run(logger.warning, "the server did not take a response", exc_info=reply)
            future.set_result(CLIENT_GONE)
            return
        outcome: Opened
        try:
            outcome = self._client._response_to(scope.method, reply, self._channel, token)
        except BaseException as error:  # that of a request that was cancelled is no Exception
            outcome = ClientGoneError("the client left before the upstream had answered")
            if isinstance(error, Exception) and not left:
                outcome = error
        if isinstance(outcome, Exception) and self._gateway.on_error is None:  # nothing to wait for: an outage is cheap
            answer = context.run(self._gateway.note, outcome, method=scope.method, path=scope.path)
            respond(protocol, answer)
            future.set_result(CLIENT_GONE if answer is None else answer.status)
            return
        task = self._loop.create_task(self._finish(scope, protocol, outcome), context=context)
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._end, future))
        future.add_done_callback(functools.partial(_cancel_with, task))

    def _end(self, future: asyncio.Future[int], task: asyncio.Task[int]) -> None:
        self._tasks.discard(task)
        if future.done():
            return
        if task.cancelled():
            future.cancel()
        elif (error := task.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())


def _cancel_with(task: asyncio.Task[int], future: asyncio.Future[int]) -> None:
    if future.cancelled():
        task.cancel()
