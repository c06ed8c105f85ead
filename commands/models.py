"""Weight files: list and fetch them."""

from typing import Annotated

import typer

from . import completion
from .terminal import JsonOption, SetOption, console, emit, print_json

app = typer.Typer()


@app.callback(invoke_without_command=True, epilog="Example:  hs-data models --set models.dir=weights")
def models(context: typer.Context, set_: SetOption = [], as_json: JsonOption = False) -> None:  # noqa: B006
    """List the model files: what for, licence, size, hash, where from, and whether they are on this machine."""
    from ..pipeline.models import listing, registry  # noqa: PLC0415

    if context.invoked_subcommand:
        if set_ or as_json:
            from ..manifests.errors import ConfigError  # noqa: PLC0415

            raise ConfigError(f"models: options go behind `{context.invoked_subcommand}`; write them at the end")
        return
    rows = listing.list_models(registry.configure(set_))
    # JSON says null where nobody knows, a person reads a word.
    emit(
        [{**row} for row in rows]
        if as_json
        else [{k: "unknown" if v is None else v for k, v in row.items()} for row in rows],
        as_json,
    )


@app.command("fetch", epilog="Example:  hs-data models fetch yunet --set models.dir=weights")
def fetch_models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models, by name.", autocompletion=completion.models),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Those that a build with this preset needs.", autocompletion=completion.presets),
    ] = None,
    set_: SetOption = [],  # noqa: B006
    offline: Annotated[bool, typer.Option("--offline", help="Verify what is there and download nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Download model files into the models folder and verify them; a broken download goes on where it was.

    Prints the path of each. What is there already is not downloaded again.
    """
    from ..pipeline.config import choose_models  # noqa: PLC0415
    from ..pipeline.models.fetch import fetch  # noqa: PLC0415

    chosen, config = choose_models(names or [], preset=preset, assignments=set_)
    fetched = fetch(chosen, config, offline=offline, console=console())
    if as_json:
        print_json([vars(model) for model in fetched])
        return
    for model in fetched:
        print(model.path, flush=True)  # noqa: T201 - data
