"""One reader per source dataset: which files it holds and what its authors say about them."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError
from ..near import choice
from ..settings import Table, load_toml
from .annotations import Box, SourceVideo, Span
from .celebvhq import list_celebvhq
from .folder import list_folder
from .hdtf import list_hdtf
from .highsync import list_highsync
from .latentsync import list_latentsync
from .lrs import list_lrs2, list_lrs3
from .talkvid import list_talkvid
from .vfhq import list_vfhq
from .voxceleb2 import list_voxceleb2

__all__ = ["READERS", "Box", "Source", "SourceVideo", "Span", "get_source", "sources"]

Reader = Callable[[Path], Iterator[SourceVideo]]
READERS: Mapping[str, Reader] = {
    "celebvhq": list_celebvhq,
    "demo": list_folder,
    "folder": list_folder,
    "hdtf": list_hdtf,
    "highsync": list_highsync,
    "latentsync": list_latentsync,
    "lrs2": list_lrs2,
    "lrs3": list_lrs3,
    "talkvid": list_talkvid,
    "vfhq": list_vfhq,
    "voxceleb2": list_voxceleb2,
}
"""Source to its reader; each has a TOML of the same name that says the rest."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source dataset that `hs-data build --source` knows."""

    name: str
    summary: str
    """What it is, in one line."""
    layout: str
    """The folder tree that is expected under `--input`."""
    licence: str
    """Terms in one line."""
    preset: str
    """Preset that is used when none is named."""
    needs_input: bool
    """Whether `--input` must be given."""
    obtain: str = ""
    """How to get it."""
    fetch: str = ""
    """How its videos are had: `youtube` by the ids in its annotations, `application` in person; empty: not at all."""
    citation: str = ""
    expected: Mapping[str, int | float] = field(default_factory=dict)
    """What the whole set holds, as published."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """What the folder should hold, and the regular expression that the paths of such files contain."""
    defaults: Table
    """Settings of its own, laid over the preset's."""
    list_videos: Reader
    """Yields the files below a folder and what the source says of them, in a fixed order."""

    def is_annotation(self, path: str) -> bool:
        """Tell by its path below the folder whether a file is one of its annotations."""
        pattern = self.parts.get("annotations")
        return pattern is not None and re.search(pattern, path) is not None

    def guide(self) -> str:
        """Say what is expected under `--input` and how to get it."""
        parts = [f"Expected under --input:\n{self.layout.strip()}"]
        if self.obtain:
            parts.append(f"How to get it:\n{self.obtain.strip()}")
        return "\n".join(parts)


def sources() -> dict[str, Source]:
    """Return all sources by name."""
    return {path.stem: _load(path) for path in sorted(Path(__file__).parent.glob("*.toml"))}


def get_source(name: str) -> Source:
    """Return a source; raise `ConfigError` that names those there are."""
    known = sources()
    if name not in known:
        raise ConfigError(f"--source {name}: no such source; {choice(name, known)}")
    return known[name]


def _load(path: Path) -> Source:
    table = load_toml(path)
    return Source(name=path.stem, list_videos=READERS[path.stem], defaults=table.pop("defaults", {}), **table)
