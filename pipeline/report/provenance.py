"""Provenance: what made a dataset, from what, under which licences, and what it cost."""

import os
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from ...manifests.dataset import Dataset
from ...manifests.errors import ConfigError
from ...manifests.sources import get_source
from ..models.entries import MODEL_FILES

PACKAGES = ("av", "diffusers", "numpy", "opencv-python", "openai-whisper", "pyarrow", "ray", "torch")
"""Those on which scores or latents depend."""

PHASES = ("probe", "score", "encode")


def provenance(dataset: Dataset, costs: dict[str, float]) -> dict[str, Any]:
    """Return settings, models, versions, machine and costs as JSON values.

    Versions and machine are those that wrote the report; those of the build may have been others.
    """
    index = dataset.index
    return {
        "config": index.config,
        "fingerprints": asdict(index.fingerprints),
        "models": [_model(model) for model in index.models],
        "hs_data_version": index.hs_data_version,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "costs": cost_table(costs),
        "bytes": {
            "read": sum(size or 0 for size in dataset.videos(["size_bytes"])["size_bytes"].to_pylist()),
            "shards": sum(shard.bytes for shard in index.shards),
        },
        "source_licence": source_licence(index.source),
    }


def _model(model: dict[str, Any]) -> dict[str, Any]:
    """Add where the file comes from, if this version knows one of that name whose hash is this, or unpublished."""
    known = next((e for e in MODEL_FILES if e.name == model["name"] and e.sha256 in (None, model["sha256"])), None)
    more = {"purpose": known.purpose, "origin": known.source} if known else {"purpose": None, "origin": None}
    return {**model, **more}


def source_licence(name: str) -> str:
    """Return the terms of a source, or of several that were merged, in one line, as far as this version knows them."""
    if ", " in name:
        return "; ".join(f"{one}: {source_licence(one)}" for one in name.split(", "))
    try:
        return get_source(name).licence
    except ConfigError:
        return "unknown to this version of hs-data"


def cost_table(costs: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row per phase and stage: CPU seconds, GPU seconds where any were recorded, and how fast that is.

    Args:
        costs: what `total_costs` gives: `phase: stage` to seconds; `footage_s` is what went through a phase, and a
            stage that ends in `gpu_s` is time on a GPU.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    footage = {label.split(": ")[0]: seconds for label, seconds in costs.items() if label.endswith("footage_s")}
    for label, seconds in sorted(costs.items()):
        phase, _, stage = label.partition(": ")
        if stage == "footage_s":
            continue
        kind = "gpu_s" if stage.endswith("gpu_s") else "cpu_s"
        name = stage.removesuffix("gpu_s").rstrip(" _") or "all"
        row = rows.setdefault((phase, name), {"phase": phase, "stage": name, "cpu_s": None, "gpu_s": None})
        row[kind] = round(seconds, 2)
        row["footage_s"] = round(footage.get(phase, 0.0), 2)
    return sorted(rows.values(), key=lambda row: (PHASES.index(row["phase"]), row["stage"]))
