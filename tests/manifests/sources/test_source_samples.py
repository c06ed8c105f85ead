"""Every real annotation that could be had is read, and gives the counts and values that stand in it."""

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from hs_data.manifests.sources import SourceVideo, celebvhq, hdtf, lrs, talkvid, vfhq, voxceleb2
from hs_data.manifests.sources.annotations import UnreadableError, youtube_id_of
from hs_data.manifests.sources.utterances import read_utterance

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "formats" / "samples"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no real annotations at {SAMPLES}")


def _words(name: str) -> list[str]:
    return (SAMPLES / name).read_text().split()


# --- HDTF: url, times, clips, crops, ratios and heights of each subset


@pytest.mark.parametrize(
    ("folder", "counts"),
    [
        ("first20", {"RD": (20, 20, 21, 20, 20, 20), "WDA": (20, 20, 24, 20, 20, 20), "WRA": (20, 20, 29, 20, 20, 20)}),
        (
            "joinable",
            {"RD": (20, 20, 30, 28, 28, 20), "WDA": (20, 20, 29, 28, 28, 20), "WRA": (20, 20, 32, 29, 29, 20)},
        ),
    ],
)
def test_hdtf_files_are_read_whole(folder: str, counts: dict[str, tuple[int, ...]]):
    refused: list[SourceVideo] = []
    for name, subset in hdtf.read_subsets(SAMPLES / "hdtf" / folder, refused).items():
        tables = (subset.urls, subset.times, subset.crops, subset.ratios, subset.heights)
        urls, times, crops, ratios, heights = map(len, tables)
        clips = sum(map(len, subset.times.values()))
        assert (urls, times, clips, crops, ratios, heights) == counts[name]
        assert subset.crops.keys() == subset.ratios.keys()
    assert refused == []


def test_hdtf_joins_by_name_and_knows_its_oddities():
    found = list(hdtf.list_hdtf(SAMPLES / "hdtf" / "joinable"))
    missing = {video.path.removesuffix(".mp4"): video for video in found}
    assert {video.reason for video in found} == {"unavailable"}
    assert len(found) == 60, "one for each video, none of which is there"
    assert len({video.youtube_id for video in found}) == 59, "two of them are one video"
    assert missing["WDA_JamesClyburn1"].youtube_id == missing["WDA_WhipJimClyburn"].youtube_id == "gh3YqnvNdio"
    assert missing["WDA_CarolynMaloney2"].youtube_id == "RApGxN-O9Qc", "its line begins with a byte order mark"
    assert missing["RD_Radio2"].youtube_id == "uBWJJvynXpA", "its address goes on with &t=6s"
    detail = missing["WRA_AdamKinzinger2"].detail
    assert detail is not None
    assert "WRA_annotion_time.txt:3 and 2 more" in detail


def test_hdtf_boxes_are_x_w_y_h_at_the_stated_height():
    refused: list[SourceVideo] = []
    subsets = hdtf.read_subsets(SAMPLES / "hdtf" / "joinable", refused)
    clips = {c.span.name: c.span for name, subset in subsets.items() for c in hdtf._clips(name, subset, {}, refused)}
    assert len(clips) == 91
    radio = clips["RD_Radio11_000"]
    assert (radio.start_s, radio.end_s) == (30, 60)
    assert radio.box is not None
    assert radio.box.corners == (412, 0, 412 + 599, 599)
    assert radio.box.scaled(1280, 720) == (412, 0, 1011, 599)
    assert radio.box.scaled(1920, 1080) == pytest.approx((618, 0, 1516.5, 898.5))
    without = sorted(name for name, span in clips.items() if span.box is None)
    assert len(without) == 10
    assert {"RD_Radio15_000", "WRA_KevinMcCarthy1_000", "WRA_KevinMcCarthy1_001"} <= set(without), "no crop; height 0"
    assert [str(video.reason) for video in refused] == []


def test_hdtf_quirks_are_read_as_meant():
    folder = SAMPLES / "hdtf" / "quirk_lines"
    lines = {path.name: path.read_text(encoding="utf-8-sig").splitlines() for path in folder.iterdir()}
    times = hdtf.Subset()
    for line in lines["annotion_time.trailing_space.txt"]:
        hdtf._read_line(times, "annotion_time", line.split(":", 2)[2].split(), "x:1")
    assert [len(spans) for spans in times.times.values()] == [3, 2, 1, 2, 2, 1, 1]
    addresses = [youtube_id_of(line.split()[-1]) for line in lines["video_url.with_t_or_duplicate.txt"]]
    assert len(addresses) == 14
    assert addresses.count("gh3YqnvNdio") == 2
    for line in lines["crop_wh.exceeds_resolution.txt"]:
        crop = tuple(Fraction(word) for word in line.split()[1:])
        assert hdtf.crop_box(crop, 720) is None, "taller than the stated 720 lines"
        assert (hdtf.crop_box(crop, 1080) is None) == (crop[3] > 1080)


# --- VoxCeleb and LRS


@pytest.mark.parametrize(
    ("name", "who", "num_frames", "start_s", "corners", "height"),
    [
        ("voxceleb1/dev/txt/id10092/22Lt2SMT6u4/00001.txt", "id10092", 128, 6.8, (413, 65, 504, 156), 360),
        ("voxceleb1/dev/txt/id10092/22Lt2SMT6u4/00011.txt", "id10092", 107, 133.72, (403, 75, 494, 166), 360),
        ("voxceleb1/test/txt/id10270/5r0dWxy17C8/00011.txt", "id10270", 106, 200.08, (150, 102, 258, 211), 360),
        ("voxceleb1/test/txt/id10271/37nktPRUJ58/00003.txt", "id10271", 105, 49.96, (267, 96, 423, 252), 360),
        ("voxceleb2/id00012__raOc3-IRsw.first2rows.txt", "id00012", 2, 13.96, (0.319, 0.067, 0.743, 0.82), 1),
        (
            "voxceleb2/id00017_7t6lfzvVaTM.first_and_last_row_only.txt",
            "id00017",
            2,
            9.8,
            (0.392, 0.223, 0.645, 0.674),
            1,
        ),
        ("lrs3/pretrain/00j9bKdiOjk/00001.txt", None, 249, 37.28, (0.382, 0.138, 0.487, 0.415), 1),
        ("lrs3/pretrain/0snNB1yS3IE/00005.txt", None, 391, 112.68, (0.331, 0.149, 0.504, 0.624), 1),
        ("lrs3/pretrain/0snNB1yS3IE/00013.txt", None, 643, 265.0, (0.382, 0.187, 0.504, 0.492), 1),
        ("lrs3/pretrain/0snNB1yS3IE/00025.txt", None, 96, 551.96, (0.607, 0.093, 0.673, 0.252), 1),
        ("lrs3/pretrain/0snNB1yS3IE/00026.txt", None, 91, 568.12, (0.489, 0.118, 0.663, 0.542), 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_utterances_say_who_when_and_where(name, who, num_frames, start_s, corners, height):
    said = read_utterance(SAMPLES / name)
    assert said.faults == ()
    assert said.identity == who
    assert (len(said.frames), len(said.boxes)) == (num_frames, num_frames)
    assert float(said.start_s or 0) == pytest.approx(start_s)
    assert said.boxes[0].corners == pytest.approx(corners)
    assert said.boxes[0].height == height
    assert said.youtube_id in name or said.youtube_id == "_raOc3-IRsw"


@pytest.mark.parametrize(
    ("name", "num_words", "last"),
    [("00j9bKdiOjk/00001", 38, "IT"), ("0snNB1yS3IE/00005", 42, None), ("0snNB1yS3IE/00013", 76, None)],
)
def test_words_end_inside_the_clip(name: str, num_words: int, last: str | None):
    said = read_utterance(SAMPLES / "lrs3" / "pretrain" / f"{name}.txt")
    assert len(said.words) == num_words
    assert said.transcript is not None
    spoken = [
        word for word in said.transcript.split() if word not in ("{NS}", "{LG}")
    ]  # noise and laughter have no times
    assert spoken == [word.text for word in said.words]
    left_s = Fraction(len(said.frames), 25) - said.words[-1].end_s
    assert 0 <= left_s < 2
    assert last is None or said.words[-1].text == last


def test_the_clips_that_av_hubert_lists_lie_where_we_look():
    vox = [voxceleb2.CLIP.fullmatch(f"{name}.mp4") for name in _words("voxceleb2/vox-en.id.first20.txt")]
    ted = [lrs.LRS3_CLIP.fullmatch(f"{name}.mp4") for name in _words("lrs3/lrs3-valid.id.first20.txt")]
    assert len(vox) == len(ted) == 20
    assert {(found["part"], found["identity"]) for found in vox if found} == {("dev", "id05668"), ("dev", "id07748")}
    assert {found["part"] for found in ted if found} == {"trainval"}
    assert all([*vox, *ted])


# --- names


def test_vfhq_names_split_from_the_plus_signs():
    found = [vfhq.NAME.fullmatch(name) for name in _words("vfhq/official_clip_names.txt")]
    assert len(found) == 24
    assert all(found)
    assert {name["id"] for name in found if name} >= {"--MJTR3evMw", "_HebIzK_LP4", "uWZRSkqJ--g", "-1Jouc19Ixo"}
    again = [vfhq._by_name(name) for name in _words("vfhq/hf_saeed-5959_vfhq_video_original_names.txt")]
    assert len(again) == 20
    assert {video.youtube_id for video in again if video} >= {"_4S5R_LPNSc", "5k-1yI9nxPM", "0-9M9PcjsCc"}
    assert all(again)


def test_celebvhq_keys_and_entries():
    keys = [celebvhq.KEY.fullmatch(key) for key in _words("celebvhq/clip_keys_seen.txt")]
    assert len(keys) == 22
    assert {key["id"] for key in keys if key} >= {"--aqjaJyZLk", "_0tf2n3rlJU", "-2KGPYEFnsU"}
    assert all(keys)
    clips = {}
    for name in ("celebvhq_info", "celebvtext_info"):
        for key, entry in _entries(SAMPLES / "celebvhq" / f"{name}.README_excerpt.jsonc").items():
            clips[key] = celebvhq.read_clip(key, entry, "x").span
    times = {key: (float(span.start_s), float(span.end_s or 0)) for key, span in clips.items()}
    assert times == {
        "M2Ohb0FAaJU_1": (81.62, 86.17),
        "_0tf2n3rlJU_0": (52.72, 56.1),
        "0-5BrmyFsYM_0": (0.0, 9.64),
        "00-30GQl0TM_7": (415.29, 420.88),
    }
    box = clips["_0tf2n3rlJU_0"].box
    assert box is not None
    assert box.scaled(1920, 1080) == pytest.approx((0.5271 * 1920, 0, 1920, 0.8407 * 1080))
    assert clips["0-5BrmyFsYM_0"].box is None, "pixels of a picture whose size nobody states"


def _entries(path: Path) -> dict:
    """Make JSON of an excerpt of a README: without comments, dots, commas before a bracket, and closed."""
    text = re.sub(r"//[^\n]*", "", path.read_text())
    text = re.sub(r'"\.\.\."|\.\.\.', "", text)
    text = re.sub(r",(\s*[\]}])", r"\1", text)
    text += "}" * (text.count("{") - text.count("}"))
    return json.loads(text)["clips"]


def test_the_talkvid_entry():
    clip = talkvid.read_clip(json.loads((SAMPLES / "talkvid" / "entry.README.json").read_text()), "x:1")
    assert (clip.youtube_id, clip.span.identity, clip.span.language) == ("Tr6MMsoWAog", "person 597", "English")
    assert (clip.span.start_s, float(clip.span.end_s or 0)) == (Fraction(1, 10), pytest.approx(5.141666666666667))
    assert clip.cut_stems == ("videovideoTr6MMsoWAog-scene1-scene1", "Tr6MMsoWAog@100-5141")


def test_names_of_other_sets_are_not_taken_for_ours():
    for name in _words("other/file_names_seen.txt"):
        if name.endswith(".mp4"):
            assert vfhq._by_name(name) is None
            assert celebvhq._by_name(name) is None
    with pytest.raises(UnreadableError):
        youtube_id_of("https://www.youtube.com/watch?v=tooshort")
