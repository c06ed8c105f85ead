"""Each source in a tiny tree of its own layout, made of real clips, built end to end with `--preset cpu`."""

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from builds import build

from hs_data.manifests.dataset import Dataset
from hs_data.manifests.records import pack
from hs_data.manifests.sources import get_source
from hs_data.pipeline.annotations.spans import place_spans
from hs_data.pipeline.config import Config
from hs_data.pipeline.media import decode
from hs_data.pipeline.media.decode import DecodeConfig
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.run.plan import list_inputs, score_items

TALK = "OpenTalker__SadTalker__examples_ref_video_WDA_KatieHill_000_first4s.mp4"
NTSC = "derived__dev_fps29.97.mp4"
SILENT_FILE = "derived__dev_noaudio.mp4"
A, B, C, D = "-_raOc3-IRs", "__f2KtcXAxI", "gh3YqnvNdio", "00j9bKdiOjk"
Put = Callable[[str, str], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "in"


@pytest.fixture
def put(root: Path, media: Path) -> Put:
    """Copy a clip into the tree; each copy has contents of its own, so that none counts as a duplicate."""

    def copy(clip: str, path: str) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes((media / clip).read_bytes() + path.encode())

    return copy


def _note(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def _outcomes(dataset: Dataset) -> dict[str, str]:
    return {row["path"]: row["outcome"] for row in dataset.videos(["path", "outcome"]).to_pylist()}


def _clips(dataset: Dataset) -> list[dict]:
    names = ["path", "start_s", "duration_s", "start_kind", "verdict", "split", "identity", "youtube_id"]
    return dataset.clips([*names, "annotation", "transcript", "language", "video_id", "start_frame"]).to_pylist()


def _body(width: int, height: int, fps: str) -> str:
    return f"Video ID: x\nH: {height}\nW: {width}\nFPS: {fps}\n\nFRAME INDEX X0 Y0 W H\n\nCROP: 50 50 400 400\n"


def test_vfhq(root: Path, put: Put, weights: Path):
    put(NTSC, f"raw/{A}.mp4")
    put(TALK, f"raw/{B}.mp4")
    put(TALK, f"cut/Clip+{C}+P0+C1.mp4")
    put(SILENT_FILE, f"raw/{D}.mp4")
    put(SILENT_FILE, "holiday.mp4")
    notes = {
        f"Clip+{A}+P0+C0+F20-130": _body(512, 512, "29.97"),
        f"Clip+{A}+P1+C0+F22-128": _body(512, 512, "29.97"),
        f"Clip+{B}+P0+C0+F0-99": _body(1920, 1080, "25"),
        f"VFHQ-Test/Clip+{C}+P0+C1+F500-600": _body(1920, 1080, "25"),
        f"Clip+{D}+P0+C0+F0-99": _body(512, 512, "25"),
        "Clip+zzzzzzzzzzz+P0+C0+F0-99": _body(512, 512, "25"),
        f"Clip+{D}+P0+C1+F0-99": "FPS: often\n",
    }
    for name, text in notes.items():
        _note(root, f"meta_info/{name}.txt", text)
    dataset = build("vfhq", root, f"models.dir={weights}")
    assert _outcomes(dataset) == {
        f"raw/{A}.mp4": "ok",
        f"raw/{B}.mp4": "bbox_resolution_mismatch",
        f"cut/Clip+{C}+P0+C1.mp4": "ok",
        f"raw/{D}.mp4": "no_audio_stream",
        "holiday.mp4": "annotation_missing",
        "zzzzzzzzzzz.mp4": "unavailable",
        f"meta_info/Clip+{D}+P0+C1+F0-99.txt": "annotation_unreadable",
    }
    [cut, full] = _clips(dataset)
    assert full["start_kind"] == "span"
    assert full["start_s"] == pytest.approx(21 * 1001 / 30000, abs=0.02)
    assert full["start_s"] + full["duration_s"] == pytest.approx(130 * 1001 / 30000, abs=0.02)
    assert (full["verdict"], full["youtube_id"], full["annotation"]) == ("kept", A, f"Clip+{A}+P0+C0+F20-130")
    assert (cut["verdict"], cut["youtube_id"], cut["split"], cut["start_s"]) == ("kept", C, "test", 0)
    assert full["split"] in ("train", "val")


def test_hdtf(root: Path, put: Put, weights: Path):
    put(NTSC, "videos/WDA_KatieHill.mp4")
    put(TALK, "clips/Ann0_0.mp4")
    _note(root, "WDA_annotion_time.txt", "Ann0.mp4 00:10-00:14 \nKatieHill.mp4 00:01-00:05 02:00-02:10\nAnn1.mp4 1-2\n")
    _note(root, "WDA_video_url.txt", f"\ufeffAnn0 https://www.youtube.com/watch?v={A}\n")
    _note(root, "WDA_crop_wh.txt", "KatieHill_0.mp4 40 400 20 400\n")
    _note(root, "WDA_resolution.txt", "KatieHill.mp4 512\n")
    _note(root, "test.txt", "WDA_KatieHill\n")
    dataset = build("hdtf", root, f"models.dir={weights}")
    assert _outcomes(dataset) == {
        "videos/WDA_KatieHill.mp4": "ok",
        "clips/Ann0_0.mp4": "ok",
        "WDA_annotion_time.txt:3": "annotation_unreadable",
    }
    details = dict(zip(*dataset.videos(["path", "detail"]).to_pydict().values(), strict=True))
    assert "1 of 2 annotated spans: truncated" in details["videos/WDA_KatieHill.mp4"]
    ann, katie = _clips(dataset)
    assert (katie["start_s"], katie["annotation"], katie["identity"]) == (1.0, "WDA_KatieHill_000", "KatieHill")
    assert (katie["verdict"], katie["split"]) == ("kept", "test")
    assert (ann["verdict"], ann["identity"], ann["youtube_id"]) == ("kept", "Ann", A)


def test_celebvhq(root: Path, put: Put, weights: Path):
    put(NTSC, f"downloaded_celebvhq/raw/{A}.mp4")
    put(TALK, f"downloaded_celebvhq/processed/{A}_0.mp4")
    box = {"top": 0.0, "bottom": 0.88, "left": 0.19, "right": 0.69}
    times = {f"{A}_0": (0.52, 4.56), f"{B}_3": (1, 5)}
    clips = {
        key: {"ytb_id": key[:11], "duration": {"start_sec": start, "end_sec": end}, "bbox": box}
        for key, (start, end) in times.items()
    }
    _note(root, "celebvhq_info.json", json.dumps({"clips": clips}))
    dataset = build("celebvhq", root, f"models.dir={weights}")
    assert _outcomes(dataset) == {
        f"downloaded_celebvhq/raw/{A}.mp4": "ok",
        f"downloaded_celebvhq/processed/{A}_0.mp4": "duplicate",
        f"{B}.mp4": "unavailable",
    }
    [clip] = _clips(dataset)
    assert (clip["verdict"], clip["start_s"], clip["duration_s"]) == ("kept", 0.52, 4.04)
    # A dataset of spans knows what was scored even when its workings are gone.
    assert {"chunks": [13], "chunk_ends": [114]} in dataset.videos(["chunks", "chunk_ends"]).to_pylist()
    before = dataset.clips()
    shutil.rmtree(dataset.path / "work")
    assert build("celebvhq", root, f"models.dir={weights}").clips().equals(before)
    assert not list((dataset.path / "work" / "plan").glob("score*")), "nothing was scored again"


def test_talkvid(root: Path, put: Put, weights: Path):
    put(NTSC, f"{A}.mp4")
    about = {"Video Link": f"https://www.youtube.com/watch?v={A}", "Person ID": "597", "Language": "English"}
    entry = {"id": f"videovideo{A}-scene1-scene1", "fps": 24.0, "start-time": 0.1, "end-time": 4.1, "info": about}
    _note(root, "filtered_video_clips.json", json.dumps([entry, {"id": "?"}], indent=1))
    dataset = build("talkvid", root, f"models.dir={weights}")
    assert sorted(_outcomes(dataset).values()) == ["annotation_unreadable", "ok"]
    [clip] = _clips(dataset)
    assert (clip["verdict"], clip["language"], clip["identity"]) == ("kept", "English", "person 597")
    assert clip["start_s"] == pytest.approx(0.1, abs=0.0201)


@pytest.mark.parametrize("source", ["voxceleb2", "lrs3", "lrs2"])
def test_clips_that_are_cut_already(root: Path, put: Put, weights: Path, source: str):
    train, test, note = {
        "voxceleb2": (f"dev/mp4/id00012/{A}/00001", f"test/mp4/id00017/{B}/00001", f"dev/txt/id00012/{A}/00001"),
        "lrs3": (f"trainval/{A}/50001", f"test/{B}/00001", f"trainval/{A}/50001"),
        "lrs2": ("main/5535415699068794046/00001", "main/6330311066473698535/00001", "main/5535415699068794046/00001"),
    }[source]
    put(TALK, f"{train}.mp4")
    put(SILENT_FILE, f"{test}.mp4")
    _note(root, f"{note}.txt", "Text:  WE ARE HERE \nConf:  4\n")
    if source == "lrs2":
        _note(root, "train.txt", "5535415699068794046/00001\n")
        _note(root, "test.txt", "6330311066473698535/00001\n")
    dataset = build(source, root, f"models.dir={weights}", "select.val_share=0")
    assert _outcomes(dataset) == {f"{train}.mp4": "ok", f"{test}.mp4": "no_audio_stream"}
    [clip] = _clips(dataset)
    assert (clip["verdict"], clip["transcript"], clip["split"]) == ("kept", "WE ARE HERE", "train")
    assert clip["identity"] == train.split("/")[-3 if source == "voxceleb2" else -2]


# --- where in the source a clip begins


def _counting_video(path: Path, num_frames: int) -> None:
    """Draw a 29.97 fps video whose frame number stands in it as eleven black or white blocks."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 11 * 16, 32, "yuv420p"
        for number in range(num_frames):
            bits = np.array([number >> bit & 1 for bit in range(11)], np.uint8) * 255
            picture = np.repeat(np.repeat(bits[None, :, None], 16, axis=1), 3, axis=2)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.repeat(picture, 32, axis=0)), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def _number_in(picture: np.ndarray) -> int:
    return sum(int(picture[16, 16 * bit + 8].mean() > 128) << bit for bit in range(11))


@pytest.mark.parametrize("first", [0, 7, 448, 1203])
def test_a_vfhq_clip_begins_with_the_picture_that_its_frame_range_names(tmp_path: Path, first: int):
    _counting_video(tmp_path / f"{A}.mp4", 1400)
    _note(tmp_path, f"Clip+{A}+P0+C0+F{first}-{first + 120}.txt", _body(176, 32, "29.97"))
    [item] = list_inputs(get_source("vfhq"), tmp_path, limit=None, shard=None)
    video = probe(tmp_path / f"{A}.mp4")
    receipt = {"outcome": "ok", "video_id": "v", "video": pack(video), "facts": [1, 1, 1]}
    probed = {item["id"]: place_spans(receipt, item["spans"], check_boxes=True)}
    [stretch] = score_items([item], probed, Config())
    wanted_s = (first + 1) * 1001 / 30000
    assert stretch["start_frame"] / 25 == pytest.approx(wanted_s, abs=0.02)
    span = {"start_frame": stretch["start_frame"], "end_frame": stretch["end_frame"]}
    numbers = [_number_in(f.rgb) for f in decode.frames(tmp_path / f"{A}.mp4", video, **span, config=DecodeConfig())]
    # At 25 a second every sixth picture is left out, so the outermost may be; those beyond the range never show.
    assert numbers[0] in (first + 1, first + 2)
    assert numbers[-1] in (first + 118, first + 119)
