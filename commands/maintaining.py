"""Keep datasets in order: forget, merge, split again, free space."""

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

    Killed, it is finished by the next `hs-data forget DATASET` or build. No build may run meanwhile; inputs stay.
    """
    from ..pipeline.run import forget as forgetting  # noqa: PLC0415

    emit(forgetting.forget(dataset, source=source, identity=identity, dry_run=dry_run), as_json)


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
    from ..pipeline.run import gc as collector  # noqa: PLC0415

    rows = collector.collect(dataset, delete=delete, min_age_h=min_age_h)
    emit(rows, as_json)
    total = sum(row["bytes"] for row in rows)
    verb = "freed" if delete else "can be freed with --delete"
    console().print(f"{total / 1e6:.3f} MB {verb}", highlight=False)
