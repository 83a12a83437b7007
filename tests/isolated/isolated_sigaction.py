"""What the kernel has for a signal, which Python does not tell: glibc's ``sigaction`` on Linux."""

from __future__ import annotations

import ctypes

SA_ONSTACK = 0x08000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Action(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * (1024 // (8 * ctypes.sizeof(ctypes.c_ulong)))),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def _action(number: int) -> _Action:
    action = _Action()
    assert _LIBC.sigaction(number, None, ctypes.byref(action)) == 0
    return action


def handled(number: int) -> bool:
    """Whether there is a handler: neither the default nor to be ignored."""
    return (_action(number).handler or 0) > 1


def on_stack(number: int) -> bool:
    """Whether the handler runs on the alternate stack, as a handler that a Go thread may run must."""
    return bool(_action(number).flags & SA_ONSTACK)


def take_off_stack(number: int) -> None:
    """Install the same handler the way a library does that has never heard of Go."""
    action = _action(number)
    action.flags &= ~SA_ONSTACK
    assert _LIBC.sigaction(number, ctypes.byref(action), None) == 0
