"""Encode: decode the kept stretches of one video once, crop from source pixels, and write one shard per unit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
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
from .media.decode import DecodeStats, Frame

BATCH_FRAMES = 16
"""Crops that wait for the codec; a clip is never held as pixels."""
Row = dict[str, Any]
Guard = Callable[[float], AbstractContextManager[DecodeDeadline | None]]


def no_guard(_budget_s: float) -> AbstractContextManager[None]:
    """Guard nothing: decoding that stalls is not killed. For use outside a worker process."""
    return nullcontext()


def shift_samples(lead_frames: float | None) -> int:
    """Return by how many samples the sound is delayed to correct a lead."""
    return 0 if lead_frames is None else round(lead_frames * SAMPLES_PER_FRAME)


def encode_id(clip_id: str, lead_frames: float | None) -> str:
    """Return the identity of what is stored of a clip: another correction makes another sound."""
    return f"{clip_id}{shift_samples(lead_frames):+d}"


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
    def item_id(self) -> str:
        """Identity of what is stored: the clip, and by how much its sound is moved."""
        return encode_id(self.clip_id, self.lead_frames)

    @property
    def end_frame(self) -> int:
        """The frame after the last one."""
        return self.start_frame + self.num_frames

    @property
    def shift_samples(self) -> int:
        """By how much the sound is delayed."""
        return shift_samples(self.lead_frames)


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
        guard: Guard = no_guard,
        turn_to: Callable[[str], None] = lambda item_id: None,
    ) -> dict[str, Row]:
        """Write the clips into one new shard, in their order, and read their sound back.

        Args:
            items: clips, ordered by path and start.
            root: the source folder.
            shard: file to write.
            costs: where CPU seconds are added.
            guard: given the seconds that decoding a run may take, kills a decode that stalls.
            turn_to: told the clip that is waited for.

        Returns:
            Item id to its receipt: `row_group`, `audio_shift_samples`, `residual_lead_ms`, or the `reason` with
            `value`, `threshold` and `detail` why there is no row group.
        """
        receipts: dict[str, Row] = {}
        columns = self.columns(landmarks=all(item.landmarks is not None for item in items))
        with ShardWriter(shard, columns, self.contract()) as writer:
            for path in dict.fromkeys(item.path for item in items):
                for run in decode_runs([item for item in items if item.path == path]):
                    turn_to(run.items[0].item_id)
                    stats = DecodeStats()
                    with guard(self._config.decode.timeout_s(run.end_frame - run.start_frame)) as deadline:
                        for clip in self._encode_run(run, root / path, costs, deadline, stats, turn_to):
                            receipts[clip.item.item_id] = self._store(writer, clip, columns, costs)
                    receipts[run.items[0].item_id]["num_decoded"] = stats.num_decoded  # told once per run
        with costs.stage("check"):
            self._check_sound(items, shard, receipts)
        return receipts

    def _store(self, writer: ShardWriter, clip: "OpenClip", columns: Mapping[str, Column], costs: Costs) -> Row:
        if clip.failure is not None:
            return clip.failure
        arrays = clip.arrays()
        peak = float(np.abs(arrays["latent"].astype(np.float32)).max())
        if not peak <= self._config.latents.max_abs:  # also true for NaN
            value = peak if np.isfinite(peak) else None
            return {"reason": "latent_nan", "value": value, "threshold": self._config.latents.max_abs}
        with costs.stage("write"):
            row_group = writer.write_clip(clip.item.clip_id, {name: arrays[name] for name in columns})
        return {"row_group": row_group, "audio_shift_samples": clip.item.shift_samples}

    def _encode_run(
        self,
        run: "DecodeRun",
        path: Path,
        costs: Costs,
        deadline: DecodeDeadline | None,
        stats: DecodeStats,
        turn_to: Callable[[str], None],
    ) -> Iterator["OpenClip"]:
        """Yield the clips of one run as they become whole; each holds its arrays or the reason why it has none."""
        waiting = [OpenClip(item, self._config.crop, self._codec) for item in run.items]
        frames = decode.frames(
            path,
            run.items[0].video,
            start_frame=run.start_frame,
            end_frame=run.end_frame,
            config=self._config.decode,
            deadline=deadline,
            stats=stats,
            judge=False,  # each clip is judged by its own frames
        )
        try:
            while (frame := _pull(frames, costs)) is not None:
                for clip in waiting:
                    clip.add(frame, costs)
                for clip in [clip for clip in waiting if clip.is_whole]:
                    with costs.stage("audio"):
                        sound = self._encode_sound(clip.item, path, deadline)
                    clip.finish(sound, costs)
                    waiting.remove(clip)
                    yield clip
                    if waiting:
                        turn_to(waiting[0].item.item_id)
            if waiting:
                raise MediaError("frame_count_mismatch", f"{len(waiting)} clips end after the last decoded frame")
        except MediaError as error:
            for clip in waiting:
                clip.failure = {"reason": error.reason, "detail": error.detail}
                yield clip

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
            receipt = receipts[item.item_id]
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
        self.failure: Row | None = None
        """Why the clip has no arrays."""
        self._crops = crop.crop_boxes(item.boxes, item.landmarks, config).astype("<f4")
        self._codec = codec
        self._batch: list[np.ndarray] = []
        self._latents: list[np.ndarray] = []
        self._sound: dict[str, np.ndarray] = {}
        self._num_added = self._num_stale = 0

    @property
    def is_whole(self) -> bool:
        """Whether every frame has been taken."""
        return self._num_added == self.item.num_frames

    def add(self, frame: Frame, costs: Costs) -> None:
        """Take a frame; one that lies outside the clip is ignored."""
        place = frame.index - self.item.start_frame
        if not 0 <= place < self.item.num_frames:
            return
        self._num_added += 1
        self._num_stale += frame.is_stale
        with costs.stage("crop"):
            self._batch.append(crop.warp(frame.rgb, self._crops[place], SIZE))
        if len(self._batch) == BATCH_FRAMES:
            self._flush(costs)

    def finish(self, sound: dict[str, np.ndarray], costs: Costs) -> None:
        """Encode what is left and take the sound; a clip with too many damaged frames fails."""
        self._flush(costs)
        self._sound = sound
        share = self._num_stale / self.item.num_frames
        if share > decode.MISSING_SHARE:
            self.failure = {"reason": "frame_count_mismatch", "value": share, "threshold": decode.MISSING_SHARE}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the clip's arrays, one row a frame."""
        arrays = {"latent": np.concatenate(self._latents), "crop": self._crops, **self._sound}
        if self.item.landmarks is not None:
            corner, size = self._crops[:, None, :2], self._crops[:, None, 2:] - self._crops[:, None, :2]
            arrays["landmarks"] = ((self.item.landmarks - corner) / size * SIZE).astype("<f4")
        return arrays

    def _flush(self, costs: Costs) -> None:
        if self._batch:
            with costs.stage("latents"):
                self._latents.append(self._codec.encode(np.stack(self._batch)))
            self._batch = []


@dataclass(frozen=True, kw_only=True)
class DecodeRun:
    """A stretch of one video that is decoded in one go, and the clips that lie in it."""

    start_frame: int
    end_frame: int
    items: list[EncodeItem]


def decode_runs(items: Sequence[EncodeItem]) -> list[DecodeRun]:
    """Group the clips of one video so that each source frame is decoded once: a run ends where the next can seek to.

    Between two clips of one run frames are decoded for nothing; between two runs none are.
    """
    runs: list[DecodeRun] = []
    for item in sorted(items, key=lambda item: (item.start_frame, item.end_frame)):
        start_s = Fraction(item.start_frame, FRAME_RATE)
        key_s = max((time for time in item.video.keyframes_s if time <= start_s), default=Fraction(0))
        # One frame beyond a range is decoded, to know until when its last one is shown.
        if runs and key_s * FRAME_RATE <= runs[-1].end_frame + 1:
            last = runs.pop()
            end = max(last.end_frame, item.end_frame)
            runs.append(DecodeRun(start_frame=last.start_frame, end_frame=end, items=[*last.items, item]))
        else:
            runs.append(DecodeRun(start_frame=item.start_frame, end_frame=item.end_frame, items=[item]))
    return runs


def _pull(frames: Iterator[decode.Frame], costs: Costs) -> decode.Frame | None:
    with costs.stage("decode"):
        return next(frames, None)
