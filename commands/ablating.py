"""Experiments that change one thing at a time."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import completion
from .terminal import DatasetArgument, JsonOption, SetOption, console, log_to_stderr, print_json

app = typer.Typer()


@app.callback(epilog="Example:  hs-data ablate leakage demo -o ablation --size tiny --steps 200")
def ablate() -> None:
    """Train networks that differ in one thing, and measure what it changes."""


@app.command(epilog="Example:  hs-data ablate leakage demo -o ablation --size tiny --steps 200 --seeds 0,1")
def leakage(
    dataset: DatasetArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write; resumes.")],
    input_: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="DIR", help="What DATASET was built from.")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="What is trained, with temporal attention.", autocompletion=completion.recipes)
    ] = "highsync-stage2",
    size: Annotated[Literal["full", "tiny"], typer.Option(help="full: SD 1.5's; tiny: for a CPU.")] = "full",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps of each stage.")] = None,
    seeds: Annotated[str, typer.Option(metavar="N,...", help="A network for each.")] = "0,1,2",
    policies: Annotated[
        str, typer.Option(metavar="NAME,...", help="Crop policies; compared with the first.")
    ] = "per_frame,centre,highsync",
    one_stage: Annotated[
        bool, typer.Option("--one-stage", help="Stage 2 alone, from nothing, all weights training.")
    ] = False,
    init: Annotated[
        list[str], typer.Option(metavar="[PART=]PATH", help="Weights that every first stage begins with.")
    ] = [],  # noqa: B006 - typer copies it
    set_: SetOption = [],  # noqa: B006 - typer copies it
    executor: Annotated[Literal["ray", "local"], typer.Option(help="Where clips are cut.")] = "ray",
    workers: Annotated[int, typer.Option(min=0, help="Workers that cut clips; 0: one per core.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure whether a crop that follows the mouth makes a network listen less: crop policies x temporal attention.

    The clips of DATASET are cut under each policy, and otherwise equal networks are trained on them and judged on the
    same held-out clips and noise: how much worse is another clip's sound than the own one? --set changes training.
    Arms that are done are not run again. Writes ablation.json and ablation.html.
    """
    from ..trainer.ablation import Ablation, run_ablation  # noqa: PLC0415

    log_to_stderr()
    facts = run_ablation(
        Ablation(
            dataset=dataset,
            folder=output,
            recipe=recipe,
            policies=tuple(word.strip() for word in policies.split(",")),
            seeds=_whole_numbers(seeds),
            size=size,
            steps=steps,
            one_stage=one_stage,
            init=tuple(init),
            assignments=tuple(set_),
        ),
        input_dir=input_,
        executor=executor,
        num_workers=workers,
        console=console(),
    )
    if as_json:
        print_json(facts)
    else:
        print(output / "ablation.html")  # noqa: T201 - data: where the page is


def _whole_numbers(seeds: str) -> tuple[int, ...]:
    from ..manifests.errors import ConfigError  # noqa: PLC0415

    words = [word.strip() for word in seeds.split(",")]
    if not all(word.isdigit() for word in words):
        raise ConfigError(f"--seeds {seeds}: write whole numbers, for example 0,1,2")
    return tuple(map(int, words))
