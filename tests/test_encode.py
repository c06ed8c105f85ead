"""Encode: each frame of a video is decoded once, and damage costs the clip that it lies in."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from hs_data.manifests.records import Video
from hs_data.manifests.shards import Shard
from hs_data.pipeline.config import Config
from hs_data.pipeline.costs import Costs
from hs_data.pipeline.crop import CropConfig
from hs_data.pipeline.encode import Encoder, EncodeItem, OpenClip, decode_runs, encode_id
from hs_data.pipeline.latents import Codec, LatentsConfig, make_codec
from hs_data.pipeline.media import decode
from hs_data.pipeline.media.decode import DecodeConfig, DecodeStats, Frame
from hs_data.pipeline.media.probe import probe

SIDE = 64
GOP = 25
NUM_FRAMES = 500
