"""What the networks cost on this machine, at full size, with random weights: `python benchmarks/networks.py vae`."""

import argparse
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file


def main() -> None:
    measurements = {"retinaface": retinaface, "syncnet": syncnet, "vae": vae, "whisper": whisper}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[[], *measurements], help="default: everything")
    parser.add_argument("--threads", type=int, default=1, help="as a worker has; 0: one per core")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads or torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.what or measurements:
            measurements[name](Path(folder))


def retinaface(folder: Path) -> None:
    """CPU seconds of a picture: ours alone and in batches of 8, against `Model.predict_jsons` in a loop."""
    with warnings.catch_warnings():  # upstream asks torchvision for weights in a way of long ago
        warnings.simplefilter("ignore")
        from retinaface.predict_single import Model  # noqa: PLC0415

        from hs_data.pipeline.models.retinaface import RetinaFaceDetector  # noqa: PLC0415

        torch.manual_seed(0)
        upstream = Model(max_size=640)
    upstream.eval()
    pictures = list(np.random.default_rng(0).integers(0, 256, (8, 360, 640, 3), np.uint8))
    # Random weights know no faces: a limit that hardly anything passes is nearest to a network that does.
    scores = [row["score"] for row in upstream.predict_jsons(pictures[0], confidence_threshold=0.0)]
    min_score = float(np.sort(scores)[-5])
    path = folder / "retinaface.pth"
    torch.save(upstream.model.state_dict(), path)
    ours = RetinaFaceDetector(path, min_score=min_score, device=torch.device("cpu"), dtype=torch.float32)
    num = len(pictures)
    single = cpu_s(lambda: [ours.detect([picture]) for picture in pictures], repeats=2) / num
    batched = cpu_s(lambda: ours.detect(pictures), repeats=2) / num
    theirs = cpu_s(
        lambda: [upstream.predict_jsons(picture, confidence_threshold=min_score) for picture in pictures], repeats=2
    )
    theirs /= num
    print(f"retinaface, 640x360: {single:.2f} s alone, {batched:.2f} s in a batch, {theirs:.2f} s upstream")


def syncnet(folder: Path) -> None:
    """Milliseconds of CPU a frame of the lips, once through and as upstream's windows of five, and of the sound."""
    from syncnet_python.SyncNetModel import S  # noqa: PLC0415

    from hs_data.pipeline.sync.distances import distances, lse  # noqa: PLC0415
    from hs_data.pipeline.sync.syncnet import SyncNet  # noqa: PLC0415

    torch.manual_seed(0)
    upstream = S().eval().requires_grad_(False)
    path = folder / "syncnet_v2.model"
    torch.save(upstream.state_dict(), path)
    network = SyncNet(path, device=torch.device("cpu"), dtype=torch.float32)
    rng = np.random.default_rng(0)
    for batch in (16, 32):
        crops = rng.integers(0, 256, (batch + 4, 224, 224, 3)).astype(np.uint8)
        frames = torch.from_numpy(crops[..., ::-1].copy()).permute(3, 0, 1, 2)[None].float()
        windows = torch.cat([frames[:, :, first : first + 5] for first in range(batch)])
        once = cpu_s(lambda crops=crops: network.embed_lips(crops), repeats=3)
        windowed = cpu_s(lambda windows=windows: upstream.forward_lip(windows), repeats=3)
        print(f"lips, {batch} vectors: {1000 * once / batch:.1f} ms a frame; windows {1000 * windowed / batch:.1f}")
    pcm = rng.normal(0, 2000, 250 * 640).astype(np.int16)
    print(f"sound, 10 s: {1000 * cpu_s(lambda: network.embed_sound(pcm), repeats=3) / 245:.1f} ms a frame")
    lips, sound = (rng.normal(0, 1, (count, 1024)).astype(np.float32) for count in (246, 245))
    print(f"distances of 10 s: {1000 * cpu_s(lambda: distances(lips, sound, 15), repeats=3):.0f} ms, and", end=" ")
    print(f"{1000 * cpu_s(lambda: lse(lips, sound), repeats=3):.0f} ms for LSE")


def vae(folder: Path) -> None:
    """Milliseconds of CPU a 512 px frame, there and back, and the memory of a process that does it."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL  # noqa: PLC0415
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny  # noqa: PLC0415

    from hs_data.pipeline.models.autoencoder import KlCodec, TinyCodec  # noqa: PLC0415

    torch.manual_seed(0)
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
    }
    full = AutoencoderKL(**config)
    frame = np.random.default_rng(0).integers(0, 256, (1, 512, 512, 3), dtype=np.uint8)
    for name, network, kind in (("taesd", AutoencoderTiny(), TinyCodec), ("sd_vae", full, KlCodec)):
        path = folder / f"{name}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)
        for dtype in (torch.float32, torch.bfloat16):
            codec = kind(path, device=torch.device("cpu"), dtype=dtype, batch=1)
            there = cpu_s(lambda codec=codec: codec.encode(frame), repeats=2)
            latents = codec.encode(frame).mean
            back = cpu_s(lambda codec=codec, latents=latents: codec.decode(latents), repeats=1)
            print(f"{name} {dtype}: encode {1000 * there:.0f} ms a frame, decode {1000 * back:.0f} ms, {peak_mb()} MB")


def whisper(folder: Path) -> None:
    """Seconds of CPU for 30 s of sound: mel and encoder, by size."""
    from whisper.model import AudioEncoder  # noqa: PLC0415

    from hs_data.pipeline.audio_features import spectrogram  # noqa: PLC0415
    from hs_data.pipeline.models.whisper import WhisperEncoder  # noqa: PLC0415

    pcm = np.random.default_rng(0).normal(0, 3000, 30 * 16_000).astype(np.int16)
    print(f"mel: {cpu_s(lambda: spectrogram(pcm), repeats=3):.3f} s of CPU for 30 s")
    for size, width, blocks in (("tiny", 384, 4), ("base", 512, 6), ("small", 768, 12)):
        torch.manual_seed(0)
        network = AudioEncoder(80, 1500, width, width // 64, blocks)
        path = folder / f"whisper-{size}.pt"
        tensors = {f"encoder.{name}": tensor for name, tensor in network.state_dict().items()}
        torch.save({"model_state_dict": tensors}, path)
        encoder = WhisperEncoder(path, device=torch.device("cpu"), dtype=torch.float32)
        for seconds in (5, 30):
            spent = cpu_s(lambda encoder=encoder, part=pcm[: seconds * 16_000]: encoder.features(part), repeats=2)
            print(f"whisper {size}: {spent:.2f} s of CPU for {seconds} s, {peak_mb()} MB")


def cpu_s(run: Callable[[], object], *, repeats: int) -> float:
    """Return the least CPU time of a few calls, the first one not counted."""
    run()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)


def peak_mb() -> int:
    """Return the largest memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
