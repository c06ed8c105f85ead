"""A worker's memory: on 1080x1920, over 500 clips, and over one long file. It must stay bounded and not grow."""

import argparse
import itertools
import statistics
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
from processes import MEDIA, start, watch_memory, words_of_folder

TALL = "bytedance__LatentSync__assets_demo1_video_first6s.mp4"
MOST_MB = 1500
SMALL = "derived__dev_base.mp4"


def repeat(source: Path, target: Path, seconds: float) -> None:
    """Write a file that shows a clip again and again, by copying its packets: quick, and nothing is re-encoded."""
    with av.open(str(target), "w") as out:
        with av.open(str(source)) as one:
            # A pause between two copies: sound begins before and ends after the picture, and times must not go back.
            length = Fraction(one.duration or 0, av.time_base) + Fraction(1, 5)
            streams = [
                out.add_stream_from_template(one.streams.video[0]),
                out.add_stream_from_template(one.streams.audio[0]),
            ]
        for number in itertools.count():
            if number * length >= seconds:
                break
            with av.open(str(source)) as one:
                for packet in one.demux(one.streams.video[0], one.streams.audio[0]):
                    if packet.dts is None or packet.pts is None:
                        continue
                    shift = int(number * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[0 if packet.stream.type == "video" else 1]
                    out.mux(packet)


def measure(title: str, videos: Path, dataset: Path) -> None:
    series = watch_memory(start(*words_of_folder(videos, dataset)))
    tenth = max(1, len(series) // 10)
    early, late = statistics.median(series[tenth : 2 * tenth]), statistics.median(series[-tenth:])
    print(
        f"{title}: peak {max(series):.0f} MB, second tenth {early:.0f} MB, last tenth {late:.0f} MB, {len(series)} s",
        flush=True,
    )
    if max(series) > MOST_MB:
        sys.exit(f"above {MOST_MB} MB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=120.0, help="length of the long file")
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--only", choices=("tall", "many", "long"), help="one of the three")
    options = parser.parse_args()
    chosen = (options.only,) if options.only else ("tall", "many", "long")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("tall", "many", "long"):
            (root / name).mkdir()
        if "tall" in chosen:
            repeat(MEDIA / TALL, root / "tall" / "tall.mp4", 120)
            measure("1080x1920 HEVC, 2 min", root / "tall", root / "tall-dataset")
        if "many" in chosen:
            content = (MEDIA / SMALL).read_bytes()
            for number in range(options.clips):  # trailing bytes make another content of the same clip
                (root / "many" / f"{number:04}.mp4").write_bytes(content + number.to_bytes(8, "big"))
            measure(f"{options.clips} clips of 5 s", root / "many", root / "many-dataset")
        if "long" in chosen:
            repeat(MEDIA / SMALL, root / "long" / "long.mp4", options.minutes * 60)
            measure(f"one file of {options.minutes:g} min", root / "long", root / "long-dataset")


if __name__ == "__main__":
    main()
