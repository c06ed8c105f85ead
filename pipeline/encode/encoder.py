"""Encode: decode the kept stretches of one video once, crop from source pixels, and write one shard per unit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.errors import MediaError
from ...manifests.records import FRAME_RATE, SAMPLES_PER_FRAME
from ...manifests.schema import FRAME_COLUMNS, Column
from ...manifests.shards import Shard, ShardWriter
from ..config import Config
from ..latents import MAX_ABS
from ..media.costs import Costs
from ..media.deadline import DecodeDeadline
from ..media.decode import DecodeStats
from ..media.source_reader import SourceReader
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


@dataclass(frozen=True, kw_only=True)
class EncodedUnit:
    """Clips as they were written into a shard."""

    receipts: dict[str, Row] = field(default_factory=dict)
    """Item id to its receipt: `outcome`; where that is `ok`, `row_group`, `audio_shift_samples`, `residual_lead_ms`,
    `psnr_db` and `psnr_mouth_db` of the clips that are checked; else the `value`, `threshold` and `detail` of the
    reason."""
    lips: dict[str, np.ndarray] = field(default_factory=dict)
    """[T - 4, D] by item id, of corrected clips, where a network measures the lead."""
    fresh: list[EncodeItem] = field(default_factory=list)
    """Clips that were not taken over from an earlier attempt."""


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
    ) -> EncodedUnit:
        """Write the clips into one new shard, in their order; `read_back` then judges what was written.

        Args:
            items: clips, ordered by path and start.
            root: the source folder.
            shard: file to write.
            costs: where CPU seconds are added.
            guard: given the seconds that decoding a run may take, kills a decode that stalls.
            turn_to: told the clip that is waited for.

        Returns:
            What became of each clip. What an earlier attempt made of one is taken over.
        """
        unit = EncodedUnit()
        columns = self.columns(landmarks=all(item.landmarks is not None for item in items))
        made = MadeClips(items, columns, self.contract())
        with closing(made), ShardWriter(shard, columns, self.contract()) as writer:
            for path in dict.fromkeys(item.path for item in items):
                for whole in decode_runs([item for item in items if item.path == path]):
                    made.enter(whole.items, writer, unit.receipts)
                    for run in decode_runs([item for item in whole.items if not made.holds(item)]):
                        turn_to(run.items[0].item_id)
                        stats = DecodeStats()
                        with guard(self._config.decode.timeout_s(run.end_frame - run.start_frame)) as deadline:
                            for clip in self._encode_run(run, root / path, costs, deadline, stats, turn_to):
                                made.copy_before(clip.item)
                                unit.receipts[clip.item.item_id] = self._store(writer, clip, columns, costs)
                                if clip.lips is not None and clip.failure is None:
                                    with costs.stage("lips"):
                                        unit.lips[clip.item.item_id] = clip.lips.finish()
                        unit.receipts[run.items[0].item_id]["num_decoded"] = stats.num_decoded  # told once per run
                    made.copy_rest()
        unit.fresh.extend(item for item in items if not made.holds(item))
        return unit

    def read_back(self, unit: EncodedUnit, shard: Path, costs: Costs) -> None:
        """Measure the lead again on the samples that a trainer reads, and add it to the receipts.

        A network measures corrected clips only. A clip whose correction did not help is `sync_fix_failed`.

        Args:
            unit: the clips as `encode` left them.
            shard: the file that it wrote.
            costs: where CPU seconds are added.
        """
        by_network = self._config.sync.backend == "syncnet"
        with costs.stage("check"), closing(Shard(shard)) as written:
            for item in unit.fresh:
                receipt = unit.receipts[item.item_id]
                if "row_group" in receipt and (item.item_id in unit.lips or not by_network):
                    pcm = written.read(receipt["row_group"], "pcm").reshape(-1)
                    receipt |= self._residual(item, pcm, unit.lips.get(item.item_id))

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
        stretch, first = range(run.start_frame, run.end_frame), run.items[0]
        reader = SourceReader(
            path,
            first.video,
            self._config.decode,
            costs,
            deadline,
            stats=stats,
            video_id=first.video_id,
            facts=first.facts,
        )
        whole = decode_stretch(reader, stretch, waiting, lambda clip, frame: clip.add(frame, costs))
        try:
            with closing(whole), reader.unchanged():
                for clip in whole:
                    with costs.stage("audio"):
                        item = clip.item
                        pcm = reader.sound(item.start_frame, item.end_frame, shift_samples=item.audio_shift_samples)
                        features = self._audio.features(pcm)
                    clip.finish({"pcm": pcm.reshape(-1, SAMPLES_PER_FRAME), self._audio.name: features}, costs)
                    reader.check_unchanged()
                    waiting.remove(clip)
                    yield clip
                    if waiting:
                        turn_to(waiting[0].item.item_id)
        except MediaError as error:
            for clip in waiting:
                clip.failure = {"outcome": error.reason, "detail": error.detail}
                yield clip

    def _watch_lips(self, item: EncodeItem) -> LipStream | None:
        """Return what takes the lips of a clip that is corrected, where a network is to measure it again."""
        return None if self._syncnet is None or item.audio_lead_frames is None else LipStream(self._syncnet)

    def _residual(self, item: EncodeItem, pcm: np.ndarray, lips: np.ndarray | None) -> Row:
        """Return what a receipt says of the lead of stored samples, [640 T]."""
        audio_lead_frames, limit_ms = self._measure_again(item, pcm, lips), self._config.sync.max_residual_ms
        residual_ms = None if audio_lead_frames is None else round(audio_lead_frames * 1000 / FRAME_RATE, 3)
        found = {"residual_lead_ms": residual_ms}
        if item.audio_lead_frames is not None and (residual_ms is None or abs(residual_ms) > limit_ms):
            return found | {"outcome": "sync_fix_failed", "value": residual_ms, "threshold": limit_ms}
        return found

    def _measure_again(self, item: EncodeItem, pcm: np.ndarray, lips: np.ndarray | None) -> float | None:
        """Return the lead of stored samples [640 T], or None where a network finds too little speech in them."""
        if self._syncnet is None or lips is None:
            return correlation.estimate(item.mouth_opening, pcm, self._config.sync).audio_lead_frames
        voiced = speech.detect_speech(pcm, self._config.speech)
        found = distances.estimate(lips, self._syncnet.embed_sound(pcm), voiced, self._config.sync)
        return None if found.speech_s == 0 else found.audio_lead_frames
