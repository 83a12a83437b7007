"""Fields of responses that hold the upstream's paths, written as the client must see them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ._fields import Lines

# Authority, path, and the query with the fragment, of a URL, a network-path or a path (RFC 3986 section 4.2).
_REFERENCE: Final = re.compile(r"(?:(?:https?:)?//([^/?#]*)|(?=/))([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
# What makes a host of the first segment of a path: two slashes, and to browsers a backslash too.
_SLASHES: Final = ("//", "/\\")


class Rewrites:
    """What becomes of ``Location`` and of the ``Path`` and ``Domain`` of cookies.

    Args:
        prefix: what was left out of the path of the request, percent-encoded; ``""``: nothing.
        above: what was put in front of it instead.
        authorities: ``host[:port]`` of the upstreams.
        location, cookies: which of them are rewritten.
    """

    def __init__(self, prefix: str, above: str, authorities: Iterable[str], *, location: bool, cookies: bool) -> None:
        self._prefix = prefix
        self._above = above
        self._authorities = frozenset(authority.lower() for authority in authorities)
        self._hosts = frozenset(authority.rpartition(":")[0] or authority for authority in self._authorities)
        self._location = location
        self._cookies = cookies

    def response(self, lines: Lines, host: str, root: str = "") -> Lines:
        """Return the lines to answer a request with that was for this host, below this root of the application."""
        changed: Lines = []
        front = root + self._prefix
        for name, value in lines:
            lower = name.lower()
            if lower == "location" and self._location:
                value = self._of_location(value, host, front)
            elif lower == "set-cookie" and self._cookies:
                value = self._of_cookie(value, front)
            changed.append((name, value))
        return changed

    def _of_location(self, value: str, host: str, front: str) -> str:
        reference = _REFERENCE.fullmatch(value)
        if reference is None:
            return value
        authority, path, rest = reference.groups()
        if authority is not None and authority.lower() not in self._authorities and authority.lower() != host.lower():
            return value
        seen = self._seen(path or "/", front)
        if seen.startswith(_SLASHES) and (authority is not None or seen != path):
            seen = f"/.{seen}"  # by itself it would name another host
        return seen + rest

    def _seen(self, path: str, front: str) -> str:
        """The path by which the client reaches one of the upstream's, which has this before it for the client."""
        above = self._above
        if above and path.startswith(above) and path[len(above) : len(above) + 1] in ("", "/"):
            path = path[len(above) :]
        return front + path or "/"

    def _of_cookie(self, value: str, front: str) -> str:
        cookie, *attributes = value.split(";")
        kept = [cookie]
        for attribute in attributes:
            name, equals, given = attribute.partition("=")
            kind = name.strip().lower()
            if kind == "path" and given.strip().startswith("/"):
                path = self._seen(given.strip(), front)
                if path == f"{front}/":
                    path = front or "/"  # the whole gateway, with and without the slash at its end
                attribute = f"{name}{equals}{path}"
            elif kind == "domain" and given.strip().lower().lstrip(".") in self._hosts:
                continue  # of the upstream: the browser would refuse it, and without it takes the gateway's
            kept.append(attribute)
        return ";".join(kept)
