"""Distributions: what the clips and the files are like, as histograms: a few numbers, whatever the table's size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ...manifests.dataset import Dataset
from .clip_columns import ClipColumns

NUM_BINS = 40
"""At most, but for one more at either end."""
TAIL = 0.5
"""Percent at either end that the outermost bins take in, so that one odd value does not flatten the rest."""
TOP_OWNERS = 30
YAW_EDGES_DEG = (0, 10, 20, 30, 45, 60, 90)
PITCH_EDGES_DEG = (0, 10, 20, 30, 45, 90)
THIN_SHARE = 0.01
"""A pose with less than 1 % of the hours is called thin: at 100 h, less than an hour to learn it from."""
LATENT_CLIPS, LATENT_FRAMES = 64, 3
"""Frames that the latent statistics are taken from."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A column worth a histogram."""

    column: str
    title: str
    unit: str = ""
    group: str


@dataclass(frozen=True, kw_only=True)
class ClipHistogram(Measure):
    """Hours of clips by a measure, kept and dropped apart."""

    edges: Sequence[float]
    """One more than there are bins."""
    kept: Sequence[float]
    dropped: Sequence[float]
    limits: Sequence[float]
    """Those in force."""
    percentiles: Sequence[float]
    """5, 50 and 95 of the kept clips; none where none has a value."""
    measured: int
    """Clips with a value."""


@dataclass(frozen=True, kw_only=True)
class FileHistogram(Measure):
    """Numbers of files by a measure."""

    edges: Sequence[float]
    files: Sequence[int]
    percentiles: Sequence[float]
    """5, 50 and 95."""


@dataclass(frozen=True, kw_only=True)
class OwnerHours:
    """Kept clips of one person, source, split or language."""

    name: str
    hours: float
    clips: int


@dataclass(frozen=True, kw_only=True)
class HoursByOwner:
    """How unevenly kept hours lie among owners of a kind."""

    name: str
    """Column that names the owners."""
    number: int
    unnamed_hours: float
    """Hours whose owner is not stated."""
    median_hours: float
    top_tenth_share: float
    """Share of the hours that the largest tenth of the owners holds."""
    top: Sequence[OwnerHours]
    """The most hours first."""


@dataclass(frozen=True, kw_only=True)
class PoseGrid:
    """Kept hours over the turn of the head."""

    yaw_deg: Sequence[int]
    """Edges of the rows."""
    pitch_deg: Sequence[int]
    """Edges of the columns."""
    hours: Sequence[Sequence[float]]
    thin: Sequence[Sequence[bool]]
    """Whether a cell holds less than `THIN_SHARE` of the hours."""


@dataclass(frozen=True, kw_only=True)
class ChannelStatistics:
    """Numbers of one latent channel."""

    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True, kw_only=True)
class LatentStatistics:
    """Numbers of latents over a few frames."""

    clips: int
    frames: int
    codec: str
    channels: Sequence[ChannelStatistics]


CLIP_MEASURES = (
    Measure(column="duration_s", title="Length", unit="s", group="Clip"),
    Measure(column="face_height_p50_px", title="Face height", unit="px", group="Face"),
    Measure(column="height_ratio", title="Tallest over shortest face", group="Face"),
    Measure(column="yaw_p95_deg", title="Yaw, 95th percentile", unit="degrees", group="Face"),
    Measure(column="pitch_p95_deg", title="Pitch, 95th percentile", unit="degrees", group="Face"),
    Measure(column="sharpness", title="Sharpness", group="Picture"),
    Measure(column="brightness", title="Brightness", unit="grey level", group="Picture"),
    Measure(column="contrast", title="Contrast", unit="grey level", group="Picture"),
    Measure(column="iqa", title="Rating by CLIP-IQA", group="Picture"),
    Measure(column="motion", title="Motion of the mouth picture", unit="grey level", group="Picture"),
    Measure(column="audio_lead_frames", title="Audio lead", unit="frames, + is early", group="Sync"),
    Measure(column="sync_confidence", title="Sync confidence", group="Sync"),
    Measure(column="sync_spread_frames", title="Spread of the lead", unit="frames", group="Sync"),
    Measure(column="residual_lead_ms", title="Lead left in the shards", unit="ms", group="Sync"),
    Measure(column="speech_share", title="Share of speech", group="Sound"),
    Measure(column="loudness_db", title="Loudness", unit="dB", group="Sound"),
    Measure(column="mouth_activity", title="Mouth activity", group="Sound"),
    Measure(column="leakage", title="Crop leakage", group="Crop"),
    Measure(column="psnr_db", title="VAE round trip, whole crop", unit="dB PSNR", group="Latents"),
    Measure(column="psnr_mouth_db", title="VAE round trip, mouth", unit="dB PSNR", group="Latents"),
)
"""A column that a dataset does not have is left out, and named on the page when it was asked for."""
FILE_MEASURES = (
    Measure(column="duration_s", title="Length of files", unit="s", group="Files"),
    Measure(column="fps", title="Frame rate", unit="fps", group="Files"),
    Measure(column="height", title="Picture height", unit="px", group="Files"),
    Measure(column="size_bytes", title="Size of files", unit="bytes", group="Files"),
)


def clip_figures(
    clips: ClipColumns, lines: Mapping[str, Sequence[float]], mouth_range: np.ndarray
) -> list[ClipHistogram]:
    """Return the histograms of clips with a face, in hours, kept and dropped apart; unmeasured columns are left out.

    Args:
        clips: all candidates.
        lines: column to the limits in force, drawn into its figure.
        mouth_range: [N] largest less least mouth opening of each clip.
    """
    found = []
    for measure in CLIP_MEASURES:
        values = clips.numbers(measure.column)
        found.append(_histogram(measure, values, clips, list(lines.get(measure.column, []))))
    span = Measure(column="mouth_range", title="Range of the mouth opening", group="Face")
    found.append(_histogram(span, mouth_range, clips, []))
    return [figure for figure in found if figure is not None]


def not_measured(clips: ClipColumns) -> list[str]:
    """Return the titles of the figures that this dataset has no numbers for."""
    return [measure.title for measure in CLIP_MEASURES if not np.isfinite(clips.numbers(measure.column)).any()]


def _histogram(measure: Measure, values: np.ndarray, clips: ClipColumns, limits: list[float]) -> ClipHistogram | None:
    measured = np.isfinite(values) & clips.has_face
    if not measured.any():
        return None
    kept = measured & clips.is_kept
    dropped = measured & ~clips.is_kept
    edges = _edges(values[measured])
    hours = {
        name: np.histogram(np.clip(values[mask], edges[0], edges[-1]), edges, weights=clips.hours[mask])[0]
        for name, mask in (("kept", kept), ("dropped", dropped))
    }
    return ClipHistogram(
        **vars(measure),
        edges=_shown_edges(edges),
        kept=_rounded(hours["kept"]),
        dropped=_rounded(hours["dropped"]),
        limits=limits,
        percentiles=_percentiles(values[kept]),
        measured=int(measured.sum()),
    )


def file_figures(videos: pa.Table) -> list[FileHistogram]:
    """Return the histograms of the input files, in files."""
    found = []
    for measure in FILE_MEASURES:
        values = videos[measure.column].cast(pa.float64()).drop_null().to_numpy()
        if len(values):
            edges = _edges(values)
            numbers = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist()
            percentiles = _percentiles(values)
            found.append(
                FileHistogram(**vars(measure), edges=_shown_edges(edges), files=numbers, percentiles=percentiles)
            )
    return found


def _shown_edges(edges: np.ndarray) -> list[float]:
    return [float(f"{edge:.5g}") for edge in edges]


def _edges(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values.astype(np.float64), (TAIL, 100 - TAIL), method="inverted_cdf")
    width = max(high - low, abs(high) * 1e-3, 1e-6) / NUM_BINS
    decade = 10.0 ** np.floor(np.log10(width))
    width = next(step * decade for step in (1, 2, 5, 10) if step * decade >= width)  # edges are round numbers
    first, last = np.floor(low / width), np.floor(high / width) + 1
    return np.arange(first, last + 1) * width


def _percentiles(values: np.ndarray) -> list[float]:
    return (
        [float(f"{value:.5g}") for value in np.percentile(values.astype(np.float64), (5, 50, 95))]
        if len(values)
        else []
    )


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]


def owners(clips: ClipColumns, name: str) -> HoursByOwner:
    """Return kept hours and clips by identity, source, split or language: the most first, and how unevenly they lie."""
    codes, words = clips.codes(name)
    kept = clips.is_kept
    named = kept & (codes >= 0)
    hours = np.bincount(codes[named], weights=clips.hours[named], minlength=len(words))
    numbers = np.bincount(codes[named], minlength=len(words))
    order = np.argsort(-hours, kind="stable")[:TOP_OWNERS]
    present = np.sort(hours[hours > 0])[::-1]
    total = float(present.sum())
    return HoursByOwner(
        name=name,
        number=len(present),
        unnamed_hours=round(float(clips.hours[kept & (codes < 0)].sum()), 5),
        median_hours=round(float(np.median(present)), 5) if len(present) else 0.0,
        top_tenth_share=round(float(present[: max(1, len(present) // 10)].sum()) / total, 4) if total else 0.0,
        top=[
            OwnerHours(name=words[code], hours=round(float(hours[code]), 5), clips=int(numbers[code]))
            for code in order
            if hours[code] > 0
        ],
    )


def pose_grid(clips: ClipColumns) -> PoseGrid | None:
    """Return kept hours over yaw and pitch (95th percentiles of their size); None without landmarks."""
    yaw, pitch = clips.numbers("yaw_p95_deg"), clips.numbers("pitch_p95_deg")
    good = clips.is_kept & np.isfinite(yaw) & np.isfinite(pitch)
    if not good.any():
        return None
    clipped = [np.clip(angle[good], 0, edges[-1]) for angle, edges in ((yaw, YAW_EDGES_DEG), (pitch, PITCH_EDGES_DEG))]
    cells = np.histogram2d(*clipped, bins=(YAW_EDGES_DEG, PITCH_EDGES_DEG), weights=clips.hours[good])[0]
    return PoseGrid(
        yaw_deg=YAW_EDGES_DEG,
        pitch_deg=PITCH_EDGES_DEG,
        hours=[_rounded(row) for row in cells],
        thin=(cells < THIN_SHARE * cells.sum()).tolist(),
    )


def latent_statistics(dataset: Dataset) -> LatentStatistics | None:
    """Return mean, deviation and range of each latent channel over a few frames of clips spread over the dataset."""
    clips = dataset.kept[:: max(1, len(dataset.kept) // LATENT_CLIPS)][:LATENT_CLIPS]
    frames = []
    for clip in clips:
        middle = clip.num_frames // 2
        frames.append(dataset.read(clip, "latent", middle, middle + LATENT_FRAMES).astype(np.float32))
    if not frames:
        return None
    latents = np.concatenate(frames)  # [T, 4, 64, 64]
    channels = latents.transpose(1, 0, 2, 3).reshape(latents.shape[1], -1)
    return LatentStatistics(
        clips=len(clips),
        frames=len(latents),
        codec=dataset.shard(clips[0].shard).contract["latent"]["id"],
        channels=[_channel_statistics(channel) for channel in channels],
    )


def _channel_statistics(channel: np.ndarray) -> ChannelStatistics:
    mean, std, low, high = (
        round(float(number), 4) for number in (np.mean(channel), np.std(channel), np.min(channel), np.max(channel))
    )
    return ChannelStatistics(mean=mean, std=std, min=low, max=high)
