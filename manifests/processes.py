"""Processes, and the terminal that they were started from: none may wait for it, and none may be stopped by it."""

import fcntl
import os
import termios

RAY_VARIABLES = {
    # Ray's own switch for desktops: the node's address is the loopback, and everything listens there alone.
    # `_node_ip_address="127.0.0.1"` is no substitute: Ray replaces it by an address that other machines can reach.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray prints a C++ stack when the driver gets a SIGTERM, and takes Python's handler away until it is started.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
}
"""Environment of a Ray that we start. Ray reads it when it is imported."""


def ignore_input() -> None:
    """Put /dev/null on standard input, for this process and all that it starts."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:  # 0 where standard input was closed
        os.close(null)


def leave_terminal() -> None:
    """Ignore input, and give up the controlling terminal.

    A worker in a background process group that touches its terminal, as ffmpeg does, is stopped with its whole group,
    for ever. `setsid` would do as well, but not for the leader of a process group, which Ray makes of each worker.
    """
    ignore_input()
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:  # there is none
        return
    try:
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    finally:
        os.close(terminal)


def use_own_ray() -> bool:
    """Prepare the environment for a Ray of our own, before Ray is imported, unless `RAY_ADDRESS` names a cluster.

    Returns:
        Whether we start one.
    """
    own = os.environ.get("RAY_ADDRESS", "local") in ("", "local")
    if own:
        os.environ.update(RAY_VARIABLES)
    return own
