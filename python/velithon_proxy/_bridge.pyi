"""The C extension: queues between event loops and the core. Everything is called by threads that hold the GIL."""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, final

ABI_VERSION: Final[int]
"""VP_ABI_VERSION of capi/abi.h this module was built with."""

def load(path: str, max_procs: int, gc_percent: int, memory_limit: int, /) -> None:
    """Load the core library and start it, once per process; later calls do nothing.

    ``max_procs`` 0 means one less than there are CPUs, 1 or 2; ``gc_percent`` 0 the core's default, ``memory_limit``
    (bytes) 0 none.
    Raises ``ImportError`` if the library cannot be used, ``ForkedProcessError`` after a fork.
    """

def pool_new(config: bytes, /) -> int:
    """Open a pool from its JSON configuration; its handle, never 0. ``ConfigurationError`` if the core refuses it."""

def pool_close(handle: int, /) -> None:
    """Close a pool; its requests end with ``ClientClosedError``. Unknown handles are ignored."""

def pool_snapshot(handle: int, /) -> bytes:
    """State of a pool as JSON. ``ClientClosedError`` if it is closed."""

def stats() -> dict[str, int]:
    """Counters of the core and of the bridge, for the whole process."""

def reap() -> int:
    """Take back requests of event loops that are gone; how many of them are still in flight."""

def unpack_fields(packed: bytes, /) -> list[tuple[str, str]]:
    """Header lines as Latin-1 text, in order. ``ValueError`` if ``packed`` is cut short."""

def unpack_fields_raw(packed: bytes, /) -> list[tuple[bytes, bytes]]:
    """Header lines as bytes, in order. ``ValueError`` if ``packed`` is cut short."""

def unpack_fields_lower(packed: bytes, /) -> list[tuple[bytes, bytes]]:
    """Header lines as bytes, names in lower case, in order. ``ValueError`` if ``packed`` is cut short."""

@final
class Channel:
    """The border for one event loop. Not thread-safe: used by the thread of that loop only."""

    def __new__(cls) -> Channel: ...
    def submit(
        self,
        future: Future[tuple[Any, ...]],
        pool: int,
        method: str,
        path: str,
        headers: object,
        body: object,
        timeout_ns: int,
        flags: int,
        key: bytes | None,
        /,
    ) -> int:
        """Start a request and return the token for ``cancel``; its reply becomes the result of ``future``.

        The reply is ``(0, status, packed fields, body, elapsed_ns, upstream, attempts)``, or ``(code, phase, flags,
        message, elapsed_ns, upstream, attempts, retry_after_ns)`` with a code of ``_errors.Code``; ``upstream`` is a
        number, -1 for none, and ``attempts`` JSON, or ``None`` if there is nothing to tell.
        With ``FLAG_STREAM`` the body is ``None`` unless all of it has
        arrived; ``read`` gives it then. ``headers`` are packed ``bytes``, a ``dict``, a list or tuple
        of pairs, or ``None``; ``body`` is bytes-like, ``str`` or ``None``.
        """

    def read(self, future: Future[Any], token: int, size: int, /) -> None:
        """Ask for the next at most ``size`` bytes of a streamed body.

        ``bytes`` become the result of ``future``, as soon as there are any; with the end of the body
        ``(0, bytes, elapsed_ns)``, or the members of a failure. One read at a time.
        """

    def send(self, future: Future[tuple[Any, ...]], token: int, piece: object, last: bool, /) -> int:
        """Send a piece of the body of a request that was submitted with ``FLAG_UPLOAD``.

        ``future`` is resolved once the piece is on its way (``result[0] == 0``), or when the request is over.
        """

    def control(self, future: Future[tuple[Any, ...]], pool: int, operation: str, argument: bytes | None, /) -> int:
        """Start an operation on a pool (core/control.go) and return the token for ``cancel``.

        The reply is one as for ``submit``, with the result as JSON for its body.
        """

    def cancel(self, token: int, /) -> None:
        """Cancel a request; one that is over is ignored."""

    def measure(self, future: Future[tuple[Any, ...]], kind: int, argument: int, timeout_ns: int, /) -> int:
        """Test the border itself: kind 4 does nothing, 5 panics, 6 keeps ``argument`` goroutines busy."""

    def drain(self) -> None:
        """Resolve the futures of completed requests; to be called when ``fileno`` is readable."""

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is something to drain; -1 once closed."""

    def close(self) -> int:
        """Cancel what is in flight and give the channel up; how many requests the core still holds. Idempotent."""

@final
class FastPath:
    """Requests of one gateway on one event loop about which nothing must be decided.

    Made and used by the thread of that loop, while it runs. Arguments: what such requests look like, and what is to be
    done with the others.
    """

    def __new__(
        cls,
        *,
        loop: AbstractEventLoop,
        client: object,
        bound: object,
        channel: Channel,
        pool: int,
        flags: int,
        prefix: str,
        strip: bool,
        above: str,
        endpoint: str | None,
        special: frozenset[str],
        harmless: frozenset[tuple[str, str]],
        decided: frozenset[str],
        own_lines: Callable[[str, str, str], bytes | None],
        tail: tuple[tuple[str, str], ...],
        copy_context: Callable[[], Context],
        resume: Callable[[Future[int], Any, Any, Context, Any, int], None],
        tick: Callable[[], None],
    ) -> FastPath:
        """Keep the description.

        Args:
            loop, channel: of this thread.
            client, bound: nothing is taken when ``client._bound`` is something else than ``bound``.
            pool, flags: as for :meth:`Channel.submit`.
            prefix, strip, above: which paths, percent-decoded, and what is cut off and put in front of them.
            endpoint: a path that is not forwarded.
            special: names of fields that mean something; a request with one is left, but for ``host``, ...
            harmless: ... and for these lines.
            decided: methods whose requests are left.
            own_lines: asked once for each ``(client, scheme, host)``: packed lines to add; ``None`` leaves the request.
            tail: lines to add to responses.
            copy_context: ``contextvars.copy_context``.
            resume: called with ``(future, scope, protocol, context, reply, token)`` when the reply is anything but a
                small whole response in ASCII: the future is then Python's to resolve. ``reply`` is an exception if the
                server did not take a response.
            tick: called when there is a first request to watch over: :meth:`slow` is to be called after a while.
        """

    def take(self, scope: object, protocol: object, /) -> Future[int] | None:
        """Forward a request of RSGI and respond to it; a future of the status, or ``None``: then nothing was done."""

    def slow(self, age_ns: int, /) -> tuple[list[tuple[Future[int], Any, int]], bool]:
        """``(future, protocol, token)`` of requests that have waited for so long, each of them told once.

        And whether there are younger ones; if not, ``tick`` will be called again.
        """
