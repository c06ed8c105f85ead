"""STYLE rules 10, 12 and 15, held by an `ast` walk: who imports whom, and what nobody does."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 300
MAY_IMPORT_PIPELINE = ("trainer/ablation.py", "trainer/audio_gap.py", "trainer/sample_videos.py", "trainer/generate.py")
"""The ablation cuts a dataset anew before it trains and fills a page of the report; the others turn latents into
pictures."""


def _files(*folders: str) -> list[Path]:
    """Python files of the package: those at the root and those below the folders that ship."""
    found = list(ROOT.glob("*.py"))
    for folder in ("commands", "manifests", "pipeline", "trainer"):
        found += (ROOT / folder).rglob("*.py")
    names = {path.relative_to(ROOT).as_posix() for path in found}
    return [ROOT / name for name in sorted(names) if not folders or name.startswith(tuple(f"{f}/" for f in folders))]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[ast.stmt, str]]:
    """Yield each import with its absolute dotted name; `package` is where relative ones start from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            parts = [*base, *(node.module.split(".") if node.module else [])]
            yield from ((node, ".".join([*parts, alias.name])) for alias in node.names)


def _imports_of(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    return _imports(_parse(path), ("hs_data", *path.relative_to(ROOT).parent.parts))


def _breaches(files: list[Path], *forbidden: str) -> list[str]:
    """Return the imports of these modules, or of what lies below them."""
    return [
        f"{_name(path)}:{node.lineno} {name}"
        for path in files
        for node, name in _imports_of(path)
        if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden)
    ]


# --- the walk itself


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import ray", "ray"),
        ("import ray.util as u", "ray.util"),
        ("from ray import get", "ray.get"),
        ("from . import plan", "hs_data.pipeline.run.plan"),
        ("from .plan import chunks", "hs_data.pipeline.run.plan.chunks"),
        ("from ..score import Scorer", "hs_data.pipeline.score.Scorer"),
        ("from ...manifests.errors import X", "hs_data.manifests.errors.X"),
        ("from ... import trainer", "hs_data.trainer"),
        ("from hs_data import trainer", "hs_data.trainer"),
        ("def f():\n    import torch.nn", "torch.nn"),
        ("if True:\n    from torch import nn", "torch.nn"),
    ],
)
def test_the_walk_sees_every_form_of_import(line: str, name: str):
    assert [found for _, found in _imports(ast.parse(line), ("hs_data", "pipeline", "run"))] == [name]


def test_the_walk_reads_the_whole_package():
    names = [_name(path) for path in _files()]
    assert {
        "cli.py",
        "__init__.py",
        "manifests/shards.py",
        "pipeline/workers/ray_pool.py",
        "trainer/__init__.py",
    } <= set(names)
    assert [_name(path) for path in _files("manifests")] == [name for name in names if name.startswith("manifests/")]
    assert not any(name.startswith(("tests/", "benchmarks/", "build/")) for name in names)
    found = _breaches(_files("pipeline"), "hs_data.manifests.storage")
    assert any(line.startswith("pipeline/workers/worker.py:") for line in found)


# --- layers


def test_manifests_import_nothing_of_ours_and_no_heavy_library():
    files = _files("manifests")
    ours = [
        f"{_name(path)} {name}"
        for path in files
        for _, name in _imports_of(path)
        if name.startswith("hs_data") and not name.startswith("hs_data.manifests")
    ]
    assert ours == []
    heavy = (
        "torch",
        "torchvision",
        "ray",
        "cv2",
        "av",
        "decord",
        "whisper",
        "diffusers",
        "scenedetect",
        "typer",
        "rich",
    )
    assert _breaches(files, *heavy) == []


def test_pipeline_never_imports_trainer_or_cli():
    assert _breaches(_files("pipeline"), "hs_data.trainer", "hs_data.cli", "hs_data.commands") == []


def test_trainer_imports_pipeline_only_to_recrop_evaluate_and_generate():
    files = [path for path in _files("trainer") if _name(path) not in MAY_IMPORT_PIPELINE]
    assert _breaches(files, "hs_data.pipeline", "hs_data.cli", "hs_data.commands") == []


def test_ray_is_imported_by_two_files():
    found = _breaches(_files(), "ray")
    assert {line.split(":")[0] for line in found} == {"pipeline/workers/ray_pool.py", "trainer/ray_launch.py"}


def test_imports_of_ours_are_relative():
    absolute = [
        f"{_name(path)}:{node.lineno}"
        for path in _files()
        for node, name in _imports_of(path)
        if name.startswith("hs_data") and not (isinstance(node, ast.ImportFrom) and node.level)
    ]
    assert absolute == []


@pytest.mark.parametrize("name", [_name(path) for path in _files("commands")])
def test_a_command_imports_ours_inside_itself(name: str):
    tree = _parse(ROOT / name)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    ours = [(node, found) for node, found in _imports(tree, ("hs_data", "commands")) if found.startswith("hs_data.")]
    outside = [found for node, found in ours if id(node) not in inside]
    assert all(found.startswith("hs_data.commands.") for found in outside), outside


def test_the_command_line_knows_its_commands_and_our_errors_alone():
    ours = [name for _, name in _imports_of(ROOT / "cli.py") if name.startswith("hs_data.")]
    assert len(ours) > 3
    assert all(name.startswith(("hs_data.commands.", "hs_data.manifests.errors.")) for name in ours), ours


HEAVY = (
    "torch",
    "ray",
    "cv2",
    "av",
    "decord",
    "numpy",
    "pyarrow",
    "scipy",
    "jinja2",
    "hs_data.pipeline",
    "hs_data.trainer",
)
LOADED = "import sys, hs_data.cli; print(*(name for name in sys.argv[1:] if name in sys.modules))"


def test_the_command_line_starts_without_the_heavy_libraries():
    done = subprocess.run([sys.executable, "-c", LOADED, *HEAVY], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_package_doors_import_no_heavy_library():
    doors = [path for path in _files() if path.name == "__init__.py"]
    assert len(doors) >= 10
    assert _breaches(doors, "torch", "ray", "cv2", "av", "decord", "whisper", "diffusers", "scenedetect") == []


def test_the_root_is_a_docstring_and_nothing_else():
    body = _parse(ROOT / "__init__.py").body
    assert len(body) == 1
    assert ast.get_docstring(_parse(ROOT / "__init__.py"))


def test_every_file_begins_with_a_docstring():
    assert [_name(path) for path in _files() if not ast.get_docstring(_parse(path))] == []


# --- size


def test_no_file_is_longer_than_a_sitting():
    long = [path for path in _files() if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES]
    assert [_name(path) for path in long] == []


def test_no_file_is_named_after_nothing():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "core", "base", "manager", "handler"}
    assert [_name(path) for path in _files() if path.stem in vague or path.parent.name in vague] == []


# --- what nobody does

PICKLES = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "_pickle")


def _offences(tree: ast.AST, *, is_cli: bool = False) -> list[str]:
    """Return what a file does that none may, as words."""
    imports = {name for _, name in _imports(tree, ("hs_data",))} - {"pickle.UnpicklingError"}  # torch raises it
    found = sorted(name for name in imports if name.split(".")[0] in PICKLES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if given.get("shell", "False") != "False":
                found.append("shell")
            if given.get("allow_pickle", "False") != "False":
                found.append("allow_pickle")
            if called in ("os.system", "os.popen", "eval", "exec"):
                found.append(called)
            if called == "torch.load" and given.get("weights_only") != "True":
                found.append("torch.load")
            if called == "print" and not is_cli:
                found.append("print")
        elif isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            if broad and all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body):
                found.append("silent except")
        elif isinstance(node, ast.arg) and node.arg == "verbose":
            found.append("verbose")
    return found


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib.load"),
        ("subprocess.run(c, shell=True)", "shell"),
        ("subprocess.run(c, shell=flag)", "shell"),
        ("os.system('ls')", "os.system"),
        ("np.load(p, allow_pickle=True)", "allow_pickle"),
        ("torch.load(p)", "torch.load"),
        ("torch.load(p, weights_only=False)", "torch.load"),
        ("print(1)", "print"),
        ("try:\n    f()\nexcept Exception:\n    pass", "silent except"),
        ("for x in y:\n    try:\n        f()\n    except:\n        continue", "silent except"),
        ("def f(verbose=False): ...", "verbose"),
    ],
)
def test_an_offence_is_seen(source: str, offence: str):
    assert _offences(ast.parse(source)) == [offence]


def test_what_is_allowed_is_no_offence():
    allowed = "torch.load(p, weights_only=True)\nnp.load(p, allow_pickle=False)\nsubprocess.run(c)\nrich.print(1)"
    assert _offences(ast.parse("from pickle import UnpicklingError")) == []
    assert _offences(ast.parse(allowed)) == []
    assert _offences(ast.parse("print(1)"), is_cli=True) == []


@pytest.mark.parametrize("name", [_name(path) for path in _files()])
def test_no_file_does_what_none_may(name: str):
    assert _offences(_parse(ROOT / name), is_cli=name == "cli.py" or name.startswith("commands/")) == []


# --- names


def test_a_class_name_is_used_once():
    found: dict[str, list[str]] = {}
    for path in _files():
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(_name(path))
    assert len(found) > 150
    assert {name: files for name, files in found.items() if len(files) > 1} == {}
