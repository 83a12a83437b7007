"""What a gateway does to the header lines that pass it (rows R1 to R6, R25, R28 and R29).

The core removes the fields of a connection. Here is what depends on who the client is, and what the operator wishes:
first everything is taken away that must not pass, then the gateway's own fields are added, so that nothing a client
says can take them away again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, cast

from .._errors import ConfigurationError, InvalidHeaderError
from .._grammar import is_token, is_value
from .._headers import Headers, pack
from .._show import show
from ._answers import Refusal
from ._hosts import check_host
from ._trust import TrustedProxies, read_address

Lines: TypeAlias = list[tuple[str, str]]
"""Header lines in order; names of requests in lower case."""
RawLines: TypeAlias = list[tuple[bytes, bytes]]
"""The same as bytes: what ASGI has, and the core takes as well."""
FieldsInput: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]] | None"

_MOST_VISITS: Final = 10
"""So often may a request have passed this gateway; more is a loop (RFC 9110 section 7.6.3)."""
_FORWARDED: Final = frozenset(
    {
        *("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"),
        *("x-forwarded-prefix", "x-forwarded-server", "x-forwarded-ssl", "x-forwarded-scheme", "x-real-ip"),
    }
)
_SPECIAL: Final = _FORWARDED | {"via", "connection", "expect", "max-forwards"}
FRAMING: Final = ("connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive")
"""Fields that belong to one connection or frame one message: nobody else sets them."""
_FRAMING: Final = frozenset(FRAMING) | {"proxy-connection"}
_MANAGED: Final = _FORWARDED | _FRAMING | {"via", "host", "expect", "cookie", "authorization"}
# RFC 7239 section 4, without extensions: for, by, host and proto, each once.
_NODE: Final = r'(?:[A-Za-z0-9._-]+|"(?:[A-Za-z0-9._:-]+|\[[0-9A-Fa-f:.]+\](?::[A-Za-z0-9._-]+)?)")'
_PAIR: Final = rf"(?:for|by|host|proto)={_NODE}"
_is_forwarded: Final = re.compile(rf"{_PAIR}(?:(?:;|\s*,\s*){_PAIR})*", re.IGNORECASE).fullmatch
_port_of: Final = re.compile(r"(?:\[[^\]]*\]|[^:]*):([0-9]{1,5})").fullmatch
_is_count: Final = re.compile(r"[0-9]+").fullmatch
_MOST_FORWARDS: Final = 999_999_999


_SEEN: Final = _SPECIAL | {"host", "content-length", "transfer-encoding"}
_SEEN_RAW: Final = frozenset(name.encode() for name in _SEEN)
_HARMLESS: Final = frozenset({"", "close", "keep-alive"})
_MOST_PEERS: Final = 1024

SPECIAL_NAMES: Final = _SEEN
"""Fields of a request that a gateway must look at."""
HARMLESS_LINES: Final = frozenset(("connection", value) for value in ("close", "Close", "keep-alive", "Keep-Alive"))
"""Common lines with such names about which there is nothing to decide (``FieldRules.says_nothing``), in full."""


def seen(lines: Lines | RawLines) -> Lines:
    """Return the lines of a request that a gateway must look at; the others may pass."""
    if lines and type(lines[0][0]) is bytes:
        raw = cast("RawLines", lines)
        return [_text_of(line) for line in raw if line[0] in _SEEN_RAW or b"_" in line[0]]
    return [line for line in cast("Lines", lines) if line[0] in _SEEN or "_" in line[0]]


def as_text(lines: Iterable[tuple[str, str] | tuple[bytes, bytes]]) -> Lines:
    """Return header lines as text."""
    return [_text_of(line) for line in lines]


def _text_of(line: tuple[str, str] | tuple[bytes, bytes]) -> tuple[str, str]:
    name, value = line
    if isinstance(name, bytes) and isinstance(value, bytes):
        return name.decode("latin-1"), value.decode("latin-1").strip(" \t")
    return cast("tuple[str, str]", line)


def join_cookies(lines: Lines) -> Lines:
    """Put the cookies that HTTP/2 clients send one to a line back on one line (RFC 9113 section 8.2.3)."""
    cookies = [value for name, value in lines if name == "cookie"]
    if len(cookies) < 2:
        return lines
    return [*(line for line in lines if line[0] != "cookie"), ("cookie", "; ".join(cookies))]


class Peer(NamedTuple):
    """Who sent a request, and how."""

    address: str | None
    """IP address of the connection's other end; ``None`` on a unix socket."""
    scheme: str
    host: str
    """As the client wrote it."""
    root: str = ""
    """Path that the application was mounted at, which is left out of the path that is sent."""


def address_of(client: str | None) -> str | None:
    """The IP address in what RSGI calls a client, ``"address:port"``."""
    if not client:
        return None
    return client.rpartition(":")[0].strip("[]") or None


class FieldRules:
    """What is added, removed and believed. The arguments are those of :class:`~velithon_proxy.ProxyMiddleware`."""

    def __init__(
        self,
        *,
        prefix: str,
        trusted_proxies: object = (),
        forwarded: bool = False,
        via: str | None = "velithon-proxy",
        add_request_headers: FieldsInput = None,
        remove_request_headers: Iterable[str] = (),
        add_response_headers: FieldsInput = None,
        remove_response_headers: Iterable[str] = (),
    ) -> None:
        self._prefix = prefix
        """What is left out of the path that is sent."""
        self.trusted: Final = TrustedProxies(trusted_proxies)
        self._forwarded = forwarded
        self._via = _pseudonym(via)
        # RFC 9110 section 7.6.3: a protocol, the name, perhaps a comment. Comments are not taken out first: a client
        # could open one that nobody closes, and no loop would ever be found.
        name = re.escape(self._via or "")
        self._visits: Final = re.compile(rf"(?:^|,)[ \t]*[^\s,]+[ \t]+{name}[ \t]*(?=[,(]|$)").findall
        self._add_request = _additions("add_request_headers", add_request_headers, _FRAMING | {"host"})
        self._remove_request = _names("remove_request_headers", remove_request_headers)
        self._add_response = _additions("add_response_headers", add_response_headers, _FRAMING)
        self._remove_response = _names("remove_response_headers", remove_response_headers)
        self._own: dict[Peer, Lines] = {}
        self._tail: Final = [] if self._via is None else [("via", f"1.1 {self._via}")]
        self._raw_tail: Final = [(name.encode(), value.encode()) for name, value in self._tail]
        self.changes_requests: Final = bool(self._add_request or self._remove_request)
        """Whether fields are added or removed that the operator has named."""
        self.changes_responses: Final = bool(self._add_response or self._remove_response)

    def own(self, peer: Peer) -> Lines | None:
        """Return the gateway's own lines for a peer whose requests say nothing that they depend on; None: unknown."""
        return self._own.get(peer)

    def learn(self, peer: Peer) -> Lines:
        """Make what ``own`` returns. The host of the peer must have been checked.

        Without a host it is not kept: HTTP/1.0 needs none, and a request of HTTP/1.1 must not pass for the same peer's.
        """
        lines: Lines = []
        self._add_forwarded(lines, [], [], peer)
        lines += self._tail
        if peer.host:
            if len(self._own) >= _MOST_PEERS:
                self._own.clear()
            self._own[peer] = lines
        return lines

    def own_packed(self, peer: Peer) -> bytes | None:
        """Return what ``own`` returns, packed; for a peer with a host that nobody may have, None."""
        own = self.own(peer)
        if own is None:
            try:
                check_host(peer.host, "1.1", None)
            except Refusal:
                return None
            own = self.learn(peer)
        return pack(own)

    @property
    def tail(self) -> tuple[tuple[str, str], ...]:
        """The lines behind those of each response."""
        return tuple(self._tail)

    @staticmethod
    def says_nothing(line: tuple[str, str]) -> bool:
        """Whether the gateway's own lines do not depend on a line that it has to look at."""
        name, value = line
        return name in ("host", "content-length", "transfer-encoding") or (
            name == "connection" and value.lower() in _HARMLESS
        )

    def request(self, method: str, lines: Lines, peer: Peer) -> Lines:
        """Return the lines to forward.

        Raises:
            Refusal: 417 for an expectation that nobody can meet, 508 for a request that has been here too often.
        """
        kept: Lines = []
        chain: list[str] = []
        via: list[str] = []
        forwarded: list[str] = []
        named: set[str] = set()
        trusted = self.trusted.trust(peer.address)
        for line in lines:
            name = line[0]
            if name not in _SPECIAL:
                if "_" in name and name.replace("_", "-") in _MANAGED:
                    continue  # servers behind us may take it for the field with hyphens
                kept.append(line)
            elif name == "via":
                via.append(line[1])
            elif name == "connection":
                named.update(element.strip().lower() for element in line[1].split(","))
                kept.append(line)
            elif name == "expect":
                if line[1].strip().lower() != "100-continue":
                    raise Refusal(417, "the expectation cannot be met")
            elif name == "max-forwards":
                kept.append(_forward_once_less(method, line))
            elif trusted:
                if name == "x-forwarded-for":
                    chain.append(line[1])
                elif name == "forwarded":
                    forwarded.append(line[1])
                else:
                    kept.append(line)
        named -= {"", "close", "keep-alive"}
        if named:  # before our own are added: a client must not take them away (CVE-2024-45410)
            kept = [line for line in kept if line[0] == "host" or (line[0] not in named and line[0] != "connection")]
        if self._remove_request:
            kept = [line for line in kept if line[0] not in self._remove_request]
        self._add_forwarded(kept, chain, forwarded, peer)
        if self._via is not None:
            if via and sum(len(self._visits(value)) for value in via) >= _MOST_VISITS:
                raise Refusal(508, "the request has come back too often")
            via.append(f"1.1 {self._via}")
        if via:
            kept.append(("via", ", ".join(via)))
        if self._add_request:
            added = {name.lower() for name, _ in self._add_request}
            kept = [line for line in kept if line[0] not in added]
            kept += self._add_request
        return kept

    def _add_forwarded(self, kept: Lines, chain: list[str], forwarded: list[str], peer: Peer) -> None:
        given: dict[str, str] = {}
        for name, value in kept:
            if name in _FORWARDED:
                given.setdefault(name, value)
        if peer.address is not None:
            chain.append(peer.address)
        if chain:
            kept.append(("x-forwarded-for", ", ".join(chain)))
        if "x-forwarded-proto" not in given:
            kept.append(("x-forwarded-proto", peer.scheme))
        if "x-forwarded-host" not in given and peer.host:
            kept.append(("x-forwarded-host", peer.host))
        if "x-forwarded-port" not in given:
            # It goes with the host and the scheme that the upstream is told: this connection's may be an inner one's.
            host, scheme = given.get("x-forwarded-host", peer.host), given.get("x-forwarded-proto", peer.scheme)
            kept.append(("x-forwarded-port", _port(host, scheme)))
        if prefix := peer.root + self._prefix:
            kept[:] = [line for line in kept if line[0] != "x-forwarded-prefix"]
            kept.append(("x-forwarded-prefix", prefix))
        if self._forwarded:
            believed = ", ".join(forwarded)
            own = f"for={_node(peer.address)};proto={peer.scheme}" + (f';host="{peer.host}"' if peer.host else "")
            kept.append(("forwarded", f"{believed}, {own}" if believed and _is_forwarded(believed) else own))

    def response(self, lines: Lines) -> Lines:
        """Return the lines to answer with."""
        if self._remove_response:
            lines = [line for line in lines if line[0].lower() not in self._remove_response]
        if self._add_response:
            added = {name.lower() for name, _ in self._add_response}
            lines = [line for line in lines if line[0].lower() not in added]
            lines += self._add_response
        return lines + self._tail

    def raw_response(self, lines: RawLines) -> RawLines:
        """Do the same where nothing was asked for that needs a look at the lines (``changes_responses``)."""
        return lines + self._raw_tail


def _forward_once_less(method: str, line: tuple[str, str]) -> tuple[str, str]:
    """RFC 9110 section 7.6.2: it means something for OPTIONS (and TRACE, which is refused) alone."""
    text = line[1].strip()
    if method != "OPTIONS" or _is_count(text) is None:
        return line
    digits = text.lstrip("0")
    if not digits:
        raise Refusal(405, "the request was to be forwarded no further")
    return (line[0], str(_MOST_FORWARDS if len(digits) > 9 else int(digits) - 1))


def _port(hosts: str, schemes: str) -> str:
    """The port that fits a host and a scheme; of lists of them, as a chain of proxies writes, the first ones."""
    match = _port_of(hosts.partition(",")[0].strip())
    if match is not None:
        return match[1]
    return "443" if schemes.partition(",")[0].strip().lower() in ("https", "wss") else "80"


def _node(address: str | None) -> str:
    """RFC 7239 section 6."""
    if address is None or (parsed := read_address(address)) is None:
        return "unknown"
    return str(parsed) if parsed.version == 4 else f'"[{parsed}]"'


def _pseudonym(via: object) -> str | None:
    if via is None or (isinstance(via, str) and re.fullmatch(r"[A-Za-z0-9._-]+", via)):
        return via
    raise ConfigurationError(
        f"via must be a name of letters, digits, '.', '_' and '-', or None, not {show(via)}", field="via"
    )


def _additions(field: str, given: object, reserved: frozenset[str]) -> Lines:
    if given is None:
        return []
    try:
        lines = Headers.from_packed(pack(cast("Any", given))).multi_items()
    except (TypeError, ValueError, InvalidHeaderError) as error:
        raise ConfigurationError(f"{field}: {error}", field=field) from error
    for name, value in lines:
        if name.lower() in reserved:
            raise ConfigurationError(f"{field}: {name} is set by the gateway itself", field=field)
        if is_token(name) is None:
            raise ConfigurationError(f"{field}: {show(name)} is not the name of a header", field=field)
        if is_value(value) is None:
            raise ConfigurationError(f"{field}: the value of {name} has a control character", field=field)
    return [(name.lower(), value) for name, value in lines]


def _names(field: str, given: object) -> frozenset[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{field} must be a list of names, not {show(given)}", field=field)
    names = list(cast("Iterable[object]", given))
    for name in names:
        if not isinstance(name, str) or is_token(name) is None:
            raise ConfigurationError(f"{field}: {show(name)} is not the name of a header", field=field)
        if name.lower() in _FRAMING:
            raise ConfigurationError(f"{field}: {name} is set by the gateway itself", field=field)
    return frozenset(name.lower() for name in cast("list[str]", names))
