"""Look into datasets: compare, count, audit, draw, calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import DatasetArgument, JsonOption, SelectionOption, console, print_json

app = typer.Typer()


@app.command(epilog="Example:  hs-data diff dataset dataset --selection-b strict")
def diff(
    a: Annotated[Path, typer.Argument(metavar="DATASET_A", help="A dataset.")],
    b: Annotated[Path, typer.Argument(metavar="DATASET_B", help="The one to compare it with; may be the same.")],
    selection_a: Annotated[str | None, typer.Option(metavar="NAME", help="A named selection of A.")] = None,
    selection_b: Annotated[str | None, typer.Option(metavar="NAME", help="A named selection of B.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell which clips two datasets judge otherwise, from which reason to which, with values, limits and settings."""
    from ..manifests.dataset import open_dataset  # noqa: PLC0415
    from ..pipeline.report import diff as differ  # noqa: PLC0415

    found = differ.diff(open_dataset(a, selection_a), open_dataset(b, selection_b))
    if as_json:
        print_json(found)
        return
    for table in differ.tables(found):
        console(stderr=False).print(table, "")


@app.command(epilog="Example:  hs-data stats dataset --json")
def stats(dataset: DatasetArgument, selection: SelectionOption = None, as_json: JsonOption = False) -> None:
    """Count clips and hours by source, split and identity, reasons, and percentiles of what was measured."""
    from ..manifests.dataset import open_dataset  # noqa: PLC0415
    from ..pipeline.report import stats as counting  # noqa: PLC0415

    found = counting.stats(open_dataset(dataset, selection))
    if as_json:
        print_json(found)
        return
    for table in counting.tables(found):
        console(stderr=False).print(table, "")
