"""Things that a build cannot begin without, told in one answer: the input folder, the output folder, the weights."""

from pathlib import Path

from ...manifests.errors import ConfigError
from ...manifests.near import choice
from ...manifests.sources import Source, get_source, sources
from ..config import Config
from ..models import registry


def named_source(name: str | None, output: Path | None) -> Source:
    """Return the source that a command names.

    Raises:
        ConfigError: none, or one that is not known.
    """
    if name is not None:
        return get_source(name)
    more = "" if output else " and --output DATASET"
    example = "begin with  hs-data build --source demo --output demo"
    raise ConfigError(f"build: needs --source NAME{more}; {choice('', sources())}; {example}")


def check(source: Source, *, input_dir: Path | None, output: Path | None, preset: str, config: Config) -> None:
    """Say all at once what is missing; weights alone are left to the build, which says the same of them.

    Raises:
        ConfigError: input or output is not named, or the input is not there.
    """
    needs = [*_input(source, input_dir), *_output(output)]
    if not needs:
        return
    needs += _weights(config)
    if len(needs) == 1:
        raise ConfigError(needs[0])
    listed = "\n".join(f"{number}. {need}" for number, need in enumerate(needs, start=1))
    words = ["hs-data build", f"--source {source.name}"]
    words += [f"--input {_folder(input_dir)}"] if source.needs_input else []
    words += [f"--output {output or 'DATASET'}"]
    words += [f"--preset {preset}"] if preset != source.preset else []
    raise ConfigError(f"--source {source.name}: {len(needs)} things are missing\n{listed}\nThen:  {' '.join(words)}")


def _folder(named: Path | None) -> Path | str:
    return "DIR" if named is None else named.parent if named.is_file() else named


def _input(source: Source, folder: Path | None) -> list[str]:
    if not source.needs_input:
        return []
    ways = f"{source.guide()}{_fetching(source)}"
    if folder is None:
        return [f"--source {source.name}: needs --input DIR, the folder of its videos. {ways}"]
    if folder.is_file():
        return [f"--input {folder}: is a file; name the folder that holds it: --source folder --input {folder.parent}"]
    if not folder.exists():
        return [f"--input {folder}: no such folder. {ways}"]
    return []


def _fetching(source: Source) -> str:
    if source.fetch != "youtube":
        return ""
    how = f"hs-data fetch --source {source.name} --input ANNOTATIONS --output DIR"
    return f"\nIts videos, where you have the annotations alone:  {how}"


def _output(folder: Path | None) -> list[str]:
    return ["--output DATASET: is not given; name a new or an empty folder to write"] if folder is None else []


def _weights(config: Config) -> list[str]:
    missing = [name for name in config.model_names if registry.find(name, config.models) is None]
    if not missing:
        return []
    sizes = "(their sizes and licences:  hs-data models)"
    return [f"weights: {registry.how_to_get(missing, config.models)}  {sizes}"]
