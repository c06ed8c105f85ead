"""Damage to the bytes of a media file, whatever they mean."""

import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz_bases import Base, Mutation

HEAD, TAIL = 1024, 4096
BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"stts", b"stsz", b"stco", b"stsc", b"mdat", b"elst")
BOXES += (b"mvhd", b"mdhd", b"tkhd", b"ctts", b"stss", b"ftyp", b"moof", b"trun", b"esds", b"avcC")
EXTREMES = (0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 0x7FFF0000)


def bytewise(change: Callable[[bytearray, Random], bytes | bytearray]) -> Mutation:
    """Make a mutation of a change of bytes."""

    def mutate(base: Base, chance: Random, target: Path) -> None:
        target.write_bytes(change(base.content, chance))

    return mutate


def flip(content: bytearray, chance: Random, low: int, high: int) -> bytearray:
    for _ in range(chance.choice((1, 3, 10, 40))):
        content[chance.randrange(low, high)] ^= 1 << chance.randrange(8)
    return content


def flip_header(content: bytearray, chance: Random) -> bytearray:
    return flip(content, chance, 0, min(HEAD, len(content)))


def flip_index(content: bytearray, chance: Random) -> bytearray:
    return flip(content, chance, max(0, len(content) - TAIL), len(content))


def flip_body(content: bytearray, chance: Random) -> bytearray:
    return flip(content, chance, 0, len(content))


def truncate(content: bytearray, chance: Random) -> bytearray:
    return content[: chance.randrange(len(content))]


def behead(content: bytearray, chance: Random) -> bytearray:
    return content[chance.randrange(1, len(content)) :]


def swap_halves(content: bytearray, chance: Random) -> bytearray:
    place = chance.randrange(len(content))
    return content[place:] + content[:place]


def repeat_tail(content: bytearray, chance: Random) -> bytearray:
    return content + content[chance.randrange(len(content)) :] * chance.choice((1, 3))


def zero_run(content: bytearray, chance: Random) -> bytearray:
    place, length = chance.randrange(len(content)), chance.choice((4, 64, 1024, 16_384))
    content[place : place + length] = bytes(min(length, len(content) - place))
    return content


def insert_junk(content: bytearray, chance: Random) -> bytearray:
    place = chance.randrange(len(content))
    return content[:place] + chance.randbytes(chance.choice((1, 3, 188, 5000))) + content[place:]


def delete_run(content: bytearray, chance: Random) -> bytearray:
    place = chance.randrange(len(content))
    return content[:place] + content[place + chance.choice((1, 4, 188, 5000)) :]


def extreme_numbers(content: bytearray, chance: Random) -> bytearray:
    for _ in range(chance.choice((1, 2, 8))):
        place = chance.randrange(max(1, min(len(content), chance.choice((256, 2048, len(content)))) - 4))
        content[place : place + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(EXTREMES))
    return content


def boxes(content: bytearray, chance: Random) -> bytearray:
    """Give boxes of an MP4 wrong sizes; in other files any four bytes of the header."""
    places = [place for name in BOXES if (place := content.find(name)) >= 4]
    if not places:
        return extreme_numbers(content, chance)
    for place in chance.sample(places, min(len(places), chance.choice((1, 2)))):
        size = struct.unpack_from(">I", content, place - 4)[0]
        struct.pack_into(">I", content, place - 4, chance.choice((0, 1, 7, 8, size // 2, 2 * size % 2**32, 2**32 - 1)))
    return content


def box_fields(content: bytearray, chance: Random) -> bytearray:
    """Give timescales, lengths, counts and sizes in the boxes of an MP4 extreme values; in other files any numbers."""
    places = [place for name in BOXES if (place := content.find(name)) >= 4]
    if not places:
        return extreme_numbers(content, chance)
    for place in chance.sample(places, min(len(places), chance.choice((1, 3)))):
        field = place + 4 + 4 * chance.randrange(10)
        if field + 4 <= len(content):
            struct.pack_into(">I", content, field, chance.choice(EXTREMES))
    return content


def timescale(content: bytearray, chance: Random) -> bytearray:
    """Set the timescales of an MP4 to one a second, or to two thousand million; elsewhere as `extreme_numbers`."""
    place, scale, seen = 0, chance.choice((0, 1, 7, 2**31 - 1, 2**32 - 1)), False
    while (place := content.find(b"mdhd", place + 1)) > 0 and place + 20 <= len(content):
        struct.pack_into(">I", content, place + 16, scale)
        seen = True
    return content if seen else extreme_numbers(content, chance)


def nest(content: bytearray, chance: Random) -> bytes:
    """Wrap an MP4's index into itself again and again; elsewhere repeat the header."""
    place = content.find(b"moov") - 4
    if place < 0:
        return bytes(content[:HEAD]) * chance.choice((2, 50)) + bytes(content)
    size = struct.unpack_from(">I", content, place)[0]
    inner, name = bytes(content[place + 8 : place + size]), chance.choice((b"moov", b"trak", b"udta", b"meta"))
    for _ in range(chance.choice((3, 20, 2000))):
        inner = struct.pack(">I4s", len(inner) + 8, name) + inner
    return (
        bytes(content[:place]) + struct.pack(">I4s", len(inner) + 8, b"moov") + inner + bytes(content[place + size :])
    )


def copy_bytes(content: bytearray, chance: Random) -> bytearray:
    """Leave all as it is: half of these get a wrong ending, the others show that the whole file still passes."""
    content += chance.randbytes(8)  # another content, so that it is no duplicate
    return content


def concatenate(base: Base, chance: Random, target: Path) -> None:
    target.write_bytes(base.content + chance.choice(base.others).read_bytes())


def splice(base: Base, chance: Random, target: Path) -> None:
    """Put the middle of another file into this one."""
    content, other = base.content, chance.choice(base.others).read_bytes()
    place, start = chance.randrange(len(content)), chance.randrange(len(other))
    length = chance.choice((500, 5000, 20_000))
    target.write_bytes(content[:place] + other[start : start + length] + content[place + length :])
