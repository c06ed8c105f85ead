"""The curator's tools: what they say is true, what they must not touch stays, and what was planted is found."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hs_data.cli import app
from hs_data.manifests import selections, settings
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import ConfigError, DatasetError
from hs_data.manifests.index import read_index, write_index
from hs_data.manifests.storage import sha256_file
from hs_data.pipeline import crop
from hs_data.pipeline.demo.clips import clips
from hs_data.pipeline.leakage import leakage
from hs_data.pipeline.maintain.reselect import judge_again, reselect
from hs_data.pipeline.media.decode import DecodeConfig
from hs_data.pipeline.media.mp4 import add_sound, encode_video
from hs_data.pipeline.media.source_clip import open_source
from hs_data.pipeline.report import drawing
from hs_data.pipeline.report.audit_limits import AuditLimits, check
from hs_data.pipeline.report.diff import Judgement, Sides, diff
from hs_data.pipeline.report.page import write_report
from hs_data.pipeline.select import SelectConfig
from hs_data.pipeline.sync import lip_crops
from hs_data.pipeline.sync.calibration import watch_lips
from hs_data.trainer.data.clips import ClipPool


def call(*words: str, code: int = 0) -> str:
    """Run a command in this process and return its standard output."""
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done.stdout


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def plant(path: Path, **columns: list[Any]) -> None:
    """Put other values into columns of a clip table."""
    table = pq.read_table(path / "clips.parquet")
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
    pq.write_table(table, path / "clips.parquet", row_group_size=4096)


def column(path: Path, name: str) -> list[Any]:
    return pq.read_table(path / "clips.parquet", columns=[name])[name].to_pylist()


@pytest.fixture
def small(made_up, tmp_path) -> Path:
    """80 made-up clips."""
    made_up.write_dataset(tmp_path / "small", 80)
    return tmp_path / "small"


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """Two files of the demo, built: one clip that is kept, and one that is dropped for a lead of 5 frames."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "videos").mkdir()
    two = [clip for clip in clips() if clip.name in ("talker_a.mp4", "sound_early_5.mp4")]
    film = encode_video(two[0].video.pictures(), two[0].video.rate)  # the same pictures, other sound
    for clip in two:
        add_sound(film, clip.pcm(), folder / "videos" / clip.name, sample_rate_hz=clip.sample_rate_hz, num_channels=1)
    words = ["build", "--source", "folder", "-i", str(folder / "videos"), "-o", str(folder / "dataset")]
    words += ["--preset", "embedded", "--executor", "local", "--workers", "2"]
    words += ["--set", "select.sync_rules=always", "--set", "select.max_lead_frames=3", "--set", "select.val_share=0"]
    done = subprocess.run([sys.executable, "-m", "hs_data.cli", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


# --- named selections


def test_a_named_selection_touches_nothing_and_is_what_select_makes(crowd, tmp_path):
    path = shutil.copytree(crowd, tmp_path / "crowd")
    before = contents(path)
    change = reselect(
        path, assignments=["select.min_face_px=150"], config_file=None, reset=False, dry_run=True, name="s"
    )
    assert contents(path) == before
    saved = reselect(
        path, assignments=["select.min_face_px=150"], config_file=None, reset=False, dry_run=False, name="s"
    )
    assert {name: saved[name] for name in change} == change
    assert {name: hashed for name, hashed in contents(path).items() if not name.startswith("selections")} == before
    own, named = open_dataset(path), open_dataset(path, "s")
    limits = settings.build(SelectConfig, own.index.config["select"])
    wanted = judge_again(own.clips(), replace(limits, min_face_px=150.0), "highsync")
    found = named.clips()
    for name in selections.JUDGED:
        assert found[name].to_pylist() == wanted[name].to_pylist(), name
    kept = [clip == "kept" for clip in wanted["verdict"].to_pylist()]
    assert named.index.counts.kept == change["kept_now"] == sum(kept) < change["kept_before"]
    assert sum(change["newly_dropped"].values()) == change["kept_before"] - change["kept_now"]
    assert sum(named.videos()["num_kept"].to_pylist()) == sum(kept)
    assert named.clips(["verdict"]).column_names == ["verdict"]
    assert selections.names(path) == ["s"]


def test_a_second_call_adds_to_a_name_and_reset_forgets(small):
    for words in (["select.min_face_px=150"], ["select.max_faces=2"]):
        reselect(small, assignments=words, config_file=None, reset=False, dry_run=False, name="s")
    assert selections.load_facts(small, "s").changes == {"select": {"min_face_px": 150, "max_faces": 2}}
    reselect(small, assignments=[], config_file=None, reset=True, dry_run=False, name="s")
    assert open_dataset(small, "s").clips()["verdict"].equals(open_dataset(small).clips()["verdict"])
    with pytest.raises(ConfigError, match="nothing to change"):
        reselect(small, assignments=[], config_file=None, reset=False, dry_run=False, name="new")
    for name in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(ConfigError, match="not a name"):
            selections.folder_of(small, name)


def test_a_selection_of_other_clips_or_scores_is_refused(small):
    reselect(small, assignments=["select.max_faces=2"], config_file=None, reset=False, dry_run=False, name="s")
    with pytest.raises(DatasetError, match=r"no selection t \(there: s\)"):
        open_dataset(small, "t")
    plant(small, clip_id=["another", *column(small, "clip_id")[1:]])
    with pytest.raises(DatasetError, match="1 clips came after it was made"):
        open_dataset(small, "s")
    index = read_index(small)
    write_index(small, replace(index, fingerprints=replace(index.fingerprints, score="other")))
    with pytest.raises(DatasetError, match="made of other scores"):
        open_dataset(small, "s")
    (small / "selections" / "s" / "verdicts.parquet").write_bytes(b"")
    with pytest.raises(DatasetError, match="not what was saved"):
        open_dataset(small, "s")


def test_select_says_by_reason_what_would_change(small):
    before = contents(small)
    words = ["select", str(small), "--set", "select.min_face_px=150", "--set", "select.max_faces=2", "--dry-run"]
    said = json.loads(call(*words, "--json"))
    assert contents(small) == before
    old = open_dataset(small).clips()
    new = judge_again(
        old,
        replace(SelectConfig(**open_dataset(small).index.config["select"]), min_face_px=150, max_faces=2),
        "highsync",
    )
    pairs = list(zip(*(t.select(["verdict", "reason"]).to_pylist() for t in (old, new)), strict=True))
    assert said["newly_dropped"] == Counter(n["reason"] for o, n in pairs if o["verdict"] == "kept" != n["verdict"])
    assert said["were_dropped_as"] == Counter(o["reason"] for o, n in pairs if n["verdict"] == "kept" != o["verdict"])
    assert said["were_dropped_as"]["multiple_faces"] > 0


def test_report_why_and_trainer_can_name_a_selection(pair):
    dataset = pair / "dataset"
    before = contents(dataset)
    done = CliRunner().invoke(app, ["select", str(dataset), "--name", "wide", "--set", "select.max_lead_frames=6"])
    assert "1 of the 2 clips that wide keeps are not encoded" in done.stderr
    call("select", str(dataset), "--name", "narrow", "--set", "select.min_face_px=9999")
    assert "face_too_small" in call("why", str(dataset), "talker_a.mp4", "--selection", "narrow")
    assert "KEPT as speech (train): not encoded yet" in call(
        "why", str(dataset), "sound_early_5.mp4", "--selection", "wide"
    )
    call("report", str(dataset), "--previews", "0", "--selection", "wide")
    facts = json.loads((dataset / "selections" / "wide" / "report" / "report.json").read_text())
    assert facts["counts"] | {"kept": 2, "encoded": 1} == facts["counts"]
    assert "keep them in the dataset's own selection" in facts["warnings"][-1]
    assert {name: h for name, h in contents(dataset).items() if not name.startswith("selections")} == before
    own, wide = (ClipPool(dataset, split="train", selection=name) for name in ("", "wide"))
    assert own.fingerprint() == wide.fingerprint()  # the clip that it adds has no frames
    with pytest.raises(DatasetError, match="no train clip"):
        ClipPool(dataset, split="train", selection="narrow")


# --- diff


def test_a_diff_tells_every_changed_clip_with_values_and_limits(crowd, tmp_path):
    path = shutil.copytree(crowd, tmp_path / "crowd")
    words = ["select.min_face_px=150", "select.max_faces=2"]
    change = reselect(path, assignments=words, config_file=None, reset=False, dry_run=False, name="s")
    found = diff(open_dataset(path), open_dataset(path, "s"))
    assert found.settings == {"select.max_faces": Sides(a=1, b=2), "select.min_face_px": Sides(a=96.0, b=150.0)}
    assert found.made_by == {}
    assert found.clips.both == found.clips.a == found.clips.b == 6000
    moved = {(row.a, row.b): row.clips for row in found.transitions}
    assert moved["kept", "face_too_small"] == change["newly_dropped"]["face_too_small"] > 100
    assert sum(number for (a, _), number in moved.items() if a == "kept") == sum(change["newly_dropped"].values())
    assert sum(number for (_, b), number in moved.items() if b == "kept") == change["newly_kept"] > 100
    assert sum(moved.values()) == found.clips.changed == len(found.changed)
    heights = dict(zip(column(path, "clip_id"), column(path, "face_height_p5_px"), strict=True))
    for row in found.changed:
        if row.b.reason == "face_too_small":
            assert row.b.value == heights[row.clip_id] < row.b.limit == 150
        if row.a.verdict == "kept" and row.b.reason == "face_too_small":
            assert row.a == Judgement(verdict="kept", reason=None, value=heights[row.clip_id], limit=96.0)
        if row.b.verdict == "kept" and row.a.reason == "multiple_faces":
            assert (row.a.value, row.a.limit, row.b.limit) == (2, 1, 2)
    assert found.hours_kept.b == pytest.approx(change["kept_now"] * 3 / 3600, abs=1e-5)


def test_a_diff_names_clips_that_one_side_alone_has(small, tmp_path):
    other = shutil.copytree(small, tmp_path / "other")
    table = pq.read_table(other / "clips.parquet")
    pq.write_table(table.slice(5).take(pa.array(np.arange(74, -1, -1))), other / "clips.parquet")
    found = diff(open_dataset(small), open_dataset(other))
    assert [row.clip_id for row in found.only_in_a] == column(small, "clip_id")[:5]
    assert (found.only_in_b, found.changed, found.clips.both) == ([], [], 75)
    back = json.loads(call("diff", str(other), str(small), "--json"))
    assert (len(back["only_in_b"]), back["only_in_a"]) == (5, [])
    assert "only here" in call("diff", str(other), str(small))


# --- stats


def test_stats_are_one_document_that_agrees_with_the_table_and_the_report(crowd, tmp_path):
    found = json.loads(call("stats", str(crowd), "--json"))
    clips = open_dataset(crowd).clips()
    kept = np.array(clips["verdict"].to_pylist()) == "kept"
    assert (found["dataset"], found["selection"], found["counts"]["kept"]) == ("dataset", None, kept.sum())
    assert found["hours"]["kept"] == pytest.approx(kept.sum() * 3 / 3600, abs=1e-5)
    for name in ("sharpness", "sync_confidence", "audio_lead_frames"):
        wanted = np.percentile(clips[name].to_numpy()[kept], (5, 50, 95))
        column = found["columns"][name]
        assert [column[part] for part in ("p5", "median", "p95")] == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    splits = {row["name"]: row["clips"] for row in found["by"]["split"]["top"]}
    assert splits == Counter(np.array(clips["split"].to_pylist())[kept])
    assert found["by"]["identity"]["number"] == 30
    reasons = {row["reason"]: row["number"] for row in found["reasons"]}
    assert reasons == Counter(word for word in clips["reason"].to_pylist() if word)
    path = shutil.copytree(crowd, tmp_path / "copy")
    write_report(open_dataset(path), {})
    facts = json.loads((path / "report" / "report.json").read_text())
    assert (
        found["columns"]["leakage"]["median"]
        == next(f for f in facts["figures"] if f["column"] == "leakage")["percentiles"][1]
    )
    assert "kept by identity" in call("stats", str(crowd))


# --- audit


def failed(path: Path, limits: AuditLimits | None = None, *lists: Path) -> dict[str, Any]:
    return {f.audit: f.found for f in check(open_dataset(path), limits or AuditLimits(), lists) if not f.passed}


def kept_places(path: Path) -> list[int]:
    return [place for place, verdict in enumerate(column(path, "verdict")) if verdict == "kept"]


def test_a_clean_dataset_passes(small):
    assert failed(small) == {}
    rows = json.loads(call("audit", str(small), "--json"))
    assert len(rows) == 8
    assert all(row["passed"] for row in rows)


def test_a_planted_identity_overlap_is_caught(small):
    split = column(small, "split")
    place = kept_places(small)[0]
    split[place] = "val" if split[place] == "train" else "train"
    plant(small, split=split, youtube_id=["film" if n in kept_places(small)[:2] else None for n in range(80)])
    assert failed(small) == {"identities in two splits": 1, "files in two splits": 1, "YouTube ids in two splits": 1}
    assert column(small, "identity")[place] in call("audit", str(small), code=1)
    call("audit", str(small), "--max-shared-identities", "1", "--max-shared-videos", "1")


def test_a_planted_duplicate_is_caught(small):
    one, two = (kept_places(small)[place] for place in (0, -1))
    mouths, loudness, speech = (column(small, name) for name in ("mouth_opening", "loudness_db", "speech_share"))
    mouths[two] = [0.5 * value + 0.1 for value in mouths[one]]  # as another camera or encode would measure it
    plant(small, mouth_opening=mouths)
    assert failed(small) == {"near-duplicates": 1}
    loudness[two], speech[two] = loudness[one], speech[one]
    classes, split = column(small, "clip_class"), column(small, "split")
    classes[one] = classes[two] = "speech"
    split[two] = "val" if split[one] == "train" else "train"
    plant(small, loudness_db=loudness, speech_share=speech, clip_class=classes, split=split, identity=[None] * 80)
    found = failed(small)
    assert found == {"near-duplicates": 1, "duplicate audio": 1, "pairs across splits": 2, "files in two splits": 1}


def test_a_planted_leaky_crop_is_caught(small):
    """One clip among the kept ones whose crop follows a box that grows with the mouth, scored as a build scores it."""
    random = np.random.default_rng(3)
    opening = np.convolve(random.random(200), np.ones(4) / 4, "valid")[:75]
    top = 100 + np.cumsum(random.normal(0, 0.5, 75))
    boxes = np.stack([np.full(75, 100), top, np.full(75, 260), top + 200 + 40 * opening], axis=1).astype(np.float32)
    policies = {}
    for policy in ("per_frame", "static", "highsync"):
        crops = crop.crop_boxes(boxes, None, crop.CropConfig(policy=policy))
        policies[policy] = leakage(crops, None, boxes, opening).score
    assert policies["per_frame"] > 0.9
    place = kept_places(small)[0]
    for name, leaks in (("highsync", False), ("per_frame", True)):  # the cured crop, then the leaky one
        values, floor = column(small, "leakage_highsync"), column(small, "leakage_static")
        values[place], floor[place] = policies[name], policies["static"]
        plant(small, leakage_highsync=values, leakage_static=floor)
        assert ("leaky clips, share" in failed(small)) == leaks
    leaky = next(f for f in check(open_dataset(small), AuditLimits()) if not f.passed)
    assert leaky.found == pytest.approx(1 / len(kept_places(small)), abs=1e-6)
    assert leaky.examples == [column(small, "clip_id")[place]]


def test_a_dataset_of_leaky_crops_is_caught_by_its_mean(small):
    plant(small, leakage_highsync=[value + 0.2 for value in column(small, "leakage_highsync")])
    assert failed(small)["leakage, mean"] == pytest.approx(0.2, abs=0.03)
    call("audit", str(small), code=1)
    call("audit", str(small), "--max-leakage", "0.3")


def test_benchmark_clips_are_caught(small, tmp_path):
    listed = tmp_path / "test_ids.txt"
    listed.write_text(column(small, "clip_id")[kept_places(small)[0]])
    assert failed(small, None, listed) == {"clips of test_ids.txt": 1}
    call("audit", str(small), "--benchmark", str(listed), code=1)
    with pytest.raises(ConfigError, match="max_shared_videos"):
        settings.build(AuditLimits, {"max_shared_videos": -1})


# --- preview


def decoded(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the pictures of a file, [H, W, 3] each, and its first channel."""
    with av.open(str(path)) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(film.streams.video[0])]
    with av.open(str(path)) as film:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(film.streams.audio[0])])
    return pictures, sound


@pytest.mark.parametrize(("name", "verdict"), [("talker_a.mp4", "kept"), ("sound_early_5.mp4", "dropped")])
def test_a_preview_is_the_source_with_boxes_and_its_sound(pair, tmp_path, name, verdict):
    before = contents(pair / "dataset"), contents(pair / "videos")
    film = tmp_path / "look.mp4"
    said = call("preview", str(pair / "dataset"), name, "-o", str(film), "--input", str(pair / "videos"))
    assert said.strip() == str(film)
    assert (contents(pair / "dataset"), contents(pair / "videos")) == before
    dataset = open_dataset(pair / "dataset")
    row = drawing.one_clip(dataset, name)
    assert row["verdict"] == verdict
    pictures, sound = decoded(film)
    plain, heard = decoded(pair / "videos" / name)
    assert len(pictures) == row["num_frames"]
    scale = pictures[0].shape[0] / plain[0].shape[0]
    boxes = np.array(row["boxes"]).reshape(-1, 4)
    crops = crop.crop_boxes(boxes, None, crop.CropConfig())
    for place in (0, 100):
        for box, colour in ((boxes[place], drawing.FACE), (crops[place], drawing.CROP)):
            y = round(float(box[1] + box[3]) / 2 * scale)
            edge = pictures[place][y, round(float(box[0]) * scale)].astype(int)
            assert np.abs(edge - colour).max() < 60, "the left edge of the box has its colour"
        middle = [
            p[p.shape[0] // 2 - 8 : p.shape[0] // 2, p.shape[1] // 2 - 8 : p.shape[1] // 2]
            for p in (pictures[place], plain[place + row["start_frame"]])
        ]
        assert abs(float(middle[0].mean()) - float(middle[1].mean())) < 6
    level = [np.sqrt(np.mean(s[: len(s) // 200 * 200].reshape(200, -1) ** 2, axis=1)) for s in (sound, heard)]
    assert np.corrcoef(*level)[0, 1] > 0.98


def test_the_words_on_a_preview_are_the_verdict(pair):
    row = drawing.one_clip(open_dataset(pair / "dataset"), "sound_early_5.mp4")
    _, verdict, lead, _ = drawing.words(row)
    assert verdict.startswith("DROPPED offset_out_of_range 5")
    assert verdict.endswith("limit 3")
    assert lead.startswith(f"sound {row['audio_lead_frames']:.1f} frames early, confidence 0.")


def test_a_preview_never_writes_over_a_source_nor_draws_another_file(pair, tmp_path):
    dataset = open_dataset(pair / "dataset")
    with pytest.raises(ConfigError, match="outside the source folder"):
        drawing.draw(dataset, "talker_a.mp4", pair / "videos" / "new.mp4", pair / "videos")
    with pytest.raises(ConfigError, match="give --input DIR"):
        drawing.draw(dataset, "talker_a.mp4", tmp_path / "x.mp4")
    shutil.copy(pair / "videos" / "sound_early_5.mp4", tmp_path / "talker_a.mp4")
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="not the file that was built from"):
        drawing.draw(dataset, "talker_a.mp4", pair / "x.mp4", tmp_path)
    assert not (pair / "x.mp4").exists()


# --- calibrate


def test_a_calibration_is_written_the_same_each_time_and_the_report_shows_it(pair, tmp_path):
    dataset = shutil.copytree(pair / "dataset", tmp_path / "dataset")
    facts = json.loads(call("calibrate", str(dataset), "--json"))
    written = (dataset / "calibration.json").read_bytes()
    assert json.loads(written) == facts
    assert (facts["backend"], facts["clips"], facts["foreign_pairs"]) == ("correlation", 1, 0)
    assert all(row["recall"] == 1 and abs(row["bias"]) < 0.7 for row in facts["by_lead"])
    assert facts["thresholds"][0]["trials"] == 21
    assert {facts["in_use"][name] for name in facts["in_use"]} <= {row["threshold"] for row in facts["thresholds"]}
    assert "recall" in call("calibrate", str(dataset))
    assert (dataset / "calibration.json").read_bytes() == written
    page = write_report(open_dataset(dataset), {}).read_text(encoding="utf-8")
    assert "Sync, calibrated" in page
    assert "measured on other scores" not in page
    (dataset / "calibration.json").write_text(json.dumps(facts | {"scores": "others"}))
    assert "measured on other scores" in write_report(open_dataset(dataset), {}).read_text(encoding="utf-8")
    done = CliRunner().invoke(app, ["calibrate", str(dataset), "--set", "sync.window_s=4"])
    assert isinstance(done.exception, ConfigError)
    assert "only models.* can be set" in str(done.exception)


class Eyes:
    """Sees the brightness of five crops."""

    def embed_lips(self, crops: np.ndarray) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(crops.mean(axis=(1, 2, 3)), 5).astype(np.float32)

    def embed_sound(self, pcm: np.ndarray) -> np.ndarray:
        raise AssertionError("nothing is heard here")


def test_a_network_sees_the_lips_of_the_clip_in_its_source(pair):
    dataset = open_dataset(pair / "dataset")
    row = drawing.one_clip(dataset, "talker_a.mp4")
    clip = open_source(row, pair / "videos", DecodeConfig())
    boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)
    seen = watch_lips(clip, boxes, Eyes())
    assert seen.shape == (row["num_frames"] - 4, 5)
    first = next(clip.frames())
    assert seen[0, 0] == pytest.approx(lip_crops.crop(first.rgb, *lip_crops.place(boxes, 0)).mean(), rel=1e-4)
    np.testing.assert_array_equal(seen[1:, :4], seen[:-1, 1:])
