"""Does the crop tell the mouth? Otherwise equal networks on the same clips, cut and attended to in different ways."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from ..manifests import settings
from ..manifests.dataset import open_dataset
from ..manifests.errors import ConfigError
from ..manifests.storage import read_json, write_bytes, write_json
from ..pipeline.report.ablation import AblationFacts, Condition, ablation_page, ablation_table
from ..pipeline.run.recrop import recrop
from .audio_gap import ArmPairs, summarise_arms
from .checkpoint import checkpoints, find_checkpoint, read_state
from .config import TrainConfig
from .data.config import open_validation
from .launch import launch
from .networks import load_network
from .recipes.recipe import AblationStages
from .recipes.registry import find_recipe
from .request import make_setup
from .setup import TrainSetup
from .validation import Pair, compare_sounds

logger = logging.getLogger(__name__)
BATCH = 8
"""Samples judged at once, in every arm: a sample hears the sound of the one before it in its batch."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """An ablation as it is asked for."""

    dataset: Path
    folder: Path
    """Where all of it goes; an ablation that was stopped goes on there."""
    recipe: str
    """Recipe with temporal attention, whose spec says how it is compared."""
    policies: tuple[str, ...] = ("per_frame", "centre", "highsync")
    """Crop policies; the others are compared with the first one."""
    seeds: tuple[int, ...] = (0, 1, 2)
    size: str = "full"
    steps: int | None = None
    """Optimizer steps of each stage; None: `run.steps`."""
    one_stage: bool = False
    """The recipe alone, from nothing, with all its weights: with random ones left as they are, it would learn little.
    Else its first stage, and then the recipe as published."""
    init: tuple[str, ...] = ()
    """Weights that the first stage of every arm begins with."""
    assignments: tuple[str, ...] = ()
    """Settings of training, the same for all arms."""

    def __post_init__(self) -> None:
        for name in ("policies", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"--{name}: name one or more, each once")


def run_ablation(
    ablation: Ablation, *, input_dir: Path | None, executor: str, num_workers: int, console: Console
) -> AblationFacts:
    """Cut the clips, train and judge every arm that is not done, and write `ablation.json` and `ablation.html`.

    An arm is a crop policy, the temporal attention and a seed. Stage 1 has no temporal attention, so the arms of a
    policy and a seed share it.

    Args:
        ablation: what to compare.
        input_dir: what the dataset was built from; None for a source that makes its own videos.
        executor: `ray` or `local`, for cutting the clips.
        num_workers: of it; 0: one per core.
        console: where progress and the table are shown.

    Returns:
        Content of `ablation.json`.

    Raises:
        ConfigError: the folder holds an ablation with other settings.
        HsDataError: as a build and a run.
    """
    _stages(ablation)  # refused before anything is cut
    dataset = open_dataset(ablation.dataset)
    told = _check_settings(ablation, dataset.index.tables)
    folders = {}
    for policy in ablation.policies:
        console.print(f"ablation: clips under crop.policy={policy}", highlight=False)
        folders[policy] = ablation.folder / "data" / policy
        recrop(
            dataset,
            folders[policy],
            policy,
            input_dir=input_dir,
            executor=executor,
            num_workers=num_workers,
            console=console,
        )
    arms = list(_arms(ablation, folders, console))
    summaries, differences = summarise_arms(arms)
    facts = AblationFacts(settings=told, seeds=ablation.seeds, arms=summaries, differences=differences)
    write_json(ablation.folder / "ablation.json", facts)
    write_bytes(ablation.folder / "ablation.html", ablation_page(facts).encode())
    console.print(ablation_table(facts))
    return facts


def _check_settings(ablation: Ablation, tables: Mapping[str, str]) -> dict[str, object]:
    """Write down what all arms have in common, and refuse a folder where it was something else."""
    told = {**asdict(ablation), "init": list(ablation.init), "assignments": list(ablation.assignments)}
    told |= {"dataset": str(ablation.dataset.resolve()), "tables": dict(tables)}
    for name in ("folder", "policies", "seeds"):  # more of them may be asked for later
        del told[name]
    path = ablation.folder / "settings.json"
    if path.is_file():
        before = read_json(path)
        if differing := [name for name in told if before.get(name) != told[name]]:
            raise ConfigError(
                f"--output {ablation.folder}: holds an ablation with {differing[0]}={before.get(differing[0])!r}; "
                "ask for the same, or name another folder"
            )
    write_json(path, told)
    return told


def _arms(ablation: Ablation, folders: Mapping[str, Path], console: Console) -> Iterator[ArmPairs]:
    """Yield every arm with its losses, those that are done out of their files."""
    conditions = [(policy, masked) for policy in ablation.policies for masked in (True, False)]
    number, total = 0, len(conditions) * len(ablation.seeds)
    for seed in ablation.seeds:
        for policy, masked in conditions:
            number += 1
            condition = Condition(policy=policy, masked=masked)
            console.print(f"ablation: arm {number} of {total}, {condition}, seed {seed}", highlight=False)
            yield ArmPairs(condition=condition, seed=seed, pairs=_arm(ablation, folders[policy], condition, seed))


def _arm(ablation: Ablation, data: Path, condition: Condition, seed: int) -> list[Pair]:
    """Return the losses of an arm; its file is written last, so an arm that has one is done."""
    folder = ablation.folder / "runs" / f"{condition.policy}-seed{seed}"
    attention = "masked" if condition.masked else "unmasked"
    done = folder / f"{attention}.json"
    if not done.is_file():
        first = () if ablation.one_stage else (str(_train(ablation, data, folder / "stage1", seed, masked=True)),)
        run = _train(ablation, data, folder / attention, seed, masked=condition.masked, after=first)
        write_json(done, {"run": run.name, "pairs": [asdict(pair) for pair in judge_run(run)]})
    return [Pair(**pair) for pair in read_json(done)["pairs"]]


def _train(ablation: Ablation, data: Path, run: Path, seed: int, *, masked: bool, after: tuple[str, ...] = ()) -> Path:
    """Train one stage, or go on with it, and return its folder."""
    stages = _stages(ablation)
    over: settings.Table = {"model": {"size": ablation.size, "masked_motion": masked}, "run": {"seed": seed}}
    over["run"] |= {"steps": ablation.steps} if ablation.steps else {}
    over |= {"recipe": dict(stages.train_all)} if ablation.one_stage else {}
    setup = make_setup(
        datasets=[str(data)],
        recipe=stages.first if run.name == "stage1" else ablation.recipe,
        output=run,
        assignments=["run.keep_last=1", *ablation.assignments],
        over=over,
        init=after or ablation.init,
        resume=bool(checkpoints(run)),
        go_on="the same command",
    )
    if not _is_trained(setup):
        launch(setup, "local", 1)
    return run


def _stages(ablation: Ablation) -> AblationStages:
    stages = find_recipe(ablation.recipe).ablation
    if stages is None:
        raise ConfigError(f"--recipe {ablation.recipe}: has no temporal attention to compare; name another recipe")
    return stages


def _is_trained(setup: TrainSetup) -> bool:
    run = Path(setup.run)
    return setup.resume and read_state(find_checkpoint(run)).step >= setup.config.run.steps


def judge_run(run: Path) -> list[Pair]:
    """Return the losses of a finished run on its held-out samples, with their own sound and another clip's.

    Windows, noise and timesteps depend on the held-out clips alone, so they are the same in all arms.

    Args:
        run: a folder that `hs-data train` wrote.

    Raises:
        HsDataError: no checkpoint, or its dataset is not there.
    """
    checkpoint = find_checkpoint(run)
    state = read_state(checkpoint)
    tables = {name: table for name, table in state.config.items() if name != "recipe"}
    config = settings.build(TrainConfig, tables)
    device = torch.device(config.run.device)
    recipe, network = load_network(checkpoint, state, device)
    samples = open_validation(config.data, recipe)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.run.precision == "bfloat16"):
        return compare_sounds(
            network,
            recipe,
            samples,
            recipe.make_schedule(),
            num_samples=config.data.num_val_samples,
            batch_size=BATCH,
            device=device,
        )
