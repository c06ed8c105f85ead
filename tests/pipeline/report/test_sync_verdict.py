"""What the report says of sync, of limits in force, and of the change that gains hours: all of it by counting."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hs_data.manifests import settings
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.index import write_index
from hs_data.pipeline.maintain.reselect import judge_again
from hs_data.pipeline.report.best_change import best_change, large_losses
from hs_data.pipeline.report.clip_columns import ClipColumns
from hs_data.pipeline.report.diff import diff
from hs_data.pipeline.report.page import make_report
from hs_data.pipeline.report.samples import EXAMPLES, lead_caption
from hs_data.pipeline.report.what_if import WhatIf, rule_table
from hs_data.pipeline.select import RULES, SelectConfig

POLICY = "highsync"
SYNC_RULES = [rule for rule in RULES if rule.clips == "synced"]
Change = Callable[[pa.Table], pa.Table]


def judged_anew(crowd: Path, path: Path, change: Change | None = None, **limits: object) -> Path:
    """Copy a dataset with other scores and other limits, judged by them."""
    shutil.copytree(crowd, path)
    dataset = open_dataset(path)
    table = settings.merge(dataset.index.config["select"], limits)
    config = settings.build(SelectConfig, table)
    clips = dataset.clips() if change is None else change(dataset.clips())
    clips = judge_again(clips, config, POLICY)
    pq.write_table(clips, path / "clips.parquet", row_group_size=4096)
    kept = clips["verdict"].to_pylist().count("kept")
    counts = replace(dataset.index.counts, kept=kept, dropped=len(clips) - kept)
    write_index(path, replace(dataset.index, counts=counts, config=dataset.index.config | {"select": table}))
    return path


def with_column(table: pa.Table, name: str, values: object) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), pa.array(values).cast(table.schema.field(place).type))


def low_trust(table: pa.Table) -> pa.Table:
    """The scores as the estimate without a network makes them: another scale of confidence, leads of its own."""
    table = with_column(table, "sync_trust", ["low"] * len(table))
    table = with_column(table, "sync_speech_s", np.full(len(table), np.nan))
    return with_column(table, "sync_confidence", np.linspace(0.1, 0.6, len(table)))


def facts_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "report" / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def crowd(made_up: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1200 made-up clips, judged by all rules."""
    path = tmp_path_factory.mktemp("few") / "dataset"
    made_up.write_dataset(path, 1200)
    return path


@pytest.fixture(scope="module")
def measured(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1200 clips whose leads were measured with low trust, which the default rules do not judge."""
    path = tmp_path_factory.mktemp("measured") / "dataset"
    return judged_anew(crowd, path, low_trust, sync_rules="trusted")


@pytest.fixture(scope="module")
def reported(measured: Path) -> tuple[dict[str, Any], str]:
    page = make_report(open_dataset(measured), {}).page
    return facts_of(measured), page.read_text(encoding="utf-8")


def test_what_is_measured_only_is_said_with_the_clips_that_judging_would_drop(measured, reported):
    facts, page = reported
    clips = open_dataset(measured).clips(["verdict", "clip_class", "audio_lead_frames", "clip_id"]).to_pylist()
    kept = [row for row in clips if row["verdict"] == "kept"]
    beyond = [row for row in kept if row["clip_class"] == "speech" and abs(row["audio_lead_frames"]) > 6]
    assert len(beyond) > 10
    found = facts["sync_verdict"]
    assert (found["state"], found["kept"], found["beyond"]) == ("measured only", len(kept), len(beyond))
    words = f"{len(beyond)} of the {len(kept)} kept clips"
    assert words in found["words"]
    first_screen = page[: page.index('id="funnel"')]
    assert words in first_screen
    assert '<a href="#sheet-beyond_lead">Look at them</a>' in first_screen
    data = re.search(r'<script type="application/json" id="clip-data">(.*?)</script>', page, flags=re.S)
    assert data is not None
    payload = json.loads(data[1])
    names = payload["columns"]
    rows = [dict(zip(names, payload["rows"][place], strict=True)) for place in payload["sheets"]["beyond_lead"]]
    furthest = sorted((abs(row["audio_lead_frames"]) for row in beyond), reverse=True)[:EXAMPLES]
    assert [abs(row["audio_lead_frames"]) for row in rows] == pytest.approx(furthest, rel=1e-4)
    for row, place in zip(rows, payload["sheets"]["beyond_lead"], strict=True):
        assert payload["captions"][place] == lead_caption(row)
        assert "measured only, not judged" in "\n".join(payload["details"][place]["story"])


def test_no_limit_that_is_not_in_force_is_drawn_or_named(reported):
    facts, page = reported
    figures = {figure["column"]: figure["limits"] for figure in facts["figures"]}
    assert [figures[name] for name in ("audio_lead_frames", "sync_confidence", "sync_spread_frames")] == [[], [], []]
    assert figures["sharpness"] == [15.0]
    assert figures["mouth_activity"] == [], "its limit is of silent clips"
    states = {row["setting"]: row["state"] for row in facts["what_if"]}
    assert states["select.max_lead_frames"] == states["select.min_sync_confidence"] == "measured only"
    assert states["select.min_sync_speech_s"] == states["select.min_annotated"] == "not measured"
    assert states["select.max_leakage"] == states["select.min_mouth_activity"] == "off"
    assert states["select.min_sharpness"] == "judged"
    assert facts["sync"]["limits"] == [None, None]
    assert 3.0 not in facts["sync"]["confidences"]
    assert "± 6" not in page
    assert not re.search(r"limits?</?\w* in use", page)


@pytest.mark.parametrize(
    ("rules", "change", "state"),
    [
        ("always", None, "judged"),
        ("trusted", None, "judged"),
        ("never", None, "measured only"),
        ("trusted", lambda t: with_column(t, "audio_lead_frames", np.full(len(t), np.nan)), "not measured"),
        ("trusted", lambda t: with_column(t, "sync_trust", ["low", "high"] * (len(t) // 2)), "partly judged"),
    ],
    ids=["always", "network", "never", "none", "merged"],
)
def test_each_state_is_said(crowd, tmp_path, rules, change, state):
    path = judged_anew(crowd, tmp_path / "dataset", change, sync_rules=rules)
    written = make_report(open_dataset(path), {})
    found = facts_of(path)["sync_verdict"]
    assert found["state"] == state
    assert written.sync == found["words"]
    assert (found["beyond"] > 0) == (state in ("measured only", "partly judged"))
    assert ("sheet-beyond_lead" in written.page.read_text(encoding="utf-8")) == (found["beyond"] > 0)
    lines = {figure["column"]: figure["limits"] for figure in facts_of(path)["figures"]}
    assert lines.get("audio_lead_frames", []) == ([-6.0, 6.0] if state in ("judged", "partly judged") else [])


def test_diff_states_no_limit_for_a_side_that_does_not_judge(crowd, measured, tmp_path):
    strict = judged_anew(measured, tmp_path / "strict", sync_rules="always", min_sync_confidence=0.0)
    found = diff(open_dataset(strict), open_dataset(measured))
    rows = [row for row in found.changed if row.a.reason == "offset_out_of_range"]
    assert len(rows) > 10
    assert {row.a.limit for row in rows} == {6.0}
    assert {row.b.limit for row in rows if row.b.verdict == "kept"} == {None}
    assert all(abs(row.b.value) > 6 for row in rows if row.b.verdict == "kept")


# --- the change that gains


def changes(path: Path) -> tuple[ClipColumns, WhatIf]:
    dataset = open_dataset(path)
    clips = ClipColumns(dataset)
    return clips, WhatIf(clips, settings.build(SelectConfig, dataset.index.config["select"]), POLICY)


def clean(table: pa.Table) -> pa.Table:
    """Clips that pass every rule."""
    zeros = (
        "audio_lead_frames",
        "sync_spread_frames",
        "padded_audio_s",
        "missing_share",
        "yaw_p95_deg",
        "pitch_p95_deg",
    )
    for name in (*zeros, f"outside_share_{POLICY}"):
        table = with_column(table, name, np.zeros(len(table)))
    for name in ("face_height_p5_px", "motion", "sharpness", "brightness", "speech_share", "sync_confidence"):
        table = with_column(table, name, np.full(len(table), 130.0))
    for name in ("height_ratio", "num_faces"):
        table = with_column(table, name, np.ones(len(table), int))
    return with_column(table, "sync_speech_s", np.full(len(table), 3.0))


def small_and_turned(table: pa.Table) -> pa.Table:
    """Half of the clips have a small face and a turned head; a tenth has a small face alone."""
    number = len(table)
    low = np.arange(number) < 0.6 * number
    turned = np.arange(number) < 0.5 * number
    table = clean(table)
    table = with_column(table, "face_height_p5_px", np.where(low, 50.0, 200.0))
    return with_column(table, "yaw_p95_deg", np.where(turned, 80.0, 10.0))


def test_the_banner_names_the_two_limits_that_only_together_gain(crowd, tmp_path):
    """`face_too_small` is the first reason of most, and lowering its limit would gain a fraction."""
    path = judged_anew(crowd, tmp_path / "dataset", small_and_turned)
    clips, what_if = changes(path)
    table = rule_table(what_if)
    found = best_change(clips, what_if, table)
    assert found is not None
    assert {rule.limit for rule in found.rules} == {"min_face_px", "max_yaw_deg"}
    free = replace(what_if.limits, min_face_px=0.0, max_yaw_deg=180.0)
    again = judge_again(open_dataset(path).clips(), free, POLICY)
    kept = np.array(again["verdict"].to_pylist()) == "kept"
    gained = again["duration_s"].to_numpy()[kept].sum() / 3600 - what_if.as_set().hours
    assert found.hours == pytest.approx(gained, abs=1e-9)
    assert found.hours == pytest.approx(0.6 * 1200 * 3 / 3600, abs=0.002)
    assert max(row.hours_gained for row in table) == pytest.approx(0.1 * 1200 * 3 / 3600, abs=0.002)
    [banner] = [words for words in make_report(open_dataset(path), {}).warnings if words.startswith("select: ")]
    assert "without select.min_face_px (96, face_too_small) and select.max_yaw_deg (60, pose_out_of_range)" in banner
    assert "together" in banner
    assert banner in facts_of(path)["warnings"]


def test_the_banner_names_the_one_limit_that_gains_not_the_most_frequent_reason(crowd, tmp_path):
    """Small faces that are blurred too are the most frequent; more hours come from the lead alone."""

    def change(table: pa.Table) -> pa.Table:
        place = np.arange(len(table))
        table = clean(table)
        table = with_column(table, "face_height_p5_px", np.where(place < 0.3 * len(table), 50.0, 200.0))
        table = with_column(table, "sharpness", np.where(place < 0.3 * len(table), 3.0, 90.0))
        table = with_column(table, "brightness", np.where(place < 0.3 * len(table), 3.0, 130.0))
        return with_column(table, "audio_lead_frames", np.where(place > 0.8 * len(table), 9.0, 0.5))

    path = judged_anew(crowd, tmp_path / "dataset", change)
    clips, what_if = changes(path)
    found = best_change(clips, what_if, rule_table(what_if))
    assert found is not None
    assert [rule.limit for rule in found.rules] == ["max_lead_frames"]
    assert found.hours == pytest.approx(max(row.hours_gained for row in rule_table(what_if)), abs=1e-5)
    [banner] = [words for words in make_report(open_dataset(path), {}).warnings if words.startswith("select: ")]
    assert "without select.max_lead_frames (6, offset_out_of_range)" in banner
    assert "min_face_px" not in banner


def test_the_banner_is_silent_where_no_change_gains(crowd, tmp_path):
    """Every clip that is dropped fails three rules."""

    def change(table: pa.Table) -> pa.Table:
        bad = np.arange(len(table)) < 0.7 * len(table)
        table = clean(table)
        for name in ("face_height_p5_px", "motion", "sharpness"):
            table = with_column(table, name, np.where(bad, 0.0, 130.0))
        return table

    path = judged_anew(crowd, tmp_path / "dataset", change)
    clips, what_if = changes(path)
    assert what_if.as_set().clips == 360
    assert best_change(clips, what_if, rule_table(what_if)) is None
    report = make_report(open_dataset(path), {})
    assert not [words for words in report.warnings if "%" in words]
    assert list(large_losses(report.stages, None)) == []


def test_terminal_and_json_say_what_the_page_says(measured):
    words = [sys.executable, "-m", "hs_data.cli", "report", str(measured), "--previews", "0"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    facts = facts_of(measured)
    assert f"note: {facts['sync_verdict']['words']}" in done.stderr
    for warning in facts["warnings"]:
        assert f"note: {warning}" in done.stderr
