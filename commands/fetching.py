"""Fetch the videos that a source names."""

from pathlib import Path
from typing import Annotated

import typer

from . import completion
from .terminal import JsonOption, console, emit

app = typer.Typer()


@app.command(epilog="Example:  hs-data fetch --source hdtf --input HDTF --output HDTF --limit 20")
def fetch(
    source: Annotated[
        str,
        typer.Option(metavar="NAME", help="Source dataset; see `hs-data sources`.", autocompletion=completion.sources),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the videos; resumes.")],
    input_: Annotated[
        str | None,
        typer.Option(
            "--input", "-i", metavar="DIR|hf://…", help="Annotations, or hf://OWNER/NAME[@REVISION][/FOLDER]."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Try at most N in this run.")] = None,
    again: Annotated[
        list[str],
        typer.Option(
            "--again",
            metavar="STATUS",
            help="Try these once more too; may be repeated.",
            autocompletion=completion.statuses,
        ),
    ] = [],  # noqa: B006 - typer copies it
    max_lines: Annotated[int, typer.Option(min=144, help="Largest shorter side of a picture, px.")] = 1080,
    pause: Annotated[float, typer.Option(min=0, max=86400, help="Seconds between two videos of YouTube.")] = 5.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be fetched and write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch the videos that a source names to where its reader finds them; a stopped run goes on.

    How each one ended stands in DIR/fetch.jsonl. Ends with 1 when the site throttles or something is left to try.
    """
    from ..pipeline.fetching import command  # noqa: PLC0415

    request = command.make_request(
        source=source, input_=input_, output=output, again=again, limit=limit, max_lines=max_lines, pause_s=pause
    )
    if dry_run:
        emit(command.dry_run(request), as_json)
        return
    summary = command.run(request, console())
    emit(summary.as_json(), as_json)
    command.judge(summary.outcome, limit)
