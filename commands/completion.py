"""Words that the shell offers behind an option; looked up only when somebody presses the tab key."""

from collections.abc import Iterator
from pathlib import Path

import typer


def sources(incomplete: str) -> list[tuple[str, str]]:
    """Return the names of sources, with what they are."""
    from ..manifests.sources import sources as known  # noqa: PLC0415

    return [(name, source.summary) for name, source in known().items() if name.startswith(incomplete)]


def presets(incomplete: str) -> list[str]:
    """Return the names of presets."""
    return [name for name in _presets() if name.startswith(incomplete)]


def _presets() -> list[str]:
    # The files themselves: `pipeline.config`, which reads them, takes a second to import.
    return sorted(path.stem for path in (Path(__file__).parents[1] / "pipeline" / "presets").glob("*.toml"))


def recipes(incomplete: str) -> list[str]:
    """Return the names of recipes."""
    from ..trainer.recipes.registry import recipe_names  # noqa: PLC0415

    return [name for name in recipe_names() if name.startswith(incomplete)]


def models(incomplete: str) -> list[tuple[str, str]]:
    """Return the names of model files, with what they are for."""
    from ..pipeline.models.entries import MODEL_FILES  # noqa: PLC0415

    return [(entry.name, entry.purpose) for entry in MODEL_FILES if entry.name.startswith(incomplete)]


def statuses(incomplete: str) -> list[str]:
    """Return how an item of `hs-data fetch` can end."""
    from ..pipeline.fetching.statuses import STATUSES  # noqa: PLC0415

    return [name for name in STATUSES if name.startswith(incomplete)]


def selections(context: typer.Context, incomplete: str) -> list[str]:
    """Return the named selections of the dataset that the command line names."""
    from ..manifests import selections as named  # noqa: PLC0415

    # An option that waits for its value leaves what was read before it in `args`.
    dataset = context.params.get("dataset") or next(iter(context.args), None)
    return [name for name in named.names(Path(dataset)) if name.startswith(incomplete)] if dataset else []


def settings(context: typer.Context, incomplete: str) -> list[str]:
    """Return the keys of `--set` that the command takes, each with `=`; of a key that is whole, its values too.

    A second answer with the default keeps the shell from putting a space behind the `=`.
    """
    found = {key: values for key, values in _settings(context.info_name or "") if f"{key}=".startswith(incomplete)}
    if len(found) > 1:
        return [f"{key}=" for key in found]
    typed = {key: values for key, values in _settings(context.info_name or "") if incomplete.startswith(f"{key}=")}
    words = [f"{key}={value}" for key, values in (found | typed).items() for value in values]
    return [*(f"{key}=" for key in found), *(word for word in words if word.startswith(incomplete))]


def _settings(command: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the settings of a command, each with its possible values, or its default alone."""
    from typing import Literal, get_args, get_origin  # noqa: PLC0415

    from ..manifests import settings as declared  # noqa: PLC0415

    for config, path in _configs(command):
        for key, kind, default in declared.keys(config, path=path):
            values = get_args(kind) if get_origin(kind) is Literal else (default,)
            yield key, [str(value).lower() if isinstance(value, bool) else str(value) for value in values]


def _configs(command: str) -> list[tuple[type, str]]:
    if command in ("train", "leakage"):
        from ..trainer.config import TrainConfig  # noqa: PLC0415
        from ..trainer.recipes.registry import own_recipes  # noqa: PLC0415

        recipes = {spec.config: "recipe." for spec in own_recipes().values()}
        return [(TrainConfig, ""), *recipes.items()]
    from ..pipeline.config import Config, ModelsConfig, SelectConfig  # noqa: PLC0415

    if command in ("select", "split"):
        return [(SelectConfig, "select.")]
    return [(ModelsConfig, "models.")] if command in ("models", "doctor") else [(Config, "")]
