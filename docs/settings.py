"""Write docs/settings.md, and the metrics and reasons into docs/dataset.md and docs/reasons.md: `make docs`."""

import ast
import dataclasses
import inspect
import typing
from pathlib import Path

from hs_data.manifests.settings import ranges
from hs_data.pipeline.config import Config
from hs_data.pipeline.score.registry import METRICS, REASONS, LimitSettings
from hs_data.trainer.config import TrainConfig
from hs_data.trainer.recipes.registry import own_recipes

HEAD = """# Settings

Every setting of `hs-data build`, made from the code by `python docs/settings.py`. Give one with `--set KEY=VALUE`,
several in a TOML file with `--config`. Later layers win: defaults, preset, source, file, `--set`, and last a selection
that `hs-data select` saved. An unknown key is an error that names the nearest known one, and so is a number outside its
range, both ends of which are allowed.
The settings of `hs-data train` follow at the end.
"""
TRAIN = """
# Settings of training

Of `hs-data train`, given in the same way. `--size tiny` lays smaller batches and higher rates under them.
"""


BEGIN, END = "<!-- metrics: made by docs/settings.py -->", "<!-- end of metrics -->"


def render() -> str:
    """Return the page."""
    parts = [HEAD, *sections(Config), TRAIN, *sections(TrainConfig)]
    for name, kind in own_recipes().items():
        parts += table("recipe", kind.config, title=f"recipe of {name}")
    return "".join(parts)


def sections(config: type) -> typing.Iterator[str]:
    """Yield a table for each section of the settings."""
    hints = typing.get_type_hints(config)
    for section in dataclasses.fields(config):
        yield from table(section.name, hints[section.name], title=section.name)


def table(section: str, config: type, *, title: str) -> typing.Iterator[str]:
    """Yield the table of one section."""
    yield f"\n## {title}\n\n{inspect.getdoc(config)}\n\n| key | default | range | meaning |\n|---|---|---|---|\n"
    texts: dict[str, str] = {}
    for base in reversed(config.__mro__):
        texts |= docs(base) if dataclasses.is_dataclass(base) else {}
    texts |= {field.name: field.metadata["doc"] for field in dataclasses.fields(config) if "doc" in field.metadata}
    allowed = {name: str(numbers) for name, numbers in ranges(config).items()}
    for field in dataclasses.fields(config):
        cells = (f"`{section}.{field.name}`", f"`{field.default!r}`", allowed.get(field.name, ""), texts[field.name])
        yield f"| {' | '.join(cells)} |\n".replace("|  |", "| |")


def docs(config: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass, on one line."""
    if config is LimitSettings:  # it has no source: its fields are made of the metrics, and carry their texts
        return {}
    body = ast.parse(inspect.getsource(config)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for entry, below in zip(body.body[:-1], body.body[1:], strict=True):
        if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
            continue
        if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
            found[entry.target.id] = " ".join(str(below.value.value).split())
    return found


def with_metrics(page: str) -> str:
    """Return docs/dataset.md with the table of metrics between its marks made anew."""
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{''.join(metric_rows())}{END}{tail}"


def metric_rows() -> typing.Iterator[str]:
    """Yield the table of metrics, a line each."""
    yield "| column | type | unit | range | meaning | judged by |\n|---|---|---|---|---|---|\n"
    for metric in METRICS:
        low, high = ("" if end is None else f"{end:g}" for end in metric.range)
        allowed = f"{low} to {high}" if low and high else f"from {low}" if low else ""
        judged = ", ".join(f"`select.{limit.name}` (`{limit.reason}`)" for limit in metric.limits)
        cells = (f"`{metric.name}`", str(metric.type), metric.unit, allowed, metric.doc, judged)
        yield f"| {' | '.join(cells)} |\n"


def with_reasons(page: str) -> str:
    """Return docs/reasons.md with the table of reasons made anew."""
    head, _, rest = page.partition("| reason | meaning |")
    _, _, tail = rest.partition("\n\n")
    rows = (f"| `{reason}` | {meaning} |\n" for reason, meaning in REASONS.items())
    return f"{head}| reason | meaning |\n|---|---|\n{''.join(rows)}\n{tail}"


if __name__ == "__main__":
    folder = Path(__file__).parent
    (folder / "settings.md").write_text(render(), encoding="utf-8")
    for name, made_anew in (("dataset.md", with_metrics), ("reasons.md", with_reasons)):
        page = folder / name
        page.write_text(made_anew(page.read_text(encoding="utf-8")), encoding="utf-8")
