"""Options that commands share, and where they print: data to standard output, all else to standard error."""

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import completion

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY_S = 60.0
STOPPED = 130
"""Exit code of Ctrl-C, as in a shell."""
TERMINATED = 143
"""Exit code of SIGTERM, as in a shell."""
DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `hs-data build`.")]
SelectionOption = Annotated[
    str | None,
    typer.Option(
        "--selection",
        metavar="NAME",
        help="A named selection, made by `hs-data select --name`.",
        autocompletion=completion.selections,
    ),
]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="One setting; may be repeated.", autocompletion=completion.settings
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(help="embedded, cpu or highsync. Default: the source's.", autocompletion=completion.presets),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def console(*, stderr: bool = True) -> "Console":
    """Return the console to talk to people on."""
    from ..pipeline.report.console import PrintableConsole  # noqa: PLC0415

    return PrintableConsole(stderr=stderr)


def plain(text: str) -> str:
    """Return text that rich shows as it is."""
    from rich.markup import escape  # noqa: PLC0415

    return escape(text)


def prepare_process() -> list[int]:
    """Have no command read its input or end without tidying up.

    No command has anything to ask, and a program that a library starts must not find a terminal to play with. SIGTERM,
    which a scheduler sends, unwinds like Ctrl-C does.

    Returns:
        The SIGTERMs that have come, a list that grows: Ray, where it waits, raises a SystemExit of its own for ours.
    """
    from ..manifests.processes import ignore_input  # noqa: PLC0415

    came: list[int] = []

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        sys.exit(TERMINATED)

    ignore_input()
    signal.signal(signal.SIGTERM, stop)
    return came


def follow(name: str) -> Callable[[], None]:
    """Print a line a minute to standard error: how long a command runs, and where it stands; return what ends that."""
    from ..manifests.status import current  # noqa: PLC0415

    ended = threading.Event()

    def tell() -> None:
        minutes = 0
        while not ended.wait(LINE_EVERY_S):
            minutes += 1
            stands = current()
            console().print(f"{name}: {minutes} min{stands and ', '}{stands}", highlight=False)

    threading.Thread(target=tell, daemon=True).start()
    return ended.set


def log_to_stderr() -> None:
    """Show log lines from `info` on."""
    from ..manifests import printable  # noqa: PLC0415

    printable.log_to_stderr()


def emit(value: Sequence[Mapping[str, object]] | Mapping[str, object], as_json: bool) -> None:
    """Print rows or facts as data."""
    if as_json:
        print_json(value)
        return
    from ..pipeline.report.terminal import as_lines  # noqa: PLC0415

    print_lines(as_lines(value))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as data; what would steer a terminal, in file names for example, is spelled out."""
    from ..manifests.printable import printable_name  # noqa: PLC0415

    for line in lines:
        print(printable_name(line))  # noqa: T201 - data


def print_json(value: object) -> None:
    """Print a value as JSON."""
    from ..manifests.printable import printable_json  # noqa: PLC0415

    print(printable_json(value))  # noqa: T201 - data
