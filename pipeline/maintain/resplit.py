"""`hs-data split`: assign train, val and test again; nothing else of a dataset changes."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ...manifests import settings
from ...manifests.clip_rows import RowLocations
from ...manifests.dataset import open_dataset
from ...manifests.errors import ConfigError, DatasetError
from ...manifests.index import CLIPS, require_unaltered, tables_are_whole
from ...manifests.near import choice
from ...manifests.tables import write_tables
from ..score.registry import CLIP_SCHEMA, LIGHT
from ..select import SelectConfig
from ..splits import assign, overlaps

SHARES = ("val_share", "test_share", "official_splits")
"""Settings of `select` that decide on splits."""


def resplit(root: Path, *, assignments: Sequence[str], dry_run: bool) -> dict[str, int | str]:
    """Assign the split of every clip and rewrite `clips.parquet` and `dataset.json`; shards know of no split.

    A clip's split is a hash of its person (of its video, where nobody is named), so equal settings give equal splits.

    Returns:
        `moved`: how many clips change their split; and for each split number, hours and people of its kept clips.

    Raises:
        ConfigError: a setting that does not decide on splits.
        DatasetError: index or tables are not the bytes that were written, or somebody would be in two splits, which is
            a bug of ours; nothing is written.
    """
    dataset = open_dataset(root)
    require_unaltered(root)
    index = dataset.index
    changes = settings.parse_assignments(list(assignments))
    chosen = settings.section(changes, "select")
    wrong = [name for name in changes if name != "select"] + [f"select.{key}" for key in chosen if key not in SHARES]
    if wrong:
        raise ConfigError(f"{wrong[0]}: decides on no split; {choice(wrong[0], [f'select.{k}' for k in SHARES])}")
    table = settings.merge(index.config["select"], chosen)
    limits = settings.build(SelectConfig, table, path="select.")
    before = dataset.clips(LIGHT, CLIP_SCHEMA)
    after = assign_anew(before, limits)
    if shared := overlaps(after):
        raise DatasetError(f"{root}: {shared[0]} ({len(shared)} such); report this")
    moved = sum(a != b for a, b in zip(before["split"].to_pylist(), after["split"].to_pylist(), strict=True))
    is_same = not moved and table == index.config["select"] and tables_are_whole(root)
    if not dry_run and not is_same:
        config = index.config | {"select": settings.to_table(limits)}
        saved = settings.merge(index.selection, changes)  # for the next build
        bulky = RowLocations.of_tables([root / CLIPS], [len(after)])
        write_tables(
            root,
            replace(index, key="split", config=config, selection=saved),
            clips=after,
            schema=CLIP_SCHEMA,
            bulky=bulky,
        )
    return {"moved": moved, **_sizes(after)}


def assign_anew(clips: pa.Table, limits: SelectConfig) -> pa.Table:
    """Return a clip table with new splits."""
    splits = assign(clips, val_share=limits.val_share, test_share=limits.test_share, official=limits.official_splits)
    index = clips.schema.get_field_index("split")
    return clips.set_column(index, clips.schema.field(index), pa.array(splits, pa.string()))


def _sizes(clips: pa.Table) -> dict[str, str]:
    numbers: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    people: dict[str, set[str]] = defaultdict(set)
    kept = clips.filter((pc.field("verdict") == "kept") & pc.field("shard").is_valid())
    columns = (kept[name].to_pylist() for name in ("split", "duration_s", "identity", "video_id"))
    for split, duration_s, identity, video_id in zip(*columns, strict=True):
        numbers[split] += 1
        seconds[split] += duration_s
        people[split].add(identity or video_id)
    return {
        split: f"{numbers[split]} clips, {seconds[split] / 3600:.4f} h, {len(people[split])} people or videos"
        for split in ("train", "val", "test")
    }
