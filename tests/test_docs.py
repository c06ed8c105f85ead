"""The documents say what the code does: every command, setting, reason and source stands where a reader looks."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from hs_data.cli import app
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
    assert written == module.render(), "run: make docs"
    for name, made_anew in (("dataset.md", module.with_metrics), ("reasons.md", module.with_reasons)):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert page == made_anew(page), "run: make docs"


def test_every_preset_and_source_stands_in_the_readme():
    for name in [*presets(), *sources()]:
        assert f"`{name}`" in README


def test_linked_files_exist():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_nobody_is_sent_where_hs_data_is_not():
    """It is on no package index and has no public address: it is installed from its checkout."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    code = [
        path for folder in ("commands", "manifests", "pipeline", "trainer") for path in (ROOT / folder).rglob("*.py")
    ]
    for path in [*pages, *code]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install[^\n]*hs-data\[|git clone <|pip install hs-data\b", text), path.name
    extras = re.search(r"with extras: ([\w, ]+)", README)
    assert extras is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(extras[1].split(", ")) == sorted(project["optional-dependencies"])


def test_the_readme_names_the_pythons_that_the_package_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"3\.\d+", README.split("## Install", 1)[1].split("\n\n", 2)[1])
    listed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    first, end = re.findall(r"3\.(\d+)", project["requires-python"])
    assert named == listed == [f"3.{minor}" for minor in range(int(first), int(end))]


def test_what_the_readme_promises_of_python_has_an_example():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    promised = re.search(r"ordinary Parquet, so (.*?) read them too", README)
    assert promised is not None
    tools = {"DuckDB": "duckdb", "polars": "polars", "Ray Data": "ray.data", "PyTorch": "DataLoader("}
    assert [tool for tool in re.split(", | and ", promised[1]) if tools[tool] not in page] == []


def test_the_tests_that_reliability_names_exist():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(test_\w+))?", page)
    assert len(named) > 30
    for file, name in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {name}(" in text or not name, f"{file}::{name}"


def test_what_the_architecture_names_exists():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:manifests|pipeline|trainer|tests|commands)/[\w/]*(?:\.py)?", page))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
