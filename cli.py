"""The `hs-data` command: its commands laid together, and how errors end. They are in `commands/`."""

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from .commands import (
    ablating,
    building,
    curating,
    exporting,
    fetching,
    inspecting,
    maintaining,
    models,
    training,
    usage,
)
from .commands.terminal import STOPPED, TERMINATED, console, follow, plain, prepare_process
from .manifests.errors import HsDataError

app = typer.Typer(
    name="hs-data",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Curate talking-face video into training-ready shards for lip-sync models, and see why each clip was kept.",
    epilog="Begin with:  hs-data build --source demo --output demo",
)
app.add_typer(building.app)
app.add_typer(fetching.app)
app.add_typer(models.app, name="models")
app.add_typer(curating.app)
app.add_typer(inspecting.app)
app.add_typer(maintaining.app)
app.add_typer(training.app)
app.add_typer(exporting.app)
app.add_typer(ablating.app, name="ablate", no_args_is_help=True)


WITH_PROGRESS = ("build", "fetch", "train", "ablate")
"""Commands that show themselves how far they are."""


def main() -> None:
    """Run the command line; the console script of the package."""
    terminations = prepare_process()
    try:
        code = app(prog_name="hs-data", standalone_mode=False) or 0
    except HsDataError as error:
        if os.environ.get("HS_DATA_DEBUG"):
            raise
        _fail(str(error), error.exit_code)
    except OSError as error:
        if os.environ.get("HS_DATA_DEBUG") or isinstance(error, BrokenPipeError):
            raise
        _fail(f"{error.filename or 'files'}: {error.strerror or error}; check the path, its rights and the disk", 1)
    except SystemExit as stop:
        # While Ray starts, its own handler is in place, which ends with the number of the signal.
        code = TERMINATED if terminations or stop.code == signal.SIGTERM else stop.code
    except Exception as error:
        if not usage.is_usage_error(error):
            raise
        _refuse(error)
    if code in (STOPPED, TERMINATED):
        console().print("stopped; run the same command again to go on", highlight=False)
    sys.exit(code)


def _refuse(error: Exception) -> NoReturn:
    """End as wrong words on the command line do; no words at all get the help."""
    message = usage.explain(error)  # where there are no words, this prints the help
    if "NoArgsIsHelp" in type(error).__name__:
        sys.exit(2)
    _fail(message, 2)


def _fail(message: str, exit_code: int) -> NoReturn:
    console().print(f"[bold red]error[/] {plain(message)}", highlight=False, soft_wrap=True)
    sys.exit(exit_code)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed  # noqa: PLC0415

        print(installed("hs-data"))  # noqa: T201 - data
        raise typer.Exit
    if context.invoked_subcommand and context.invoked_subcommand not in WITH_PROGRESS:
        context.call_on_close(follow(context.invoked_subcommand))


if __name__ == "__main__":
    main()
