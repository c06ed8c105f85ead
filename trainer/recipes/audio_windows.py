"""Windows of sound features: two frames before and after each frame, gathered on the device that trains.

The loader ships each feature once; a window would hold it five times. Frame i of a clip sees frames i - 2 .. i + 2: of
Whisper's states that is half-frames 2 i - 4 .. 2 i + 5, as in MuseTalk, ten of them. Beyond the ends of
the clip its first or last step is repeated.
"""

import numpy as np
import torch

CONTEXT = 2
"""Frames on each side."""


def slice_frames(frames: np.ndarray, start: int, count: int) -> np.ndarray:
    """Return the features that the windows of frames `start .. start + count - 1` need.

    Args:
        frames: [L, ...] of the whole clip.
        start: first frame.
        count: T.

    Returns:
        [T + 4, ...], a view except at the ends of the clip, where the outer frame stands in for those that are not
        there; windows never look at it.
    """
    low, high = start - CONTEXT, start + count + CONTEXT
    if low >= 0 and high <= len(frames):
        return frames[low:high]
    return frames[np.clip(np.arange(low, high), 0, len(frames) - 1)]


def gather_windows(features: torch.Tensor, start: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Cut the windows of all frames.

    Args:
        features: [B, T + 4, S, ..., D]: S steps a frame, from `slice_frames`.
        start: [B] int64, index of the first frame in its clip.
        length: [B] int64, frames of the clip.

    Returns:
        [B, T, N, D], N = 5 S times whatever lies between S and D: 50 for Whisper's [2, 5, D], 20 for log-mel's [4, D].
    """
    num_samples, num_slots, num_steps, *_, width = features.shape
    num_frames = num_slots - 2 * CONTEXT
    device = features.device
    frame = torch.arange(num_frames, device=device)[:, None] * num_steps
    step = torch.arange(num_steps * (2 * CONTEXT + 1), device=device)
    # Steps count from the first slot; the clip's first step is number `-zero` there.
    zero = (start - CONTEXT) * num_steps
    steps = (zero[:, None, None] + frame + step).clamp_min(0)
    steps = torch.minimum(steps, length[:, None, None] * num_steps - 1) - zero[:, None, None]  # [B, T, 5 S]
    rows = torch.arange(num_samples, device=device)[:, None, None]
    return features.flatten(1, 2)[rows, steps].reshape(num_samples, num_frames, -1, width)
