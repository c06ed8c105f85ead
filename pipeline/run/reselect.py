"""`hs-data select`: other limits on the scores of a finished dataset, in seconds and without decoding."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...manifests import selections, settings
from ...manifests.dataset import Dataset, open_dataset
from ...manifests.errors import ConfigError
from ...manifests.schema import CLIP_SCHEMA, SCORE_SCHEMA
from ...manifests.storage import write_json
from ..config import Config
from ..select import SelectConfig, select
from .finalize import count, hash_tables, write_table

PLACE = ("audio_shift_samples", "residual_lead_ms", "shard", "row_group")


def reselect(
    path: Path,
    *,
    assignments: Sequence[str],
    config_file: Path | None,
    reset: bool,
    dry_run: bool,
    name: str | None = None,
) -> dict[str, Any]:
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
    """
    dataset = open_dataset(path)
    saved = {} if reset else _saved(dataset, name)
    file = settings.load_toml(config_file) if config_file else {}
    changes = settings.merge(saved, file, settings.parse_assignments(list(assignments)))
    if set(changes) - {"select"}:
        strange = min(set(changes) - {"select"})
        hint = settings.meant(strange, [key for key, _, _ in settings.keys(SelectConfig, path="select.")])
        raise ConfigError(f"{strange}: only select.* can change without scoring; {hint}")
    if not changes and not reset:
        raise ConfigError("nothing to change; give --set select.KEY=VALUE, --config F.toml or --reset")
    own = dataset.index["config"]["select"]
    built = dataset.index.get("built_select", own)
    base = own if name else built
    limits = settings.build(SelectConfig, settings.merge(base, settings.section(changes, "select")), path="select.")
    before = dataset.clips()
    after = judge_again(before, limits, dataset.index["config"]["crop"]["policy"])
    summary = _compare(before, after)
    if name and not dry_run:
        summary["saved"] = str(_save(dataset, name, limits, changes, after))
    elif not dry_run:
        config = replace(settings.build(Config, dataset.index["config"]), select=limits)
        videos = selections.count_kept(dataset.videos(), after).to_pylist()
        _write(path, dataset.index, config, after, videos, changes, built)
    return summary


def _saved(dataset: Dataset, name: str | None) -> dict[str, Any]:
    """Return the limits that earlier calls set."""
    if name is None:
        return dataset.index.get("selection", {})
    known = selections.folder_of(dataset.path, name).name in selections.names(dataset.path)
    return selections.load_facts(dataset.path, name)["changes"] if known else {}


def _save(dataset: Dataset, name: str, limits: SelectConfig, changes: dict[str, Any], clips: pa.Table) -> Path:
    scores = dataset.index["fingerprints"].get("score")
    facts = {"name": name, "changes": changes, "select": settings.to_table(limits), "scores": scores}
    return selections.save(dataset.path, name, facts, clips)


def judge_again(clips: pa.Table, limits: SelectConfig, policy: str) -> pa.Table:
    """Return the clip table with new verdicts; a clip that is on disk keeps its place, kept or not.

    A clip that failed while it was encoded (an error, a correction that did not hold) stays as it is.
    """
    verdicts = select(clips.select(SCORE_SCHEMA.names), limits, policy)
    rows = clips.select([field.name for field in CLIP_SCHEMA if field.name not in SCORE_SCHEMA.names]).to_pylist()
    for row, new in zip(rows, verdicts.to_pylist(), strict=True):
        failed_encoding = row["reason"] in ("sync_fix_failed", "latent_nan") or row["verdict"] == "error"
        if not (failed_encoding and new["verdict"] == "kept"):
            row.update(new)
    columns = {name: clips[name] for name in SCORE_SCHEMA.names}
    for field in CLIP_SCHEMA:
        if field.name not in columns:
            columns[field.name] = pa.chunked_array([pa.array([row[field.name] for row in rows], field.type)])
    return pa.table([columns[field.name] for field in CLIP_SCHEMA], schema=CLIP_SCHEMA)


def _compare(before: pa.Table, after: pa.Table) -> dict[str, Any]:
    names = ("verdict", "reason", "shard")
    old, new = (t.select(list(names)).to_pylist() for t in (before, after))
    pairs = list(zip(old, new, strict=True))
    newly_kept = [o for o, n in pairs if n["verdict"] == "kept" != o["verdict"]]
    newly_dropped = [n for o, n in pairs if o["verdict"] == "kept" != n["verdict"]]
    other = [n for o, n in pairs if "kept" not in (o["verdict"], n["verdict"]) and o["reason"] != n["reason"]]
    return {
        "kept_before": sum(row["verdict"] == "kept" for row in old),
        "kept_now": sum(row["verdict"] == "kept" for row in new),
        "newly_kept": len(newly_kept),
        "were_dropped_as": dict(Counter(row["reason"] for row in newly_kept)),
        "to_encode": sum(row["verdict"] == "kept" and row["shard"] is None for row in new),
        "newly_dropped": dict(Counter(row["reason"] for row in newly_dropped)),
        "dropped_for_another_reason": len(other),
    }


def _write(
    path: Path,
    index: dict[str, Any],
    config: Config,
    clips: pa.Table,
    videos: list[dict[str, Any]],
    changes: dict[str, Any],
    built: dict[str, Any],
) -> None:
    write_table(path / "clips.parquet", clips)
    write_table(path / "videos.parquet", videos)
    # Another key than any build's: the next build finalizes anew, with what is newly encoded.
    index |= {"key": "selected", "config": settings.to_table(config), "counts": count(videos, clips)}
    index |= {"selection": changes, "built_select": built}
    write_json(path / "dataset.json", index | {"tables": hash_tables(path)})
