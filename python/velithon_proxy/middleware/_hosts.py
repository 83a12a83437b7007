"""The host that a request is for (RFC 9112 section 3.2)."""

from __future__ import annotations

import re
from typing import Final

from ._answers import Refusal

# uri-host [":" port] of RFC 9112 section 3.2 without what could be read as another host by somebody: the same rule as
# that of the core, which checks only the Host that it sends.
_authority: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&()*+=%]+)(?::([0-9]{0,5}))?").fullmatch


def check_host(host: str | None, http_version: str, authority: str | None) -> None:
    """Refuse a request that does not say which host it is for, or not clearly (RFC 9112 section 3.2)."""
    if not host and http_version in ("1", "1.0"):
        host = None  # HTTP/1.0 needs none, and Granian hands an empty one over on ASGI where there was none
    if host is None and http_version == "1.1":
        raise Refusal(400, "the request needs exactly one Host field")
    if (host is not None and not _is_authority(host)) or (authority is not None and not _is_authority(authority)):
        raise Refusal(400, "the host of the request is not a host with an optional port")


def _is_authority(text: str) -> bool:
    match = _authority(text)
    return match is not None and (not match[1] or 1 <= int(match[1]) <= 65535)
