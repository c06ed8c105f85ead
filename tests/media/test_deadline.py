"""A stalled decoder is killed, a slow consumer is not."""

import subprocess
import sys
import time

import pytest

from hs_data.pipeline.media.deadline import deadline_fired

SET_UP = """
import ctypes, signal, sys, time
from pathlib import Path
from hs_data.pipeline.media.deadline import DecodeDeadline
deadline = DecodeDeadline(0.4, Path(sys.argv[1]))
"""
STALLS = {
    "holding-the-gil": "with deadline: ctypes.PyDLL(None).sleep(60)",
    "in-python": "with deadline: time.sleep(60)",
    "bit-by-bit": "\nfor _ in range(100):\n    with deadline: time.sleep(0.05)",
}


def run(trace, body):
    started_s = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", SET_UP + body, str(trace)], capture_output=True, text=True, check=False
    )
    return result, time.monotonic() - started_s


@pytest.mark.parametrize("body", STALLS.values(), ids=list(STALLS))
def test_stalled_decode_is_killed(tmp_path, body):
    result, took_s = run(tmp_path / "trace", body)
    assert result.returncode == -14
    assert took_s < 10
    assert deadline_fired(tmp_path / "trace")
    assert 'File "<string>", line' in (tmp_path / "trace").read_text()


def test_time_outside_does_not_count(tmp_path):
    body = "for _ in range(5):\n    with deadline: time.sleep(0.02)\n    time.sleep(0.15)\n"
    result, _ = run(tmp_path / "trace", body + "print(deadline.remaining_s)\ndeadline.close()\ntime.sleep(0.6)\n")
    assert result.returncode == 0, result.stderr
    assert 0.2 < float(result.stdout) < 0.31
    assert not (tmp_path / "trace").exists()
    assert not deadline_fired(tmp_path / "trace")


def test_another_crash_is_not_the_deadline(tmp_path):
    result, _ = run(tmp_path / "trace", "import os; os._exit(3)")
    assert result.returncode == 3
    assert not deadline_fired(tmp_path / "trace")


def test_a_taken_signal_is_refused(tmp_path):
    result, _ = run(
        tmp_path / "trace",
        "deadline.close(); signal.signal(signal.SIGALRM, print); DecodeDeadline(1, Path(sys.argv[1]))",
    )
    assert "RuntimeError: SIGALRM already has a handler" in result.stderr


STALLED_FRAME = """
from fractions import Fraction
from hs_data.pipeline.media import decode, pyav_backend
from hs_data.pipeline.media.probe import probe
pull = pyav_backend._Source._decode
def stall(source, packet):
    if packet.pts is not None and packet.pts * packet.time_base > 1:
        ctypes.PyDLL(None).sleep(60)
    return pull(source, packet)
pyav_backend._Source._decode = stall
path = Path(sys.argv[2])
for frame in decode.frames(path, probe(path), config=decode.DecodeConfig(), deadline=deadline):
    print(frame.index, flush=True)
"""


def test_decode_that_stalls_in_mid_file(tmp_path, draw):
    draw(tmp_path / "drawn.mp4", "libx264")
    command = [sys.executable, "-c", SET_UP + STALLED_FRAME, str(tmp_path / "trace"), str(tmp_path / "drawn.mp4")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == -14
    assert deadline_fired(tmp_path / "trace")
    assert 15 < len(result.stdout.split()) < 27


def test_overhead(tmp_path):
    body = "start = time.perf_counter()\nfor _ in range(20000):\n    with deadline: pass\n"
    result, _ = run(tmp_path / "trace", body + "print((time.perf_counter() - start) / 20000 * 1e6)\ndeadline.close()\n")
    # 1 % of the fastest real frame, 512x512 h264 with its conversion: 5 us. Measured: about 1.
    assert float(result.stdout) < 5
