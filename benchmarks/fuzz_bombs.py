"""Files made by hand: headers that promise too much, lists that name other files, links, pipes."""

import os
import struct
from pathlib import Path

LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {name}\n",
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{name}\n#EXT-X-ENDLIST\n",
    "m3u8-nested": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nm3u8.mp4\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "pls": "[playlist]\nFile1={name}\nNumberOfEntries=1\n",
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{name}</BaseURL></MPD>',
}


def write_lists(folder: Path, secret: Path) -> list[Path]:
    """Write playlists with the endings of films; each names a file outside the folder."""
    paths = []
    for name, text in LISTS.items():
        for suffix, named in ((".mp4", secret.name), (".mkv", str(secret)), (".ts", f"file:{secret}")):
            path = folder / f"list-{name}{suffix}"
            path.write_text(text.format(name=named))
            paths.append(path)
    return paths


def write_links(folder: Path, outside: Path) -> list[Path]:
    """Write links that lead nowhere, in circles, out of the folder to a film and to a text, a pipe and a device."""
    links = {"broken.mp4": "nowhere.mp4", "itself.mp4": "itself.mp4", "a.mp4": "b.mp4", "b.mp4": "a.mp4"}
    links |= {"out.mp4": str(outside), "text.mp4": "/etc/hostname", "zeroes.mp4": "/dev/zero", "circle": "."}
    for name, target in links.items():
        (folder / f"link-{name}").symlink_to(f"link-{target}" if target in links else target)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    return [*(folder / f"link-{name}" for name in links if name != "circle"), folder / "pipe.mp4"]


def box(name: bytes, *parts: bytes) -> bytes:
    """Return an MP4 box."""
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def write_bombs(folder: Path, mp4: bytes, mkv: bytes, avi: bytes) -> list[Path]:
    """Write files whose headers promise billions."""
    ftyp, deep = box(b"ftyp", b"isom\0\0\2\0isom"), b""
    for _ in range(20_000):
        deep = box(b"moov", deep)
    trak = mp4[mp4.index(b"trak") - 4 :][: struct.unpack_from(">I", mp4, mp4.index(b"trak") - 4)[0]]
    mvhd = mp4[mp4.index(b"mvhd") - 4 :][: struct.unpack_from(">I", mp4, mp4.index(b"mvhd") - 4)[0]]
    bombs = {
        "deep.mp4": ftyp + deep,
        "million-boxes.mp4": ftyp + box(b"free") * 1_000_000,
        "traks.mp4": ftyp + box(b"moov", mvhd, trak * 10_000),
        "huge-moov.mp4": ftyp + struct.pack(">I4sQ", 1, b"moov", 2**63) + mp4,
        "huge-mdat.mp4": ftyp + struct.pack(">I4sQ", 1, b"mdat", 2**62) + mp4,
        "riff.avi": b"RIFF" + struct.pack("<I", 2**32 - 1) + avi[8:],
        "riff-frames.avi": patched(avi, b"avih", 20, struct.pack("<I", 2**32 - 1)),
        "riff-rate.avi": patched(avi, b"strh", 28, struct.pack("<II", 1, 2**31)),
        "riff-slow.avi": patched(avi, b"strh", 28, struct.pack("<II", 2**31, 1)),
        "riff-size.avi": patched(avi, b"strf", 8, struct.pack("<II", 60_000, 60_000)),
        "rate.wav": wav(2**31 - 1, 1),
        "rate-1.wav": wav(1, 65_535),
        "ebml.mkv": b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 7 + mkv[5:],
        "segment.mkv": mkv.replace(b"\x18\x53\x80\x67", b"\x18\x53\x80\x67\x01\x7f" + b"\xff" * 6, 1),
        "nan.mkv": length(mkv, float("nan")),
        "endless.mkv": length(mkv, 1e300),
        "zeroes.mp4": bytes(5_000_000),
        "zeroes-after.mp4": mp4 + bytes(5_000_000),
    }
    for name, count in ((b"stts", 4), (b"stsz", 8), (b"stco", 4), (b"stsc", 4), (b"ctts", 4), (b"elst", 4)):
        bombs[f"count-{name.decode()}.mp4"] = patched(mp4, name, count + 4, struct.pack(">I", 2**32 - 1))
    for name, value in (("held", 2**31), ("long", 90_000 * 3600)):
        bombs[f"stts-{name}.mp4"] = patched(mp4, b"stts", 16, struct.pack(">I", value))
    for edit in (struct.pack(">II", 2**31, 0), struct.pack(">Ii", 100, -(2**31)), struct.pack(">II", 2**32 - 1, 2**31)):
        bombs[f"elst-{edit.hex()}.mp4"] = patched(mp4, b"elst", 12, edit)
    for matrix in (bytes(36), b"\x7f\xff\xff\xff" * 9, b"\x80\0\0\0" * 9):
        bombs[f"matrix-{matrix[:2].hex()}.mp4"] = patched(mp4, b"tkhd", 44, matrix)
    for size in ((60_000, 60_000), (65_535, 1), (0, 0)):
        bombs[f"size-{size[0]}x{size[1]}.mp4"] = patched(mp4, b"avc1", 28, struct.pack(">HH", *size))
    for name, content in bombs.items():
        (folder / f"bomb-{name}").write_bytes(content)
    return [folder / f"bomb-{name}" for name in bombs]


def patched(content: bytes, mark: bytes, skip: int, value: bytes) -> bytes:
    """Overwrite what stands some bytes after the beginning of a mark; without the mark leave it."""
    place = content.find(mark)
    return content if place < 0 else content[: place + skip] + value + content[place + skip + len(value) :]


def length(mkv: bytes, value: float) -> bytes:
    """Set the duration of a Matroska file."""
    return patched(mkv, b"\x44\x89\x88", 3, struct.pack(">d", value))


def wav(rate_hz: int, num_channels: int) -> bytes:
    """Return a WAV whose header says so."""
    head = struct.pack("<HHIIHH", 1, num_channels, rate_hz, 2**32 - 1, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + b"\xff" * 2000
    )
