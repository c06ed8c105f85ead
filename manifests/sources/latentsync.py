"""LatentSync: the tree of face crops that its own preprocessing leaves, one folder a stage."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from .annotations import Box, SourceVideo, Span
from .folder import AUDIO_SUFFIXES, list_media

CROPPED = (re.compile(r"affine_transformed"), re.compile(r"av_synced_[\d.]+"), re.compile(r"high_visual_quality"))
"""Folders that hold crops, the last stage last."""
WHOLE = re.compile(r"raw|resampled|shot|segmented|high_resolution")
"""Folders of the stages before, whose pictures are not cropped yet."""
PIECE = re.compile(r"(_shot_\d+)?(_\d{3})?$")
"""Ending that cutting adds to a name."""
FACE = Box(corners=(0.0, -0.1, 1.0, 0.9), width=1, height=1)
"""The face in a crop, as shares of it. `AlignRestore` puts the brows at 0.2 and the middle of the nose at 0.4 of the
height, so the eyes come to about 0.29 and the mouth to 0.67: worked out from the template, not measured on files."""


def list_latentsync(root: Path) -> Iterator[SourceVideo]:
    """Yield the crops of the last stage that is there, and what was left behind in stages before it.

    A folder without any of the stages' names is taken to be one of them.
    """
    media = [path for path in list_media(root) if PurePosixPath(path).suffix.lower() not in AUDIO_SUFFIXES]
    staged: dict[str, dict[int, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    others = []
    for path in media:
        staging = _stage(path)
        if staging is None:
            others.append(path)
        else:
            tree, stage, rest = staging
            staged[tree][stage][rest] = path
    for stages in staged.values():
        yield from _last_stage(stages)
    for path in others:
        if not staged and not any(map(WHOLE.fullmatch, PurePosixPath(path).parts[:-1])):
            yield _crop(path, path)
        else:
            detail = "not in a folder of crops (affine_transformed, av_synced_*, high_visual_quality)"
            yield SourceVideo(path=path, reason="annotation_missing", detail=detail)


def _stage(path: str) -> tuple[str, int, str] | None:
    """Return the folder above a stage, which stage it is, and the path below it."""
    parts = PurePosixPath(path).parts
    for depth, part in enumerate(parts[:-1]):
        for number, name in enumerate(CROPPED):
            if name.fullmatch(part):
                return "/".join(parts[:depth]), number, "/".join(parts[depth + 1 :])
    return None


def _last_stage(stages: dict[int, dict[str, str]]) -> Iterator[SourceVideo]:
    used = stages[max(stages)]
    for rest, path in used.items():
        yield _crop(path, rest)
    for number in sorted(set(stages) - {max(stages)}):
        for rest, path in stages[number].items():
            if rest in used:
                yield SourceVideo(path=path, reason="duplicate", detail=f"{used[rest]} is a later stage and is used")
            else:
                detail = "LatentSync left it out of a later stage; name its folder as --input to use it"
                yield SourceVideo(path=path, reason="annotation_missing", detail=detail)


def _crop(path: str, rest: str) -> SourceVideo:
    # Nobody is named: pieces of one original stay together in a split by its name.
    original = PIECE.sub("", str(PurePosixPath(rest).with_suffix("")))
    span = Span(name=PurePosixPath(rest).stem, where=path, box=FACE, identity=original)
    return SourceVideo(path=path, identity=original, spans=(span,))
