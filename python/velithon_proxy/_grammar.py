"""What header lines may consist of, for those that are looked at before the core sees them (RFC 9110 section 5)."""

from __future__ import annotations

import re
from typing import Final

TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 -- RFC 9110 section 5.6.2
is_token: Final = re.compile(TOKEN).fullmatch
"""Whether a text can be the name of a header."""
is_value: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
"""Whether a text can be the value of a header; it is sent in Latin-1."""
