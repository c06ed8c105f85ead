"""Make the demo's files: each is whole or absent, and what is there already is not made again."""

import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from ...manifests.errors import DatasetError
from ...manifests.storage import atomic_path, digest, read_json, sha256_file, write_json
from ..media.mp4 import add_sound, encode_video
from .clips import DemoClip, DemoVideo, clips

logger = logging.getLogger(__name__)

RECORD = ".demo.json"
"""Beside the files: their hashes, and what they were made with. Hidden, so that no source lists it."""
DEMO_VERSION = 1
"""Raise it when the files change, so that older ones are made again."""
MADE_WITH = ("av", "numpy", "opencv-python-headless", "scikit-image", "scipy")
"""Packages whose versions may change a pixel, a sample or a byte."""


def make_demo(folder: Path) -> list[Path]:
    """Write the demo's media files into a folder, and return their paths in the order of their names.

    Files that an earlier call wrote, as their hashes tell, stay untouched, and so do other files in the folder.
    """
    tools = digest(DEMO_VERSION, [version(package) for package in MADE_WITH])
    hashes = _read_record(folder / RECORD, tools)
    todo = [clip for clip in clips() if not _is_whole(folder / clip.name, hashes.get(clip.name))]
    if todo:
        logger.info("demo: making %d files in %s", len(todo), folder)
    for video, group in _by_video(todo):
        encoded = encode_video(video.pictures(), video.rate)
        for clip in group:
            hashes[clip.name] = _write(folder / clip.name, clip, encoded)
            write_json(folder / RECORD, {"made_with": tools, "sha256": hashes})
    return sorted(folder / clip.name for clip in clips())


def _read_record(path: Path, tools: str) -> dict[str, str]:
    """Return name to hash of the files that were made by these very tools."""
    try:
        record = read_json(path)
        return record["sha256"] if record["made_with"] == tools else {}
    except (DatasetError, KeyError, TypeError):
        return {}


def _is_whole(path: Path, sha256: str | None) -> bool:
    return sha256 is not None and path.is_file() and sha256_file(path) == sha256


def _by_video(todo: list[DemoClip]) -> Iterator[tuple[DemoVideo, list[DemoClip]]]:
    """Group clips that show the same pictures: those are drawn and encoded once."""
    videos = {id(clip.video): clip.video for clip in todo}
    for key, video in videos.items():
        yield video, [clip for clip in todo if id(clip.video) == key]


def _write(path: Path, clip: DemoClip, encoded: bytes) -> str:
    """Write one file and return its hash."""
    with atomic_path(path) as temporary:
        if clip.speech is None:
            temporary.write_bytes(encoded)
        else:
            add_sound(
                encoded, clip.pcm(), temporary, sample_rate_hz=clip.sample_rate_hz, num_channels=clip.num_channels
            )
        if clip.kept_bytes < 1:
            content = temporary.read_bytes()
            temporary.write_bytes(content[: int(clip.kept_bytes * len(content))])
        return sha256_file(temporary)
