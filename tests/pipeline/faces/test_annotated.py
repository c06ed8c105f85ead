"""Annotated boxes: as tracks where no detector looks, and as the word on which of several faces counts."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from builds import build

from hs_data.manifests.dataset import Dataset
from hs_data.manifests.errors import HsDataError
from hs_data.manifests.records import Video, pack
from hs_data.manifests.sources.annotations import Box, Span
from hs_data.pipeline.annotations.boxes import annotated_faces, pack_boxes, place_boxes, unpack_face
from hs_data.pipeline.annotations.claims import find_claims
from hs_data.pipeline.annotations.spans import pack_span, place_spans
from hs_data.pipeline.faces.annotated import AnnotatedFace, AnnotatedLinker
from hs_data.pipeline.faces.tracks import Track
from hs_data.pipeline.score.registry import SCORE_SCHEMA

RESTAURANT = "facebookresearch__VisualVoice__av-enhancement_test_videos_noisy_restaurant.mp4"
TWO_FACES = "derived__dev_twofaces.mp4"
ID, OTHER = "-_raOc3-IRs", "__f2KtcXAxI"
ANNOTATED = "faces.backend=annotated"


def _vfhq(
    root: Path, video: Path, rows: str = "", crop: str = "380 50 540 260", first: int = 0, last: int = 81
) -> None:
    """Put a video and its annotation, made at 1280x720 and 25 fps, for the frames between two."""
    root.mkdir(parents=True, exist_ok=True)
    if not (root / f"{ID}.mp4").exists():
        (root / f"{ID}.mp4").hardlink_to(video)
    body = f"Video ID: {ID}\nH: 720\nW: 1280\nFPS: 25\n\nFRAME INDEX X0 Y0 W H\n\n{rows}CROP: {crop}\n"
    (root / f"Clip+{ID}+P0+C{first}+F{first}-{last}.txt").write_text(body)


def _video(width: int, height: int, num_frames: int = 500) -> Video:
    length_s = Fraction(num_frames, 25)
    picture = {"container": "mp4", "video_codec": "h264", "width": width, "height": height, "rotation_deg": 0}
    times = {"fps": 25.0, "is_vfr": False, "num_packets": num_frames, "num_frames": num_frames}
    times |= {"start_s": Fraction(0), "duration_s": length_s, "keyframes_s": (Fraction(0),)}
    sound = {"audio_codec": "aac", "audio_start_s": Fraction(0), "audio_duration_s": length_s}
    return Video(**picture, **times, **sound, sample_rate_hz=16000, num_channels=1, num_audio_streams=1)


def _crops(dataset: Dataset) -> list[np.ndarray]:
    return [dataset.read(clip, "crop") for clip in dataset]


@pytest.fixture(scope="module")
def copies(media: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same four seconds at 1280x720 and 1920x1080, by height."""
    folder = tmp_path_factory.mktemp("copies")
    for height in (720, 1080):
        with av.open(str(media / RESTAURANT)) as source, av.open(str(folder / f"{height}.mp4"), "w") as target:
            pictures = target.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "20"})
            pictures.width, pictures.height, pictures.pix_fmt = height * 16 // 9, height, "yuv420p"
            sound = target.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(source.streams.video[0], source.streams.audio[0]):
                if packet.dts is None or packet.dts * packet.time_base > 3.6:
                    continue
                if packet.stream.type == "audio":
                    packet.stream = sound
                    target.mux(packet)
                    continue
                for frame in packet.decode():
                    assert isinstance(frame, av.VideoFrame)
                    target.mux(
                        pictures.encode(frame.reformat(pictures.width, pictures.height, interpolation="BICUBIC"))
                    )
            target.mux(pictures.encode())
    return {height: folder / f"{height}.mp4" for height in (720, 1080)}


# --- one clip at two sizes


ROWS = "".join(f"{n:08d} {n} {380 + n / 5:.1f} {53 + n / 20:.2f} {151 + n / 50:.2f} 201.0\n" for n in range(1, 81))


@pytest.mark.media
@pytest.mark.parametrize("rows", ["", ROWS], ids=["one_box", "a_box_a_frame"])
def test_annotated_at_720_lines_and_delivered_at_1080_gives_the_same_crop(tmp_path, copies, rows):
    found = {}
    for height, video in copies.items():
        _vfhq(tmp_path / str(height) / "in", video, rows)
        [found[height]] = _crops(build("vfhq", tmp_path / str(height) / "in", ANNOTATED))
    assert found[720].shape == found[1080].shape == (80, 4)
    assert np.abs(found[1080] / 1.5 - found[720]).max() < 0.01, "2 px are asked for"
    [x0, y0, x1, y1] = found[720][50]
    if rows:  # the crop hangs from the smoothed top of the box, which moves to the right and down
        assert np.ptp(found[720][:, 0]) == pytest.approx(79 / 5, rel=0.1)
        assert (y0, y1 - y0) == pytest.approx((53 + 51 / 20, 1.1 * 201), abs=0.2)
    else:  # a tenth wider on each side, and a tenth lower
        assert (x0, y0, x1, y1) == pytest.approx((364, 50, 556, 281), abs=0.01)


@pytest.mark.media
def test_other_boxes_are_another_clip_and_nothing_of_the_old_one_is_left(tmp_path, copies):
    root, short = tmp_path / "in", ("select.min_clip_s=1.5", ANNOTATED)
    for first, crop in ((0, "380 50 540 260"), (42, "380 50 540 260")):
        _vfhq(root, copies[720], first=first, last=first + 41, crop=crop)
    before = build("vfhq", root, *short)
    assert len(_crops(before)) == 2
    ids = before.clips(["clip_id"])["clip_id"].to_pylist()
    old = _crops(before)
    _vfhq(root, copies[720], first=42, last=83, crop="390 60 550 270")
    after = build("vfhq", root, *short)
    new = _crops(after)
    assert [np.median(b - a) for a, b in zip(old, new, strict=True)] == pytest.approx([0, 10])
    now = after.clips(["clip_id"])["clip_id"].to_pylist()
    assert (now[0], now[1] != ids[1], len(now)) == (ids[0], True, 2)


@pytest.mark.media
def test_without_a_box_the_reason_says_what_to_do(tmp_path, copies):
    root = tmp_path / "in"
    _vfhq(root, copies[720])
    (root / f"{OTHER}_C0.mp4").hardlink_to(copies[1080])  # cut already: how, no annotation says
    (root / f"Clip+{OTHER}+P0+C0+F0-81.txt").write_text("H: 720\nW: 1280\nFPS: 25\nCROP: 380 50 540 260\n")
    [full, cut] = build("vfhq", root, ANNOTATED).videos(["path", "outcome", "detail"]).to_pylist()
    assert (full["outcome"], cut["outcome"]) == ("ok", "annotation_missing")
    assert "no box that fits the file; faces.backend=annotated needs one" in cut["detail"]
    with pytest.raises(HsDataError, match="no clip was kept; the most frequent reason is annotation_missing"):
        build("folder", root, ANNOTATED, output="of_folder")


def test_a_span_without_a_box_is_left_out_only_where_boxes_are_needed():
    receipt = {"outcome": "ok", "video": pack(_video(1280, 720))}
    box = Box(corners=(0.1, 0.1, 0.5, 0.5), width=1, height=1)
    with_box, without = (pack_span(Span(name=n, where=f"{n}:1", box=b)) for n, b in (("a", box), ("b", None)))
    for spans, outcome, note in (
        ([], "annotation_missing", None),
        ([without], "annotation_missing", None),
        ([with_box, without], "ok", "1 of 2 annotated spans: annotation_missing (b:1: no box"),
    ):
        found = place_spans(receipt, spans, check_boxes=True, need_boxes=True)
        assert found["outcome"] == outcome
        told = found.get("detail") or found["note"]
        assert told.startswith(note or "")
        assert "faces.backend=annotated needs one" in told
        assert place_spans(receipt, spans, check_boxes=True)["outcome"] == "ok"


# --- boxes of single frames


def test_boxes_of_single_frames_are_interpolated_in_time_and_scaled():
    rate = Fraction(30000, 1001)
    times_s = [float((n + Fraction(1, 2)) / rate) for n in range(30)]
    table = np.array([(t, 100 + 60 * t, 50, 200 + 60 * t, 150) for t in times_s], "<f4")
    box = Box(corners=(0, 0, 300, 300), width=1280, height=720)
    span = {"start_s": "10", **pack_boxes(Span(name="a", where="a:1", box=box, boxes=table.tobytes()))}
    placed = place_boxes(span, _video(1920, 1080), 250, 275)
    assert placed is not None
    face = unpack_face({"start_frame": 250, "end_frame": 275, **placed})
    assert (face.boxes.shape, placed["box"]) == ((25, 4), [0, 0, 450, 450])
    middles_s = np.clip((np.arange(25) + 0.5) / 25, times_s[0], times_s[-1])
    assert np.abs(face.boxes[:, 0] - 1.5 * (100 + 60 * middles_s)).max() < 0.01
    assert np.allclose(face.boxes[:, 3], 225)
    assert place_boxes(span, _video(640, 480), 250, 275) is None


# --- tracks


def _follow(faces: list[AnnotatedFace], num_frames: int, cuts: tuple[int, ...] = ()) -> list[tuple[int, int]]:
    grown: dict[int, int] = {}

    def extended(track: Track, new: range) -> None:
        grown[track.number] = grown.get(track.number, 0) + len(new)

    linker = AnnotatedLinker(faces, extended)
    linker.start(10)
    for before in (*range(13, num_frames, 7), num_frames):
        linker.advance(before, {cut for cut in cuts if cut < before})
    linker.advance(num_frames, set(cuts), last=True)
    assert linker.position == num_frames
    assert [grown[track.number] for track in linker.tracks] == [len(track.boxes) for track in linker.tracks]
    return [(track.start_frame, track.end_frame) for track in linker.tracks]


def _face(start: int, end: int, left: float = 0) -> AnnotatedFace:
    box = np.array([left, 0, left + 100, 100], np.float32)
    return AnnotatedFace(start_frame=start, boxes=np.tile(box, (end - start, 1)))


def test_a_face_is_a_track_from_its_first_to_its_last_frame():
    assert _follow([_face(20, 40)], 60) == [(20, 40)]
    assert _follow([_face(0, 90)], 60) == [(10, 60)], "boxes outside the footage are not followed"


def test_a_cut_ends_a_track_and_begins_another():
    assert _follow([_face(20, 50)], 60, (35,)) == [(20, 35), (35, 50)]


def test_two_faces_are_two_tracks_and_one_annotated_twice_is_one():
    assert _follow([_face(20, 50), _face(22, 48, left=300)], 60) == [(20, 50), (22, 48)]
    assert _follow([_face(20, 40), _face(22, 48, left=5)], 60) == [(20, 40), (40, 48)]


# --- which face counts


def _clips(*rows: tuple[int, int, float]) -> pa.Table:
    """Return clips of start, length and left edge of a face of 100 px."""
    named = {"video_id": "v", "path": "v", "source": "s", "start_s": 0.0, "duration_s": 0.0}
    table = [
        {
            **named,
            "clip_id": str(number),
            "track": number,
            "start_frame": start,
            "num_frames": length,
            "face_centre": [left + 50.0, 50.0],
        }
        for number, (start, length, left) in enumerate(rows)
    ]
    fields = [SCORE_SCHEMA.field(name) for name in ("video_id", "track", "start_frame", "num_frames")]
    return pa.Table.from_pylist(table, schema=pa.schema([*fields, ("face_centre", pa.list_(pa.float32()))]))


def _annotation(start: int, end: int, left: float | None) -> dict:
    box = None if left is None else [left, 0.0, left + 100, 100.0]
    return {"start_frame": start, "end_frame": end, "box": box, "boxes": None}


@pytest.mark.parametrize(
    ("faces", "annotations", "expected"),
    [
        ([(0, 100, 0), (0, 100, 400)], [(0, 100, 30)], [(0, 1), (None, 0)]),
        ([(0, 100, 0), (0, 100, 400)], [(0, 100, 30), (0, 100, 390)], [(0, 2), (1, 2)]),
        ([(0, 100, 0), (200, 100, 400)], [(0, 300, 30)], [(0, 1), (0, 1)]),
        ([(0, 100, 0), (0, 100, 400)], [(0, 100, None)], []),
        ([(0, 100, 0), (0, 20, 400)], [(0, 100, 30)], [(0, 1), (None, 0)]),
        ([(0, 100, 0)], [(90, 200, 0)], []),
    ],
    ids=["nearest", "both", "one_after_the_other", "no_box", "seen_for_a_moment", "another_time"],
)
def test_the_face_nearest_to_the_box_is_the_one_that_is_meant(faces, annotations, expected):
    found = find_claims(_clips(*faces), {"v": [_annotation(*a) for a in annotations]})
    assert [(claim.annotation, claim.num_faces) for _, claim in sorted(found.items())] == expected


@pytest.mark.media
def test_of_two_people_the_annotated_one_is_kept(tmp_path, media, weights):
    root = tmp_path / "in"
    root.mkdir()
    (root / f"{ID}.mp4").write_bytes((media / TWO_FACES).read_bytes())
    left = {"left": 0.15, "right": 0.4, "top": 0.2, "bottom": 0.85}
    times = {"start_sec": 0, "end_sec": 4.8}
    (root / "celebvhq_info.json").write_text(
        str({f"{ID}_0": {"ytb_id": ID, "duration": times, "bbox": left}}).replace("'", '"')
    )
    dataset = build("celebvhq", root, f"models.dir={weights}")
    rows = dataset.clips(["verdict", "reason", "boxes", "num_faces", "annotation"]).to_pylist()
    assert {row["num_faces"] for row in rows} == {2}
    kept = [row for row in rows if row["boxes"][0] < 384]
    assert [(row["verdict"], row["annotation"]) for row in kept] == [("kept", f"{ID}_0")]
    assert [row["reason"] for row in rows if row["boxes"][0] > 384] == ["not_annotated"]
    found = annotated_faces([_annotation(0, 5, None), _annotation(0, 5, 1.0)])
    assert [face["box"] for face in found] == [[1.0, 0.0, 101.0, 100.0]]
