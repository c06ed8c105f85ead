"""VoxCeleb2: clips that are cut already, in a folder for each speaker and video."""

import re
from collections.abc import Iterator
from pathlib import Path

from .annotations import SourceVideo
from .utterance_clips import Layout, list_clips

CLIP = re.compile(
    r"(?:(?:.*/)?(?:vox2_)?(?P<part>dev|test)(?:_mp4|_txt)?/|(?:.*/)?)"
    r"(?:mp4|txt|aac)/(?P<identity>id\d{5})/(?P<id>[\w-]{11})/\d{5}\.\w+",
    re.ASCII,
)


def list_voxceleb2(root: Path) -> Iterator[SourceVideo]:
    """Yield the clips below a VoxCeleb2 folder; those of `test` are held out, as in the official split."""
    layout = Layout(clip=CLIP, splits={"test": "test"}, note=lambda path: re.sub(r"(^|/)mp4/", r"\1txt/", path))
    yield from list_clips(root, layout)
