"""CPU seconds per second of video of a whole build, and how often each source frame is decoded.

The same eight clips on which LatentSync's own steps (resample, shot split, segment, crop) were measured at 1.31.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import MEDIA, build_command, words_of_folder

from hs_data.manifests.commits import CommitLog, total_costs
from hs_data.manifests.dataset import open_dataset

MOST_CPU_S, MOST_DECODES = 0.35, 2.0
"""What a second of video may cost without the detector, and how often a source frame may be decoded."""
CLIPS = [
    "bytedance__LatentSync__assets_demo1_video_first6s.mp4",
    "bytedance__LatentSync__assets_demo3_video_first8s.mp4",
    "derived__dev_base.mp4",
    "derived__dev_fps29.97.mp4",
    "derived__dev_cuts.mp4",
    "FuxiVirtualHuman__styletalk_Obama_clip1_muxed.mp4",
    "FuxiVirtualHuman__styletalk_andrew_clip_1_muxed.mp4",
    "OpenTalker__SadTalker__examples_ref_video_WDA_KatieHill_000_first4s.mp4",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        videos, dataset = Path(folder) / "videos", Path(folder) / "dataset"
        videos.mkdir()
        for name in CLIPS:
            shutil.copy(MEDIA / name, videos)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(build_command(*words_of_folder(videos, dataset)), check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        report(dataset, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def report(dataset: Path, cpu_s: float) -> None:
    opened = open_dataset(dataset)
    videos = opened.videos().to_pylist()
    video_s = sum(row["duration_s"] for row in videos)
    costs = {name: seconds for name, seconds in total_costs(dataset).items() if not name.endswith("footage_s")}
    detector_s = costs["score: faces"]
    print(f"{video_s:.1f} s of video, {len(opened)} clips kept, {sum(c.num_frames for c in opened) / 25:.1f} s of them")
    print(f"whole command, start-up of driver and worker included: {cpu_s:.2f} CPU s")
    print(f"without the detector ({detector_s:.2f} s): {(cpu_s - detector_s) / video_s:.3f} CPU s per video second")
    for name, seconds in sorted(costs.items(), key=lambda pair: -pair[1]):
        print(f"  {name:<18} {seconds:6.2f} s  {seconds / video_s:.4f}")
    scored = sum(row["num_decoded"] for row in videos)
    packets = sum(row["num_packets"] for row in videos)
    encoded = sum(
        receipt["num_decoded"]
        for commit in CommitLog(dataset).load("encode")
        for receipt in commit.receipts.values()
        if "num_decoded" in receipt
    )
    share, cost = (scored + encoded) / packets, (cpu_s - detector_s) / video_s
    print(f"source frames {packets}, decoded while scoring {scored}, while encoding {encoded}: {share:.3f} x")
    sys.exit(0 if cost <= MOST_CPU_S and share <= MOST_DECODES else 1)


if __name__ == "__main__":
    main()
