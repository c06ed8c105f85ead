"""The documents say what the code does: every command, setting, reason and source stands where a reader looks."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer.main

from hs_data.cli import app
from hs_data.manifests.reasons import REASONS
from hs_data.manifests.sources import sources
from hs_data.pipeline.config import presets

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> dict:
    """Every command by the words that call it, those of groups too."""
    top = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined] - a group, for it has commands
    below = {f"{name} {sub}": c for name, group in top.items() for sub, c in getattr(group, "commands", {}).items()}
    return top | below


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_help_an_example_and_a_place_in_the_readme(name):
    command = commands()[name]
    assert len(command.help or "") > 30
    assert f"hs-data {name}" in (command.epilog or "")
    assert f"hs-data {name}" in README
    for option in command.params:
        assert getattr(option, "help", None), f"{name} {option.name} has no help"


def test_every_option_in_the_readme_exists():
    known = {word for command in commands().values() for option in command.params for word in option.opts}
    for line in README.splitlines():
        if "hs-data " in line:
            used = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", line.split("hs-data ", 1)[1]))
            assert used <= known | {"--help", "--version", "--install-completion"}, line


def test_settings_page_is_made_from_the_code():
    spec = importlib.util.spec_from_file_location("docs_settings", ROOT / "docs" / "settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == module.render(), "run: python docs/settings.py"


def test_every_reason_is_explained():
    page = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", page, flags=re.M)
    assert listed == list(REASONS)


def test_every_preset_and_source_stands_in_the_readme():
    for name in [*presets(), *sources()]:
        assert f"`{name}`" in README


def test_linked_files_exist():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
