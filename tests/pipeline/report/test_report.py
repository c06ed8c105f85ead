"""The report: it says the truth, its what-if is what `select` does, its audits find what was planted, and it scales."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hs_data.manifests import settings
from hs_data.manifests.dataset import Dataset, open_dataset
from hs_data.manifests.errors import ConfigError
from hs_data.manifests.index import write_index
from hs_data.manifests.storage import sha256_file
from hs_data.pipeline.demo.truth import truth
from hs_data.pipeline.maintain.reselect import judge_again
from hs_data.pipeline.report import audits, duplicates, figures, previews
from hs_data.pipeline.report.clip_columns import ClipColumns
from hs_data.pipeline.report.page import write_report
from hs_data.pipeline.report.samples import choose, margins
from hs_data.pipeline.report.what_if import WhatIf, rule_table, sync_table
from hs_data.pipeline.select import RULES, SelectConfig

REPOSITORY = Path(__file__).parents[3]
POLICY = "highsync"
ROWS = 6000
"""Clips of the crowd."""


@pytest.fixture(scope="module")
def reported(demo_dataset) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The demo's report as a user makes it: report.json, the clips of the page, the page."""
    words = ["report", str(demo_dataset), "--previews", "2", "--json"]
    done = subprocess.run([sys.executable, "-m", "hs_data.cli", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (demo_dataset / "report" / "index.html").read_text(encoding="utf-8")
    facts = json.loads((demo_dataset / "report" / "report.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == facts["funnel"]
    return facts, embedded(page, "clip-data"), page


def embedded(page: str, name: str) -> dict[str, Any]:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, flags=re.S)
    assert found is not None
    return json.loads(found[1])


def limits_of(dataset: Dataset) -> SelectConfig:
    return settings.build(SelectConfig, dataset.index.config["select"], path="select.")


def rows_of(payload: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(payload["columns"], row, strict=True)) for row in payload["rows"]]


# --- the truth


def test_the_demo_report_states_every_reason_lead_and_cut(reported):
    facts, payload, page = reported
    wanted = Counter(file.outcome for file in truth().values() if file.outcome != "ok")
    lost = Counter({loss["reason"]: loss["number"] for stage in facts["funnel"][:2] for loss in stage["losses"]})
    assert +lost == wanted
    clips = rows_of(payload)
    dropped = Counter(row["reason"] for row in clips if row["verdict"] == "dropped")
    expected = Counter(clip.reason for file in truth().values() for clip in file.clips if clip.verdict == "dropped")
    assert dropped == expected + Counter({"no_speech": 1})  # one of the two silent clips, its hash says which
    select = {loss["reason"]: loss["number"] for loss in facts["funnel"][2]["losses"]}
    assert select == {reason: number for reason, number in dropped.items() if reason != "no_face"}
    for name, file in truth().items():
        line = re.search(rf'<td class="path">{re.escape(name)}</td>(.*?)</tr>', page, flags=re.S)
        assert line is not None, name
        assert f"<td>{file.outcome}" in line[1], name
        cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", line[1], flags=re.S)]
        assert [float(word) for word in cells[2].split()] == pytest.approx(list(file.cuts_s), abs=0.04), name
        found = [row for row in clips if row["path"] == name]
        for row, clip in zip(found, file.clips, strict=bool(file.clips)):
            if clip.audio_lead_frames is not None and clip.reason is None:
                assert row["audio_lead_frames"] == pytest.approx(clip.audio_lead_frames, abs=1.25), name


def test_the_story_behind_a_row_is_the_one_that_why_tells(reported):
    _, payload, _ = reported
    clips = rows_of(payload)
    place = next(place for place, row in enumerate(clips) if row["path"] == "sound_early_12.mp4")
    story = "\n".join(payload["details"][place]["story"])
    assert "DROPPED: offset_out_of_range" in story
    assert clips[place]["value"] == pytest.approx(12, abs=1.25)
    assert payload["captions"][place] == f"{clips[place]['value']:.3g} / 6"


def test_the_demo_holds_the_near_duplicates_that_were_built_into_it(reported):
    facts, _, _ = reported
    pairs = {frozenset(pair["paths"]) for pair in facts["audits"]["near_duplicates"]["shown"]}
    one = ("talker_a.mp4", "sound_early_5.mp4", "sound_late_4.mp4")  # the same picture, other sound
    two = ("talker_b_stereo_48k.mp4", "sound_early_3.mp4", "sound_late_2.mp4")
    assert pairs == {frozenset((a, b)) for group in (one, two) for a in group for b in group if a < b}
    assert facts["audits"]["duplicate_audio"]["pairs"] == 0


def test_provenance_and_card(reported, demo_dataset):
    facts, _, _ = reported
    costs = {(row["phase"], row["stage"]): row for row in facts["provenance"]["costs"]}
    assert costs["score", "decode"]["cpu_s"] > 0
    assert costs["score", "decode"]["footage_s"] == pytest.approx(143, abs=5)
    assert facts["provenance"]["config"]["select"]["min_sync_confidence"] == 0.27
    assert facts["provenance"]["bytes"]["shards"] == sum(path.stat().st_size for path in demo_dataset.glob("shards/*"))
    card = (demo_dataset / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\npretty_name: ")
    assert "NASA portrait" in card
    assert "| | offset_out_of_range | -1 | -8.00 s |" in card
    assert facts["sync_verdict"]["words"] in card


def test_a_film_shows_what_a_trainer_reads(reported, demo_dataset):
    _, payload, _ = reported
    assert len(payload["films"]) == 2
    dataset = open_dataset(demo_dataset)
    clip = next(clip for clip in dataset.kept if clip.clip_id in payload["films"])
    with av.open(str(previews.preview_path(dataset, clip))) as film:
        video = film.streams.video[0]
        assert (video.width, video.height, video.average_rate) == (256, 256, 25)
        assert len(list(film.decode(video))) == min(clip.num_frames, 100)
    with av.open(str(previews.preview_path(dataset, clip))) as film:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(film.streams.audio[0])])
    pcm = dataset.read(clip, "pcm", 0, 100).astype(np.float64) / 32768
    heard = sound[: 100 * 1280].reshape(100, 1280)
    levels = [np.sqrt(np.mean(part**2, axis=1)) for part in (pcm, heard)]
    assert np.corrcoef(*levels)[0, 1] > 0.95


def test_a_second_report_writes_nothing_and_a_card_of_others_stays(reported, demo_dataset, tmp_path, caplog):
    copy = tmp_path / "dataset"
    shutil.copytree(demo_dataset, copy, ignore=shutil.ignore_patterns("demo_videos"))
    write_report(open_dataset(copy), {})
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    write_report(open_dataset(copy), {})
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    (copy / "README.md").write_text("mine")
    write_report(open_dataset(copy), {})
    assert (copy / "README.md").read_text() == "mine"
    assert "left as it is" in caplog.text


# --- what if


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"min_sync_confidence": 6.0},
        {"max_lead_frames": 1.5, "silent_share": 0.2},
        {"max_leakage": 0.1},
        {"min_face_px": 200.0, "max_faces": 2},
        {"sync_rules": "never", "min_speech_share": 0.7},
    ],
    ids=str,
)
def test_the_yield_is_what_select_keeps(crowd, change):
    dataset = open_dataset(crowd)
    limits = replace(limits_of(dataset), **change)
    kept = judge_again(dataset.clips(), limits, POLICY)
    mask = np.array(kept["verdict"].to_pylist()) == "kept"
    found = WhatIf(ClipColumns(dataset), limits, POLICY).as_set()
    assert found.clips == mask.sum() > 500
    assert found.hours == pytest.approx(kept["duration_s"].to_numpy()[mask].sum() / 3600)


def test_a_dropped_and_a_moved_rule_are_what_select_makes_of_them(crowd):
    dataset = open_dataset(crowd)
    limits = limits_of(dataset)
    table = {row.setting: row for row in rule_table(WhatIf(ClipColumns(dataset), limits, POLICY))}
    assert len(table) == len(RULES)
    no_limit = replace(limits)
    object.__setattr__(no_limit, "min_sharpness", -1e9)  # below what a setting may be: the crowd is made up
    free = judge_again(dataset.clips(), no_limit, POLICY)
    assert table["select.min_sharpness"].clips_without == free["verdict"].to_pylist().count("kept")
    moved = table["select.max_lead_frames"].moved
    assert moved.hours == sorted(moved.hours)
    for place in (3, 12):
        again = judge_again(dataset.clips(), replace(limits, max_lead_frames=moved.thresholds[place]), POLICY)
        assert moved.clips[place] == pytest.approx(again["verdict"].to_pylist().count("kept"), abs=1)  # 5 digits


def test_the_sync_table_counts_hours(crowd):
    dataset = open_dataset(crowd)
    clips = ClipColumns(dataset)
    what_if = WhatIf(clips, limits_of(dataset), POLICY)
    table = sync_table(clips, what_if)
    assert table is not None
    hours = np.array(table.hours)
    assert (np.diff(hours, axis=0) <= 0).all()
    assert (np.diff(hours, axis=1) >= 0).all()
    row, column = table.confidences.index(table.limits[0]), table.leads.index(table.limits[1])
    spread = next(rule for rule in RULES if rule.column == "sync_spread_frames")
    spoken = what_if.count(what_if.passes_others(spread) & what_if.kinds["speech"])
    assert hours[row, column] == pytest.approx(spoken.hours, abs=1e-4)


# --- audits


def test_alike_mouths_are_found_and_others_are_not():
    random = np.random.default_rng(1)
    hashes = random.integers(0, 2**63, 20_000, dtype=np.uint64)
    for place in range(50):
        flips = random.choice(64, size=place % 5, replace=False)
        hashes[10_000 + place] = hashes[place] ^ np.bitwise_or.reduce(
            np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0)
        )
    found = {tuple(pair) for pairs in duplicates._alike(hashes) for pair in pairs.tolist()}
    assert found == {(place, 10_000 + place) for place in range(50) if place % 5 <= duplicates.NEAR_BITS}


def test_a_mouth_hash_stands_recoding(crowd, tmp_path):
    """The same curve, scaled, lifted and with noise of a fiftieth of its range, keeps nearly all of its bits."""
    random = np.random.default_rng(2)
    smooth = np.convolve(random.normal(size=400), np.hanning(9), "valid")[:250]
    copies = [smooth, 0.7 * smooth + 0.1 + random.normal(size=250) * np.ptp(smooth) / 200, random.permutation(smooth)]
    flat, lengths = np.concatenate(copies).astype(np.float32), np.full(3, 250)
    one, two, other = duplicates._hash(flat, np.cumsum(lengths) - lengths, lengths)
    assert np.bitwise_count(one ^ two) <= duplicates.NEAR_BITS
    assert np.bitwise_count(one ^ other) > 15


def test_what_stands_in_two_splits_is_named(crowd, tmp_path):
    path = tmp_path / "dataset"
    shutil.copytree(crowd, path)
    table = pq.read_table(path / "clips.parquet")
    before = audits.split_overlap(ClipColumns(open_dataset(path)))
    assert [row.shared for row in before] == [0, 0]
    assert before[0].number == ROWS // 200
    kept = np.flatnonzero(np.array(table["verdict"].to_pylist()) == "kept")
    split = table["split"].to_pylist()
    split[kept[0]] = "val" if split[kept[0]] == "train" else "train"
    place = table.schema.get_field_index("split")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(split)), path / "clips.parquet")
    after = audits.split_overlap(ClipColumns(open_dataset(path)))
    assert [row.shared for row in after] == [1, 1]
    assert after[0].examples == [table["identity"][int(kept[0])].as_py()]


def test_same_sound_is_found(crowd, tmp_path):
    path = tmp_path / "dataset"
    shutil.copytree(crowd, path)
    table = pq.read_table(path / "clips.parquet")
    assert duplicates.duplicate_audio(ClipColumns(open_dataset(path))).pairs == 0
    spoken = np.array(table["verdict"].to_pylist()) == "kept"
    spoken &= np.array(table["clip_class"].to_pylist()) == "speech"
    one, two = np.flatnonzero(spoken)[[0, -1]]
    for name in ("loudness_db", "speech_share"):
        values = table[name].to_numpy().copy()
        values[two] = values[one]
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values))
    pq.write_table(table, path / "clips.parquet")
    found = duplicates.duplicate_audio(ClipColumns(open_dataset(path)))
    assert found.pairs == 1
    assert set(found.shown[0].clips) == {table["clip_id"][int(place)].as_py() for place in (one, two)}


def test_a_benchmark_list_is_matched_by_any_name(reported, demo_dataset, tmp_path):
    clips = ClipColumns(open_dataset(demo_dataset))
    _, payload, _ = reported
    kept = {row["path"]: row["clip_id"] for row in rows_of(payload) if row["verdict"] == "kept"}
    listed = tmp_path / "test_set.txt"
    listed.write_text(f"# held out\ntalker_a\nvfr.mp4 # by name\n{kept['ntsc_2997.mp4']}\nnobody\nsomebody\n")
    (found,) = audits.benchmark_overlap(clips, [listed])
    assert (found.list, found.names, found.clips) == ("test_set.txt", 5, 3)
    assert found.by == {"video_id": 0, "identity": 0, "path": 2, "clip_id": 1}
    assert found.hours == pytest.approx((8 + 9 + 8) / 3600, rel=0.02)
    listed.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="holds no id"):
        audits.benchmark_overlap(clips, [listed])
    with pytest.raises(ConfigError, match="cannot be read"):
        audits.benchmark_overlap(clips, [tmp_path / "absent.txt"])


# --- figures and samples


def test_histograms_hold_every_hour(crowd):
    dataset = open_dataset(crowd)
    clips = ClipColumns(dataset)
    lines = WhatIf(clips, limits_of(dataset), POLICY).lines()
    found = {f.column: f for f in figures.clip_figures(clips, lines, duplicates.mouth_traces(clips).span)}
    kept, rest = (float(clips.hours[mask].sum()) for mask in (clips.is_kept, ~clips.is_kept))
    for figure in found.values():
        if figure.measured == ROWS:
            assert sum(figure.kept) == pytest.approx(kept, rel=1e-3), figure.column
            assert sum(figure.dropped) == pytest.approx(rest, rel=1e-3), figure.column
        assert len(figure.edges) - 1 == len(figure.kept) <= figures.NUM_BINS + 2
    assert found["audio_lead_frames"].limits == [-6.0, 6.0]
    grid = figures.pose_grid(clips)
    assert grid is not None
    assert np.sum(grid.hours) == pytest.approx(kept, rel=1e-3)
    assert any(map(any, grid.thin))
    owners = figures.owners(clips, "identity")
    assert owners.number == ROWS // 200
    assert owners.top[0].hours == max(row.hours for row in owners.top)


def test_the_sample_is_stable_holds_the_borderline_and_is_stated(crowd):
    clips = ClipColumns(open_dataset(crowd))
    near = margins(clips, WhatIf(clips, limits_of(open_dataset(crowd)), POLICY))
    sample = choose(clips, near, most=1500)
    assert len(sample.rows) == 1500
    assert sample.num_borderline == 1000
    nearest = np.argsort(near.distance, kind="stable")[:1000]
    assert set(nearest) <= set(sample.rows.tolist())
    groups = Counter(pq.read_table(crowd / "clips.parquet")["reason"].to_pylist())
    for name, places in sample.sheets.items():
        assert len(places) == min(20, groups[None if name == "kept" else name]), name
        assert set(places) <= set(sample.rows.tolist()), name
    again = choose(clips, near, most=1500)
    assert (again.rows == sample.rows).all()
    words = clips.codes("reason")[1]
    assert {*words, "kept"} == set(sample.sheets)


# --- the page


def test_a_nasty_name_cannot_run(nasty_crowd, nasty_name):
    page = write_report(open_dataset(nasty_crowd), {}).read_text(encoding="utf-8")
    assert nasty_name not in page
    assert "<img src=x" not in page
    assert page.count("<script") == page.count("</script>") == 6  # two of data, two libraries, two of ours
    assert any(row["path"] == nasty_name for row in rows_of(embedded(page, "clip-data")))
    assert not re.search(r"\b(src|href)=[\"']?(https?:)?//", page.split("<script>")[0])


def test_a_dataset_without_clips_has_a_report(made_up, tmp_path):
    made_up.write_dataset(tmp_path / "dataset", 0)
    page = write_report(open_dataset(tmp_path / "dataset"), {})
    assert page.stat().st_size < 2_000_000


def test_a_dataset_where_nothing_was_kept_has_a_report(crowd, tmp_path):
    path = tmp_path / "dataset"
    shutil.copytree(crowd, path)
    dataset = open_dataset(path)
    limits = replace(limits_of(dataset), min_face_px=9999.0)
    pq.write_table(judge_again(dataset.clips(), limits, POLICY), path / "clips.parquet", row_group_size=4096)
    config = dataset.index.config | {"select": dataset.index.config["select"] | {"min_face_px": 9999.0}}
    counts = replace(dataset.index.counts, kept=0, dropped=ROWS)
    write_index(path, replace(dataset.index, counts=counts, config=config))
    write_report(open_dataset(path), {})
    facts = json.loads((path / "report" / "report.json").read_text(encoding="utf-8"))
    assert facts["kept_hours"] == 0
    [without] = [row for row in facts["what_if"] if row["setting"] == "select.min_face_px"]
    assert without["hours_gained"] > 0


def test_a_report_of_many_clips_stays_within_its_limits(made_up, tmp_path):
    """The limits of a million clips (60 s, 2 GB, 30 MB) for a hundredth of them; imports and libraries come on top."""
    made_up.write_dataset(tmp_path / "dataset", 10_000)
    found = made_up.measure(tmp_path / "dataset")
    assert found["seconds"] < 60 / 100 + 15  # the rows of the page cost the same for any number of clips
    assert found["peak_mb"] < 2000 / 100 + 600
    assert found["page_mb"] < 30


def test_copied_libraries_are_those_that_the_document_names():
    page = (REPOSITORY / "docs" / "report.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([\w.]+)` \| `([0-9a-f]{64})` \|$", page, flags=re.M))
    assets = REPOSITORY / "pipeline" / "report" / "assets"
    assert listed == {path.name: sha256_file(path) for path in assets.glob("*.min.*")}
    assert len(list(assets.glob("*.LICENSE"))) == 2
