"""The main function of a process that `trainer/processes.py` starts: `python -m hs_data.trainer.worker SETUP TOLD`."""

import logging
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from ..manifests.errors import HsDataError
from ..manifests.storage import write_json
from .launch import from_json, train
from .processes import Failure
from .stopping import StoppedError


def main() -> None:
    """Train with the setup in the first argument; tell why it failed in the file that the second one names."""
    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if is_main else logging.ERROR, format="%(levelname)s %(message)s")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        train(from_json(sys.argv[1]))
    except StoppedError as stop:
        sys.exit(stop.exit_code)
    except (HsDataError, OSError) as error:
        if os.environ.get("HS_DATA_DEBUG"):
            raise
        _tell(error, Path(sys.argv[2]))


def _tell(error: HsDataError | OSError, place: Path) -> None:
    """Leave a message, and stay until the parent ends all: were one to go, the others would complain of it."""
    code = error.exit_code if isinstance(error, HsDataError) else 1
    write_json(place, asdict(Failure(message=str(error), exit_code=code)))
    threading.Event().wait()


def _end_with_parent() -> None:
    """End at once when the other end of standard input is gone, and the parent with it."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
