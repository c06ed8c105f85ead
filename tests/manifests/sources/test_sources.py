"""Sources: what is found, matched, counted and refused; times, boxes and splits; damage of every kind."""

import ast
import json
import pkgutil
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pytest

from hs_data.manifests.errors import ConfigError, SourceError
from hs_data.manifests.reasons import REASONS
from hs_data.manifests.records import Video, pack
from hs_data.manifests.sources import SourceVideo, get_source, load_source, sources
from hs_data.manifests.sources.annotations import Box, Span, UnreadableError, frame_rate, number
from hs_data.manifests.sources.vfhq import read_body
from hs_data.pipeline.annotations.spans import annotate, frame_at, pack_span, place_spans
from hs_data.pipeline.config import Config, RunConfig, resolve
from hs_data.pipeline.run.plan import list_inputs, score_items
from hs_data.pipeline.score.registry import SCORE_SCHEMA
from hs_data.pipeline.splits import assign, overlaps

ID = "-_raOc3-IRs"
OTHER = "gh3YqnvNdio"
BODY = (
    "Video ID: {id}\nH: 1080\nW: 1920\nFPS: {fps}\n\nFRAME INDEX X0 Y0 W H [Landmarks (5 Points)]\n\n"
    "00000011 0 400.5 200.0 300.0 320.0 1 2 3 4 5 6 7 8 9 10\n"
    "00000012 1 401.0 201.0 300.0 320.0\n\nCROP: 300 100 900 700\n"
)
REAL = ("celebvhq", "hdtf", "lrs2", "lrs3", "talkvid", "vfhq", "voxceleb2")
PREPARED = ("highsync", "latentsync")


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    root.mkdir(parents=True, exist_ok=True)
    return root


def _list(name: str, root: Path) -> dict[str, SourceVideo]:
    found = list(get_source(name).list_videos(root))
    assert {video.reason for video in found} - {None} <= set(REASONS)
    return {video.path: video for video in found}


def _reasons(name: str, root: Path) -> dict[str, str | None]:
    return {path: video.reason for path, video in _list(name, root).items()}


def _video(num_frames: int = 2500, width: int = 1920, height: int = 1080) -> Video:
    return Video(
        container="mp4",
        video_codec="h264",
        width=width,
        height=height,
        rotation_deg=0,
        fps=25.0,
        is_vfr=False,
        num_packets=num_frames,
        num_frames=num_frames,
        start_s=Fraction(0),
        duration_s=Fraction(num_frames, 25),
        keyframes_s=(Fraction(0),),
        audio_codec="aac",
        audio_start_s=Fraction(0),
        audio_duration_s=Fraction(num_frames, 25),
        sample_rate_hz=16000,
        num_channels=1,
        num_audio_streams=1,
    )


def _celeb(**clips: tuple[float, float]) -> str:
    box = {"top": 0.1, "bottom": 0.9, "left": 0.2, "right": 0.7}
    table = {
        name: {"ytb_id": name[:11], "duration": {"start_sec": start, "end_sec": end}, "bbox": box}
        for name, (start, end) in clips.items()
    }
    return json.dumps({"meta_info": {}, "clips": table})


# --- what every source states


@pytest.mark.parametrize("name", REAL)
def test_a_source_states_all_that_a_user_needs(name: str):
    source = get_source(name)
    for text in (source.layout, source.licence, source.obtain, source.citation, source.summary):
        assert len(text) > 20
    assert "\n" not in source.licence
    assert source.expected
    assert source.parts
    resolve(preset=source.preset, source=source.defaults, saved={}, file=None, assignments=[])


def test_each_source_has_a_reader_and_what_it_names_is_there(tmp_path: Path):
    assert set(sources()) == {"demo", "folder", *PREPARED, *REAL}
    for name, source in sources().items():
        hooks = [hook for hook in (source.reader, source.maker) if hook]
        assert len(hooks) == 1 + (name == "demo")
        assert all(callable(pkgutil.resolve_name(hook)) for hook in hooks), name
        assert source.needs_input == (name != "demo")
        assert source.made_folder(tmp_path) == (tmp_path / "demo_videos" if name == "demo" else None)


@pytest.mark.parametrize("room", ["encode", "export", "fetching", "maintain", "media", "report", "run", "workers"])
def test_no_room_of_the_pipeline_names_a_source(room: str):
    # `folder` is what videos that nobody described are read with, and `highsync` is a preset and a recipe too.
    names = set(sources()) - {"folder", "highsync"}
    files = sorted((Path(__file__).parents[3] / "pipeline" / room).rglob("*.py"))
    assert files
    named = [
        f"{path.name}:{node.lineno} {node.value}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and str(node.value).removesuffix("_videos") in names
    ]
    assert named == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("readr = 'x:y'", "readr: a source has no such key; did you mean reader"),
        ("", "reader is missing; docs/extending.md"),
        ("reader = 'nowhere_at_all:y'", "source mine: reader = 'nowhere_at_all:y' cannot be loaded"),
        ("reader = 'json:y'", "source mine: reader = 'json:y' cannot be loaded"),
        ("reader = 'two words'", "source mine: reader = 'two words' cannot be loaded"),
    ],
)
def test_a_declaration_that_is_wrong_is_told_in_a_line(tmp_path: Path, line: str, said: str):
    words = [f'{key} = "x"' for key in ("summary", "layout", "licence", "preset")]
    (tmp_path / "mine.toml").write_text("\n".join([*words, line]))
    with pytest.raises(ConfigError, match=re.escape(said)):
        list(load_source(tmp_path / "mine.toml").list_videos(tmp_path))


@pytest.mark.parametrize("name", REAL)
def test_nothing_there_is_told_with_the_layout_and_the_way_to_it(tmp_path: Path, name: str):
    with pytest.raises(SourceError) as caught:
        list_inputs(get_source(name), tmp_path, limit=None, shard=None)
    assert caught.value.exit_code == 2
    assert get_source(name).guide() in str(caught.value)
    assert get_source(name).obtain.strip() in str(caught.value)


def test_annotations_without_videos_are_told_as_such(tmp_path: Path):
    _write(tmp_path, {f"meta_info/Clip+{ID}+P0+C0+F10-130.txt": BODY.format(id=ID, fps=25)})
    with pytest.raises(SourceError, match=rf"1 unavailable; first {ID}.mp4: named by meta_info/Clip.*txt:1"):
        list_inputs(get_source("vfhq"), tmp_path, limit=None, shard=None)


# --- VFHQ


def test_a_vfhq_clip_is_the_frames_between_its_two_numbers(tmp_path: Path):
    _write(tmp_path, {f"VFHQ-Train/Clip+{ID}+P0+C0+F11208-11383.txt": BODY.format(id=ID, fps=29.97), f"{ID}.webm": "x"})
    video = _list("vfhq", tmp_path)[f"{ID}.webm"]
    [span] = video.spans
    rate = Fraction(30000, 1001)
    assert (span.start_s, span.end_s) == (11209 / rate, 11383 / rate)
    assert (video.youtube_id, video.identity, video.split) == (ID, ID, None)
    assert span.box is not None
    assert span.box.scaled(1280, 720) == pytest.approx((200, 100 / 1.5, 600, 700 / 1.5))


@pytest.mark.parametrize(
    ("text", "fps", "num_rows", "num_faults"),
    [
        pytest.param(BODY.format(id=ID, fps=23.98), Fraction(24000, 1001), 2, 0, id="as_scripts_read_it"),
        pytest.param("Video ID:\tx\nH:\t1080\nW:\t1920\nFPS:\t25.0\n", Fraction(25), 0, 0, id="tabs"),
        pytest.param("H 1080\nW 1920\nFPS 50\nCROP 0 0 10 10\n", Fraction(50), 0, 0, id="no_colons"),
        pytest.param(BODY.format(id=ID, fps=25) + "1 2 three\n", Fraction(25), 2, 1, id="a_bad_row"),
        pytest.param(BODY.format(id=ID, fps="fast"), None, 2, 1, id="no_rate"),
        pytest.param("", None, 0, 0, id="empty"),
    ],
)
def test_vfhq_bodies_are_read_freely_and_bad_lines_are_told(tmp_path, text, fps, num_rows, num_faults):
    _write(tmp_path, {"a.txt": text})
    body = read_body(tmp_path / "a.txt")
    assert (body.fps, len(body.rows), len(body.faults)) == (fps, num_rows, num_faults)


def test_vfhq_rows_are_sizes_unless_the_header_says_corners(tmp_path: Path):
    _write(tmp_path, {"a.txt": BODY.format(id=ID, fps=25)})
    _write(tmp_path, {"b.txt": BODY.format(id=ID, fps=25).replace("X0 Y0 W H", "X0 Y0 X1 Y1")})
    assert read_body(tmp_path / "a.txt").rows[0].corners == (400.5, 200, 700.5, 520)
    assert read_body(tmp_path / "b.txt").rows[0].corners == (400.5, 200, 300, 320)
    assert read_body(tmp_path / "a.txt").rows[1].frame == 12


def test_vfhq_names_rows_and_files_that_cannot_be_used_are_counted(tmp_path: Path):
    bad = BODY.format(id=ID, fps=25) + "1 2 three\n"
    files = {
        f"m/VFHQ-Test/Clip+{ID}+P0+C0+F10-130.txt": bad,
        f"m/Clip+{ID}+P0+C1+F500-500.txt": BODY.format(id=ID, fps=25),
        f"m/Clip+{ID}+P0+C2.txt": BODY.format(id=ID, fps=25),
        f"m/Clip+{OTHER}+P2+C1+F10-130.txt": BODY.format(id=OTHER, fps=25),
        f"{ID}.mp4": "x",
        f"{ID}_C0.mp4": "x",
        f"{OTHER}_C1.mp4": "x",
        "stray.mp4": "x",
    }
    found = _list("vfhq", _write(tmp_path, files))
    assert {path: video.reason for path, video in found.items()} == {
        f"{ID}.mp4": None,
        f"{OTHER}_C1.mp4": None,
        f"{ID}_C0.mp4": "duplicate",
        "stray.mp4": "annotation_missing",
        f"m/VFHQ-Test/Clip+{ID}+P0+C0+F10-130.txt": "annotation_unreadable",
        f"m/Clip+{ID}+P0+C1+F500-500.txt": "annotation_unreadable",
        f"m/Clip+{ID}+P0+C2.txt": "annotation_unreadable",
    }
    assert found[f"{ID}.mp4"].split == "test"
    assert "line 12" in str(found[f"m/VFHQ-Test/Clip+{ID}+P0+C0+F10-130.txt"].detail)
    cut = found[f"{OTHER}_C1.mp4"].spans[0]
    assert (cut.start_s, cut.end_s, cut.box) == (0, None, None), "the whole file, which shows another picture"


# --- HDTF, CelebV-HQ, TalkVid


def test_hdtf_lines_that_cannot_be_read_are_counted_one_by_one(tmp_path: Path):
    files = {
        "WDA_video_url.txt": f"\ufeffAnn0 https://youtu.be/{ID}\nAnn1 https://example.org\n../../x https://youtu.be/{ID}\n",
        "WDA_annotion_time.txt": "Ann0.mp4 00:10-00:20 01:00-02:00 \nAnn1.mp4 00:30-00:20\n",
        "WDA_crop_wh.txt": "Ann0_0.mp4 412 599 0 599\nAnn0_1.mp4 1 2 3\n",
        "WDA_resolution.txt": "Ann0.mp4 720\n",
        "raw/Ann0.mp4": "x",
    }
    found = _list("hdtf", _write(tmp_path, files))
    assert {path: video.reason for path, video in found.items() if video.reason} == {
        "WDA_video_url.txt:2": "annotation_unreadable",
        "WDA_video_url.txt:3": "annotation_unreadable",
        "WDA_annotion_time.txt:2": "annotation_unreadable",
        "WDA_crop_wh.txt:2": "annotation_unreadable",
    }
    video = found["raw/Ann0.mp4"]
    assert (video.youtube_id, video.identity) == (ID, "Ann")
    assert [(span.name, span.start_s, span.end_s, span.box is None) for span in video.spans] == [
        ("WDA_Ann0_000", 10, 20, False),
        ("WDA_Ann0_001", 60, 120, True),
    ]


def test_hdtf_lists_at_the_root_are_its_official_split(tmp_path: Path):
    _write(tmp_path, {"WRA_annotion_time.txt": "Bob.mp4 00:10-00:20\n", "Bob_0.mp4": "x", "test.txt": "WRA_Bob_000\n"})
    assert _list("hdtf", tmp_path)["Bob_0.mp4"].split == "test"


def test_celebvhq_takes_the_full_video_before_the_cut_clip(tmp_path: Path):
    text = _celeb(**{f"{ID}_0": (1.5, 6.25), f"{ID}_12": (10, 20), f"{OTHER}_1": (0, 5)})
    files = {"celebvhq_info.json": text, f"raw/{ID}.mkv": "x", f"processed/{ID}_12.mp4": "x", f"p/{OTHER}_1_0.mp4": "x"}
    found = _list("celebvhq", _write(tmp_path, files))
    assert [float(span.start_s) for span in found[f"raw/{ID}.mkv"].spans] == [1.5, 10.0]
    assert found[f"processed/{ID}_12.mp4"].reason == "duplicate"
    assert found[f"p/{OTHER}_1_0.mp4"].reason is None


def test_celebvhq_entries_that_cannot_be_read_are_counted(tmp_path: Path):
    table = json.loads(_celeb(**{f"{ID}_0": (1, 2), f"{ID}_1": (5, 4), f"{OTHER}_0": (0, 1e300)}))
    table["clips"] |= {"../../etc/passwd": table["clips"][f"{ID}_0"], f"{OTHER}_1": 7, f"{OTHER}_2": {"ytb_id": "/etc"}}
    _write(tmp_path, {"celebvhq_info.json": json.dumps(table), f"{ID}_0.mp4": "x"})
    found = _reasons("celebvhq", tmp_path)
    assert list(found.values()).count("annotation_unreadable") == 5
    assert found[f"{ID}_0.mp4"] is None


def test_a_damaged_celebvhq_file_is_an_error_that_names_it(tmp_path: Path):
    _write(tmp_path, {"celebvhq_info.json": _celeb(a=(1, 2))[:-9], f"{ID}_0.mp4": "x"})
    with pytest.raises(SourceError, match=r"celebvhq_info.json: not valid JSON .*line 1"):
        _list("celebvhq", tmp_path)


def _talk(video: str, start: float, end: float, person: str = "1", **more) -> dict:
    about = {"Video Link": f"https://www.youtube.com/watch?v={video}", "Person ID": person, "Language": "Hindi"}
    return {"id": f"videovideo{video}-scene1-scene1", "start-time": start, "end-time": end, "info": about, **more}


def test_talkvid_lists_are_read_entry_by_entry_as_far_as_they_go(tmp_path: Path):
    entries = [_talk(ID, 0.1, 5.14166), _talk(ID, 30, 20), {"id": "x"}, 5, _talk(OTHER, 1, 9, "2"), _talk(ID, 50, 60)]
    text = json.dumps(entries, indent=1)
    section = f"{OTHER}/{OTHER}_001_1.000_9.000"
    files = {"list.json": text[:-40], f"{ID}.mp4": "x", f"{section}.mp4": "x", f"{section}.m4a": "x"}
    found = _list("talkvid", _write(tmp_path, files))
    assert [float(span.start_s) for span in found[f"{ID}.mp4"].spans] == [0.1]
    assert found[f"{section}.mp4"].identity == "person 2"
    assert found[f"{section}.mp4"].spans[0].language == "Hindi"
    assert found[f"{section}.m4a"].reason == "duplicate"
    bad = sorted(path for path, video in found.items() if video.reason == "annotation_unreadable")
    lines = text.splitlines()
    places = [n for n, line in enumerate(lines, start=1) if line == " {"] + [lines.index(" 5,") + 1]
    assert bad == sorted(["list.json", *(f"list.json:{places[n]}" for n in (1, 2, -1))])
    assert f"line {places[4]}" in str(found["list.json"].detail)


def test_a_list_longer_than_a_chunk_is_read_whole(tmp_path: Path):
    entries = [_talk(ID, n, n + 5, description="word " * 80) for n in range(6000)]
    _write(tmp_path, {"list.json": json.dumps(entries), f"{ID}.mp4": "x"})
    assert (tmp_path / "list.json").stat().st_size > 3 << 20
    assert len(_list("talkvid", tmp_path)[f"{ID}.mp4"].spans) == 6000


# --- VoxCeleb2 and LRS

VOX = f"Identity  : \tid00012\nReference : \t{ID}\nOffset    : \t2\nFV Conf   : \t20.230\t(1)\nASD Conf  : \t2.765\n\n"
VOX += "FRAME \tX \tY \tW \tH \n000349 \t0.319 \t0.067 \t0.424 \t0.753 \n"


def test_voxceleb2_clips_texts_and_strays(tmp_path: Path):
    files = {
        f"dev/mp4/id00012/{ID}/00001.mp4": "x",
        f"dev/txt/id00012/{ID}/00001.txt": VOX + "000350 \t0.3\n",
        f"dev/txt/id00012/{ID}/00002.txt": VOX,
        f"test/mp4/id00017/{OTHER}/00001.mp4": "x",
        "mp4/id00012/00001.mp4": "x",
    }
    found = _list("voxceleb2", _write(tmp_path, files))
    assert {path: video.reason for path, video in found.items()} == {
        f"dev/mp4/id00012/{ID}/00001.mp4": None,
        f"dev/txt/id00012/{ID}/00001.txt": "annotation_unreadable",
        f"dev/txt/id00012/{ID}/00002.mp4": "unavailable",
        f"test/mp4/id00017/{OTHER}/00001.mp4": None,
        "mp4/id00012/00001.mp4": "annotation_missing",
    }
    assert [(v.identity, v.youtube_id, v.split) for v in found.values() if not v.reason] == [
        ("id00012", ID, None),
        ("id00017", OTHER, "test"),
    ]


def test_voxceleb2_texts_and_their_original_where_the_clip_is_not_there(tmp_path: Path):
    rows = "000350 \t0.300 \t0.067 \t0.424 \t0.800 \n"
    files = {
        f"dev/txt/id00012/{ID}/00001.txt": VOX + rows,
        f"dev/txt/id00012/{ID}/00002.txt": VOX,
        f"dev/txt/id00012/{ID}/00003.txt": "Identity  : \tid00012\n",
        f"dev/mp4/id00012/{ID}/00002.mp4": "x",
        f"test/txt/id00017/{OTHER}/00001.txt": VOX,
        f"videos/{ID}.mkv": "x",
        "videos/----------_.mkv": "x",
    }
    found = _list("voxceleb2", _write(tmp_path, files))
    assert {path: video.reason for path, video in found.items()} == {
        f"dev/mp4/id00012/{ID}/00002.mp4": None,
        f"dev/txt/id00012/{ID}/00003.txt": "annotation_unreadable",
        f"test/txt/id00017/{OTHER}/00001.mp4": "unavailable",
        f"videos/{ID}.mkv": None,
        "videos/----------_.mkv": "annotation_missing",
    }
    (span,) = found[f"videos/{ID}.mkv"].spans
    assert (span.start_s, span.end_s, span.identity) == (Fraction(349, 25), Fraction(351, 25), "id00012")
    assert span.box is not None
    assert span.box.corners == pytest.approx((0.3, 0.067, 0.743, 0.867))


def test_lrs_transcripts_and_official_splits(tmp_path: Path):
    said = "Text:  HELLO  {LG} IT'S ME \nConf:  4\n"
    talk = {f"trainval/{ID}/50001.mp4": "x", f"trainval/{ID}/50001.txt": said, f"test/{OTHER}/00001.mp4": "x"}
    ted = _list("lrs3", _write(tmp_path / "3", talk))
    assert ted[f"trainval/{ID}/50001.mp4"].spans[0].transcript == "HELLO  {LG} IT'S ME"
    assert [video.split for video in ted.values()] == ["test", None]
    number_, other = "5535415699068794046", "6330311066473698535"
    bbc = {f"mvlrs_v1/main/{n}/0000{k}.mp4": "x" for n in (number_, other) for k in (1, 2)}
    bbc |= {"train.txt": f"{number_}/00001\n", "test.txt": f"{other}/00001 NF\n{other}/00002 MV\n"}
    bbc |= {f"mvlrs_v1/pretrain/{number_}/00001.mp4": "x"}
    splits = [video.split for video in _list("lrs2", _write(tmp_path / "2", bbc)).values()]
    assert splits == ["train", None, "test", "test", None]


# --- time


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("29.97", Fraction(30000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("23.976023976", Fraction(24000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("25", Fraction(25)),
        ("24.0", Fraction(24)),
        ("30", Fraction(30)),
    ],
)
def test_frame_rates_near_ntsc_are_ntsc(text: str, rate: Fraction):
    assert frame_rate(text) == rate


@pytest.mark.parametrize("word", ["", "x", "1e999", "9" * 30, "nan", "inf", "-", "0x10", "1_000", "١", None, [], True])
def test_what_is_no_number_is_refused(word: object):
    with pytest.raises(UnreadableError):
        number(word)


@pytest.mark.parametrize("fps", [24000 / 1001, 24, 25, 29.97, 30, 50, 59.94])
@pytest.mark.parametrize("first", [0, 1, 7, 11208, 95232])
def test_a_span_starts_within_20_ms_of_its_time(fps: float, first: int):
    start_s = (first + 1) / frame_rate(round(fps, 3))
    assert abs(Fraction(frame_at(start_s), 25) - start_s) <= Fraction(1, 50)


def _stretches(*spans: Span, video: Video | None = None, config: Config | None = None, copies: int = 1) -> list[dict]:
    settings = config or Config()
    receipt = {"outcome": "ok", "video_id": "v", "video": pack(video or _video()), "facts": [1, 1, 1]}
    said = {"source": "vfhq", "identity": None, "youtube_id": ID, "official_split": None}
    inputs = [{"id": f"i{n}", "path": f"{n}.mp4", **said} for n in range(copies)]
    share = -(-len(spans) // copies)
    packed = [[pack_span(span) for span in spans[n * share : (n + 1) * share]] for n in range(copies)]
    placed = {f"i{n}": place_spans(receipt, packed[n], check_boxes=settings.run.check_boxes) for n in range(copies)}
    return score_items(inputs, placed, settings)


def _span(start_s: float, end_s: float | None, name: str = "c", **more) -> Span:
    return Span(
        name=name, where="a.txt:1", start_s=Fraction(start_s), end_s=None if end_s is None else Fraction(end_s), **more
    )


def test_spans_are_stretches_and_overlapping_ones_are_scored_once():
    items = _stretches(_span(10, 20, "a"), _span(15, 22, "b"), _span(40, 44, "c"), _span(99, 120, "d"))
    assert [(item["id"], item["start_frame"], item["end_frame"]) for item in items] == [
        ("v-250-550", 250, 550),
        ("v-1000-1100", 1000, 1100),
        ("v-2475-2500", 2475, 2500),
    ]
    assert [[a["name"] for a in item["annotations"]] for item in items] == [["a", "b"], ["c"], ["d"]]
    assert all(item["is_span"] for item in items)


def test_copies_of_a_file_share_their_spans_and_a_whole_file_keeps_its_id():
    assert [item["id"] for item in _stretches(_span(10, 20), _span(40, 44), copies=2)] == ["v-250-500", "v-1000-1100"]
    [whole] = _stretches(_span(0, None, transcript="ALL"))
    assert (whole["id"], whole["is_span"], whole["annotations"][0]["transcript"]) == ("v-0", False, "ALL")
    [more] = _stretches(_span(10, 20), copies=2)
    assert more["id"] == "v-0", "a copy that nobody annotates is used whole"


def test_spans_behind_the_end_are_told():
    receipt = {"outcome": "ok", "video": pack(_video(250))}
    spans = [pack_span(_span(5, 9)), pack_span(_span(374, 380))]
    found = place_spans(receipt, spans, check_boxes=True)
    assert found["note"] == "1 of 2 annotated spans: truncated (a.txt:1: from 374.00 s, the file has 10.00 s)"
    assert place_spans(receipt, spans[1:], check_boxes=True)["outcome"] == "truncated"


# --- boxes


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        (Box(corners=(300, 100, 900, 700), width=1920, height=1080), (1920, 1080), (300, 100, 900, 700)),
        (Box(corners=(300, 100, 900, 700), width=1920, height=1080), (1280, 720), (200, 66.67, 600, 466.67)),
        (Box(corners=(300, 100, 900, 700), width=1920, height=1080), (854, 480), (133.4, 44.4, 400.3, 311.1)),
        (Box(corners=(300, 100, 900, 700), width=1920, height=1080), (640, 480), None),
        (Box(corners=(0.2, 0.1, 0.7, 0.9), width=1, height=1), (640, 480), (128, 48, 448, 432)),
        (Box(corners=(412, 0, 1011, 599), width=None, height=720), (1920, 1080), (618, 0, 1516.5, 898.5)),
        (Box(corners=(412, 0, 1011, 599), width=None, height=720), (720, 720), None),
    ],
    ids=["same", "smaller", "rounded", "other_aspect", "fractions", "height_only", "height_only_too_narrow"],
)
def test_boxes_follow_the_size_where_the_aspect_agrees(box, size, expected):
    found = box.scaled(*size)
    assert found == (expected and pytest.approx(expected, abs=0.1))


def test_a_box_for_another_picture_refuses_the_span_or_goes():
    box = Box(corners=(300, 100, 900, 700), width=1920, height=1080)
    receipt = {"outcome": "ok", "video": pack(_video(width=640, height=480))}
    found = place_spans(receipt, [pack_span(_span(5, 9, box=box))], check_boxes=True)
    assert found["outcome"] == "bbox_resolution_mismatch"
    assert "for 1920x1080, the file is 640x480" in found["detail"]
    [kept] = place_spans(
        receipt, [pack_span(_span(5, 9, box=box))], check_boxes=RunConfig(check_boxes=False).check_boxes
    )["annotations"]
    assert kept["box"] is None


# --- what clips are told of their annotation


def test_clips_have_the_annotation_that_covers_them_and_a_transcript_only_if_they_are_all_of_it():
    items = _stretches(
        _span(10, 20, "a", transcript="LONG", identity="Ann"), _span(19, 23, "b", transcript="SHORT", language="Hindi")
    )
    rows = [
        {"video_id": "v", "start_frame": start, "num_frames": num} for start, num in ((250, 120), (477, 98), (252, 240))
    ]
    blank = {"clip_id": "x", "path": "", "source": "", "start_s": 0.0, "duration_s": 0.0}
    table = pa.Table.from_pylist([{**blank, **row} for row in rows], schema=SCORE_SCHEMA)
    clips = annotate(table.append_column("face_centre", pa.nulls(len(table), pa.list_(pa.float32()))), items)
    found = clips.select(["annotation", "transcript", "language", "identity", "youtube_id"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("a", None, None, "Ann", ID),
        ("b", "SHORT", "Hindi", None, ID),
        ("a", "LONG", None, "Ann", ID),
    ]


# --- splits


def _owned(*rows: tuple[str | None, str | None, str, str | None]) -> pa.Table:
    names = ("identity", "youtube_id", "video_id", "official_split")
    return pa.table({name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(names)})


def _assign(table: pa.Table, val: float = 0.3, test: float = 0.0, *, official: bool = True) -> list[str]:
    return assign(table, val_share=val, test_share=test, official=official)


def test_what_is_linked_over_several_steps_is_in_one_split():
    dice = random.Random(0)
    rows = [(dice.choice([None, f"p{n % 60}"]), f"y{dice.randrange(80)}", f"v{n}", None) for n in range(200)]
    splits = _assign(_owned(*rows), 0.3, 0.2)
    table = _owned(*rows).append_column("split", pa.array(splits))
    assert overlaps(table) == []
    wrong = table.set_column(4, "split", pa.array(["val" if n == 0 else "train" for n in range(200)]))
    assert overlaps(wrong)


def test_official_splits_come_first_and_the_strictest_wins():
    table = _owned(("a", None, "1", "train"), ("a", None, "2", "test"), ("b", None, "3", None), ("b", None, "4", "val"))
    assert _assign(table, 0.0) == ["test", "test", "val", "val"]
    assert _assign(table, 0.0, official=False) == ["train"] * 4


def test_shares_of_val_and_test_are_those_asked_for_and_do_not_disturb_each_other():
    table = _owned(*[(f"p{n}", None, f"v{n}", None) for n in range(4000)])
    without, with_test = _assign(table, 0.1), _assign(table, 0.1, 0.1)
    assert with_test.count("test") / 4000 == pytest.approx(0.1, abs=0.015)  # 3 sigma
    assert [split == "val" for split in without] == [split == "val" for split in with_test]
    more = _owned(*[(f"p{n}", None, f"v{n}", None) for n in range(5000)])
    assert _assign(more, 0.1, 0.1)[:4000] == with_test


# --- damage

GOOD_FILES = {
    "celebvhq": {"celebvhq_info.json": _celeb(**{f"{ID}_0": (1.5, 6.25), f"{OTHER}_0": (1, 5)})},
    "hdtf": {
        "RD_annotion_time.txt": "Radio1.mp4 00:20-01:35 02:00-02:10\n",
        "RD_video_url.txt": f"Radio1 https://www.youtube.com/watch?v={ID}&t=6s\n",
        "RD_crop_wh.txt": "Radio1_0.mp4 412 599 0 599\n",
        "RD_resolution.txt": "Radio1.mp4 720\n",
    },
    "lrs2": {
        "main/5535415699068794046/00001.txt": "Text:  HELLO\nConf:  4\n",
        "test.txt": "5535415699068794046/00001\n",
    },
    "lrs3": {f"test/{ID}/00001.txt": f"Text:  HELLO\nConf:  4\nRef:   {ID}\n\n" + VOX.split("\n\n")[1]},
    "talkvid": {"list.json": json.dumps([_talk(ID, 0.1, 5.1), _talk(OTHER, 2, 7)], indent=1)},
    "vfhq": {f"m/Clip+{ID}+P0+C0+F10-130.txt": BODY.format(id=ID, fps=25)},
    "voxceleb2": {f"test/txt/id00012/{ID}/00001.txt": VOX},
}


def _damaged(text: bytes, dice: random.Random) -> Iterator[bytes]:
    yield text[: dice.randrange(len(text))]
    yield text.decode().encode("utf-16")
    yield b"\xff\xfe" + text[::-1]
    yield text.replace(b"1", b"9" * 400).replace(b"2", b"-1e999")
    yield text.replace(ID.encode(), b"../../../x").replace(b"Radio1", b"../../escape")
    yield bytes(dice.randrange(256) for _ in range(500))
    yield b"[" * 100_000
    yield text.replace(b":", b"\0")
    place = dice.randrange(len(text))
    yield text[:place] + bytes([dice.randrange(256)]) + text[place + 1 :]


def _list_or_refuse(name: str, root: Path) -> list[SourceVideo]:
    try:
        return list(get_source(name).list_videos(root))
    except SourceError as error:
        if str(root) not in str(error):
            raise
        return []


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", REAL)
def test_damaged_annotations_give_reasons_or_a_clear_error(tmp_path: Path, name: str, seed: int):
    dice = random.Random(f"{name}{seed}")
    for number_, (path, text) in enumerate(GOOD_FILES[name].items()):
        for kind, bad in enumerate(_damaged(text.encode(), dice)):
            root = _write(tmp_path / f"{number_}-{kind}" / "in", {**GOOD_FILES[name], f"{ID}.mp4": "x"})
            (root / path).write_bytes(bad)
            before = sorted(p for p in tmp_path.rglob("*"))
            for video in _list_or_refuse(name, root):
                assert (video.reason in REASONS) if video.reason else (root / video.path).is_file()
                assert ".." not in Path(video.path).parts
                assert json.dumps(video.path + str(video.detail), ensure_ascii=False).encode()
                assert "\n" not in str(video.detail)
            assert sorted(p for p in tmp_path.rglob("*")) == before


# --- the command


def _run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "hs_data.cli", *words], capture_output=True, text=True, check=False)


def test_the_command_shows_what_is_there_and_what_is_missing(tmp_path: Path):
    _write(tmp_path / "hdtf", {**GOOD_FILES["hdtf"], "RD_Radio1.mp4": "x"})
    rows = {row["name"]: row for row in json.loads(_run("sources", "--input", str(tmp_path), "--json").stdout)}
    assert (rows["hdtf"]["found"], rows["hdtf"]["annotations"], rows["vfhq"]["found"]) == (True, 4, False)
    shown = _run("sources", "hdtf", "--input", str(tmp_path), "--json")
    facts = json.loads(shown.stdout)
    assert shown.returncode == 0
    assert (facts["found"], facts["files"], facts["spans"], facts["refused"]) == (True, 1, 2, {})
    assert facts["expected"] == {"videos": 370, "clips": 436, "clips_with_crop": 421, "hours": 17.07}


def test_the_command_and_a_build_say_the_same_of_nothing(tmp_path: Path):
    (tmp_path / "in").mkdir()
    shown = _run("sources", "vfhq", "--input", str(tmp_path / "in"))
    assert shown.returncode == 1
    assert "meta_info.zip" in shown.stdout
    done = _run("build", "--source", "vfhq", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    source = get_source("vfhq")
    for line in [*source.layout.strip().splitlines(), *source.obtain.strip().splitlines()]:
        assert line.strip() in done.stderr
        assert line.strip() in shown.stdout
    assert not (tmp_path / "out").exists()


def test_real_datasets_use_the_real_networks_unless_another_preset_is_named():
    presets = {name: source.preset for name, source in sources().items()}
    assert presets == {**dict.fromkeys((*PREPARED, *REAL), "highsync"), "demo": "embedded", "folder": "cpu"}
