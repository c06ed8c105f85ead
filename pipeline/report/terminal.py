"""The funnel and other tables as a terminal shows them."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from .funnel import Stage


def funnel_table(stages: list[Stage]) -> Table:
    """Return the funnel as a table: stage, in, out, and what was dropped by reason."""
    table = Table(title=None, box=None, pad_edge=False)
    for name, justify in (("stage", "left"), ("", "left"), ("number", "right"), ("length", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for stage in stages:
        table.add_row(f"[bold]{stage.name}[/]", f"{stage.unit} in", str(stage.number_in), duration(stage.hours_in))
        for loss in stage.losses:
            table.add_row("", f"  [yellow]{loss.reason}[/]", f"-{loss.number}", duration(loss.hours))
        share = f" ({100 * stage.number_out / stage.number_in:.0f} %)" if stage.number_in else ""
        table.add_row("", f"[green]out{share}[/]", str(stage.number_out), duration(stage.hours_out))
    return table


def duration(hours: float) -> str:
    """Write a length of time in the unit that suits it."""
    if hours >= 1:
        return f"{hours:.2f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def as_lines(value: list[dict[str, Any]] | dict[str, Any]) -> Iterator[str]:
    """Write records for people: one block each, `name  value` a line, the names aligned."""
    records = value if isinstance(value, list) else [value]
    for place, record in enumerate(records):
        if place:
            yield ""
        width = max(map(len, record), default=0)
        for name, entry in record.items():
            first, *rest = _text(entry).splitlines() or [""]
            yield f"{name:<{width}}  {first}".rstrip()
            yield from (f"{'':<{width}}  {line}".rstrip() for line in rest)


def _text(entry: object) -> str:
    if isinstance(entry, dict):
        return "\n".join(f"{name} = {value}" for name, value in entry.items())
    if isinstance(entry, bool):
        return "yes" if entry else "no"
    return str(entry)
