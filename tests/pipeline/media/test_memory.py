"""Memory stays bounded, over a long file and over many files."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np

MEMORY = """
import sys
from pathlib import Path
from hs_data.pipeline.media import decode
from hs_data.pipeline.media.probe import probe

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

path = Path(sys.argv[1])
video = probe(path)
assert video.num_frames == 3000, video
early = late = 0.0
for frame in decode.frames(path, video, config=decode.DecodeConfig()):
    if frame.index < 200:
        early = max(early, resident_mb())
    late = max(late, resident_mb())
print(late - early)
"""


def test_memory_is_bounded_over_two_minutes_of_1080p(tmp_path):
    path = tmp_path / "hd.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"preset": "ultrafast", "bf": "0"})
        stream.width, stream.height = 1920, 1080
        picture = av.VideoFrame.from_ndarray(np.full((1080, 1920, 3), 120, np.uint8), format="rgb24")
        picture = picture.reformat(format="yuv420p")
        for number in range(600):
            picture.pts, picture.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    result = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    # One 1080p picture is 6 MB; 600 of them would be 3.7 GB.
    assert float(result.stdout) < 40


MANY = """
import sys
from pathlib import Path
from hs_data.pipeline.media import audio, decode
from hs_data.pipeline.media.probe import probe

path, resident_mb = Path(sys.argv[1]), []
for _ in range(300):
    video = probe(path)
    list(decode.frames(path, video, start_frame=30, end_frame=33, config=decode.DecodeConfig()))
    audio.read(path, video, start_frame=30, end_frame=40)
    resident_mb.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)
print(resident_mb[-1] - resident_mb[50])
"""


def test_nothing_is_kept_of_files_that_were_read(tmp_path, draw):
    tone = np.sin(np.arange(32_000) / 9).astype(np.float32)
    draw(tmp_path / "drawn.mp4", "libx264", sound=("aac", 16_000, tone))
    command = [sys.executable, "-c", MANY, str(tmp_path / "drawn.mp4")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 3
