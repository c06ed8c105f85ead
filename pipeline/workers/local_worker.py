"""The main loop of a local worker: units in on one pipe, answers out on another, one JSON line each.

The pipes are not the standard streams: those belong to whatever a library reads, prints or starts.
"""

import logging
import os
import queue
import sys
import threading

from ...manifests.errors import HsDataError
from ...manifests.printable import log_to_stderr
from .messages import Answer, WorkerSetup
from .units import Unit
from .worker import Worker

logger = logging.getLogger(__name__)


def main(units: int, replies: int, name: str) -> None:
    """Serve until the pipe closes, which it does when the driver dies, however it dies.

    Args:
        units: file descriptor that the setup and then units are read from.
        replies: the one that answers are written to.
        name: of the worker.
    """
    for descriptor in (units, replies):
        os.set_inheritable(descriptor, False)  # a process of ours that outlives us must not hold the driver up
    log_to_stderr(logging.WARNING)
    lines = _listen(units)
    worker = Worker(WorkerSetup.from_json(lines.get()), name)
    with os.fdopen(replies, "w", encoding="utf-8") as answers:
        while True:
            unit = Unit.from_json(lines.get())
            answers.write(_answer(worker, unit).to_json() + "\n")
            answers.flush()


def _answer(worker: Worker, unit: Unit) -> Answer:
    try:
        return Answer(done=worker.run(unit))
    except (HsDataError, OSError) as error:
        return Answer(failed=str(error), fatal=True)
    except Exception as error:
        logger.exception("unit %s failed", unit.unit_id)
        return Answer(failed=f"{type(error).__name__}: {error}")


def _listen(units: int) -> "queue.Queue[str]":
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        with os.fdopen(units, encoding="utf-8") as pipe:
            for line in pipe:
                lines.put(line)
        os._exit(0)  # the driver is gone: do not finish a unit that nobody waits for

    threading.Thread(target=read, daemon=True).start()
    return lines


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
