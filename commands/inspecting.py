"""Look into datasets: compare, count, audit, draw, calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import DatasetArgument, JsonOption, SelectionOption, SetOption, console, print_json

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


@app.command(epilog="Example:  hs-data audit dataset --benchmark test_ids.txt --max-near-duplicates 10")
def audit(
    dataset: DatasetArgument,
    benchmark: Annotated[
        list[Path],
        typer.Option(metavar="LIST", help="Ids, paths or sha256 of a benchmark set, one a line; may be repeated."),
    ] = [],  # noqa: B006
    max_leakage: Annotated[float | None, typer.Option(help="Mean leakage of the kept clips. [default: 0.1]")] = None,
    max_leaky_share: Annotated[float | None, typer.Option(help="Share of leaky clips. [default: 0.01]")] = None,
    max_shared_identities: Annotated[int | None, typer.Option(help="People in two splits. [default: 0]")] = None,
    max_shared_videos: Annotated[int | None, typer.Option(help="Videos in two splits. [default: 0]")] = None,
    max_near_duplicates: Annotated[int | None, typer.Option(help="Pairs of alike mouths. [default: 0]")] = None,
    max_duplicate_audio: Annotated[int | None, typer.Option(help="Pairs of the same sound. [default: 0]")] = None,
    max_pairs_across: Annotated[int | None, typer.Option(help="Such pairs across splits. [default: 0]")] = None,
    max_benchmark_clips: Annotated[int | None, typer.Option(help="Kept clips of a LIST. [default: 0]")] = None,
    selection: SelectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check kept clips for leaky crops, overlap of splits, duplicates and benchmark clips; exit 1 above a limit."""
    from ..manifests import settings  # noqa: PLC0415
    from ..manifests.dataset import open_dataset  # noqa: PLC0415
    from ..pipeline.report import audit_limits  # noqa: PLC0415

    given = {
        "max_leakage": max_leakage,
        "max_leaky_share": max_leaky_share,
        "max_shared_identities": max_shared_identities,
        "max_shared_videos": max_shared_videos,
        "max_near_duplicates": max_near_duplicates,
        "max_duplicate_audio": max_duplicate_audio,
        "max_pairs_across": max_pairs_across,
        "max_benchmark_clips": max_benchmark_clips,
    }
    limits = settings.build(
        audit_limits.AuditLimits, {name: value for name, value in given.items() if value is not None}
    )
    findings = audit_limits.check(open_dataset(dataset, selection), limits, benchmark)
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        console(stderr=False).print(audit_limits.table(findings))
    raise typer.Exit(0 if all(finding.passed for finding in findings) else 1)


@app.command(epilog="Example:  hs-data preview dataset 2062de7b52 -o look.mp4 --input videos")
def preview(
    dataset: DatasetArgument,
    name: Annotated[
        str, typer.Argument(metavar="CLIP|FILE", help="A clip id or its beginning, or a file of one clip.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="X.mp4", help="Film to write.")],
    input_: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="DIR", help="Source folder, as for the build; not for demo.")
    ] = None,
    selection: SelectionOption = None,
) -> None:
    """Draw the source of one clip, kept or dropped, with face box, crop box, verdict, lead and its sound."""
    from ..manifests.dataset import open_dataset  # noqa: PLC0415
    from ..pipeline.report import drawing  # noqa: PLC0415

    drawing.draw(open_dataset(dataset, selection), name, output, input_)
    print(output)  # noqa: T201 - data: where the film is


@app.command(epilog="Example:  hs-data calibrate dataset --limit 100")
def calibrate(
    dataset: DatasetArgument,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Clips to try, the first ones by id.")] = 200,
    input_: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="DIR", help="Source folder; a sync network needs it.")
    ] = None,
    set_: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Put known audio leads into kept clips and tell how well the dataset's sync estimator finds them.

    Writes calibration.json into the dataset; the next report shows it, so that thresholds are chosen by measurement.
    """
    from ..manifests.dataset import open_dataset  # noqa: PLC0415
    from ..pipeline.report import calibrate as calibrating  # noqa: PLC0415

    facts = calibrating.calibrate(open_dataset(dataset), limit=limit, assignments=set_, input_dir=input_)
    if as_json:
        print_json(facts)
        return
    for table in calibrating.tables(facts):
        console(stderr=False).print(table, "")
