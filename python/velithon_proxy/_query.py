"""Query parameters, appended to a path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Protocol, TypeAlias, cast
from urllib.parse import quote

QueryValue: TypeAlias = str | int | float | bool | None


class SupportsItems(Protocol):
    """Any mapping of names to values, or to lists of them."""

    def items(self) -> Iterable[tuple[str, QueryValue | Sequence[QueryValue]]]: ...


QueryInput: TypeAlias = SupportsItems | Iterable[tuple[str, QueryValue | Sequence[QueryValue]]] | None
"""What a request takes as query parameters: a mapping or (name, value) pairs."""


def append_query(path: str, params: QueryInput) -> str:
    """Append query parameters to a path, which may carry a query of its own; that one is left as it is.

    Names and values are percent-encoded (RFC 3986): all but letters, digits and ``-._~``, as UTF-8. A space becomes
    ``%20``, which both readings of a query understand. ``True`` and ``False`` become ``true`` and ``false``, ``None``
    an empty value (``a=``), as httpx writes them. A list gives one parameter for each element, in order; an empty
    list gives none. ``#`` in ``path`` is not touched: the core refuses it.

    Args:
        path: the request target so far, e.g. ``/search`` or ``/search?lang=en``.
        params: a mapping, pairs, or ``None``. Values are ``str``, ``int``, ``float``, ``bool``, ``None``, or a list
            or tuple of them.

    Raises:
        TypeError: a name is not a ``str``, or a value has another type; the message names the parameter.
        ValueError: NaN or infinity, or a lone surrogate, which UTF-8 cannot write.
    """
    if params is None:
        return path
    if not isinstance(path, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without types
        raise TypeError(f"path must be str, not {type(path).__name__}")
    encoded: list[str] = []
    for pair in _pairs_of(params):
        if not isinstance(pair, (tuple, list)) or len(cast("Sequence[object]", pair)) != 2:
            raise TypeError("query_params must be a mapping or an iterable of (name, value) pairs")
        name, value = cast("tuple[object, object]", pair)
        if not isinstance(name, str):
            raise TypeError(f"the names of query_params must be str, not {type(name).__name__}")
        prefix = _encode(name, name) + "="
        if isinstance(value, (list, tuple)):
            encoded += [prefix + _encode(name, _text(name, item)) for item in cast("Sequence[object]", value)]
        else:
            encoded.append(prefix + _encode(name, _text(name, value)))
    if not encoded:
        return path
    separator = "?"
    if "?" in path:
        separator = "" if path.endswith(("?", "&")) else "&"
    return path + separator + "&".join(encoded)


def _pairs_of(params: object) -> Iterable[object]:
    if not isinstance(params, (str, bytes, bytearray)):
        # httpx and Starlette drop duplicates in items(); their multi_items() has every parameter.
        for method in ("multi_items", "items"):
            pairs = getattr(params, method, None)
            if callable(pairs):
                return cast("Iterable[object]", pairs())
        if isinstance(params, Iterable):
            return cast("Iterable[object]", params)
    hint = "; an encoded query belongs into path" if isinstance(params, (str, bytes)) else ""
    raise TypeError(f"query_params must be a mapping or (name, value) pairs, not {type(params).__name__}{hint}")


def _text(name: str, value: object) -> str:
    """The text of one value. Subclasses such as enumerations count as the value they hold, however they print."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, int):
        try:
            return int.__repr__(value)
        except ValueError as error:  # sys.set_int_max_str_digits
            raise ValueError(f"query parameter {name!a} cannot be written: {error}") from None
    if isinstance(value, float):
        if isfinite(value):
            return float.__repr__(value)
        raise ValueError(f"query parameter {name!a} must be finite, not {value}")
    raise TypeError(
        f"query parameter {name!a} must be str, int, float, bool, None or a list of them, not {type(value).__name__}"
    )


def _encode(name: str, text: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise ValueError(f"query parameter {name!a} has a lone surrogate at position {error.start}") from None
