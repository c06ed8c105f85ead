"""Keep datasets in order: forget, merge, split again, free space."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .terminal import DatasetArgument, JsonOption, SetOption, console, emit

app = typer.Typer()
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would change and write nothing.")]


@app.command(epilog="Example:  hs-data forget dataset --source talks/anna.mp4 --dry-run")
def forget(
    dataset: DatasetArgument,
    source: Annotated[str | None, typer.Option(metavar="ID", help="A file: its sha256, path or YouTube id.")] = None,
    identity: Annotated[str | None, typer.Option(metavar="ID", help="A person, as the source names them.")] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove every byte of a source video or of a person from a dataset, and have later builds leave them out.

    Killed, it is finished by the next `hs-data forget DATASET` or build; inputs stay.
    """
    from ..manifests.lock import lock_written  # noqa: PLC0415
    from ..pipeline.maintain import forget as forgetting  # noqa: PLC0415

    with lock_written(dataset, "forget", writes=not dry_run):
        emit(forgetting.forget(dataset, source=source, identity=identity, dry_run=dry_run), as_json)


@app.command(epilog="Example:  hs-data merge all vfhq hdtf")
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    datasets: Annotated[list[Path], typer.Argument(metavar="DATASET...", help="Two datasets or more, built alike.")],
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Assign splits anew instead of keeping each clip's.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy shards even where hard links are possible.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make one dataset of several with the same settings: every clip once, nobody in two splits, shards as they are.

    Shards are hard-linked where the disk allows it, else copied; the result says how many of each.
    """
    from ..manifests.lock import lock_dataset  # noqa: PLC0415
    from ..pipeline.maintain import merge as merging  # noqa: PLC0415

    with lock_dataset(out, "merge"):
        emit(merging.merge(out, datasets, resplit=resplit, copy=copy), as_json)


@app.command(epilog="Example:  hs-data split dataset --set select.val_share=0.1 --set select.test_share=0.1")
def split(
    dataset: DatasetArgument,
    set_: SetOption = [],  # noqa: B006
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Assign train, val and test again, by person or source video; rewrites the clip table and no shard.

    Settings: select.val_share, select.test_share, select.official_splits; later builds keep them.
    """
    from ..manifests.lock import lock_written  # noqa: PLC0415
    from ..pipeline.maintain import resplit  # noqa: PLC0415

    with lock_written(dataset, "split", writes=not dry_run):
        emit(resplit.resplit(dataset, assignments=set_, dry_run=dry_run), as_json)


@app.command(epilog="Example:  hs-data gc dataset --delete")
def gc(
    dataset: DatasetArgument,
    delete: Annotated[bool, typer.Option("--delete/--dry-run", help="Remove it; else only show it.")] = False,
    min_age_h: Annotated[
        float, typer.Option(metavar="HOURS", min=0, help="Age of what a running build might be writing.")
    ] = 24.0,
    as_json: JsonOption = False,
) -> None:
    """Show, and with --delete free, what no run needs any more: leftovers of killed runs and of other settings."""
    from ..manifests.lock import lock_written  # noqa: PLC0415
    from ..pipeline.maintain import gc as collector  # noqa: PLC0415

    with lock_written(dataset, "gc", writes=delete):
        rows = collector.collect(dataset, delete=delete, min_age_h=min_age_h)
    emit([asdict(row) for row in rows], as_json)
    total = sum(row.bytes for row in rows)
    verb = "freed" if delete else "can be freed with --delete"
    console().print(f"{total / 1e6:.3f} MB {verb}", highlight=False)
