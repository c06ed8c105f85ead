"""The main loop of a local worker: units in on standard input, answers out on standard output, one JSON line each."""

import json
import logging
import os
import queue
import sys
import threading
from dataclasses import asdict
from typing import Any

from ...manifests.errors import HsDataError
from ...manifests.printable import log_to_stderr
from .units import Unit
from .work import Setup, Worker

logger = logging.getLogger(__name__)


def main() -> None:
    """Serve until standard input closes, which it does when the driver dies, however it dies."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not look like an answer
    log_to_stderr(logging.WARNING)
    lines = _listen()
    first = json.loads(lines.get())
    worker = Worker(Setup(**first["setup"]), first["name"])
    while True:
        unit = Unit.from_table(json.loads(lines.get()))
        answers.write(json.dumps(_answer(worker, unit)) + "\n")
        answers.flush()


def _answer(worker: Worker, unit: Unit) -> dict[str, Any]:
    try:
        return {"done": asdict(worker.run(unit))}
    except (HsDataError, OSError) as error:
        return {"failed": str(error), "fatal": True}
    except Exception as error:
        logger.exception("unit %s failed", unit.unit_id)
        return {"failed": f"{type(error).__name__}: {error}", "fatal": False}


def _listen() -> "queue.Queue[str]":
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)  # the driver is gone: do not finish a unit that nobody waits for

    threading.Thread(target=read, daemon=True).start()
    return lines


if __name__ == "__main__":
    main()
