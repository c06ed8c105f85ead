"""Give kept clips to other trainers."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .terminal import DatasetArgument, JsonOption, console, emit

app = typer.Typer()


@app.command(epilog="Example:  hs-data export dataset --to webdataset --input videos --output archives")
def export(
    dataset: DatasetArgument,
    to: Annotated[Literal["latentsync-filelist", "webdataset", "hf"], typer.Option("--to", help="For which reader.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write; resumes.")],
    input_: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="DIR", help="Source folder that the dataset was built from.")
    ] = None,
    pixels: Annotated[
        Literal["source", "jpeg"], typer.Option(help="Cut from the source files, or take the JPEG crops of the shards.")
    ] = "source",
    size: Annotated[int, typer.Option(min=64, max=2048, help="Side of the picture, px.")] = 512,
    crf: Annotated[int, typer.Option(min=0, max=40, help="x264's quality; lower is better and larger.")] = 16,
    per_archive: Annotated[int, typer.Option(min=1, help="Clips in an archive of webdataset.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Processes that cut.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N clips, by id.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the crops of the kept clips as films with sound, laid out for another trainer.

    How each clip ended stands in DIR/export.jsonl; one whose source is missing does not keep the others away.
    """
    from ..pipeline.export import command  # noqa: PLC0415

    request = command.ExportRequest(
        dataset=dataset,
        kind=to,
        output=output,
        root=input_,
        pixels=pixels,
        size=size,
        crf=crf,
        per_archive=per_archive,
        num_workers=workers,
        limit=limit,
    )
    emit(command.export(request, console()).as_json(), as_json)
