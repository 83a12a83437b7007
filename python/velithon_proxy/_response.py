"""What every response has, and the buffered answer to one request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ._attempts import read_attempts
from ._bridge import unpack_fields, unpack_fields_lower
from ._errors import Attempt
from ._headers import Headers


class ResponseHead:
    """The head of a response, and where it came from.

    Attributes:
        status: status code, 200 to 599.
        target: URL of the upstream that answered, as it was configured.
    """

    __slots__ = ("_attempts", "_elapsed_ns", "_headers", "_packed_fields", "status", "target")

    status: int
    target: str
    _packed_fields: bytes
    _elapsed_ns: int
    _headers: Headers | None
    _attempts: bytes | None

    @property
    def headers(self) -> Headers:
        """The header lines in order, duplicates kept."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers.from_packed(self._packed_fields)
        return headers

    def _lines(self) -> list[tuple[str, str]]:
        """The header lines in order, as Latin-1 text."""
        return unpack_fields(self._packed_fields)

    def _lower_lines(self) -> list[tuple[bytes, bytes]]:
        """The header lines in order, as bytes, names in lower case."""
        return unpack_fields_lower(self._packed_fields)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """One entry for each attempt, in order; the last one gave this response."""
        if self._attempts is not None:
            return read_attempts(self._attempts)
        return (Attempt(self.target, "response", self.status, "body", True, self.elapsed, "", False, ""),)

    @property
    def elapsed(self) -> float:
        """Seconds from the call to the last byte of the response; to its head if the body is streamed."""
        return self._elapsed_ns / 1e9


class ProxyResponse(ResponseHead):
    """A complete response: ``status, headers, body = response``, or by name.

    Attributes:
        status: status code, 200 to 599.
        body: the bytes as they were received, without chunk framing; a ``Content-Encoding`` is not undone.
        target: URL of the upstream that answered, as it was configured.
    """

    __slots__ = ("body",)

    def __init__(
        self,
        status: int,
        packed_fields: bytes,
        body: bytes,
        target: str,
        elapsed_ns: int,
        attempts: bytes | None = None,
    ) -> None:
        # Built once for each request: seven stores, and headers only when somebody looks at them.
        self.status = status
        self._packed_fields = packed_fields
        self.body = body
        self.target = target
        self._elapsed_ns = elapsed_ns
        self._headers = None
        self._attempts = attempts

    @property
    def text(self) -> str:
        """The body as text, by the charset of ``Content-Type``, else UTF-8; undecodable bytes become U+FFFD.

        Raises:
            ValueError: the body is compressed.
        """
        self._refuse_compressed()
        try:
            return self.body.decode(_charset(self.headers.get("content-type", "")), "replace")
        except (LookupError, ValueError):  # no such charset, or none for text
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body read as JSON, in UTF-8, UTF-16 or UTF-32 (``json.loads``).

        Raises:
            ValueError: the body is not JSON, or is compressed.
        """
        self._refuse_compressed()
        return json.loads(self.body)

    def _refuse_compressed(self) -> None:
        encoding = self.headers.get("content-encoding", "").strip()
        if encoding.lower() not in ("", "identity"):
            raise ValueError(f"the body is encoded as {encoding[:40]!a} (Content-Encoding); decode .body first")

    def __iter__(self) -> Iterator[Any]:
        """Yield status, headers and body, in the order of the feature document."""
        return iter((self.status, self.headers, self.body))

    def __repr__(self) -> str:
        kind = self.headers.get("content-type")
        described = f", {kind[:80]!a}" if kind is not None else ""
        return (
            f"<ProxyResponse {self.status} from {self.target}{described}, {len(self.body)} bytes, "
            f"{self.elapsed * 1e3:.1f} ms>"
        )


def _charset(content_type: str) -> str:
    """The charset parameter of a Content-Type (RFC 9110 section 8.3.1), or utf-8."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'") or "utf-8"
    return "utf-8"
