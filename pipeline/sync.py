"""TEMPORARY placeholder while the real module is being written."""

from dataclasses import dataclass
import numpy as np


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    correct: bool = False
    """c"""
    dead_band_frames: float = 1.0
    """d"""
    max_residual_ms: float = 20.0
    """m"""


@dataclass
class SyncEstimate:
    lead_frames: float
    confidence: float
    curve: np.ndarray
    spread_frames: float
    trust: str


def estimate(opening, pcm, config):
    T = len(opening)
    e = np.log(np.abs(pcm.reshape(T, -1).astype(np.float32)).mean(1) + 1)
    a = opening - opening.mean()
    e = e - e.mean()
    L = range(-15, 16)
    c = np.array([(np.roll(e, l) * a)[15:-15].mean() for l in L]) / (a.std() * e.std() + 1e-6)
    return SyncEstimate(float(L[int(c.argmax())]), float(c.max() - np.median(c)), c.astype(np.float32), 0.0, "low")
