"""Header lines on their way in and out."""

from __future__ import annotations

import random
import struct
from typing import Any

from fake_border import Border, Octets, Rude, Text, _bridge, pack, run, settle

from velithon_proxy import InvalidHeaderError


def _random_text(dice: random.Random) -> tuple[Any, bytes | None]:
    """A name or value, and its bytes; None if it cannot be one."""
    size = dice.choice((0, 1, 5, 40, 300))
    kind = dice.randrange(12)
    if kind < 5:
        text = "".join(chr(dice.randrange(128)) for _ in range(size))
        return dice.choice((str, Text))(text), text.encode()
    if kind < 7:
        text = "".join(chr(dice.randrange(256)) for _ in range(size))
        return text, text.encode("latin-1")
    if kind < 9:
        data = dice.randbytes(size)
        return dice.choice((bytes, Octets))(data), data
    if kind == 9:
        text = "".join(chr(dice.choice((0x100, 0x20AC, 0xD800, 0x1F600, 65))) for _ in range(size))
        return text, text.encode() if text.isascii() else None
    if kind == 10:
        return dice.choice((None, 1, 2.5, True, [], {}, object(), bytearray(b"x"), memoryview(b"x"), Rude(), str)), None
    return dice.choice(("", "Set-Cookie", "host")), None


def _random_headers(dice: random.Random) -> tuple[Any, bytes | None]:
    """Headers, and their packed form; None if they must be refused."""
    pairs: list[tuple[Any, Any]] = []
    lines: list[tuple[bytes, bytes]] | None = []
    for _ in range(dice.choice((0, 1, 2, 10, 30))):
        name, name_bytes = _random_text(dice)
        value, value_bytes = _random_text(dice)
        if isinstance(name, str) and name_bytes is None and name.isascii():
            name_bytes = name.encode()
        if isinstance(value, str) and value_bytes is None and value.isascii():
            value_bytes = value.encode()
        if dice.random() < 0.7 and (name_bytes is None or value_bytes is None):
            continue  # most of what is given should be good
        pairs.append((name, value))
        if name_bytes is None or value_bytes is None:
            lines = None
        elif lines is not None:
            lines.append((name_bytes, value_bytes))
    form = dice.randrange(5)
    try:
        if form == 0 and len({name for name, _ in pairs}) == len(pairs):
            return dict(pairs), None if lines is None else pack(lines)
    except TypeError:  # a name that cannot be hashed
        pass
    if form == 1:
        return tuple(pairs), None if lines is None else pack(lines)
    if form == 2:
        return [list(pair) for pair in pairs], None if lines is None else pack(lines)
    if form == 3 and pairs and dice.random() < 0.2:
        pairs.insert(dice.randrange(len(pairs)), dice.choice(((), ("a",), ("a", "b", "c"), "ab", None, 3, {"a": "b"})))
        return pairs, None
    return pairs, None if lines is None else pack(lines)


def headers_packed() -> None:
    """Whatever is given as headers arrives line by line as it was, or is refused with nothing sent."""

    async def main() -> None:
        border = Border()
        dice = random.Random(9)
        sent = refused = 0
        for _ in range(2000):
            headers, packed = _random_headers(dice)
            if packed is None:
                future = border.loop.create_future()
                try:
                    border.channel.submit(future, border.pool, "GET", "/?echo=1", headers, None, 0, 0, None)
                except (TypeError, InvalidHeaderError, RuntimeError):
                    refused += 1
                    assert not future.done()
                else:
                    raise AssertionError(f"{headers!r} was sent")
                continue
            reply = await border.request("/?echo=1", headers=headers)
            assert reply[:4] == (0, 200, packed, b""), headers
            sent += 1
            if sent % 10 == 0:
                assert (await border.request("/?echo=1", headers=packed))[2] == packed
                lines = _bridge.unpack_fields_raw(packed)
                assert pack(lines) == packed
                assert _bridge.unpack_fields_lower(packed) == [(name.lower(), value) for name, value in lines]
                assert [
                    (name.encode("latin-1"), value.encode("latin-1")) for name, value in _bridge.unpack_fields(packed)
                ] == lines
        assert min(sent, refused) > 300, (sent, refused)
        many = [(f"name-{i}", "v" * (i % 97)) for i in range(20_000)]
        assert _bridge.unpack_fields((await border.request("/?echo=1", headers=many))[2]) == many
        wide = {"x": "\xe9" * 3_000_000}
        assert _bridge.unpack_fields((await border.request("/?echo=1", headers=wide))[2]) == [("x", wide["x"])]
        border.close()

    run(main())
    settle()


def headers_that_change() -> None:
    """A name or value that changes the headers while it is shown in a message is not used after it is gone."""

    async def main() -> None:
        border = Border()
        headers: list[Any] = []

        def evil(place: int) -> Any:
            class Evil:
                def __repr__(self) -> str:
                    headers.clear()
                    return "x" * 100

            return (Evil(), "v") if place == 0 else (b"x" * 50, Evil())

        for place in (0, 1):
            for _ in range(20):
                headers[:] = [("a", "b"), evil(place)]
                try:
                    border.submit(headers=headers)
                    raise AssertionError("sent")
                except TypeError:
                    pass
        border.close()

    run(main())
    settle()


def _reference_unpack(packed: bytes) -> list[tuple[bytes, bytes]] | None:
    lines: list[tuple[bytes, bytes]] = []
    while packed:
        if len(packed) < 8:
            return None
        names, values = struct.unpack_from("=II", packed)
        if len(packed) - 8 < names + values:
            return None
        lines.append((packed[8 : 8 + names], packed[8 + names : 8 + names + values]))
        packed = packed[8 + names + values :]
    return lines


def fields_unpacked() -> None:
    """Packed lines that were cut short or made up give ValueError or the lines that stand there, never more."""
    dice = random.Random(10)
    whole = pack([(b"a", b"1"), (b"", b""), (b"Set-Cookie", b"\xff" * 300), (b"b", b"")])
    samples = [whole[:size] for size in range(len(whole) + 1)]
    for _ in range(20_000):
        sample = bytearray(dice.choice(samples))
        for _ in range(dice.randrange(4)):
            if sample:
                sample[dice.randrange(len(sample))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        samples.append(bytes(sample)) if len(samples) < 500 else None
        data, expected = bytes(sample), _reference_unpack(bytes(sample))
        for unpack in (_bridge.unpack_fields, _bridge.unpack_fields_raw):
            try:
                lines: Any = unpack(data)
            except ValueError:
                lines = None
            if lines and isinstance(lines[0][0], str):
                lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
            assert lines == expected, data
        try:
            lines = _bridge.unpack_fields_lower(data)
        except ValueError:
            lines = None
        assert lines == (expected and [(name.lower(), value) for name, value in expected]), data
    assert _bridge.unpack_fields_lower(struct.pack("=II", 1, 1) + b"AB") == [(b"a", b"B")]
    assert b"A".lower() != b"A", "an object that CPython shares was written to"
    for wrong in (None, "text", bytearray(whole), memoryview(whole), 3, [], ()):
        for unpack in (_bridge.unpack_fields, _bridge.unpack_fields_raw):
            try:
                unpack(wrong)  # type: ignore[arg-type]
                raise AssertionError(f"{wrong!r} was unpacked")
            except TypeError:
                pass
    for sizes in ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFF8, 0), (0, 0xFFFFFFF8), (0x80000000, 0x80000000)):
        try:
            _bridge.unpack_fields(struct.pack("=II", *sizes) + b"x" * 16)
            raise AssertionError(sizes)
        except ValueError:
            pass
