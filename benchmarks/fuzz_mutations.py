"""Ways to damage a media file: its bytes, or its packets in a new file of the same kind."""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random

import av
import fuzz_bases
from av.error import FFmpegError

HEAD, TAIL = 1024, 4096
BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"stts", b"stsz", b"stco", b"stsc", b"mdat", b"elst")
BOXES += (b"mvhd", b"mdhd", b"tkhd", b"ctts", b"stss", b"ftyp", b"moof", b"trun", b"esds", b"avcC")
SUFFIXES = (".mp4", ".mkv", ".avi", ".ts", ".wav", ".flv", ".mxf", ".webm", ".mp3", ".ogv")
EXTREMES = (0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 0x7FFF0000)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A whole file, and all of them to take parts from."""

    kind: fuzz_bases.Kind
    path: Path
    others: list[Path]

    @property
    def content(self) -> bytearray:
        """Its bytes."""
        return bytearray(self.path.read_bytes())


Mutation = Callable[[Base, Random, Path], None]


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


# --- of packets: the same streams in a new file


def remuxed(change: Callable[[list[av.Packet], Random], list[av.Packet]], *, extra: str = "") -> Mutation:
    """Make a mutation of a change of packets; where the muxer refuses them, the file ends there."""

    def mutate(base: Base, chance: Random, target: Path) -> None:
        with (
            av.open(str(base.path)) as source,
            av.open(str(target), "w", format=base.kind.format, options=dict(base.kind.options)) as out,
        ):
            streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
            if extra:
                out.add_stream(extra, rate=16_000) if extra.startswith("pcm") else out.add_stream(extra)
            packets = [packet for packet in source.demux() if packet.size]
            for packet in change(packets, chance):
                packet.stream = streams[packet.stream.index if packet.stream in source.streams else 0]
                try:
                    out.mux(packet)
                except (FFmpegError, ValueError, OverflowError):
                    continue

    def whole(base: Base, chance: Random, target: Path) -> None:
        """Mux in a process of its own: a muxer that gets such packets may crash, as MXF's does."""
        child = os.fork()
        if not child:
            try:
                mutate(base, chance, target)
            except (FFmpegError, ValueError, OverflowError, NotImplementedError, MemoryError):
                target.touch()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        if not target.is_file() or not target.stat().st_size:  # the muxer took nothing
            target.write_bytes(flip_body(base.content, chance))

    return whole


def scale_times(packets: list[av.Packet], chance: Random) -> list[av.Packet]:
    factor = chance.choice((Fraction(0), Fraction(1, 1000), Fraction(3), Fraction(5000), Fraction(10**8)))
    for packet in packets:
        packet.pts, packet.dts = int((packet.pts or 0) * factor), int((packet.dts or 0) * factor)
        packet.duration = int((packet.duration or 0) * factor)
    return packets


def negate_times(packets: list[av.Packet], chance: Random) -> list[av.Packet]:
    shift = chance.choice((0, 10**6, 2**40))
    for packet in packets:
        packet.pts, packet.dts = -(packet.pts or 0) - shift, (packet.dts or 0) - 10**4 - shift
    return packets


def jump_times(packets: list[av.Packet], chance: Random) -> list[av.Packet]:
    jump, first = chance.choice((300, 10**5, 2**33, 2**50)), chance.randrange(len(packets))
    for packet in packets[first:]:
        packet.pts, packet.dts = (packet.pts or 0) + jump, (packet.dts or 0) + jump
    return packets


def drop_keyframes(packets: list[av.Packet], chance: Random) -> list[av.Packet]:
    keep_first = chance.random() < 0.5
    keys = [packet for packet in packets if packet.is_keyframe and packet.stream.type == "video"]
    gone = {id(packet) for packet in keys[keep_first:]}
    return [packet for packet in packets if id(packet) not in gone]


def duplicate_packets(packets: list[av.Packet], chance: Random) -> list[av.Packet]:
    return [packet for packet in packets for _ in range(chance.choice((1, 1, 1, 2, 3)))]


def shuffle_packets(packets: list[av.Packet], chance: Random) -> list[av.Packet]:
    place = chance.randrange(len(packets))
    some = packets[place : place + 12]
    chance.shuffle(some)
    return packets[:place] + some + packets[place + 12 :]


def drop_packets(packets: list[av.Packet], chance: Random) -> list[av.Packet]:
    share = chance.choice((0.02, 0.2, 0.9))
    return [packet for packet in packets if chance.random() > share]


def one_stream(packets: list[av.Packet], chance: Random) -> list[av.Packet]:
    kind = chance.choice(("video", "audio"))
    return [packet for packet in packets if packet.stream.type == kind]


def same_packets(packets: list[av.Packet], _chance: Random) -> list[av.Packet]:
    return packets


def swap_streams(base: Base, chance: Random, target: Path) -> None:
    """Give the packets of each stream to the other one."""

    def swapped(packets: list[av.Packet], _chance: Random) -> list[av.Packet]:
        streams = list({packet.stream.index: packet.stream for packet in packets}.values())
        for packet in packets:
            packet.stream = streams[streams.index(packet.stream) - 1]
        return packets

    remuxed(swapped)(base, chance, target)


def grow_pictures(base: Base, chance: Random, target: Path) -> None:
    """Follow the file with one of another size, and in half of the cases of other streams: they appear late."""
    kind = base.kind if chance.random() < 0.5 else chance.choice(fuzz_bases.KINDS[12:16])
    target.write_bytes(base.content + large(kind, target.with_name("later.part")))


@cache
def large(kind: fuzz_bases.Kind, path: Path) -> bytes:
    """Return a file with larger pictures, whose times go on where the others end; without an encoder, junk."""
    try:
        fuzz_bases.write(path, kind, fuzz_bases.LARGE, start_s=fuzz_bases.LENGTH_S)
        return path.read_bytes()
    except (FFmpegError, ValueError):
        return bytes(9999)
    finally:
        path.unlink(missing_ok=True)


MUTATIONS: dict[str, Mutation] = {
    **{do.__name__: bytewise(do) for do in (flip_header, flip_index, flip_body, truncate, behead, swap_halves)},
    **{do.__name__: bytewise(do) for do in (repeat_tail, zero_run, insert_junk, delete_run, extreme_numbers)},
    **{do.__name__: bytewise(do) for do in (boxes, box_fields, timescale, nest)},
    "wrong_ending": bytewise(copy_bytes),
    **{do.__name__: do for do in (concatenate, splice, swap_streams, grow_pictures)},
    **{do.__name__: remuxed(do) for do in (scale_times, negate_times, jump_times, drop_keyframes, duplicate_packets)},
    **{do.__name__: remuxed(do) for do in (shuffle_packets, drop_packets, one_stream)},
    "added_subtitles": remuxed(same_packets, extra="mov_text"),
    "added_sound": remuxed(same_packets, extra="pcm_s16le"),
}
"""Name to what it does; the names stand in the table."""
