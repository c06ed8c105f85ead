"""A worker as a Ray actor. It imports what it does only after it has left the terminal: imports start programs too."""

from typing import TYPE_CHECKING

from ...manifests.processes import leave_terminal

if TYPE_CHECKING:
    from .messages import Done, WorkerSetup
    from .units import Unit


class RayWorker:
    """Does units of any phase.

    Args:
        setup: as for every worker.
        name: of the worker.
    """

    def __init__(self, setup: "WorkerSetup", name: str) -> None:
        leave_terminal()
        from .worker import Worker  # noqa: PLC0415

        self._worker = Worker(setup, name)

    def answer(self) -> None:
        """Return, which tells that the worker has a place on the cluster and is ready."""

    def run(self, unit: "Unit") -> "Done":
        """Do a unit and commit it, as `Worker.run`."""
        return self._worker.run(unit)
