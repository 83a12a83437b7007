"""Header fields: a read-only multi-value mapping, and the packed form in which they cross the border."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias, TypeVar, cast, overload

from ._bridge import unpack_fields, unpack_fields_raw
from ._errors import InvalidHeaderError

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy

T = TypeVar("T")

# Each line is: u32 size of the name, u32 size of the value (both native-endian), name, value (capi/abi.h).
_sizes: Final = Struct("=II").pack


class SupportsItems(Protocol):
    """Any mapping of names to values: dict, multidict, the headers of httpx or Starlette."""

    def items(self) -> Iterable[tuple[str | bytes, str | bytes]]: ...


HeadersInput: TypeAlias = "Headers | SupportsItems | Iterable[tuple[str | bytes, str | bytes]] | None"
"""What a request takes as headers: a mapping or (name, value) pairs, each ``str`` (Latin-1) or ``bytes``."""


class Headers(Mapping[str, str]):
    """Header lines in order, with case and duplicates as they were received or given. Read-only.

    Names compare without case (RFC 9110 section 5.1). ``h["set-cookie"]`` is the first value; nothing is joined.
    ``items()``, ``values()``, ``multi_items()`` and ``raw`` have every line. Iteration, ``keys()`` and ``len`` have
    each name once, in its first spelling, so ``for name in h: h.get_all(name)`` meets no line twice and ``dict(h)``
    holds the first value of each name. Values are decoded as Latin-1, which loses nothing:
    ``value.encode("latin-1")`` and ``.raw`` give back the bytes.

    Two ``Headers`` are equal if each name has the same values in the same order; the order of different names does
    not matter (RFC 9110 section 5.3). A mapping such as ``dict`` is compared the same way.

    Args:
        headers: another ``Headers``, a mapping, pairs of name and value, or ``None`` for no lines. ``str`` or
            ``bytes``. What may be sent is checked when it is sent.

    Raises:
        InvalidHeaderError: a ``str`` has a character above U+00FF, which no header can carry.
        TypeError: a name or value is neither ``str`` nor ``bytes``.
    """

    __slots__ = ("_lines", "_mapping", "_packed")

    _packed: bytes
    _lines: list[tuple[str, str]] | None
    _mapping: CIMultiDictProxy[str] | None

    def __init__(self, headers: HeadersInput = None) -> None:
        self._packed = pack(headers)
        self._lines = None
        self._mapping = None

    @classmethod
    def from_packed(cls, packed: bytes) -> Self:
        """Wrap lines that are packed already; they are decoded when they are first looked at."""
        self = cls.__new__(cls)
        self._packed = packed
        self._lines = None
        self._mapping = None
        return self

    @property
    def packed(self) -> bytes:
        """The lines in the form that crosses the border (see capi/abi.h)."""
        return self._packed

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """All lines in order, as bytes; a new list."""
        return unpack_fields_raw(self._packed)

    def multi_items(self) -> list[tuple[str, str]]:
        """All lines in order; a new list."""
        return self._decoded().copy()

    def get_all(self, name: str) -> list[str]:
        """All values of ``name`` in order; empty if there is none."""
        return self._multidict().getall(name, [])

    getall = get_all

    @overload
    def get(self, key: str, /) -> str | None: ...
    @overload
    def get(self, key: str, /, default: str | T) -> str | T: ...
    def get(self, key: str, /, default: object = None) -> object:
        """The first value of ``key``, or ``default``."""
        return self._multidict().get(key, default)

    def values(self) -> ValuesView[str]:
        """The value of each line in order."""
        return self._multidict().values()

    def items(self) -> ItemsView[str, str]:
        """Name and value of each line in order."""
        return self._multidict().items()

    def _decoded(self) -> list[tuple[str, str]]:
        lines = self._lines
        if lines is None:
            lines = self._lines = unpack_fields(self._packed)
        return lines

    def _multidict(self) -> CIMultiDictProxy[str]:
        mapping = self._mapping
        if mapping is None:
            mutable, read_only = multidict_types()
            mapping = self._mapping = read_only(mutable(self._decoded()))
        return mapping

    def __getitem__(self, name: str) -> str:
        return self._multidict()[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._multidict()

    def __iter__(self) -> Iterator[str]:
        # Not the iterator of multidict, which gave the name of each line before version 7.
        names: dict[str, str] = {}
        for name, _ in self._decoded():
            names.setdefault(name.lower(), name)
        return iter(names.values())

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._decoded()})

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return self._packed == other._packed or _grouped(self._decoded()) == _grouped(other._decoded())
        if isinstance(other, Mapping):
            try:
                lines = Headers(cast("Mapping[str, str]", other))._decoded()
            except (TypeError, ValueError):
                return False  # not a mapping of header fields
            return _grouped(self._decoded()) == _grouped(lines)
        return NotImplemented

    __hash__ = None  # pyright: ignore[reportAssignmentType] -- equal to dicts, which cannot be hashed either

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[list[tuple[bytes, bytes]]]]:
        # Not the packed form, which depends on the byte order of this machine.
        return type(self), (self.raw,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._decoded()!r})"


@cache
def multidict_types() -> tuple[type[CIMultiDict[str]], type[CIMultiDictProxy[str]]]:
    """Import multidict when it is first needed: that takes as long as all the rest of this package."""
    from multidict import CIMultiDict, CIMultiDictProxy

    return CIMultiDict, CIMultiDictProxy


def _grouped(lines: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Values by lower-case name."""
    groups: dict[str, list[str]] = {}
    for name, value in lines:
        groups.setdefault(name.lower(), []).append(value)
    return groups


def pack(headers: HeadersInput) -> bytes:
    """Put header lines into the form that crosses the border, in order, duplicates kept.

    Only the form is made here: whether a name is a token and a value has no control characters is for the core to
    judge, which checks every line before a byte is sent (RFC 9110 section 5.5).

    Raises:
        InvalidHeaderError: a ``str`` has a character above U+00FF.
        TypeError: not a mapping or pairs of ``str`` or ``bytes``.
    """
    if headers is None:
        return b""
    if isinstance(headers, Headers):
        return headers.packed
    out: list[bytes] = []
    append = out.append
    line: object
    for line in _lines_of(headers):
        # A two-character str would unpack as a pair too.
        if line.__class__ is not tuple and not (isinstance(line, Sequence) and not isinstance(line, (str, bytes))):
            raise TypeError(f"headers must be a mapping or (name, value) pairs; {_kind(line)} is no pair")
        try:
            name, value = cast("tuple[object, object]", line)
        except ValueError:
            count = len(cast("Sequence[object]", line))
            raise TypeError(f"headers must be a mapping or (name, value) pairs, not tuples of {count}") from None
        if isinstance(name, str):
            try:
                encoded_name = name.encode("latin-1")
            except UnicodeEncodeError as error:
                raise _not_latin1("name", name, error) from None
        elif isinstance(name, bytes):
            encoded_name = name
        else:
            raise TypeError(f"header names must be str or bytes, not {_kind(name)}")
        if isinstance(value, str):
            try:
                encoded_value = value.encode("latin-1")
            except UnicodeEncodeError as error:
                raise _not_latin1("value", name, error) from None
        elif isinstance(value, bytes):
            encoded_value = value
        else:
            raise TypeError(f"the value of header {name!r} must be str or bytes, not {_kind(value)}{_hint(value)}")
        append(_sizes(len(encoded_name), len(encoded_value)))
        append(encoded_name)
        append(encoded_value)
    return b"".join(out)


def _lines_of(headers: object) -> Iterable[object]:
    """The lines of a mapping or of an iterable of pairs."""
    if headers.__class__ is dict:
        return cast("dict[object, object]", headers).items()
    if not isinstance(headers, (str, bytes, bytearray)):
        # httpx and Starlette join or drop duplicates in items(); their multi_items() has every line.
        for method in ("multi_items", "items"):
            lines = getattr(headers, method, None)
            if callable(lines):
                return cast("Iterable[object]", lines())
        if isinstance(headers, Iterable):
            return cast("Iterable[object]", headers)
    raise TypeError(f"headers must be a mapping or an iterable of (name, value) pairs, not {_kind(headers)}")


def _not_latin1(part: str, name: str | bytes, error: UnicodeEncodeError) -> InvalidHeaderError:
    """Name the header and the character, but not the value: it may be a secret."""
    character = error.object[error.start]
    return InvalidHeaderError(
        f"the {part} of header {name!a} has the character {character!a} (U+{ord(character):04X}) at position "
        f"{error.start}; str headers hold Latin-1, give bytes for another encoding"
    )


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _hint(value: object) -> str:
    return "; give one pair for each value" if isinstance(value, (list, tuple)) else ""
