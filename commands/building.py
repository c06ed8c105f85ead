"""Build a dataset, and what there is to build from: sources, this machine."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import completion
from .terminal import JsonOption, PresetOption, SetOption, console, emit, log_to_stderr, print_json

app = typer.Typer()


@app.command(epilog="Example:  hs-data build --source folder --input videos --output dataset --preset cpu")
def build(
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Source dataset; see `hs-data sources`. Required.",
            autocompletion=completion.sources,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DATASET", help="Folder to write; resumes. Required.")
    ] = None,
    input_: Annotated[Path | None, typer.Option("--input", "-i", metavar="DIR", help="Source folder.")] = None,
    preset: PresetOption = None,
    config: Annotated[Path | None, typer.Option(metavar="F.toml", help="Settings laid over the preset's.")] = None,
    set_: SetOption = [],  # noqa: B006 - typer copies it
    executor: Annotated[Literal["ray", "local"], typer.Option(help="Where workers run; the dataset is equal.")] = "ray",
    workers: Annotated[int, typer.Option(min=0, help="Workers; 0: one per core, of the Ray cluster if any.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N files.")] = None,
    shard: Annotated[str | None, typer.Option(metavar="i/n", help="Only part i of n, for job arrays.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and write nothing.")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="Try 50 files and tell hours, disk and yield.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn video into a training-ready dataset: plan, score, select, encode, finalize, report.

    Killed or stopped, it goes on where it was when the same command is run again. Inputs are never changed.
    """
    from ..pipeline.run import command  # noqa: PLC0415

    request = command.make_request(
        source=source,
        output=output,
        input_dir=input_,
        preset=preset,
        config_file=config,
        assignments=set_,
        executor=executor,
        num_workers=workers,
        limit=limit,
        shard=shard,
    )
    log_to_stderr()
    if dry_run:
        emit(command.dry_run(request), as_json)
        return
    if estimate:
        emit(command.estimate(request, console()), as_json)
        return
    summary = command.build(request, console())
    if as_json:
        print_json(summary)
    else:
        print(request.dataset)  # noqa: T201 - data: where the dataset is


@app.command(epilog="Example:  hs-data sources vfhq --input VFHQ")
def sources(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Show one source in full.", autocompletion=completion.sources),
    ] = None,
    input_: Annotated[Path | None, typer.Option("--input", "-i", metavar="DIR", help="Look what is there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the source datasets that can be built, or show one: layout, licence, how to get it, what is there.

    With --input and a NAME that is not found there, the exit code is 1.
    """
    from ..manifests import sources as known  # noqa: PLC0415
    from ..manifests.sources import survey  # noqa: PLC0415

    if name is None:
        emit(survey.overview(list(known.sources().values()), input_), as_json)
        return
    facts = survey.describe(known.get_source(name), input_)
    emit(facts, as_json)
    raise typer.Exit(0 if facts.get("found", True) else 1)


@app.command(epilog="Example:  hs-data doctor")
def doctor(set_: SetOption = [], as_json: JsonOption = False) -> None:  # noqa: B006
    """Check this machine: decoders on tiny clips made on the spot, packages, GPU, disk, Ray, models."""
    from ..pipeline.doctor import examine  # noqa: PLC0415

    findings = list(examine(set_))
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        print(*findings, sep="\n")  # noqa: T201 - data
    raise typer.Exit(0 if all(finding.state != "missing" for finding in findings) else 1)
