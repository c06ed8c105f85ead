"""Facts to text: the page, with everything inside it and nothing that can run but our own scripts, and the card."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...manifests.dataset import Dataset
from ...manifests.json_values import json_values
from ..score.registry import REASONS
from .clip_rows import ClipPayload
from .facts import ReportFacts
from .rows import FileRow
from .sync_verdict import BEYOND
from .terminal import REPEATED, duration, length

FOLDER = Path(__file__).parent
SCRIPTS = ("assets/echarts.common.min.js", "assets/tabulator.min.js", "assets/charts.js", "assets/clips.js")
STYLES = ("assets/tabulator_simple.min.css", "assets/page.css")
CARD_MARK = "<!-- written by hs-data -->"


SHEETS = {
    "kept": "kept clips, those nearest to a limit first",
    BEYOND: "kept, though a build that judges sync would not: sound and lips are further apart than its limit",
}
"""Contact sheets that are of no reason."""


def page(name: str, facts: ReportFacts, payload: ClipPayload, files: list[FileRow]) -> str:
    """Return the page.

    Args:
        name: what the dataset is called.
        facts: all that it says of the whole.
        payload: the clips that it shows one by one.
        files: rows of `videos.parquet`.
    """
    return whole_page(
        "index.html.j2",
        scripts=SCRIPTS,
        styles=STYLES,
        name=name,
        facts=facts,
        files=files,
        clips=payload,
        explain=lambda reason: SHEETS.get(reason) or REASONS[reason],
        repeated=REPEATED,
        beyond=BEYOND,
    )


def whole_page(template: str, *, scripts: Sequence[str], styles: Sequence[str], **values: object) -> str:
    """Fill a template, with the files of scripts and styles inside the page and nothing allowed to run but those."""
    programs = [(FOLDER / script).read_text(encoding="utf-8") for script in scripts]
    return (
        _environment(autoescape=True)
        .get_template(template)
        .render(
            **values,
            policy=" ".join(f"'sha256-{_sha256(program)}'" for program in programs),
            scripts=programs,
            styles=[(FOLDER / style).read_text(encoding="utf-8") for style in styles],
        )
    )


def card(dataset: Dataset, facts: ReportFacts) -> str:
    """Return the dataset card in the form of the Hugging Face hub: YAML, then Markdown."""
    return (
        _environment(autoescape=False)
        .get_template("card.md.j2")
        .render(
            name=dataset.path.resolve().name,
            facts=facts,
            index=dataset.index,
            mark=CARD_MARK,
            repeated=REPEATED,
            size=_size_category(facts.counts.encoded_frames),
        )
    )


def embed(value: object) -> str:
    """Return JSON that may stand inside a `script` element: nothing in it can end the element or begin another one."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=json_values)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def plain(value: object) -> str:
    """Return a Markdown table cell or YAML word that cannot break out of its place."""
    return json.dumps(str(value), ensure_ascii=False)


def number(value: float | None) -> str:
    """Write a number with three digits that count; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def size(num_bytes: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=autoescape,  # noqa: S701 - the card is Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "hours": duration,
        "length_of": length,
        "embed": embed,
        "plain": plain,
        "number": number,
        "size": size,
    }
    return environment


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _size_category(num_rows: int) -> str:
    """Return the hub's word for so many rows."""
    limits = (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6), ("1M<n<10M", 1e7))
    limits += (("10M<n<100M", 1e8), ("100M<n<1B", 1e9))
    return next((word for word, most in limits if num_rows < most), "n>1B")
