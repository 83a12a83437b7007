"""Checks of what constructors are given, and the configuration that crosses to the core.

The core (core/config.go, core/target.go) applies the same rules and alone knows the defaults. They are written here
once more because a wrong argument must raise before Go is loaded: applications are built in a parent process that
forks its workers later. tests/contract feeds both sides the same rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from ._errors import ConfigurationError, InvalidTargetError

STRATEGIES: Final = ("round_robin", "random", "weighted", "single")

_MAX_MILLISECONDS: Final = 86_400_000  # a day
_MAX_BODY: Final = 2**53 - 1
_INTEGERS: Final = {
    "timeout_ms": (1, _MAX_MILLISECONDS, "a whole number of milliseconds"),
    "max_retries": (0, 10, "a whole number"),
    "max_failures": (1, 2**31 - 1, "a whole number"),
    "recovery_timeout_ms": (1, _MAX_MILLISECONDS, "a whole number of milliseconds"),
    "connect_timeout_ms": (1, _MAX_MILLISECONDS, "a whole number of milliseconds"),
    "pool_timeout_ms": (0, _MAX_MILLISECONDS, "a whole number of milliseconds"),
    "first_byte_timeout_ms": (0, _MAX_MILLISECONDS, "a whole number of milliseconds"),
    "idle_timeout_ms": (0, _MAX_MILLISECONDS, "a whole number of milliseconds"),
    "total_timeout_ms": (0, _MAX_MILLISECONDS, "a whole number of milliseconds"),
    "max_connections": (1, 100_000, "a whole number"),
    "max_idle_connections": (0, 100_000, "a whole number"),
    "keepalive_expiry_ms": (1, _MAX_MILLISECONDS, "a whole number of milliseconds"),
    "max_waiting": (0, 1_000_000, "a whole number"),
    "max_response_head": (1 << 10, 16 << 20, "a whole number of bytes"),
    "max_response_fields": (1, 100_000, "a whole number"),
    "max_request_body": (0, _MAX_BODY, "a whole number of bytes"),
    "max_response_body": (0, _MAX_BODY, "a whole number of bytes"),
}
_TLS: Final = frozenset({"tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_min_version", "tls_insecure"})

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


def pool_config(
    targets: str | Sequence[str],
    *,
    argument: str = "targets",
    scheme_required: bool = False,
    strategy: str | None = None,
    **options: object,
) -> bytes:
    """Check the options of a pool and write them as the JSON that the core reads.

    Args:
        targets: URLs of the upstreams; a ``str`` is a pool of one.
        argument: what the caller's own argument for ``targets`` is called, for messages.
        scheme_required: take only one URL that says which scheme it has, as a client of one upstream wants it;
            otherwise a target without a scheme means http.
        strategy: one of :data:`STRATEGIES`.
        options: whole numbers, in the ranges and units of core/config.go, and ``tls_*`` as :class:`TLS` gives them.

    ``None`` means the core's default and is left out.

    Raises:
        ConfigurationError: an option of the wrong type or out of range.
        InvalidTargetError: a target that is not a usable URL.
        TypeError: an unknown option.
    """
    config: dict[str, object] = {}
    for field, value in options.items():
        if field not in _INTEGERS and field not in _TLS:
            raise TypeError(f"pool_config() got an unexpected keyword argument {field!r}")
        if value is not None:
            config[field] = check_integer(field, value) if field in _INTEGERS else value
    if strategy is not None:
        _check_strategy(strategy)
        config["strategy"] = str.__str__(strategy)
    config["targets"] = _check_targets(targets, argument, scheme_required)
    _check_tls(config)
    return json.dumps(config).encode()


def _check_tls(config: dict[str, object]) -> None:
    """TLS options need https; the files and names in them were checked by :class:`TLS`."""
    for field in ("tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_insecure"):
        if not config.get(field):
            continue
        for target in cast("list[str]", config["targets"]):
            if not target.lower().startswith("https:"):
                raise ConfigurationError(f"{field} needs https targets, {show(target)} is none", field=field)


def validate_target(url: object, *, argument: str = "target_url", scheme_required: bool = True) -> None:
    """Check the URL of one upstream.

    Raises:
        InvalidTargetError: it is not a usable URL; the message begins with ``argument``.
    """
    parse_target(url, argument=argument, scheme_required=scheme_required)


def check_integer(field: str, value: object) -> int:
    """Return the value of a field that holds a whole number.

    Raises:
        ConfigurationError: not a whole number, or out of the field's range.
    """
    low, high, kind = _INTEGERS[field]
    # bool is an int to Python; a configuration that says True means something else than 1.
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return int(value)
    raise ConfigurationError(f"{field} must be {kind} from {low} to {high}, not {show(value)}", field=field)


def _check_strategy(value: object) -> None:
    if not isinstance(value, str) or value not in STRATEGIES:
        names = ", ".join(f'"{name}"' for name in STRATEGIES)
        raise ConfigurationError(f"strategy must be one of {names}, not {show(value)}", field="strategy")


def _check_targets(targets: object, argument: str, scheme_required: bool) -> list[str]:
    """Check all targets, in order; the list holds them exactly as given."""
    if isinstance(targets, str) or scheme_required:
        parse_target(targets, argument=argument, scheme_required=scheme_required)
        return [str.__str__(cast("str", targets))]  # of an enumeration the value, however it prints
    if isinstance(targets, (bytes, bytearray)) or not isinstance(targets, Sequence):
        raise ConfigurationError(f"{argument} must be a URL or a list of URLs, not {show(targets)}", field=argument)
    given: list[str] = []
    seen: dict[str, str] = {}
    for i, item in enumerate(cast("Sequence[object]", targets)):
        key = parse_target(item, argument=f"{argument}[{i}]", scheme_required=False).key
        text = str.__str__(cast("str", item))
        if key in seen:
            raise ConfigurationError(
                f"{argument}[{i}]: {show(text)} is the same upstream as {show(seen[key])}", field=argument
            )
        seen[key] = text
        given.append(text)
    if not given:
        raise ConfigurationError(f"{argument} must hold at least one URL, it is empty", field=argument)
    if len(given) > 1:
        raise ConfigurationError(
            f"{argument} holds {len(given)} URLs; more than one is not supported yet", field=argument
        )
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


def show(value: object) -> str:
    """Show a wrong value in a message: its kind, and the value itself as far as it is short and harmless."""
    if value is None:
        return "None"
    if isinstance(value, str):
        text = ascii(value[:120]) if len(value) > 120 else ascii(value)
        return f"{text} (cut, {len(value)} characters)" if len(value) > 120 else text
    kind = type(value).__name__
    if isinstance(value, (bool, float)):
        return f"the {kind} {value}"
    if isinstance(value, int):
        return str(value) if value.bit_length() < 128 else f"an int of {value.bit_length()} bits"
    return f"a value of type {kind}"
