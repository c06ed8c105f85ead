"""Scenes: cuts to the frame, flashes told from cuts, and nothing said before it is sure."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from hs_data.pipeline.scenes import CutDetector, ScenesConfig

HEIGHT, WIDTH = 72, 128
WHITE = np.full((HEIGHT, WIDTH, 3), 250, np.uint8)


def _scene(seed: int) -> np.ndarray:
    """A picture of large coloured patches, unlike that of any other seed."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    return cv2.resize(patches, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def _footage(*scenes: tuple[int, int], noise: int = 4, pan: float = 0.3) -> list[np.ndarray]:
    """Scenes as (seed, length), each with a slow pan and the noise of a camera."""
    random, frames = np.random.default_rng(99), []
    for seed, length in scenes:
        picture = _scene(seed)
        for number in range(length):
            moved = np.roll(picture, round(pan * number), axis=1).astype(np.int16)
            frames.append(np.clip(moved + random.integers(-noise, noise + 1, moved.shape), 0, 255).astype(np.uint8))
    return frames


def _watch(frames: Sequence[np.ndarray], first: int = 0, **config) -> CutDetector:
    """Feed all frames, holding the detector to its word about what is settled."""
    detector = CutDetector(ScenesConfig(**config))
    promised, max_flash = first, detector._config.max_flash_frames
    for number, frame in enumerate(frames, first):
        known = len(detector.cuts)
        detector.add(number, frame)
        new = [cut.frame for cut in detector.cuts[known:]]
        assert all(cut >= promised for cut in new), f"{new} came after everything before {promised} was settled"
        assert promised <= detector.settled <= number + 1
        promised = detector.settled
        assert number + 1 - promised <= max_flash, "a verdict takes too long"
    known = len(detector.cuts)
    detector.finish()
    assert all(cut.frame >= promised for cut in detector.cuts[known:])
    assert detector.settled == first + len(frames)
    return detector


def _cuts(frames: Sequence[np.ndarray], **config) -> list[int]:
    return [cut.frame for cut in _watch(frames, **config).cuts]


@pytest.mark.parametrize("seed", range(3))
def test_fifty_cuts_at_random_places_are_found_to_the_frame(seed: int):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 25, 51)  # shots of one frame too
    edges = np.cumsum(lengths)[:-1].tolist()
    assert _cuts(_footage(*((100 * seed + n, int(length)) for n, length in enumerate(lengths)))) == edges


def test_every_cut_has_its_score_and_other_frames_have_low_ones():
    detector = _watch(_footage((1, 20), (2, 20)))
    [(frame, score)] = detector.cuts
    assert frame == 20
    assert score == detector.scores[20] > 40
    assert max(value for number, value in detector.scores.items() if number != 20) < 15
    assert sorted(detector.scores) == list(range(40))


def test_footage_that_only_moves_has_no_cut():
    assert _cuts(_footage((5, 100), pan=1, noise=10)) == []


def test_a_slow_fade_is_no_cut():
    left, right = _scene(1).astype(float), _scene(2).astype(float)
    frames = [((1 - part) * left + part * right).astype(np.uint8) for part in np.linspace(0, 1, 50)]
    assert _cuts(frames) == []


# --- flashes


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("start", [1, 2, 7, 20])
def test_a_flash_is_no_cut(length: int, start: int):
    frames = _footage((1, 40))
    frames[start : start + length] = [WHITE] * length
    assert _cuts(frames) == []


@pytest.mark.parametrize("length", [4, 5, 9])
def test_what_stays_longer_than_a_flash_is_two_cuts(length: int):
    frames = _footage((1, 40))
    frames[20 : 20 + length] = [WHITE] * length
    assert _cuts(frames) == [20, 20 + length]


def test_the_length_of_a_flash_is_a_setting():
    frames = _footage((1, 40))
    frames[20:22] = [WHITE] * 2
    assert _cuts(frames, max_flash_frames=1) == [20, 22]
    assert _cuts(frames, max_flash_frames=2) == []
    assert _cuts(frames, max_flash_frames=0) == [20, 22]


def test_a_flash_of_several_pictures_is_no_cut():
    frames = _footage((1, 40))
    frames[20:23] = [WHITE, 255 - WHITE, WHITE]
    assert _cuts(frames) == []


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("distance", [1, 2, 3, 4, 10])
def test_a_cut_after_a_flash_is_found(length: int, distance: int):
    """The flash ends, `distance` frames of the old shot follow, then the new one begins."""
    cut = 20 + length + distance
    frames = _footage((1, cut), (2, 30))
    frames[20 : 20 + length] = [WHITE] * length
    assert _cuts(frames) == [cut]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("distance", [1, 2, 3, 4, 10])
def test_a_flash_after_a_cut_is_no_other_cut(length: int, distance: int):
    frames = _footage((1, 20), (2, 40))
    frames[20 + distance : 20 + distance + length] = [WHITE] * length
    assert _cuts(frames) == [20]


def test_a_flash_that_hides_a_cut_is_a_shot_of_its_own():
    """Nothing returns to what was before, so both changes are real."""
    frames = _footage((1, 20), (2, 20))
    frames[20:22] = [WHITE] * 2
    assert _cuts(frames) == [20, 22]


def test_a_flash_at_the_very_end_stays_a_cut():
    frames = _footage((1, 20))
    frames[18:] = [WHITE] * 2
    assert _cuts(frames) == [18]


# --- others


def test_frames_need_not_begin_at_zero():
    detector = _watch(_footage((1, 20), (2, 20)), first=1000)
    assert [cut.frame for cut in detector.cuts] == [1020]


def test_the_largest_change_leaves_out_the_first_frame():
    detector = _watch(_footage((1, 20), (2, 20)))
    assert detector.max_score(20, 40) < 15
    assert detector.max_score(0, 20) < 15
    assert detector.max_score(10, 30) == detector.scores[20]
    assert detector.max_score(5, 6) == 0.0


@pytest.mark.parametrize("size", [(720, 1280), (100, 2000), (60, 40)], ids=str)
def test_pictures_of_any_size_are_compared(size: tuple[int, int]):
    frames = [cv2.resize(frame, size[::-1]) for frame in _footage((1, 6), (2, 6))]
    assert _cuts(frames) == [6]


@pytest.mark.parametrize("values", [{"threshold": 0}, {"max_flash_frames": -1}, {"guard_frames": -1}], ids=str)
def test_impossible_settings_are_refused(values: dict):
    with pytest.raises(ValueError, match=f"{next(iter(values))}: .* is out of range"):
        ScenesConfig(**values)
