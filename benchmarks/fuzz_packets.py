"""Damage to the packets of a media file: the same streams in a new file of the same kind."""

import os
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random

import av
import fuzz_bases
from av.error import FFmpegError
from fuzz_bases import Base, Mutation
from fuzz_bytes import flip_body


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
