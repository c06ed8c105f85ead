"""LRS2 and LRS3: clips that are cut already, each with a text file beside it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from .annotations import SourceVideo, read_lines
from .folder import walk
from .utterance_clips import UtteranceLayout, list_clips

LRS2_CLIP = re.compile(r"(?:.*/)?(?P<part>main|pretrain)/(?P<identity>\d{10,25})/\d{5}\.\w+", re.ASCII)
LRS3_CLIP = re.compile(r"(?:.*/)?(?P<part>pretrain|trainval|test)/(?P<identity>(?P<id>[\w-]{11}))/\d{5}\.\w+", re.ASCII)


def list_lrs2(root: Path) -> Iterator[SourceVideo]:
    """Yield the clips below an LRS2 folder, split by `train.txt`, `val.txt` and `test.txt` where those are there."""
    yield from list_clips(root, UtteranceLayout(clip=LRS2_CLIP, splits={}, listed=_read_lists(root)))


def list_lrs3(root: Path) -> Iterator[SourceVideo]:
    """Yield the clips below an LRS3 folder; those of `test` are held out, as in the official split."""
    yield from list_clips(root, UtteranceLayout(clip=LRS3_CLIP, splits={"test": "test"}))


def _read_lists(root: Path) -> Mapping[str, str]:
    """Return `<id>/<number>` of the `main` part to its split; a second word in a line is passed over."""
    lists = {f"{split}.txt": split for split in ("train", "val", "test")}
    found: dict[str, str] = {}
    for path in sorted(path for path in walk(root) if PurePosixPath(path).name in lists):
        for _, line in read_lines(root / path):
            if line.strip():
                found[f"main/{line.split()[0]}"] = lists[PurePosixPath(path).name]
    return found
