"""Write docs/settings.md from the config dataclasses: `python docs/settings.py`."""

import ast
import dataclasses
import inspect
import typing
from pathlib import Path

from hs_data.pipeline.config import Config

HEAD = """# Settings

Every setting of `hs-data build`, made from the code by `python docs/settings.py`. Give one with `--set KEY=VALUE`,
several in a TOML file with `--config`. Later layers win: defaults, preset, source, file, `--set`, and last a selection
that `hs-data select` saved. An unknown key is an error that names the nearest known one.
"""


def render() -> str:
    """Return the page."""
    parts = [HEAD]
    hints = typing.get_type_hints(Config)
    for section in dataclasses.fields(Config):
        config = hints[section.name]
        parts.append(f"\n## {section.name}\n\n{inspect.getdoc(config)}\n\n| key | default | meaning |\n|---|---|---|\n")
        parts += [row(section.name, field, docs(config)) for field in dataclasses.fields(config)]
    return "".join(parts)


def row(section: str, field: dataclasses.Field, texts: dict[str, str]) -> str:
    """Return one line of a table."""
    return f"| `{section}.{field.name}` | `{field.default!r}` | {texts[field.name]} |\n"


def docs(config: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass, on one line."""
    body = ast.parse(inspect.getsource(config)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for entry, below in zip(body.body[:-1], body.body[1:], strict=True):
        if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
            continue
        if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
            found[entry.target.id] = " ".join(str(below.value.value).split())
    return found


if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(render(), encoding="utf-8")
