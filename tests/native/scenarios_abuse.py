"""Wrong use: bad arguments, and libraries that are no core."""

from __future__ import annotations

from typing import Any

from fake_border import (
    CORE,
    Border,
    _bridge,
    descriptors,
    load,
    raises,
    reply_body,
    run,
    settle,
)

from velithon_proxy import ClientClosedError, ConfigurationError, InternalError, InvalidHeaderError


def arguments() -> None:
    """Each wrong argument raises at the call; nothing is sent and nothing is kept."""

    async def main() -> None:
        border = Border()
        channel, pool = border.channel, border.pool
        future = border.loop.create_future()
        good: tuple[Any, ...] = (future, pool, "GET", "/", None, None, 0, 0, None)
        integer, text = (TypeError, OverflowError), (TypeError, ValueError)
        wrong: tuple[tuple[int, Any, Any], ...] = (
            *((1, value, integer) for value in (None, "1", 1.5, -1, 1 << 64, b"1")),
            *((2, value, text) for value in (None, b"GET", 1, "\ud800", ["GET"])),
            *((3, value, text) for value in (None, b"/", 1, "/\udfff", object())),
            *(
                (4, value, text)
                for value in (1, "a: b", 2.5, {1: "a"}, {"a": 1}, {"a": None}, [1], ["ab"], [("a",)], {"a", "b"})
            ),
            *(
                (4, value, text)
                for value in ({"\u20ac": "a"}, {"a": "\u20ac"}, [("a", "b", "c")], iter([("a", "b")]), bytearray())
            ),
            *((5, value, text) for value in (1, object(), ["a"], "\ud800")),
            *((6, value, integer) for value in (None, "1", 1.5, 1 << 63, -(1 << 63) - 1)),
            *((7, value, integer) for value in (None, "1", 1.5, -1, 1 << 70)),
            *((8, value, TypeError) for value in ("key", 1, bytearray(b"k"), object())),
        )
        for place, value, error in wrong:
            raises(error, channel.submit, *good[:place], value, *good[place + 1 :])
        for count in range(9):
            raises(TypeError, channel.submit, *good[:count])
        raises(TypeError, channel.submit, *good, 0)
        raises(TypeError, lambda: channel.submit(*good, extra=1))
        message = raises(InvalidHeaderError, channel.submit, *good[:4], {"x-secret": "hush \u20ac"}, *good[5:])
        assert "x-secret" in message
        assert "hush" not in message
        message = raises(TypeError, channel.submit, *good[:4], [("authorization", "hush", 3)], *good[5:])
        assert "hush" not in message
        for token in (None, "1", 1.5, -1, 1 << 64):
            raises(integer, channel.cancel, token)
        for token in (0, 1, 1 << 32, (1 << 64) - 1, 5 << 32 | 1):
            channel.cancel(token)  # nothing that is under way
        for kind in (0, 1, 2, 3, 7, 1 << 31):
            raises(ValueError, channel.measure, future, kind, 0, 0)
        for args in (
            (),
            (future,),
            (future, "4", 0, 0),
            (future, 4, "0", 0),
            (future, 4, 0, 1 << 64),
            (future, 4, 0, 0, 0),
        ):
            raises((TypeError, OverflowError), channel.measure, *args)
        raises(TypeError, channel.drain, 1)
        raises(TypeError, type("Sub", (), {}), 1, 2)
        for value in (None, "{}", bytearray(b"{}"), 1):
            raises(TypeError, _bridge.pool_new, value)
        assert "\u20ac" in raises(ConfigurationError, _bridge.pool_new, b"misconfigured")
        assert "\ufffd" in raises(InternalError, _bridge.pool_new, b"broken")
        for value in (None, "1", 1.5, -1, 1 << 64):
            raises(integer, _bridge.pool_close, value)
            raises(integer, _bridge.pool_snapshot, value)
        for handle in (0, 4095, (1 << 64) - 1):
            _bridge.pool_close(handle)
            raises(ClientClosedError, _bridge.pool_snapshot, handle)
        assert b"fake" in _bridge.pool_snapshot(pool)
        # A pool that is not there is the core's to refuse.
        for handle in (0, 4095, (1 << 64) - 1):
            gone = border.loop.create_future()
            channel.submit(gone, handle, "GET", "/", None, None, 0, 0, None)
            assert (await gone)[0] == 14
        assert not future.done()
        nodes = _bridge.stats()["nodes"]
        for _ in range(100):
            raises(TypeError, channel.submit, *good[:5], 3, 0, 0)
        assert _bridge.stats()["nodes"] == nodes
        assert _bridge.stats()["in_flight"] == 0
        assert (await border.request("/?body=5"))[3] == reply_body(5)
        border.close()

    before_load()
    run(main())
    settle()


def before_load() -> None:
    """Without a core every call says so, and none harms."""
    error = RuntimeError
    raises(error, _bridge.Channel)
    raises(error, _bridge.pool_new, b"{}")
    raises(error, _bridge.pool_snapshot, 1)
    raises(error, _bridge.stats)
    _bridge.pool_close(1)
    assert _bridge.reap() == 0
    assert _bridge.unpack_fields(b"") == []


def libraries_that_are_no_core() -> None:
    """What cannot be the core is an ImportError that says why; the right one can still be loaded."""
    folder = CORE.parent
    count = descriptors()
    for name, said in (
        ("absent.so", "absent.so"),
        ("not_elf.so", "not_elf.so"),
        ("other_abi.so", "ABI 77"),
        ("empty.so", "has no vp_abi_version"),
    ):
        for _ in range(3):
            message = raises(ImportError, _bridge.load, str(folder / name), 0, 0, 0)
            assert "the core of velithon_proxy cannot be loaded" in message
            assert said in message
    assert "xxxx" in raises(ImportError, _bridge.load, str(CORE), 99, 0, 0)
    assert descriptors() == count
    for args in (
        (),
        ("x",),
        (None, 0, 0, 0),
        (b"x", 0, 0, 0),
        (str(CORE), "0", 0, 0),
        (str(CORE), 0, 1 << 40, 0),
        (str(CORE), 0, 0, 1 << 70),
    ):
        raises((TypeError, OverflowError), _bridge.load, *args)
    raises(ValueError, _bridge.load, "a\0b", 0, 0, 0)
    raises(RuntimeError, _bridge.Channel)
    load()
    load()
    _bridge.load("anything", 1, 2, 3)  # loaded already
    settle()
