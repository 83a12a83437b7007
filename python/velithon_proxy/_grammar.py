"""What header lines (RFC 9110 section 5) and request targets may consist of.

For what has to be checked before the core sees it.
"""

from __future__ import annotations

import re
from typing import Final

TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 -- RFC 9110 section 5.6.2
is_token: Final = re.compile(TOKEN).fullmatch
"""Whether a text can be the name of a header."""
is_value: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
"""Whether a text can be the value of a header; it is sent in Latin-1."""
is_target: Final = re.compile(r"/[\x21\x22\x24-\x7e]*").fullmatch
"""Whether a text can be a request target in origin-form: no blank, no fragment (RFC 9112 section 3.2.1)."""
