"""How a wrong value is shown in a message."""

from __future__ import annotations


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
