"""One reader per source dataset: which files it holds and what its authors say about them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..settings import Table, load_toml
from .folder import SourceVideo, list_folder


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
    defaults: Table
    """Settings of its own, laid over the preset's."""
    list_videos: Callable[[Path], Iterator[SourceVideo]]
    """Yields the files below a folder, in a fixed order."""


def sources() -> dict[str, Source]:
    """Return all sources by name."""
    return {path.stem: _load(path) for path in sorted(Path(__file__).parent.glob("*.toml"))}


def get_source(name: str) -> Source:
    """Return a source; raise `ConfigError` that names those there are."""
    known = sources()
    if name not in known:
        raise ConfigError(f"--source {name}: no such source; choose one of {', '.join(known)}")
    return known[name]


def _load(path: Path) -> Source:
    table = load_toml(path)
    return Source(name=path.stem, list_videos=list_folder, defaults=table.pop("defaults", {}), **table)
