"""The report: `report/index.html`, one file that opens anywhere, and `report/report.json`, the same as data."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape

from ...manifests.dataset import Dataset
from ...manifests.reasons import explain
from ...manifests.storage import write_bytes, write_json
from .funnel import as_table, examples, funnel, warnings
from .terminal import duration

EXAMPLES = 20
MAX_FILES = 2000
MEASURES = {
    "duration_s": "length, s",
    "face_height_p50_px": "face height, px",
    "sharpness": "sharpness",
    "leakage": "crop leakage",
    "audio_lead_frames": "audio lead, frames",
    "speech_share": "speech share",
}


def write_report(dataset: Dataset, costs: dict[str, float]) -> Path:
    """Write the report beside the dataset and return the page's path; files that would not change are left alone."""
    stages = funnel(dataset)
    facts = {
        "source": dataset.index["source"],
        "preset": dataset.index["preset"],
        "counts": dataset.index["counts"],
        "funnel": as_table(stages),
        "warnings": list(warnings(stages, dataset)),
        "kept": {name: quantiles(dataset, name) for name in MEASURES},
        "cpu_s": {name: round(seconds, 2) for name, seconds in sorted(costs.items())},
        "models": dataset.index["models"],
    }
    folder = dataset.path / "report"
    write_json(folder / "report.json", facts)
    write_bytes(folder / "index.html", _render(dataset, facts).encode())
    return folder / "index.html"


def quantiles(dataset: Dataset, column: str) -> list[float] | None:
    """Return the 5th, 50th and 95th percentile of a score over the kept clips, or None when none has it."""
    table = dataset.clips([column, "verdict"])
    values = [row[column] for row in table.to_pylist() if row["verdict"] == "kept" and row[column] is not None]
    return [round(float(value), 4) for value in np.percentile(values, (5, 50, 95))] if values else None


def _render(dataset: Dataset, facts: dict[str, Any]) -> str:
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(["j2"]))
    environment.filters["picture"] = _picture
    environment.filters["hours"] = duration
    videos = dataset.videos(["path", "outcome", "detail", "duration_s", "num_clips", "num_kept"]).to_pylist()
    return environment.get_template("index.html.j2").render(
        name=dataset.path.resolve().name,
        facts=facts,
        measures=MEASURES,
        examples=examples(dataset, EXAMPLES),
        explain=lambda reason: "kept" if reason == "kept" else explain(reason),
        videos=videos[:MAX_FILES],
        num_more=max(0, len(videos) - MAX_FILES),
    )


def _picture(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
