"""Hooks that change what passes a gateway: the objects they are given, and what may come back from them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from .._errors import ConfigurationError
from .._grammar import is_target, is_token, is_value
from .._headers import multidict_types
from .._show import show
from .._stream import StreamResponse
from ._answers import Refusal
from ._fields import FRAMING, Lines

if TYPE_CHECKING:
    from multidict import CIMultiDict

HeadersInput: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]] | None"
BodyInput: TypeAlias = "bytes | bytearray | memoryview | str"


class _Message:
    """What requests and responses have in common: fields, and a body that is read only if somebody asks for it.

    Attributes:
        headers: the header lines, a ``multidict.CIMultiDict``: ``headers["X"] = "1"`` replaces, ``.add`` appends.
            The framing fields (``Content-Length``, ``Transfer-Encoding``, ``Connection``) are the gateway's own.
    """

    def __init__(self, lines: Lines, body: bytes | None) -> None:
        self.headers: CIMultiDict[str] = multidict_types()[0](lines)
        self._framing = self._framing_now()
        self._body = body
        self._replaced = False

    async def read(self) -> bytes:
        """Read the whole body; more than once gives the same."""
        if self._body is None:
            self._body = await self._collect()
        return self._body

    @property
    def body(self) -> bytes:
        """The body, once it was read or set. Setting it replaces it; ``str`` is sent as UTF-8.

        Raises:
            RuntimeError: it has not been read yet: ``await read()`` does.
        """
        if self._body is None:
            raise RuntimeError("the body has not been read: await read() first")
        return self._body

    @body.setter
    def body(self, value: BodyInput) -> None:
        given = cast("object", value)  # callers without types may give anything
        if isinstance(given, str):
            self._body = given.encode()
        elif isinstance(given, (bytes, bytearray, memoryview)):
            self._body = bytes(cast("bytes", given))
        else:
            raise TypeError(f"body is {show(given)}; bytes-like or str is allowed")
        self._replaced = True

    async def _collect(self) -> bytes:
        raise NotImplementedError

    def _framing_now(self) -> list[tuple[str, str]]:
        return [(name.lower(), value) for name, value in self.headers.items() if name.lower() in FRAMING]

    def _lines(self) -> Lines:
        """The fields as the hook has left them.

        Raises:
            ValueError: a name or value that cannot be sent, or a framing field was touched. No
                :class:`InvalidHeaderError`, which would blame the client.
        """
        for name, value in self.headers.items():
            given = cast("object", value)
            if is_token(name) is None:
                raise ValueError(f"header name {show(name)} is not a token (RFC 9110 section 5.1)")
            if not isinstance(given, str) or is_value(given) is None:
                raise ValueError(f"the value of header {name} is not Latin-1 text without control characters")
        if self._framing_now() != self._framing:
            raise ValueError(f"a transform must leave the fields {', '.join(FRAMING)} alone")
        if self._replaced:
            return [(name, value) for name, value in self.headers.items() if name.lower() != "content-length"]
        return list(self.headers.items())


class ProxyRequest(_Message):
    """A request on its way to the upstream, as ``transform_request`` is given it.

    Attributes:
        method: as the client sent it.
        path: the path that will be sent, percent-encoded.
        query_string: without the question mark, percent-encoded.
        client: the IP address of the connection's other end; ``None`` on a unix socket.
    """

    def __init__(
        self,
        method: str,
        target: str,
        lines: Lines,
        body: bytes | AsyncIterator[bytes],
        client: str | None,
        most: int | None = None,
    ) -> None:
        super().__init__(lines, body if isinstance(body, bytes) else None)
        self.method = method
        self.path, _, self.query_string = target.partition("?")
        self.client = client
        self._pieces = None if isinstance(body, bytes) else body
        self._most = most

    @property
    def target(self) -> str:
        """Path and query string."""
        return f"{self.path}?{self.query_string}" if self.query_string else self.path

    def _head(self) -> tuple[str, str, Lines]:
        """Method, target and fields as the hook has left them.

        Raises:
            ValueError: one of them cannot be sent.
        """
        for what, given, allowed in (("method", self.method, is_token), ("target", self.target, is_target)):
            asterisk = what == "target" and given == "*"  # of OPTIONS
            if not isinstance(cast("object", given), str) or not (asterisk or allowed(given)):
                raise ValueError(f"the {what} {show(given)} that transform_request has left cannot be sent")
        return self.method, self.target, self._lines()

    async def _collect(self) -> bytes:
        pieces, self._pieces = self._pieces, None
        collected = bytearray()
        if pieces is not None:
            async for piece in pieces:
                collected += piece
                if self._most and len(collected) > self._most:
                    raise Refusal(413, "the body is too large")
        return bytes(collected)

    def _to_send(self) -> bytes | AsyncIterator[bytes]:
        if self._body is not None or self._pieces is None:
            return self._body or b""
        return self._pieces

    def __repr__(self) -> str:
        return f"<ProxyRequest {self.method} {self.target[:80]!a}>"


class GatewayResponse(_Message):
    """A response on its way to the client, as ``transform_response`` is given it.

    ``transform_request`` may return one of its own making, which ends the matter without asking an upstream.

    Attributes:
        status: 200 to 599.
    """

    def __init__(self, status: int = 200, headers: HeadersInput = None, body: BodyInput = b"") -> None:
        pairs = cast("Any", headers).items() if isinstance(headers, Mapping) else headers or ()
        super().__init__([], None)
        self.headers.extend(pairs)
        self._framing = self._framing_now()
        self.status = status
        self.body = body
        self._stream: StreamResponse | None = None

    @classmethod
    def _of(cls, status: int, lines: Lines, whole: bytes | None, stream: StreamResponse | None) -> GatewayResponse:
        response = cls(status, lines)
        response._replaced = False
        response._body = whole
        response._stream = stream
        return response

    async def _collect(self) -> bytes:
        stream, self._stream = self._stream, None
        if stream is None:
            return b""
        self._replaced = True  # it is sent as a whole, with a length of its own
        return await stream.read()

    def _checked_status(self) -> int:
        status = cast("object", self.status)
        if isinstance(status, int) and not isinstance(status, bool) and 200 <= status <= 599:
            return status
        raise ValueError(f"the status of a response must be a whole number from 200 to 599, not {show(status)}")

    def __repr__(self) -> str:
        return f"<GatewayResponse {self.status}>"


RequestHook: TypeAlias = Callable[[ProxyRequest], "Awaitable[ProxyRequest | GatewayResponse | None] | Any"]
ErrorHook: TypeAlias = Callable[[Exception, GatewayResponse], "Awaitable[GatewayResponse | None] | Any"]
ResponseHook: TypeAlias = Callable[[GatewayResponse], "Awaitable[GatewayResponse | None] | Any"]

_Given = TypeVar("_Given", bound=_Message)


def check_hook(field: str, hook: object) -> None:
    """Refuse what cannot be called.

    Raises:
        ConfigurationError: ``hook`` is neither ``None`` nor a function.
    """
    if hook is not None and not callable(hook):
        raise ConfigurationError(f"{field} must be a function or None, not {show(hook)}", field=field)


async def run_hook(name: str, hook: Callable[[_Given], Any], given: _Given, *kinds: type[_Message]) -> Any:
    """Call a hook, wait for it if it is a coroutine function, and return its result; ``None`` means what it was given.

    Raises:
        TypeError: it returned something else.
    """
    result: Any = hook(given)
    if isinstance(result, Awaitable):
        result = await cast("Awaitable[Any]", result)
    if result is None:
        return given
    if not isinstance(result, kinds):
        allowed = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} returned a value of type {type(result).__name__}; {allowed} or None is allowed")
    return result
