"""Which file shows which annotated clip: the full video it was cut from, or a file cut by somebody's script."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from .annotations import SourceVideo, Span
from .folder import AUDIO_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class AnnotatedClip:
    """A stretch of an original video, and the names that files may have which show it."""

    span: Span
    """Stretch of the original video."""
    video: str
    """Name of the original video; letters, digits, `_` and `-` only, for a path is made of it."""
    full_stems: tuple[str, ...]
    """Names of a file that holds the whole original, without ending, the likeliest first."""
    cut_stems: tuple[str, ...]
    """Names of a file that holds this clip only."""
    youtube_id: str | None
    split: str | None = None


Named = Callable[[str], SourceVideo | None]


def match(
    media: Sequence[str],
    clips: Iterable[AnnotatedClip],
    *,
    named: Named,
    alias: Callable[[str], str] = str,
) -> Iterator[SourceVideo]:
    """Yield the files that show annotated clips, and one refused record for whatever else there is.

    A clip is taken from its full video, whose pixels nobody has encoded again, and else from a cut file.

    Args:
        media: the files that are there.
        clips: the annotations.
        named: what a file's path alone tells, used only where nothing is annotated; None: nothing.
        alias: turns a file's name without ending into the one that `cut_stems` has.
    """
    # Three passes, in this order: annotations claim files; what they name but is not there is told; files that nobody
    # claimed are told. So every file and every annotation ends as exactly one record.
    files = _MediaFiles(media, alias)
    used: dict[str, SourceVideo] = {}
    missing: dict[str, list[AnnotatedClip]] = {}
    is_annotated = False
    for clip in clips:
        is_annotated = True
        full, cut = files.find(clip.full_stems), files.find(clip.cut_stems)
        if full is not None:
            # The clip's times and box hold in the full video, and a cut file of the same stretch would show it twice.
            _add(used, full, clip, clip.span)
            files.retire(clip.cut_stems, f"is cut from {full}, which is used")
        elif cut is not None:
            # The file is the stretch: it is taken whole, and boxes of the original picture no longer fit, for it may
            # be cropped or scaled. A name that drops the person or the frames may stand for several clips; the first
            # of them has it.
            if cut not in used:
                _add(used, cut, clip, replace(clip.span, start_s=Span.start_s, end_s=None, box=None, boxes=b""))
        else:
            missing.setdefault(clip.video, []).append(clip)
    yield from used.values()
    # One record for each video that is gone, not for each of its clips: it is the video that can be fetched.
    yield from map(_missing, missing.values())
    for path in media:
        if path in used:
            continue
        other = files.twin_of(path) or files.retired.get(path)
        # A name tells who is seen, but not when. Where annotations are there, a file that they do not name is
        # none of the source's, and its name does not bring it in.
        by_name = None if is_annotated else named(path)
        if other is not None:
            yield SourceVideo(path=path, reason="duplicate", detail=other)
        elif by_name is not None:
            yield by_name
        else:
            detail = "no annotation names it" if is_annotated else "neither an annotation nor its name tells what it is"
            yield SourceVideo(
                path=path, reason="annotation_missing", detail=f"{detail}; --source folder takes any file"
            )


class _MediaFiles:
    """The files by name without ending; of several with one name, a video before a sound, then by path."""

    def __init__(self, media: Sequence[str], alias: Callable[[str], str]) -> None:
        self._alias = alias
        self._by_stem: dict[str, str] = {}
        self._claimed: set[str] = set()
        self.retired: dict[str, str] = {}
        for path in sorted(media, key=lambda path: (PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES, path)):
            self._by_stem.setdefault(self._stem(path), path)

    def find(self, stems: Sequence[str]) -> str | None:
        found = next((self._by_stem[stem] for stem in stems if stem in self._by_stem), None)
        if found is not None:
            self._claimed.add(found)
        return found

    def retire(self, stems: Sequence[str], why: str) -> None:
        for path in (self._by_stem[stem] for stem in stems if stem in self._by_stem):
            self.retired[path] = why

    def twin_of(self, path: str) -> str | None:
        first = self._by_stem[self._stem(path)]
        # Where the first of a name is not used either, each file is told for itself.
        return None if first == path or first not in self._claimed else f"{first} has the same name and is used"

    def _stem(self, path: str) -> str:
        return self._alias(PurePosixPath(path).stem)


def _add(used: dict[str, SourceVideo], path: str, clip: AnnotatedClip, span: Span) -> None:
    known = used.get(path)
    if known is None:
        known = SourceVideo(path=path, identity=span.identity, youtube_id=clip.youtube_id, split=clip.split)
    used[path] = replace(known, spans=(*known.spans, span))


def _missing(clips: list[AnnotatedClip]) -> SourceVideo:
    first = clips[0]
    more = f" and {len(clips) - 1} more" if len(clips) > 1 else ""
    names = " or ".join(dict.fromkeys(f"{stem}.*" for stem in (*first.full_stems, *first.cut_stems)))
    return SourceVideo(
        path=f"{first.video}.mp4",
        identity=first.span.identity,
        youtube_id=first.youtube_id,
        reason="unavailable",
        detail=f"named by {first.span.where}{more}; no file {names}",
    )
