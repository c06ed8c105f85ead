"""Wrong words on the command line: each is answered in one line of ours, with the near name and the way out."""

import re
import sys
from pathlib import Path

import pytest

from hs_data.cli import main
from hs_data.manifests.near import nearest

FOREIGN = re.compile(r"pydantic|Value error|Input should|valid integer|Traceback|[╭│╰]|\b(\w+)\.\1\b")
"""Words and frames of libraries, and a section that is named twice."""


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a command line in this process, in an empty folder; return its exit code and what it said."""
    monkeypatch.setenv("HS_DATA_MODELS", str(tmp_path / "no_models"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hs-data", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        assert out == ""
        return int(stopped.value.code or 0), err

    return run


DEMO = ("build", "--source", "demo", "-o", "x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*DEMO, "--workers", "x"), "--workers x: is not a whole number; give one; see  hs-data build --help"),
        ((*DEMO, "--workers", "-1"), "--workers -1: is out of range; give 0 or more; see  hs-data build --help"),
        ((*DEMO, "--executor", "rya"), "--executor rya: is not possible; did you mean ray? choose one of ray, local"),
        ((*DEMO, "--presset", "cpu"), "--presset: no such option; did you mean --preset? see  hs-data build --help"),
        ((*DEMO, "--preset", "cup"), "--preset cup: no such preset; did you mean cpu? choose one of cpu, embedded"),
        ((*DEMO, "--set", "min_face_px=2"), "min_face_px: no such setting; did you mean select.min_face_px?"),
        ((*DEMO, "--set", "select.val_share=2"), "select.val_share: 2.0 is out of range; give 0 to 0.999"),
        ((*DEMO, "--set", "run.chunk_s=1e-9"), "run.chunk_s: 1e-09 is out of range; give 10 to 1,000,000"),
        ((*DEMO, "--set", "crop.policy=eye"), "crop.policy: 'eye' is not possible; did you mean eyes? choose one of"),
        (("build", "--source", "vfqh", "-o", "x"), "--source vfqh: no such source; did you mean vfhq? choose one of"),
        (("build", "-o", "x"), "build: needs --source NAME; choose one of celebvhq, demo, "),
        (("sources", "VFHQ"), "--source VFHQ: no such source; did you mean vfhq?"),
        (("biuld",), "No such command 'biuld'; did you mean 'build'; see  hs-data --help"),
        (("why",), "DATASET: is missing; give it; see  hs-data why --help"),
        (("gc", ".", "--min-age-h", "nan"), "--min-age-h nan: is out of range; give 0 or more"),
        (("export", ".", "--to", "hff", "-o", "z"), "--to hff: is not possible; did you mean hf? choose one of"),
        (("fetch", "--source", "hdtf", "-i", ".", "-o", "z", "--again", "remoed"), "did you mean removed? choose one"),
        (("fetch", "--source", "hdtf", "-i", ".", "-o", "z", "--pause", "inf"), "--pause inf: is out of range; give"),
        (("models", "fetch", "yunt"), "yunt: no such model; did you mean yunet?"),
        (("models", "--set", "dir=x"), "--set dir: only models.* means something here; did you mean models.dir?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_word_is_answered_in_one_line(ask, words: tuple[str, ...], message: str):
    code, said = ask(*words)
    assert code == 2
    assert said.startswith("error ")
    assert message in said
    assert said.count("\n") == 1
    assert not FOREIGN.search(said)
    assert not list(Path().iterdir())


def test_a_build_says_at_once_all_that_it_needs(ask):
    code, said = ask("build", "--source", "vfhq")
    assert code == 2
    for needed in (
        "3 things are missing",
        "meta_info/**/Clip+<YouTube id>",  # the tree
        "hs-data fetch --source vfhq --input ANNOTATIONS --output DIR",
        "--output DATASET: is not given",
        "hs-data models fetch retinaface syncnet whisper-tiny sd-vae-ft-mse",
        "Then:  hs-data build --source vfhq --input DIR --output DATASET",
    ):
        assert needed in said
    assert said.count("\n") < 25


def test_what_is_given_already_is_not_asked_for_again(ask):
    Path("videos").mkdir()
    said = ask("build", "--source", "vfhq", "--input", "videos", "--preset", "cpu", "--set", "models.dir=w")[1]
    assert "2 things are missing" in said
    assert "meta_info" not in said
    assert "hs-data models fetch yunet --set models.dir=w" in said
    assert "Then:  hs-data build --source vfhq --input videos --output DATASET --preset cpu\n" in said
    said = ask("build", "--source", "folder", "--input", "videos", "--preset", "embedded")[1]
    assert said == "error --output DATASET: is not given; name a new or an empty folder to write\n"


@pytest.mark.parametrize("source", ["folder", "vfhq"])
def test_a_file_as_input_is_told_with_the_folder_to_name(ask, source: str):
    Path("videos").mkdir()
    Path("videos/talk.mp4").write_bytes(b"x")
    words = ("build", "--source", source, "--input", "videos/talk.mp4", "-o", "out", "--preset", "embedded")
    wanted = "--input videos/talk.mp4: is a file; name the folder that holds it: --source folder --input videos"
    assert ask(*words) == (2, f"error {wanted}\n")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("read", "written", "message"),
    [
        ("videos", "videos/out", "--output videos/out: lies inside the input folder videos; name a folder beside it"),
        ("videos", "videos/a/../b", "lies inside the input folder videos"),
        ("videos", "link/out", "--output link/out: lies inside the input folder videos"),
        ("out/videos", "out", "--input out/videos: lies inside the output folder out; name a folder beside it"),
        ("videos", "videos", "--output videos: is the input folder"),
    ],
)
def test_input_and_output_lie_beside_each_other(ask, read: str, written: str, message: str):
    Path(read).mkdir(parents=True)
    Path(read, "a.mp4").write_bytes(b"x")
    if written.startswith("link"):
        Path("link").symlink_to("videos")
    code, said = ask("build", "--source", "folder", "-i", read, "-o", written, "--preset", "embedded")
    assert code == 2
    assert message in said
    assert [path.name for path in Path(read).iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("name", "near"),
    [("talkr_a.mp4", "talker_a.mp4"), ("TALKER_A.MP4", "talker_a.mp4"), ("sound_early5.mp4", "sound_early_5.mp4")],
)
def test_why_knows_the_near_name(ask, demo_dataset: Path, name: str, near: str):
    code, said = ask("why", str(demo_dataset), name)
    assert code == 1
    assert said.endswith(f"no clip id begins with it and no path contains it; did you mean {near}?\n")


def test_the_nearest_name():
    assert nearest("vfqh", ["hdtf", "vfhq", "folder"]) == "vfhq"
    assert nearest("", ["hdtf"]) is None
    assert nearest("qqqq", ["hdtf", "vfhq"]) is None
    assert nearest("file_10.mp4", (f"file_{n:06}.mp4" for n in range(1_000_000))) is not None, "in seconds"
