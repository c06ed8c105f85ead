"""The command line: what goes where, how it ends, how fast it answers."""

import json
import os
import resource
import subprocess
import sys
from importlib.metadata import version

import pytest

from hs_data.manifests.sources import sources


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "hs_data.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})


def test_version_is_data():
    done = run("--version")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, version("hs-data"), "")


def test_help_answers_in_half_a_second():
    fastest_s = 9.0
    for _ in range(5):
        began_s = _children_s()
        assert run("--help").returncode == 0
        fastest_s = min(fastest_s, _children_s() - began_s)
    assert fastest_s < 0.5


def _children_s() -> float:
    """CPU time of the commands that have ended: on a busy machine the clock on the wall says nothing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(("build", "--source", "vfqh", "-o", "x"), 2, "choose one of", id="unknown source"),
        pytest.param(("build", "--source", "folder", "-o", "x"), 2, "needs --input", id="no input"),
        pytest.param(("build", "--source", "folder", "-i", "nowhere", "-o", "x"), 2, "no such folder", id="no folder"),
        pytest.param(("build", "--source", "demo", "-o", "x", "--preset", "gpu"), 2, "choose one of", id="preset"),
        pytest.param(
            ("build", "--source", "demo", "-o", "x", "--set", "crop.polcy=eyes"), 2, "crop.policy", id="misspelt"
        ),
        pytest.param(("build", "--source", "demo", "-o", "x", "--set", "faces.stride=0"), 2, "stride", id="value"),
        pytest.param(("build", "--source", "demo", "-o", "x", "--shard", "4/3"), 2, "1 <= i <= n", id="shard"),
        pytest.param(("build", "--source", "demo"), 2, "--output", id="usage"),
        pytest.param(("verify", "nowhere"), 1, "no dataset.json", id="no dataset"),
        pytest.param(("why", "nowhere", "x"), 1, "no dataset.json", id="why nothing"),
        pytest.param(("models", "--set", "crop.size=3"), 2, "models.", id="foreign setting"),
        pytest.param(("models", "--json", "fetch", "yunet"), 2, "write them at the end", id="options before"),
        pytest.param(("sources", "nothing"), 2, "choose one of", id="no such source"),
    ],
)
def test_errors_are_one_line_with_a_way_out(tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_model_stops_the_build_before_anything_is_written(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    words = ("build", "--source", "folder", "-i", str(tmp_path / "videos"), "-o", str(tmp_path / "out"))
    done = run(*words, "--preset", "cpu", env={"HS_DATA_MODELS": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr == f"error yunet: not in {tmp_path}; run  hs-data models fetch yunet\n"
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback():
    assert "Traceback" in run("verify", "nowhere", env={"HS_DATA_DEBUG": "1"}).stderr


def test_lists_are_json_on_demand():
    names = [row["name"] for row in json.loads(run("sources", "--json").stdout)]
    assert names == sorted(sources())
    model = json.loads(run("models", "--json").stdout)[0]
    assert (model["name"], model["licence"], len(model["sha256"])) == ("yunet", "MIT", 64)


def test_a_model_file_counts_by_its_hash(weights):
    found = json.loads(run("models", "--set", f"models.dir={weights}", "--json").stdout)[0]["found"]
    assert found.endswith("face_detection_yunet_2023mar.onnx")


def test_doctor_tries_every_decoder():
    done = run("doctor", "--json")
    found = {row["what"]: row["state"] for row in json.loads(done.stdout)}
    assert all(found[f"decode {codec}"] == "ok" for codec in ("h264", "hevc", "vp9", "av1"))
    assert found["ray"] == "ok"
    assert found["package torch"] == "ok"
    assert done.returncode == (0 if "missing" not in found.values() else 1)


def test_an_output_folder_that_holds_other_things_is_refused(tmp_path):
    (tmp_path / "letters.txt").write_text("mine")
    done = run("build", "--source", "demo", "-o", str(tmp_path))
    assert done.returncode == 2
    assert "letters.txt" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]
