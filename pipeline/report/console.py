"""The console that all commands talk on: nothing that it is given steers the terminal, only what rich adds."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from ...manifests.printable import printable


class PrintableConsole(Console):
    """Rich's console, which spells out control characters in every text: tables, lines and progress bars alike."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is drawn; the control codes of rich itself pass."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
