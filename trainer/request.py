"""From the words of a command to the setup of a run: every `auto` resolved, the data looked at."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..manifests import settings
from ..manifests.dataset import open_dataset
from .config import TrainConfig
from .data.order import parse_datasets
from .preflight import check_shards
from .recipes.registry import find_recipe, make_recipe
from .setup import TrainSetup


def make_setup(
    *,
    datasets: Sequence[str],
    recipe: str,
    output: Path,
    config_file: Path | None = None,
    assignments: Sequence[str] = (),
    over: settings.Table | None = None,
    init: Sequence[str] = (),
    resume: bool = False,
    other_data: bool = False,
    go_on: str = TrainSetup.go_on,
) -> TrainSetup:
    """Resolve the settings of a run and look at its data.

    Args:
        datasets: folders, with weights where there are several: `A=0.7,B=0.3`.
        recipe: name of a recipe.
        output: the run's folder.
        config_file: TOML of settings.
        assignments: `key=value` laid over it.
        over: laid over all, from options of the command.
        init: weights to begin with.
        resume: go on with the run in `output`.
        other_data: whether it may go on with other samples, or on latents that its weights do not know.
        go_on: what to do to go on with the run once it was stopped, for messages.

    Raises:
        ConfigError: settings that cannot be used.
        DatasetError: a dataset that is not there or not whole.
    """
    data: settings.Table = {"data": {"datasets": list(datasets)}} if datasets else {}
    config, options = resolve(recipe, file=config_file, assignments=assignments, over=settings.merge(over or {}, data))
    for dataset in parse_datasets(config.data.datasets):
        if "://" not in dataset.location:
            check_shards(open_dataset(Path(dataset.location)))
    run = config.run
    cuda = run.device == "cuda" or (run.device == "auto" and torch.cuda.is_available())
    precision = run.precision if run.precision != "auto" else "bfloat16" if cuda else "float32"
    run = replace(run, device="cuda" if cuda else "cpu", precision=precision)
    return TrainSetup(
        recipe=recipe,
        config=replace(config, run=run),
        options=options,
        run=str(output),
        init=tuple(init),
        resume=resume,
        other_data=other_data,
        go_on=go_on,
    )


def resolve(
    recipe: str, *, file: Path | None, assignments: Sequence[str], over: settings.Table
) -> tuple[TrainConfig, settings.Table]:
    """Lay the layers over each other, the later winning: defaults, file, `--set`, what the command line says.

    Returns:
        The settings, and the recipe's own as a table that `make_recipe` has accepted.

    Raises:
        ConfigError: an unknown recipe or key, or a value that cannot be used.
    """
    spec = find_recipe(recipe)
    table = settings.merge(
        settings.load_toml(file) if file else {}, settings.parse_assignments(list(assignments)), over
    )
    if settings.section(table, "model").get("size") == "tiny":
        table = settings.merge(spec.tiny, table)
    own = settings.section(table, "recipe")
    table.pop("recipe", None)
    make_recipe(recipe, own)
    others = [key for key, _, _ in settings.keys(spec.config, path="recipe.")]
    return settings.build(TrainConfig, table, others=others), own
