"""Survey: which parts of a source are in a folder, and what its reader makes of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import SourceError
from . import Source
from .folder import walk


@dataclass(frozen=True, kw_only=True)
class SourceSurvey:
    """Counts of what a reader finds in a folder; the names are those that `hs-data sources` prints."""

    found: bool
    files: int
    """Files that can be probed."""
    spans: int
    """Annotated stretches."""
    people: int
    refused: dict[str, int]
    """Records that cannot be used, by reason."""
    examples: dict[str, str]
    """The first record of each reason."""


def overview(sources: list[Source], root: Path | None) -> Sequence[Mapping[str, object]]:
    """Return a line about each source, and with a folder whether it is found there and how many files of each part.

    A folder may hold several sources, each below its own name.
    """
    rows: list[Mapping[str, object]] = []
    for source in sources:
        row: dict[str, object] = {name: getattr(source, name) for name in ("name", "summary", "preset", "licence")}
        if root is not None and source.parts:
            counts = count_parts(_folder(root, source), source)
            row |= {"found": any(counts.values()), **counts}
        rows.append(row)
    return rows


def describe(source: Source, root: Path | None) -> Mapping[str, object]:
    """Return all about a source, and with a folder what its reader finds there and which parts are missing."""
    names = ("name", "summary", "layout", "obtain", "licence", "citation", "expected", "preset", "needs_input")
    facts = {name: getattr(source, name) for name in (*names, "defaults")}
    if root is None or not source.needs_input:
        return facts
    folder = _folder(root, source)
    counts = count_parts(folder, source)
    missing = [part for part, number in counts.items() if not number]
    return facts | vars(survey(folder, source)) | counts | {"missing": ", ".join(missing) or "nothing"}


def _folder(root: Path, source: Source) -> Path:
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; name the source with --input. {source.guide()}")
    return root / source.name if (root / source.name).is_dir() else root


def count_parts(root: Path, source: Source) -> dict[str, int]:
    """Count the files of each part of a source below a folder; nothing is read."""
    patterns = {part: re.compile(text) for part, text in source.parts.items()}
    counts = dict.fromkeys(patterns, 0)
    for path in walk(root):
        for part, pattern in patterns.items():
            counts[part] += bool(pattern.search(path))
    return counts


def survey(root: Path, source: Source) -> SourceSurvey:
    """Read a source as a build would, without opening a video."""
    num_files = num_spans = 0
    people: set[str] = set()
    refused: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for video in source.list_videos(root):
        if video.reason is not None:
            refused[video.reason] += 1
            examples.setdefault(video.reason, f"{video.path}: {video.detail}")
            continue
        num_files += 1
        num_spans += len(video.spans)
        people.update(who for who in (video.identity, *(span.identity for span in video.spans)) if who)
    return SourceSurvey(
        found=num_files > 0,
        files=num_files,
        spans=num_spans,
        people=len(people),
        refused=dict(refused),
        examples=examples,
    )
