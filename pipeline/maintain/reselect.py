"""`hs-data select`: other limits on the scores of a finished dataset, in seconds and without decoding."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...manifests import selections, settings
from ...manifests.clip_rows import RowLocations
from ...manifests.counts import recount_videos
from ...manifests.dataset import Dataset, open_dataset
from ...manifests.errors import ConfigError
from ...manifests.index import CLIPS, DatasetIndex, require_unaltered
from ...manifests.settings import Table
from ...manifests.tables import write_tables
from ..config import Config
from ..score.registry import CLIP_SCHEMA, LIGHT
from ..select import SelectConfig, select

Summary = dict[str, int | str | dict[str, int]]
"""JSON values that the command prints."""


def reselect(
    path: Path,
    *,
    assignments: Sequence[str],
    config_file: Path | None,
    reset: bool,
    dry_run: bool,
    name: str | None = None,
) -> Summary:
    """Judge every candidate again; rewrite `clips.parquet` and `dataset.json`, or save a named selection beside them.

    Args:
        path: the dataset.
        assignments: `select.KEY=VALUE`.
        config_file: a TOML file with a `[select]` table.
        reset: forget what earlier calls set.
        dry_run: write nothing.
        name: save rules and verdicts under this name; the dataset's own verdicts and its shards stay as they are. The
            rules are laid over the dataset's own.

    Returns:
        Counts before and after, and how many verdicts changed, by reason; before is the dataset's own selection.

    Raises:
        ConfigError: a setting outside `select`, or none at all.
        DatasetError: index or tables are not the bytes that were written.
    """
    dataset = open_dataset(path)
    require_unaltered(path)
    saved = {} if reset else _saved(dataset, name)
    file = settings.load_toml(config_file) if config_file else {}
    changes = settings.merge(saved, file, settings.parse_assignments(list(assignments)))
    if set(changes) - {"select"}:
        strange = min(set(changes) - {"select"})
        hint = settings.meant(strange, [key for key, _, _ in settings.keys(SelectConfig, path="select.")])
        raise ConfigError(f"{strange}: only select.* can change without scoring; {hint}")
    if not changes and not reset:
        raise ConfigError("nothing to change; give --set select.KEY=VALUE, --config F.toml or --reset")
    own = dataset.index.config["select"]
    built = dataset.index.built_select
    base = own if name else built
    limits = settings.build(SelectConfig, settings.merge(base, settings.section(changes, "select")), path="select.")
    before = dataset.clips(LIGHT, CLIP_SCHEMA)
    after = judge_again(before, limits, dataset.index.config["crop"]["policy"])
    summary = _compare(before, after)
    if name and not dry_run:
        summary["saved"] = str(_save(dataset, name, limits, changes, after))
    elif not dry_run:
        config = replace(settings.build(Config, dataset.index.config), select=limits)
        videos = recount_videos(dataset.videos(), after)
        _write(path, dataset.index, config, after, videos, changes, built)
    return summary


def _saved(dataset: Dataset, name: str | None) -> Table:
    """Return the limits that earlier calls set."""
    if name is None:
        return dataset.index.selection
    known = selections.folder_of(dataset.path, name).name in selections.names(dataset.path)
    return selections.load_facts(dataset.path, name).changes if known else {}


def _save(dataset: Dataset, name: str, limits: SelectConfig, changes: Table, clips: pa.Table) -> Path:
    facts = selections.SelectionFacts(
        name=name,
        changes=changes,
        select=settings.to_table(limits),
        scores=dataset.index.fingerprints.score,
    )
    return selections.save(dataset.path, name, facts, clips)


def judge_again(clips: pa.Table, limits: SelectConfig, policy: str) -> pa.Table:
    """Return the clip table with new verdicts; a clip that is on disk keeps its place, kept or not.

    A clip that failed while it was encoded (an error, a correction that did not hold) stays as it is.
    """
    verdicts = select(clips, limits, policy)
    failed = _is_in(clips["reason"], ("sync_fix_failed", "latent_nan")) | _is_in(clips["verdict"], ("error",))
    stays = np.flatnonzero(failed & _is_in(verdicts["verdict"], ("kept",)))
    for name in verdicts.column_names:
        index, new = clips.schema.get_field_index(name), verdicts[name].combine_chunks()
        if len(stays):
            where = np.arange(len(clips))
            where[stays] += len(clips)
            new = pa.concat_arrays([new, clips[name].combine_chunks()]).take(pa.array(where))
        clips = clips.set_column(index, clips.schema.field(index), new)
    return clips


def _is_in(column: pa.ChunkedArray, words: Sequence[str]) -> np.ndarray:
    return pc.call_function("is_in", [column], pc.SetLookupOptions(pa.array(words, pa.string()))).to_numpy()


def _compare(before: pa.Table, after: pa.Table) -> Summary:
    old, new = (_is_in(table["verdict"], ("kept",)) for table in (before, after))
    differs = pc.call_function("not_equal", [table["reason"].fill_null("") for table in (before, after)]).to_numpy()
    return {
        "kept_before": int(old.sum()),
        "kept_now": int(new.sum()),
        "newly_kept": int((new & ~old).sum()),
        "were_dropped_as": dict(Counter(before["reason"].filter(pa.array(new & ~old)).to_pylist())),
        "to_encode": int((new & after["shard"].is_null().to_numpy()).sum()),
        "newly_dropped": dict(Counter(after["reason"].filter(pa.array(old & ~new)).to_pylist())),
        "dropped_for_another_reason": int((~old & ~new & differs).sum()),
    }


def _write(
    path: Path,
    index: DatasetIndex,
    config: Config,
    clips: pa.Table,
    videos: pa.Table,
    changes: Table,
    built: Table,
) -> None:
    # Another key than any build's: the next build finalizes anew, with what is newly encoded.
    index = replace(index, key="selected", config=settings.to_table(config), selection=changes, built_select=built)
    write_tables(
        path,
        index,
        clips=clips,
        schema=CLIP_SCHEMA,
        bulky=RowLocations.of_tables([path / CLIPS], [len(clips)]),
        videos=videos,
    )
