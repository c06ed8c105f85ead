"""What the shell completes, asked as a shell asks: through the hook that `hs-data --install-completion` installs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hs_data.cli
from hs_data.manifests.settings import keys
from hs_data.manifests.sources import sources
from hs_data.pipeline.config import Config, presets

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return what is offered for the last word of a command line."""

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("_HS_DATA_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["hs-data", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setattr(sys, "argv", ["hs-data"])
        with pytest.raises(SystemExit):
            hs_data.cli.main()
        return capsys.readouterr().out.split()

    return ask


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("build", "--source", ""), sorted(sources())),
        (("build", "--source", "vf"), ["vfhq"]),
        (("sources", "lrs"), ["lrs2", "lrs3"]),
        (("fetch", "--source", "hd"), ["hdtf"]),
        (("build", "--preset", ""), sorted(presets())),
        (("models", "fetch", "--preset", "hi"), ["highsync"]),
        (("models", "fetch", "whisper-t"), ["whisper-tiny"]),
        (("build", "--executor", ""), ["ray", "local"]),
        (("train", "--recipe", ""), ["highsync-stage1", "highsync-stage2"]),
        (("train", "--size", ""), ["full", "tiny"]),
        (("ablate", "leakage", "--size", "t"), ["tiny"]),
        (("export", "--to", "w"), ["webdataset"]),
        (("fetch", "--again", "rem"), ["removed"]),
        (("build", "--set", ""), [f"{key}=" for key, _, _ in keys(Config)]),
        (("build", "--set", "select.min_face_p"), ["select.min_face_px=", "select.min_face_px=96.0"]),
        (("build", "--set", "models.prec"), ["models.precision=", *(f"models.precision={n}" for n in PRECISIONS)]),
        (("select", "d", "--set", "select.max_yaw"), ["select.max_yaw_deg=", "select.max_yaw_deg=60.0"]),
        (("select", "d", "--set", "crop"), []),
        (("models", "--set", "models.di"), ["models.dir=", "models.dir="]),
        (("train", "d", "--set", "recipe.noise"), ["recipe.noise_offset=", "recipe.noise_offset=0.05"]),
        (("train", "d", "--set", "run.keep"), ["run.keep_last=", "run.keep_every="]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_values_are_offered(complete, words: tuple[str, ...], offered: list[str]):
    assert complete(*words) == offered


def test_named_selections_of_the_dataset_are_offered(complete, tmp_path: Path):
    for name in ("strict", "loose"):
        (tmp_path / "selections" / name).mkdir(parents=True)
        (tmp_path / "selections" / name / "selection.json").write_text("{}")
    assert complete("why", str(tmp_path), "--selection", "s") == ["strict"]
    assert complete("report", str(tmp_path), "--selection", "") == ["loose", "strict"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(tmp_path: Path):
    """The script that typer prints, sourced by a real bash, whose function is called as readline calls it."""
    command = tmp_path / "hs-data"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m hs_data.cli "$@"\n')
    command.chmod(0o755)
    script = """
        source <(_HS_DATA_COMPLETE=source_bash hs-data)
        ask() {
            COMP_WORDS=(hs-data "$@"); COMP_CWORD=$#; COMPREPLY=()
            _hs_data_completion hs-data
            echo "${COMPREPLY[@]}"
        }
        complete -p hs-data
        ask build --source v
        ask build --set select.min_face_p
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    registered, *offered = done.stdout.splitlines()
    assert registered.endswith("hs-data"), done.stderr
    assert offered == ["vfhq voxceleb2", "select.min_face_px= select.min_face_px=96.0"]
