"""Encode: decode the kept stretches of one video once, crop from source pixels, and write one shard per unit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..manifests.errors import MediaError
from ..manifests.records import FRAME_RATE, SAMPLES_PER_FRAME, Video
from ..manifests.schema import FRAME_COLUMNS, Column
from ..manifests.shards import Shard, ShardWriter
from . import audio_features, crop, sync
from .config import Config
from .costs import Costs
from .latents import SIZE, Codec, make_codec
from .media import audio, decode
from .media.deadline import DecodeDeadline
from .media.decode import DecodeStats

BATCH_FRAMES = 16
"""Crops that wait for the codec; a clip is never held as pixels."""
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EncodeItem:
    """A kept clip, with what its scores say of where the face is."""

    clip_id: str
    path: str
    video: Video
    start_frame: int
    num_frames: int
    boxes: np.ndarray
    """[T, 4] float32."""
    landmarks: np.ndarray | None
    """[T, 5, 2] float32."""
    mouth_opening: np.ndarray
    """[T] float32."""
    lead_frames: float | None
    """Audio lead to correct; None leaves the sound as it is."""

    @property
    def end_frame(self) -> int:
        """The frame after the last one."""
        return self.start_frame + self.num_frames

    @property
    def shift_samples(self) -> int:
        """By how much the sound is delayed."""
        return 0 if self.lead_frames is None else round(self.lead_frames * SAMPLES_PER_FRAME)


class Encoder:
    """Encode kept clips; holds the codec, so make one per worker."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._codec: Codec = make_codec(config.latents)

    def columns(self, *, landmarks: bool) -> dict[str, Column]:
        """Return the frame columns of the shards."""
        names = ["latent", self._config.audio.backend, "pcm", "crop", *(["landmarks"] if landmarks else [])]
        return {name: FRAME_COLUMNS[name] for name in names}

    def contract(self) -> Row:
        """Return what a trainer must agree with."""
        return {"latent": self._codec.contract, "audio": {"id": self._config.audio.backend}, "frame_rate": FRAME_RATE}

    def encode(
        self,
        items: Sequence[EncodeItem],
        root: Path,
        shard: Path,
        costs: Costs,
        deadline: DecodeDeadline | None = None,
        turn_to: Callable[[str], None] = lambda clip_id: None,
    ) -> dict[str, Row]:
        """Write the clips into one new shard, in their order, and read their sound back.

        Args:
            items: clips, ordered by path and start.
            root: the source folder.
            shard: file to write.
            costs: where CPU seconds are added.
            deadline: kills a decode that stalls.
            turn_to: told the first clip of each video before its decoding begins.

        Returns:
            Clip id to its receipt: `row_group`, `audio_shift_samples`, `residual_lead_ms`, or the `reason` with
            `value`, `threshold` and `detail` why there is no row group.
        """
        receipts: dict[str, Row] = {}
        columns = self.columns(landmarks=all(item.landmarks is not None for item in items))
        with ShardWriter(shard, columns, self.contract()) as writer:
            for path in dict.fromkeys(item.path for item in items):
                group = [item for item in items if item.path == path]
                turn_to(group[0].clip_id)
                stats = DecodeStats()
                for item, arrays in self._encode_video(group, root / path, columns, costs, deadline, stats):
                    receipts[item.clip_id] = self._store(writer, item, arrays, costs)
                receipts[group[0].clip_id]["num_decoded"] = stats.num_decoded  # told once per video
        with costs.stage("check"):
            self._check_sound(items, shard, receipts)
        return receipts

    def _store(self, writer: ShardWriter, item: EncodeItem, arrays: dict[str, np.ndarray] | Row, costs: Costs) -> Row:
        if "reason" in arrays:
            return dict(arrays)
        peak = float(np.abs(arrays["latent"].astype(np.float32)).max())
        if not peak <= self._config.latents.max_abs:  # also true for NaN
            value = peak if np.isfinite(peak) else None
            return {"reason": "latent_nan", "value": value, "threshold": self._config.latents.max_abs}
        with costs.stage("write"):
            return {"row_group": writer.write_clip(item.clip_id, arrays), "audio_shift_samples": item.shift_samples}

    def _encode_video(
        self,
        items: Sequence[EncodeItem],
        path: Path,
        columns: Mapping[str, Column],
        costs: Costs,
        deadline: DecodeDeadline | None,
        stats: DecodeStats,
    ) -> Iterator[tuple[EncodeItem, Any]]:
        """Yield the clips of one video as they become whole, each with its arrays or the reason why it has none."""
        waiting = [OpenClip(item, self._config.crop, self._codec) for item in items]
        runs = decode_runs(items[0].video, [(item.start_frame, item.end_frame) for item in items])
        decoding = {"config": self._config.decode, "deadline": deadline, "stats": stats}
        frames = chain.from_iterable(
            decode.frames(path, items[0].video, start_frame=start, end_frame=end, **decoding) for start, end in runs
        )
        try:
            while (frame := _pull(frames, costs)) is not None:
                for clip in waiting:
                    clip.add(frame.index, frame.rgb, costs)
                whole = [clip for clip in waiting if clip.is_whole]
                waiting = [clip for clip in waiting if not clip.is_whole]
                for clip in whole:
                    with costs.stage("audio"):
                        sound = self._encode_sound(clip.item, path, deadline)
                    arrays = clip.finish(costs) | sound
                    yield clip.item, {name: arrays[name] for name in columns}
            if waiting:
                raise MediaError("frame_count_mismatch", f"{len(waiting)} clips end after the last decoded frame")
        except MediaError as error:
            for clip in waiting:
                yield clip.item, {"reason": error.reason, "detail": error.detail}

    def _encode_sound(self, item: EncodeItem, path: Path, deadline: DecodeDeadline | None) -> dict[str, np.ndarray]:
        """Cut the clip's sound out of the source at its corrected place, so that the correction invents no silence."""
        shift = item.shift_samples
        margin = -(-abs(shift) // SAMPLES_PER_FRAME)
        first = max(0, item.start_frame - margin)
        pcm = audio.read(path, item.video, start_frame=first, end_frame=item.end_frame + margin, deadline=deadline)
        start = (item.start_frame - first) * SAMPLES_PER_FRAME - shift
        padded = np.pad(pcm, (max(0, -start), 0))
        start = max(0, start)
        pcm = np.ascontiguousarray(padded[start : start + item.num_frames * SAMPLES_PER_FRAME])
        return {"pcm": pcm.reshape(-1, SAMPLES_PER_FRAME).astype("<i2"), "logmel": audio_features.log_mel(pcm)}

    def _check_sound(self, items: Sequence[EncodeItem], path: Path, receipts: dict[str, Row]) -> None:
        """Measure the offset again on the samples that a trainer reads."""
        shard = Shard(path)
        limit_ms = self._config.sync.max_residual_ms
        for item in items:
            receipt = receipts[item.clip_id]
            if "row_group" not in receipt:
                continue
            pcm = shard.read(receipt["row_group"], "pcm").reshape(-1)
            residual = sync.estimate(item.mouth_opening, pcm, self._config.sync).lead_frames * 1000 / FRAME_RATE
            receipt["residual_lead_ms"] = round(residual, 3)
            if item.lead_frames is not None and abs(residual) > limit_ms:
                receipt |= {"reason": "sync_fix_failed", "value": round(residual, 3), "threshold": limit_ms}


class OpenClip:
    """A clip that is being encoded: takes the frames of its stretch, holds a small batch of crops at most."""

    def __init__(self, item: EncodeItem, config: crop.CropConfig, codec: Codec) -> None:
        self.item = item
        self._crops = crop.crop_boxes(item.boxes, item.landmarks, replace(config, size=SIZE)).astype("<f4")
        self._codec = codec
        self._batch: list[np.ndarray] = []
        self._latents: list[np.ndarray] = []
        self._num_added = 0

    @property
    def is_whole(self) -> bool:
        """Whether every frame has been taken."""
        return self._num_added == self.item.num_frames

    def add(self, index: int, rgb: np.ndarray, costs: Costs) -> None:
        """Take a frame; one that lies outside the clip is ignored."""
        place = index - self.item.start_frame
        if not 0 <= place < self.item.num_frames:
            return
        self._num_added += 1
        with costs.stage("crop"):
            self._batch.append(crop.warp(rgb, self._crops[place], SIZE))
        if len(self._batch) == BATCH_FRAMES:
            self._flush(costs)

    def finish(self, costs: Costs) -> dict[str, np.ndarray]:
        """Return the clip's arrays, one row a frame."""
        self._flush(costs)
        arrays = {"latent": np.concatenate(self._latents), "crop": self._crops}
        if self.item.landmarks is not None:
            corner, size = self._crops[:, None, :2], self._crops[:, None, 2:] - self._crops[:, None, :2]
            arrays["landmarks"] = ((self.item.landmarks - corner) / size * SIZE).astype("<f4")
        return arrays

    def _flush(self, costs: Costs) -> None:
        if self._batch:
            with costs.stage("latents"):
                self._latents.append(self._codec.encode(np.stack(self._batch)))
            self._batch = []


def decode_runs(video: Video, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join frame ranges so that each source frame is decoded once: a run ends only where the next can begin by a seek.

    Between two ranges of one run frames are decoded for nothing; between two runs none are.
    """
    runs: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        key_s = max((time for time in video.keyframes_s if time <= Fraction(start, FRAME_RATE)), default=Fraction(0))
        # One frame beyond a range is decoded, to know until when its last one is shown.
        if runs and key_s * FRAME_RATE <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(end, runs[-1][1]))
        else:
            runs.append((start, end))
    return runs


def _pull(frames: Iterator[decode.Frame], costs: Costs) -> decode.Frame | None:
    with costs.stage("decode"):
        return next(frames, None)
