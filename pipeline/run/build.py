"""`hs-data build`: plan -> score -> select -> encode -> finalize -> report, each of which goes on where it stopped."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...manifests import settings
from ...manifests.commits import Commit
from ...manifests.forgotten import FORGOTTEN, Forgotten, drop_forgotten
from ...manifests.lock import lock_dataset
from ...manifests.schema import FRAME_COLUMNS
from ...manifests.sources import Source
from ...manifests.storage import sweep
from ..config import Config
from ..encode.items import encode_id
from ..maintain.forget import finish_forgetting
from ..models import registry
from ..networks import require_iqa
from ..select import select
from ..workers.executors import make_pool
from ..workers.messages import WorkerSetup
from ..workers.outcomes import is_done, outcome_of
from ..workers.pools import Pool
from ..workers.supervise import Limits, Supervisor
from ..workers.units import Item, Phase, Unit, UnitSize, encode_size, score_size
from .finalize import Result, finalize
from .ledger import Ledger, read_scores
from .missing import Missing, check_all
from .plan import PlanFile, check, list_inputs, probe_fingerprint, score_items
from .progress import BuildProgress
from .restore import restore_commits
from .shard_layout import ShardLayout
from .superseded import remove_commits, take_back

logger = logging.getLogger(__name__)
RECYCLE_MB = 3000.0
"""A worker that ever held more than this is replaced after its unit; measured peak on 1080x1920 is far below."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """A build that is asked for, and how much of which machine it may use."""

    source: Source
    root: Path
    dataset: Path
    preset: str
    config: Config
    selection: settings.Table
    """Limits that `hs-data select` left in the dataset, already in `config`."""
    built_select: settings.Table
    """The limits without them."""
    executor: str = "ray"
    num_workers: int = 0
    """0: one per core, of this machine or of the Ray cluster."""
    limit: int | None = None
    shard: tuple[int, int] | None = None
    only: frozenset[str] | None = None
    """Only the files with these paths."""
    judged_as: str | None = None
    """Crop policy that decides which clips are kept, where they are cut with another one."""


@dataclass(frozen=True, kw_only=True)
class BuildOutcome:
    """Result of a build."""

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

    def __init__(self, request: BuildRequest, display: BuildProgress) -> None:
        self._request = request
        self._display = display
        self._dataset = request.dataset
        self._config = request.config
        self._pool: Pool | None = None
        self._num_units = 0

    def run(self) -> BuildOutcome:
        """Run all phases; workers are started by the first phase that has something to do, and stopped at the end.

        Raises:
            HsDataError: what is missing, or that another process writes the dataset.
        """
        request, config = self._request, self._config
        inputs = self._list() if request.source.needs_input else []  # a source that is not there is told before models
        registry.require_all(config.model_names, config.models)  # before the first file, not after an hour of decoding
        require_iqa(config.quality, config.models)
        with lock_dataset(self._dataset, "build", request.shard):
            try:
                return self._run(inputs)
            finally:
                if self._pool is not None:
                    self._pool.close()

    def _run(self, inputs: list[Item]) -> BuildOutcome:
        request, config = self._request, self._config
        if not request.source.needs_input:
            request.source.make_videos(request.root)
            inputs = self._list()
        if request.only is not None:
            inputs = [item for item in inputs if item["path"] in request.only]
        finish_forgetting(self._dataset)
        num_listed, inputs = len(inputs), drop_forgotten(inputs, Forgotten(self._dataset))
        for folder in ("shards", "work/scores"):
            sweep(self._dataset / folder)
        restore_commits(self._dataset, config)
        there = [item for item in inputs if item["refused"] is None]
        fingerprint = probe_fingerprint(config.decode)
        probed = self._phase("probe", there, fingerprint, size=UnitSize(weight="files", least=4, most=32))
        inputs = [item for item in inputs if outcome_of(probed.receipts.get(item["id"], {})) != FORGOTTEN]
        if num_gone := num_listed - len(inputs):
            logger.warning("%d inputs are left out: %s was told to forget them", num_gone, self._dataset)
        source, receipts = request.source, probed.receipts
        checked = {item["id"]: check(item, receipts.get(item["id"], {}), config, source) for item in inputs}
        stretches = score_items(inputs, checked, config)
        scored = self._phase("score", stretches, config.score_fingerprint(), size=score_size(config))
        missing = Missing()
        missing.add(there, probed)
        missing.add(stretches, scored)
        clips = self._select(read_scores(scored, self._dataset, stretches))
        kept = encode_items(clips, stretches, config)
        layout = ShardLayout(self._dataset, request.shard, config.encode_fingerprint())
        encoded = self._encode(layout, kept, [item["path"] for item in inputs], missing)
        missing.add(kept, encoded)
        gone = encoded.drop_superseded({item["id"] for item in kept}, is_all=self._is_whole)
        is_part, aside = request.shard is not None, frozenset(missing.set_aside)
        outcome = BuildOutcome(
            num_units=self._num_units, finalized=not is_part, waiting=missing.waiting, set_aside=aside
        )
        take_back(self._dataset, "probe", {item["id"] for item in there if item["path"] in missing.changed})
        if is_part:
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
        del kept, clips  # half a gigabyte where 400,000 of a million clips are kept
        finalize(self._dataset, result)
        self._settle(layout, gone, missing)
        return outcome

    @property
    def _is_whole(self) -> bool:
        """Whether this run sees all inputs, so that what it does not want nobody wants."""
        request = self._request
        return request.shard is None and request.limit is None and request.only is None

    def _settle(self, layout: ShardLayout, gone: Sequence[Commit], missing: Missing) -> None:
        """Remove the shards that were laid out anew, which until now the tables named, and end the rounds."""
        remove_commits(self._dataset, gone)
        layout.close([*missing.waiting, *missing.set_aside])

    def _list(self) -> list[Item]:
        request = self._request
        return list_inputs(request.source, request.root, limit=request.limit, shard=request.shard)

    def _phase(self, phase: Phase, items: Sequence[Item], fingerprint: str, *, size: UnitSize) -> Ledger:
        """Do what is not done of a phase, and return what is known of all of it."""
        ledger = Ledger(self._dataset, phase, fingerprint)
        done = {item["id"] for item in items if is_done(ledger.receipts.get(item["id"]))}
        plan = PlanFile(self._dataset, phase, self._request.shard)
        units = plan.units(items, done, fingerprint, most=size.of(items), weight=size.weight)
        done_s = sum(item["seconds"] for item in items if item["id"] in done)
        with self._display.phase(phase, items, len(done), done_s):
            self._do(units)
        if units:
            ledger = Ledger(self._dataset, phase, fingerprint)
        gone = ledger.drop_superseded({item["id"] for item in items}, is_all=self._is_whole)
        remove_commits(self._dataset, gone)
        check_all(phase, items, ledger)
        return ledger

    def _encode(self, layout: ShardLayout, items: Sequence[Item], paths: Sequence[str], missing: Missing) -> Ledger:
        """Encode the kept clips, and lay together what crashes tore apart, until each unit lies in one shard."""
        waiting = [*missing.waiting, *missing.set_aside]
        passes = layout.passes(layout.units(items, paths, waiting, size=encode_size(self._config)))
        todo = next(passes)
        num_done = len(items) - sum(len(unit.items) for unit in todo)
        done_s = sum(item["seconds"] for item in items) - sum(unit.seconds for unit in todo)
        with self._display.phase("encode", items, num_done, done_s):
            self._do(todo)
        for torn in passes:
            self._do(torn, silently=True)
        check_all("encode", items, layout.ledger)
        return layout.ledger

    def _do(self, units: Sequence[Unit], *, silently: bool = False) -> None:
        if units:
            self._num_units += len(units)
            finished = (lambda unit, done: None) if silently else self._display.advance
            waiting = (lambda oldest_s, begun: None) if silently else self._display.wait
            limits = Limits(recycle_mb=RECYCLE_MB)
            Supervisor(self._workers(), self._dataset, limits=limits, finished=finished, waiting=waiting).run(units)

    def _workers(self) -> Pool:
        if self._pool is None:
            config = replace(self._config, models=registry.with_absolute_dir(self._config.models))
            setup = WorkerSetup(
                config=settings.to_table(config),
                root=str(self._request.root.resolve()),
                dataset=str(self._dataset.resolve()),
            )
            self._pool = make_pool(self._request.executor, self._request.num_workers, setup)
        return self._pool

    def _select(self, scores: pa.Table) -> pa.Table:
        policy = self._config.crop.policy
        verdicts = select(scores, self._config.select, policy, self._request.judged_as)
        for name in verdicts.column_names:
            scores = scores.append_column(verdicts.schema.field(name), verdicts[name])
        return scores


def encode_items(clips: pa.Table, stretches: Sequence[Item], config: Config) -> list[Item]:
    """Return the kept clips as items of the encode phase."""
    video_of = {item["video_id"]: item for item in stretches}
    columns = [*config.audio.columns.values(), *(FRAME_COLUMNS[name] for name in ("pcm", "crop", "landmarks"))]
    frame_bytes = config.latents.frame_bytes + sum(column.width for column in columns)
    names = ["clip_id", "video_id", "path", "start_frame", "num_frames", "scores_file", "scores_row"]
    names += ["audio_lead_frames", "sync_confidence", "clip_class"]
    items = []
    for row in clips.filter(pc.field("verdict") == "kept").select(names).to_pylist():
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
                "audio_lead_frames": lead,
                "seconds": row["num_frames"] / 25,
                "timeout_s": config.decode.timeout_s(row["num_frames"]),
                "compute_s": config.compute_s(row["num_frames"]),
                "mb": row["num_frames"] * frame_bytes / 1e6,
            }
        )
    return items


def lead_to_correct(row: Mapping[str, Any], config: Config) -> float | None:
    """Return the lead that the stored sound is corrected by, or None where it stays as it is."""
    audio_lead_frames, sync = row["audio_lead_frames"], config.sync
    if not sync.correct or row["clip_class"] != "speech" or audio_lead_frames is None:
        return None
    sure = row["sync_confidence"] >= sync.min_confidence
    return audio_lead_frames if sure and abs(audio_lead_frames) > sync.dead_band_frames else None
