"""`hs-data build`: plan -> score -> select -> encode -> finalize -> report, each of which goes on where it stopped."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...manifests import settings
from ...manifests.commits import Commit
from ...manifests.errors import DatasetError
from ...manifests.forgotten import Forgotten
from ...manifests.schema import FRAME_COLUMNS
from ...manifests.sources import Source
from ...manifests.sources.latentsync import late_sound
from ...manifests.storage import digest, read_json, sweep
from ..config import Config
from ..demo.source import make_demo
from ..kept_clip import encode_id
from ..models import registry, require_iqa
from ..select import select
from .finalize import Result, stored_items, tables_are_whole, write_dataset
from .forget import finish_forgetting
from .ledger import Ledger, read_scores
from .left_out import leave_out, not_forgotten
from .outcomes import is_done, is_retried, outcome_of
from .plan import PROBE_FINGERPRINT, PROBE_UNIT_FILES, PlanFile, list_inputs, score_items
from .pools import Pool, make_pool
from .progress import Display
from .restore import restore_commits
from .shard_layout import ShardLayout, is_laid, with_made, without_set_aside
from .spans import place_spans
from .superseded import remove_commits, take_back
from .supervise import Limits, Supervisor
from .units import Item, Phase, Unit

logger = logging.getLogger(__name__)
RECYCLE_MB = 3000.0
"""A worker that ever held more than this is replaced after its unit; measured peak on 1080x1920 is far below."""
MAX_PASSES = 4
"""One to encode, others to lay together what crashes tore apart; a crash while that is done asks for another."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to build, and with how much of which machine."""

    source: Source
    root: Path
    dataset: Path
    preset: str
    config: Config
    selection: dict[str, Any]
    """Limits that `hs-data select` left in the dataset, already in `config`."""
    built_select: dict[str, Any]
    """The limits without them."""
    executor: str = "ray"
    num_workers: int = 0
    """0: one per core."""
    limit: int | None = None
    shard: tuple[int, int] | None = None
    only: frozenset[str] | None = None
    """Only the files with these paths."""
    judged_as: str | None = None
    """Crop policy that decides which clips are kept, where they are cut with another one."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a build did."""

    num_units: int
    """Units that were really done; 0 when everything was there."""
    finalized: bool
    """Whether the dataset's tables are those of this request; False for one shard of several."""
    waiting: Mapping[str, str] = field(default_factory=dict)
    """Paths of inputs that the same command tries again, and why they or parts of them are missing."""
    set_aside: frozenset[str] = frozenset()
    """Paths of inputs of which something stands in quarantine."""


class Build:
    """One run of the pipeline."""

    def __init__(self, request: Request, display: Display) -> None:
        self._request = request
        self._display = display
        self._dataset = request.dataset
        self._config = request.config
        self._pool: Pool | None = None
        self._num_units = 0

    def run(self) -> Outcome:
        """Run all phases; workers are started by the first phase that has something to do, and stopped at the end."""
        try:
            return self._run()
        finally:
            if self._pool is not None:
                self._pool.close()

    def _run(self) -> Outcome:
        request, config = self._request, self._config
        inputs = self._list() if request.source.needs_input else []  # a source that is not there is told before models
        registry.require_all(config.model_names, config.models)  # before the first file, not after an hour of decoding
        require_iqa(config.quality, config.models)
        if not request.source.needs_input:
            make_demo(request.root)
            inputs = self._list()
        if request.only is not None:
            inputs = [item for item in inputs if item["path"] in request.only]
        finish_forgetting(self._dataset)
        num_listed, inputs = len(inputs), leave_out(inputs, Forgotten(self._dataset))
        for folder in ("shards", "work/scores"):
            sweep(self._dataset / folder)
        restore_commits(self._dataset, config)
        there = [item for item in inputs if item["refused"] is None]
        probed = self._phase("probe", there, PROBE_FINGERPRINT, most=PROBE_UNIT_FILES, weight="files")
        inputs = not_forgotten(inputs, probed.receipts)
        if num_gone := num_listed - len(inputs):
            logger.warning("%d inputs are left out: %s was told to forget them", num_gone, self._dataset)
        checked = {item["id"]: check(item, probed.receipts.get(item["id"], {}), config) for item in inputs}
        stretches = score_items(inputs, checked, config)
        scored = self._phase("score", stretches, config.score_fingerprint(), most=config.run.unit_s)
        missing = Missing()
        missing.add(there, probed)
        missing.add(stretches, scored)
        clips = self._select(read_scores(scored, self._dataset, stretches))
        kept = encode_items(clips, stretches, config)
        layout = ShardLayout(self._dataset, request.shard, config.encode_fingerprint())
        encoded = self._encode(layout, kept, [item["path"] for item in inputs], missing)
        missing.add(kept, encoded)
        gone = encoded.drop_superseded({item["id"] for item in kept}, is_all=self._is_whole)
        outcome = Outcome(
            num_units=self._num_units,
            finalized=request.shard is None,
            waiting=missing.waiting,
            set_aside=frozenset(missing.set_aside),
        )
        take_back(self._dataset, "probe", {item["id"] for item in there if item["path"] in missing.changed})
        if request.shard is not None:
            self._settle(layout, gone, missing)
            return outcome
        result = Result(
            source=request.source.name,
            preset=request.preset,
            config=config,
            selection=request.selection,
            built_select=request.built_select,
            inputs=inputs,
            probed=checked,
            stretches=stretches,
            scored=scored,
            clips=clips,
            items={item["clip_id"]: item["id"] for item in kept},
            encoded=encoded,
        )
        self._finalize(result)
        self._settle(layout, gone, missing)
        return outcome

    @property
    def _is_whole(self) -> bool:
        """Whether this run sees all inputs, so that what it does not want nobody wants."""
        request = self._request
        return request.shard is None and request.limit is None and request.only is None

    def _settle(self, layout: ShardLayout, gone: Sequence[Commit], missing: "Missing") -> None:
        """Remove the shards that were laid out anew, which until now the tables named, and end the rounds."""
        remove_commits(self._dataset, gone)
        layout.close([*missing.waiting, *missing.set_aside])

    def _list(self) -> list[Item]:
        request = self._request
        return list_inputs(request.source, request.root, limit=request.limit, shard=request.shard)

    def _phase(
        self, phase: Phase, items: Sequence[Item], fingerprint: str, *, most: float, weight: str = "seconds"
    ) -> Ledger:
        """Do what is not done of a phase, and return what is known of all of it."""
        ledger = Ledger(self._dataset, phase, fingerprint)
        done = {item["id"] for item in items if is_done(ledger.receipts.get(item["id"]))}
        plan = PlanFile(self._dataset, phase, self._request.shard)
        units = plan.units(items, done, fingerprint, most=most, weight=weight)
        with self._display.phase(phase, items, len(done)):
            self._do(units)
        if units:
            ledger = Ledger(self._dataset, phase, fingerprint)
        gone = ledger.drop_superseded({item["id"] for item in items}, is_all=self._is_whole)
        remove_commits(self._dataset, gone)
        _check_all(phase, items, ledger)
        return ledger

    def _encode(self, layout: ShardLayout, items: Sequence[Item], paths: Sequence[str], missing: "Missing") -> Ledger:
        """Encode the kept clips, and lay together what crashes tore apart, until each unit lies in one shard."""
        fingerprint, waiting = self._config.encode_fingerprint(), [*missing.waiting, *missing.set_aside]
        ledger = Ledger(self._dataset, "encode", fingerprint)
        waiting += [item["path"] for item in items if ledger.is_set_aside(item["id"])]
        wanted = layout.units(items, ledger, paths, waiting, most=self._config.run.shard_mb)
        for number in range(MAX_PASSES):
            wanted = [left for unit in wanted if (left := without_set_aside(unit, ledger)) is not None]
            ledger = Ledger(self._dataset, "encode", fingerprint, planned={unit.unit_id for unit in wanted})
            todo = [unit for unit in wanted if not is_laid(unit, ledger, retry=number == 0)]
            if number == 0:
                in_units = sum(len(unit.items) for unit in todo)
                with self._display.phase("encode", items, len(items) - in_units):
                    self._do([with_made(unit, ledger, retry=True) for unit in todo])
            elif not todo:
                break
            else:
                self._do([with_made(unit, ledger, retry=False) for unit in todo], silently=True)
            ledger = Ledger(self._dataset, "encode", fingerprint, planned={unit.unit_id for unit in wanted})
        _check_all("encode", items, ledger)
        return ledger

    def _do(self, units: Sequence[Unit], *, silently: bool = False) -> None:
        if units:
            self._num_units += len(units)
            limits = Limits(recycle_mb=RECYCLE_MB)
            display = {"finished": self._display.advance, "waiting": self._display.wait}
            display = {"finished": lambda unit, done: None} if silently else display
            Supervisor(self._workers(), self._dataset, limits=limits, **display).run(units)

    def _workers(self) -> Pool:
        if self._pool is None:
            setup = {
                "config": settings.to_table(replace(self._config, models=registry.pinned(self._config.models))),
                "root": str(self._request.root.resolve()),
                "dataset": str(self._dataset.resolve()),
            }
            self._pool = make_pool(
                self._request.executor, self._request.num_workers or len(os.sched_getaffinity(0)), setup
            )
        return self._pool

    def _select(self, scores: pa.Table) -> pa.Table:
        policy = self._config.crop.policy
        verdicts = select(scores, self._config.select, policy, self._request.judged_as)
        for name in verdicts.column_names:
            scores = scores.append_column(verdicts.schema.field(name), verdicts[name])
        return scores

    def _finalize(self, result: Result) -> None:
        """Write the tables unless those on disk were made of the very same things."""
        config = settings.to_table(result.config)
        config.pop("models")  # where weights lie does not change what they make; which they are is in the fingerprints
        made_by = [result.config.score_fingerprint(), result.config.encode_fingerprint()]
        stretches = [item["id"] for item in result.stretches]
        receipts = [
            # By content, not by item: those know the time of change, which a copy of the same folder has not.
            [(result.probed[item["id"]].get("video_id"), [item[name] for name in SAID]) for item in result.inputs],
            [outcome for _, outcome in outcomes(result.probed, [item["id"] for item in result.inputs])],
            outcomes(result.scored.receipts, stretches),
            outcomes(result.encoded.receipts, list(result.items.values())),
            [file["path"] for file in result.encoded.files(stored_items(result.clips, result.items))],
        ]
        key = digest("dataset", config, made_by, result.selection, result.source, receipts)
        index = self._dataset / "dataset.json"
        if not index.is_file() or read_json(index)["key"] != key or not tables_are_whole(self._dataset):
            write_dataset(self._dataset, result, key)


def outcomes(receipts: Mapping[str, Mapping[str, Any]], items: Sequence[str]) -> list[tuple[str, str]]:
    """Return what became of each item, in their order: the part of a receipt that decides what the tables say."""
    return [(item, outcome_of(receipts[item])) for item in items]


class Missing:
    """Inputs that are not wholly in the dataset, though they may be one day."""

    def __init__(self) -> None:
        self.waiting: dict[str, str] = {}
        """Path to the outcome that the next run tries again."""
        self.set_aside: set[str] = set()
        """Paths of which something stands in quarantine."""
        self.changed: set[str] = set()
        """Paths that hold something else than their probe says."""

    def add(self, items: Sequence[Item], ledger: Ledger) -> None:
        """Look at what became of the items of a phase."""
        for item in items:
            receipt = ledger.receipts[item["id"]]
            if ledger.is_set_aside(item["id"]):
                self.set_aside.add(item["path"])
            elif is_retried(receipt):
                self.waiting.setdefault(item["path"], outcome_of(receipt))
            if outcome_of(receipt) == "source_changed":
                self.changed.add(item["path"])


def _check_all(phase: Phase, items: Sequence[Item], ledger: Ledger) -> None:
    missing = [item["path"] for item in items if item["id"] not in ledger.receipts]
    if missing:
        raise DatasetError(f"{phase}: {len(missing)} items have no receipt ({missing[0]}, ...); report this")


SAID = ("path", "identity", "youtube_id", "official_split", "spans")
"""What a source says of an input."""


def check(item: Item, receipt: dict, config: Config) -> dict:
    """Return what is known of an input before anything is decoded."""
    if item["refused"] is not None:
        return item["refused"]
    placed = place_spans(
        refuse_early(receipt, config),
        item["spans"],
        check_boxes=config.run.check_boxes,
        need_boxes=config.faces.backend == "annotated",
    )
    late = late_sound(item["source"], Fraction(placed["video"]["audio_start_s"])) if placed["outcome"] == "ok" else None
    return placed if late is None else {**placed, "note": "; ".join(filter(None, (placed.get("note"), late)))}


def refuse_early(receipt: dict, config: Config) -> dict:
    """Give a readable file that can never give a clip its reason before anything is decoded."""
    if receipt["outcome"] != "ok":
        return receipt
    video = receipt["video"]
    if video["audio_codec"] is None:
        return {**receipt, "outcome": "no_audio_stream", "detail": "the file has no audio stream"}
    num_frames, least = video["num_frames"], config.select.min_clip_s
    if num_frames < least * 25:
        detail = f"{num_frames} frames at 25 fps; a clip needs {least:g} s"
        return {**receipt, "outcome": "too_short", "detail": detail}
    return receipt


def encode_items(clips: pa.Table, stretches: Sequence[Item], config: Config) -> list[Item]:
    """Return the kept clips as items of the encode phase."""
    video_of = {item["video_id"]: item for item in stretches}
    columns = [*config.audio.columns.values(), *(FRAME_COLUMNS[name] for name in ("pcm", "crop", "landmarks"))]
    frame_bytes = config.latents.frame_bytes + sum(column.width for column in columns)
    names = ["clip_id", "video_id", "path", "start_frame", "num_frames", "verdict", "scores_file", "scores_row"]
    items = []
    for row in clips.select([*names, "audio_lead_frames", "sync_confidence", "clip_class"]).to_pylist():
        if row["verdict"] != "kept":
            continue
        lead = lead_to_correct(row, config)
        items.append(
            {
                "id": encode_id(row["clip_id"], lead),
                "clip_id": row["clip_id"],
                "path": row["path"],
                "video_id": row["video_id"],
                "video": video_of[row["video_id"]]["video"],
                "facts": video_of[row["video_id"]]["facts"],
                "start_frame": row["start_frame"],
                "scores": row["scores_file"],
                "row": row["scores_row"],
                "lead": lead,
                "seconds": row["num_frames"] / 25,
                "timeout_s": config.decode.timeout_s(row["num_frames"]),
                "compute_s": config.compute_s(row["num_frames"]),
                "mb": row["num_frames"] * frame_bytes / 1e6,
            }
        )
    return items


def lead_to_correct(row: Mapping[str, Any], config: Config) -> float | None:
    """Return the lead that the stored sound is corrected by, or None where it stays as it is."""
    lead_frames, sync = row["audio_lead_frames"], config.sync
    if not sync.correct or row["clip_class"] != "speech" or lead_frames is None:
        return None
    sure = row["sync_confidence"] >= sync.min_confidence
    return lead_frames if sure and abs(lead_frames) > sync.dead_band_frames else None
