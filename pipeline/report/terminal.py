"""The funnel and other tables as a terminal shows them."""

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from .funnel import Stage


def funnel_table(stages: list[Stage]) -> Table:
    """Return the funnel as a table: stage, in, out, and what was lost by reason; one unit, so that it can be added."""
    total = max(stage.hours_in for stage in stages)
    table = Table(title=None, box=None, pad_edge=False)
    for name, justify in (("stage", "left"), ("", "left"), ("number", "right"), ("length", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for stage in stages:
        name = f"[bold]{stage.name}[/]"
        if stage.frames_repeated:
            table.add_row(name, "  " + REPEATED, "", f"+{length(stage.hours_repeated, total)}")
            name = ""
        table.add_row(name, f"{stage.unit} in", f"{stage.number_in:,}", length(stage.hours_in, total))
        for loss in stage.losses:
            number = f"-{loss.number:,}" if loss.number else ""
            lost = f"-{length(loss.hours, total)}" if loss.num_frames else ""  # of what cannot be read it is unknown
            table.add_row("", f"  [yellow]{loss.reason}[/]", number, lost)
        share = f" ({100 * stage.frames_out / stage.frames_in:.0f} %)" if stage.frames_in else ""
        table.add_row("", f"[green]out{share}[/]", f"{stage.number_out:,}", length(stage.hours_out, total))
    return table


REPEATED = "several faces at once count each"
"""Why more comes into `select` than `find faces` gave out."""


def length(hours: float, total: float) -> str:
    """Write a length in the unit of the total that it is a part of: seconds below an hour, whole frames, else hours."""
    return f"{hours:,.3f} h" if total >= 1 else f"{hours * 3600:,.2f} s"


def duration(hours: float) -> str:
    """Write a length of time in the unit that suits it."""
    if hours >= 1:
        return f"{hours:.2f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def as_lines(value: Sequence[Mapping[str, object]] | Mapping[str, object]) -> Iterator[str]:
    """Write records for people: one block each, `name  value` a line, the names aligned."""
    records = [value] if isinstance(value, Mapping) else value
    for index, record in enumerate(records):
        if index:
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
