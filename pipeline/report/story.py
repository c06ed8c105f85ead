"""The whole story of one clip or one file: what was found, what was measured, what was decided and why."""

from collections.abc import Iterator

import pyarrow.compute as pc

from ...manifests import settings
from ...manifests.dataset import Dataset
from ...manifests.errors import DatasetError
from ...manifests.near import nearest
from ..score.registry import CLIP_SCHEMA, LIGHT, REASONS
from ..select import SelectConfig, judges_sync
from .rows import ClipRow, FileRow

MIN_ID_CHARACTERS = 6


def find(dataset: Dataset, name: str) -> tuple[list[FileRow], list[ClipRow]]:
    """Return the file rows and clip rows that a name means: a clip id or its beginning, or a path or its end.

    Raises:
        DatasetError: nothing, or several files, go by that name.
    """
    clips = dataset.clips(LIGHT, CLIP_SCHEMA)
    by_id = [clip_id for clip_id in clips["clip_id"].to_pylist() if clip_id.startswith(name)]
    videos = dataset.videos()
    if by_id and len(name) >= MIN_ID_CHARACTERS:
        found = clips.filter(pc.field("clip_id").isin(by_id)).to_pylist()
        paths = {row["path"] for row in found}
        return [row for row in videos.to_pylist() if row["path"] in paths], found
    rows = [row for row in videos.to_pylist() if row["path"] == name or row["path"].endswith(f"/{name}")]
    rows = rows or [row for row in videos.to_pylist() if name in row["path"]]
    if len(rows) != 1:
        shown = ", ".join(row["path"] for row in rows[:5])
        if not rows:
            raise DatasetError(f"{name}: no clip id begins with it and no path contains it; {_near(dataset, name)}")
        raise DatasetError(f"{name}: {len(rows)} files go by it: {shown}; give more of the name")
    mine = clips.filter(pc.field("video_id") == rows[0]["video_id"]) if rows[0]["num_clips"] else clips.slice(0, 0)
    return rows, mine.to_pylist()


def _near(dataset: Dataset, name: str) -> str:
    """Return the way out for a name that nothing has: the file whose name, or whose whole path, is most like it."""
    paths = dataset.videos(["path"])["path"].to_pylist()
    names = {part: path for path in paths for part in (path, path.rpartition("/")[2])}
    near = nearest(name, names)
    return f"did you mean {names[near]}?" if near else "`hs-data stats DATASET` shows what is there"


def tell(dataset: Dataset, name: str) -> Iterator[str]:
    """Yield the story of a clip or file, line by line."""
    files, clips = find(dataset, name)
    limits = settings.build(SelectConfig, dataset.index.config["select"], path="select.")
    for file in files:
        yield from tell_file(file)
    for clip in clips:
        yield ""
        yield from tell_clip(clip, limits)


def tell_file(row: FileRow) -> Iterator[str]:
    """Yield what is known of an input file."""
    yield f"file {row['path']}"
    yield f"  source {row['source']}, {row['size_bytes']:,} bytes, content {str(row['video_id'])[:16]}"
    if row["video_codec"]:
        picture = f"{row['video_codec']} {row['width']}x{row['height']}, {row['fps']:.3f} fps"
        turned = f", turned by {row['rotation_deg']} degrees" if row["rotation_deg"] else ""
        varying = ", varying frame rate" if row["is_vfr"] else ""
        yield f"  picture {picture}{turned}{varying}, {row['duration_s']:.2f} s = {row['num_frames']} frames at 25 fps"
    if row["audio_codec"]:
        sound = f"{row['audio_codec']} {row['sample_rate_hz']} Hz, {row['num_channels']} channels"
        yield f"  sound {sound}, from {row['audio_start_s']:+.3f} s for {row['audio_duration_s']:.2f} s"
    if row["cuts_s"]:
        cuts = zip(row["cuts_s"], row["cut_scores"], strict=True)
        yield "  cuts at " + ", ".join(f"{time:.2f} s (score {score:.0f})" for time, score in cuts)
    if row["outcome"] == "ok":
        yield f"  read: {row['num_clips']} candidates, {row['num_kept']} kept"
    else:
        detail = f" ({row['detail']})" if row["detail"] else ""
        yield f"  not used: {row['outcome']}: {REASONS[row['outcome']]}{detail}"


def tell_clip(row: ClipRow, limits: SelectConfig) -> Iterator[str]:
    """Yield what is known of a candidate clip, judged by these limits."""
    end_s = row["start_s"] + row["duration_s"]
    yield f"clip {row['clip_id']}  {row['start_s']:.2f}-{end_s:.2f} s of {row['path']}, {row['num_frames']} frames"
    yield f"  begins at a {row['start_kind']}, ends at a {row['end_kind']}"
    if row["track"] is not None:
        yield from _tell_measures(row, limits)
    yield from _tell_verdict(row)


def _tell_measures(row: ClipRow, limits: SelectConfig) -> Iterator[str]:
    heights = "/".join(f"{row[f'face_height_{p}_px']:.0f}" for p in ("p5", "p50", "p95"))
    yield f"  face   track {row['track']}, height p5/p50/p95 {heights} px, tallest/shortest {row['height_ratio']:.2f}"
    yield f"         {row['num_faces']} in the shot, detected in {100 * row['detected_share']:.0f} % of the frames"
    if row["yaw_p95_deg"] is not None:
        yield f"  pose   yaw {row['yaw_p95_deg']:.0f}, pitch {row['pitch_p95_deg']:.0f} degrees (95th percentile)"
    policy = row["crop_policy"]
    jitter, outside = (
        (0.0, 0.0) if policy == "whole" else (row[f"crop_jitter_{policy}"], row[f"outside_share_{policy}"])
    )
    measures = [f"leakage {_number(row['leakage'])}", f"jitter {_number(jitter)}"]
    yield f"  crop   {policy}: {', '.join(measures)}, {100 * outside:.0f} % outside the picture"
    light = f"brightness {row['brightness']:.0f}, contrast {row['contrast']:.0f}"
    yield f"  look   sharpness {row['sharpness']:.0f}, {light}, motion {row['motion']:.2f}"
    heard = f"speech in {100 * row['speech_share']:.0f} %, {row['loudness_db']:.0f} dB"
    yield f"  sound  {heard}, {row['padded_audio_s']:.2f} s not covered by the audio stream"
    lead = row["audio_lead_frames"]
    if lead is not None:
        side = "early" if lead > 0 else "late"
        trust = f"{row['sync_trust']} trust, confidence {row['sync_confidence']:.2f}"
        spread = "" if row["sync_spread_frames"] is None else f", spread {row['sync_spread_frames']:.1f} frames"
        is_judged = row["clip_class"] == "speech" and judges_sync(limits, row["sync_trust"])
        only = "" if is_judged else "; measured only, not judged"
        heard = f"sound {abs(lead):.1f} frames ({abs(row['audio_lead_ms']):.0f} ms) {side}"
        yield f"  sync   {heard}; {trust}{spread}{only}"


def _tell_verdict(row: ClipRow) -> Iterator[str]:
    if row["verdict"] == "kept":
        where = f"{row['shard']} row group {row['row_group']}" if row["shard"] else "not encoded yet"
        yield f"  KEPT as {row['clip_class']} ({row['split']}): {where}"
        if row["audio_shift_samples"]:
            moved_ms = row["audio_shift_samples"] / 16
            yield f"  sound moved by {moved_ms:+.0f} ms; measured again on the shard: {row['residual_lead_ms']:+.0f} ms"
        if row["psnr_db"] is not None:
            yield f"  decoded again: {row['psnr_db']:.1f} dB, {row['psnr_mouth_db']:.1f} dB where the mouth is"
        return
    yield f"  {row['verdict'].upper()}: {row['reason']}: {REASONS[row['reason']]}"
    for failure in row["failures"] or []:
        limit = "" if failure["threshold"] is None else f", limit {failure['threshold']:g}"
        yield f"    {failure['reason']}: measured {_number(failure['value'])}{limit}"
    if row["detail"]:
        yield f"    {row['detail']}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"
