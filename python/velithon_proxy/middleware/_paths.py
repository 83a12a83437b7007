"""Paths: the prefix that a gateway serves, and the request target that it sends upstream.

The servers in front hand over the path percent-decoded once. What is matched is therefore what is forwarded: the
decoded path is compared with the prefix and then encoded again, once.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes

from .._errors import ConfigurationError
from ._answers import Refusal

# pchar of RFC 3986 section 3.3 and the slash: what stands in a path without percent-encoding.
_PCHAR: Final = "-._~!$&'()*+,;=:@/"
_is_plain: Final = re.compile(rf"[A-Za-z0-9{re.escape(_PCHAR)}]*").fullmatch
# U+FFFD is what a server makes of bytes that are not UTF-8: which ones, nobody can tell any more.
_AMBIGUOUS: Final = re.compile("[\x00-\x1f\x7f\ufffd]")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_is_sendable: Final = re.compile(r"[\x21\x24-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]*").fullmatch
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Some upstreams read a backslash as a slash, also when it was sent as %5C.
_SEPARATOR: Final = re.compile(r"[/\\]")


def parse_prefix(value: object) -> str:
    """Check a path prefix and return it percent-decoded and without a trailing slash; the root is ``""``.

    Args:
        value: as it stands in a URL, e.g. ``"/api"``, ``"/api/"`` or ``"/caf%C3%A9"``.

    Raises:
        ConfigurationError: not a ``str``, no leading slash, an empty or dot segment, or a character that no path has.
    """
    if not isinstance(value, str):
        raise _bad_prefix(f"must be a path (str) such as '/api', not a value of type {type(value).__name__}")
    shown = ascii(value[:120])
    if not value.startswith("/"):
        raise _bad_prefix(f"must start with '/', {shown} does not")
    if "?" in value or "#" in value:
        raise _bad_prefix(f"is a path alone: {shown} has a query or a fragment")
    if _BAD_ESCAPE.search(value) or "%2f" in value.lower() or "%5c" in value.lower():
        raise _bad_prefix(f"{shown} has a percent sign that is not the encoding of a character of a segment")
    decoded = unquote(value, errors="replace")
    bad = _AMBIGUOUS.search(decoded)
    if bad is not None or "\\" in decoded or not _encodes(decoded):
        raise _bad_prefix(f"{shown} has a control character, a backslash or bytes that are not UTF-8")
    prefix = decoded.removesuffix("/")
    segments = prefix.split("/")[1:]
    if any(segment.partition(";")[0] in ("", ".", "..") for segment in segments):
        raise _bad_prefix(f"{shown} has an empty segment or a dot segment")
    return prefix


def parse_above(value: object) -> str:
    """Check ``upstream_path_prefix`` and return it percent-encoded and without a trailing slash.

    Raises:
        ConfigurationError: as for :func:`parse_prefix`.
    """
    if value in ("", None):
        return ""
    try:
        return encoded(parse_prefix(value))
    except ConfigurationError as error:
        message = str(error).replace("path_prefix", "upstream_path_prefix", 1)
        raise ConfigurationError(message, field="upstream_path_prefix") from None


def parse_endpoint(field: str, value: object) -> str | None:
    """Check the path of an end point of the gateway's own and return it percent-decoded; ``None`` stays.

    Raises:
        ConfigurationError: as for :func:`parse_prefix`.
    """
    if value is None:
        return None
    try:
        return parse_prefix(value) or "/"
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("path_prefix", field, 1), field=field) from None


def encoded(path: str) -> str:
    """Percent-encode a decoded path."""
    return quote(path, safe=_PCHAR)


def matches(prefix: str, path: str) -> bool:
    """Whether a decoded path lies at or below a parsed prefix, compared by whole segments."""
    return path.startswith(prefix) and (len(path) == len(prefix) or not prefix or path[len(prefix)] == "/")


def request_target(prefix: str, path: str, query: str, *, strip: bool, above: str = "") -> str:
    """Write the target to send upstream, in origin-form (RFC 9112 section 3.2.1).

    Args:
        prefix: a parsed prefix that the path matches.
        path: the path, percent-decoded once.
        query: without its question mark; passed on byte for byte.
        strip: leave the prefix out.
        above: path to put in front, percent-encoded.

    Raises:
        Refusal: 400, the path cannot be written again unambiguously or its dot segments lead out of the prefix.
    """
    if not path.startswith("/"):
        raise Refusal(400, "the request target is not a path")
    plain = _is_plain(path) is not None
    if not plain and _AMBIGUOUS.search(path) is not None:
        raise Refusal(400, "the path has a control character or bytes that are not UTF-8")
    if ".." in path and _leaves(path[len(prefix) :]):
        raise Refusal(400, "the path has dot segments that lead out of it")
    if strip:
        path = path[len(prefix) :] or "/"
    if not plain:
        path = encoded(path)
    path = above + path
    return f"{path}?{query}" if query else path


def raw_matches(prefix: str, raw: str) -> bool:
    """Whether a path that is still percent-encoded lies at or below a parsed prefix, compared by whole segments."""
    if not prefix:
        return True
    if "%" not in raw and raw.isascii():
        return matches(prefix, raw)
    segments, wanted = raw.split("/"), prefix.split("/")
    return [unquoted(segment) for segment in segments[: len(wanted)]] == wanted


def unquoted(raw: str) -> str:
    """Percent-decode what was sent; some servers let bytes above ASCII through, which are Latin-1 here."""
    return unquote_to_bytes(raw.encode("latin-1")).decode(errors="replace")


def raw_target(prefix: str, raw: str, query: str, *, strip: bool, above: str = "") -> str:
    """Write the target to send upstream, for servers that hand over the path as it was sent: byte for byte.

    Args:
        raw: the path, percent-encoded; it matches.
        prefix, query, strip, above: as for :func:`request_target`.

    Raises:
        Refusal: 400, see :func:`request_target`.
    """
    if not raw.startswith("/"):
        raise Refusal(400, "the request target is not a path")
    if _CONTROL.search(unquoted(raw)) is not None:
        raise Refusal(400, "the path has a control character")
    rest = "/".join(raw.split("/")[prefix.count("/") + 1 :])
    if ".." in unquoted(rest) and _leaves(unquoted(rest)):
        raise Refusal(400, "the path has dot segments that lead out of it")
    path = f"/{rest}" if strip else raw
    if _is_sendable(path) is None:  # a server has let through what no URL has: a blank, a quote, bytes above ASCII
        path = quote(path.encode("latin-1"), safe=_PCHAR + "%")
    path = above + path
    return f"{path}?{query}" if query else path


def leads_out(path: str, start: int) -> bool:
    """Whether what stands in a decoded path from ``start`` on leads out of what stands before it.

    A segment that began before ``start`` is part of both: it must be no dot segment, and nothing climbs out of it. So
    ``/../y`` leads out of ``/v2/x``, although ``/v2/x/../y`` is still below ``/v2``.
    """
    begun = max(path.rfind("/", 0, start), path.rfind("\\", 0, start)) + 1
    if begun == start:
        return _leaves(path[start:])
    segment, *rest = _SEPARATOR.split(path[begun:], maxsplit=1)
    return _leaves(segment) or any(map(_leaves, rest))


def _leaves(rest: str) -> bool:
    """Whether dot segments of what follows the prefix climb above the prefix, at its end or on the way.

    Empty segments count for nothing, because many servers merge slashes before they resolve dots, and ``..;x`` counts
    as ``..``, because others cut parameters off first.
    """
    depth = 0
    for segment in _SEPARATOR.split(rest):
        name = segment.partition(";")[0]
        if name == "..":
            depth -= 1
            if depth < 0:
                return True
        elif name not in ("", "."):
            depth += 1
    return False


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bad_prefix(problem: str) -> ConfigurationError:
    return ConfigurationError(f"path_prefix {problem}", field="path_prefix")
