"""Responses whose body is read as it arrives."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from . import _bridge
from ._attempts import read_attempts
from ._errors import ProxyError, reply_error
from ._response import ResponseHead
from ._upload import Upload

if TYPE_CHECKING:
    from ._pool import Pool

_SMALLEST: Final = 16 * 1024
_MODEST: Final = 64 * 1024
_LARGEST: Final = 512 * 1024
"""Bytes of one read: it begins small and grows as long as the upstream fills it."""


_SLOW: Final = 0.02
"""Seconds in which a client that reads takes a piece."""


class StreamResponse(ResponseHead):
    """The head of a response, and its body as it arrives.

    Made by :meth:`ProxyClient.stream_request`. The body can be read once: by :meth:`aiter_bytes`, :meth:`aiter_raw` or
    :meth:`read`. A body that nobody reads is not collected: after two pieces the socket is left alone, and the
    upstream has to wait.

    Attributes:
        status: status code, 200 to 599.
        target: URL of the upstream that answered, as it was configured.
    """

    __slots__ = (
        "_ahead", "_channel", "_ended", "_failure", "_largest", "_loop", "_method", "_rest", "_size", "_taken",
        "_token", "_upload",
    )  # fmt: skip

    def __init__(
        self,
        reply: tuple[Any, ...],
        target: str,
        method: str,
        channel: _bridge.Channel,
        token: int,
        upload: Upload | None,
    ) -> None:
        _, self.status, self._packed_fields, whole, self._elapsed_ns, _, self._attempts = reply
        self.target = target
        self._method = method
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._token = token
        self._upload = upload
        self._headers = None
        self._size = _SMALLEST
        self._largest = _LARGEST
        self._taken = False
        self._failure: BaseException | None = None
        self._ahead: asyncio.Future[Any] | None = None
        # All of a small body may have come together with the head.
        self._rest: bytes | None = whole
        self._ended = whole is not None

    def _take_whole(self) -> bytes | None:
        """Take the body if all of it came with the head; ``None`` if it is still to be read."""
        if not self._ended or self._rest is None:
            return None
        self._taken = True
        whole, self._rest = self._rest, None
        return whole

    @property
    def is_closed(self) -> bool:
        """Whether the body was read to its end, broke off, or was given up."""
        return self._ended and not self._rest

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        """Yield the body in the pieces in which it arrives, each at once; a ``Content-Encoding`` is not undone.

        Raises:
            ProxyError: the body broke off; everything that arrived before was yielded.
            RuntimeError: the body was read before.
        """
        self._take()
        while piece := await self._receive():
            yield piece

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Yield the body, in pieces of exactly ``chunk_size`` bytes (the last may be shorter) if that is given.

        Without it the same as :meth:`aiter_raw`: pieces as they arrive.

        Raises:
            ProxyError: the body broke off; everything that arrived before was yielded.
            RuntimeError: the body was read before.
            ValueError: ``chunk_size`` is not a positive whole number.
        """
        if chunk_size is not None and (type(chunk_size) is not int or chunk_size < 1):
            raise ValueError(f"chunk_size must be a positive whole number of bytes or None, not {chunk_size!r}")
        self._take()
        if chunk_size is None:
            while piece := await self._receive():
                yield piece
            return
        kept = bytearray()
        while True:
            try:
                piece = await self._receive()
            except Exception:
                if kept:
                    yield bytes(kept)
                raise
            if not piece:
                break
            kept += piece
            while len(kept) >= chunk_size:
                yield bytes(kept[:chunk_size])
                del kept[:chunk_size]
        if kept:
            yield bytes(kept)

    async def read(self) -> bytes:
        """Read the whole body, or what is left of it.

        Raises:
            ProxyError: the body broke off.
            RuntimeError: the body was read before.
        """
        self._take()
        pieces: list[bytes] = []
        while piece := await self._receive():
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Give the rest of the body up: the connection to the upstream closes at once. Closing twice is fine."""
        self._give_up()
        upload, self._upload = self._upload, None
        if upload is not None:
            await upload.stop()

    def _pace(self, taken: int, waited: float) -> None:
        """Choose how large the next reads may be, for a body that is handed on to somebody else.

        Servers keep a few pieces for a client that does not take them; they may be large for a client that has taken
        much, and at once.

        Args:
            taken: bytes that were handed on so far.
            waited: seconds that handing the last ones on took.
        """
        if waited > _SLOW:
            self._size = self._largest = _MODEST
        else:
            self._largest = min(_LARGEST, max(_MODEST, taken // 64))

    def _take(self) -> None:
        if self._taken:
            raise RuntimeError("the body of this response was read before")
        self._taken = True

    async def _receive(self) -> bytes:
        """Return the next piece of the body; ``b""`` at its end."""
        if self._rest is not None:
            piece, self._rest = self._rest, None
            return piece
        if self._failure is not None:
            raise self._failure
        if self._ended:
            return b""
        future = self._ahead
        if future is None:
            self._check_upload()
            future = self._ask()
        self._ahead = None
        try:
            result = await future
        except BaseException:
            future.cancel()
            self._give_up()
            raise
        if type(result) is bytes:
            if len(result) == self._size < self._largest:
                self._size *= 2
            if self._upload is None or self._upload.failure is None:
                # The next piece is on its way while this one is looked at.
                self._ahead = self._ask()
            return result
        return await self._finish(result)

    def _check_upload(self) -> None:
        """Raise what the iterable of the upload raised: the request was cancelled for it, perhaps between two reads."""
        if self._upload is not None and self._upload.failure is not None:
            self._give_up()
            self._failure = self._upload.failure
            raise self._failure

    def _ask(self) -> asyncio.Future[Any]:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this response belongs to another event loop")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._channel.read(future, self._token, self._size)
        return future

    async def _finish(self, result: tuple[Any, ...]) -> bytes:
        self._ended = True
        upload, self._upload = self._upload, None
        if upload is not None:
            await upload.stop()
            if upload.failure is not None:
                self._failure = upload.failure
                raise upload.failure
        if result[0]:
            code, phase, outcome, message, elapsed_ns, _, attempts, _ = result
            if self._failure is None:  # or somebody gave the response up while it was read
                self._failure = reply_error(
                    code, phase, outcome, message, elapsed_ns, self.target,
                    method=self._method, attempts=read_attempts(attempts),
                )  # fmt: skip
            raise self._failure
        rest: bytes = result[1]
        return rest

    def _give_up(self) -> None:
        if self._rest is not None or not self._ended:  # what is left must not look like the end to whoever still reads
            self._rest = None
            self._failure = ProxyError("the response was closed", target=self.target, phase="body")
        if not self._ended:
            self._ended = True
            ahead, self._ahead = self._ahead, None
            if ahead is not None:
                ahead.cancel()  # or the bridge would think that somebody takes it and comes back for more
            self._channel.cancel(self._token)

    def _abandon(self) -> None:
        """Do the same as aclose, without waiting until the iterable of an upload was closed."""
        self._give_up()
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.abandon()

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            shown = repr(self)
            self._abandon()  # first: a warning may be an error
            warnings.warn(f"unclosed {shown}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        return f"<StreamResponse {self.status} from {self.target} ({state})>"


class StreamContext:
    """What :meth:`ProxyClient.stream_request` returns: ``async with`` gives the response and closes it at the end."""

    __slots__ = ("_arguments", "_client", "_response")

    def __init__(self, client: Pool, *arguments: Any) -> None:
        self._client = client
        self._arguments = arguments
        self._response: StreamResponse | None = None

    async def __aenter__(self) -> StreamResponse:
        self._response = await self._client._open_stream(*self._arguments)  # pyright: ignore[reportPrivateUsage]
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        if kind is GeneratorExit:  # the coroutine is being closed: it may not wait for anything
            response._abandon()  # pyright: ignore[reportPrivateUsage]
        else:
            await response.aclose()
