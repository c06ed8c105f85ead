"""Look at a dataset and judge it again."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import (
    DatasetArgument,
    JsonOption,
    SelectionOption,
    SetOption,
    console,
    emit,
    plain,
    print_json,
    print_lines,
)

app = typer.Typer()


@app.command(epilog="Example:  hs-data report dataset --previews 24 --benchmark test_ids.txt")
def report(
    dataset: DatasetArgument,
    previews: Annotated[int, typer.Option(metavar="N", min=0, help="Films of kept clips to make and embed.")] = 6,
    benchmark: Annotated[
        list[Path],
        typer.Option(metavar="LIST", help="Ids, paths or sha256 of a benchmark set, one a line; may be repeated."),
    ] = [],  # noqa: B006
    selection: SelectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the funnel and write report/index.html, report/report.json and the dataset card README.md."""
    from ..manifests.commits import total_costs  # noqa: PLC0415
    from ..manifests.dataset import open_dataset  # noqa: PLC0415
    from ..pipeline.report import page  # noqa: PLC0415
    from ..pipeline.report.terminal import funnel_table  # noqa: PLC0415

    opened = open_dataset(dataset, selection)
    written = page.make_report(opened, total_costs(dataset), num_previews=previews, benchmarks=benchmark)
    if as_json:
        print_json([stage.to_json() for stage in written.stages])
    else:
        console(stderr=False).print(funnel_table(written.stages))
    for note in (written.sync, *written.warnings):
        console().print(f"note: {plain(note)}", highlight=False, soft_wrap=True)
    console().print(f"page: {plain(str(written.page))}", highlight=False, soft_wrap=True)


@app.command(epilog="Example:  hs-data why dataset talk.mp4")
def why(
    dataset: DatasetArgument,
    name: Annotated[str, typer.Argument(metavar="CLIP|FILE", help="A clip id or its beginning, or a file's path.")],
    selection: SelectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the whole story of one clip or one file: found, measured, decided, and why."""
    from ..manifests.dataset import open_dataset  # noqa: PLC0415
    from ..pipeline.report import story  # noqa: PLC0415

    opened = open_dataset(dataset, selection)
    if as_json:
        files, clips = story.find(opened, name)
        print_json({"files": files, "clips": clips})
        return
    print_lines(story.tell(opened, name))


@app.command(epilog="Example:  hs-data select dataset --set select.min_face_px=300")
def select(
    dataset: DatasetArgument,
    set_: SetOption = [],  # noqa: B006
    config: Annotated[Path | None, typer.Option(metavar="F.toml", help="A TOML file with a `select` table.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget the limits that earlier calls set.")] = False,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Save as a named selection, change no other.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge all clips again under other limits, without decoding; the next build encodes what is newly kept.

    With --name the rules, laid over the dataset's own, and the verdicts are saved beside it, for `--selection NAME`.
    """
    from ..manifests.lock import lock_written  # noqa: PLC0415
    from ..pipeline.maintain import reselect  # noqa: PLC0415

    with lock_written(dataset, "select", writes=not dry_run):
        change = reselect.reselect(
            dataset, assignments=set_, config_file=config, reset=reset, dry_run=dry_run, name=name
        )
    emit(change, as_json)
    if name and change["to_encode"]:
        waiting = f"{change['to_encode']} of the {change['kept_now']} clips that {plain(name)} keeps are not encoded"
        hint = "it can only narrow until the dataset's own selection keeps them and is built"
        console().print(f"note: {waiting}; {hint}", highlight=False, soft_wrap=True)


@app.command(epilog="Example:  hs-data verify dataset --decode 8")
def verify(
    dataset: DatasetArgument,
    decode: Annotated[int, typer.Option(metavar="N", min=0, help="Turn the latents of N clips into pictures.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check hashes, counts, shapes, finiteness, sound lengths and duplicates; exit 1 when something is wrong."""
    from ..manifests.dataset import open_dataset  # noqa: PLC0415
    from ..manifests.verify import verify as check  # noqa: PLC0415

    opened = open_dataset(dataset)
    decoder = None
    if decode:
        from ..pipeline.networks import decoder_for  # noqa: PLC0415

        decoder = decoder_for(opened)
    faults = [vars(fault) for fault in check(opened, decode=decoder, num_decoded=decode)]
    emit(faults, as_json)
    shown = f"{len(opened)} clips in {len(opened.index.shards)} shards: {len(faults) or 'no'} faults"
    console().print(shown, highlight=False)
    raise typer.Exit(1 if faults else 0)
