"""The main function of a process that torchrun starts: `python -m hs_data.trainer.worker SETUP`."""

import logging
import os
import sys

from ..manifests.errors import HsDataError
from ..manifests.printable import log_to_stderr
from ..manifests.processes import leave_terminal
from .launch import from_json, train


def main() -> None:
    """Train with the setup in the first argument; its errors are told once, by the main process."""
    leave_terminal()
    is_main = os.environ.get("RANK", "0") == "0"
    log_to_stderr(logging.INFO if is_main else logging.ERROR)
    try:
        train(from_json(sys.argv[1]))
    except HsDataError as error:
        if is_main:
            logging.getLogger(__name__).error("%s", error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
