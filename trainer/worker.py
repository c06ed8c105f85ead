"""The main function of a process of `trainer/processes.py`: `python -m hs_data.trainer.worker SETUP TOLD PIPE`."""

import logging
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from ..manifests.errors import HsDataError
from ..manifests.printable import log_to_stderr
from ..manifests.processes import leave_terminal
from ..manifests.storage import write_json
from .processes import ProcessFailure
from .setup import from_json
from .stopping import StoppedError
from .train import train


def main() -> None:
    """Train with the setup in the first argument; tell why it failed in the folder that the second one names.

    The third one is the descriptor of a pipe whose end is that of the parent.
    """
    setup, told, pipe = sys.argv[1:]
    os.set_inheritable(int(pipe), False)
    leave_terminal()
    rank = os.environ["RANK"]
    log_to_stderr(logging.INFO if rank == "0" else logging.ERROR)
    threading.Thread(target=_end_with_parent, args=(int(pipe),), daemon=True).start()
    try:
        train(from_json(setup))
    except StoppedError as stop:
        sys.exit(stop.exit_code)
    except (HsDataError, OSError) as error:
        if os.environ.get("HS_DATA_DEBUG"):
            raise
        _tell(error, Path(told) / f"{rank}.json")


def _tell(error: HsDataError | OSError, path: Path) -> None:
    """Leave a message, and stay until the parent ends all: were one to go, the others would complain of it."""
    code = error.exit_code if isinstance(error, HsDataError) else 1
    write_json(path, asdict(ProcessFailure(message=str(error), exit_code=code)))
    threading.Event().wait()


def _end_with_parent(pipe: int) -> None:
    """End at once when the other end of a pipe is gone, and the parent with it."""
    while os.read(pipe, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
