"""Processes that train together on this machine: started, asked to stop and ended as one, with one message."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..manifests.errors import HsDataError
from ..manifests.storage import read_json
from .stopping import StoppedError, asked_to_stop

POLL_S = 0.05
LOOPBACK = "127.0.0.1"
Process = subprocess.Popen[bytes]


@dataclass(frozen=True, kw_only=True)
class ProcessFailure:
    """Why a process failed, in its own words."""

    message: str
    exit_code: int


def run_processes(run: Path, setup: str, num_processes: int) -> None:
    """Run `hs_data.trainer.worker` in this many processes, with the environment that torchrun would give them.

    They are in sessions of their own, so what a terminal sends comes here alone: the first Ctrl-C or SIGTERM is passed
    on as SIGTERM, and they take the time that they need to save. They end when this process is gone.

    Args:
        run: the run's folder.
        setup: of the run, as JSON.
        num_processes: ranks.

    Raises:
        StoppedError: this process was asked to stop.
        HsDataError: a process failed.
    """
    processes: list[Process] = []
    theirs, ours = os.pipe()  # nobody writes to it: they notice that this process is gone by its end
    with tempfile.TemporaryDirectory(prefix="hs-data-train-") as folder:
        told = Path(folder)
        try:
            with asked_to_stop(lambda: _send(processes, signal.SIGTERM), lambda: _end(processes)) as asked:
                port = _free_port()
                processes += [
                    _start([setup, str(told), str(theirs)], port, rank, num_processes) for rank in range(num_processes)
                ]
                while not any(told.iterdir()) and not _are_over(processes):
                    time.sleep(POLL_S)
                failure = _failure(told)
        finally:
            _end(processes)
            os.close(theirs)
            os.close(ours)
    if failure is not None:
        error = HsDataError(failure.message)
        error.exit_code = failure.exit_code
        raise error
    if asked():
        raise StoppedError(f"{run}: stopped")
    _check(run, processes)


def _start(words: Sequence[str], port: int, rank: int, num_processes: int) -> Process:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
    meeting = {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": port}
    # One thread each, as torchrun has it: otherwise every process starts as many as there are cores.
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **{k: str(v) for k, v in {**ranks, **meeting}.items()}}
    command = [sys.executable, "-m", "hs_data.trainer.worker", *words]
    pipe, null = int(words[-1]), subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdin=null, pass_fds=(pipe,), start_new_session=True)  # noqa: S603 - a list, no shell


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return listener.getsockname()[1]


def _are_over(processes: Sequence[Process]) -> bool:
    """Tell whether all have ended, or one in a way that the others cannot go on from."""
    codes = [process.poll() for process in processes]
    return None not in codes or any(code not in (None, 0, StoppedError.exit_code) for code in codes)


def _failure(told: Path) -> ProcessFailure | None:
    """Return what the process of the lowest rank has told, if any has."""
    files = sorted(told.glob("[0-9]*.json"), key=lambda path: int(path.stem))
    return ProcessFailure(**read_json(files[0])) if files else None


def _send(processes: Sequence[Process], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _end(processes: Sequence[Process]) -> None:
    _send(processes, signal.SIGKILL)
    for process in processes:
        process.wait()


def _check(run: Path, processes: Sequence[Process]) -> None:
    # Those that were ended by us come after the one that they were ended for: it has no SIGKILL, or was the first.
    bad = [(rank, process.returncode) for rank, process in enumerate(processes) if process.returncode]
    if not bad:
        return
    rank, code = min(bad, key=lambda each: each[1] == -signal.SIGKILL)
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}; its own message stands above"
    hint = "; was there too little memory?" if code == -signal.SIGKILL else ""
    raise HsDataError(f"{run}: process {rank} of {len(processes)} ended {how}{hint}")
