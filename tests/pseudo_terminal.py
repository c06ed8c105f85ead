"""Run a command as a person does: in the foreground of a terminal of its own."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STAND_IN = """#!/bin/sh
# As ffmpeg does when it starts: it sets its terminal up. A process in the background is stopped for that.
echo "$PPID $(readlink /proc/self/fd/0)" >> "$HS_FFMPEG_LOG"
stty -echo 2>/dev/null
[ -n "$HS_FFMPEG_BOLD" ] && stty -echo 2>/dev/null < /dev/tty
exit 1
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command in a terminal ended."""

    code: int | None
    """None: it did not, and was killed."""
    text: str
    """What the terminal showed."""
    pid: int


def run(words: Sequence[str], *, timeout_s: float, variables: Mapping[str, str] | None = None) -> Ended:
    """Run words in a pseudo-terminal until they end, or kill them and what they started."""
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        words,
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one system call, no lock
        env={**os.environ, **(variables or {})},
    )
    os.close(other)
    shown, until = b"", time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 1 << 16)
            except OSError:  # nobody holds the other end any more
                time.sleep(0.05)
    code = process.poll()
    if code is None:
        for victim in descendants(process.pid):
            os.kill(victim, signal.SIGKILL)
        process.wait()
    os.close(terminal)
    return Ended(code=code, text=shown.decode(errors="replace"), pid=process.pid)


def descendants(pid: int) -> list[int]:
    """Return a process and all that descend from it, the youngest first."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):  # it ended while we looked
            continue
    found = [pid]
    for place in found:
        found += [child for child, parent in parents.items() if parent == place]
    return found[::-1]


def put_on_path(folder: Path, *, is_bold: bool) -> dict[str, str]:
    """Write the stand-in for ffmpeg into a folder; return variables with which it is found first, and keeps a log.

    A bold one looks for the terminal by its name too, and not on its standard input alone.
    """
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    bold = {"HS_FFMPEG_BOLD": "1"} if is_bold else {}
    return {"PATH": f"{folder}:{os.environ['PATH']}", "HS_FFMPEG_LOG": str(folder / "log"), **bold}


def callers(variables: Mapping[str, str]) -> dict[int, str]:
    """Return the processes that called the stand-in, and what each had as standard input."""
    lines = Path(variables["HS_FFMPEG_LOG"]).read_text().splitlines()
    return {int(pid): name for pid, name in (line.split(" ", 1) for line in lines)}
