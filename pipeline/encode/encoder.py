"""Encode: decode the kept stretches of one video once, crop from source pixels, and write one shard per unit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.errors import MediaError
from ...manifests.records import FRAME_RATE, SAMPLES_PER_FRAME
from ...manifests.schema import FRAME_COLUMNS, Column
from ...manifests.shards import Shard, ShardWriter
from ..config import Config
from ..latents import MAX_ABS
from ..media import audio
from ..media.costs import Costs
from ..media.deadline import DecodeDeadline
from ..media.decode import DecodeStats
from ..media.source_file import FileFacts, check_content, check_unchanged
from ..media.stretch import decode_stretch
from ..networks import Networks
from ..sync import correlation, distances, speech
from ..sync.lips import LipStream
from .clip_encoder import ClipEncoder
from .items import DecodeRun, EncodeItem, decode_runs
from .made_clips import MadeClips

Row = dict[str, Any]
Guard = Callable[[float], AbstractContextManager[DecodeDeadline | None]]


def no_guard(_budget_s: float) -> AbstractContextManager[None]:
    """Guard nothing: decoding that stalls is not killed. For use outside a worker process."""
    return nullcontext()


class Encoder:
    """Encode kept clips.

    Args:
        config: the settings.
        networks: those of the worker; None loads its own.
    """

    def __init__(self, config: Config, networks: Networks | None = None) -> None:
        self._config = config
        networks = networks or Networks(config)
        self._crops, self._audio = networks.crops, networks.audio
        self._syncnet = networks.syncnet if config.sync.correct else None

    def columns(self, *, landmarks: bool) -> dict[str, Column]:
        """Return the frame columns of the shards."""
        others = ["pcm", "crop", *(["landmarks"] if landmarks else [])]
        columns = {**self._config.latents.columns, self._audio.name: self._audio.column}
        return columns | {name: FRAME_COLUMNS[name] for name in others}

    def contract(self) -> Row:
        """Return what a trainer must agree with."""
        return {"latent": self._crops.contract, "audio": self._audio.contract, "frame_rate": FRAME_RATE}

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
            Item id to its receipt: `outcome`; where that is `ok`, `row_group`, `audio_shift_samples`,
            `residual_lead_ms`, `psnr_db` and `psnr_mouth_db` of the clips that are checked; else the `value`,
            `threshold` and `detail` of the reason. What an earlier attempt made of a clip is taken over.
        """
        receipts: dict[str, Row] = {}
        lips: dict[str, np.ndarray] = {}
        columns = self.columns(landmarks=all(item.landmarks is not None for item in items))
        made = MadeClips(items, columns, self.contract())
        with closing(made), ShardWriter(shard, columns, self.contract()) as writer:
            for path in dict.fromkeys(item.path for item in items):
                for whole in decode_runs([item for item in items if item.path == path]):
                    made.enter(whole.items, writer, receipts)
                    for run in decode_runs([item for item in whole.items if not made.holds(item)]):
                        turn_to(run.items[0].item_id)
                        stats = DecodeStats()
                        with guard(self._config.decode.timeout_s(run.end_frame - run.start_frame)) as deadline:
                            for clip in self._encode_run(run, root / path, costs, deadline, stats, turn_to):
                                made.copy_before(clip.item)
                                receipts[clip.item.item_id] = self._store(writer, clip, columns, costs)
                                if clip.lips is not None and clip.failure is None:
                                    with costs.stage("lips"):
                                        lips[clip.item.item_id] = clip.lips.finish()
                        receipts[run.items[0].item_id]["num_decoded"] = stats.num_decoded  # told once per run
                    made.copy_rest()
        with costs.stage("check"):
            self._check_sound([item for item in items if not made.holds(item)], shard, receipts, lips)
        return receipts

    def _store(self, writer: ShardWriter, clip: ClipEncoder, columns: Mapping[str, Column], costs: Costs) -> Row:
        if clip.failure is not None:
            return clip.failure
        arrays = clip.arrays()
        latents = [arrays[name] for name in ("latent", "latent_masked") if name in arrays]
        peak = float(np.max([np.abs(array).max() for array in latents]))  # NaN where one is
        if not (peak <= MAX_ABS and np.isfinite(arrays.get("latent_logvar", 0.0)).all()):
            return {"outcome": "latent_nan", "value": peak if MAX_ABS < peak < np.inf else None, "threshold": MAX_ABS}
        with costs.stage("write"):
            row_group = writer.write_clip(clip.item.clip_id, {name: arrays[name] for name in columns})
        receipt = {"outcome": "ok", "row_group": row_group, "audio_shift_samples": clip.item.audio_shift_samples}
        return receipt | (clip.round_trip or {})

    def _encode_run(
        self,
        run: DecodeRun,
        path: Path,
        costs: Costs,
        deadline: DecodeDeadline | None,
        stats: DecodeStats,
        turn_to: Callable[[str], None],
    ) -> Iterator[ClipEncoder]:
        """Yield the clips of one run as they become whole; each holds its arrays or the reason why it has none."""
        waiting = [ClipEncoder(item, self._config.crop, self._crops, self._watch_lips(item)) for item in run.items]
        first, before = run.items[0], None
        whole = decode_stretch(
            path,
            first.video,
            range(run.start_frame, run.end_frame),
            waiting,
            lambda clip, frame: clip.add(frame, costs),
            config=self._config.decode,
            costs=costs,
            deadline=deadline,
            stats=stats,
        )
        with closing(whole):
            try:
                before = check_content(path, first.facts, first.video_id)
                for clip in whole:
                    with costs.stage("audio"):
                        sound = self._encode_sound(clip.item, path, deadline)
                    clip.finish(sound, costs)
                    check_unchanged(path, before)
                    waiting.remove(clip)
                    yield clip
                    if waiting:
                        turn_to(waiting[0].item.item_id)
            except MediaError as error:
                failure = _why(path, before, error)
                for clip in waiting:
                    clip.failure = failure.copy()
                    yield clip

    def _encode_sound(self, item: EncodeItem, path: Path, deadline: DecodeDeadline | None) -> dict[str, np.ndarray]:
        """Cut the clip's sound out of the source at its corrected place, so that the correction invents no silence."""
        shift = item.audio_shift_samples
        margin = -(-abs(shift) // SAMPLES_PER_FRAME)
        first = max(0, item.start_frame - margin)
        pcm = audio.read(path, item.video, start_frame=first, end_frame=item.end_frame + margin, deadline=deadline)
        start = (item.start_frame - first) * SAMPLES_PER_FRAME - shift
        padded = np.pad(pcm, (max(0, -start), 0))
        start = max(0, start)
        pcm = np.ascontiguousarray(padded[start : start + item.num_frames * SAMPLES_PER_FRAME])
        features = self._audio.features(pcm)
        return {"pcm": pcm.reshape(-1, SAMPLES_PER_FRAME).astype("<i2"), self._audio.name: features}

    def _watch_lips(self, item: EncodeItem) -> LipStream | None:
        """Return what takes the lips of a clip that is corrected, where a network is to measure it again."""
        return None if self._syncnet is None or item.audio_lead_frames is None else LipStream(self._syncnet)

    def _check_sound(
        self, items: Sequence[EncodeItem], path: Path, receipts: dict[str, Row], lips: Mapping[str, np.ndarray]
    ) -> None:
        """Measure the offset again on the samples that a trainer reads; a network, of corrected clips only."""
        shard = Shard(path)
        limit_ms = self._config.sync.max_residual_ms
        for item in items:
            receipt = receipts[item.item_id]
            if "row_group" not in receipt or (self._config.sync.backend == "syncnet" and item.item_id not in lips):
                continue
            pcm = shard.read(receipt["row_group"], "pcm").reshape(-1)
            audio_lead_frames = self._measure_again(item, pcm, lips.get(item.item_id))
            residual_ms = None if audio_lead_frames is None else round(audio_lead_frames * 1000 / FRAME_RATE, 3)
            receipt["residual_lead_ms"] = residual_ms
            if item.audio_lead_frames is not None and (residual_ms is None or abs(residual_ms) > limit_ms):
                receipt |= {"outcome": "sync_fix_failed", "value": residual_ms, "threshold": limit_ms}

    def _measure_again(self, item: EncodeItem, pcm: np.ndarray, lips: np.ndarray | None) -> float | None:
        """Return the lead of stored samples [640 T], or None where a network finds too little speech in them."""
        if self._syncnet is None or lips is None:
            return correlation.estimate(item.mouth_opening, pcm, self._config.sync).audio_lead_frames
        voiced = speech.detect_speech(pcm, self._config.speech)
        found = distances.estimate(lips, self._syncnet.embed_sound(pcm), voiced, self._config.sync)
        return None if found.speech_s == 0 else found.audio_lead_frames


def _why(path: Path, before: FileFacts | None, error: MediaError) -> Row:
    """Return the receipt of a failure; what a decoder says of a file that was swapped under it tells nothing."""
    try:
        check_unchanged(path, before)
    except MediaError as changed:
        error = changed
    return {"outcome": error.reason, "detail": error.detail}
