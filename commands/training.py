"""Train a model on the shards of datasets."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .terminal import JsonOption, SetOption, emit, log_to_stderr

app = typer.Typer()


@app.command(epilog="Example:  hs-data train demo --recipe highsync-stage1 --size tiny --steps 200 -o run1")
def train(
    dataset: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Folder or URI; several as A=0.7 B=0.3.")],
    recipe: Annotated[str, typer.Option(help="What is trained: highsync-stage1, highsync-stage2.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")],
    size: Annotated[Literal["full", "tiny"] | None, typer.Option(help="full: SD 1.5's; tiny: for a CPU.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    init: Annotated[
        list[str], typer.Option(metavar="[PART=]PATH", help="Weights to begin with: a run, or a published file.")
    ] = [],  # noqa: B006 - typer copies it
    config: Annotated[Path | None, typer.Option(metavar="F.toml", help="Settings; see docs/training.md.")] = None,
    set_: SetOption = [],  # noqa: B006 - typer copies it
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN.")] = False,
    allow_other_data: Annotated[bool, typer.Option("--allow-other-data", help="Resume on other clips too.")] = False,
    launcher: Annotated[Literal["torchrun", "ray"], typer.Option(help="Who starts the processes.")] = "torchrun",
    nproc: Annotated[int, typer.Option(min=1, help="Processes: one for each GPU.")] = 1,
    overfit: Annotated[bool, typer.Option("--overfit", help="First see that 32 samples can be learnt by heart.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train 2 steps and tell memory, hours and disk.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a lip-sync diffusion model on datasets of `hs-data build`.

    Losses go to RUN/metrics.jsonl, checkpoints to RUN/checkpoints. Stopped (SIGTERM or Ctrl-C), it saves; with --resume it
    goes on exactly where it was.
    """
    from ..trainer import launch, preflight, request  # noqa: PLC0415

    log_to_stderr()
    over: dict = {"model": {"size": size} if size else {}, "run": {"steps": steps} if steps else {}}
    setup = request.make_setup(
        datasets=dataset,
        recipe=recipe,
        output=output,
        config_file=config,
        assignments=set_,
        over=over,
        init=init,
        resume=resume,
        other_data=allow_other_data,
    )
    if dry_run:
        emit(preflight.try_out(setup), as_json)
        return
    if overfit:
        emit(preflight.overfit(setup), as_json)
    launch.launch(setup, launcher, nproc)
    print(output)  # noqa: T201 - data: where the run is
