"""Shots of a camera: a talker, a talker behind a card, two people, or a table without anybody."""

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from .face import Framing, Manner, person
from .photo import read_photo
from .speech import Speech


class DemoShot(Protocol):
    """Anything that can be filmed; the same time gives the same picture."""

    def draw(self, time_s: float) -> np.ndarray:
        """Return the picture at a time, [H, W, 3] uint8 RGB."""
        ...


class Talker:
    """One person who speaks, or keeps silent, to the camera."""

    def __init__(self, who: str, framing: Framing, speech: Speech, *, manner: int, duration_s: float) -> None:
        self._person = person(who)
        self._framing = framing
        self._speech = speech
        self._manner = Manner(manner, duration_s)

    def draw(self, time_s: float) -> np.ndarray:
        """Return the picture at a time, [H, W, 3] uint8 RGB."""
        opening = float(self._speech.opening(np.array([time_s]))[0])
        return self._person.draw(opening, self._manner.blink(time_s), self._manner.sway(time_s), self._framing)


class Hidden:
    """A shot in which a sheet of paper is held before the face: up in 0.3 s, and down again.

    Args:
        shot: what goes on behind.
        start_s: when the face is wholly hidden.
        end_s: when it begins to show again.
    """

    MOVE_S = 0.3

    def __init__(self, shot: DemoShot, start_s: float, end_s: float) -> None:
        self._shot, self._start_s, self._end_s = shot, start_s, end_s
        self._paper = _draw_paper(340, 420)

    def draw(self, time_s: float) -> np.ndarray:
        """Return the picture at a time, [H, W, 3] uint8 RGB."""
        picture = self._shot.draw(time_s)
        before_s, after_s = self._start_s - time_s, time_s - self._end_s
        away = float(np.clip(max(before_s, after_s) / self.MOVE_S, 0, 1))
        height, width = picture.shape[:2]
        paper_height, paper_width = self._paper.shape[:2]
        top = round(0.06 * height + away**1.5 * height)
        left = (width - paper_width) // 2 + round(4 * np.sin(2.1 * time_s))
        rows = min(paper_height, height - top)
        if rows > 0:
            picture[top : top + rows, left : left + paper_width] = self._paper[:rows]
        return picture


class SideBySide:
    """Two shots in one picture, as in a video call."""

    def __init__(self, left: DemoShot, right: DemoShot) -> None:
        self._shots = (left, right)

    def draw(self, time_s: float) -> np.ndarray:
        """Return the picture at a time, [H, W, 3] uint8 RGB."""
        return np.hstack([shot.draw(time_s) for shot in self._shots])


class Still:
    """A photograph without a face, over which the camera glides.

    Args:
        photo: file name in scikit-image's data.
        width: of the picture, px.
        height: of the picture, px.
    """

    def __init__(self, photo: str, width: int, height: int) -> None:
        self._photo = read_photo(photo)
        self._size = (width, height)

    def draw(self, time_s: float) -> np.ndarray:
        """Return the picture at a time, [H, W, 3] uint8 RGB."""
        height, width = self._photo.shape[:2]
        cover = max(self._size[0] / width, self._size[1] / height)
        zoom = cover * (1.12 + 0.02 * time_s)
        middle = np.array([width / 2 + 6 * np.sin(0.9 * time_s), height / 2 + 4 * np.cos(0.7 * time_s)])
        shift = np.array(self._size) / 2 - zoom * middle
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        return cv2.warpAffine(self._photo, matrix, self._size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


class Edit:
    """Shots one after the other, with hard cuts.

    Args:
        shots: what is shown.
        cuts_s: when the second and every later one begins.
    """

    def __init__(self, shots: Sequence[DemoShot], cuts_s: Sequence[float]) -> None:
        self._shots, self._cuts_s = shots, cuts_s

    def draw(self, time_s: float) -> np.ndarray:
        """Return the picture at a time, [H, W, 3] uint8 RGB."""
        return self._shots[int(np.searchsorted(self._cuts_s, time_s, side="right"))].draw(time_s)


def _draw_paper(width: int, height: int) -> np.ndarray:
    """Return a typed page, [height, width, 3] uint8: grey bars for words, with a shadow at its edge."""
    rng = np.random.default_rng(3)
    page = np.full((height, width, 3), (236, 233, 224), np.uint8)
    for top in range(36, height - 30, 22):
        right = 28
        while right < width - 60:
            length = int(rng.integers(14, 58))
            cv2.rectangle(page, (right, top), (min(right + length, width - 28), top + 6), (128, 126, 122), -1)
            right += length + 10
    cv2.rectangle(page, (0, 0), (width - 1, height - 1), (176, 172, 164), 2)
    return page
