"""Latents: the block-DCT codec is a least-squares projection, and what is stored of crops is what was asked for."""

import itertools
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from hs_data.manifests.schema import FRAME_COLUMNS
from hs_data.pipeline import latents
from hs_data.pipeline.latents import MAX_ABS, CropEncoder, LatentsConfig, hide_mouth, is_checked, jpeg, psnr_db
from hs_data.pipeline.models.block_dct import BlockDct
from hs_data.pipeline.models.registry import ModelsConfig
from hs_data.pipeline.networks import make_codec

CODEC = BlockDct()


def _encode(frames: np.ndarray) -> np.ndarray:
    return CODEC.encode(frames).mean


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    picture = data.astronaut()
    assert picture.shape == (512, 512, 3)
    return picture


def _grey(astronaut: np.ndarray) -> np.ndarray:
    """Grey of half the contrast, so that no decoded pixel is clipped."""
    luma = (64 + astronaut.mean(axis=2) / 2).round().astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def test_shapes_and_kinds_are_those_of_the_contract():
    codec = make_codec(LatentsConfig(), ModelsConfig())
    frames = np.random.default_rng(0).integers(0, 256, (3, 512, 512, 3), dtype=np.uint8)
    latents = codec.encode(frames).mean
    decoded = codec.decode(latents)
    assert (latents.shape, latents.dtype) == ((3, 4, 64, 64), np.float16)
    assert (decoded.shape, decoded.dtype) == ((3, 512, 512, 3), np.uint8)
    column, contract = FRAME_COLUMNS["latent"], codec.contract
    assert (contract["channels"], contract["size"], contract["size"]) == column.shape
    assert np.dtype(contract["dtype"]) == np.dtype(column.dtype)
    assert (contract["id"], contract["scaling"], contract["pixels"]) == ("hs-data/block-dct", 0.25, 512)


def test_frames_are_encoded_one_by_one(astronaut: np.ndarray):
    pair = np.stack([astronaut, astronaut[::-1]])
    np.testing.assert_array_equal(_encode(pair)[1], _encode(pair[1:])[0])
    latents = _encode(pair)
    np.testing.assert_array_equal(CODEC.decode(latents)[1], CODEC.decode(latents[1:])[0])


def test_a_photograph_stays_recognisable(astronaut: np.ndarray):
    decoded = CODEC.decode(_encode(astronaut[None]))[0]
    assert psnr_db(astronaut, decoded) >= 23.0
    mean_only = astronaut.reshape(64, 8, 64, 8, 3).mean(axis=(1, 3)).repeat(8, 0).repeat(8, 1).round().astype(np.uint8)
    assert psnr_db(astronaut, decoded) > psnr_db(astronaut, mean_only) + 1.5, "no better than a mosaic"


@pytest.mark.parametrize("colour", list(itertools.product((0, 128, 255), repeat=3)), ids=str)
def test_a_plain_colour_comes_back(colour: tuple[int, int, int]):
    frame = np.broadcast_to(np.array(colour, np.uint8), (1, 512, 512, 3))
    decoded = CODEC.decode(_encode(frame)).astype(int)
    assert np.abs(decoded - colour).max() <= 2


def test_grey_ramps_along_one_cosine_come_back():
    wave = np.cos((2 * np.arange(8) + 1) * np.pi / 16)
    for horizontal in (True, False):
        cell = np.broadcast_to(wave if horizontal else wave[:, None], (8, 8))
        frame = np.repeat((128 + 60 * np.tile(cell, (64, 64)))[..., None], 3, axis=2).round().astype(np.uint8)
        latents = _encode(frame[None])[0]
        assert psnr_db(frame, CODEC.decode(latents[None])[0]) > 45
        own, other = (1, 2) if horizontal else (2, 1)
        # Orthonormal: the coefficient's square is the energy of the cell, in pixels of [-1, 1].
        expected = 0.25 * np.sqrt(64 * np.mean((60 / 127.5 * cell) ** 2))
        assert latents[own] == pytest.approx(np.full((64, 64), expected), abs=5e-3)
        assert np.abs(latents[other]).max() < 5e-3


def test_decoding_and_encoding_is_the_identity():
    random = np.random.default_rng(1)
    latents = random.uniform(-0.4, 0.4, (2, 4, 64, 64))
    latents[:, 0] = random.uniform(-0.5, 0.5, (2, 64, 64))  # bright and dark, but no pixel clips
    stored = latents.astype(np.float16)
    again = _encode(CODEC.decode(stored))
    # fp16 at 0.5 is 2.4e-4; rounding pixels to whole levels adds 0.29 / 127.5 * 0.25 = 5.7e-4 (1 sigma).
    assert np.abs(again.astype(np.float32) - stored.astype(np.float32)).max() < 4e-3


def test_decoding_gives_the_least_squares_picture(astronaut: np.ndarray):
    """What is left over has nothing in common with the pictures that the codec can make."""
    frame = _grey(astronaut)
    left = frame.astype(float) - CODEC.decode(_encode(frame[None]))[0]
    cells = left[..., 0].reshape(64, 8, 64, 8)
    wave = np.cos((2 * np.arange(8) + 1) * np.pi / 16)
    for down, across in ((np.ones(8), np.ones(8)), (np.ones(8), wave), (wave, np.ones(8))):
        shared = np.einsum("rycx,y,x->rc", cells, down, across) / (np.linalg.norm(down) * np.linalg.norm(across))
        # In orthonormal units half a grey level over all 64 pixels is 4: what rounding can do at most, in flat cells.
        assert np.abs(shared).mean() < 0.5
        assert np.abs(shared).max() < 4.3


def test_colour_is_shared_by_a_pair_of_cells():
    frame = np.full((1, 512, 512, 3), 128, np.uint8)
    frame[0, 0:8, 0:16] = (180, 100, 100)
    latents = _encode(frame)[0].astype(float)
    red, green, blue = ((np.array([180, 100, 100]) - 127.5) / 127.5).tolist()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert latents[3, 0, :2] == pytest.approx([2 * 0.564 * (blue - luma), 2 * 0.713 * (red - luma)], abs=3e-3)
    assert np.abs(latents[3, 0, 2:]).max() < 3e-3
    assert np.abs(latents[3, 1:]).max() < 3e-3
    decoded = CODEC.decode(latents[None])[0].astype(int)
    assert np.abs(decoded[0:8, 0:16] - (180, 100, 100)).max() <= 2


def test_the_shared_colour_is_the_mean_of_the_pair():
    left, right = np.array([200, 100, 100]), np.array([100, 100, 180])
    frame = np.full((1, 512, 512, 3), 128, np.uint8)
    frame[0, :8, :8], frame[0, :8, 8:16] = left, right
    latents = _encode(frame)[0].astype(float)
    red, _, blue = (((left + right) / 2 - 127.5) / 127.5).tolist()
    luma = float((((left + right) / 2 - 127.5) / 127.5) @ (0.299, 0.587, 0.114))
    assert latents[3, 0, :2] == pytest.approx([2 * 0.564 * (blue - luma), 2 * 0.713 * (red - luma)], abs=3e-3)
    lumas = [float(((colour - 127.5) / 127.5) @ (0.299, 0.587, 0.114)) for colour in (left, right)]
    assert latents[0, 0, :2] == pytest.approx([2 * level for level in lumas], abs=3e-3), "light is not shared"


def test_faces_have_latents_of_about_unit_size(astronaut: np.ndarray):
    latents = _encode(astronaut[None]).astype(float)
    assert 0.5 < latents[0, 0].std() < 2.0
    assert np.abs(latents).max() < MAX_ABS


def test_extreme_frames_stay_far_within_range():
    black, white = _encode(np.array([0, 255], np.uint8)[:, None, None, None].repeat(512, 1).repeat(512, 2).repeat(3, 3))
    assert black[0] == pytest.approx(np.full((64, 64), -2.0), abs=2e-3)
    assert white[0] == pytest.approx(np.full((64, 64), 2.0), abs=2e-3)
    noise = np.random.default_rng(0).choice([0, 255], (1, 512, 512, 3)).astype(np.uint8)
    assert np.isfinite(_encode(noise)).all()


def test_latents_beyond_any_picture_decode_to_black_or_white_and_do_not_wrap():
    latents = np.zeros((2, 4, 64, 64), np.float16)
    latents[0, 0], latents[1, 0] = 30, -30
    bright, dark = CODEC.decode(latents)
    assert bright.min() == 255
    assert dark.max() == 0


def test_psnr_is_measured_against_full_scale():
    left = np.zeros((8, 8, 3), np.uint8)
    assert psnr_db(left, left) == float("inf")
    assert psnr_db(left, left + np.uint8(255)) == 0.0
    assert psnr_db(left, left + np.uint8(1)) == pytest.approx(48.13, abs=0.01)
    assert psnr_db(left + np.uint8(10), left) == pytest.approx(28.13, abs=0.01)


# --- what is stored of crops


def _crops(astronaut: np.ndarray) -> np.ndarray:
    return np.stack([astronaut, astronaut[::-1], astronaut[:, ::-1]])


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["latent"]),
        ({"masked": True}, ["latent", "latent_masked"]),
        ({"jpeg_quality": 95, "masked": True}, ["latent", "latent_masked", "frame_jpeg"]),
    ],
    ids=["nothing", "masked", "both"],
)
def test_crops_become_the_columns_that_were_asked_for(astronaut: np.ndarray, asked: dict[str, Any], names: list[str]):
    config = LatentsConfig(**asked)
    arrays = CropEncoder(config, BlockDct()).encode(_crops(astronaut))
    assert list(arrays) == list(config.columns) == names
    for name, array in arrays.items():
        column = FRAME_COLUMNS[name]
        assert (array.dtype, array.shape) == (np.dtype(column.dtype), (3, *column.shape)), name


def test_settings_that_make_no_sense_are_refused():
    for backend in ("block_dct", "taesd"):
        with pytest.raises(ValueError, match=f"backend={backend} has no variance"):
            LatentsConfig(backend=backend, logvar=True)
    for wrong in ({"jpeg_quality": 101}, {"batch": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: .* is out of range"):
            LatentsConfig(**wrong)


def test_the_settings_name_their_weights_and_their_size():
    assert LatentsConfig().model_names == []
    assert LatentsConfig(backend="sd_vae").model_names == ["sd-vae-ft-mse"]
    assert LatentsConfig(backend="taesd").model_names == ["taesd"]
    assert LatentsConfig().frame_bytes == 32_768
    assert LatentsConfig(backend="sd_vae", logvar=True, masked=True).frame_bytes == 3 * 32_768
    assert LatentsConfig(jpeg_quality=95).frame_bytes == 32_768 + 60_000


def test_the_hidden_mouth_is_mid_grey_and_nothing_else_changes(astronaut: np.ndarray):
    """HighSync's mask on the 64 grid: rows 28-59, columns 5-58."""
    crops = _crops(astronaut)
    mask = np.zeros((64, 64), bool)
    mask[28:60, 5:59] = True
    pixels = mask.repeat(8, 0).repeat(8, 1)
    hidden = hide_mouth(crops)
    assert (hidden[:, pixels] == 127.5).all()
    np.testing.assert_array_equal(hidden[:, ~pixels], crops[:, ~pixels])
    np.testing.assert_array_equal(crops, _crops(astronaut), err_msg="the crops themselves stay")


def test_masked_latents_are_those_of_the_hidden_crop(astronaut: np.ndarray):
    arrays = CropEncoder(LatentsConfig(masked=True), BlockDct()).encode(_crops(astronaut))
    masked = arrays["latent_masked"].astype(np.float32)
    # Mid grey is 0 in [-1, 1], and so in every channel; a block transform has no neighbours.
    assert np.abs(masked[:, :3, 28:60, 5:59]).max() < 1e-6
    np.testing.assert_array_equal(masked[:, :3, :28], arrays["latent"][:, :3, :28])
    np.testing.assert_array_equal(masked[:, :3, :, :5], arrays["latent"][:, :3, :, :5])


def test_the_contract_names_the_mask_only_where_one_is_used():
    contract = CropEncoder(LatentsConfig(), BlockDct()).contract
    assert contract["mask"] is None
    mask = CropEncoder(LatentsConfig(masked=True), BlockDct()).contract["mask"]
    assert mask == {"id": "highsync-64", "rows": [224, 480], "columns": [40, 472], "grey_level": 127.5}


def _picture(data: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture[..., ::-1]


def test_jpeg_crops_decode_to_the_crop(astronaut: np.ndarray):
    sizes = []
    for quality, least_db in ((80, 32.0), (95, 38.0)):
        data = jpeg(astronaut, quality)
        decoded = _picture(data)
        assert psnr_db(astronaut, decoded) > least_db
        sizes.append(len(data))
    assert 20_000 < sizes[0] < sizes[1] < 150_000
    # Colours in full resolution: chroma of single pixels is not smeared over its neighbours.
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    assert psnr_db(stripes, _picture(jpeg(stripes, 95))) > 30


def test_the_round_trip_is_measured_over_the_frame_and_the_mouth(astronaut: np.ndarray):
    encoder, crops = CropEncoder(LatentsConfig(), BlockDct()), _crops(astronaut)
    latents = encoder.encode(crops)["latent"]
    decoded = CODEC.decode(latents)
    error = (crops.astype(float) - decoded) ** 2
    found = encoder.round_trip(crops, latents)
    assert found is not None
    assert found["psnr_db"] == pytest.approx(10 * np.log10(255**2 / error.mean()), abs=1e-3)
    mouth = error[:, 224:480, 40:472].mean()
    assert found["psnr_mouth_db"] == pytest.approx(10 * np.log10(255**2 / mouth), abs=1e-3)
    assert abs(found["psnr_db"] - found["psnr_mouth_db"]) > 0.1


def test_a_round_trip_without_error_is_a_number_and_one_of_broken_latents_is_none():
    encoder, black = CropEncoder(LatentsConfig(), BlockDct()), np.zeros((2, 512, 512, 3), np.uint8)
    latents = encoder.encode(black)["latent"]
    assert encoder.round_trip(black, latents) == {"psnr_db": 100.0, "psnr_mouth_db": 100.0}
    for bad in (np.nan, np.inf):
        latents[1, 2, 3, 4] = bad
        assert encoder.round_trip(black, latents) is None


def test_one_clip_in_so_many_is_checked_always_the_same_ones(monkeypatch: pytest.MonkeyPatch):
    names = [f"clip-{number}" for number in range(20_000)]
    chosen = [name for name in names if is_checked(name)]
    assert 70 <= len(chosen) <= 130  # 100 expected; binomial, 3 sigma
    assert chosen == [name for name in names if is_checked(name)]
    monkeypatch.setattr(latents, "CHECK_EVERY", 1)
    assert all(is_checked(name) for name in names[:100])
