"""What the block-DCT latents lose: PSNR of the round trip on crops of the real talkers."""

import numpy as np
from processes import MEDIA, WEIGHTS

from hs_data.pipeline import crop
from hs_data.pipeline.config import resolve
from hs_data.pipeline.faces.detect import detect_scaled
from hs_data.pipeline.latents import SIZE, psnr_db
from hs_data.pipeline.media.decode import frames
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.networks import make_codec, make_detector

TALKERS = sorted([*MEDIA.glob("*muxed.mp4"), *MEDIA.glob("OpenTalker*.mp4"), *MEDIA.glob("bytedance*.mp4")])


def main() -> None:
    words = [f"models.dir={WEIGHTS}"]
    config = resolve(preset="cpu", source={}, saved={}, file=None, assignments=words)
    detector, codec, found = make_detector(config.faces, config.models), make_codec(config.latents, config.models), []
    for path in TALKERS:
        video = probe(path)
        for frame in frames(path, video, start_frame=50, end_frame=51, config=config.decode):
            faces = detect_scaled(detector, [frame.rgb], config.faces)[0]
            box = crop.crop_boxes(faces.boxes[:1], None, config.crop)[0]
            pixels = crop.warp(frame.rgb, box, SIZE)[None]
            found.append(psnr_db(pixels, codec.decode(codec.encode(pixels).mean)))
    low, middle, high = np.percentile(found, (0, 50, 100))
    print(f"{len(found)} talkers, one crop each: PSNR {low:.1f} / {middle:.1f} / {high:.1f} dB (least, median, best)")


if __name__ == "__main__":
    main()
