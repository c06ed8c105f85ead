"""Train a model on the shards of datasets."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import completion
from .terminal import JsonOption, SetOption, console, emit, log_to_stderr, print_json

app = typer.Typer()


@app.command(epilog="Example:  hs-data train demo --recipe highsync-stage1 --size tiny --steps 200 -o run1")
def train(
    dataset: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Folder or URI; several as A=0.7 B=0.3.")],
    recipe: Annotated[
        str,
        typer.Option(help="What is trained: highsync-stage1, highsync-stage2.", autocompletion=completion.recipes),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")],
    size: Annotated[Literal["full", "tiny"] | None, typer.Option(help="full: SD 1.5's; tiny: for a CPU.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    init: Annotated[
        list[str], typer.Option(metavar="[PART=]PATH", help="Weights to begin with: a run, or a published file.")
    ] = [],  # noqa: B006 - typer copies it
    config: Annotated[Path | None, typer.Option(metavar="F.toml", help="Settings; see docs/training.md.")] = None,
    set_: SetOption = [],  # noqa: B006 - typer copies it
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN.")] = False,
    allow_other_data: Annotated[
        bool, typer.Option("--allow-other-data", help="Other clips or latents than those learnt.")
    ] = False,
    launcher: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local: here, or in processes of torchrun; ray: by Ray Train."),
    ] = "local",
    nproc: Annotated[int, typer.Option(min=1, help="Processes: one for each GPU.")] = 1,
    overfit: Annotated[
        bool, typer.Option("--overfit", help="First see that 32 samples can be learnt by heart.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train 2 steps and tell memory, hours and disk.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a lip-sync diffusion model on datasets of `hs-data build`.

    Losses go to RUN/metrics.jsonl, checkpoints to RUN/checkpoints. Stopped by Ctrl-C or SIGTERM, it saves and says the
    command that goes on exactly where it was; a second Ctrl-C ends it at once.
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
        go_on=_command_to_go_on(sys.argv[1:]),
    )
    launch.check_processes(setup, launcher, nproc)
    if dry_run:
        emit(asdict(preflight.try_out(setup)), as_json)
        return
    if overfit:
        emit(asdict(preflight.overfit(setup)), as_json)
    launch.launch(setup, launcher, nproc)
    print(output)  # noqa: T201 - data: where the run is


def _command_to_go_on(words: list[str]) -> str:
    once = ("--resume", "--overfit")  # nothing is to be learnt by heart a second time
    return shlex.join(["hs-data", *(word for word in words if word not in once), "--resume"])


@app.command(epilog="Example:  hs-data generate run1 --video talk.mp4 --audio other.wav -o out.mp4")
def generate(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="A run of `hs-data train`, or a checkpoint.")],
    video: Annotated[Path, typer.Option(metavar="V", help="Video with a face.")],
    audio: Annotated[Path, typer.Option(metavar="A", help="File with the sound to say.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.mp4", help="Video to write.")],
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(min=0, max=100, help="1: none; HighSync publishes 3.5.")] = 1.0,
    window: Annotated[int, typer.Option(min=1, help="Frames denoised together.")] = 12,
    overlap: Annotated[int, typer.Option(min=0, help="Frames that windows share.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network runs.")] = "auto",
    set_: SetOption = [],  # noqa: B006 - typer copies it
    as_json: JsonOption = False,
) -> None:
    """Make a video speak another sound with a trained network: same size, same frame rate, only the mouth is new.

    The video goes through the very steps of `hs-data build` that the network was trained on; --set changes their
    settings, such as models.dir. The output ends with the shorter of video and sound.
    """
    from ..trainer import generate as generating  # noqa: PLC0415
    from ..trainer.recipes.recipe import SamplingConfig  # noqa: PLC0415

    log_to_stderr()
    sampling = SamplingConfig(steps=steps, guidance=guidance, window=window, overlap=overlap, seed=seed)
    facts = generating.generate(
        checkpoint,
        video=video,
        sound=audio,
        output=output,
        sampling=sampling,
        assignments=set_,
        device=device,
        console=console(),
    )
    if as_json:
        print_json(facts)
    else:
        print(output)  # noqa: T201 - data: where the video is


@app.command(epilog="Example:  hs-data weights run2 --to highsync -o released")
def weights(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="A run of `hs-data train`, or a checkpoint.")],
    to: Annotated[str, typer.Option("--to", help="Whose names and files: diffusers, highsync.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to make.")],
    as_json: JsonOption = False,
) -> None:
    """Write the weights of a run for diffusers, or for HighSync's own scripts.

    Averaged weights, where the run has them. `hs-data train --init` reads the files back, exactly.
    """
    from ..trainer.publish import publish  # noqa: PLC0415

    log_to_stderr()
    files = [str(path) for path in publish(checkpoint, to=to, output=output)]
    if as_json:
        print_json(files)
    else:
        print("\n".join(files))  # noqa: T201 - data: what was written
