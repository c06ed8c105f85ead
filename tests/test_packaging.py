"""Packaging: the root is the package, so what ships is listed by name, and the list is compared with the tree."""

import fnmatch
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]
RUNTIME = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
EXTRAS = {
    name: [Requirement(text) for text in texts]
    for name, texts in PROJECT["project"]["optional-dependencies"].items()
    if name != "dev"
}
DEV = [Requirement(text) for text in PROJECT["project"]["optional-dependencies"]["dev"]]
LAYERS = ("commands", "manifests", "pipeline", "trainer")
OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-python-headless")


def _pins() -> dict[str, Version]:
    pins: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text:
            name, version = text.split("==")
            assert canonicalize_name(name) not in pins, f"{name} is pinned twice"
            pins[canonicalize_name(name)] = Version(version)
    return pins


def _folder(package: str) -> Path:
    return ROOT.joinpath(*package.split(".")[1:])


def _shipped_files() -> list[Path]:
    """Files below the layers and at the root that a user's installation needs beside the modules."""
    files = [path for layer in LAYERS for path in (ROOT / layer).rglob("*") if path.is_file()]
    kept = [path for path in files if "__pycache__" not in path.parts and path.suffix != ".pyc"]
    return [*kept, ROOT / "py.typed"]


def test_every_package_of_the_tree_is_listed():
    tree = {"hs_data"}
    for layer in LAYERS:
        for door in (ROOT / layer).rglob("__init__.py"):
            tree.add(".".join(["hs_data", *door.parent.relative_to(ROOT).parts]))
    listed = SETUPTOOLS["packages"]
    assert sorted(tree) == sorted(listed)
    assert len(set(listed)) == len(listed)


def test_every_folder_with_modules_is_a_package():
    modules = {path.parent for path in _shipped_files() if path.suffix == ".py"}
    assert [folder.name for folder in sorted(modules) if not (folder / "__init__.py").is_file()] == []


def test_only_the_door_and_the_command_line_stand_at_the_root():
    assert sorted(path.name for path in ROOT.glob("*.py")) == ["__init__.py", "cli.py"]


def test_every_data_file_is_shipped():
    patterns: dict[str, list[str]] = SETUPTOOLS["package-data"]
    data = [path for path in _shipped_files() if path.suffix != ".py"]
    kinds = {path.suffix for path in data}
    assert {".toml", ".j2", ".typed"} <= kinds
    covered = {
        path
        for package, names in patterns.items()
        for path in data
        for name in names
        if path.is_relative_to(_folder(package))
        and fnmatch.fnmatch(path.relative_to(_folder(package)).as_posix(), name)
        and path.relative_to(_folder(package)).as_posix().count("/") == name.count("/")
    }
    assert [str(path.relative_to(ROOT)) for path in data if path not in covered] == []


@pytest.mark.parametrize("package", SETUPTOOLS["package-data"])
def test_data_belongs_to_listed_packages(package: str):
    assert package in SETUPTOOLS["packages"]


def test_nothing_is_shipped_by_accident():
    assert SETUPTOOLS["include-package-data"] is False
    assert SETUPTOOLS["package-dir"] == {"hs_data": "."}


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path):
    """Build it for real, from a copy, and compare names with the tree."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path / "source"
    for folder in (*LAYERS, "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    code = "import sys, setuptools.build_meta as b; print(b.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "hs-data = hs_data.cli:main" in wheel.read(metadata).decode()
    shipped = {f"hs_data/{path.relative_to(ROOT).as_posix()}" for path in _shipped_files()}
    assert names == shipped | {"hs_data/__init__.py", "hs_data/cli.py"}


def test_the_command_is_installed():
    entries = importlib.metadata.entry_points(group="console_scripts", name="hs-data")
    assert [entry.value for entry in entries] == ["hs_data.cli:main"]
    assert importlib.metadata.version("hs-data") == PROJECT["project"]["version"]


# --- pins


@pytest.mark.parametrize("requirement", [*RUNTIME, *EXTRAS["fetch"], *DEV], ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_to_a_version_that_its_range_allows(requirement: Requirement):
    pins = _pins()
    name = canonicalize_name(requirement.name)
    if name == "pre-commit":
        return  # runs outside the environment that is tested
    assert name in pins, f"{name} is not in constraints.txt"
    assert requirement.specifier, f"{name} has no range"
    assert requirement.specifier.contains(pins[name], prereleases=False)


def test_constraints_are_exact_and_sorted_for_reading():
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    pinned = [line for line in lines if not line.startswith("#")]
    assert [line for line in pinned if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
    assert len(_pins()) == len(pinned) > 80


def test_the_three_opencv_distributions_have_one_version():
    pins = _pins()
    assert len({pins[name] for name in OPENCV}) == 1
    assert pins[OPENCV[0]].major == 4, "5 has neither Haar data nor CascadeClassifier"
    assert {str(r.specifier) for r in RUNTIME if r.name in OPENCV} == {
        str(next(r for r in RUNTIME if r.name == OPENCV[0]).specifier)
    }


def test_torch_and_torchvision_are_a_pair():
    """PyPI builds torchvision 0.N for torch 2.(N - 15); another pair fails to import, or worse, does not."""
    pins = _pins()
    torch, vision = pins["torch"], pins["torchvision"]
    assert (torch.major, vision.major) == (2, 0)
    assert vision.minor == torch.minor + 15
    assert vision.micro == torch.micro
    assert torch.local is vision.local is None, "CPU-only wheels of another index do not go with PyPI's torchvision"


def test_packages_that_break_others_stay_below_their_limit():
    pins = _pins()
    assert pins["retinaface-pytorch"] == Version("0.0.6")
    assert pins["scenedetect"] < Version("0.7")
    assert Version("2.0") <= pins["numpy"] < Version("3")


def test_what_we_import_is_what_we_ask_for():
    """Every third-party module that the package imports belongs to a runtime dependency or an extra."""
    import ast

    known = {name: name for name in ("av", "decord", "diffusers", "jinja2", "numpy", "pyarrow", "ray", "rich", "scipy")}
    known |= {name: name for name in ("scenedetect", "torch", "torchvision", "typer")}
    known |= {name: name for name in ("filelock", "httpx", "requests", "safetensors")}
    known |= {"PIL": "pillow", "click": "typer", "cv2": "opencv-python", "retinaface": "retinaface-pytorch"}
    known |= {"skimage": "scikit-image", "syncnet_python": "syncnet-python", "webrtcvad": "webrtcvad-wheels"}
    known |= {"huggingface_hub": "huggingface-hub", "whisper": "openai-whisper"}
    known |= {"yt_dlp": "yt-dlp"}
    known |= {"python_speech_features": "python-speech-features"}
    extras = [requirement for requirements in EXTRAS.values() for requirement in requirements]
    known = {requirement.name: requirement.name for requirement in extras} | known
    asked = {canonicalize_name(requirement.name) for requirement in [*RUNTIME, *extras]}
    files = [path for path in _shipped_files() if path.suffix == ".py"] + [ROOT / "cli.py"]
    imported: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"hs_data"}
    assert {"numpy", "av", "typer"} <= foreign
    assert sorted(name for name in foreign if known.get(name) not in asked) == []
