"""What an ablation says, as a page with one figure and as a table on the terminal."""

from typing import Any

from rich.table import Table

from .render import whole_page

BANDS = {"all": "all noise", "0": "t 0-249", "1": "250-499", "2": "500-749", "3": "750-999"}
"""Noise levels by their key in `ablation.json`; of 1000 timesteps, the last one is noise alone."""


def ablation_page(facts: dict[str, Any]) -> str:
    """Return the page of what stands in `ablation.json`."""
    return whole_page(
        "ablation.html.j2",
        scripts=("assets/echarts.common.min.js", "assets/ablation.js"),
        styles=("assets/page.css",),
        facts=facts,
        bands=BANDS,
        named=named,
        told=told,
    )


def ablation_table(facts: dict[str, Any]) -> Table:
    """Return gaps by condition and noise level, then differences; ± is half a 95 % interval over clips."""
    table = Table(title=None, box=None, pad_edge=False)
    table.add_column("audio gap", no_wrap=True)
    table.add_column("loss", justify="right")
    for title in BANDS.values():
        table.add_column(title, justify="right")
    for arm in facts["arms"]:
        table.add_row(named(arm), f"{arm['loss']:.4f}", *(told(arm["gap"].get(band)) for band in BANDS))
    table.add_section()
    for row in facts["differences"]:
        cells = [told(row["gap"].get(band)) for band in BANDS]
        table.add_row(f"{named(row['of'])} less {named(row['from'])}", "", *cells)
    return table


def named(condition: dict[str, Any]) -> str:
    """Name a condition in words."""
    return f"{condition['policy']} {'masked' if condition['masked'] else 'unmasked'}"


def told(gap: dict[str, Any] | None, over: str = "over_clips") -> str:
    """Write a mean and its interval; a dash for what was not measured."""
    if gap is None:
        return "–"
    if gap[over] is None:
        return f"{gap['mean']:+.4f}"
    return f"{gap['mean']:+.4f} ±{(gap[over][1] - gap[over][0]) / 2:.4f}"
