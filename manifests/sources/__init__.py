"""One reader per source dataset: which files it holds and what its authors say about them.

A source is a TOML that declares it and the function that the TOML names as its reader. Ours lie in this folder; other
packages bring theirs by the entry points `hs_data.sources` (docs/extending.md).
"""

import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import cast

from ..errors import ConfigError
from ..near import choice
from ..plugins import Plugin, find_plugins
from ..settings import Table, load_toml
from .annotations import Box, SourceVideo, Span

__all__ = ["Box", "Source", "SourceVideo", "Span", "find_source", "get_source", "load_source", "sources"]

LATE_S = Fraction(1, 1000)
"""Sound that begins later after the picture than this is late; less is rounding of timestamps."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source dataset that `hs-data build --source` knows."""

    name: str
    summary: str
    """Description in one line."""
    layout: str
    """The folder tree that is expected under `--input`."""
    licence: str
    """Terms in one line."""
    preset: str
    """Preset that is used when none is named."""
    reader: str
    """`module:function` that yields the files below a folder and what the source says of them, in a fixed order."""
    maker: str = ""
    """`module:function` that writes the source's videos into a folder; empty: they come from `--input`."""
    obtain: str = ""
    """Way to get it."""
    fetch: str = ""
    """Way to its videos: `youtube` by the ids in its annotations, `application` in person; empty: not at all."""
    citation: str = ""
    expected: Mapping[str, int | float] = field(default_factory=dict)
    """Numbers of the whole set, as published."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Part of the folder to the regular expression that the paths of its files contain."""
    late_sound: str = ""
    """Words of the report for files whose sound begins after the picture; empty: it is nothing special here."""
    defaults: Table = field(default_factory=dict)
    """Settings of its own, laid over the preset's."""

    @property
    def needs_input(self) -> bool:
        """True where `--input` must be given."""
        return not self.maker

    def list_videos(self, root: Path) -> Iterator[SourceVideo]:
        """Yield the files below a folder and what the source says of them, in a fixed order."""
        yield from cast(Callable[[Path], Iterator[SourceVideo]], self._load("reader"))(root)

    def make_videos(self, folder: Path) -> None:
        """Write the videos of a source that makes its own into a folder; those that are there already stay."""
        cast(Callable[[Path], object], self._load("maker"))(folder)

    def made_folder(self, dataset: Path) -> Path | None:
        """Return where in a dataset a source that makes its own videos puts them; None: it makes none."""
        return dataset / f"{self.name}_videos" if self.maker else None

    def late_note(self, audio_start_s: Fraction | float | None) -> str | None:
        """Tell of a file's sound that begins after its picture, where that is special to this source."""
        if not self.late_sound or audio_start_s is None or audio_start_s <= LATE_S:
            return None
        return (
            f"the sound's stream begins {1000 * float(audio_start_s):.0f} ms late; repaired: placed by its timestamps"
        )

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

    def _load(self, hook: str) -> object:
        # By name, and only when it is called: a maker draws with libraries that a listing of sources does not need,
        # and this room imports nothing of the rooms above it.
        path = getattr(self, hook)
        try:
            return pkgutil.resolve_name(path)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"source {self.name}: {hook} = {path!r} cannot be loaded ({error}); correct it"
            ) from error


def sources() -> dict[str, Source]:
    """Return all sources by name: ours, then those of other packages.

    Raises:
        ConfigError: a package brings one that is broken, or that has the name of another.
    """
    plugins = find_plugins("hs_data.sources", _own())
    return {name: get_source(name) for name in [*_own(), *plugins]}


def get_source(name: str) -> Source:
    """Return a source.

    Raises:
        ConfigError: there is no such source (it names those there are), or its package is broken.
    """
    own = _own()
    if name in own:
        return load_source(own[name])
    plugins = find_plugins("hs_data.sources", own)
    if name not in plugins:
        raise ConfigError(f"--source {name}: no such source; {choice(name, [*own, *plugins])}")
    return _of_plugin(plugins[name])


def find_source(name: str) -> Source | None:
    """Return the source that a dataset was made of, or None where it is not known here, or cannot be loaded now."""
    try:
        return get_source(name)
    except ConfigError:
        return None


def load_source(path: Path) -> Source:
    """Return the source that a TOML declares; its name is that of the file.

    Raises:
        ConfigError: a key is unknown or missing.
    """
    table = load_toml(path)
    known = {part.name: part for part in fields(Source) if part.name != "name"}
    if unknown := sorted(set(table) - set(known)):
        raise ConfigError(f"{path}: {unknown[0]}: a source has no such key; {choice(unknown[0], known)}")
    needed = {name for name, part in known.items() if part.default is MISSING and part.default_factory is MISSING}
    if missing := sorted(needed - set(table)):
        raise ConfigError(f"{path}: {missing[0]} is missing; docs/extending.md says what a source declares")
    return Source(name=path.stem, **table)


def _own() -> dict[str, Path]:
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}


def _of_plugin(plugin: Plugin) -> Source:
    source = plugin.load()
    if not isinstance(source, Source):
        raise plugin.fault(f"is {type(source).__name__}, not what `load_source` returns")
    if source.name != plugin.name:
        raise plugin.fault(f"names the source {source.name}, whose name is another")
    return source
