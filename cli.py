"""The `hs-data` command: parse, call, print. Data goes to standard output, everything else to standard error."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from .manifests.errors import ConfigError, HsDataError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="hs-data",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Curate talking-face video into training-ready shards for lip-sync models, and see why each clip was kept.",
    epilog="Begin with:  hs-data build --source demo --output demo",
)

models_app = typer.Typer()
app.add_typer(models_app, name="models")
STOPPED = 130
"""What Ctrl-C ends with, as in a shell."""
DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `hs-data build`.")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="One setting; may be repeated.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def main() -> None:
    """Run the command line; the console script of the package."""
    try:
        app()
    except HsDataError as error:
        if os.environ.get("HS_DATA_DEBUG"):
            raise
        _fail(str(error), error.exit_code)
    except OSError as error:
        if os.environ.get("HS_DATA_DEBUG") or isinstance(error, BrokenPipeError):
            raise
        _fail(f"{error.filename or 'files'}: {error.strerror or error}; check the path, its rights and the disk", 1)
    except SystemExit as stop:
        if stop.code == STOPPED:
            _console().print("stopped; run the same command again to go on", highlight=False)
        raise


def _fail(message: str, exit_code: int) -> NoReturn:
    _console().print(f"[bold red]error[/] {_plain(message)}", highlight=False, soft_wrap=True)
    sys.exit(exit_code)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from importlib.metadata import version as installed  # noqa: PLC0415

        print(installed("hs-data"))  # noqa: T201 - data
        raise typer.Exit


@app.command(epilog="Example:  hs-data build --source folder --input videos --output dataset --preset cpu")
def build(
    source: Annotated[str, typer.Option(metavar="NAME", help="Source dataset; see `hs-data sources`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATASET", help="Folder to write; resumes.")],
    input_: Annotated[Path | None, typer.Option("--input", "-i", metavar="DIR", help="Source folder.")] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings: embedded, cpu. Default: the source's.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="F.toml", help="Settings laid over the preset's.")] = None,
    set_: SetOption = [],  # noqa: B006 - typer copies it
    executor: Annotated[Literal["ray", "local"], typer.Option(help="Where workers run; the dataset is equal.")] = "ray",
    workers: Annotated[int, typer.Option(min=0, help="Workers; 0: one per core.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N files.")] = None,
    shard: Annotated[str | None, typer.Option(metavar="i/n", help="Only part i of n, for job arrays.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and write nothing.")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="Try 50 files and tell hours, disk and yield.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn video into a training-ready dataset: plan, score, select, encode, finalize, report.

    Killed or stopped, it goes on where it was when the same command is run again. Inputs are never changed.
    """
    from .pipeline.run import command  # noqa: PLC0415

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
    _log_to_stderr()
    if dry_run:
        _emit(command.dry_run(request), as_json)
        return
    if estimate:
        _emit(command.estimate(request, _console()), as_json)
        return
    summary = command.build(request, _console())
    if as_json:
        _print_json(summary)
    else:
        print(output)  # noqa: T201 - data: where the dataset is


@app.command(epilog="Example:  hs-data sources vfhq --input VFHQ")
def sources(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show one source in full.")] = None,
    input_: Annotated[Path | None, typer.Option("--input", "-i", metavar="DIR", help="Look what is there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the source datasets that can be built, or show one: layout, licence, how to get it, what is there.

    With --input and a NAME that is not found there, the exit code is 1.
    """
    from .manifests import sources as known  # noqa: PLC0415
    from .manifests.sources import survey  # noqa: PLC0415

    if name is None:
        _emit(survey.overview(list(known.sources().values()), input_), as_json)
        return
    facts = survey.describe(known.get_source(name), input_)
    _emit(facts, as_json)
    raise typer.Exit(0 if facts.get("found", True) else 1)


@models_app.callback(invoke_without_command=True, epilog="Example:  hs-data models --set models.dir=weights")
def models(context: typer.Context, set_: SetOption = [], as_json: JsonOption = False) -> None:  # noqa: B006
    """List the model files: what for, licence, size, hash, where from, and whether they are on this machine."""
    from .pipeline.models import listing, registry  # noqa: PLC0415

    if context.invoked_subcommand:
        if set_ or as_json:
            raise ConfigError(f"models: options go behind `{context.invoked_subcommand}`; write them at the end")
        return
    rows = listing.list_models(registry.configure(set_))
    # JSON says null where nobody knows, a person reads a word.
    _emit(rows if as_json else [{k: "unknown" if v is None else v for k, v in row.items()} for row in rows], as_json)


@models_app.command("fetch", epilog="Example:  hs-data models fetch yunet --set models.dir=weights")
def fetch_models(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Models, by name.")] = None,
    preset: Annotated[str | None, typer.Option(help="Those that a build with this preset needs.")] = None,
    set_: SetOption = [],  # noqa: B006
    offline: Annotated[bool, typer.Option("--offline", help="Verify what is there and download nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Download model files into the models folder and verify them; a broken download goes on where it was.

    Prints the path of each. What is there already is not downloaded again.
    """
    from .pipeline.models.fetch import choose, fetch  # noqa: PLC0415

    chosen, config = choose(names or [], preset=preset, assignments=set_)
    fetched = fetch(chosen, config, offline=offline, console=_console())
    if as_json:
        _print_json([vars(model) for model in fetched])
        return
    for model in fetched:
        print(model.path, flush=True)  # noqa: T201 - data


@app.command(epilog="Example:  hs-data report dataset --previews 24 --benchmark test_ids.txt")
def report(
    dataset: DatasetArgument,
    previews: Annotated[int, typer.Option(metavar="N", min=0, help="Films of kept clips to make and embed.")] = 6,
    benchmark: Annotated[
        list[Path],
        typer.Option(metavar="LIST", help="Ids, paths or sha256 of a benchmark set, one a line; may be repeated."),
    ] = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Print the funnel and write report/index.html, report/report.json and the dataset card README.md."""
    from .manifests.dataset import open_dataset  # noqa: PLC0415
    from .pipeline.report import funnel, page  # noqa: PLC0415
    from .pipeline.report.terminal import funnel_table  # noqa: PLC0415
    from .pipeline.run.ledger import total_costs  # noqa: PLC0415

    opened = open_dataset(dataset)
    written = page.write_report(opened, total_costs(dataset), num_previews=previews, benchmarks=benchmark)
    stages = funnel.funnel(opened)
    if as_json:
        _print_json(funnel.as_table(stages))
    else:
        _console(stderr=False).print(funnel_table(stages))
    _console().print(f"page: {_plain(str(written))}", highlight=False, soft_wrap=True)


@app.command(epilog="Example:  hs-data why dataset talk.mp4")
def why(
    dataset: DatasetArgument,
    name: Annotated[str, typer.Argument(metavar="CLIP|FILE", help="A clip id or its beginning, or a file's path.")],
    as_json: JsonOption = False,
) -> None:
    """Tell the whole story of one clip or one file: found, measured, decided, and why."""
    from .manifests.dataset import open_dataset  # noqa: PLC0415
    from .pipeline.report import story  # noqa: PLC0415

    opened = open_dataset(dataset)
    if as_json:
        files, clips = story.find(opened, name)
        _print_json({"files": files, "clips": clips})
        return
    for line in story.tell(opened, name):
        print(line)  # noqa: T201 - data


@app.command(epilog="Example:  hs-data select dataset --set select.min_face_px=300")
def select(
    dataset: DatasetArgument,
    set_: SetOption = [],  # noqa: B006
    config: Annotated[Path | None, typer.Option(metavar="F.toml", help="A TOML file with a [select] table.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget the limits that earlier calls set.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge all clips again under other limits, without decoding; the next build encodes what is newly kept."""
    from .pipeline.run import reselect  # noqa: PLC0415

    change = reselect.reselect(dataset, assignments=set_, config_file=config, reset=reset, dry_run=dry_run)
    _emit(change, as_json)


@app.command(epilog="Example:  hs-data verify dataset --decode 8")
def verify(
    dataset: DatasetArgument,
    decode: Annotated[int, typer.Option(metavar="N", min=0, help="Turn the latents of N clips into pictures.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check hashes, counts, shapes, finiteness, sound lengths and duplicates; exit 1 when something is wrong."""
    from .manifests.dataset import open_dataset  # noqa: PLC0415
    from .manifests.verify import verify as check  # noqa: PLC0415

    opened = open_dataset(dataset)
    decoder = None
    if decode:
        from .pipeline.latents import decoder_for  # noqa: PLC0415

        decoder = decoder_for(opened)
    faults = [vars(fault) for fault in check(opened, decode=decoder, num_decoded=decode)]
    _emit(faults, as_json)
    shown = f"{len(opened)} clips in {len(opened.index['shards'])} shards: {len(faults) or 'no'} faults"
    _console().print(shown, highlight=False)
    raise typer.Exit(1 if faults else 0)


@app.command(epilog="Example:  hs-data doctor")
def doctor(set_: SetOption = [], as_json: JsonOption = False) -> None:  # noqa: B006
    """Check this machine: decoders on tiny clips made on the spot, packages, GPU, disk, Ray, models."""
    from .pipeline.doctor import examine  # noqa: PLC0415

    findings = list(examine(set_))
    if as_json:
        _print_json([vars(finding) for finding in findings])
    else:
        print(*findings, sep="\n")  # noqa: T201 - data
    raise typer.Exit(0 if all(finding.state != "missing" for finding in findings) else 1)


def _console(*, stderr: bool = True) -> "Console":
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=stderr)


def _plain(text: str) -> str:
    from rich.markup import escape  # noqa: PLC0415

    return escape(text)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)


def _emit(value: list[dict[str, Any]] | dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(value)
        return
    from .pipeline.report.terminal import as_lines  # noqa: PLC0415

    for line in as_lines(value):
        print(line)  # noqa: T201 - data


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))  # noqa: T201 - data


if __name__ == "__main__":
    main()
