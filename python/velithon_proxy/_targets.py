"""The addresses of upstreams. The rules are those of core/target.go; tests/contract feeds both sides the same rows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from ._errors import ConfigurationError, InvalidTargetError
from ._show import show

_MAX_SOCKET_PATH: Final = 103  # sun_path has 108 bytes on Linux and 104 on macOS, with a NUL
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FORBIDDEN: Final = re.compile(r"[^\x21-\x7e]")
_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")
_NUMBER_LABEL: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


class Target(NamedTuple):
    """The address of one upstream, as the core reads it."""

    scheme: str
    host: str
    """For the Host header: host[:port] as given, IPv6 in brackets."""
    address: str
    """host:port to connect to; the port is the scheme's if none was given."""
    key: str
    """Equal for targets that mean the same upstream."""


def validate_target(url: object, *, argument: str = "target_url", scheme_required: bool = True) -> None:
    """Check the URL of one upstream.

    Raises:
        InvalidTargetError: it is not a usable URL; the message begins with ``argument``.
    """
    parse_target(url, argument=argument, scheme_required=scheme_required)


def check_targets(targets: object, argument: str, scheme_required: bool, seen: dict[str, str]) -> list[str]:
    """Check all targets, in order; the list holds them exactly as given. ``seen`` collects them by their keys."""
    if isinstance(targets, str) or scheme_required:
        text = str.__str__(targets) if isinstance(targets, str) else ""  # of an enumeration the value
        seen[parse_target(targets, argument=argument, scheme_required=scheme_required).key] = text
        return [text]
    if isinstance(targets, (bytes, bytearray)) or not isinstance(targets, Sequence):
        raise ConfigurationError(f"{argument} must be a URL or a list of URLs, not {show(targets)}", field=argument)
    given = _check_all(cast("Sequence[object]", targets), argument, seen)
    if not given:
        raise ConfigurationError(f"{argument} must hold at least one URL, it is empty", field=argument)
    return given


def check_backups(backups: object, seen: dict[str, str]) -> list[str]:
    """Check upstreams that are there besides the targets, which are in ``seen``."""
    if isinstance(backups, (str, bytes, bytearray)) or not isinstance(backups, Sequence):
        raise ConfigurationError(f"backups must be a list of URLs, not {show(backups)}", field="backups")
    return _check_all(cast("Sequence[object]", backups), "backups", seen)


def _check_all(targets: Sequence[object], argument: str, seen: dict[str, str]) -> list[str]:
    given: list[str] = []
    for i, item in enumerate(targets):
        key = parse_target(item, argument=f"{argument}[{i}]", scheme_required=False).key
        text = str.__str__(cast("str", item))
        if key in seen:
            raise ConfigurationError(
                f"{argument}[{i}]: {show(text)} is the same upstream as {show(seen[key])}", field=argument
            )
        seen[key] = text
        given.append(text)
    return given


def parse_target(url: object, *, argument: str, scheme_required: bool) -> Target:
    """Read the URL of one upstream: scheme://host[:port] (RFC 3986 section 3), strictly.

    What is taken has one meaning only: no user information, path, query or fragment, no blank, control or non-ASCII
    character, no address in a form that some resolvers take for a name.

    Raises:
        InvalidTargetError: it is not a usable URL; the message never shows a password.
    """
    field = argument.partition("[")[0]
    if not isinstance(url, str):
        raise InvalidTargetError(f"{argument} must be a URL (str), not {show(url)}", field=field)
    target = _parse(url, scheme_required)
    if isinstance(target, str):
        raise InvalidTargetError(f"{argument}: {show(_hide_userinfo(url))} is not a usable URL: {target}", field=field)
    return target


def _parse(url: str, scheme_required: bool) -> Target | str:
    """Give the target, or the reason why there is none, in the words of ParseTarget in core/target.go."""
    if not url:
        return "it is empty"
    bad = _FORBIDDEN.search(url)
    if bad is not None:
        if bad[0] > "\x7f":
            return f"it has a non-ASCII character at position {bad.start()}; write the name in its xn-- form"
        return f"it has a blank or control character at position {bad.start()}"
    if url[:5].lower() == "unix:":
        return _parse_socket(url[5:])
    scheme, rest = "http", url
    given = _SCHEME.match(url)
    if given is not None:
        scheme, rest = given[1].lower(), url[given.end() :]
        if scheme not in ("http", "https"):
            return "its scheme must be http, https or unix"
    elif url.startswith("//"):
        return "it starts with // and has no scheme; start it with http:// or https://"
    elif scheme_required:
        return "it has no scheme; start it with http:// or https://"

    end = next((i for i, c in enumerate(rest) if c in "/?#"), len(rest))
    authority, tail = rest[:end], rest[end:]
    if "@" in authority:
        return "it has user information; send an Authorization header instead"

    parts = _split_bracketed(authority) if authority.startswith("[") else _split_name(authority)
    if isinstance(parts, str):
        return parts
    host, canonical, port = parts
    if port is None:
        port = "443" if scheme == "https" else "80"
    elif _PORT.fullmatch(port) is None or int(port) > 65535:
        return "its port must be a number from 1 to 65535"
    if "#" in tail:
        return "it has a fragment"
    if "?" in tail:
        return "it has a query"
    if tail not in ("", "/"):
        return "it has a path; put the path into each request"
    return Target(scheme, authority, f"{host}:{port}", f"{scheme}://{canonical}:{port}")


def _parse_socket(path: str) -> Target | str:
    """Read what stands behind ``unix:``, ``/path`` or ``///path``."""
    if path.startswith("///"):
        path = path[2:]
    if not path.startswith("/") or path.startswith("//"):
        return "the path of its socket must start with one /, as in unix:/run/app.sock"
    if path.endswith("/"):
        return "the path of its socket ends with a /"
    if len(path) > _MAX_SOCKET_PATH:
        return f"the path of its socket is longer than {_MAX_SOCKET_PATH} bytes"
    return Target("unix", "localhost", path, f"unix:{path}")


def _split_bracketed(authority: str) -> tuple[str, str, str | None] | str:
    """Split ``[v6]:port`` into the address as given, its canonical form, and the port."""
    address, closing, after = authority[1:].partition("]")
    if not closing:
        return "its IPv6 address has no closing bracket"
    if "%" in address:
        return "its IPv6 address has a zone, which is not supported"
    from ipaddress import AddressValueError, IPv6Address  # only here: most targets are names

    try:
        canonical = IPv6Address(address).compressed
    except AddressValueError:
        return "what stands in brackets is not an IPv6 address"
    if after and not after.startswith(":"):
        return "only a port may follow the closing bracket"
    return f"[{address}]", f"[{canonical}]", after[1:] if after else None


def _split_name(authority: str) -> tuple[str, str, str | None] | str:
    """Split ``name:port`` into the name, its canonical form, and the port."""
    host, colon, port = authority.partition(":")
    if ":" in port:
        return "an IPv6 address must stand in brackets"
    name = host.removesuffix(".")
    if not name:
        return "it has no host"
    if len(name) > 253:
        return "its host is longer than 253 characters"
    bad = _NOT_IN_NAME.search(name)
    if bad is not None:
        return f"its host has the character {json.dumps(bad[0])}"
    labels = name.split(".")
    if any(not 1 <= len(label) <= 63 for label in labels):
        return "its host has a part that is empty or longer than 63 characters"
    if _NUMBER_LABEL.fullmatch(labels[-1]) is not None:
        from ipaddress import AddressValueError, IPv4Address

        # 127.1, 2130706433 and 0x7f.1 are addresses to some resolvers and names to others.
        try:
            IPv4Address(host)
        except AddressValueError:
            return "its host ends in a number but is not an IPv4 address of four decimal numbers"
    return host, host.lower(), port if colon else None


def _hide_userinfo(url: str) -> str:
    """Remove what may be a password before a URL is shown."""
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, separator, _ = head.partition("://")
    return f"{scheme}://***@{tail}" if separator else f"***@{tail}"
