"""The tables of a dataset: one row per input file, one row per clip that was ever a candidate, one row per frame."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

SCHEMA_VERSION = 2

CROP_POLICIES = ("per_frame", "centre", "highsync", "eyes", "static")
"""How the crop follows the face. Every clip is measured under all of them, so that another one needs no new scoring."""

FAILURE = pa.struct([("reason", pa.string()), ("value", pa.float64()), ("threshold", pa.float64())])

VIDEO_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string()),  # sha256 of the content; null when the file could not be read
        pa.field("path", pa.string(), nullable=False),  # below the source folder, `/` between parts
        pa.field("source", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("youtube_id", pa.string()),
        pa.field("container", pa.string()),
        pa.field("video_codec", pa.string()),
        pa.field("width", pa.int32()),  # as shown, after rotation
        pa.field("height", pa.int32()),
        pa.field("rotation_deg", pa.int32()),
        pa.field("fps", pa.float64()),
        pa.field("is_vfr", pa.bool_()),
        pa.field("num_packets", pa.int64()),
        pa.field("num_frames", pa.int64()),  # at 25 fps
        pa.field("duration_s", pa.float64()),
        pa.field("video_start_s", pa.float64()),
        pa.field("audio_codec", pa.string()),
        pa.field("audio_start_s", pa.float64()),
        pa.field("audio_duration_s", pa.float64()),
        pa.field("sample_rate_hz", pa.int32()),
        pa.field("num_channels", pa.int32()),
        pa.field("num_audio_streams", pa.int32()),
        pa.field("outcome", pa.string(), nullable=False),  # `ok` or a reason
        pa.field("detail", pa.string()),
        pa.field("num_decode_errors", pa.int32()),
        pa.field("num_decoded", pa.int64()),  # source frames that the scoring pass decoded
        pa.field("chunks", pa.list_(pa.int64())),  # first frames of the stretches that were scored one by one
        pa.field("chunk_ends", pa.list_(pa.int64())),  # and their ends, where only annotated spans were scored
        pa.field("chunk_outcomes", pa.list_(pa.string())),  # `ok` or a reason, of each of them
        pa.field("cuts_s", pa.list_(pa.float64())),
        pa.field("cut_scores", pa.list_(pa.float32())),
        pa.field("num_clips", pa.int32(), nullable=False),
        pa.field("num_kept", pa.int32(), nullable=False),
    ]
)

BULKY_FIELDS: dict[str, pa.DataType] = {
    "boxes": pa.list_(pa.float32()),
    "landmarks": pa.list_(pa.float32()),
    "mouth_opening": pa.list_(pa.float32()),
    "sync_curve": pa.list_(pa.float32()),
    "thumbnail": pa.binary(),
}
"""Columns of clips that are pictures, or as long as the clip: kB each. They are read of single clips, or in one pass
that keeps nothing of them, and never held of all clips at once."""
BULKY = tuple(BULKY_FIELDS)

PLACE_FIELDS = [
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("video_id", pa.string(), nullable=False),
    pa.field("path", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("identity", pa.string()),
    # What the source says of the stretch that the clip lies in.
    pa.field("youtube_id", pa.string()),
    pa.field("annotation", pa.string()),  # the source's own name of it
    pa.field("transcript", pa.string()),  # where the clip is all of it
    pa.field("language", pa.string()),
    pa.field("official_split", pa.string()),
    pa.field("track", pa.int32()),  # null: a stretch without a face
    pa.field("start_frame", pa.int64(), nullable=False),  # 25 fps, from the first frame of the video
    pa.field("num_frames", pa.int32(), nullable=False),
    pa.field("start_s", pa.float64(), nullable=False),
    pa.field("duration_s", pa.float64(), nullable=False),
    # what the clip begins and ends with: start, end, cut, gap, identity, piece, chunk, span
    pa.field("start_kind", pa.string()),
    pa.field("end_kind", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    # geometry, per frame, source pixels
    pa.field("boxes", BULKY_FIELDS["boxes"]),  # [T, 4] x0 y0 x1 y1, flat
    pa.field("landmarks", BULKY_FIELDS["landmarks"]),  # [T, 5, 2], flat; null without a landmark detector
    pa.field("mouth_opening", BULKY_FIELDS["mouth_opening"]),  # [T]
]
"""Columns of a clip that say what it is and where it lies. What is measured is declared in `pipeline/score/metrics/`;
a reader takes those columns from the file."""

VERDICT_FIELDS = [
    pa.field("verdict", pa.string(), nullable=False),  # kept, dropped, error
    pa.field("reason", pa.string()),
    pa.field("value", pa.float64()),
    pa.field("threshold", pa.float64()),
    pa.field("failures", pa.list_(FAILURE)),  # every failing rule, in order; the first one is the reason
    pa.field("clip_class", pa.string()),  # speech, silent
    pa.field("split", pa.string()),
    pa.field("crop_policy", pa.string()),
    pa.field("leakage", pa.float32()),  # under the policy in use
    pa.field("audio_shift_samples", pa.int32()),  # applied to the stored PCM; positive: delayed
    pa.field("residual_lead_ms", pa.float32()),  # on what a trainer reads; SyncNet: only of corrected clips
    pa.field("psnr_db", pa.float32()),  # crops against decoded latents; null: not one of the clips that are checked
    pa.field("psnr_mouth_db", pa.float32()),  # the same where the mouth is
    pa.field("detail", pa.string()),
    pa.field("shard", pa.string()),
    pa.field("row_group", pa.int32()),
]

FIXED_CLIP_SCHEMA = pa.schema([*PLACE_FIELDS, *VERDICT_FIELDS])
"""Columns of clips that every dataset has, whatever was measured."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A per-frame column of a shard: `shape` and `dtype` of one frame, stored as that many raw little-endian bytes.

    With `dtype="O"` and no shape a frame is one `bytes` of any length: a file of its own, such as a JPEG.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_file(self) -> bool:
        """Whether a frame is a file of any length."""
        return self.dtype == "O"

    @property
    def width(self) -> int:
        """Bytes of one frame of fixed size."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    @property
    def stored_as(self) -> pa.DataType:
        """The type in Parquet."""
        return pa.binary() if self.is_file else pa.binary(self.width)


Contract = Mapping[str, object]
"""Facts of a codec or an encoder that a trainer must agree with: JSON values, in the footer of every shard."""


FRAME_COLUMNS: dict[str, Column] = {
    "latent": Column(dtype="<f2", shape=(4, 64, 64)),  # posterior mean x scaling
    "latent_logvar": Column(dtype="<f2", shape=(4, 64, 64)),  # of the posterior before scaling
    "latent_masked": Column(dtype="<f2", shape=(4, 64, 64)),  # as `latent`, of the crop with the mouth hidden
    "frame_jpeg": Column(dtype="O", shape=()),  # the 512 px crop
    "logmel": Column(dtype="<f2", shape=(4, 80)),  # 100 Hz: four steps of a frame, 80 mel bins
    "whisper": Column(dtype="<f2", shape=(2, 5, 384)),  # 50 Hz: two half-frames, 5 encoder states (tiny)
    "pcm": Column(dtype="<i2", shape=(640,)),  # 16 kHz mono
    "crop": Column(dtype="<f4", shape=(4,)),  # x0 y0 x1 y1 of the crop, source px
    "landmarks": Column(dtype="<f4", shape=(5, 2)),  # in the 512 px crop; absent without a landmark detector
}
"""Every column a shard may have; a dataset has those its recipe asked for, in the shapes that its footers state."""
